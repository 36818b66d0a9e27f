"""Laws of the term of the data: minus a logarithm, of a density or of the probability of a grey level (nats per element)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble
from ddpm_ref.arithmetic.double_double import TWO_PI, log
from ddpm_ref.laws import decoder
from ddpm_ref.laws.bound.terms import LOG_2PI, WIDEST
from ddpm_ref.laws.cases import Case, Source, draw_shape, draw_tensor
from ddpm_ref.laws.registry import Law, Mistake
from ddpm_ref.laws.running import Running, running, total
from ddpm_ref.typing import Array

# --- a density --------------------------------------------------------------------------------------------------------


def minus_log_density(case: Case) -> Running:
    """Of the data under the model's step."""
    data, mean, logarithm = (running(case, case.values[name]) for name in ("x0", "mean", "log_variance"))
    distance = ((data - mean) * logarithm.times(-0.5).exp()).square
    constant = log(TWO_PI)
    constant = DoubleDouble(np.full(data.value.shape, constant.high), np.full(data.value.shape, constant.low))
    return total(running(case, constant, 1), logarithm, distance).times(0.5)


def density(case: Case, doubled: float = 1.0) -> Array:
    """Minus the logarithm of the density."""
    logarithm = doubled * case.log_variance
    return np.asarray((LOG_2PI + logarithm + (case.x0 - case.mean) ** 2 * np.exp(-logarithm)) / 2)


def _of_data(source: Source, claim: Claim) -> Case:
    shape = draw_shape(source)
    values = {name: draw_tensor(source, shape, claim) for name in ("x0", "mean")}
    return Case(claim, None, {**values, "log_variance": draw_tensor(source, shape, claim, reach=WIDEST)})


OF_THE_DENSITY = Law(
    id="bound/reconstruction_term",
    needs="reconstruction_term",
    statement=r"L_0 = -\log\mathcal N(x_0; \mu_\theta,\sigma^2)"
    r" = \tfrac12\left[\log 2\pi + \log\sigma^2 + (x_0-\mu_\theta)^2/\sigma^2\right]",
    source="ho2020, section 3.3; nichol2021, eq. (4)",
    cases=_of_data,
    call=lambda impl, c: impl.reconstruction_term(c.x0, c.mean, c.log_variance, None),
    expect=lambda c: (minus_log_density(c).expected(),),
    mistakes=(
        Mistake("sign_of_the_logarithm", lambda c: (-density(c),), "E24"),
        Mistake("log_variance_taken_for_log_std", lambda c: (density(c, doubled=2.0),)),
        Mistake("half_of_the_constant_forgotten", lambda c: (density(c) + LOG_2PI / 2,)),
        Mistake("constant_left_away", lambda c: (density(c) - LOG_2PI / 2,)),
        Mistake("logarithm_of_the_variance_left_away", lambda c: (density(c) - c.log_variance / 2,)),
        Mistake("squared_error_without_the_variance", lambda c: ((c.x0 - c.mean) ** 2 / 2,)),
    ),
)


# --- grey levels -------------------------------------------------------------------------------------------------------


def grey_case(source: Source, claim: Claim, shape: tuple[int, ...]) -> dict[str, Any]:
    """Data on a grid, and a normal law near them whose variance is not too small for the format."""
    # Half of the cases have 256 levels: many implementations know no other number.
    levels = source.choice([256] * 4 + [2, 3, 17, 1000] if claim.storing.precision >= 24 else [2, 3, 17])
    last = levels - 1.0
    k = np.minimum(np.floor(source.numbers(shape, 0.0, float(levels))), last)
    narrowest = 2 * np.log(max(1e-6, decoder.FINEST * claim.computing.u))
    logarithm = claim.storing.round(source.numbers(shape, 0.99 * narrowest, WIDEST))
    near = (2 * k - last) / last + np.exp(logarithm / 2) * source.numbers(shape, -10.0, 10.0)
    mean = claim.storing.round(near if source.choice([True, False]) else source.numbers(shape, -1.5, 1.5))
    grid = claim.storing.round((2 * k - last) / last)
    return {"x0": grid, "mean": mean, "log_variance": logarithm, "levels": np.asarray(levels)}


def grey_levels(case: Case, doubled: float = 1.0) -> Case:
    """The case of the decoder, with a standard deviation."""
    k = np.rint((case.x0 + 1) * ((int(case.levels) - 1) / 2)).astype(np.int64)
    values = {"level_index": k, "mean": case.mean, "std": np.exp(doubled * case.log_variance / 2)}
    return Case(case.claim, None, values | {"levels": case.levels})


STD = 3  # roundings of the standard deviation: the exponential, and in float64 what the law itself rounds


def minus_log_probability(case: Case) -> Running:
    """By the law of the decoder. Its charge for a distance is granted once more, for the standard deviation behind it."""
    (likelihood,) = decoder.LOG_LIKELIHOOD.expect(grey_levels(case))
    error = (1 + STD / decoder.EDGE) * likelihood.roundings * likelihood.scale
    return Running(-likelihood.value, error, case.claim.computing.u)


def probability(case: Case, doubled: float = 1.0) -> Array:
    """Minus the logarithm of the probability."""
    return np.asarray(-decoder.LOG_LIKELIHOOD.expect(grey_levels(case, doubled))[0].value.high)


def _width(case: Case) -> Array:
    return np.asarray(density(case) - np.log(2 / (int(case.levels) - 1)))


def probability_by_tanh(case: Case) -> Array:
    """The same with the widely copied approximation of the distribution function."""
    return np.asarray(-decoder.TANH.value(grey_levels(case))[0])


OF_GREY_LEVELS = Law(
    id="bound/reconstruction_of_grey_levels",
    needs="reconstruction_term",
    statement=r"L_0 = -\log\left[\Phi\left(\frac{x_k + 1/(L-1) - \mu_\theta}{\sigma}\right)"
    r" - \Phi\left(\frac{x_k - 1/(L-1) - \mu_\theta}{\sigma}\right)\right]",
    source="ho2020, eq. (13); nichol2021, eq. (4)",
    cases=lambda source, claim: Case(claim, None, grey_case(source, claim, draw_shape(source))),
    call=lambda impl, c: impl.reconstruction_term(c.x0, c.mean, c.log_variance, c.levels),
    expect=lambda c: (minus_log_probability(c).expected(),),
    mistakes=(
        Mistake("sign_of_the_logarithm", lambda c: (-probability(c),), "E24"),
        Mistake("log_variance_taken_for_log_std", lambda c: (probability(c, doubled=2.0),)),
        Mistake("variance_of_1e_20", lambda c: (_floored(c),), "E36"),
        Mistake("tanh_for_the_distribution_function", lambda c: (probability_by_tanh(c),)),
        Mistake("density_for_the_probability", lambda c: (density(c),)),
        Mistake("density_times_width", lambda c: (_width(c),)),
    ),
    kind="metamorphic",
)


def _floored(case: Case) -> Array:
    """What the posterior variance of the last step makes of it: certainty, with the usual floor under the probability."""
    right = np.abs(case.x0 - case.mean) < 1 / (int(case.levels) - 1)
    return np.where(right, 0.0, -np.log(1e-12))


LAWS = (OF_THE_DENSITY, OF_GREY_LEVELS)
