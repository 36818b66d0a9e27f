"""Laws of statistics with axes of their own, to the right of those of the levels, and of what clipping tells about itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.analytic.cases import NOISE_TO_SIGNAL, draw_share, ratio
from ddpm_ref.laws.analytic.unknown import RESIDUAL, SIGMA_HAT_SQUARED
from ddpm_ref.laws.cases import Case, Source, draw_schedule
from ddpm_ref.laws.registry import Law, Mistake, Outputs, exact
from ddpm_ref.typing import Array


def _statistics_with_axes(source: Source, claim: Claim) -> Case:
    """A statistic with an axis of its own to the right of that of the levels."""
    schedule, n = draw_schedule(source, zero_snr=False), 16 if source.bulk else source.integer(1, 4)
    t = np.array([source.integer(1, schedule.T) for _ in range(n)], dtype=np.int64)
    return Case(claim, schedule, {"t": t, "energy": draw_share(source, claim, (n, n))})


def _both_averages(impl: Any, c: Any) -> tuple[object, ...]:
    named = impl.x0_variance
    return (
        impl.sigma_hat_squared(c.schedule, c.t, c.energy),
        named(c.schedule, c.t, c.energy),
        named(c.schedule, c.t, residual_mean_square=c.energy),
    )


def _both_expected(case: Case) -> tuple[Expected, ...]:
    factor = case.level("beta_bar", case.energy) / case.level("alpha_bar", case.energy)
    complemented = exact(factor * (1.0 - DoubleDouble.of(case.energy)), NOISE_TO_SIGNAL + 2)
    return complemented, complemented, exact(factor * case.energy, NOISE_TO_SIGNAL + 1)


def _averages(case: Case, factor: Array, *, complement: bool = True) -> Outputs:
    first = factor * (1 - case.energy) if complement else factor * case.energy
    return first, first, factor * case.energy


STATISTICS = Law(
    id="analytic/x0_variance",
    needs="x0_variance sigma_hat_squared",
    statement=r"\frac{\bar\beta_t}{\bar\alpha_t}\left(1 - m\right)\text{ from the energy},\ \frac{\bar\beta_t}{\bar\alpha_t}r"
    r"\text{ from the residual, with axes of their own}",
    source=f"{SIGMA_HAT_SQUARED.source}; {RESIDUAL.source}",
    cases=_statistics_with_axes,
    call=_both_averages,
    expect=_both_expected,
    mistakes=(
        Mistake("factor_along_the_last_axis", lambda c: _averages(c, ratio(c).reshape(1, -1))),
        Mistake("identity_of_the_residual_for_the_energy", lambda c: _averages(c, ratio(c), complement=False), "E54"),
        Mistake("signal_and_noise_exchanged", lambda c: _averages(c, 1 / ratio(c))),
    ),
    kind="coefficient",
)


def _estimates(source: Source, claim: Claim) -> Case:
    """Estimates of all kinds, none so near a bound that a rounding decides; with an axis of their own."""
    case = _statistics_with_axes(source, claim)
    cap = np.minimum(ratio(case), 1.0)
    share = np.asarray([source.choice([0.5, -0.5, 2.0]) for _ in range(case.energy.size)]).reshape(case.energy.shape)
    estimate = claim.storing.round(share * cap.reshape(-1, 1))
    return Case(claim, case.schedule, {"t": case.t, "estimate": estimate})


def _clipped(case: Case) -> tuple[Expected, ...]:
    ratios = case.level("beta_bar", case.estimate) / case.level("alpha_bar", case.estimate)
    one = ratios.high > 1
    cap = DoubleDouble(np.where(one, 1.0, ratios.high), np.where(one, 0.0, ratios.low))
    low, over = case.estimate < 0, case.estimate > cap.high
    high = np.where(low, 0.0, np.where(over, cap.high, case.estimate))
    clipped = DoubleDouble(high, np.where(over, np.broadcast_to(cap.low, over.shape), 0.0))
    acted = np.where(low | over, 1.0, 0.0)
    return exact(clipped, NOISE_TO_SIGNAL), exact(DoubleDouble.of(acted), 0)


def _clip_of(case: Case, cap: Array, told: Array | None = None) -> Outputs:
    clipped = np.clip(case.estimate, 0.0, cap)
    return clipped, np.where(clipped != case.estimate, 1.0, 0.0) if told is None else told


def _cap(case: Case) -> Array:
    return np.minimum(ratio(case), 1.0).reshape(-1, 1)


CLIPPED_WHERE = Law(
    id="analytic/clipped_where",
    needs="clipped_where",
    statement=r"\min\left(\max(\hat\sigma_t^2, 0), \bar\beta_t/\bar\alpha_t, 1\right),"
    r"\text{ and where that is not } \hat\sigma_t^2",
    source="bao2022, section 3.1 and theorem 2",
    cases=_estimates,
    call=lambda impl, c: impl.clipped_where(c.schedule, c.estimate, c.t, -1.0, 1.0),
    expect=_clipped,
    mistakes=(
        Mistake("bound_along_the_last_axis", lambda c: _clip_of(c, _cap(c).reshape(1, -1))),
        Mistake("where_it_was_kept", lambda c: _clip_of(c, _cap(c), 1.0 - _clip_of(c, _cap(c))[1])),
        Mistake(
            "negative_estimates_not_told", lambda c: _clip_of(c, _cap(c), np.where(c.estimate > _cap(c), 1.0, 0.0))
        ),
    ),
    kind="coefficient",
)

LAWS = (STATISTICS, CLIPPED_WHERE)
