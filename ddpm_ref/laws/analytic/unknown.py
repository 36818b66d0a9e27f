"""Laws of what the prediction leaves unknown of the data: the averages it is estimated from, identities, clipping."""

from __future__ import annotations

from math import ceil, fsum, log2

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.analytic.cases import (
    NOISE_TO_SIGNAL,
    draw_share,
    largest,
    noise_to_signal,
    ratio,
    reach_of,
    unknown_of,
    with_range,
    with_statistics,
)
from ddpm_ref.laws.cases import Case, Cases, Source, at, at_level, draw_levels, draw_schedule, draw_shape, draw_tensor
from ddpm_ref.laws.registry import Law, Mistake, exact
from ddpm_ref.typing import Array

# --- statistics -------------------------------------------------------------------------------------------------------


def _answers(*names: str) -> Cases:
    def cases(source: Source, claim: Claim) -> Case:
        shape = draw_shape(source)
        shape = shape if 0 not in shape and shape else (5, 3)
        return Case(claim, None, {name: draw_tensor(source, shape, claim, reach=3.0) for name in names})

    return cases


def _mean_of_squares(values: DoubleDouble) -> tuple[Expected, ...]:
    squares = values * values
    parts = [*squares.high.ravel().tolist(), *squares.low.ravel().tolist()]
    n, high = squares.high.size, fsum(parts)
    mean = DoubleDouble(np.asarray(high), np.asarray(fsum([*parts, -high]))) / float(n)
    # A tree of that depth for the sum; a difference (its square takes it twice), a square and a quotient.
    return (Expected(mean, mean.high, ceil(log2(n)) + 32 + 4),)


EPS_MEAN_SQUARE = Law(
    id="analytic/eps_mean_square",
    needs="eps_mean_square",
    statement=r"\frac{1}{Md}\sum_m\lVert\epsilon_\theta(x_t^{(m)}, t)\rVert^2",
    source="bao2022, eq. (8)",
    cases=_answers("eps"),
    call=lambda impl, c: impl.eps_mean_square(c.eps),
    expect=lambda c: _mean_of_squares(DoubleDouble.of(c.eps)),
    mistakes=(
        Mistake("summed_over_the_dimensions", lambda c: (np.asarray(np.sum(c.eps**2) / len(c.eps)),)),
        Mistake("square_of_the_mean", lambda c: (np.asarray(np.mean(c.eps) ** 2),)),
        Mistake("mean_absolute_value", lambda c: (np.asarray(np.mean(np.abs(c.eps))),), "E58"),
        Mistake("unknown_share_instead", lambda c: (1 - np.mean(c.eps**2),), "E54"),
    ),
    kind="reduction",
)

RESIDUAL_MEAN_SQUARE = Law(
    id="analytic/residual_mean_square",
    needs="residual_mean_square",
    statement=r"\frac{1}{Md}\sum_m\lVert\varepsilon_m - \epsilon_\theta(x_t^{(m)}, t)\rVert^2",
    source="ho2020, eq. (14)",
    cases=_answers("noise", "eps"),
    call=lambda impl, c: impl.residual_mean_square(c.noise, c.eps),
    expect=lambda c: _mean_of_squares(DoubleDouble.of(c.noise) - c.eps),
    mistakes=(
        Mistake("mean_square_complemented_as_if_optimal", lambda c: (1 - np.mean(c.eps**2),), "E66"),
        Mistake("l1_loss_taken_for_the_mean_square", lambda c: (np.mean(np.abs(c.noise - c.eps)),), "E58"),
        Mistake("summed_over_the_dimensions", lambda c: (np.sum((c.noise - c.eps) ** 2) / len(c.eps),)),
    ),
    kind="reduction",
)

# --- the data given x_t -----------------------------------------------------------------------------------------------

SIGMA_HAT_SQUARED = Law(
    id="analytic/sigma_hat_squared",
    needs="sigma_hat_squared",
    statement=r"\hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}\left(1 - \frac1d\mathbb E\lVert\hat\varepsilon^*\rVert^2\right)",
    source="bao2022, eq. (7) and (9)",
    cases=with_statistics(at_level(zero_snr=False), energy=(0.0, 1.0)),
    call=lambda impl, c: impl.sigma_hat_squared(c.schedule, c.t, c.energy),
    expect=lambda c: (exact(noise_to_signal(c) * (1.0 - DoubleDouble.of(c.energy)), NOISE_TO_SIGNAL + 2),),
    mistakes=(
        Mistake("factor_not_complemented", lambda c: (ratio(c) * c.energy,), "E54"),
        Mistake("ddim_variance_taken_for_it", lambda c: (at(c, "beta_tilde"),), "E57"),
        Mistake("signal_and_noise_exchanged", lambda c: ((1 - c.energy) / ratio(c),)),
        Mistake("energy_of_the_score_taken", lambda c: (ratio(c) * (1 - at(c, "beta_bar") * c.energy),)),
        Mistake("shifted_by_one", lambda c: ((at(c, "beta_bar", -1) / at(c, "alpha_bar", -1)) * (1 - c.energy),)),
    ),
    kind="coefficient",
)


def _imperfect_networks(source: Source, claim: Claim) -> Case:
    """Residuals of two networks that are no conditional mean: c times the optimum, and a median.

    The optimum has the energy m, and c times it that of :math:`c^2m` and the residual :math:`1 - 2cm + c^2m`. The
    median is that of a noise which x_t says nothing of, :math:`\\sqrt{q}` with probability 1/(1 + q) > 1/2 and
    :math:`-1/\\sqrt q` otherwise: its energy is q, its residual 1 + q.
    """
    case = at_level(zero_snr=False)(source, claim)
    shape = np.shape(case.t)
    optimum, factor = draw_share(source, claim, shape), draw_share(source, claim, shape, 0.5, 1.5)
    residual = claim.storing.round(1 - 2 * factor * optimum + factor**2 * optimum)
    values = {
        "residual": residual,
        "energy": factor**2 * optimum,
        "l1_residual": draw_share(source, claim, shape, 1.0, 2.0),
    }
    return Case(claim, case.schedule, {**case.values, **{k: np.asarray(v) for k, v in values.items()}})


RESIDUAL = Law(
    id="analytic/sigma_hat_squared_from_residual",
    needs="sigma_hat_squared_from_residual",
    statement=r"\frac{\bar\beta_t}{\bar\alpha_t}\cdot\frac1d\mathbb E\lVert\varepsilon - \epsilon_\theta\rVert^2"
    r"\quad\text{for any}\ \epsilon_\theta",
    source="bao2022, proof of theorem 1; bao2022extended",
    cases=_imperfect_networks,
    call=lambda impl, c: tuple(
        impl.sigma_hat_squared_from_residual(c.schedule, c.t, r) for r in (c.residual, c.l1_residual)
    ),
    expect=lambda c: tuple(exact(noise_to_signal(c) * r, NOISE_TO_SIGNAL + 1) for r in (c.residual, c.l1_residual)),
    mistakes=(
        Mistake(
            "identity_of_the_optimum_for_any_network",
            lambda c: (ratio(c) * (1 - c.energy), ratio(c) * c.l1_residual),
            "E66",
        ),
        Mistake(
            "identity_of_the_mean_for_a_median",
            lambda c: (ratio(c) * c.residual, ratio(c) * (1 - (c.l1_residual - 1))),
            "E58",
        ),
        Mistake("complemented", lambda c: (ratio(c) * (1 - c.residual), ratio(c) * (1 - c.l1_residual))),
        Mistake("residual_of_the_noise_returned", lambda c: (c.residual, c.l1_residual)),
    ),
    kind="coefficient",
)

COVARIANCE = Law(
    id="analytic/x0_posterior_covariance",
    needs="x0_posterior_covariance",
    statement=r"\mathrm{Cov}[x_0\mid x_t] = \frac{\bar\beta_t}{\bar\alpha_t}\mathrm{Cov}[\varepsilon\mid x_t]",
    source="bao2022, proof of theorem 1",
    cases=at_level("eps_covariance", zero_snr=False),
    call=lambda impl, c: impl.x0_posterior_covariance(c.schedule, c.t, c.eps_covariance),
    expect=lambda c: (exact(noise_to_signal(c, c.eps_covariance) * c.eps_covariance, NOISE_TO_SIGNAL + 1),),
    mistakes=(
        Mistake("average_over_xt_for_each", lambda c: (ratio(c) * (_averaged(c.eps_covariance)),), "E56"),
        Mistake("signal_and_noise_exchanged", lambda c: (c.eps_covariance / ratio(c),)),
        Mistake("root_of_the_ratio", lambda c: (np.sqrt(ratio(c)) * c.eps_covariance,)),
        Mistake("covariance_of_the_noise_returned", lambda c: (c.eps_covariance,)),
    ),
)


def _averaged(values: Array) -> Array:
    return np.zeros_like(values) + (values.mean(axis=0, keepdims=True) if values.ndim and values.size else values)


def _second_moments(source: Source, claim: Claim) -> Case:
    schedule = draw_schedule(source, zero_snr=False)
    batch = (64,) if source.bulk else source.choice([(), (3,), (2, 2)])
    d = 16 if source.bulk else source.choice([2, 1, 3])
    moment = draw_share(source, claim, (*batch, d, d))
    return Case(claim, schedule, {"t": draw_levels(source, batch, 1, schedule.T), "moment": moment})


def _complement(case: Case) -> Array:
    return np.asarray(np.eye(case.moment.shape[-1]) - case.moment)


def _averaged_covariance(case: Case) -> tuple[Expected, ...]:
    unknown = DoubleDouble.of(np.zeros_like(case.moment) + np.eye(case.moment.shape[-1])) - case.moment
    return (exact(noise_to_signal(case, case.moment) * unknown, NOISE_TO_SIGNAL + 2),)


COVARIANCE_AVERAGED = Law(
    id="analytic/x0_posterior_covariance_averaged",
    needs="x0_posterior_covariance_averaged",
    statement=r"\mathbb E\,\mathrm{Cov}[x_0\mid x_t] = \frac{\bar\beta_t}{\bar\alpha_t}"
    r"\left(I - \mathbb E[\hat\varepsilon^*\hat\varepsilon^{*\top}]\right)",
    source="bao2022, theorem 1",
    cases=_second_moments,
    call=lambda impl, c: impl.x0_posterior_covariance_averaged(c.schedule, c.t, c.moment),
    expect=_averaged_covariance,
    mistakes=(
        Mistake("factor_not_complemented", lambda c: (ratio(c) * c.moment,), "E54"),
        Mistake("one_in_place_of_the_identity", lambda c: (ratio(c) * (1 - c.moment),)),
        Mistake("signal_and_noise_exchanged", lambda c: (_complement(c) / ratio(c),)),
    ),
)


def _surrogate_expected(case: Case) -> tuple[Expected, ...]:
    root, like = case.level("sqrt_beta_bar", case.xt), case.xt
    signal, noisy = case.level("sqrt_alpha_bar", like), root * case.eps
    mean = (DoubleDouble.of(case.xt) - noisy) / signal
    scale = (np.abs(case.xt) + np.abs(noisy.high)) / signal.high
    # The two roots, product, difference and quotient; the variance is passed on.
    variance = DoubleDouble.of(case.unknown.reshape(np.shape(case.t) + (1,) * (like.ndim - np.ndim(case.t))))
    return Expected(mean, scale, 5), exact(variance, 1)


def _x0_of(case: Case) -> Array:
    return np.asarray((case.xt - at(case, "sqrt_beta_bar") * case.eps) / at(case, "sqrt_alpha_bar"))


SURROGATE = Law(
    id="analytic/x0_gaussian_approximation",
    needs="x0_gaussian_approximation",
    statement=r"\mathcal N\left(\frac{x_t - \sqrt{\bar\beta_t}\hat\varepsilon}{\sqrt{\bar\alpha_t}},\ \hat\sigma_t^2I\right)",
    source="bao2022, theorem 1",
    cases=with_statistics(at_level("xt", "eps", zero_snr=False), unknown=(0.0, 1.0)),
    call=lambda impl, c: tuple(impl.x0_gaussian_approximation(c.schedule, c.xt, c.t, c.eps, c.unknown)),
    expect=_surrogate_expected,
    mistakes=(
        Mistake("ddim_variance_taken_for_it", lambda c: (_x0_of(c), 0 * unknown_of(c) + at(c, "beta_tilde")), "E57"),
        Mistake("standard_deviation_returned_as_variance", lambda c: (_x0_of(c), np.sqrt(unknown_of(c))), "E23"),
        Mistake("xt_returned_as_mean", lambda c: (c.xt, unknown_of(c))),
    ),
)


def _clipped(case: Case) -> tuple[Expected, ...]:
    cap = largest(case)
    over, under = case.estimate > cap.high, case.estimate < 0
    high = np.where(under, 0.0, np.where(over, cap.high, case.estimate))
    return (exact(DoubleDouble(high, np.where(over & ~under, cap.low, 0.0)), NOISE_TO_SIGNAL),)


CLIP = Law(
    id="analytic/clip_sigma_hat_squared",
    needs="clip_sigma_hat_squared",
    statement=r"\min\left(\max(\hat\sigma_t^2, 0), \frac{\bar\beta_t}{\bar\alpha_t}, \left(\frac{b-a}{2}\right)^2\right)",
    source="bao2022, section 3.1 and theorem 2",
    cases=with_range(with_statistics(at_level(zero_snr=False), estimate=(-1.0, 8.0))),
    call=lambda impl, c: impl.clip_sigma_hat_squared(c.schedule, c.estimate, c.t, *reach_of(c))[0],
    expect=_clipped,
    mistakes=(
        Mistake("not_clipped", lambda c: (c.estimate,), "E62"),
        Mistake("negative_estimates_kept", lambda c: (np.minimum(c.estimate, largest(c).high),), "E62"),
        Mistake("range_of_the_data_ignored", lambda c: (np.clip(c.estimate, 0, ratio(c)),)),
        Mistake(
            "width_instead_of_half_of_it",
            lambda c: (np.clip(c.estimate, 0, np.minimum(ratio(c), (c.high - c.low) ** 2)),),
        ),
        Mistake("range_minus_one_to_one_assumed", lambda c: (np.clip(c.estimate, 0, np.minimum(ratio(c), 1.0)),)),
    ),
    kind="coefficient",
)

LAWS = (
    EPS_MEAN_SQUARE,
    RESIDUAL_MEAN_SQUARE,
    SIGMA_HAT_SQUARED,
    RESIDUAL,
    COVARIANCE,
    COVARIANCE_AVERAGED,
    SURROGATE,
    CLIP,
)
