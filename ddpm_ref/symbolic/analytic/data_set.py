r"""Any finite data with any weights, in the plane: Bayes' rule for the data given noisy data, as sums over the points.

The number of points is a letter, so that what is shown holds for a data set of any size; every other law of the data is a
limit of such ones. The masses :math:`m_i = w_i\,q(x_t\mid a_i)` are known by their derivative and by nothing else.
"""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic import plane
from ddpm_ref.symbolic.derivation import Proof
from ddpm_ref.symbolic.symbols import alpha_bar_t, beta_bar_t, letter, xt

SIGNAL, NOISE = sp.sqrt(alpha_bar_t), sp.sqrt(beta_bar_t)
number = letter("number_of_points", "N", integer=True, positive=True)
i = letter("i", "i", integer=True, positive=True)
weight = sp.IndexedBase(letter("weights", "w", positive=True))
mass = sp.IndexedBase(letter("masses", "m", positive=True))
_points = sp.IndexedBase(letter("points", "a", real=True)), sp.IndexedBase(letter("more_points", "b", real=True))

POINT = sp.Matrix([each[i] for each in _points])
"""The two components of a data point."""
noisy = plane.vector("xt", "x_{t,#}")
draw = plane.vector("eps", r"\varepsilon_{#}")
LEFT_OVER = (noisy - SIGNAL * POINT) / NOISE
"""The noise that a point leaves to explain the noisy data."""

DATA = (
    r"$x_0$ is one of the points $(a_i, b_i)$, $i = 1, \dots, N$, with probability $w_i > 0$; $\sum_i w_i = 1$. Their number is"
    " arbitrary: a data set is such a law, and every law is a limit of such laws."
)
KERNEL = (
    r"$q(x_t\mid x_0) = \mathcal N(\sqrt{\bar\alpha_t}\,x_0,\ \bar\beta_t I)$ (`forward_marginal`), $\bar\beta_t > 0$."
)
NO_NOISE = "at t = 0 nothing is left to be said of the data: x_0 is known; ask for t >= 1"
NO_SIGNAL = "where alpha_bar_t = 0 (zero terminal SNR) x_t says nothing of the data; they have the mean and the"
" variance they have"


def start(proof: Proof) -> None:
    """State the law of the data and that of the noisy data."""
    proof.assume(DATA)
    proof.assume(KERNEL)


def domain(proof: Proof) -> None:
    """Where the data given noisy data have a law of their own that noise predictions determine."""
    proof.only_where(beta_bar_t, NO_NOISE)
    proof.only_where(alpha_bar_t, NO_SIGNAL)


def over_points(term: sp.Expr) -> sp.Expr:
    """The sum over all points."""
    return sp.Sum(term, (i, 1, number))


def _kernel() -> sp.Expr:
    return sp.exp(-((noisy - SIGNAL * POINT).dot(noisy - SIGNAL * POINT)) / (2 * beta_bar_t))


def density(f: sp.Expr = sp.S.One) -> sp.Expr:
    r"""Of ``f`` and noisy data, :math:`\sum_iw_if_i\exp(-\|x_t - \sqrt{\bar\alpha_t}a_i\|^2/(2\bar\beta_t))`, up to a factor."""
    return over_points(weight[i] * f * _kernel())


def in_masses(expression: sp.Expr) -> sp.Expr:
    """Every kernel by the mass that it gives its point, and sums taken apart."""
    kernel = _kernel()
    expression = expression.replace(lambda part: part == kernel, lambda _: mass[i] / weight[i])
    return expression.replace(lambda part: isinstance(part, sp.Sum), lambda total: _apart(total.function))


def given_xt(f: sp.Expr) -> sp.Expr:
    r"""By Bayes' rule, :math:`\mathbb E[f\mid x_t] = \sum_i m_if_i / \sum_i m_i`."""
    return _apart(mass[i] * f) / over_points(mass[i])


def over_both(f: sp.Expr) -> sp.Expr:
    r"""Expectation over data and noise: of each point, with :math:`x_t = \sqrt{\bar\alpha_t}a_i + \sqrt{\bar\beta_t}\varepsilon`.

    It is the average over ``xt`` of `given_xt`, whose denominator cancels against the density of ``xt``.
    """
    mixed = f.subs(dict(zip(noisy, SIGNAL * POINT + NOISE * draw, strict=True)))
    return _apart(weight[i] * plane.standard_expectation(sp.expand(mixed), draw))


def _apart(term: sp.Expr) -> sp.Expr:
    """Summed over all points, one sum per term, with what is the same for all points in front."""
    parts = (part.as_independent(i, as_Add=False) for part in sp.Add.make_args(sp.expand(term)))
    return sp.Add(*(constant * over_points(rest) for constant, rest in parts))


def in_one_dimension(expression: sp.Expr) -> sp.Expr:
    """The first component by its plain name."""
    return expression.subs(noisy[0], xt)
