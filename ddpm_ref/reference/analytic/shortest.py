r"""The trajectory on which the bound of the likelihood is best: a shortest path from level T to level 1.

With the optimal variance in every step, the divergence of the path through the levels of a trajectory is

.. math:: D\left(q(x_0, x_{\tau_1}, \dots, x_{\tau_K})\,\Vert\,p\right) = \frac d2\sum_{k=2}^K J(\tau_{k-1}, \tau_k) + c,
          \qquad J(s, t) = \log\frac{\sigma^{*2}_{s|t}}{\lambda^2_{s|t}}

(bao2022, theorem 3), where c is the same for all trajectories with :math:`\tau_1 = 1` and :math:`\tau_K = T`. It
bounds the divergence of the samples from the data, and does not order it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np

from ddpm_ref.errors import RangeError, ScheduleError, ShapeError
from ddpm_ref.reference.analytic.clipping import clip_sigma_hat_squared
from ddpm_ref.reference.arguments import numbers, pair, positive
from ddpm_ref.reference.ddim import exact_eta
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory
from ddpm_ref.typing import Array, ArrayLike, IntArray, Real


@dataclass(frozen=True)
class Path:
    """A trajectory and what it costs."""

    trajectory: Trajectory
    cost: float
    r""":math:`\sum_{k\ge2} J(\tau_{k-1}, \tau_k)`, the step to level 0 excluded."""

    @property
    def nats_per_dimension(self) -> float:
        """What the cost adds to the divergence of the path, nats per dimension: half of it."""
        return self.cost / 2


def step_cost(schedule: NoiseSchedule, t: ArrayLike, s: ArrayLike, x0_variance: ArrayLike, eta: Real = 1.0) -> Array:
    r"""Cost of one step, the logarithm of the optimal variance over that of the posterior.

    .. math:: J(s, t) = \log\frac{\sigma^{*2}}{\lambda^2} = \log\left(1 + \frac{(C^0)^2}{\lambda^2}\hat\sigma_t^2\right),
              \qquad \frac{(C^0)^2}{\lambda^2} = \mathrm{SNR}(s) - \mathrm{SNR}(t) \quad (\eta = 1)

    Args: as `ddpm_ref.reference.analytic.analytic_variance`, with ``s >= 1`` and eta in (0, 1].

    Limits: >= 0, and 0 where the data are known. Raises `RangeError` for eta = 0, where the cost is infinite, or a
    negative variance; `LevelError`, `ShapeError`. Law: ``analytic/step_cost``. Source: bao2022, theorem 3.

    >>> float(np.exp(step_cost(NoiseSchedule.from_betas([0.5, 0.5]), 2, 1, 1.5)))  # SNR: 1 and 1/3
    2.0
    """
    v = positive(x0_variance, "x0_variance", zero=True)
    t, s = pair(t, s, schedule.T)
    if (s < 1).any():
        raise RangeError("the step to level 0 has no cost: it is in the constant; give steps with s >= 1")
    if v.ndim and t.ndim and v.shape != t.shape:
        raise ShapeError(f"x0_variance has shape {v.shape}, levels {t.shape}; give one number per level")
    return _costs(schedule, t, s, v, _noisy(eta))


def path_cost(
    schedule: NoiseSchedule, trajectory: Trajectory | Sequence[int], x0_variance: ArrayLike, eta: Real = 1.0
) -> float:
    r"""Cost of a trajectory, :math:`\sum_{k\ge2} J(\tau_{k-1}, \tau_k)`: the step to level 0 is not counted.

    Args:
        schedule: the noise schedule.
        trajectory: a `Trajectory`, or descending whole numbers that end with 0.
        x0_variance: one per level 0..T; needed at the levels from which a step to a level above 0 starts.
        eta: in (0, 1].

    Half of it is nats per dimension. Comparable between trajectories that start at one level and end, before 0, at one
    level. Raises as `step_cost`, and `RangeError` where a variance is needed and not known. Source: bao2022, theorem 3.
    """
    walk = trajectory if isinstance(trajectory, Trajectory) else Trajectory(tuple(trajectory))
    if walk.levels[0] > schedule.T:
        raise ScheduleError(f"trajectory starts at level {walk.levels[0]}, above T = {schedule.T} of the schedule")
    t, s = np.array(walk.levels[:-2], dtype=np.int64), np.array(walk.levels[1:-1], dtype=np.int64)
    v = known_at(schedule, x0_variance, t)
    return fsum(_costs(schedule, t, s, v, _noisy(eta)).tolist())


def optimal_trajectory(
    schedule: NoiseSchedule,
    x0_variance: ArrayLike,
    K: int,
    eta: Real = 1.0,
    *,
    clip: tuple[Real, Real] | None = None,
) -> Path:
    r"""The trajectory :math:`1 = \tau_1 < \dots < \tau_K = T` of least cost, by dynamic programming.

    .. math:: C_k(t) = \min_{s < t}\left[C_{k-1}(s) + J(s, t)\right], \qquad C_1(1) = 0

    Args:
        schedule: the noise schedule.
        x0_variance: one per level 0..T, >= 0; NaN where it is not known: such a level is not visited. Level T
            must be known, levels 0 and 1 need not.
        K: the number of levels above 0, from 2 to the number of levels that may be visited.
        eta: in (0, 1]; the forward family in which the trajectory will be sampled.
        clip: the range of the data: variances are first brought between their bounds, `clip_sigma_hat_squared`.

    Returns:
        the trajectory and its cost. Costs are right to some roundings; of trajectories that are closer than that,
        any may be returned.

    Raises `RangeError` for eta = 0, where every cost is infinite, a negative variance without ``clip``, or an unknown
    one at level T; `ScheduleError` for a K that does not fit. Limits: least for the bound, with the unclipped variance
    of the optimal prediction; the divergence of the samples themselves is not ordered by it. Source: bao2022, theorem
    3 and algorithm 1.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> schedule = linear_schedule(1000)
    >>> left = [schedule.beta_bar * v / (schedule.alpha_bar * v + schedule.beta_bar) for v in (1.0, 0.01)]
    >>> unknown = sum(left) / 2  # normal data of two dimensions, one wide and one narrow
    >>> best = optimal_trajectory(schedule, unknown, 5)
    >>> best.trajectory.levels, round(best.cost, 3), round(path_cost(schedule, schedule.trajectory(5), unknown), 3)
    ((1000, 189, 94, 43, 1, 0), 7.539, 8.227)
    """
    return optimal_trajectories(schedule, x0_variance, [K], eta, clip=clip)[0]


def optimal_trajectories(
    schedule: NoiseSchedule,
    x0_variance: ArrayLike,
    counts: Sequence[int],
    eta: Real = 1.0,
    *,
    clip: tuple[Real, Real] | None = None,
) -> list[Path]:
    """`optimal_trajectory` for several K at once, which costs no more than the largest. Source: bao2022, algorithm 1."""
    eta = _noisy(eta)
    values = per_level(schedule, x0_variance)
    if clip is not None:
        values, _ = clip_sigma_hat_squared(schedule, values, None, *clip)
    may_visit = np.flatnonzero(~np.isnan(values[2:])) + 2
    if schedule.T > 1 and (not may_visit.size or may_visit[-1] != schedule.T):
        raise RangeError(f"x0_variance is not known at level T = {schedule.T}, where every trajectory starts")
    levels = np.append(1, may_visit)
    _refuse_negative(levels[1:], values[levels[1:]])
    counts = list(counts)
    if not counts:
        return []
    for K in counts:
        if not isinstance(K, int | np.integer) or isinstance(K, bool) or not min(2, schedule.T) <= K <= len(levels):
            raise ScheduleError(
                f"K = {K!r}; an optimal trajectory visits from {min(2, schedule.T)} to {len(levels)} levels above 0, "
                "levels 1 and T among them"
            )
    later, earlier = np.meshgrid(levels, levels, indexing="ij")
    costs = np.full(later.shape, np.inf)
    steps = later > earlier
    costs[steps] = _costs(schedule, later[steps], earlier[steps], values[later[steps]], eta)
    found = shortest_paths(costs, counts)
    return [
        Path(
            walk := Trajectory((*(int(levels[i]) for i in reversed(nodes)), 0)), path_cost(schedule, walk, values, eta)
        )
        for nodes in found
    ]


def shortest_paths(costs: Array, counts: Iterable[int]) -> list[list[int]]:
    """Least-cost paths of so many nodes each from the first node to the last, ``costs[later, earlier]``, infinite where
    there is no step.
    """
    last = len(costs) - 1
    best, came = np.append(0.0, np.full(last, np.inf)), []
    for k in range(2, max(counts := list(counts)) + 1):
        # After k nodes a path stands at node k - 1 or above, and came from node k - 2 or above.
        through = best[k - 2 : -1] + costs[k - 1 :, k - 2 : -1]
        chosen = np.argmin(through, axis=1)
        best = np.append(np.full(k - 1, np.inf), through[np.arange(len(chosen)), chosen])
        came.append(np.append(np.zeros(k - 1, dtype=np.int64), chosen + (k - 2)))
    paths = []
    for K in counts:
        nodes = [last]
        for before in reversed(came[: K - 1]):
            nodes.append(int(before[nodes[-1]]))
        paths.append(nodes[::-1])
    return paths


def per_level(schedule: NoiseSchedule, x0_variance: ArrayLike) -> Array:
    """One number per level 0..T, NaN where it is not known; raises `ShapeError`, and `RangeError` for an infinity."""
    values = numbers(x0_variance, "x0_variance")
    if values.shape != (schedule.T + 1,):
        raise ShapeError(
            f"x0_variance has shape {values.shape}; give one number per level 0..T = {schedule.T}, shape "
            f"({schedule.T + 1},), NaN where it is not known"
        )
    if np.isinf(values).any():
        raise RangeError(f"x0_variance is infinite at level {int(np.flatnonzero(np.isinf(values))[0])}")
    return values


def known_at(schedule: NoiseSchedule, x0_variance: ArrayLike, levels: IntArray) -> Array:
    """The variances at some levels, all of them known and none negative, or a `RangeError` that names the level."""
    values = per_level(schedule, x0_variance)[levels]
    if np.isnan(values).any():
        raise RangeError(
            f"x0_variance is not known (NaN) at level {int(levels[np.isnan(values)][0])}, which the trajectory visits; "
            "estimate it there, or choose other levels"
        )
    _refuse_negative(levels, values)
    return values


def _refuse_negative(levels: IntArray, values: Array) -> None:
    if (values < 0).any():
        raise RangeError(
            f"x0_variance is {float(values[values < 0][0]):g} at level {int(levels[values < 0][0])} "
            f"({int((values < 0).sum())} of {values.size} negative), and it is a variance; write clip_sigma_hat_squared(...) first"
        )


def _noisy(eta: Real) -> float:
    eta = exact_eta(eta)
    if eta == 0:
        raise RangeError(
            "eta = 0: the posterior has no noise, and the cost of every step is infinite; "
            "write eta in (0, 1], e.g. the trajectory of eta = 1"
        )
    return eta


def _costs(schedule: NoiseSchedule, t: IntArray, s: IntArray, v: Array, eta: float) -> Array:
    r"""J of some steps: :math:`(C^0)^2/\lambda^2 = (\mathrm{SNR}(s) - \mathrm{SNR}(t))\,E^2/(h(\bar\beta_t + R)^2)`."""
    high, low = schedule.log_alpha_bar_words
    log_alpha = (high[t] - high[s]) + (low[t] - low[s])
    early, late = schedule.beta_bar[s], schedule.beta_bar[t]
    ratio = schedule.alpha_bar[s] * -np.expm1(log_alpha) / (early * late)
    if eta != 1:
        h = eta * eta
        kept = np.exp(log_alpha) * early
        root = np.sqrt(kept * ((1 - eta) * (1 + eta) * late + h * kept))
        ratio = ratio * ((late + h * kept) / (late + root)) ** 2 / h
    return np.asarray(np.log1p(ratio * v))
