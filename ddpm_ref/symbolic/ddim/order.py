r"""How fast the deterministic sampler converges: on normal data it is a product of cosines, and the levels decide."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ancestral.normal_data import normal_data
from ddpm_ref.symbolic.ddim.normal_data import ddim_deterministic_step
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.symbols import alpha_bar_s, alpha_bar_t, beta_bar_s, data_variance, equation, letter

total = letter("total_angle", r"\Theta", positive=True)
size = letter("step_angle", "h", positive=True)
number = letter("number_of_steps", "K", integer=True, positive=True)
place = letter("i", "i", integer=True, positive=True)
turn, other = letter("turn", r"\delta", positive=True), letter("other_turn", r"\delta'", positive=True)
low, gap = letter("root_below", "p", nonnegative=True), letter("root_gap", "d", nonnegative=True)


@derives(
    r"\prod_{i=1}^K\cos\delta_i,\ \sum_i\delta_i = \Theta:\quad 1 - \cos\left(\tfrac\Theta K\right)^K = \frac{\Theta^2}{2K} +"
    r" O(K^{-2}),\quad 1 - \prod_{i=1}^K\cos\left(\tfrac\Theta{\sqrt K}(\sqrt i - \sqrt{i-1})\right)"
    r" = \frac{\Theta^2\log K}{8K} + O(K^{-1})",
    source="song2020ddim, section 4.1, for normal data",
)
def ddim_order_of_convergence(proof: Proof) -> None:
    r"""The final deviation of the deterministic sampler on normal data, in units of the right one, is a product of cosines of
    the angles between the levels it visits. Levels at equal angles lose $\Theta^2/(2K)$ in $K$ steps, which is order 1 and the
    best that $K$ steps can do. Levels at equal distances in $t$ are far apart in angle near the data, where $\theta$ grows
    like $\sqrt t$: there the error is of the order $h\log(1/h)$, $h = 1/K$, and no better.
    """
    normal_data(proof)
    relative = ddim_deterministic_step().results["relative"]
    proof.say(
        r"By `ddim_deterministic_step` a step multiplies the relative deviation by $\cos\delta$, $\delta = \theta_t - \theta_s$;"
        r" the angles add up to $\Theta = \theta_T$, below $\pi/2$.",
        equation(r"\cos(\theta_t - \theta_s)", relative.subs(data_variance, 1)),
    )
    at_0 = {alpha_bar_s: 1, beta_bar_s: 0}
    proof.equal(
        "One step from $t$ to 0 loses what the cosine of the whole angle loses,",
        relative.subs(data_variance, 1).subs(at_0),
        sp.sqrt(alpha_bar_t),
        shown=r"K = 1,\ \tau^2 = 1:\quad \cos\Theta = \sqrt{\bar\alpha_T}",
    )
    logarithm = -sp.log(sp.cos(turn))
    proof.equal(
        "The logarithm of a cosine bends downwards everywhere:", sp.diff(logarithm, turn, 2), 1 / sp.cos(turn) ** 2
    )
    proof.equal(
        r"so that two unequal steps lose more than two equal ones; directly, for $\delta \pm \delta'$ against twice $\delta$,",
        sp.cos(turn) ** 2 - sp.expand_trig(sp.cos(turn + other) * sp.cos(turn - other)),
        sp.sin(other) ** 2,
        shown=r"\cos^2\delta - \cos(\delta + \delta')\cos(\delta - \delta') = \sin^2\delta'",
    )
    proof.say(
        r"and among all trajectories of $K$ steps the one with equal angles is the best. For it, with $h = \Theta/K$:"
    )
    series = sp.series(logarithm, turn, 0, 6).removeO()
    proof.equal("to fourth order a step costs, in the logarithm,", series, turn**2 / 2 + turn**4 / 12)
    proof.equal(
        r"and all of them",
        (total / size * series.subs(turn, size)).subs(size, total / number),
        total**2 / (2 * number) + total**4 / (12 * number**3),
    )
    lost = sp.limit((1 - sp.cos(size) ** (total / size)) / size, size, 0, "+")
    proof.equal(
        r"The loss over the step tends to a number that is not 0: order 1, exactly.",
        lost,
        total / 2,
        shown=r"\lim_{h\to0}\frac{1 - \cos(h)^{\Theta/h}}{h} = \frac\Theta2",
    )

    proof.say(
        r"Levels at equal distances: near the data $\bar\beta_t$ grows in proportion to $t$, and $\theta$ like its root. Only"
        r" that matters for the leading term; take $\theta^2$ in proportion to $t$ all the way, $\theta_i = \Theta\sqrt{i/K}$."
    )
    root_i, root_before = sp.sqrt(place), sp.sqrt(place - 1)
    proof.equal(
        "The $i$-th step then turns by $\\Theta/\\sqrt K$ times",
        root_i - root_before,
        1 / (root_i + root_before),
    )
    upper, between = 2 * (low + gap), 2 * low + gap
    proof.holds(
        r"With $p = \sqrt{i-1}$ and $p + d = \sqrt i$ the sum of the two roots lies between $2p$ and $2(p+d)$:",
        [sp.expand(upper**2 - between**2) >= 0, sp.expand(between**2 - (2 * low) ** 2) >= 0],
        shown=r"\frac1{4i} \le (\sqrt i - \sqrt{i-1})^2 \le \frac1{4(i-1)}\quad (i \ge 2)",
    )
    squares_low = sp.Sum(1 / (4 * place), (place, 1, number)).doit()
    squares_high = 1 + sp.Sum(1 / (4 * place), (place, 1, number - 1)).doit()
    proof.equal("so that the squares add up to at least", squares_low, sp.harmonic(number) / 4)
    proof.equal("and at most, the first being 1,", squares_high, 1 + sp.harmonic(number - 1) / 4)
    proof.equal(
        "Both grow like a quarter of the logarithm of $K$:",
        sp.limit(sp.harmonic(number) / sp.log(number), number, sp.oo),
        sp.S.One,
        shown=r"\lim_{K\to\infty}\frac{H_K}{\log K} = 1",
    )
    quartic = total**4 / number**2 * (1 + sp.Sum(1 / (4 * place) ** 2, (place, 1, sp.oo)).doit())
    proof.equal(
        r"The fourth powers add up to at most $\Theta^4/K^2$ times a number, and do not matter:",
        quartic,
        total**4 / number**2 * (1 + sp.pi**2 / 96),
        shown=r"\sum_i\delta_i^4 \le \frac{\Theta^4}{K^2}\left(1 + \frac{\pi^2}{96}\right)",
    )
    proof.say(
        r"Hence the loss in the logarithm is $\Theta^2/(2K)$ times a number that grows like $\tfrac14\log K$:",
        r"\frac{\Theta^2}{8K}\log K + O(K^{-1}) = O\left(h\log\tfrac1h\right)",
    )
    proof.conclude(
        equal_angles=sp.cos(total / number) ** number,
        leading=total**2 / (2 * number),
        half_squares_at_least=total**2 / (8 * number) * sp.harmonic(number),
        half_squares_at_most=total**2 / (2 * number) * (1 + sp.harmonic(number - 1) / 4),
    )
