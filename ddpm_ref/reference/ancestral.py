r"""One step of ancestral sampling, :math:`x_s = \mu_\theta(x_t, t) + \sigma z`.

Source: Ho et al. (ho2020), algorithm 2.
"""

from __future__ import annotations

import numpy as np

from ddpm_ref.reference.arguments import expand, one_of, real, same_shape
from ddpm_ref.reference.posterior import posterior_mean_from_eps
from ddpm_ref.reference.reverse import VARIANCES
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, ArrayLike


def ancestral_step(
    schedule: NoiseSchedule,
    xt: ArrayLike,
    t: ArrayLike,
    s: ArrayLike,
    eps: ArrayLike,
    noise: ArrayLike,
    variance: str = "posterior",
) -> Array:
    r"""The state at level s, from the state at level t and the predicted noise.

    .. math:: x_s = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t -
              \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\hat\varepsilon\right) + \sigma z, \qquad
              \sigma = \sqrt{\tilde\beta_{t|s}}\ \text{or}\ \sqrt{\beta_{t|s}},\quad \sigma = 0\ \text{at}\ s = 0

    Args:
        schedule: the noise schedule.
        xt: noisy data, ``(*batch, *event)``.
        t, s: levels, ``T >= t > s >= 0``; scalars or shaped like the leading axes of the data.
        eps: predicted noise, shape of ``xt``.
        noise: z, standard normal, shape of ``xt``; not used where ``s = 0``.
        variance: ``"posterior"`` (fixed small) or ``"beta"`` (fixed large).

    Raises `RangeError` for an unknown variance or at zero terminal SNR, `LevelError`, `ShapeError`. Limits: ``s = 0``
    returns the x0 that eps implies, whatever the noise. Law: ``ancestral/step``. Source: ho2020, algorithm 2.
    """
    one_of("variance", variance, VARIANCES)
    step, z = schedule.between(t, s), real(noise, "noise")
    mean = posterior_mean_from_eps(schedule, xt, t, s, eps)
    std = step.std_tilde if VARIANCES[variance] == "beta_tilde" else np.where(step.s == 0, 0.0, step.sqrt_beta)
    shape = same_shape(xt=mean, noise=z)
    return mean + expand(np.asarray(std), shape) * z
