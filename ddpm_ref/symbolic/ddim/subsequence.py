r"""Steps that leave levels out: what changes is the pair of levels, everywhere, and nothing else."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ancestral.normal_data import AT_S, next_to_0, normal_data
from ddpm_ref.symbolic.ddim.family import ddim_marginal_invariance, ddim_sigma_eta, start
from ddpm_ref.symbolic.ddim.normal_data import ddim_deterministic_step
from ddpm_ref.symbolic.ddim.step import ddim_step_eps_form
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.induction import peeled
from ddpm_ref.symbolic.posterior.chain import NO_STEP, VARIANCE
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    data_variance,
    equation,
    eta,
    letter,
    x0,
)  # fmt: skip

i, count = letter("i", "i", integer=True, positive=True), letter("n", "n", integer=True, positive=True)
bars = sp.IndexedBase(letter("visited", r"\bar\alpha", positive=True))
position = letter("position", "k", integer=True, nonnegative=True)
steps = letter("steps", "S", integer=True, positive=True)
last_level = letter("T", "T", integer=True, positive=True)
wrong_bar = letter("alpha_bar_before_t", r"\bar\alpha_{t-1}", positive=True)


@derives(
    r"T \ge \tau_S > \dots > \tau_1 > \tau_0 = 0:\quad (t, t-1) \to (\tau_i, \tau_{i-1})\ \text{ everywhere}",
    source="song2020ddim, section 4.2",
)
def ddim_subsequence(proof: Proof) -> None:
    r"""A sampler that visits some of the levels. Nothing in the family asks that the levels be neighbours, so that the law of each
    state is right by the same induction; but the pair of levels has to be replaced wherever it occurs, in the signal, in the
    noise, and in $\sigma$.
    """
    start(proof)
    kept = ddim_marginal_invariance().results
    proof.equal(
        r"Start at $t = \tau_S$ with the right law. If it is right at $\tau_i$, it is at $\tau_{i-1}$: by"
        r" `ddim_marginal_invariance`, with $(t, s) = (\tau_i, \tau_{i-1})$, the mean is",
        kept["mean"],
        sp.sqrt(alpha_bar_s) * x0,
        shown=r"\sqrt{\bar\alpha_{\tau_{i-1}}}\,x_0",
    )
    proof.equal("and the variance", kept["variance"], beta_bar_s, shown=r"\bar\beta_{\tau_{i-1}}")
    proof.equal(
        r"At $\tau_0 = 0$ that is the point $x_0$: the boundary is $\bar\alpha_{\tau_0} = 1$.",
        kept["variance"].subs(beta_bar_s, 0),
        sp.S.Zero,
        shown=r"\bar\beta_0 = 0",
    )
    row = ddim_step_eps_form().results
    letters = set().union(*(value.free_symbols for value in row.values())) - {eta}
    proof.holds(
        "The row of a step contains the two levels it joins and nothing of those between,",
        sp.Eq(len(letters - {alpha, beta, alpha_bar_t, alpha_bar_s, beta_bar_t, beta_bar_s}), 0),
        shown=r"(\bar\alpha_t, \bar\alpha_s) \mapsto \left(\tfrac1{\sqrt{\alpha_{t\mid s}}},\ \sqrt{\bar\beta_s - \sigma_t^2}"
        r" - \sqrt{\bar\beta_t/\alpha_{t\mid s}},\ \sigma_t\right)",
    )
    proof.say(r"so that for $\tau_i = i$ it is the row of the full chain.")
    proof.equal(
        r"With the signal of the level below $t$ in the place of that of $s$ the mean at $s$ would be wrong by the factor",
        sp.sqrt(wrong_bar) / sp.sqrt(alpha_bar_s) * kept["mean"],
        sp.sqrt(wrong_bar) * x0,
        shown=r"\sqrt{\bar\alpha_{t-1}/\bar\alpha_s} < 1",
    )
    normal_data(proof)
    upper = ddim_deterministic_step().results["gain"]
    lower = next_to_0(upper)
    proof.equal(
        r"Example, two steps $t \to s \to 0$ with $\eta = 0$: the second has the gain",
        lower,
        sp.sqrt(alpha_bar_s) * data_variance / AT_S,
        shown=equation(r"g_{s\to0}", sp.sqrt(alpha_bar_s) * data_variance / AT_S),
    )
    proof.say("and the sample, started from unit noise, has the deviation $g_{t\\to s}\\,g_{s\\to0}$.")
    proof.only_where(beta_bar_s, "two steps visit a level between t and 0; ask for s >= 1")
    proof.conclude(two_step_deviation=upper * sp.sqrt(alpha_bar_s) * data_variance / AT_S)


@derives(
    r"\tau_k = \left\lfloor\frac{kT}{S}\right\rfloor,\quad k = 0, \dots, S",
    source="bao2022, code",
)
def ddim_time_grid(proof: Proof) -> None:
    r"""A grid that is common in code: $S + 1$ equally spaced reals from $-1$ to $T - 1$, cut to integers; these are network clocks,
    one less than levels. Cutting goes towards zero, but only the first is negative and that is whole, so it is rounding down.
    As levels it starts at 0, ends at $T$, and no level occurs twice.
    """
    proof.assume(r"$1 \le S \le T$, whole numbers; a clock $c$ is the level $c + 1$, and the clock $-1$ is clean data.")
    real = -1 + position * last_level / steps
    cut = sp.floor(real)
    proof.say("The $k$-th of the equally spaced reals:", real)
    excess = letter("stride_less_one", "h", nonnegative=True)
    proof.equal(
        r"With $T/S = 1 + h$, $h \ge 0$, it is for $k \ge 1$",
        real.subs(last_level, steps * (1 + excess)),
        (position - 1) + position * excess,
    )
    proof.holds(
        "which is not negative, so that cutting is rounding down there; at $k = 0$ it is whole.",
        [((position - 1) + position * excess).subs(position, 1 + position) >= 0, sp.Eq(cut.subs(position, 0), -1)],
        shown=r"\left\lfloor -1 + kT/S\right\rfloor",
    )
    level = sp.floor(position * last_level / steps)
    proof.equal("The level is one more:", cut + 1, level, shown=equation(r"\tau_k", level))
    proof.equal("It starts at clean data", level.subs(position, 0), sp.S.Zero, shown=r"\tau_0 = 0")
    proof.equal("and ends at", level.subs(position, steps), last_level, shown=r"\tau_S = T")
    whole, rest = letter("whole_part", "m", integer=True), letter("rest", "r", nonnegative=True)
    after = sp.floor(whole + rest + 1 + excess)
    proof.equal(
        r"If $kT/S = m + r$ with $0 \le r < 1$, the next level is",
        after,
        whole + 1 + sp.floor(rest + excess),
        shown=r"\tau_{k+1} = m + 1 + \lfloor r + h\rfloor",
    )
    proof.holds(
        "and that is above $m$: no level occurs twice.",
        sp.floor(rest + excess) >= 0,
        shown=r"\tau_{k+1} \ge \tau_k + 1",
    )
    proof.equal(
        "With $S = T$ it is every level.", level.subs(last_level, steps), position, shown=r"S = T:\quad \tau_k = k"
    )
    proof.only_where(last_level - steps + 1, "the grid needs S <= T; there are not more levels than T")
    proof.conclude(level=level)


@derives(
    r"\beta'_{\tau_i} = 1 - \frac{\bar\alpha_{\tau_i}}{\bar\alpha_{\tau_{i-1}}},\quad"
    r" \tilde\beta'_{\tau_i} = \frac{\bar\beta_{\tau_{i-1}}}{\bar\beta_{\tau_i}}\,\beta'_{\tau_i}",
    source="nichol2021, section 4",
)
def strided_schedule(proof: Proof) -> None:
    r"""The Markov chain that visits some of the levels is a chain of the same kind, with betas of its own, and its products of
    alphas are those of the levels it visits. Its fixed-small variance is that of DDIM with $\eta = 1$; its fixed-large one is
    $\beta'$, which the DDIM family need not contain.
    """
    proof.assume(r"$T \ge \tau_S > \dots > \tau_1 > \tau_0 = 0$, so that $\bar\alpha_{\tau_0} = 1$.")
    proof.assume(
        r"In the letters of one step $t = \tau_i$ and $s = \tau_{i-1}$; in products $\bar\alpha_i$ is $\bar\alpha_{\tau_i}$."
    )
    strided = 1 - alpha_bar_t / alpha_bar_s
    proof.equal("One step of the chain is the forward kernel between the two levels, whose beta is", strided, beta)
    product = sp.Product(bars[i] / bars[i - 1], (i, 1, count))
    claim = bars[count] / bars[0]
    proof.equal(
        r"The product of the new alphas: from $\tau_0$ to $\tau_1$ it is",
        product.subs(count, 1).doit(),
        claim.subs(count, 1),
    )
    proof.equal(
        r"and if it is $\bar\alpha_{\tau_n}$ at $\tau_n$, the next factor makes it $\bar\alpha_{\tau_{n+1}}$,",
        (peeled(product.subs(count, count + 1)) / product * claim).subs(bars[0], 1),
        bars[count + 1],
    )
    proof.say(
        r"so by induction $\prod_{j\le i}(1 - \beta'_{\tau_j}) = \bar\alpha_{\tau_i}$, and what holds for a chain holds for it."
    )
    small = strided * beta_bar_s / beta_bar_t
    proof.equal("Its posterior variance is that of the pair of levels,", small, VARIANCE)
    proof.equal(
        r"which is the DDIM variance for $\eta = 1$,", ddim_sigma_eta().results["std"].subs(eta, 1) ** 2, VARIANCE
    )
    proof.equal(
        r"while for $\eta = \tfrac12$ that is a quarter.",
        ddim_sigma_eta().results["std"].subs(eta, sp.Rational(1, 2)) ** 2,
        VARIANCE / 4,
    )
    first, second = letter("beta_1", r"\beta_1", positive=True), letter("beta_2", r"\beta_2", positive=True)
    proof.equal(
        r"The fixed-large variance exceeds what the DDIM family allows, $\sigma_t^2 \le \bar\beta_s$, on the step to level 0,"
        r" and on the step $2 \to 1$ by",
        (beta - beta_bar_s).subs({beta: second, beta_bar_s: first}),
        second - first,
        shown=r"\beta_2 - \bar\beta_1 = \beta_2 - \beta_1",
    )
    proof.say("which is positive where the betas grow.")
    proof.only_where(beta_bar_t, NO_STEP)
    proof.conclude(beta=beta, beta_tilde=VARIANCE)
