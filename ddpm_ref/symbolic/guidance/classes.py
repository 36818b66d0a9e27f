r"""What guidance starts from: any number of classes with any densities, and normal data of which a noisy copy was observed.

The densities of the classes are unknown functions, of which only the derivative is named: the score of the class.
"""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.ancestral.normal_data import AT_T
from ddpm_ref.symbolic.derivation import Proof
from ddpm_ref.symbolic.gaussian import complete_square, log_density
from ddpm_ref.symbolic.posterior.chain import MARGINAL_T
from ddpm_ref.symbolic.symbols import (
    alpha_bar_t,
    beta_bar_t,
    data_variance,
    letter,
    x0,
    xt,
)  # fmt: skip

SIGNAL, NOISE = sp.sqrt(alpha_bar_t), sp.sqrt(beta_bar_t)

number = letter("number_of_classes", "C", integer=True, positive=True)
label = letter("label", "y", integer=True, positive=True)
c = letter("class_index", "c", integer=True, positive=True)
prior = sp.IndexedBase(letter("priors", r"\pi", positive=True))
densities = sp.IndexedBase(letter("densities", "q", positive=True))
scores = sp.IndexedBase(letter("scores", "s", real=True))
_density = sp.Function("density", positive=True)

gradient = letter("gradient", r"\nabla\log f", real=True)
classifier_scale = letter("classifier_scale", r"\omega", real=True)
guidance_weight = letter("guidance_weight", "w", real=True)
guidance_scale = letter("guidance_scale", r"\gamma", real=True)
eps_conditional = letter("eps_conditional", r"\hat\varepsilon_y", real=True)
observation = letter("observation", "y", real=True)
observation_variance = letter("observation_variance", r"\rho^2", positive=True)

CLASSES = (
    r"A label $y$ has the prior $\pi_y > 0$, and given it $x_t$ has a density $q_y(x_t)$ with the score $s_y = \nabla\log q_y$;"
    r" any number $C$ of classes, any densities."
)
OBSERVED = r"$x_0 \sim \mathcal N(0, \tau^2)$, and what is given is an observation $y = x_0 + \rho z$, a classifier"
r" that is known exactly."
NO_NOISE = "at t = 0 there is no noise to guide (beta_bar = 0); ask for t >= 1"


def joint(of: sp.Expr) -> sp.Expr:
    """Density of noisy data and a label."""
    return prior[of] * _density(of, xt)


def marginal() -> sp.Expr:
    """Density of the noisy data, whatever the label."""
    return sp.Sum(joint(c), (c, 1, number))


def slope(of: sp.Expr) -> sp.Expr:
    """The derivative of a logarithm by the noisy data, with every class's score by its name."""
    found = sp.diff(sp.log(of), xt)
    found = found.replace(sp.Derivative, lambda f, *_: f * scores[f.args[0]])
    return found.replace(_density, lambda of, _: densities[of])


def given_xt(f: sp.Expr) -> sp.Expr:
    """Average over the classes with the probabilities that Bayes' rule gives them; ``f`` indexed by `c`."""
    weight = prior[c] * densities[c]
    return sp.Sum(weight * f, (c, 1, number)) / sp.Sum(weight, (c, 1, number))


def start(proof: Proof) -> None:
    """State what guidance starts from."""
    proof.assume(CLASSES)


def domain(proof: Proof) -> None:
    """Where there is noise to guide."""
    proof.only_where(beta_bar_t, NO_NOISE)


def predicted_observation() -> tuple[sp.Expr, sp.Expr]:
    """Per unit of noisy data the mean, and the variance, of the observation given noisy data."""
    data = complete_square(MARGINAL_T - x0**2 / (2 * data_variance), x0)
    return sp.factor(data.mean / xt), data.variance + observation_variance


def observed_gradient() -> sp.Expr:
    """The exact gradient: the log density of the observation given noisy data, differentiated by these."""
    per_unit, spread = predicted_observation()
    return sp.diff(log_density(observation, per_unit * xt, spread), xt)


def observed_eps() -> sp.Expr:
    """The best unconditional prediction per unit of noisy data."""
    return NOISE / AT_T


def data_given_observation() -> tuple[sp.Expr, sp.Expr]:
    """Mean and variance of the data given the observation, by completing the square."""
    square = complete_square(-((observation - x0) ** 2) / (2 * observation_variance) - x0**2 / (2 * data_variance), x0)
    return square.mean, square.variance
