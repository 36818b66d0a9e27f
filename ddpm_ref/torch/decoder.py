"""The discretised Gaussian decoder: how likely a Gaussian makes one of the levels that an image is stored in."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ddpm_ref.errors import PrecisionError, RangeError
from ddpm_ref.torch.arguments import Number, broadcast_shapes, common_shape, first_tensor, parameters, positive, within
from ddpm_ref.torch.tables import two_sum

MOST_LEVELS = 2**20
"""Whole numbers and halves of this size are exact in float32, with room for the roundings of a product."""

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

# Half of the bits of a float, as an integer to mask its last half with.
HALVES = {torch.float64: (torch.int64, -(1 << 27)), torch.float32: (torch.int32, -(1 << 12))}

# The exponent of a float, as the bits of an integer.
EXPONENTS = {torch.float64: (torch.int64, 0x7FF << 52), torch.float32: (torch.int32, 0xFF << 23)}

# From here on the exponential of minus this is 0.
VANISHING = {torch.float64: 746.0, torch.float32: 104.0}

# A power of two whose square is about the largest number: means and stds above it are taken apart.
HUGE = {torch.float64: 2.0**512, torch.float32: 2.0**64}

SQRT2 = (1.4142135614529252, 9.201698435709759e-10)
"""The root of 2 in two words, the first of 31 bits: its products with whole numbers up to 2**20 are exact."""

DISTANT = 4.0
NARROW_UNIT, NARROW_OVERLAP = 4 * math.sqrt(2), 0.5


def discretized_gaussian_log_likelihood(
    level_index: Tensor | int, mean: Number, std: Number, levels: int = 256
) -> Tensor:
    r"""Log-probability that a Gaussian falls into the bin of a level, in nats per element.

    .. math::
        \log\left[\Phi\left(\frac{x_k + h - \mu}{\sigma}\right) - \Phi\left(\frac{x_k - h - \mu}{\sigma}\right)\right],
        \qquad x_k = -1 + \frac{2k}{n-1}, \quad h = \frac1{n-1}

    The lowest bin reaches down to minus infinity and the highest up to infinity, so that the n probabilities sum to 1.

    Args:
        level_index: k in ``0 .. levels - 1``, an integer tensor (or one int).
        mean, std: of the Gaussian, on the scale of data in [-1, 1]; ``std`` > 0 is a standard deviation. Numbers are
            allowed beside at least one tensor. All three broadcast.
        levels: n, 2 to 2**20.

    Returns:
        Nats per element, <= 0, in the broadcast shape and the dtype of the data. Differentiable in mean and std.

    Raises:
        RangeError: a level or a number of levels out of range, a std that is not positive (levels and stds are seen on
            CPU).
        PrecisionError: ``level_index`` is not an integer tensor.
        ShapeError: see `ddpm_ref.torch.arguments`.

    Limits: the exact :math:`\Phi`, in the tensor's own format and without a floor: at most 8 ulp for stds of 1e-6 to
    1e3, up to 40 stds from the bin. What is smaller than the format (a bin that catches all but 1e-324) is 0, and where
    the square of the distance in stds overflows (from 1e19 in float32) the answer is -inf. Source: ho2020, eq. (13).

    >>> mean = torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64)
    >>> discretized_gaussian_log_likelihood(torch.tensor([0, 127, 255]), mean, 0.1)
    tensor([ -0.6623,  -3.4655, -14.8623], dtype=torch.float64)
    """
    like, k, m, s = _arguments(level_index, mean, std, levels)
    return _log_probability(k, m, s, levels).to(like.dtype)


def discretized_gaussian_log_likelihood_tanh(
    level_index: Tensor | int, mean: Number, std: Number, levels: int = 256
) -> Tensor:
    r"""The approximation of the decoder that is widely copied, for comparison only, in nats per element.

    .. math::
        \log\max\left(10^{-12},\ \hat\Phi(z_+) - \hat\Phi(z_-)\right), \qquad
        \hat\Phi(z) = \tfrac12\left[1 + \tanh\left(\sqrt{2/\pi}\,(z + 0.044715\,z^3)\right)\right]

    Args:
        level_index, mean, std, levels: see `discretized_gaussian_log_likelihood`.

    Returns:
        Nats per element, in the broadcast shape and the dtype of the data.

    Raises:
        RangeError, PrecisionError, ShapeError: see `discretized_gaussian_log_likelihood`.

    Limits: :math:`\hat\Phi` errs by up to 1.8e-4; the floor caps every cost at 27.63 nats and has no gradient there;
    the n probabilities do not sum to 1, and narrow bins lose their digits. Source: the code of ho2020 and nichol2021.
    """
    like, k, m, s = _arguments(level_index, mean, std, levels)
    centre = 2 * k.to(m.dtype) / (levels - 1) - 1
    s = s.clamp(min=torch.finfo(s.dtype).tiny)
    half, size = 1 / (levels - 1), _power_of_two(s)
    upper, lower = (_tanh_cdf((centre + edge - m) / (s / size) / size) for edge in (half, -half))
    upper, lower = upper.masked_fill(k == levels - 1, 1), lower.masked_fill(k == 0, 0)
    return (upper - lower).clamp(min=1e-12).log().to(like.dtype)


def _tanh_cdf(z: Tensor) -> Tensor:
    z = z.clamp(-10, 10)  # beyond, the hyperbolic tangent is 1 to the last digit, and the cube would overflow
    return (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2


def _arguments(
    level_index: Tensor | int, mean: Number, std: Number, levels: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What decides the format, and the three arguments in their compute formats, checked."""
    checked_level_count(levels)
    like = first_tensor(mean=mean, std=std)
    m, s = parameters(like, mean=mean, std=std)
    k = _levels_or_one(level_index, like.device, levels)
    common_shape(level_index=k, mean=m, std=s)
    within(0, levels - 1, level_index=k)
    positive(std=s)
    return like, k, m, s


def _levels_or_one(level_index: Tensor | int, device: torch.device, levels: int) -> Tensor:
    """An integer tensor on the device of the Gaussian, of one int too."""
    wanted = (
        f"write the whole levels 0..{levels - 1} as an integer tensor on {device} or as one int; "
        f"for data in [-1, 1] that is ddpm_ref.torch.scaling.to_level_index(x, {levels})"
    )
    if isinstance(level_index, Tensor):
        if level_index.dtype not in INTEGERS or level_index.device != device:
            given = f"{level_index.dtype} on {level_index.device}"
            raise PrecisionError(f"level_index is {given} beside a Gaussian on {device}: {wanted}")
        return level_index
    if isinstance(level_index, bool) or not isinstance(level_index, int):
        raise PrecisionError(f"level_index is a {type(level_index).__name__}: {wanted}")
    if not 0 <= level_index < levels:  # before a tensor is made of it, which holds 64 bits
        raise RangeError(f"level_index = {level_index} is no level: {wanted}")
    return torch.full((), level_index, device=device)


def checked_level_count(levels: int, name: str = "levels") -> int:
    """A whole number of levels in 2..2**20, or `RangeError`."""
    if isinstance(levels, bool) or not isinstance(levels, int) or not 2 <= levels <= MOST_LEVELS:
        raise RangeError(f"{name} = {levels!r}: write a whole number of levels, 2 to {MOST_LEVELS}; 256 for 8-bit data")
    return levels


def _log_probability(k: Tensor, mean: Tensor, std: Tensor, levels: int) -> Tensor:
    r"""The formula, with every distance from the mean in units of :math:`\sqrt2\,\sigma`.

    Multiplied by n - 1, centres and edges are whole numbers and exact: the edges of level k are
    :math:`2k - (n-1) \pm 1`. Distances are two words, because :math:`\mathrm{erfc}(x)` errs by :math:`2x^2` times what
    x does. The low words repair roundings, whose derivative is 0, and are constants to automatic differentiation.
    """
    last = levels - 1
    lowest, highest = k == 0, k == last
    # Without their powers of two neither the mean nor the std nor a derivative in between overflows.
    size, room = _power_of_two(std), _room(mean)
    scale = (room / size).clamp(max=1 / torch.finfo(std.dtype).tiny)
    position, position_low = _times(mean / room, *_words(last, 0.0, mean.dtype))
    unit, unit_low = _times(std / size, *_words(last * SQRT2[0], last * SQRT2[1], std.dtype))
    away, error = two_sum((2 * k.to(mean.dtype) - last) / room, -position)
    away, away_low = renormalised(away, error - position_low)
    # The mean lies below the centre; otherwise both are mirrored. A bin open on one side shows its edge.
    mirrored = lowest | (~highest & (away < 0))
    away, away_low = torch.where(mirrored, -away, away), torch.where(mirrored, -away_low, away_low)
    shape = broadcast_shapes(away.shape, unit.shape)
    away, unit, is_open = away.expand(shape), unit.expand(shape), (lowest | highest).expand(shape)
    zero, one = torch.zeros_like(away), torch.ones_like(away)
    # What a form that is not chosen is given are harmless numbers: 0 times an infinite derivative would be NaN.
    closed_away = torch.where(is_open, one, away)  # an open bin has no far edge
    scaled_inverse = 1 / unit
    inverse, centre_x = scaled_inverse / size, closed_away * scaled_inverse * scale
    overlap = (4 * centre_x * inverse).detach()  # far^2 - near^2
    narrow = ~is_open & (unit * size >= NARROW_UNIT) & (overlap <= NARROW_OVERLAP)
    # The distance of a narrow bin is that of its centre, of any other that of its nearer edge.
    near_x, near_low = _distance(away, away_low, torch.where(narrow, zero, -one / room), unit, unit_low, scale)
    far_x, far_low = _distance(closed_away, away_low.masked_fill(is_open, 0), one / room, unit, unit_low, scale)
    inside, distant = ~narrow & (near_x < 0), ~narrow & (near_x >= DISTANT)
    between = ~(narrow | inside | distant)
    vanishing = VANISHING[away.dtype]
    near_square = near_x.detach().square()
    beyond = distant & near_square.isinf()
    near_caught = ~(inside & (near_square > vanishing))
    far_caught = torch.where(distant, ~beyond & (overlap <= vanishing), far_x.detach().square() <= vanishing)
    far_caught = far_caught & ~is_open & ~narrow
    near = _squared(torch.where(near_caught, near_x, one), near_low.masked_fill(~near_caught, 0)).magnitude()
    far = _squared(torch.where(far_caught, far_x, one), far_low.masked_fill(~far_caught, 0))

    near_scaled = torch.special.erfcx(torch.where(beyond, one, near.x))
    far_scaled = torch.special.erfcx(far.x)
    near_tail = near.upper_tail(near_scaled).masked_fill(~near_caught, 0)
    far_tail = far.upper_tail(far_scaled).masked_fill(~far_caught, 0)
    missed = torch.where(inside, near_tail + far_tail, zero)
    caught = torch.where(between, near_tail - far_tail, one)

    closed = narrow | (distant & far_caught)
    overlap = 4 * torch.where(closed, centre_x, zero) * torch.where(closed, inverse, one)
    edges = (near_scaled - ((-overlap).exp() * far_scaled).masked_fill(~far_caught, 0)) / 2
    taken = torch.where(size > HUGE[size.dtype], size, torch.ones_like(size))
    inverse, kept_inverse = torch.where(narrow, inverse, one), torch.where(narrow, scaled_inverse * (taken / size), one)
    centre = (
        _mean_ratio(torch.where(narrow, overlap / 2, zero), 2 * inverse * inverse)
        * kept_inverse
        * (2 / math.sqrt(math.pi))
    )
    factor = torch.where(narrow, centre, torch.where(distant & ~beyond, edges, one))
    with_factor = (factor.log() - torch.where(narrow, taken.log(), zero) - near.square_low) - near.square

    return torch.where(inside, torch.log1p(-missed), torch.where(between, caught.log(), with_factor))


class _Distance(NamedTuple):
    r"""x and its square in two words each, of which the low ones have no gradient."""

    x: Tensor
    low: Tensor
    square: Tensor
    square_low: Tensor

    def magnitude(self) -> _Distance:
        """|x|, whose slope at 0 is 1 and not, as that of ``abs``, 0."""
        below = self.x < 0
        return self._replace(x=torch.where(below, -self.x, self.x), low=torch.where(below, -self.low, self.low))

    def upper_tail(self, scaled: Tensor) -> Tensor:
        r""":math:`\tfrac12\mathrm{erfc}(x)` for x >= 0, ``scaled`` being :math:`e^{x^2}\mathrm{erfc}(x)`.

        torch's erfc errs by less than one rounding where its erfcx errs by eight, but it has no room for the low word.
        """
        gauss = (-self.square).exp()
        shift = (self.low * gauss).detach() / math.sqrt(math.pi)
        return torch.where(self.x < DISTANT, torch.erfc(self.x) / 2 - shift, gauss * (1 - self.square_low) * scaled / 2)


def _distance(
    away: Tensor, away_low: Tensor, shift: Tensor, unit: Tensor, unit_low: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """``scale (away + shift) / unit`` in two words, or the largest number."""
    total, error = two_sum(away, shift)
    above, above_low = renormalised(total, error + away_low)
    quotient = above / unit
    with torch.no_grad():
        product = quotient * unit
        remainder = ((above - product) - product_error(quotient, unit, product)) + (above_low - quotient * unit_low)
        low = remainder / unit * scale
    largest = torch.finfo(away.dtype).max
    return (quotient * scale).clamp(-largest, largest), low


def _squared(x: Tensor, low: Tensor) -> _Distance:
    square = x * x
    with torch.no_grad():
        square_low = product_error(x, x, square) + 2 * x * low
        finite = square.isfinite()
        low, square_low = torch.where(finite, low, 0), torch.where(finite, square_low, 0)
    return _Distance(x, low, square, square_low)


def _mean_ratio(a: Tensor, q: Tensor) -> Tensor:
    r"""The mean of a normal density over a narrow bin, relative to the density at its centre.

    With c the centre and w the width in stds, a = cw/2 and :math:`q = w^2/4`, it is
    :math:`\sum_j \mathit{He}_{2j}(c)\,(w/2)^{2j}/(2j+1)!`, whose terms are even ones of
    :math:`T_{n+1} = a\,T_n - n\,q\,T_{n-1}`.
    """
    before, term = torch.ones_like(a), a
    corrections = torch.zeros_like(a)
    for n in range(1, 16 if a.dtype == torch.float64 else 8):
        before, term = term, a * term - n * (q * before)
        if n % 2:
            corrections = corrections + term / math.factorial(n + 2)
    return 1 + corrections


def _times(x: Tensor, factor: float | int, factor_low: float | int) -> tuple[Tensor, Tensor]:
    """The product of a tensor and a number of two words, in two words."""
    product = x * factor
    with torch.no_grad():
        whole = torch.full_like(product, factor)
        return product, product_error(x, whole, product) + x * factor_low


def renormalised(high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """The same sum, its first word rounded to nearest; the low word may have been large beside a difference."""
    total = high + low.detach()
    return total, ((high - total) + low).detach()


def product_error(a: Tensor, b: Tensor, product: Tensor) -> Tensor:
    """``a b - product``, exactly, from halves whose products are exact (Dekker 1971)."""
    a_head, b_head = _head(a), _head(b)
    a_tail, b_tail = a - a_head, b - b_head
    return ((a_head * b_head - product) + a_head * b_tail + a_tail * b_head) + a_tail * b_tail


def _power_of_two(x: Tensor) -> Tensor:
    """The largest power of two, that is a normal number, in x > 0; a constant to automatic differentiation."""
    integer, mask = EXPONENTS[x.dtype]
    return (x.detach().view(integer) & mask).view(x.dtype).clamp(min=torch.finfo(x.dtype).tiny)


def _room(mean: Tensor) -> Tensor:
    """The power of two that a huge mean is divided by, so that its products have room; of any other 1."""
    huge = torch.full_like(mean, HUGE[mean.dtype]).detach()
    return torch.where(mean.detach().abs() > huge, huge, torch.ones_like(huge))


def _head(x: Tensor) -> Tensor:
    """The first half of the bits of x, by a mask: products and differences could be fused when compiled."""
    integer, mask = HALVES[x.dtype]
    return (x.detach().view(integer) & mask).view(x.dtype)


def _words(high: float | int, low: float, dtype: torch.dtype) -> tuple[float, float]:
    """A number of two words as two words of ``dtype``."""
    total = high + low
    rest = (high - total) + low
    if dtype == torch.float64:
        return total, rest
    scaled = total * (2**29 + 1)
    short = scaled - (scaled - total)
    return short, (total - short) + rest
