"""Laws of conversions between predictions asked for by name, and of the clipped pair that still explains x_t."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Source, at, at_level, words
from ddpm_ref.laws.registry import Law, Mistake, Outputs
from ddpm_ref.typing import Array

KINDS = words("prediction", "eps", "x0", "v", "score")
ALIASES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
PAIRS = (*product(KINDS, KINDS), *((alias, "x0") for alias in ALIASES))
Weights = tuple[DoubleDouble, DoubleDouble]

# Two conversions, one after the other by way of the noise: a quotient of two entries, a product and a sum each.
CONVERTED = 10


def _weights(source: str, target: str, a: DoubleDouble, b: DoubleDouble) -> Weights:
    """Coefficients of x_t and of the source: first of the noise, then of what is asked, from x_t = a x_0 + b eps."""
    one, none = DoubleDouble.of(np.ones(a.shape)), DoubleDouble.of(np.zeros(a.shape))
    if source == target:
        return none, one
    noise = {"eps": (none, one), "x0": (one / b, -(a / b)), "v": (b, a), "score": (none, -b)}[source]
    if target == "eps":
        return noise
    if (source, target) in (("x0", "v"), ("v", "x0")):  # in one, where b and a would cancel
        return (a / b, -(one / b)) if source == "x0" else (a, -b)
    of_noise = {"x0": (one / a, -(b / a)), "v": (-(b / a), one / a), "score": (none, -(one / b))}[target]
    return of_noise[0] + of_noise[1] * noise[0], of_noise[1] * noise[1]


def _converted(case: Case, source: str, target: str) -> Expected:
    x, value = _weights(source, target, case.level("sqrt_alpha_bar", case.xt), case.level("sqrt_beta_bar", case.xt))
    total = x * case.xt + value * case.value
    return Expected(total, np.abs(x.high * case.xt) + np.abs(value.high * case.value), CONVERTED)


STRIDE, AT_ONCE = 7, 3


def _three(first: int) -> list[tuple[str, str]]:
    """Conversions of the same numbers."""
    return [PAIRS[(first + STRIDE * i) % len(PAIRS)] for i in range(AT_ONCE)]


def _pairs(case: Any) -> list[tuple[str, str]]:
    return _three(int(case.pair))


words("pair", *(" and ".join(f"{a} to {b}" for a, b in _three(i)) for i in range(len(PAIRS))))


def _expected(case: Case) -> tuple[Expected, ...]:
    return tuple(_converted(case, ALIASES.get(source, source), target) for source, target in _pairs(case))


def _cases(source: Source, claim: Claim) -> Case:
    case = at_level("xt", "value", zero_snr=False)(source, claim)
    pair = np.asarray(source.choice(range(len(PAIRS))), dtype=np.int64)
    return Case(claim, case.schedule, {**case.values, "pair": pair})


def _in_float64(case: Case, source: str, target: str, a: Array, b: Array) -> Array:
    noise = {
        "eps": case.value,
        "x0": (case.xt - a * case.value) / b,
        "v": b * case.xt + a * case.value,
        "score": -b * case.value,
    }
    eps = noise[ALIASES.get(source, source)]
    found = {"eps": eps, "x0": (case.xt - b * eps) / a, "v": (eps - b * case.xt) / a, "score": -eps / b}
    return np.asarray(found[ALIASES.get(target, target)])


Change: TypeAlias = Callable[[str, str, Array, Array], tuple[str, str, Array, Array]]


def _mistaken(change: Change, shift: int = 0) -> Callable[[Case], Outputs]:
    def value(case: Case) -> Outputs:
        a, b = at(case, "sqrt_alpha_bar", shift), at(case, "sqrt_beta_bar", shift)
        with np.errstate(divide="ignore", invalid="ignore"):
            return tuple(_in_float64(case, *change(source, target, a, b)) for source, target in _pairs(case))

    return value


CONVERT = Law(
    id="prediction/convert",
    needs="convert",
    statement=r"x_t = \sqrt{\bar\alpha_t}x_0 + \sqrt{\bar\beta_t}\varepsilon,"
    r"\ v = \sqrt{\bar\alpha_t}\varepsilon - \sqrt{\bar\beta_t}x_0,"
    r"\ s = -\varepsilon/\sqrt{\bar\beta_t}:\quad\text{any from any other}",
    source="ho2020, eq. (4); salimans2022, appendix D; vincent2011",
    cases=_cases,
    call=lambda impl, c: tuple(impl.convert(c.schedule, c.xt, c.t, c.value, *pair) for pair in _pairs(c)),
    expect=_expected,
    mistakes=(
        Mistake("source_and_target_exchanged", _mistaken(lambda source, target, a, b: (target, source, a, b))),
        Mistake("signal_and_noise_exchanged", _mistaken(lambda source, target, a, b: (source, target, b, a))),
        Mistake(
            "variance_used_as_standard_deviation", _mistaken(lambda source, target, a, b: (source, target, a, b**2))
        ),
        Mistake("shifted_by_one", _mistaken(lambda *right: right, shift=-1)),
    ),
    kind="metamorphic",
)

# --- clipped, and still explaining x_t --------------------------------------------------------------------------------

RANGES = ((-1.0, 1.0), (0.0, 1.0), (-4.0, 0.5))


def _clip_cases(source: Source, claim: Claim) -> Case:
    case = at_level("xt", "value", zero_snr=False)(source, claim)
    kind = np.asarray(source.choice(range(3)), dtype=np.int64)
    low, high = source.choice(RANGES)
    return Case(
        claim, case.schedule, {**case.values, "prediction": kind, "low": np.asarray(low), "high": np.asarray(high)}
    )


def _clip_expected(case: Case) -> tuple[Expected, ...]:
    a, b = case.level("sqrt_alpha_bar", case.xt), case.level("sqrt_beta_bar", case.xt)
    found = _converted(case, KINDS[int(case.prediction)], "x0")
    high = np.clip(found.value.high, case.low, case.high)
    x0 = DoubleDouble(high, np.where(high == found.value.high, found.value.low, 0.0))
    eps = (DoubleDouble.of(case.xt) - a * x0) / b
    # The noise takes over what x0 is off by, stored or not, and is itself a conversion of five roundings.
    own, stored = (np.abs(case.xt) + a.high * np.abs(high)) / b.high, case.stored_between_calls
    taken = a.high / b.high * (CONVERTED * np.asarray(found.scale) + stored * np.abs(high))
    return Expected(x0, found.scale, CONVERTED), Expected(eps, own + taken / CONVERTED, CONVERTED)


def _clipped(case: Case, x0: Array, explained: Array | None = None) -> Outputs:
    """A clipped x0, and the noise that goes with it or with another."""
    low, high = float(case.low), float(case.high)
    clipped = np.clip(x0, low, high)
    eps = (case.xt - at(case, "sqrt_alpha_bar") * (clipped if explained is None else explained)) / at(
        case, "sqrt_beta_bar"
    )
    return clipped, eps


def _x0(case: Case) -> Array:
    return _in_float64(case, KINDS[int(case.prediction)], "x0", at(case, "sqrt_alpha_bar"), at(case, "sqrt_beta_bar"))


CLIPPED = Law(
    id="prediction/clipped_prediction",
    needs="clipped_prediction",
    statement=r"x_0 = \mathrm{clip}(\hat x_0),\quad \varepsilon = (x_t - \sqrt{\bar\alpha_t}\,x_0)/\sqrt{\bar\beta_t}",
    source="dhariwal2021 and nichol2021, code",
    cases=_clip_cases,
    call=lambda impl, c: impl.clipped_prediction(
        c.schedule, c.xt, c.t, c.value, KINDS[int(c.prediction)], float(c.low), float(c.high)
    ),
    expect=_clip_expected,
    mistakes=(
        Mistake("noise_left_as_it_was", lambda c: _clipped(c, _x0(c), _x0(c))),
        Mistake("not_clipped", lambda c: (_x0(c), _clipped(c, _x0(c), _x0(c))[1])),
        Mistake("prediction_clipped_instead_of_x0", lambda c: _clipped(c, c.value)),
        Mistake("outputs_exchanged", lambda c: _clipped(c, _x0(c))[::-1]),
    ),
    kind="metamorphic",
)

LAWS = (CONVERT, CLIPPED)
