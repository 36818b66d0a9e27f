"""What the laws of DDIM steps and of plans share: the exact coefficients in two words, cases, and the mistakes made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble
from ddpm_ref.arithmetic.double_double import sqrt, where
from ddpm_ref.laws.cases import NEGLIGIBLE, Case, Cases, Source, at, at_s, draw_schedule, step
from ddpm_ref.laws.registry import Mistake, Outputs
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import AnyArray, Array, IntArray

# --- the exact coefficients, in two words -----------------------------------------------------------------------------


# Through how many roundings the coefficients of the family pass, in units of u (h = eta^2, E, F and R as in
# `ddpm_ref.torch.ddim`). Entries of a pair of levels count 2 (alpha, beta) or 3 (their roots), those of one level 1.
#   h alpha Bs  three products, alpha, Bs                                                             6
#   F           a sum; in it h alpha Bs (6), and (1 - eta)(1 + eta) Bt (5)                            7
#   sqrt(Bs F)  half of F, Bs and their product; the root                                             4.5 + 2
#   direction   that, a table entry and the quotient                                                  8.5
# In E/(Bt + R) the same errors of Bt, of Bs and of h alpha Bs stand above and below and largely cancel; what is left is
# greatest at eta = 0.31 and alpha Bs = Bt, where it is 8.2 with the two sums and the quotient (the maximum over all eta
# and levels: tests/laws/test_family.py). The weight of eps multiplies that by beta (3), 1/sqrt(alpha) (4) and divides it
# by a root (2): 17.2. That of x0 takes 15.2.
FAMILY_ROOT = 9
FAMILY_GAP = 18


@dataclass(frozen=True)
class Member:
    """Coefficients of some steps for one eta, from forms in which nothing cancels (see `ddpm_ref.reference.implicit`)."""

    std: DoubleDouble
    direction: DoubleDouble
    x0_weight: DoubleDouble
    xt_weight: DoubleDouble
    signal: DoubleDouble  # sqrt(alpha_bar_s)
    gap: DoubleDouble  # what the weights of x0 and of eps share
    root: DoubleDouble  # sqrt(beta_bar_t)

    @property
    def weights(self) -> tuple[DoubleDouble, DoubleDouble]:
        """Of x0 and of x_t."""
        return self.x0_weight, self.xt_weight


def member(schedule: NoiseSchedule, t: IntArray, s: IntArray, eta: float, like: AnyArray | None = None) -> Member:
    """The exact coefficients of the steps (t, s), shaped to broadcast against ``like``."""

    def wide(words: DoubleDouble) -> DoubleDouble:
        return words if like is None else words.reshape(words.shape + (1,) * (like.ndim - len(words.shape)))

    def earlier(name: str, clean: float) -> DoubleDouble:
        words = schedule.words(name, np.maximum(s, 1))
        return wide(where(np.asarray(s) == 0, DoubleDouble.of(np.full(np.shape(s), clean)), words))

    pair = schedule.between(t, s)
    a, b = wide(pair.words("alpha")), wide(pair.words("beta"))
    late, early = wide(schedule.words("beta_bar", t)), earlier("beta_bar", 0.0)
    signal, noisy = earlier("sqrt_alpha_bar", 1.0), DoubleDouble.of(eta) * eta * a * early
    e, f = late + noisy, (1.0 - DoubleDouble.of(eta)) * (1.0 + DoubleDouble.of(eta)) * late + noisy
    root = sqrt(early * f)
    gap = b * e / (late + sqrt(a) * root)
    return Member(
        std=sqrt(b * early / late) * eta,
        direction=root / sqrt(late),
        x0_weight=signal * gap / late,
        xt_weight=root / late,
        signal=signal,
        gap=gap,
        root=sqrt(late),
    )


def of_case(case: Case, like: AnyArray | None = None) -> Member:
    """The coefficients of the steps of a case, for its eta."""
    return member(case.noise_schedule, case.t, case.s, float(case.eta), like)


# --- cases ------------------------------------------------------------------------------------------------------------


def draw_eta(source: Source, claim: Claim) -> Array:
    """Both ends, the middle, and anything between, representable in the storage format."""
    end = source.choice([0.0, 1.0, 0.5, None])
    if end is not None:
        return np.asarray(end)
    eta = claim.storing.round(np.asarray(source.numbers((), 0.0, 1.0)))
    return np.asarray(np.where(eta < NEGLIGIBLE, 0.0, eta))


def with_eta(cases: Cases) -> Cases:
    """Cases with an eta."""

    def drawn(source: Source, claim: Claim) -> Case:
        case = cases(source, claim)
        return Case(claim, case.schedule, {**case.values, "eta": draw_eta(source, claim)})

    return drawn


def rise(case: Case, like: AnyArray | None = None) -> DoubleDouble:
    """Weight of eps on the way up."""
    earlier = member(case.noise_schedule, case.t, case.s, 0.0, like).direction  # sqrt(beta_bar_s)
    root = case.level("sqrt_beta_bar", like)
    return case.step("beta", like) / (root + case.step("sqrt_alpha", like) * earlier)


def walks(*, zero_snr: bool = True) -> Cases:
    """Cases with a trajectory: ``t`` and ``s`` hold its steps, downwards."""

    def cases(source: Source, claim: Claim) -> Case:
        schedule = draw_schedule(source, zero_snr=zero_snr)
        count = source.integer(1, min(schedule.T, 64 if source.bulk else 6))
        first = source.choice([schedule.T, None]) or source.integer(count, schedule.T)
        below = {source.integer(1, first) for _ in range(count - 1)}
        levels = np.array([*sorted(below | {first}, reverse=True), 0], dtype=np.int64)
        return Case(claim, schedule, {"t": levels[:-1], "s": levels[1:]})

    return cases


def levels_of(case: Any) -> tuple[int, ...]:
    """The trajectory of a case of `walks`, in an implementation's own arrays or not."""
    return (*(int(t) for t in case.t), 0)


# --- mistakes: each is a wrong triple of signal, direction and standard deviation -------------------------------------

Parts: TypeAlias = tuple[Array, Array, Array]


def _root(square: Array) -> Array:
    return np.sqrt(np.maximum(square, 0.0))


def right(case: Case) -> Parts:
    """The parts as they should be, in float64 by the paper's formulas."""
    std = case.eta * step(case, "std_tilde")
    return at_s(case, "sqrt_alpha_bar"), _root(at_s(case, "beta_bar") - std**2), std


def _with_std(case: Case, std: Array) -> Parts:
    """Another standard deviation, and the direction that belongs to it."""
    return at_s(case, "sqrt_alpha_bar"), _root(at_s(case, "beta_bar") - std**2), std


def _of_the_full_chain(case: Case) -> Parts:
    beta_bar, std = at(case, "beta_bar", -1), case.eta * np.sqrt(at(case, "beta_tilde"))
    return at(case, "sqrt_alpha_bar", -1), _root(beta_bar - std**2), std


MISTAKES: dict[str, tuple[str, Callable[[Case], Parts]]] = {
    "signal_of_level_t": ("E47", lambda c: (at(c, "sqrt_alpha_bar"), *right(c)[1:])),
    "variance_used_as_standard_deviation": ("E48", lambda c: (*right(c)[:2], right(c)[2] ** 2)),
    "eta_scales_the_variance": ("E49", lambda c: _with_std(c, np.sqrt(c.eta) * step(c, "std_tilde"))),
    "levels_of_the_full_chain": ("E50", _of_the_full_chain),
    "improved_ddpm_whatever_eta": ("E51", lambda c: _with_std(c, step(c, "std_tilde"))),
    "strided_std_from_the_full_chain": ("E52", lambda c: _with_std(c, c.eta * np.sqrt(at(c, "beta_tilde")))),
    "direction_keeps_all_the_noise": ("", lambda c: (right(c)[0], at_s(c, "sqrt_beta_bar"), right(c)[2])),
}
ALL = tuple(MISTAKES)
# The mean does not see the standard deviation; at eta = 1 nobody sees how eta enters.
OF_THE_MEAN = tuple(name for name in ALL if name != "variance_used_as_standard_deviation")


def planted(outputs: Callable[[Case, Parts], Outputs], names: tuple[str, ...] = ALL) -> tuple[Mistake, ...]:
    """The mistakes of the family as they show in the outputs of one law."""

    def value(name: str) -> Callable[[Case], Outputs]:
        return lambda case: outputs(case, MISTAKES[name][1](case))

    return tuple(Mistake(name, value(name), MISTAKES[name][0]) for name in names)
