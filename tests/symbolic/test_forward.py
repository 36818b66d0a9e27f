"""The forward process: the reference against what has been derived of it.

Coefficients of the reference are rounded once, so that a product of one with data has two roundings and a sum of two such
products three (``AFFINE``); longer counts are those of the laws.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import mpmath
import pytest
import sympy as sp

from ddpm_ref.arithmetic import Claim
from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.laws.registry import AFFINE, ROOT
from ddpm_ref.reference import forward as reference
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.symbolic import ExactSchedule, derive, forward
from ddpm_ref.symbolic.derivation import DIGITS, derives
from ddpm_ref.symbolic.symbols import alpha, beta, eps, x0, xs

HALVES = ExactSchedule([Fraction(1, 2), Fraction(1, 4), 1])
HALF_THE_DIGITS = mpmath.mpf(10) ** (-DIGITS // 2)
FP64 = Claim("fp64").computing


def dyadic(draw):
    return draw.randint(-(2**20), 2**20) / 2 ** draw.choice((14, 20))


def positive(draw):
    return draw.randint(1, 2**20) / 2 ** draw.choice((14, 20))


def test_order_and_count():
    assert [made.__name__ for made in forward.DERIVATIONS] == [
        "forward_chain",
        "forward_step",
        "gaussian_sum_rule",
        "two_step_merge",
        "forward_marginal",
        "q_sample",
        "aggregate_noise",
        "data_marginal",
        "second_moment_recursion",
        "terminal_distribution",
        "stepwise_inversion",
        "single_noise_training_economy",
    ]
    assert {made().subject for made in forward.DERIVATIONS} == {"forward"}


# --- kernels ----------------------------------------------------------------------------------------------------------


def _covariance(exact, data_variance):
    """Of all levels, by inverting the precision matrix of the whole chain in numbers."""
    chain, T = derive("forward_chain"), exact.T
    precision = mpmath.matrix(T + 1)
    precision[0, 0] = 1 / data_variance
    for t in range(1, T + 1):
        kept, added = (mpmath.mpf(int(x.p)) / int(x.q) for x in (1 - exact.betas[t - 1], exact.betas[t - 1]))
        precision[t - 1, t - 1] += kept / added
        precision[t, t] += 1 / added
        precision[t, t - 1] = precision[t - 1, t] = chain.value("coupling", **exact.letters(t, t - 1))
    return precision**-1


def test_forward_chain(agree):
    derived, inverses, variance = derive("forward_chain"), {}, Fraction(3, 4)
    with mpmath.workdps(DIGITS):
        for case in agree.cases():
            if case.exact not in inverses:
                inverses[case.exact] = _covariance(case.exact, mpmath.mpf(3) / 4)
            want = derived.value("covariance", **case.exact.letters(case.t, case.s), data_variance=variance)
            assert abs(inverses[case.exact][case.s, case.t] - want) < HALF_THE_DIGITS * want


def test_forward_step(agree):
    name, data = "forward_step", ("xs", "eps")
    agree.functions(
        name,
        "draw",
        lambda c: reference.forward_step(c.schedule, c.xs, c.t, c.eps),
        data=data,
        roundings=AFFINE,
        adjacent=True,
    )
    agree.functions(
        name,
        "draw",
        lambda c: reference.q_sample_between(c.schedule, c.xs, c.t, c.s, c.eps),
        data=data,
        roundings=AFFINE,
    )
    agree.functions(
        name, "mean", lambda c: reference.q_mean_variance(c.schedule, c.xs, c.t, c.s)[0], data=("xs",), roundings=2
    )
    agree.tables(name, "variance", lambda c: reference.q_mean_variance(c.schedule, 0.0, c.t, c.s)[1])
    # For data of mean 0 the second moment is the variance.
    agree.functions(
        name,
        "variance_after",
        lambda c: reference.second_moment(c.schedule, c.variance_s, c.t, c.s),
        data=("variance_s",),
        positive=("variance_s",),
        roundings=AFFINE,
    )


def test_gaussian_sum_rule(agree):
    name = "gaussian_sum_rule"

    def draw(source):
        means = {f"mean{i}": dyadic(source) for i in (1, 2)}
        variances = {f"variance{i}": positive(source) for i in (1, 2)}
        return means | variances | {"correlation": source.randint(-(2**10), 2**10) / 2**10}

    def total(c):
        return reference.gaussian_sum(c["mean1"], c["variance1"], c["mean2"], c["variance2"], c["correlation"])

    agree.arguments(name, "mean", draw, lambda c: total(c)[0], roundings=1)
    # The law's count for the form that cannot become negative.
    agree.arguments(name, "variance", draw, lambda c: total(c)[1], roundings=2 * (ROOT + 2) + 2)


def test_kurtosis_of_a_product_by_its_density():
    """The product of two standard normal variables has the density K_0(|u|) / pi, whose moments are those of Mellin."""
    with mpmath.workdps(DIGITS):
        second, fourth = (2**n * mpmath.gamma(mpmath.mpf(n + 1) / 2) ** 2 / mpmath.pi for n in (2, 4))
        want = derive("gaussian_sum_rule").value("kurtosis_of_product")
        assert abs(fourth / second**2 - want) < HALF_THE_DIGITS


def test_two_step_merge(agree):
    def two_betas(draw):
        return {f"alpha_{place}": 1 - Fraction(draw.randint(1, 2**20 - 1), 2**20) for place in ("before", "now")}

    @cache
    def merged(before, now):
        return NoiseSchedule.from_betas([float(1 - before), float(1 - now)])

    def reference_of(c):
        return merged(c["alpha_before"], c["alpha_now"])

    agree.arguments("two_step_merge", "kept", two_betas, lambda c: reference_of(c).between(2, 0).sqrt_alpha)
    agree.arguments("two_step_merge", "added", two_betas, lambda c: reference_of(c).between(2, 0).beta)
    agree.arguments("two_step_merge", "correlation", two_betas, lambda c: reference_of(c).noise_share[2])


@pytest.mark.parametrize("name", ["forward_marginal", "single_noise_training_economy"])
def test_forward_marginal(agree, name):
    agree.functions(
        name,
        "mean",
        lambda c: reference.q_mean_variance(c.schedule, c.x0, c.t)[0],
        data=("x0",),
        roundings=2,
        step=False,
    )
    agree.tables(name, "variance", lambda c: reference.q_mean_variance(c.schedule, 1.0, c.t)[1], step=False)


def test_forward_marginal_between_levels(agree):
    name = "forward_marginal"
    agree.functions(
        name,
        "mean_from_s",
        lambda c: reference.q_mean_variance(c.schedule, c.xs, c.t, c.s)[0],
        data=("xs",),
        roundings=2,
    )
    agree.tables(name, "variance_from_s", lambda c: reference.q_mean_variance(c.schedule, 1.0, c.t, c.s)[1])


def test_q_sample(agree):
    agree.functions(
        "q_sample",
        "draw",
        lambda c: reference.q_sample(c.schedule, c.x0, c.t, c.eps),
        data=("x0", "eps"),
        roundings=AFFINE,
        step=False,
    )
    assert derive("q_sample").at(HALVES, 0, x0=3, eps=7)["draw"] == 3


# --- where nothing is defined -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "says"), [("forward_marginal", "point mass"), ("aggregate_noise", "no step")])
def test_level_0(name, says):
    with pytest.raises(LevelError, match=says):
        derive(name).at(HALVES, 0)


def test_a_step_that_keeps_nothing_cannot_be_undone():
    with pytest.raises(LevelError, match="beta = 1"):
        derive("stepwise_inversion").at(HALVES, 3, 2, xt=1, step_noise=0, data_mean=0, data_variance=1)


@pytest.mark.parametrize(
    ("name", "result", "letters", "says"),
    [
        ("stepwise_inversion", "shrinks", {"beta_bar_t": 0, "alpha_bar_t": 1, "data_variance": 1}, "t >= 1"),
        ("two_step_merge", "added", {"alpha_before": 1, "alpha_now": 1}, "below 1"),
        ("gaussian_sum_rule", "variance", {"variance1": 1, "variance2": 1, "correlation": -1.5}, "between -1 and 1"),
        ("terminal_distribution", "kl", {"alpha_bar_T": 1, "beta_bar_T": 0, "x0": 1}, "T >= 1"),
    ],
)
def test_forbidden_points(name, result, letters, says):
    with pytest.raises(RangeError, match=says):
        derive(name).value(result, **letters)


def test_full_correlation_is_allowed():
    assert derive("gaussian_sum_rule").value("variance", variance1=4, variance2=4, correlation=-1) == 0


# --- the tests of the tests -------------------------------------------------------------------------------------------


def test_noise_scaled_by_the_variance_is_not_proved():
    @derives(r"x_t = \sqrt{\alpha}\,x_s + \beta\,\varepsilon", source="E01")
    def wrong(proof):
        draw = sp.sqrt(alpha) * xs + beta * eps
        proof.equal("Its variance is", sp.expand((draw - sp.sqrt(alpha) * xs) ** 2).coeff(eps, 2), beta)
        proof.conclude(draw=draw)

    with pytest.raises(ProofError, match="it is false"):
        wrong()


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="q_sample"):
        agree.functions(
            "q_sample",
            "draw",
            lambda c: c.schedule.sqrt_alpha_bar[c.t] * c.x0 + c.schedule.beta_bar[c.t] * c.eps,
            data=(x0.name, eps.name),
            roundings=AFFINE,
            step=False,
        )
