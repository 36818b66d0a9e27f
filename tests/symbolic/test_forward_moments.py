"""The noises and the moments of the forward process: the reference against what has been derived of them."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.laws.registry import AFFINE, PAIR_COEFFICIENT
from ddpm_ref.reference import forward as reference
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.symbolic import ExactSchedule, derive
from ddpm_ref.symbolic.derivation import DIGITS

HALVES = ExactSchedule([Fraction(1, 2), Fraction(1, 4), 1])
HALF_THE_DIGITS = mpmath.mpf(10) ** (-DIGITS // 2)
FP64 = Claim("fp64").computing


def positive(draw):
    return draw.randint(1, 2**20) / 2 ** draw.choice((14, 20))


# --- noises -----------------------------------------------------------------------------------------------------------


def test_aggregate_noise_correlation(agree):
    agree.tables(
        "aggregate_noise",
        "correlation",
        lambda c: reference.aggregate_noise_correlation(c.schedule, c.t),
        adjacent=True,
    )
    for case in agree.cases(adjacent=True):
        levels = case.exact.letters(case.t, case.s)
        last, past = (derive("aggregate_noise").value(name, **levels) for name in ("correlation", "past_weight"))
        with mpmath.workdps(DIGITS):
            assert abs(last**2 + past**2 - 1) < HALF_THE_DIGITS


def _weights(case):
    """Of the noises of the first ``t`` steps in their aggregate."""
    derived, exact, t = derive("aggregate_noise"), case.exact, case.t
    earlier = (
        derived.value("weight", **exact.letters(t, s), step_beta=Fraction(exact.betas[s - 1])) for s in range(1, t)
    )
    return [*earlier, derived.value("correlation", **exact.letters(t, t - 1))]


def test_aggregate_noise_and_the_chain(agree):
    noise_of, count = np.random.default_rng(0), 0
    for case in agree.cases("x0"):
        noises = np.round(noise_of.standard_normal(case.t) * 2**20) / 2**20
        with mpmath.workdps(DIGITS):
            terms = [w * mpmath.mpf(noise) for w, noise in zip(_weights(case), noises.tolist(), strict=True)]
            error = abs(float(reference.aggregate_noise(case.schedule, noises, case.t)) - mpmath.fsum(terms))
            # The laws' counts: a weight, its product with a noise and one addition per step; and three per step of the chain.
            bound = float(gamma(PAIR_COEFFICIENT + 1 + case.t, FP64.u)) * mpmath.fsum(map(abs, terms))
            assert error <= bound
            levels = case.exact.letters(case.t)
            kept, spread = (
                mpmath.sqrt(mpmath.mpf(int(x.p)) / int(x.q)) for x in (levels["alpha_bar_t"], levels["beta_bar_t"])
            )
            parts = [kept * case.x0, *(spread * term for term in terms)]
            last = float(reference.q_chain(case.schedule, case.x0, noises)[-1])
            assert abs(last - mpmath.fsum(parts)) <= float(gamma(AFFINE * case.t, FP64.u)) * mpmath.fsum(
                map(abs, parts)
            )
        count += 1
    assert count == agree.points


def test_stepwise_inversion(agree):
    # The difference's two terms through root, product and difference, then root and quotient: k = 5.
    agree.functions(
        "stepwise_inversion",
        "state",
        lambda c: reference.stepwise_inversion(c.schedule, c.xt, c.t, c.step_noise),
        data=("xt", "step_noise"),
        roundings=5,
        adjacent=True,
    )


def test_stepwise_inversion_with_the_conditional_mean():
    """The three conditional means against integrals over the joint density, and the factors of a whole chain."""
    derived, levels = derive("stepwise_inversion"), HALVES.letters(2, 1)
    data = {"data_mean": Fraction(1, 3), "data_variance": Fraction(1, 2), "xt": Fraction(5, 4)}
    with mpmath.workdps(25):
        a_s, a, m, v, xt = (
            mpmath.mpf(Fraction(x).numerator) / Fraction(x).denominator
            for x in (levels["alpha_bar_s"], levels["alpha"], *data.values())
        )
        m_s, v_s = mpmath.sqrt(a_s) * m, a_s * v + 1 - a_s

        def weight(x):
            return mpmath.exp(-((x - m_s) ** 2) / (2 * v_s) - (xt - mpmath.sqrt(a) * x) ** 2 / (2 * (1 - a)))

        mass, first = (mpmath.quad(lambda x, n=n: x**n * weight(x), mpmath.linspace(-12, 12, 9)) for n in (0, 1))
        state = first / mass
        noise = (xt - mpmath.sqrt(a) * state) / mpmath.sqrt(1 - a)
        # Quadrature to 25 digits: half of them.
        assert abs(derived.value("mean", **levels, **data) - state) < mpmath.mpf(10) ** -12
        assert abs(derived.value("noise_mean", **levels, **data) - noise) < mpmath.mpf(10) ** -12
        centred = data | {"data_mean": 0}
        factors = [derived.value("mean", **HALVES.letters(t, t - 1), **centred) / xt for t in (2, 1)]
        shrinks = derived.value("shrinks", **HALVES.letters(2), data_variance=data["data_variance"])
        assert abs(factors[0] * factors[1] - shrinks) < mpmath.mpf(10) ** -12
    ratio = derived.value("ratio", **levels)
    assert ratio == derive("aggregate_noise").value("correlation", **levels)


def test_one_draw_costs_one_noise():
    derived = derive("single_noise_training_economy")
    for T in (1, 2, 9, 1000):
        assert derived.value("sequential_draws", T=T) == sum(range(1, T + 1)) / T


# --- moments ----------------------------------------------------------------------------------------------------------


def test_data_marginal(agree):
    name, data = "data_marginal", ("data_mean", "data_variance")
    for result, entry, roundings in (("mean", 0, 2), ("variance", 1, AFFINE)):
        agree.functions(
            name,
            result,
            lambda c, entry=entry: reference.data_marginal(c.schedule, c.data_mean, c.data_variance, c.t)[entry],
            data=data,
            positive=("data_variance",),
            roundings=roundings,
            step=False,
        )
    at_0 = derive(name).at(HALVES, 0, data_mean=2, data_variance=5)
    assert at_0 == {"mean": 2, "variance": 5, "excess": 5}


def test_second_moment_recursion(agree):
    def draw(source):
        added = Fraction(source.randint(1, 2**20 - 1), 2**20)
        return {"alpha": 1 - added, "beta": added, "energy": positive(source), "dimension": source.randint(1, 5000)}

    agree.arguments(
        "second_moment_recursion",
        "after",
        draw,
        lambda c: reference.second_moment(
            NoiseSchedule.from_betas([float(c["beta"])]), c["energy"], 1, 0, c["dimension"]
        ),
        roundings=AFFINE,
    )
    # Three nodes of Gauss and Hermite integrate the square of the cross term exactly.
    nodes = [(0, Fraction(2, 3)), (3, Fraction(1, 6)), (3, Fraction(1, 6))]  # squares of the nodes, and weights
    for case in agree.cases():
        levels = case.exact.letters(case.t, case.s)
        square = sum(4 * levels["alpha"] * levels["beta"] * x * e * p * q for x, p in nodes for e, q in nodes)
        deviation = derive("second_moment_recursion").value("cross_deviation", **levels)
        with mpmath.workdps(DIGITS):
            assert abs(deviation**2 - mpmath.mpf(int(square.p)) / int(square.q)) < HALF_THE_DIGITS


def test_terminal_distribution(agree):
    derived = derive("terminal_distribution")

    def size(values):
        """The law's scale: the value, and what one rounding of alpha_bar does to it."""
        value = (
            values["alpha_bar_T"] * values["x0"] ** 2 - values["alpha_bar_T"] - mpmath.log(values["beta_bar_T"])
        ) / 2
        return abs(value) + values["alpha_bar_T"] ** 2 / (2 * values["beta_bar_T"])

    agree.functions(
        "terminal_distribution",
        "kl",
        lambda c: reference.terminal_kl(c.schedule, c.x0),
        data=("x0",),
        roundings=8,
        step=False,
        scale_of=size,
    )
    lin1000 = ExactSchedule(np.linspace(1e-4, 0.02, 1000).tolist()).letters(1000)
    assert f"{float(derived.value('kl', **lin1000, x0=1)):.3e}" == "2.018e-05"
    assert f"{float(derived.value('leading', **lin1000, x0=1)):.3e}" == "2.018e-05"
