r"""Noise schedules: T betas, and every table that follows from them, each entry the float64 nearest to its exact value.

A schedule *is* its betas, read as exact real numbers (Ho et al. 2020, section 2). Tables have length ``T + 1`` and are
indexed by the paper's ``t``; level 0 is clean data. Derived tables are made when first asked for and are read-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property
from typing import Any, NoReturn, overload

import numpy as np

from ddpm_ref.arithmetic.double_double import DoubleDouble
from ddpm_ref.errors import ScheduleError
from ddpm_ref.reference import arguments, logarithms, trajectory
from ddpm_ref.reference.products import Products
from ddpm_ref.reference.trajectory import Spacing, Trajectory
from ddpm_ref.typing import Array, ArrayLike, IntArray, Real

__all__ = ["NoiseSchedule", "Spacing", "Trajectory", "Transition"]


class Entry:
    """A read-only table made on first use and kept (a non-data descriptor: the kept table hides it)."""

    def __init__(self, doc: str, make: Callable[[Any, str], Array]):
        self.__doc__ = doc
        self.make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Entry: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Array: ...
    def __get__(self, instance: object | None, owner: type) -> Entry | Array:
        if instance is None:
            return self
        table = self.make(instance, self.name)
        table.setflags(write=False)
        instance.__dict__[self.name] = table
        return table


class _Frozen:
    """Attributes cannot be assigned: whoever shares a schedule shares the truth."""

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is read-only; make a new one instead of assigning {name!r}")


def _pair_entry(transition: Transition, name: str) -> Array:
    t, s = transition.t.ravel().tolist(), transition.s.ravel().tolist()
    return transition.products.pairs(name, t, s).reshape(transition.t.shape)


class Transition(_Frozen):
    r"""The kernels between pairs of levels ``t > s``: every attribute is exact, rounded once, of the shape of ``t``.

    With :math:`\alpha_{t|s}=\bar\alpha_t/\bar\alpha_s` and :math:`\beta_{t|s}=1-\alpha_{t|s}`; made by
    `NoiseSchedule.between`.
    """

    t: IntArray
    s: IntArray
    products: Products

    def __init__(self, products: Products, t: IntArray, s: IntArray):
        t, s = t.copy(), s.copy()
        t.setflags(write=False)
        s.setflags(write=False)
        self.__dict__.update(products=products, t=t, s=s)

    def __reduce__(self) -> tuple[type[Transition], tuple[Products, IntArray, IntArray]]:
        return type(self), (self.products, self.t, self.s)

    alpha = Entry(r"""Signal kept, :math:`\alpha_{t|s}`.""", _pair_entry)
    beta = Entry(r"""Variance added, :math:`\beta_{t|s}`.""", _pair_entry)
    beta_tilde = Entry(r"""Posterior variance, :math:`\beta_{t|s}\bar\beta_s/\bar\beta_t`.""", _pair_entry)
    sqrt_alpha = Entry(r""":math:`\sqrt{\alpha_{t|s}}`.""", _pair_entry)
    sqrt_beta = Entry(r""":math:`\sqrt{\beta_{t|s}}`.""", _pair_entry)
    std_tilde = Entry(r"""Posterior standard deviation, the root of `beta_tilde`.""", _pair_entry)
    recip_sqrt_alpha = Entry(r""":math:`1/\sqrt{\alpha_{t|s}}`.""", _pair_entry)
    x0_weight = Entry(r"""Posterior weight of x0, :math:`\sqrt{\bar\alpha_s}\beta_{t|s}/\bar\beta_t`.""", _pair_entry)
    xt_weight = Entry(r"""Posterior weight of x_t, :math:`\sqrt{\alpha_{t|s}}\bar\beta_s/\bar\beta_t`.""", _pair_entry)
    eps_weight = Entry(
        r""":math:`\beta_{t|s}/\sqrt{\alpha_{t|s}\bar\beta_t}`, weight of eps in the mean.""", _pair_entry
    )
    reverse_variance_bound = Entry(r""":math:`\beta_{t|s}/\alpha_{t|s}`, see `optimal_variance_bounds`.""", _pair_entry)

    def words(self, name: str) -> DoubleDouble:
        """One of the attributes in two words (about 106 bits)."""
        t, s = self.t.ravel().tolist(), self.s.ravel().tolist()
        return self.products.words(name, t, s).reshape(self.t.shape)


def _level_table(first: float, entry: str = "") -> Callable[[NoiseSchedule, str], Array]:
    """Level 0 as stated, then the exact column of adjacent pairs (of the entry of the same name unless given)."""
    return lambda schedule, name: np.concatenate([[first], schedule.products.column(entry or name)])


def _one_minus_beta(schedule: NoiseSchedule, _: str) -> Array:
    """One float64 subtraction: correctly rounded by IEEE 754."""
    return np.asarray(1.0 - schedule.beta)


def _log_table(logarithm: Callable[[Products], DoubleDouble], first: float) -> Callable[[NoiseSchedule, str], Array]:
    return lambda schedule, _: np.concatenate([[first], logarithm(schedule.products).high])


class NoiseSchedule(_Frozen):
    """A noise schedule of ``T`` steps; make one with `from_betas`, `from_alpha_bars` or a named schedule.

    >>> schedule = NoiseSchedule.from_betas([0.5, 0.25])
    >>> schedule.alpha_bar
    array([1.   , 0.5  , 0.375])
    >>> schedule.beta_tilde
    array([0. , 0. , 0.2])
    """

    T: int
    beta: Array
    products: Products

    def __init__(self, betas: ArrayLike):
        values = _validated(betas, "betas", "0 < beta < 1 (beta = 1 is allowed at t = T only: zero terminal SNR)")
        beta = np.concatenate([[0.0], values])
        beta.setflags(write=False)
        self.__dict__.update(T=len(values), beta=beta, products=Products(values))

    @classmethod
    def from_betas(cls, betas: ArrayLike) -> NoiseSchedule:
        """The schedule of ``betas`` of shape ``(T,)``, read as exact reals; ``0 < beta < 1``, and 1 is allowed at level T only.

        Raises `ScheduleError` for an empty, non-finite, complex, integer or wrongly shaped argument, for a beta outside
        its range, and where alpha_bar would fall below 2**-1022. Any order is allowed. Source: ho2020, section 2.
        """
        return cls(betas)

    @classmethod
    def from_alpha_bars(cls, alpha_bars: ArrayLike) -> NoiseSchedule:
        r"""The schedule with :math:`\beta_t = 1 - \bar\alpha_t/\bar\alpha_{t-1}`, each rounded once.

        ``alpha_bars`` has shape ``(T,)`` (level 0 is not given), strictly decreasing within (0, 1), 0 allowed at T. The
        betas are rounded, so each alpha_t is reproduced to a relative ``2**-54 / alpha_t``, and alpha_bar to the sum of these.
        """
        values = _validated(alpha_bars, "alpha_bars", "0 < alpha_bar < 1 (0 is allowed at t = T only)", complement=True)
        previous = np.concatenate([[1.0], values[:-1]])
        if not (values < previous).all():
            t = int(np.flatnonzero(values >= previous)[0]) + 1
            raise ScheduleError(
                f"alpha_bars must decrease strictly: level {t} has {values[t - 1]} after {previous[t - 1]}"
            )
        exact = zip(map(Fraction, values.tolist()), map(Fraction, previous.tolist()), strict=True)
        betas = np.array([float(1 - value / before) for value, before in exact])
        vanished = (betas == 1) & (values > 0)
        if vanished.any():
            t = int(np.flatnonzero(vanished)[0]) + 1
            raise ScheduleError(
                f"alpha_bars fall from {previous[t - 1]} to {values[t - 1]} at level {t}: no float64 beta below 1 does that; "
                "spread the fall over more levels, or end with 0 for zero terminal SNR"
            )
        return cls(betas)

    # Tables of length T + 1.
    alpha = Entry(r""":math:`\alpha_t = 1 - \beta_t`.""", _one_minus_beta)
    alpha_bar = Entry(r""":math:`\bar\alpha_t = \prod_{i\le t}\alpha_i`; 1 at level 0.""", _level_table(1.0))
    beta_bar = Entry(
        r""":math:`\bar\beta_t = 1 - \bar\alpha_t`, the marginal noise variance; 0 at level 0.""", _level_table(0.0)
    )
    beta_tilde = Entry(
        r""":math:`\tilde\beta_t = \beta_t\bar\beta_{t-1}/\bar\beta_t`, the posterior variance; 0 at level 1 (and at 0).""",
        _level_table(0.0),
    )
    sqrt_alpha_bar = Entry(r""":math:`\sqrt{\bar\alpha_t}`, scale of the signal.""", _level_table(1.0))
    sqrt_beta_bar = Entry(r""":math:`\sqrt{\bar\beta_t}`, standard deviation of the noise.""", _level_table(0.0))
    snr = Entry(
        r"""Signal-to-noise ratio :math:`\bar\alpha_t/\bar\beta_t`; infinite at level 0.""", _level_table(np.inf)
    )
    log_snr = Entry(r""":math:`\log\mathrm{SNR}(t)` within one ulp.""", _log_table(logarithms.log_snr, np.inf))
    log_beta_bar = Entry(r""":math:`\log\bar\beta_t` within one ulp.""", _log_table(logarithms.log_beta_bar, -np.inf))
    log_alpha_bar = Entry(r""":math:`\log\bar\alpha_t` within one ulp.""", _log_table(logarithms.log_alpha_bar, 0.0))
    sqrt_recip_alpha_bar = Entry(r""":math:`\sqrt{1/\bar\alpha_t}`.""", _level_table(1.0))
    sqrt_recipm1_alpha_bar = Entry(r""":math:`\sqrt{1/\bar\alpha_t - 1} = \mathrm{SNR}^{-1/2}`.""", _level_table(0.0))
    sqrt_alpha = Entry(r""":math:`\sqrt{\alpha_t}`.""", _level_table(1.0))
    sqrt_beta = Entry(r""":math:`\sqrt{\beta_t}`.""", _level_table(0.0))
    recip_sqrt_alpha = Entry(r""":math:`1/\sqrt{\alpha_t}`.""", _level_table(1.0))
    eps_weight = Entry(
        r""":math:`\beta_t/(\sqrt{\alpha_t}\sqrt{\bar\beta_t})`; 0 at level 0, where no step ends.""", _level_table(0.0)
    )
    posterior_x0_weight = Entry(
        r""":math:`\sqrt{\bar\alpha_{t-1}}\beta_t/\bar\beta_t`; 1 at level 1 (and at 0, where no step ends).""",
        _level_table(1.0, "x0_weight"),
    )
    posterior_xt_weight = Entry(
        r""":math:`\sqrt{\alpha_t}\bar\beta_{t-1}/\bar\beta_t`; 0 at level 1 (and at 0, where no step ends).""",
        _level_table(0.0, "xt_weight"),
    )
    noise_share = Entry(
        r""":math:`\sqrt{\beta_t/\bar\beta_t}`, correlation of step t's noise with the aggregate; 1 at levels 0 and 1.""",
        _level_table(1.0),
    )

    @property
    def alphas_cumprod(self) -> Array:
        """``alpha_bar`` of levels 1..T: the 0-based view of length T that other libraries call so."""
        return self.alpha_bar[1:]

    @property
    def alpha_bar_prev(self) -> Array:
        r""":math:`\bar\alpha_{t-1}` for ``t = 1..T``: a 0-based view of length T whose first entry is 1."""
        return self.alpha_bar[:-1]

    @cached_property
    def log_alpha_bar_words(self) -> tuple[Array, Array]:
        """``log(alpha_bar)`` as an unevaluated sum of two float64 tables: differences of it lose nothing."""
        rest = np.concatenate([[0.0], logarithms.log_alpha_bar(self.products).low])
        rest.setflags(write=False)
        return self.log_alpha_bar, rest

    def words(self, name: str, t: ArrayLike) -> DoubleDouble:
        """A level table at levels ``t >= 1`` in two words (about 106 bits): what a law expects of float64 claims."""
        levels = arguments.level(t, self.T, lowest=1)
        flat = levels.ravel().tolist()
        return self.products.words(name, flat, [i - 1 for i in flat]).reshape(levels.shape)

    def between(self, t: ArrayLike, s: ArrayLike) -> Transition:
        """The kernels between levels ``T >= t > s >= 0`` (scalars, or integer arrays of one shape); raises `LevelError`.

        >>> float(NoiseSchedule.from_betas([0.5, 0.25, 0.5]).between(3, 1).alpha)
        0.375
        """
        return Transition(self.products, *arguments.pair(t, s, self.T))

    def trajectory(self, steps: Real, spacing: str = "even") -> Trajectory:
        """The levels a sampler of ``steps`` steps visits, ending with 0; see `ddpm_ref.reference.trajectory` for the spacings.

        >>> NoiseSchedule.from_betas([0.1] * 10).trajectory(3).levels
        (10, 6, 1, 0)
        """
        return trajectory.make(self, steps, spacing)

    @property
    def digest(self) -> str:
        """SHA-256 of the betas as hexadecimal floats: the identity of the schedule on every platform."""
        return hashlib.sha256(" ".join(map(float.hex, self.beta[1:].tolist())).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NoiseSchedule) and np.array_equal(self.beta, other.beta)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[type[NoiseSchedule], tuple[Array]]:
        # Copies and pickles are made anew from the betas: NumPy would give back tables that can be written over.
        return type(self), (self.beta[1:],)

    def __repr__(self) -> str:
        return f"NoiseSchedule(T={self.T}, beta_1={self.beta[1]:.6g}, beta_T={self.beta[-1]:.6g})"


def _validated(values: ArrayLike, name: str, allowed: str, *, complement: bool = False) -> Array:
    """The ``T`` numbers of a schedule, or a `ScheduleError` that says what is wrong with which."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ScheduleError(
            f"{name} are nested with rows of unequal lengths; give one axis, shape (T,), one number per level 1..T"
        ) from None
    if array.dtype.kind != "f":
        raise ScheduleError(
            f"{name} have dtype {array.dtype}; give real floating-point numbers, e.g. np.linspace(1e-4, 0.02, 1000)"
        )
    if array.ndim != 1 or array.size == 0:
        raise ScheduleError(
            f"{name} have shape {array.shape}; give one non-empty axis, shape (T,), one number per level 1..T"
        )
    array = array.astype(np.float64)
    lower, upper = (array >= 1, array <= 0) if complement else (array <= 0, array >= 1)
    wrong = ~np.isfinite(array) | lower | upper
    last = 0.0 if complement else 1.0
    wrong[-1] &= array[-1] != last
    if wrong.any():
        t = int(np.flatnonzero(wrong)[0]) + 1
        raise ScheduleError(f"{name} at level t = {t} is {array[t - 1]!s}; allowed: {allowed}")
    return array
