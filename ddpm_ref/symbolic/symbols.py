r"""The letters of the derivations: each has a range, a LaTeX form, and one meaning everywhere.

Letters of a step from level ``t`` to a lower level ``s`` stand for numbers that a schedule gives
(`ddpm_ref.symbolic.levels`); the one-step letters of the papers are those of ``s = t - 1``. Letters of data stand for
any real number: what is derived here acts on each component of a vector alone, unless it says otherwise.
"""

from __future__ import annotations

import sympy as sp

_LATEX: dict[str, str] = {}


def letter(name: str, latex: str, **assumptions: bool) -> sp.Symbol:
    """A symbol of this name, with sympy's assumptions about it (``positive=True``, ``real=True``...) and its LaTeX.

    Raises ValueError if the name already has another LaTeX form: one letter, one meaning.

    >>> letter("x0", "x_0", real=True) == x0
    True
    """
    if _LATEX.setdefault(name, latex) != latex:
        raise ValueError(f"the letter {name} is already written {_LATEX[name]}; take another name for {latex}")
    return sp.Symbol(name, **assumptions)


t = letter("t", "t", integer=True, positive=True)
s = letter("s", "s", integer=True, nonnegative=True)
T = letter("T", "T", integer=True, positive=True)

alpha_bar_t = letter("alpha_bar_t", r"\bar\alpha_t", positive=True)
alpha_bar_s = letter("alpha_bar_s", r"\bar\alpha_s", positive=True)
alpha_bar_T = letter("alpha_bar_T", r"\bar\alpha_T", positive=True)
beta_bar_t = letter("beta_bar_t", r"\bar\beta_t", positive=True)
beta_bar_s = letter("beta_bar_s", r"\bar\beta_s", positive=True)
beta_bar_T = letter("beta_bar_T", r"\bar\beta_T", positive=True)
alpha = letter("alpha", r"\alpha_{t\mid s}", positive=True)
beta = letter("beta", r"\beta_{t\mid s}", positive=True)
alpha_bar_r = letter("alpha_bar_r", r"\bar\alpha_r", positive=True)
beta_bar_r = letter("beta_bar_r", r"\bar\beta_r", positive=True)

LEVELS = (alpha_bar_t, alpha_bar_s, alpha_bar_T, beta_bar_t, beta_bar_s, beta_bar_T, alpha, beta)
"""What a schedule says of a step from t to s, and of its last level T."""

FRACTIONS: frozenset[str] = frozenset(level.name for level in (*LEVELS, alpha_bar_r, beta_bar_r))
"""Names of the letters that lie between 0 and 1; other positive letters may have any size."""

RELATIONS: dict[sp.Expr, sp.Expr] = {
    beta: 1 - alpha,
    alpha_bar_t: alpha * alpha_bar_s,
    beta_bar_t: 1 - alpha * alpha_bar_s,
    beta_bar_s: 1 - alpha_bar_s,
    beta_bar_T: 1 - alpha_bar_T,
    beta_bar_r: 1 - alpha_bar_r,
}
"""How the level letters hang together: by definition all of them follow from two, what is kept up to s and from s to t.

``r`` is one more level, below ``s``, for what concerns two steps.
"""

x = letter("x", "x", real=True)
x0 = letter("x0", "x_0", real=True)
xs = letter("xs", "x_s", real=True)
xt = letter("xt", "x_t", real=True)
eps = letter("eps", r"\varepsilon", real=True)
noise = letter("noise", "z", real=True)
v = letter("v", "v", real=True)
score = letter("score", r"\nabla\log q", real=True)
x0_hat = letter("x0_hat", r"\hat x_0", real=True)
eps_hat = letter("eps_hat", r"\hat\varepsilon", real=True)
x0_mean = letter("x0_mean", r"\mathbb E[x_0\mid x_t]", real=True)
x0_variance = letter("x0_variance", r"\mathrm{Var}(x_0\mid x_t)", positive=True)
data_mean = letter("data_mean", "m", real=True)
data_variance = letter("data_variance", r"\tau^2", positive=True)
gain = letter("gain", "g", real=True)
fraction = letter("fraction", r"\nu", nonnegative=True)
eta = letter("eta", r"\eta", nonnegative=True)
mean = letter("mean", r"\mu", real=True)
mean1 = letter("mean1", r"\mu_1", real=True)
mean2 = letter("mean2", r"\mu_2", real=True)
variance = letter("variance", r"\sigma^2", positive=True)
variance1 = letter("variance1", r"\sigma_1^2", positive=True)
variance2 = letter("variance2", r"\sigma_2^2", positive=True)


def latex(expression: sp.Basic) -> str:
    r"""An expression as LaTeX, in the letters of the papers.

    >>> print(latex(sp.sqrt(alpha_bar_t) * x0))
    \sqrt{\bar\alpha_t} x_0
    """
    names = {symbol: _LATEX[symbol.name] for symbol in expression.free_symbols if symbol.name in _LATEX}
    return str(sp.latex(expression, symbol_names=names))


def equation(name: str, expression: sp.Basic) -> str:
    r"""``name = expression`` as LaTeX, for a name that is no letter.

    >>> print(equation(r"\tilde\mu", alpha_bar_t * x0))
    \tilde\mu = \bar\alpha_t x_0
    """
    return f"{name} = {latex(expression)}"
