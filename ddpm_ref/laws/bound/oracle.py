"""The law of the bound as a whole, on data whose best network is known (nats per image)."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import TWO_PI, log, x_minus_log1p
from ddpm_ref.laws.bound.terms import LOG_2PI
from ddpm_ref.laws.bound.weights import weight_words
from ddpm_ref.laws.cases import Case, Source, at, step
from ddpm_ref.laws.family import levels_of, walks
from ddpm_ref.laws.registry import Law, Mistake, Outputs
from ddpm_ref.typing import Array

# Every part is assembled from a few entries of tables of levels and of pairs of them, a weight among those; no part has more
# roundings to a term than this, the sum over the steps not counted.
ASSEMBLED = 32
KINDS = ("posterior", "beta")


def _walks(source: Source, claim: Claim) -> Case:
    """Normal data of some mean and variance, and a trajectory of two steps at least, whose last variance can be replaced."""
    draw = walks(zero_snr=False)
    case = draw(source, claim)
    t, s = case.t, case.s
    if len(t) == 1:
        # One more level on the way: the step to level 0 has no other to take its variance from.
        t, s = np.array([max(int(t[0]), 2), 1]), np.array([1, 0])
    schedule = case.noise_schedule
    if schedule.T == 1:
        schedule = schedule.from_betas(np.repeat(schedule.beta[1:], 2))
    mean, variance = source.numbers((), -2.0, 2.0), np.exp(source.numbers((), -4.0, 2.0))
    numbers = {"mean": claim.storing.round(mean), "variance": claim.storing.round(variance)}
    return Case(claim, schedule, {"t": t, "s": s} | numbers)


# --- by kind of variance: the prior term, the terms of the steps, the term of the data, the entropy --------------------


def _split(case: Case) -> tuple[Case, Case]:
    """The steps to levels above 0, and the last."""
    parts = (slice(None, -1), slice(-1, None))
    above, last = (Case(case.claim, case.schedule, {"t": case.t[part], "s": case.s[part]}) for part in parts)
    return above, last


def _left(case: Case, steps: Case) -> DoubleDouble:
    """Variance of the data given the states that some steps start from."""
    signal, noise = (case.noise_schedule.words(table, steps.t) for table in ("alpha_bar", "beta_bar"))
    return noise * float(case.variance) / (signal * float(case.variance) + noise)


def _last_variance(case: Case, kind: str) -> DoubleDouble:
    above, last = _split(case)
    if kind == "beta":
        return last.step("beta")
    words = above.step("beta_tilde")
    return DoubleDouble(words.high[-1:], words.low[-1:])


def _one(words: DoubleDouble, roundings: Array | float) -> Expected:
    """A number, with a charge of its own."""
    return Expected(words.reshape(()), np.reshape(roundings, ()) / ASSEMBLED, ASSEMBLED)


def _prior(case: Case) -> Expected:
    """As in `ddpm_ref.laws.forward.TERMINAL_KL`, averaged over the data."""
    signal = case.noise_schedule.words("alpha_bar", case.t[:1])
    moment = DoubleDouble.of(float(case.mean)) * float(case.mean) + float(case.variance)
    value = (signal * moment + x_minus_log1p(-signal)) * 0.5
    noise = case.noise_schedule.beta_bar[case.t[:1]]
    return _one(value, ASSEMBLED * (np.abs(value.high) + signal.high**2 / (2 * noise)))


def _terms(case: Case, kind: str) -> Expected:
    above, _ = _split(case)
    value = weight_words(above, kind)["x0"] * _left(case, above)
    charge = np.abs(value.high)
    if kind == "beta":
        late, early = (case.noise_schedule.words("beta_bar", levels) for levels in (above.t, above.s))
        excess = -(above.step("beta") * case.noise_schedule.words("alpha_bar", above.s) / late)
        gap = x_minus_log1p(excess) * 0.5
        value = value + gap
        # The logarithm of a ratio not near 1 moves with the ratio, however small the term is.
        charge = (
            charge + 3 * gap.high + np.where(excess.high < -0.5, -excess.high - np.log(early.high / late.high), 0.0)
        )
    return Expected(value, charge, ASSEMBLED)


def _data(case: Case, kind: str) -> Expected:
    _, last = _split(case)
    sigma2 = _last_variance(case, kind)
    logarithm, share = log(TWO_PI * sigma2), _left(case, last) / sigma2
    value = (logarithm + share) * 0.5
    return _one(value, ASSEMBLED * (np.abs(np.log(sigma2.high)) + LOG_2PI + 1 + share.high) / 2)


def _entropy(case: Case) -> Expected:
    value = (log(TWO_PI * float(case.variance)) + 1.0) * 0.5
    return _one(value, ASSEMBLED * (np.abs(np.log(float(case.variance))) + LOG_2PI + 1) / 2)


def _expected(case: Case) -> tuple[Expected, ...]:
    return tuple(
        part for kind in KINDS for part in (_prior(case), _terms(case, kind), _data(case, kind), _entropy(case))
    )


def _call(impl: Any, c: Any) -> object:
    """The four parts for each kind of variance."""
    return tuple(
        part
        for kind in KINDS
        for part in impl.normal_data_bound(c.schedule, levels_of(c), float(c.mean), float(c.variance), kind)
    )


# --- mistakes: each is a wrong part -----------------------------------------------------------------------------------

Parts: TypeAlias = tuple[Array, Array, Array, Array]


def _right(case: Case, kind: str) -> Parts:
    parts = _prior(case), _terms(case, kind), _data(case, kind), _entropy(case)
    prior, terms, data, entropy = (part.value.high for part in parts)
    return prior, terms, data, entropy


def _signs(case: Case, prior: float, terms: float, data: float) -> Outputs:
    found = (_right(case, kind) for kind in KINDS)
    return tuple(part for p, t, d, h in found for part in (prior * p, terms * t, data * d, h))


def _without_the_network(case: Case) -> Outputs:
    """A network that learned a noise which is not in its input: it predicts none, and the state is all it says of the data."""
    outputs: list[Array] = []
    above, last = _split(case)
    for kind in KINDS:
        prior, terms, data, entropy = _right(case, kind)
        weights = weight_words(above, kind)["x0"].high
        worse = 1 / at(above, "snr") - _left(case, above).high
        sigma2 = float(_last_variance(case, kind).high[0])
        missed = float(1 / at(last, "snr")[0] - _left(case, last).high[0])
        outputs += [prior, np.asarray(terms + weights * worse), np.asarray(data + missed / sigma2 / 2), entropy]
    return tuple(outputs)


def _with_last_variance(case: Case, sigma2: float) -> Outputs:
    """In the step to level 0 of the posterior variance."""
    outputs = list(_signs(case, 1, 1, 1))
    left = float(_left(case, _split(case)[1]).high[0])
    outputs[2] = np.asarray((LOG_2PI + np.log(sigma2) + left / sigma2) / 2)
    return tuple(outputs)


def _variances_left_away(case: Case) -> Outputs:
    outputs = list(_signs(case, 1, 1, 1))
    above, _ = _split(case)
    outputs[5] = np.asarray(weight_words(above, "beta")["x0"].high * _left(case, above).high)
    return tuple(outputs)


def _swapped(case: Case) -> Outputs:
    """The divergences of the model from the posterior; with equal variances they are the same."""
    outputs = list(_signs(case, 1, 1, 1))
    above, _ = _split(case)
    ratio = step(above, "beta") / step(above, "beta_tilde")
    missed = weight_words(above, "posterior")["x0"].high * _left(case, above).high
    outputs[5] = np.asarray((ratio - 1 - np.log(ratio)) / 2 + missed)
    return tuple(outputs)


OF_NORMAL_DATA = Law(
    id="bound/oracle",
    needs="normal_data_bound",
    statement=r"x_0\sim\mathcal N(m, v),\ \hat x_0 = \mathbb E[x_0\mid x_t]:\quad"
    r" \mathbb E L_{t-1} = \tfrac12(r - 1 - \log r) + w^x_{t|s}\frac{\bar\beta_tv}{\bar\alpha_tv+\bar\beta_t},"
    r"\quad \mathbb E L_0 = \tfrac12\left[\log 2\pi\sigma^2 + \frac{\bar\beta_tv}{\sigma^2(\bar\alpha_tv+\bar\beta_t)}\right]",
    source="ho2020, eq. (5); bao2022, theorem 1",
    cases=_walks,
    call=_call,
    expect=_expected,
    mistakes=(
        Mistake("sign_of_the_reconstruction", lambda c: _signs(c, 1, 1, -1), "E24"),
        Mistake("sign_of_the_divergences", lambda c: _signs(c, -1, -1, 1), "E25"),
        Mistake("sign_of_the_bound", lambda c: _signs(c, -1, -1, -1), "E25"),
        Mistake("arguments_swapped", _swapped, "E27"),
        Mistake("target_noise_is_not_in_the_input", _without_the_network, "E33"),
        Mistake("variance_of_1e_20_in_the_last_step", lambda c: _with_last_variance(c, 1e-20), "E36"),
        Mistake("variances_left_away", _variances_left_away),
        Mistake("prior_forgotten", lambda c: _signs(c, 0, 1, 1)),
        Mistake("half_forgotten", lambda c: _signs(c, 1, 2, 1)),
    ),
    kind="coefficient",
)

LAWS = (OF_NORMAL_DATA,)
