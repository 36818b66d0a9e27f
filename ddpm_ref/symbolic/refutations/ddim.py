"""Common statements about DDIM and about leaving levels out, refuted."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.gaussian import complete_square, expectation, log_density
from ddpm_ref.symbolic.refutations.posterior import square
from ddpm_ref.symbolic.refutations.refutation import Case, Refute, beta_tilde, refutes
from ddpm_ref.symbolic.symbols import (
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta_bar_s,
    eps,
    eta,
    letter,
    noise,
    variance,
    x0,
    xs,
    xt,
)  # fmt: skip

factor = letter("factor", "c", positive=True)
signal = letter("unknown_signal", "a", positive=True)
# Levels of a subsequence: the one a step starts from, its neighbour below in the full chain, and the one it ends at.
start = letter("alpha_bar_start", r"\bar\alpha_{\tau_i}", positive=True)
neighbour = letter("alpha_bar_neighbour", r"\bar\alpha_{\tau_i-1}", positive=True)
end = letter("alpha_bar_end", r"\bar\alpha_{\tau_{i-1}}", positive=True)
LEVELS = {
    "alpha_bar_start": sp.Rational(1, 4),
    "alpha_bar_neighbour": sp.Rational(9, 25),
    "alpha_bar_end": sp.Rational(9, 16),
}


def signal_that_leads_to(later: sp.Expr, kept: sp.Expr) -> sp.Expr:
    """The signal of an earlier state from which a forward step that keeps ``kept`` makes that of a later one."""
    state = signal * x0 + factor * eps
    mean = expectation(sp.sqrt(kept) * state + sp.sqrt(1 - kept) * noise, eps, 0, 1)
    (found,) = sp.solve(sp.diff(mean, x0) - sp.sqrt(later), signal)
    return found


@refutes("E47")
def signal_of_the_later_level(case: Case) -> None:
    """Whatever the earlier state is, a forward step must make of it the noisy data of the later level. That determines its
    signal."""
    case.assume(
        r"$x_s = a\,x_0 + c\,\varepsilon$, and a forward step from $s$ leads to $\mathbb E x_t = \sqrt{\bar\alpha_t}\,x_0$."
    )
    case.contrast(
        "the factor of $x_0$ in $x_s$",
        derived=signal_that_leads_to(alpha_bar_t, alpha),
        right=sp.sqrt(alpha_bar_s),
        wrong=sp.sqrt(alpha_bar_t),
        ratio=sp.sqrt(alpha),
    )


@refutes("E48")
def variance_times_fresh_noise(case: Case) -> None:
    r"""The factor of the fresh noise is solved for from the variance at $s$, which the kept and the fresh part make up together."""
    case.assume(
        r"$x_s = \sqrt{\bar\alpha_s}\,x_0 + \sqrt{\bar\beta_s - \sigma^2}\,\varepsilon + c\,z$ has the variance $\bar\beta_s$ given"
        r" $x_0$; $\varepsilon$ and $z$ are independent and standard normal."
    )
    noisy = sp.sqrt(beta_bar_s - variance) * eps + factor * noise
    total = expectation(expectation(noisy**2, eps, 0, 1), noise, 0, 1)
    case.say("The variance is", total)
    (needed,) = sp.solve(total - beta_bar_s, factor)
    case.contrast(
        "the factor of the fresh noise",
        derived=needed,
        right=sp.sqrt(variance),
        wrong=variance,
        ratio=sp.sqrt(variance),
        variance=sp.Rational(1, 4),
    )
    case.contrast(
        "the variance of $x_s$ given $x_0$",
        derived=total.subs(factor, needed),
        right=beta_bar_s,
        wrong=total.subs(factor, variance),
        difference=variance**2 - variance,
        variance=sp.Rational(1, 4),
    )


@refutes("E49")
def eta_of_the_variance(case: Case) -> None:
    r"""The fresh noise is multiplied by $\eta$ times the deviation of the posterior, by definition; its variance is an
    expectation."""
    case.assume(r"$\sigma = \eta\sqrt{\tilde\beta_{t\mid s}}$, as song2020ddim, eq. (16), defines $\eta$.")
    case.contrast(
        "the variance of the fresh noise",
        derived=expectation((eta * sp.sqrt(beta_tilde) * noise) ** 2, noise, 0, 1),
        right=eta**2 * beta_tilde,
        wrong=eta * beta_tilde,
        ratio=1 / eta,
        eta=sp.Rational(1, 2),
    )


@refutes("E50")
def signal_of_the_neighbour(case: Case) -> None:
    r"""The state that a step from $\tau_i$ ends at must be the one from which the chain arrives at $\tau_i$, over all the levels in
    between. That determines its signal, which is not that of the neighbour."""
    case.assume(
        r"From $\tau_{i-1}$ to $\tau_i$ the chain keeps $\bar\alpha_{\tau_i}/\bar\alpha_{\tau_{i-1}}$; the level $\tau_i - 1$ lies"
        r" between them."
    )
    case.contrast(
        r"the factor of $x_0$ in $x_{\tau_{i-1}}$",
        derived=signal_that_leads_to(start, start / end),
        right=sp.sqrt(end),
        wrong=sp.sqrt(neighbour),
        ratio=sp.sqrt(neighbour / end),
        **LEVELS,
    )


@refutes("E51")
def family_under_another_name(case: Case) -> None:
    r"""The chain that visits some of the levels has the posterior variance of the pair of levels, by completing the square. The
    member of the DDIM family has it for $\eta = 1$ alone."""
    case.assume("The chain between the two levels is Markov, and its kernels are the forward kernels.")
    member = expectation((eta * sp.sqrt(beta_tilde) * noise) ** 2, noise, 0, 1)
    case.equal(r"At $\eta = 1$ the two agree:", member.subs(eta, 1), beta_tilde)
    case.contrast(
        "the variance of a step of the strided chain",
        derived=square().variance,
        right=beta_tilde,
        wrong=member,
        ratio=eta**2,
        eta=sp.Rational(1, 2),
    )


def pair_variance(later: sp.Expr, earlier: sp.Expr) -> sp.Expr:
    """Posterior variance of a pair of levels by their products of alphas, by completing the square."""
    step = log_density(xt, sp.sqrt(later / earlier) * xs, 1 - later / earlier)
    return complete_square(step + log_density(xs, sp.sqrt(earlier) * x0, 1 - earlier), xs).variance


@refutes("E52")
def noise_of_a_single_step(case: Case) -> None:
    r"""The posterior variance is found by completing the square, for the two levels that the long step joins and for the
    neighbours whose variance it is commonly given."""
    case.assume(r"The chain keeps $\bar\alpha_{\tau_i}/\bar\alpha_{\tau_{i-1}}$ over the long step; $\eta = 1$.")
    long, single = (1 - start / level for level in (end, neighbour))
    case.contrast(
        r"the variance of the step $\tau_i \to \tau_{i-1}$",
        derived=pair_variance(start, end),
        right=long * (1 - end) / (1 - start),
        wrong=single * (1 - neighbour) / (1 - start),
        ratio=single * (1 - neighbour) / (long * (1 - end)),
        **LEVELS,
    )


REFUTATIONS: tuple[Refute, ...] = (
    signal_of_the_later_level, variance_times_fresh_noise, eta_of_the_variance, signal_of_the_neighbour,
    family_under_another_name, noise_of_a_single_step,
)  # fmt: skip
