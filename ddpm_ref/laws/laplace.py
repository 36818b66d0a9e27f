"""The law of the Laplace schedule, whose log-SNR follows the quantiles of a Laplace distribution."""

from __future__ import annotations

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Source
from ddpm_ref.laws.registry import Law, Mistake, Outputs
from ddpm_ref.reference.named_schedules import laplace_schedule
from ddpm_ref.typing import Array

MAX_BETA = 0.999
SCALE = 0.5
# The quantile: four roundings of its argument, a logarithm and a product; the exponential of it, a sum and a quotient; all that
# twice, for both levels, and in the end a quotient and a difference.
ROUNDINGS = 24


def _levels(source: Source, claim: Claim) -> Case:
    return Case(claim, None, {"T": np.asarray(source.choice([10, 1, 2, 3, 50, 1000]))})


def _alpha_bar(T: int, *, scale: float = SCALE, offset: float = 0.0) -> Array:
    """By the formula as it is printed, with a number added under the logarithm."""
    u = np.arange(T + 1) / T
    with np.errstate(divide="ignore"):
        log_snr = -scale * np.sign(0.5 - u) * np.log(1 - 2 * np.abs(0.5 - u) + offset)
        return np.asarray(1 / (1 + np.exp(-log_snr)))


def _betas(alpha_bar: Array) -> Outputs:
    return (np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], MAX_BETA),)


def _expected(case: Case) -> tuple[Expected, ...]:
    """Betas are differences from 1, and no digit is asked for below those of alpha: S is that of ``1 - alpha``."""
    T = int(case.T)
    beta = laplace_schedule(T).beta[1:]
    # What an error of the argument of the logarithm, itself a difference from 1, does to alpha_bar.
    u = np.arange(1, T) / T
    inner = SCALE * (1 - _alpha_bar(T)[1:-1]) * (1 + 1 / (2 * np.minimum(u, 1 - u)))
    condition = np.concatenate([[0.0], inner, [0.0]])
    return (Expected(DoubleDouble.of(beta), beta + (1 - beta) * (1 + condition[1:] + condition[:-1]), ROUNDINGS),)


OFFSET = 1e-6  # what code adds under the logarithm to keep it finite at both ends

BETAS = Law(
    id="schedule/laplace_betas",
    needs="laplace_betas",
    statement=r"\beta_t = \min(1 - \bar\alpha_t/\bar\alpha_{t-1},\ 0.999),\quad \log\frac{\bar\alpha_t}{1-\bar\alpha_t}"
    r" = -\tfrac12\,\mathrm{sgn}(\tfrac12 - u)\ln(1 - 2|u - \tfrac12|),\quad u = t/T",
    source="hang2024, table 1",
    cases=_levels,
    call=lambda impl, c: impl.laplace_betas(int(c.T)),
    expect=_expected,
    mistakes=(
        Mistake("root_of_alpha_bar_taken_for_it", lambda c: _betas(np.sqrt(_alpha_bar(int(c.T), offset=OFFSET)))),
        Mistake("number_added_under_the_logarithm", lambda c: _betas(_alpha_bar(int(c.T), offset=OFFSET))),
        Mistake("scale_of_the_quantiles_forgotten", lambda c: _betas(_alpha_bar(int(c.T), scale=1.0))),
        Mistake("half_log_snr", lambda c: _betas(_alpha_bar(int(c.T), scale=SCALE / 2))),
        Mistake("not_clipped", lambda c: (1 - _alpha_bar(int(c.T))[1:] / _alpha_bar(int(c.T))[:-1],)),
    ),
    kind="coefficient",
)

LAWS = (BETAS,)
