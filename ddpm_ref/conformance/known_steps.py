"""The steps that have a name, as rows of coefficients, and which of them a row agrees with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.errors import RangeError
from ddpm_ref.laws.cases import Case
from ddpm_ref.laws.family import FAMILY_GAP
from ddpm_ref.laws.identified import TERMS
from ddpm_ref.laws.posterior import WRONG_WEIGHTS, in_eps_form
from ddpm_ref.reference import plan
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array, Real

# A v form is one more root, product and sum away from the x0 form.
COEFFICIENT = FAMILY_GAP + TERMS + 4


def half_of_the_digits(claim: Claim) -> float:
    """How far, as a fraction, a number may be off that keeps half of its digits."""
    return sqrt(claim.storing.u)


@dataclass(frozen=True)
class Member:
    """A known step whose coefficients agree: its name, what it takes as prediction, the largest error as a fraction of the bound.

    More than 1 means that digits are lost, but less than half of them.
    """

    name: str
    form: str
    error_over_bound: float

    def __str__(self) -> str:
        lost = f", {self.error_over_bound:.3g} times its bound off" if self.error_over_bound > 1 else ""
        return f"{self.name}, from a prediction of {self.form}{lost}"


Known = Iterator[tuple[str, str, tuple[float, float, float]]]  # name, form, coefficients


def _forms(schedule: NoiseSchedule, t: int, s: int, make: Callable[..., plan.Plan]) -> Iterator[tuple[str, Any]]:
    """One step of a plan in each form in which it can be written."""
    levels = (t, s, 0) if s else (t, 0)
    rows = {}
    for form in ("eps", "x0"):
        try:
            rows[form] = next(make(levels, form=form).rows())[2:]
        except RangeError:  # eps says nothing of x0 at zero terminal SNR
            continue
        yield form, rows[form]
    x, x0, noise = rows["x0"]
    yield "v", (x + x0 * schedule.sqrt_alpha_bar[t].item(), -x0 * schedule.sqrt_beta_bar[t].item(), noise)


def known(schedule: NoiseSchedule, t: int, s: int, row: Array, claim: Claim, x0_variance: Real | None) -> Known:
    """Ancestral sampling, DDIM and, if the variance of the data is known, Analytic-DPM, in every form."""
    for kind, words in (("posterior", "posterior variance"), ("beta", "variance beta")):
        for last in ("none", "variance") if s == 0 and kind == "beta" else ("none",):
            name = f"ancestral sampling, {words}" + (", noise in the last step" if last == "variance" else "")
            for form, coefficients in _forms(schedule, t, s, _ancestral(schedule, kind, last)):
                yield name, form, coefficients
    for eta in _etas(schedule, t, s, float(row[2]), half_of_the_digits(claim)):
        for form, coefficients in _forms(schedule, t, s, _ddim(schedule, eta)):
            yield f"DDIM, eta = {eta:.6g}", form, coefficients
    if x0_variance is None:
        return
    for eta in (1.0, 0.0):
        for last in ("none", "analytic") if s == 0 else ("none",):
            name = f"Analytic-DPM, eta = {eta:g}" + (", noise in the last step" if last == "analytic" else "")
            table = np.full(schedule.T + 1, float(x0_variance))
            for form, coefficients in _forms(schedule, t, s, _analytic(schedule, table, eta, last)):
                yield name, form, coefficients


def _ancestral(schedule: NoiseSchedule, kind: str, last: str) -> Callable[..., plan.Plan]:
    return lambda levels, form: plan.ancestral(schedule, levels, kind, last_noise=last, form=form)


def _ddim(schedule: NoiseSchedule, eta: float) -> Callable[..., plan.Plan]:
    return lambda levels, form: plan.ddim(schedule, levels, eta, form=form)


def _analytic(schedule: NoiseSchedule, table: Array, eta: float, last: str) -> Callable[..., plan.Plan]:
    return lambda levels, form: plan.analytic(schedule, levels, table, eta, last_noise=last, form=form)


def _etas(schedule: NoiseSchedule, t: int, s: int, noise: float, half: float) -> tuple[float, ...]:
    """Both ends of the family, and what the noise implies between them, in few digits if these say as much."""
    whole = schedule.between(t, s).std_tilde.item()
    implied = noise / whole if whole else 0.0
    if not 0 < implied < 1 - half:
        return 0.0, 1.0
    short = float(f"{implied:.6g}")
    return 0.0, short if abs(short - implied) <= half * implied else implied, 1.0


def mistaken(schedule: NoiseSchedule, t: int, s: int, row: Array, claim: Claim) -> Known:
    """Known steps with the slips that are made most often."""
    for name, form, (x, prediction, noise) in known(schedule, t, s, row, claim, None):
        if noise:
            yield f"{name}, its variance used as standard deviation", form, (x, prediction, noise * noise)
            yield f"{name}, its noise forgotten", form, (x, prediction, 0.0)
        yield f"{name}, the sign of the prediction wrong", form, (x, -prediction, noise)
    yield from _misweighted(schedule, t, s)


def _misweighted(schedule: NoiseSchedule, t: int, s: int) -> Known:
    """Ancestral sampling with wrong weights in the posterior mean: those that its laws know, by their names."""
    zero = np.zeros(())
    case = Case(Claim("fp64"), schedule, {"t": np.asarray(t), "s": np.asarray(s), "zero": zero})
    kernel = schedule.between(t, s)
    stds = {"posterior variance": kernel.std_tilde.item(), "variance beta": kernel.sqrt_beta.item() if s else 0.0}
    for name, (_, wrong) in WRONG_WEIGHTS.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            of_x0, of_xt = (float(weight) for weight in wrong(case))
            in_state, in_eps = (float(weight) for weight in in_eps_form(case, wrong(case)))
        for variance, std in stds.items():
            called = f"ancestral sampling, {variance}, {name.replace('_', ' ')}"
            yield called, "eps", (in_state, in_eps, std)
            yield called, "x0", (of_xt, of_x0, std)


def explained_by_variance(schedule: NoiseSchedule, t: int, s: int, row: Array) -> Known:
    """Steps with the mean of a known one and more noise: which unknown part of x0 would call for it."""
    for eta in (1.0, 0.0):
        weight = next(_ddim(schedule, eta)((t, s, 0) if s else (t, 0), form="x0").rows())
        more = float(row[2]) ** 2 - weight[4] ** 2
        if more > 0:
            name = f"mean of DDIM, eta = {eta:g}; noise of Analytic-DPM for the x0 variance {more / weight[3] ** 2:.6g}"
            for form, (x, y, _) in _forms(schedule, t, s, _ddim(schedule, eta)):
                yield name, form, (x, y, float(row[2]))


def agreeing(row: Array, claim: Claim, known: Known) -> Iterator[Member]:
    """Those known steps from which a row differs by less than half of the digits."""
    half = half_of_the_digits(claim)
    for name, form, coefficients in known:
        exact = np.array([*coefficients, 0.0])
        scale = np.where(exact == 0, np.max(np.abs(exact)), np.abs(exact))
        if (np.abs(row - exact) <= half * scale).all():
            ratio = Expected(DoubleDouble.of(exact), scale, COEFFICIENT).error_over_bound(row, claim)
            yield Member(name, form, float(np.max(ratio)))


def nearest(row: Array, known: Known) -> tuple[Member, tuple[float, float, float]] | None:
    """The known step whose coefficients are the closest, the largest of the differences compared, and these coefficients."""
    others = [(float(np.max(np.abs(row - [*one, 0.0]))), name, form, one) for name, form, one in known]
    if not others:
        return None
    _, name, form, coefficients = min(others, key=lambda other: other[0])
    return Member(name, form, 0.0), coefficients


def kept_digits_first(member: Member) -> float:
    """A key that puts members which lost digits behind the others."""
    return max(member.error_over_bound, 1.0)
