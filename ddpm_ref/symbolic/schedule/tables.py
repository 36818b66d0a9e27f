"""What follows from any betas: signal kept, noise added, their ratio."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import expectation
from ddpm_ref.symbolic.induction import last, peeled
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    eps,
    latex,
    letter,
    s,
    t,
    x0,
)

alphas = sp.IndexedBase(letter("alphas", r"\alpha", positive=True))
bars = sp.IndexedBase(letter("bars", r"\bar\alpha", positive=True))
i = letter("i", "i", integer=True, positive=True)
j = letter("j", "j", integer=True, nonnegative=True)
n = letter("n", "n", integer=True, nonnegative=True)
ell = letter("ell", r"\ell", positive=True)
ratio = letter("signal_to_noise", r"\mathrm{SNR}", positive=True)


@derives(
    r"\bar\alpha_t = \prod_{i=1}^t(1-\beta_i),\qquad \frac{\bar\alpha_t}{\bar\alpha_s} = \prod_{s<i\le t}\alpha_i,\qquad "
    r"\log\bar\alpha_t = \sum_{i=1}^t\log(1-\beta_i)",
    source="ho2020, before eq. (4)",
)
def alpha_and_alpha_bar(proof: Proof) -> None:
    r"""The product is defined by its recursion, with the empty product 1 at level 0. By induction over the number of steps, the
    ratio of two levels is the product of what lies between, and the logarithm is a sum.
    """
    proof.assume(r"$\alpha_i = 1 - \beta_i$ with $0 < \alpha_i < 1$.")
    bar = sp.Product(alphas[i], (i, 1, t))
    proof.say("The product up to t is the one before, times one more factor,", sp.Eq(bar, peeled(bar)))
    start = bar.subs(t, 0).doit()
    proof.equal("and at level 0 it is empty.", start, sp.Integer(1), shown=r"\bar\alpha_0 = 1")
    one_less = proof.equal(
        r"So it falls at every step, $\bar\alpha_{t-1} - \bar\alpha_t$ being what the step erases,",
        bars[t - 1] - bars[t - 1] * last(bar),
        bars[t - 1] * (1 - alphas[t]),
    )
    proof.say("and stays positive, being a product of positive numbers.", one_less)

    between = sp.Product(alphas[i], (i, s + 1, s + n))
    whole = sp.Product(alphas[i], (i, 1, s + n))
    proof.say(r"Claimed for n steps from level s on:", rf"\bar\alpha_{{s+n}} = \bar\alpha_s{latex(between)}")
    proof.equal(
        "Base: no step, an empty product.",
        between.subs(n, 0).doit(),
        sp.Integer(1),
        shown=r"\bar\alpha_s = \bar\alpha_s",
    )
    more, longer = between.subs(n, n + 1), whole.subs(n, n + 1)
    proof.equal(
        "Step: if it holds for n, both sides take the same factor.",
        (bars[s] * between) * last(longer),
        bars[s] * peeled(more),
    )
    kept = proof.equal(
        "In letters, what is kept from s to t is", sp.solve(alpha_bar_s * alpha - alpha_bar_t, alpha)[0], alpha
    )
    logs = sp.Sum(sp.log(alphas[i]), (i, 1, t))
    proof.equal("The logarithm is 0 at level 0,", sp.log(start), logs.subs(t, 0).doit(), shown=r"\log\bar\alpha_0 = 0")
    proof.equal(
        "and if it is the sum at t - 1, it is the sum at t.",
        sp.expand_log(sp.log(sp.exp(sp.Sum(sp.log(alphas[i]), (i, 1, t - 1))) * last(bar)), force=True),
        peeled(logs),
    )
    proof.only_where(alpha_bar_t, "where alpha_bar is 0 (zero terminal SNR) it has no logarithm; ask for a lower level")
    proof.conclude(alpha=alpha_bar_t / alpha_bar_s, alpha_bar=alpha_bar_s * kept, log_alpha_bar=sp.log(alpha_bar_t))


@derives(
    r"\bar\alpha_{\mathrm{prev},t} = \bar\alpha_{t-1},\quad \bar\alpha_{\mathrm{prev},1} = 1,\qquad "
    r"1-\bar\alpha_t/\bar\alpha_{t-1} = \beta_t",
    source="ho2020, code",
)
def alpha_bar_prev(proof: Proof) -> None:
    r"""The table shifted by one level, for arrays that start at level 1. It is made in two ways, by padding with 1 in front and
    cutting the end, or the other way round; both are written as functions of the index and compared for every index.
    """
    proof.assume(r"A table of $T$ entries, entry $j$ (from 0) being $\bar\alpha_{j+1}$.")
    entries = [bars[level] for level in range(1, 7)]
    padded = sp.Piecewise((sp.Integer(1), sp.Eq(j, 0)), (bars[j], True))
    proof.say("Padded in front with 1, the table has one entry more; entry j is", padded)
    proof.holds(
        "Cutting the end then, and padding what was cut before, are one (tables of 1 to 6 entries).",
        [sp.Eq(sp.Tuple(1, *entries[:T])[:T], sp.Tuple(1, *entries[: T - 1])) for T in range(1, 7)],
        shown=r"\left(1, \bar\alpha_1, \dots, \bar\alpha_{T-1}\right)",
    )
    later = sp.Symbol("j", integer=True, positive=True)
    proof.equal("The first entry is 1,", padded.subs(j, 0), sp.Integer(1), shown=r"\bar\alpha_0 = 1")
    proof.equal(
        r"and every later one the entry before in the table, which is $\bar\alpha_{t-1}$ for $t = j + 1$.",
        padded.subs(j, later),
        bars[later],
    )
    before = proof.equal(r"Here $s = t - 1$, and the entry is", alpha_bar_t / alpha, alpha_bar_s)
    proof.equal(r"The betas come back from both tables:", 1 - alpha_bar_t / alpha_bar_s, beta)
    proof.only_where(alpha_bar_s, "a level after alpha_bar = 0 has nothing to keep a share of")
    proof.conclude(prev=before, beta=1 - alpha_bar_t / alpha_bar_s)


@derives(
    r"\bar\beta_t = 1-\bar\alpha_t = \alpha_t\bar\beta_{t-1} + \beta_t = -\mathrm{expm1}\sum_{i\le t}\mathrm{log1p}(-\beta_i)",
    source="ho2020, eq. (4), stable form",
)
def one_minus_alpha_bar(proof: Proof) -> None:
    r"""The noise variance obeys the recursion of a chain that keeps $\alpha$ and adds $\beta$; its solution is the complement of
    the signal. The subtraction amplifies a relative error of $\bar\alpha$ by the signal-to-noise ratio; the exponential form
    does not amplify one of the logarithm at all.
    """
    proof.assume(r"A chain that starts without noise, $v_0 = 0$, and $v_t = \alpha_t v_{t-1} + \beta_t$.")
    proof.equal(
        r"Base: the complement of $\bar\alpha_0 = 1$ is no noise.",
        beta_bar_t.subs(beta_bar_t, 1 - alpha_bar_t).subs(alpha_bar_t, 1),
        sp.Integer(0),
        shown=r"1 - \bar\alpha_0 = 0",
    )
    proof.equal(
        r"Step: if $v_s = 1 - \bar\alpha_s$, then $v_t$ is the complement at t.",
        alpha * (1 - alpha_bar_s) + beta,
        1 - alpha_bar_t,
    )
    logs = sp.Sum(sp.log(alphas[i]), (i, 1, t))
    before = sp.Sum(sp.log(alphas[i]), (i, 1, t - 1))
    proof.equal(
        r"In logarithms, a step multiplies the exponential of the sum by $\alpha_t$,",
        sp.exp(before + last(logs)),
        sp.exp(before) * alphas[t],
    )
    stable = proof.equal(
        r"so that $\bar\alpha_t$ is the exponential of the sum, and with $\mathrm{expm1}\,x = e^x - 1$",
        -(sp.exp(sp.log(alpha_bar_t)) - 1),
        beta_bar_t,
        shown=r"-\mathrm{expm1}\log\bar\alpha_t = \bar\beta_t",
    )
    complement = 1 - alpha_bar_t
    naive = proof.equal(
        r"A small relative error of $\bar\alpha$ is amplified, in the subtraction, by",
        -complement.diff(alpha_bar_t) * alpha_bar_t / complement,
        alpha_bar_t / beta_bar_t,
    )
    form = 1 - sp.exp(-ell)
    condition = proof.equal(
        r"and one of $\ell = -\log\bar\alpha_t$, in the exponential form, by",
        form.diff(ell) * ell / form,
        ell / (sp.exp(ell) - 1),
    )
    proof.equal(
        r"That is at most 1: $e^\ell - 1 - \ell$ vanishes at 0,",
        (sp.exp(ell) - 1 - ell).subs(ell, 0),
        sp.Integer(0),
        shown=r"e^0 - 1 - 0 = 0",
    )
    u = letter("u", "u", real=True)
    proof.equal(
        "and is an integral over what is positive.",
        sp.exp(ell) - 1 - ell,
        sp.integrate((ell - u) * sp.exp(u), (u, 0, ell)),
        shown=r"e^\ell - 1 - \ell = \int_0^\ell(\ell-u)\,e^u\,du > 0",
    )
    proof.only_where(beta_bar_t, "at t = 0 there is no noise and no relative error of it; ask for t >= 1")
    proof.only_where(alpha_bar_t, "where alpha_bar is 0 it has no logarithm; its complement is exactly 1")
    proof.conclude(
        beta_bar=alpha * beta_bar_s + beta,
        log_beta_bar=sp.log(stable),
        amplification=naive,
        stable_amplification=condition.subs(ell, -sp.log(alpha_bar_t)),
    )


@derives(
    r"\mathrm{SNR}(t) = \bar\alpha_t/\bar\beta_t,\qquad \log\mathrm{SNR}(t) = \mathrm{logit}\,\bar\alpha_t",
    source="kingma2021",
)
def snr(proof: Proof) -> None:
    r"""The ratio of the powers of signal and noise in a draw of $x_t$ for data of unit variance, by expectation. It falls strictly,
    and each of $\bar\alpha_t$, the ratio and its logarithm determines the others.
    """
    proof.assume(
        r"$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon$ with data of mean 0 and variance 1."
    )
    signal = expectation((sp.sqrt(alpha_bar_t) * x0) ** 2, x0, 0, 1)
    noise = expectation((sp.sqrt(beta_bar_t) * eps) ** 2, eps, 0, 1)
    value = proof.equal("Power of the signal over power of the noise:", signal / noise, alpha_bar_t / beta_bar_t)
    falls = proof.equal(
        "From a level to a later one it falls, by",
        alpha_bar_s / beta_bar_s - alpha_bar_t / beta_bar_t,
        beta * alpha_bar_s / (beta_bar_s * beta_bar_t),
    )
    proof.holds("which is positive.", falls > 0, shown=f"{latex(falls)} > 0")
    back = proof.equal(
        r"Solved for $\bar\alpha_t$,",
        sp.solve(ratio - alpha_bar_t / (1 - alpha_bar_t), alpha_bar_t)[0],
        ratio / (1 + ratio),
    )
    log_ratio = letter("log_signal_to_noise", r"\lambda", real=True)
    proof.equal(
        r"which is the logistic function of $\lambda = \log\mathrm{SNR}$;",
        back.subs(ratio, sp.exp(log_ratio)),
        1 / (1 + sp.exp(-log_ratio)),
    )
    logit = proof.equal(
        "so the logarithm is the inverse of that, the logit.", sp.log(value), sp.log(alpha_bar_t) - sp.log(beta_bar_t)
    )
    deviation = proof.equal(
        "Its root, inverted, is the standard deviation of the noise relative to the signal.",
        1 / sp.sqrt(value),
        sp.sqrt(1 / alpha_bar_t - 1),
    )
    proof.only_where(beta_bar_t, "at t = 0 there is no noise and the ratio is infinite; ask for t >= 1")
    proof.only_where(alpha_bar_t, "where alpha_bar is 0 the ratio is 0 and has no logarithm")
    proof.conclude(snr=value, log_snr=logit, relative_deviation=deviation)
