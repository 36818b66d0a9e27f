r"""States in the middle integrated out of a product of normal densities: how kernels compose."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof
from ddpm_ref.symbolic.gaussian import complete_square, integral
from ddpm_ref.symbolic.symbols import latex


class Normal(NamedTuple):
    """A normal density of ``x`` by its parts; ``front`` squared, so that no root is ever in the way.

    >>> x = sp.Symbol("x")
    >>> Normal(x, sp.Integer(3), sp.Integer(2)).front_squared
    1/(4*pi)
    """

    x: sp.Symbol
    mean: sp.Expr
    variance: sp.Expr

    @property
    def exponent(self) -> sp.Expr:
        """What stands under the exponential."""
        return -((self.x - self.mean) ** 2) / (2 * self.variance)

    @property
    def front_squared(self) -> sp.Expr:
        """The square of the constant before the exponential."""
        return 1 / (2 * sp.pi * self.variance)

    @property
    def shown(self) -> str:
        """LaTeX."""
        return rf"\mathcal N\left({latex(self.x)};\ {latex(self.mean)},\ {latex(self.variance)}\right)"


class Weight(NamedTuple):
    """A positive function by the square of its front and by its exponent."""

    front_squared: sp.Expr
    exponent: sp.Expr


def product(*factors: Normal) -> Weight:
    """Fronts multiply and exponents add."""
    return Weight(sp.Mul(*(f.front_squared for f in factors)), sp.Add(*(f.exponent for f in factors)))


def without(x: sp.Symbol, weight: Weight) -> Weight:
    r"""What is left when ``x`` is integrated out: :math:`\int e^{-(x-\mu)^2/(2\sigma^2) + c}\,dx = \sqrt{2\pi\sigma^2}\,e^c`.

    >>> x, y, v = sp.Symbol("x"), sp.Symbol("y"), sp.Symbol("v", positive=True)
    >>> left = without(x, product(Normal(x, y, v)))
    >>> left.front_squared, left.exponent
    (1, 0)
    """
    square = complete_square(weight.exponent, x)
    return Weight(weight.front_squared * square.variance * _of_the_bell() ** 2, sp.expand(square.constant))


@cache
def _of_the_bell() -> sp.Expr:
    u = sp.Dummy("u", real=True)
    return integral(sp.exp(-(u**2) / 2), u)


def integrate_out(proof: Proof, state: sp.Symbol, x: sp.Symbol, *factors: Normal) -> Normal:
    """The law of ``x`` that a product of densities leaves when ``state`` is integrated out, read off and then checked.

    Writes two lines into the proof: that the exponent is the one of this law, and that its front is.
    """
    left = without(state, product(*factors))
    square = complete_square(left.exponent, x)
    law = Normal(x, square.mean, square.variance)
    kernels = r"\,".join(factor.shown for factor in factors)
    whole = rf"\int {kernels}\,d{latex(state)}"
    proof.equal(
        f"Complete the square in ${latex(state)}$ and integrate it out; what is left in the exponent is quadratic in "
        f"${latex(x)}$, with mean ${latex(law.mean)}$ and variance ${latex(law.variance)}$, and nothing else:",
        left.exponent,
        law.exponent,
        shown=rf"{whole} \propto \exp\left({latex(law.exponent)}\right)",
    )
    proof.equal(
        "The front is the one that belongs to this variance (squared, both are positive), so it is a normal density:",
        left.front_squared,
        law.front_squared,
        shown=f"{whole} = {law.shown}",
    )
    return law
