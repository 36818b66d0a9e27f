"""What the tests of `ddpm_ref.reference` share: an oracle that knows only the definitions, and a count of what was compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.reference.schedule import NoiseSchedule

COMPARED: Counter[str] = Counter()


def nearest_float(value: Any) -> float:
    """The float64 nearest to an mpmath number or a fraction: one integer division, which CPython rounds correctly."""
    if isinstance(value, Fraction):
        above, below = value.numerator, value.denominator
    elif not mpmath.isfinite(value):
        return float(value)
    else:
        sign, mantissa, exponent, _ = value._mpf_
        above, below = -mantissa if sign else mantissa, 1
        above, below = (above << exponent, 1) if exponent >= 0 else (above, 1 << -exponent)
    try:
        return above / below
    except OverflowError:
        return float("inf")


class Oracle:
    """Tables from their definitions, in mpmath: 100 working digits unless the betas need more."""

    def __init__(self, betas: Any, digits: int = 100):
        self.mp = mpmath.mp.clone()
        self.mp.dps = digits
        self.beta = [self.mp.mpf(0), *map(self.mp.mpf, np.asarray(betas).tolist())]
        self.alpha_bar = [self.mp.mpf(1)]
        for beta in self.beta[1:]:
            self.alpha_bar.append(self.alpha_bar[-1] * (1 - beta))

    def between(self, t: int, s: int) -> dict[str, Any]:
        """Every entry of the pair, by name."""
        sqrt, inf = self.mp.sqrt, self.mp.inf
        at, as_ = self.alpha_bar[t], self.alpha_bar[s]
        bt, bs = 1 - at, 1 - as_
        # of one step they are known exactly, ties included
        b = self.beta[t] if s == t - 1 else 1 - at / as_
        a = 1 - b
        tilde = b * bs / bt
        return {
            "alpha": a,
            "beta": b,
            "beta_tilde": tilde,
            "sqrt_alpha": sqrt(a),
            "sqrt_beta": sqrt(b),
            "std_tilde": sqrt(tilde),
            "recip_sqrt_alpha": 1 / sqrt(a) if a else inf,
            "x0_weight": sqrt(as_) * b / bt,
            "xt_weight": sqrt(a) * bs / bt,
            "eps_weight": b / (sqrt(a) * sqrt(bt)) if a else inf,
            "reverse_variance_bound": b / a if a else inf,
        }

    def level(self, t: int) -> dict[str, Any]:
        """Every table entry of level ``t``, by name."""
        sqrt, inf = self.mp.sqrt, self.mp.inf
        at = self.alpha_bar[t]
        bt = 1 - at
        level = {
            "alpha_bar": at,
            "beta_bar": bt,
            "sqrt_alpha_bar": sqrt(at),
            "sqrt_beta_bar": sqrt(bt),
            "snr": at / bt if bt else inf,
            "sqrt_recip_alpha_bar": 1 / sqrt(at) if at else inf,
            "sqrt_recipm1_alpha_bar": sqrt(bt / at) if at else inf,
        }
        if t == 0:
            zero, one = self.mp.mpf(0), self.mp.mpf(1)
            first = {"alpha": one, "beta": zero, "beta_tilde": zero, "sqrt_alpha": one, "sqrt_beta": zero}
            first |= {"recip_sqrt_alpha": one, "eps_weight": zero, "noise_share": one}
            return level | first | {"posterior_x0_weight": one, "posterior_xt_weight": zero}
        pair = self.between(t, t - 1)
        del pair["std_tilde"], pair["reverse_variance_bound"]
        pair["posterior_x0_weight"], pair["posterior_xt_weight"] = pair.pop("x0_weight"), pair.pop("xt_weight")
        return level | pair | {"noise_share": sqrt(pair["beta"] / bt)}

    def logarithms(self, t: int) -> dict[str, Any]:
        """The three logarithms of level ``t >= 1``."""
        at = self.alpha_bar[t]
        bt = 1 - at
        log_at = self.mp.log(at) if at else -self.mp.inf
        return {"log_alpha_bar": log_at, "log_beta_bar": self.mp.log(bt), "log_snr": log_at - self.mp.log(bt)}


def error_over_bound(got: Any, values: Sequence[Any], scales: Sequence[Any], roundings: int) -> float:
    """The worst error of float64 results as a fraction of the bound of NUMERICS section 1."""
    high = np.array([nearest_float(v) for v in values])
    low = np.array([0.0 if np.isinf(h) else float(v - type(v)(h)) for v, h in zip(values, high, strict=True)])
    expected = Expected(DoubleDouble(high, low), np.array([float(s) for s in scales]), roundings)
    got = np.asarray(got, dtype=np.float64).ravel()
    assert got.shape == high.shape
    COMPARED["results within their bound"] += got.size
    return float(np.max(expected.error_over_bound(got, Claim("fp64")), initial=0.0))


@pytest.fixture(scope="session")
def oracle() -> type[Oracle]:
    """`Oracle`."""
    return Oracle


@pytest.fixture(scope="session")
def rounded() -> Callable[[Any], float]:
    """`nearest_float`."""
    return nearest_float


@pytest.fixture(scope="session")
def worst() -> Callable[..., float]:
    """`error_over_bound`."""
    return error_over_bound


@pytest.fixture(scope="session")
def compared() -> Counter[str]:
    """How many numbers were compared, by kind; printed at the end."""
    return COMPARED


@pytest.fixture(scope="session")
def mp() -> Any:
    """An mpmath context of 60 digits of its own."""
    context = mpmath.mp.clone()
    context.dps = 60
    return context


def _betas() -> Iterator[tuple[str, list[float]]]:
    rng = np.random.default_rng(20)
    yield "unordered", rng.uniform(1e-6, 0.6, 12).tolist()
    yield "decreasing", np.linspace(0.4, 1e-3, 9).tolist()
    yield "zero terminal SNR", [1e-4, 0.3, 0.02, 0.5, 1.0]
    yield "one level", [0.37]


@pytest.fixture(params=list(_betas()), ids=lambda case: case[0])
def any_schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    """A few short schedules of every kind."""
    return NoiseSchedule.from_betas(request.param[1])


@pytest.fixture(scope="session")
def lin1000() -> NoiseSchedule:
    """LIN1000 of EQUATIONS."""
    return NoiseSchedule.from_betas(
        [float(Fraction(1e-4) + (Fraction(0.02) - Fraction(1e-4)) * k / 999) for k in range(1000)]
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much was compared, and how much of it was unequal."""
    if COMPARED:
        terminalreporter.section("ddpm_ref.reference")
        for what, count in sorted(COMPARED.items()):
            terminalreporter.line(f"{what}: {count}")
