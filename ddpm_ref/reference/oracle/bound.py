r"""The bound that the optimal network reaches, exactly: what is left of it is the price of the chain, not of the network.

With :math:`\mu_\theta = \tilde\mu(x_t, \mathbb E[x_0\mid x_t])` every term needs one number of the data, what x_t leaves
unknown of them, :math:`v_t = \mathbb E\,\mathrm{tr}\,\mathrm{Cov}[x_0\mid x_t]/d`. The gap to the entropy of the data is a
divergence of paths,

.. math:: L - H(q) = D(q(x_T)\,\Vert\,p(x_T)) + \sum_{t\to s}\mathbb E_{q(x_t)}D(q(x_s\mid x_t)\,\Vert\,p_\theta(x_s\mid x_t))

the step to level 0 included: each step pays for being one isotropic Gaussian, and the chain for starting from the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, inf

import numpy as np

from ddpm_ref.errors import LevelError, RangeError, ScheduleError
from ddpm_ref.reference.analytic import analytic_variance
from ddpm_ref.reference.arguments import one_of, pair
from ddpm_ref.reference.bound import loss_weight_x0, variance_term
from ddpm_ref.reference.decoder import discretized_gaussian_log_likelihood
from ddpm_ref.reference.divergence import variance_divergence
from ddpm_ref.reference.oracle.components import LOG_2PI, Components, Conditioned
from ddpm_ref.reference.oracle.finite import Finite
from ddpm_ref.reference.oracle.gaussian import Gaussian
from ddpm_ref.reference.oracle.mixture import Mixture
from ddpm_ref.reference.oracle.quadrature import averages, expectation
from ddpm_ref.reference.plan.record import Levels, descent
from ddpm_ref.reference.posterior import with_first_step
from ddpm_ref.reference.reverse import VARIANCES
from ddpm_ref.reference.scaling import to_level_index
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory, Transition
from ddpm_ref.typing import Array, ArrayLike, IntArray, Real

Data = Gaussian | Mixture | Finite
KINDS = VARIANCES | {"analytic": "analytic"}


@dataclass(frozen=True, eq=False)
class OracleBound:
    """The bound of the optimal network on one trajectory, term by term, averaged over the data: **nats per image**."""

    trajectory: Trajectory
    """The levels, K steps."""
    variances: Array
    """Variance of the model in each step, in sampling order, shape ``(K,)``; the last is that of the reconstruction."""
    prior: float
    """Divergence of the first level from the standard normal law, given x0."""
    terms: Array
    """Denoising terms of the steps to levels above 0, in sampling order, shape ``(K - 1,)``."""
    reconstruction: float
    """Minus the expected logarithm of the density (or, on a grid, of the probability) in the last step."""
    nll: float
    """Entropy of the data, E[-log q(x0)]: the least that any model could reach; minus infinity for points without a grid."""

    @property
    def total(self) -> float:
        """The bound, the sum of its terms."""
        return fsum([self.prior, *self.terms.tolist(), self.reconstruction])

    @property
    def gap(self) -> float:
        """What the chain costs above the entropy of the data, ``total - nll``; >= 0 but for rounding, infinite for points."""
        return self.total - self.nll


def exact_bound(
    schedule: NoiseSchedule,
    trajectory: Levels | None,
    data: Data,
    variance: str = "posterior",
    first_step: str | None = None,
    levels: Real | None = None,
) -> OracleBound:
    r"""The bound with the optimal network, on any trajectory, without Monte Carlo.

    .. math:: L_{t-1} = d\left[\tfrac12(r - 1 - \log r) + w^x_{t|s}\,v_t\right], \quad r = \tilde\beta_{t|s}/\sigma^2, \qquad
              L_0 = \tfrac d2\left[\log 2\pi\sigma^2 + v_t/\sigma^2\right]

    Args:
        schedule: the noise schedule.
        trajectory: the levels; None for all of them. The prior term is that of the first.
        data: `Gaussian` with any covariance; `Mixture` in one or two dimensions; `Finite` on a line or in a plane.
        variance: of the steps: ``"posterior"``, ``"beta"``, or ``"analytic"``, the optimum
            :math:`\sigma^{*2} = \tilde\beta_{t|s} + (C^0)^2v_t`, with which a term is
            :math:`\tfrac d2\log(\sigma^{*2}/\tilde\beta_{t|s})`.
        first_step: rule for the variance of the step to level 0 (`ddpm_ref.reference.posterior.posterior_log_variance`). By
            default ``"replace"`` for the posterior variance, which is 0 there, and ``"exact"`` for the others; also for
            ``"beta"``, where OpenAI's code, and `ddpm_ref.evaluation.evaluate`, replace. ``"floor"`` is taken to show what it does.
        levels: for `Finite` data on the grid of so many levels, in one or two dimensions: the last step has the
            discretised decoder, and ``nll`` is the entropy of the points. None: a density.

    Returns an `OracleBound`, nats per image. Raises `RangeError` for an unknown or vanishing variance, data in more
    dimensions than quadrature reaches, points off the grid, or a grid for data with a density; `ScheduleError`. Limits: for
    points without a grid the bound is finite and bounds nothing, a density may be as large as it likes on a point: nll is
    minus infinity and the gap infinite. Right to some roundings for normal data, and to 2e-14 of each integral else.
    Source: ho2020, eq. (5); bao2022, theorems 1 and 3.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule, two = linear_schedule(1000), Mixture([0.5, 0.5], [-1.0, 1.0], [0.01, 0.01])
    >>> for variance in ("posterior", "beta", "analytic"):
    ...     bound = exact_bound(schedule, schedule.trajectory(50), two, variance)
    ...     print(f"{bound.total:.4f} {bound.nll:.4f} {bound.gap:.4f}")
    17.2227 -0.1905 17.4132
    0.1637 -0.1905 0.3542
    -0.1169 -0.1905 0.0736
    """
    if not isinstance(data, Gaussian | Mixture | Finite):
        raise RangeError(f"data is of type {type(data).__name__}; write Gaussian(...), Mixture(...) or Finite(...)")
    walk = schedule.trajectory(schedule.T) if trajectory is None else descent(schedule, trajectory)
    steps = schedule.between(walk.levels[:-1], walk.levels[1:])
    left = _unknown(schedule, data, steps.t)
    variances = _variances(schedule, steps, walk, left, variance, first_step)
    t, s = steps.t[:-1], steps.s[:-1]
    if KINDS[variance] == "analytic":
        terms = np.log1p(2 * loss_weight_x0(schedule, t, s) * left[:-1]) / 2
    else:
        terms = variance_term(schedule, t, s, variance) + loss_weight_x0(schedule, t, s, variance) * left[:-1]
    last = _reconstruction(schedule, data, walk.levels[-2], float(left[-1]), float(variances[-1]), levels)
    prior = _prior(schedule, data, walk.levels[0])
    return OracleBound(walk, variances, prior, data.d * terms, last, _nll(data, levels))


def reverse_kl(schedule: NoiseSchedule, data: Data, t: ArrayLike, s: ArrayLike, variance: str = "posterior") -> Array:
    r"""What the step costs that the data do not pay for: the true reverse kernel against the model's, **nats per image**.

    .. math:: \mathbb E_{q(x_t)}D\left(q(x_s\mid x_t)\,\Vert\,\mathcal N(\tilde\mu(x_t, \mathbb E[x_0\mid x_t]), \sigma^2 I)\right)

    Not the term of the bound, :math:`\mathbb E D(q(x_s\mid x_t, x_0)\,\Vert\,\cdot)`, which is larger by what x_s still says of
    x0 given x_t: conditioning on x0 makes the posterior narrower than the kernel that is to be learned.

    Args:
        schedule: the noise schedule.
        data: as for `exact_bound`.
        t, s: levels, ``T >= t > s``; ``s >= 1`` for the posterior variance and for points.
        variance: ``"posterior"``, ``"beta"`` or ``"analytic"``.

    Returns an array of the shape of the levels, >= 0 but for rounding. Raises `LevelError`, `RangeError`, `ShapeError`. Limits:
    exactly 0 for standard normal data with beta. Along the axes of component k, with kernel variance
    :math:`\rho_k = \beta_{t|s}V_{k,s}/V_{k,t}`, it is :math:`\sum_k w_k D(\rho_k\Vert\sigma^2)`, plus what the means of the
    components differ by in units of the variance, minus what x_s says of the component given x_t; for a mixture this
    difference is right to 2e-14 absolute, not relative. Source: law of total variance; bao2022, theorem 1.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> round(float(reverse_kl(linear_schedule(1000), Gaussian(0.0, 1.0), 2, 1)), 4)
    0.2055
    """
    late, early = pair(t, s, schedule.T)
    steps = schedule.between(late.ravel(), early.ravel())
    one_of("variance", variance, KINDS)
    points = isinstance(data, Finite)
    if (points or KINDS[variance] == "beta_tilde") and (steps.s == 0).any():
        what = "the data are points" if points else "the posterior variance is 0"
        raise LevelError(f"s = 0, where {what}: the divergence is infinite; give steps with s >= 1")
    parts, weights = data._parts, np.exp(data._parts.log_weights)
    signal, noise = (table[steps.t][:, None, None] for table in (schedule.alpha_bar, schedule.beta_bar))
    total = signal * parts.variances + noise
    known = schedule.alpha_bar[steps.s][:, None, None] * parts.variances + schedule.beta_bar[steps.s][:, None, None]
    kernel = steps.beta[:, None, None] * known / total
    spread = _between_means(schedule, data, steps.t)
    inside = parts.variances * (noise / total)
    left = (np.sum(inside @ np.ones(data.d) * weights, axis=-1) + spread) / data.d
    sigma2 = _step_variances(steps, left, schedule, variance)
    share = (steps.x0_weight**2 / sigma2)[:, None, None]
    if KINDS[variance] == "beta_tilde":
        excess = share * inside
    elif KINDS[variance] == "beta":
        # rho - beta without cancellation: normal data of variance 1 have exactly beta.
        scale = schedule.alpha_bar[steps.s] * steps.beta
        excess = scale[:, None, None] * (parts.variances - 1) / total
    else:
        excess = share * (inside - left[:, None, None])
    each = variance_divergence(excess, np.log(kernel / sigma2[:, None, None]))
    gaussian = each.sum(axis=-1) @ weights
    told = _ambiguity(schedule, data, steps.t) - _ambiguity(schedule, data, steps.s)
    return np.asarray(gaussian + share[:, 0, 0] * spread / 2 - told).reshape(late.shape)


def _variances(
    schedule: NoiseSchedule, steps: Transition, walk: Trajectory, left: Array, variance: str, first_step: str | None
) -> Array:
    one_of("variance", variance, KINDS)
    usual = "replace" if KINDS[variance] == "beta_tilde" else "exact"
    rule = usual if first_step is None else first_step
    if (rule == "replace" and walk.steps == 1) or (rule == "replace_unstrided" and schedule.T == 1):
        raise ScheduleError(
            f"first_step = {rule!r} takes the variance of the second step, and there is only one; write more steps, or "
            "variance='beta', first_step='exact'"
        )
    variances = with_first_step(schedule, steps, _step_variances(steps, left, schedule, variance), rule, walk)
    if variances[-1] == 0:
        raise RangeError(
            f"variance = {variance!r} with first_step = {rule!r} is 0 in the step to level 0, which has no likelihood; write "
            "first_step='replace'"
        )
    return variances


def _step_variances(steps: Transition, left: Array, schedule: NoiseSchedule, variance: str) -> Array:
    if KINDS[variance] == "analytic":
        return analytic_variance(schedule, steps.t, steps.s, left)
    return steps.beta_tilde if KINDS[variance] == "beta_tilde" else steps.beta


def _unknown(schedule: NoiseSchedule, data: Data, t: IntArray) -> Array:
    """v_t: what x_t leaves unknown of x0, within the components and between them, per dimension."""
    noise = schedule.beta_bar[t][:, None, None]
    variances = data._parts.variances
    inside = variances * (noise / (schedule.alpha_bar[t][:, None, None] * variances + noise))
    return np.asarray(
        (inside.sum(axis=-1) @ np.exp(data._parts.log_weights) + _between_means(schedule, data, t)) / data.d
    )


def _prior(schedule: NoiseSchedule, data: Data, t: int) -> float:
    signal = schedule.alpha_bar[t]
    moment = np.trace(data.covariance) + np.sum(data.mean**2)
    return float(data.d * variance_divergence(-signal, schedule.log_beta_bar[t]) + signal * moment / 2)


def _coordinates(data: Data) -> Components:
    """Where integrals over x_t are taken: for points in the least plane that holds them."""
    return data._within_their_plane() if isinstance(data, Finite) else data._parts


def _between_means(schedule: NoiseSchedule, data: Data, t: IntArray) -> Array:
    """The squared distance of the components' E[x0 | x_t, k] from E[x0 | x_t], averaged over both."""

    def squares(given: Conditioned) -> Array:
        away = np.sum((given._each_x0 - given._x0) ** 2, axis=-1)
        return np.asarray(np.sum(given.responsibilities * away, axis=0))

    parts = _coordinates(data)
    return np.zeros(t.shape) if len(parts.means) == 1 else averages(parts, squares, schedule, t, data.memory)


def _ambiguity(schedule: NoiseSchedule, data: Data, t: IntArray) -> Array:
    """The entropy of the component given x_t, nats, averaged over x_t; also at level 0."""
    parts = _coordinates(data)
    if len(parts.means) == 1:
        return np.zeros(t.shape)
    found = {0: _ambiguity_of_data(parts, data.memory)} if (t == 0).any() else {}
    noisy = np.unique(t[t > 0])
    found |= dict(zip(noisy.tolist(), averages(parts, _entropy, schedule, noisy, data.memory).tolist(), strict=True))
    return np.array([found[level] for level in t.tolist()])


def _ambiguity_of_data(parts: Components, memory: int) -> float:
    return expectation(parts, np.array(1.0), np.array(0.0), _entropy, memory)


def _entropy(given: Conditioned) -> Array:
    r = given.responsibilities
    return np.asarray(-np.sum(r * np.log(np.where(r > 0, r, 1.0)), axis=0))


def _nll(data: Data, levels: Real | None) -> float:
    """The entropy of the data: of their density, or of points on a grid."""
    if isinstance(data, Finite):
        if levels is None:
            return -inf
        _, which = np.unique(data.points, axis=0, return_inverse=True)
        p = np.bincount(which.ravel(), weights=data.weights)
        return float(-np.sum(p * np.log(p)))
    parts = data._parts
    weights = np.exp(parts.log_weights)
    normal = np.sum(1 + LOG_2PI + np.log(parts.variances), axis=-1) / 2
    mixed = -float(weights @ parts.log_weights)
    return float(weights @ normal) + (mixed - _ambiguity_of_data(parts, data.memory) if len(weights) > 1 else 0.0)


def _reconstruction(
    schedule: NoiseSchedule, data: Data, t: int, left: float, variance: float, levels: Real | None
) -> float:
    """Minus the expected logarithm of the density, or of the probability of the bin, around E[x0 | x_t]."""
    if levels is None:
        return data.d * (LOG_2PI + float(np.log(variance)) + left / variance) / 2
    if not isinstance(data, Finite):
        raise RangeError(
            f"levels = {levels!r} with data that have a density; leave levels out, or give Finite points on the grid"
        )
    index, std = to_level_index(data.points, levels), variance**0.5

    def cost(given: Conditioned) -> Array:
        likelihood = discretized_gaussian_log_likelihood(index[:, None], given.x0()[None], std, levels).sum(axis=-1)
        r = given.responsibilities
        return np.asarray(-np.sum(r * np.where(r > 0, likelihood, 0.0), axis=0))

    a, b = np.asarray(schedule.sqrt_alpha_bar[t]), np.asarray(schedule.sqrt_beta_bar[t])
    return expectation(data._parts, a, b, cost, data.memory)
