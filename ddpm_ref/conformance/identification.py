"""A sampler step taken as a black box: its coefficients, whether it is affine at all, and which known step it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.conformance.capabilities import Native
from ddpm_ref.conformance.known_steps import (
    COEFFICIENT,
    Member,
    agreeing,
    explained_by_variance,
    kept_digits_first,
    known,
    mistaken,
    nearest,
)
from ddpm_ref.errors import AdapterError
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, Real

Step = Callable[[Any, Any, Any], Any]

PROBES = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0))
TRIED = 256  # random triples on which a step must be what its coefficients say
REACH = 3.0  # their spread: far beyond the range of data, so that clipping shows
# The step and its coefficients, each through the roundings of a step; four products and sums, and a difference.
RESIDUAL = 2 * COEFFICIENT + 5
CLAIMS = {"float64": "fp64", "float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Identified:
    """What a step from level ``t`` to ``s`` does: ``x * xt + prediction * y + noise * z + offset``, if it is affine.

    ``residual`` is what the step returns on random inputs besides this, as a fraction of the bound of correct arithmetic. Where
    it is no known step, ``slips`` are known ones with a slip that would explain it, and ``nearest`` is the known step whose
    coefficients are the closest, with these.
    """

    t: int
    s: int
    x: float
    prediction: float
    noise: float
    offset: float
    residual: float
    members: tuple[Member, ...]
    slips: tuple[Member, ...] = ()
    nearest: tuple[Member, tuple[float, float, float]] | None = None

    @property
    def affine(self) -> bool:
        """Whether nothing but rounding is left besides the four coefficients."""
        return self.residual <= 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the known steps that it agrees with, the closest first."""
        return tuple(member.name for member in self.members)

    def __str__(self) -> str:
        offset = f" {self.offset:+.6g}" if self.offset else ""
        verdict = "affine" if self.affine else f"not affine: {self.residual:.3g} times the bound is left"
        said = f"x_{self.s} = {self._terms(self.x, self.prediction, self.noise)}{offset} ({verdict})"
        return "\n  ".join([said, *self._known()])

    def _known(self) -> list[str]:
        """The known steps line by line, or what there is to say instead."""
        if not self.affine:
            return ["no known step; clipping or thresholding of x0 on the way does this: ask with it switched off"]
        if self.members:
            return [str(member) for member in self.members]
        if self.slips:
            return ["no known step, but:", *map(str, self.slips)]
        if self.nearest is None:
            return ["no known step"]
        member, coefficients = self.nearest
        return ["no known step; the nearest has other coefficients:", f"{self._terms(*coefficients)}: {member}"]

    def _terms(self, x: float, prediction: float, noise: float) -> str:
        return f"{x:.6g} x_{self.t} {prediction:+.6g} y {noise:+.6g} z"


def identify(
    step: Step,
    schedule: NoiseSchedule,
    t: int,
    s: int,
    *,
    like: Native | None = None,
    claim: Claim | None = None,
    x0_variance: Real | None = None,
) -> Identified:
    r"""What a step from t to s does to state, prediction and noise, and which of the known steps it is.

    .. math:: f(x, y, z) = a\,x + b\,y + c\,z + d,\quad d = f(0,0,0),\ a = f(1,0,0) - d,\ b = f(0,1,0) - d,\ c = f(0,0,1) - d

    The four values are read off as coefficients and compared with those of ancestral sampling with either variance, of DDIM
    for eta = 0, 1 and the eta that the noise implies, and of Analytic-DPM, each with eps, x0 or v as the prediction. A step agrees
    with all members from which it does not differ by half of the digits: at t = 1 most of them are one.

    Args:
        step: ``step(xt, prediction, noise)`` from t to s; it returns an array like its arguments. Where it draws noise itself, see
            `ddpm_ref.conformance.given_noise`.
        schedule: the noise schedule.
        t, s: levels, ``T >= t > s >= 0``.
        like: an array or tensor whose shape, dtype and device the arguments are to have, e.g. ``torch.zeros(8, 3, 16, 16)``;
            256 numbers in float64 by default.
        claim: the arithmetic that bounds are for; by default that of the dtype of ``like``.
        x0_variance: of the data given :math:`x_t`, >= 0; the steps of Analytic-DPM are tried with it. Without it, a step
            that has the mean of a known one and more noise is called by the variance that would explain it.

    Returns:
        the coefficients, ``affine``, ``names`` and the ``members`` these belong to.

    Raises:
        LevelError: a level outside the schedule, or ``s >= t``.
        AdapterError: a step that returns no array, one of another shape, or a number that is not finite.

    Limits: the bounds are those of steps whose coefficients are correct to the last digits; a step that clips the predicted x0
    is not affine, and the coefficients say then what it does at 1 and 0 only. Source: song2020ddim, eq. (12); ho2020,
    algorithm 2; bao2022, eq. (6)-(7). Laws of the same kind: ``identified/*``.

    >>> from ddpm_ref.reference.named_schedules import linear_schedule
    >>> H = linear_schedule(1000)
    >>> kernel = H.between(700, 650)
    >>> def mine(xt, eps, z):
    ...     return kernel.recip_sqrt_alpha * xt - kernel.eps_weight * eps + kernel.std_tilde * z
    >>> print(identify(mine, H, 700, 650))
    x_650 = 1.40595 x_700 -0.697117 y +0.700513 z (affine)
      ancestral sampling, posterior variance, from a prediction of eps
      DDIM, eta = 1, from a prediction of eps
    >>> def clipping(xt, x0, z):
    ...     return kernel.xt_weight * xt + kernel.x0_weight * np.clip(x0, -1, 1) + kernel.sqrt_beta * z
    >>> identify(clipping, H, 700, 650).affine
    False
    """
    schedule.between(t, s)  # refuses what is no step
    data = _Data(np.zeros(TRIED) if like is None else like, claim)
    row = np.array(
        [
            data.asked(step, tuple(data.full(v) for v in probe), f"({', '.join(map('{:g}'.format, probe))})").ravel()[0]
            for probe in PROBES
        ]
    )
    row[:3] -= row[3]
    members = list(agreeing(row, data.claim, known(schedule, t, s, row, data.claim, x0_variance)))
    slips = [] if members else list(agreeing(row, data.claim, mistaken(schedule, t, s, row, data.claim)))
    if not members and not slips and x0_variance is None:
        members = list(agreeing(row, data.claim, explained_by_variance(schedule, t, s, row)))
    x, prediction, noise, offset = row.tolist()
    named, close = (tuple(sorted(found, key=kept_digits_first)) for found in (members, slips))
    near = None if named or close else nearest(row, known(schedule, t, s, row, data.claim, x0_variance))
    return Identified(t, s, x, prediction, noise, offset, _residual(step, row, data), named, close, near)


# --- asking -----------------------------------------------------------------------------------------------------------


class _Data:
    """Arrays like one that was given, and answers as float64."""

    def __init__(self, like: Native, claim: Claim | None):
        shape, name = tuple(np.shape(like)), str(getattr(like, "dtype", type(like).__name__)).rpartition(".")[2]
        if name not in CLAIMS or 0 in shape:
            raise AdapterError(
                f"like is {name} of shape {shape}; write an array or tensor of floating-point data, not empty"
            )
        self.like, self.claim, self.shape = like, claim or Claim(CLAIMS[name]), shape

    def native(self, values: Array) -> Native:
        """Numbers as an array like the given one; those of the storage format come exactly."""
        if isinstance(self.like, np.ndarray):
            return values.astype(self.like.dtype)
        import torch

        return torch.tensor(values).to(self.like)

    def full(self, value: float) -> Native:
        """One number everywhere."""
        return self.native(np.full(self.shape, value))

    def drawn(self, rng: np.random.Generator) -> Array:
        """Normal numbers of the storage format."""
        return np.asarray(self.claim.storing.round(rng.normal(scale=REACH, size=self.shape)))

    def asked(self, step: Step, arguments: tuple[Native, ...], where: str) -> Array:
        """What a step answers, or what is wrong with it."""
        answer = step(*arguments)
        if not hasattr(answer, "shape"):
            raise AdapterError(
                f"step returned a {type(answer).__name__} at {where}; return the array of the new state alone"
            )
        if tuple(answer.shape) != self.shape:
            raise AdapterError(
                f"step returned shape {tuple(answer.shape)} at {where}, for data of shape {self.shape}; write like=..."
            )
        array = np.asarray(answer.detach().cpu().double().numpy() if hasattr(answer, "detach") else answer, np.float64)
        if not np.isfinite(array).all():
            raise AdapterError(
                f"step returned {array[~np.isfinite(array)][0]} at {where}; its coefficients must be finite"
            )
        return array


def _residual(step: Step, row: Array, data: _Data) -> float:
    """What is left besides the coefficients on random inputs, as a fraction of the bound."""
    rng, worst = np.random.default_rng(0), 0.0
    for _ in range(ceil(TRIED / max(int(np.prod(data.shape)), 1))):
        x, y, z = (data.drawn(rng) for _ in range(3))
        got = data.asked(step, tuple(data.native(v) for v in (x, y, z)), "random inputs")
        terms = [
            DoubleDouble.of(c) * DoubleDouble.of(v) for c, v in zip(row, (x, y, z, np.ones(data.shape)), strict=True)
        ]
        total = terms[0] + terms[1] + terms[2] + terms[3]
        scale = np.sum([np.abs(term.high) for term in terms], axis=0)
        # The coefficients were stored themselves.
        stored = 1 + data.claim.storing.u / data.claim.computing.u / RESIDUAL * (data.claim.store != data.claim.compute)
        ratio = Expected(total, scale * stored, RESIDUAL).error_over_bound(got, data.claim)
        worst = max(worst, float(np.max(ratio)))
    return worst
