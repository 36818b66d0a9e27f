r"""Training as an estimate: of the loss, of its gradient, and of a mean over levels that are drawn in some way or other."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import density
from ddpm_ref.symbolic.objectives.optimality import V_T, best_normal_eps, over_data_and_noise
from ddpm_ref.symbolic.prediction import MIXTURE, NOISE
from ddpm_ref.symbolic.symbols import (
    T,
    beta_bar_t,
    eps,
    equation,
    gain,
    letter,
    xt,
)  # fmt: skip

i = letter("i", "i", integer=True, positive=True)
j = letter("j", "j", integer=True, nonnegative=True)
n = letter("n", "n", integer=True, nonnegative=True)
level = letter("level", "k", integer=True, positive=True)
batch = letter("batch", "B", integer=True, positive=True)
rate = letter("learning_rate", r"\kappa", positive=True)
start_gain = letter("start_gain", "g^{(0)}", real=True)
losses = sp.IndexedBase(letter("losses", "L", real=True))
squares = sp.IndexedBase(letter("second_moments", "m", positive=True))
probabilities = sp.IndexedBase(letter("probabilities", "p", positive=True))
probability = letter("probability", "p_t", positive=True)
uniform_share = letter("uniform_share", r"\lambda", positive=True)
uniform = letter("uniform", "u", nonnegative=True)
parameter = letter("parameter", r"\theta", real=True)

_CLEAN = "at t = 0 there is no noise to predict; levels are drawn from 1 to T"


@derives(
    r"\theta \leftarrow \theta - \kappa\,\nabla_\theta\left\lVert\varepsilon - \epsilon_\theta\left(\sqrt{\bar\alpha_t}\,x_0"
    r" + \sqrt{\bar\beta_t}\,\varepsilon,\ t\right)\right\rVert^2,\quad"
    r" \mathbb E[\nabla_\theta(\dots)] = \nabla_\theta L_{\mathrm{simple}}",
    source="ho2020, algorithm 1",
)
def training_algorithm(proof: Proof) -> None:
    r"""One draw of data, level and noise gives a gradient that is right on average: differentiation and integration may change
    places. For a linear network on normal data everything is integrated, and the mean of the iterates is followed by induction
    to the gain of the best prediction.
    """
    proof.assume(r"Data, a level uniform on $1, \dots, T$, and one noise are drawn independently for every example.")
    f, u = sp.Function("f"), letter("u", "u", real=True)
    loss = sp.Integral((u - f(u, parameter)) ** 2 * density(u, 0, 1), (u, -sp.oo, sp.oo))
    inside = sp.Integral(sp.diff((u - f(u, parameter)) ** 2 * density(u, 0, 1), parameter), (u, -sp.oo, sp.oo))
    proof.equal(
        "For a network smooth in its parameters the derivative of the mean over the noise is the mean of the derivatives,",
        sp.diff(loss, parameter),
        inside,
        shown=r"\frac{d}{d\theta}\int(\varepsilon - \epsilon_\theta)^2\,\mathcal N(\varepsilon; 0, 1)\,d\varepsilon"
        r" = \int\frac{d}{d\theta}(\varepsilon - \epsilon_\theta)^2\,\mathcal N(\varepsilon; 0, 1)\,d\varepsilon",
    )
    of_level = sp.Function("L")
    mean = sp.Sum(of_level(level, parameter) / T, (level, 1, T))
    proof.equal(
        "as is that of the mean over levels, and over data, which are sums.",
        sp.diff(mean, parameter),
        sp.Sum(sp.diff(of_level(level, parameter) / T, parameter), (level, 1, T)),
        shown=r"\frac{d}{d\theta}\sum_t\frac1TL_t = \sum_t\frac1T\cdot\frac{dL_t}{d\theta}",
    )
    proof.say(
        r"Now a linear network $\hat\varepsilon = gx_t$ at one level, for $x_0 \sim \mathcal N(0, \tau^2)$, with $V_t ="
        r" \bar\alpha_t\tau^2 + \bar\beta_t$."
    )
    of_draw = (eps - gain * MIXTURE) ** 2
    gradient = over_data_and_noise(sp.diff(of_draw, gain))
    proof.equal(
        "The gradient of one draw has the mean",
        gradient,
        sp.diff(over_data_and_noise(of_draw), gain),
        shown=equation(r"\mathbb E\left[\frac{d}{dg}(\varepsilon - gx_t)^2\right] = L'(g)", 2 * (gain * V_T - NOISE)),
    )
    mean_step = gain - rate * gradient
    (fixed,) = sp.solve(sp.Eq(mean_step, gain), gain)
    fitted = proof.equal("A step down it stays where it is, on average, at", fixed, NOISE / V_T)
    proof.equal(
        r"the gain of $\mathbb E[\varepsilon\mid x_t]$,",
        best_normal_eps(),
        fitted * xt,
        equation(r"\mathbb E[\varepsilon\mid x_t]", fitted * xt),
    )
    factor = proof.equal(
        "and elsewhere multiplies the distance from there by",
        (mean_step - fitted) / (gain - fitted),
        1 - 2 * rate * V_T,
    )
    shrinks = letter("shrinking", r"q", real=True)
    after = fixed + shrinks**n * (start_gain - fixed)
    proof.equal(
        r"After $n$ steps, with $q = 1 - 2\kappa V_t$: no step,", after.subs(n, 0), start_gain, shown=r"g^{(0)}"
    )
    proof.equal(
        "and one more.",
        fixed + shrinks * (after - fixed),
        after.subs(n, n + 1),
        shown=r"g^{(n+1)} - g^* = q\,(g^{(n)} - g^*) = q^{n+1}(g^{(0)} - g^*)",
    )
    excess = letter("excess", "r", positive=True)
    slow = factor.subs(rate, 1 / ((1 + excess) * V_T))
    proof.equal(
        r"For any rate below $1/V_t$, say $\kappa = 1/((1 + r)V_t)$ with $r > 0$, the square of $q$ lies below 1 by",
        1 - slow**2,
        4 * excess / (1 + excess) ** 2,
    )
    proof.holds(
        "which is positive, so that the mean tends to the fitted gain;",
        4 * excess / (1 + excess) ** 2 > 0,
        shown=r"q^2 < 1",
    )
    proof.equal("with half of that rate one step is enough.", slow.subs(excess, 1), sp.S.Zero, shown="q = 0")
    one, both = letter("variance_of_one", r"\mathrm{Var}", positive=True), sp.Sum(1, (i, 1, batch)).doit()
    proof.equal(
        r"A batch of $B$ independent examples has the same mean, and its gradient the variance",
        both * one / batch**2,
        one / batch,
    )
    proof.only_where(beta_bar_t, _CLEAN)
    proof.conclude(gain=fitted, factor=factor, after=after.subs(shrinks, factor).subs(fixed, fitted))


@derives(
    r"P(t) = \frac1T,\ t = 1, \dots, T;\qquad \mathbb E_{t\sim p}\left[\frac{L_t}{Tp_t}\right] = \frac1T\sum_tL_t,\quad"
    r" p_t \propto \sqrt{\mathbb E[L_t^2]}\ \text{is best}",
    source="ho2020, algorithm 1; nichol2021, section 3.3; kingma2021",
)
def timestep_sampling(proof: Proof) -> None:
    r"""Three ways to draw levels, all of them right on average: each alike; some more often, with weights that make up for it; and
    evenly spread from one random number. That weights may be anything as long as they make up for the probabilities is one line;
    which probabilities are best is a square that is completed.
    """
    proof.assume(r"Levels are the whole numbers $1, \dots, T$; level 0 is clean data and is never drawn.")
    proof.equal(
        r"$t = 1 + \lfloor Tu\rfloor$ with $u$ uniform on $[0, 1)$ is $k$ for $(k - 1)/T \le u < k/T$, an interval of length",
        level / T - (level - 1) / T,
        1 / T,
    )
    proof.equal(
        "which all together are everything:", sp.Sum(1 / T, (level, 1, T)), sp.S.One, shown=r"\sum_{k=1}^T\frac1T = 1"
    )
    p = probabilities[i]
    proof.equal(
        r"Levels drawn with probabilities $p_t > 0$ and weighed with $1/(Tp_t)$:",
        sp.Sum(p * losses[i] / (T * p), (i, 1, T)),
        sp.Sum(losses[i], (i, 1, T)) / T,
        shown=r"\sum_tp_t\cdot\frac1{Tp_t}L_t = \frac1T\sum_tL_t",
    )
    total = letter("sum_of_roots", "S", positive=True)
    roots = sp.Sum(sp.sqrt(squares[i]), (i, 1, T))
    cost = sp.Sum(squares[i] / p, (i, 1, T))
    square = sp.Sum(sp.expand(p * (sp.sqrt(squares[i]) / p - total) ** 2), (i, 1, T))
    ones = sp.Sum(p, (i, 1, T))
    taken_apart = cost - 2 * total * roots + total**2 * ones
    proof.equal(
        r"The second moment of what is averaged is $\tfrac1{T^2}\sum_tm_t/p_t$ with $m_t = \mathbb E[L_t^2]$. Let $S ="
        r" \sum_t\sqrt{m_t}$. The following is not negative,",
        square,
        taken_apart,
        shown=r"\sum_tp_t\left(\frac{\sqrt{m_t}}{p_t} - S\right)^2 = \sum_t\frac{m_t}{p_t} - 2S\sum_t\sqrt{m_t} + S^2\sum_tp_t",
    )
    proof.equal(
        r"and with $\sum_tp_t = 1$ it is what the second moment exceeds $S^2$ by: it is least for $p_t = \sqrt{m_t}/S$.",
        taken_apart.subs({roots: total, ones: 1}),
        cost - total**2,
        shown=r"\sum_t\frac{m_t}{p_t} = S^2 + \sum_tp_t\left(\frac{\sqrt{m_t}}{p_t} - S\right)^2",
    )
    mixed = (1 - uniform_share) * probability + uniform_share / T
    proof.equal(
        r"A share $\lambda$ of uniform draws keeps the sum,",
        sp.Sum((1 - uniform_share) * p + uniform_share / T, (i, 1, T)).subs(ones, 1),
        (1 - uniform_share) * ones + uniform_share,
        shown=r"\sum_t\left((1 - \lambda)p_t + \frac\lambda T\right) = 1",
    )
    proof.equal(
        r"and bounds the weights: the largest is that of a level with $p_t = 0$,",
        1 / (T * mixed.subs(probability, 0)),
        1 / uniform_share,
    )
    _stratified(proof)
    # 1 - sign(x) is positive where x <= 0: a share of 1, all uniform, belongs to the domain.
    proof.only_where(1 - sp.sign(uniform_share - 1), "the uniform share lies between 0 and 1")
    proof.only_where(
        probability + uniform_share, "a level that is never drawn cannot be weighed; give a uniform share > 0"
    )
    proof.conclude(uniform=1 / T, weight=1 / (T * probability), mixed=mixed, mixed_weight=1 / (T * mixed))


def _stratified(proof: Proof) -> None:
    """One random number for a batch: every draw alone is uniform, and together they are spread evenly."""
    primitive, shift = sp.Function("F"), letter("shift", "c", nonnegative=True)
    proof.say(
        r"One $u$ for $n$ levels, $t_i = 1 + \lfloor T\,\mathrm{frac}(u + i/n)\rfloor$. For a shift $0 \le c < 1$ the"
        r" fractional part of $u + c$ is $u + c$ up to $u = 1 - c$ and $u + c - 1$ from there on; with $F' = f$ the mean of any"
        r" $f$ is"
    )
    proof.equal(
        "that over the uniform number itself, so that each level alone has the law it should have.",
        (primitive(1 - shift + shift) - primitive(shift))
        + (primitive(1 + shift - 1) - primitive(1 - shift + shift - 1)),
        primitive(1) - primitive(0),
        shown=r"\int_0^{1-c}f(u + c)\,du + \int_{1-c}^1f(u + c - 1)\,du = \int_0^1f(u)\,du",
    )
    proof.equal(
        r"For $n = T$ a shift by $i/T$ moves the level by $i$, around the end: each level comes once.",
        sp.floor(sp.expand(T * (uniform + i / T))),
        sp.floor(T * uniform) + i,
        shown=r"\lfloor T(u + i/T)\rfloor = \lfloor Tu\rfloor + i",
    )
