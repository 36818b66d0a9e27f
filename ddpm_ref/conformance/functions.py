"""Capabilities of an implementation whose functions have the names, and the arguments, that this package gives them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from ddpm_ref.conformance.capabilities import Handle, Native

SUBJECTS = (
    "forward", "posterior", "prediction", "reverse", "ancestral", "ddim", "analytic", "plan", "guidance", "divergence", "decoder",
    "bound", "objectives", "scaling",
)  # fmt: skip
"""The modules that hold the functions, of one name in both wings."""


def modules_of(wing: str) -> tuple[ModuleType, ...]:
    """Those of a wing, ``"ddpm_ref.reference"`` or ``"ddpm_ref.torch"``."""
    return tuple(import_module(f"{wing}.{subject}") for subject in SUBJECTS)


class Functions:
    """Capabilities found by name in a list of modules: the functions themselves are the answers."""

    _modules: tuple[ModuleType, ...]

    def __getattr__(self, name: str) -> Any:
        for module in self.__dict__.get("_modules", ()):
            if not name.startswith("_") and hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)

    # Arguments that few implementations know are capabilities of their own, so that nobody is asked for them unawares.

    def ddim_posterior_of_variance(
        self, schedule: Handle, x0: Native, xt: Native, t: Native, s: Native, variance: Native
    ) -> tuple[Native, Native]:
        """The posterior for a variance instead of eta."""
        mean, kept = self.ddim_posterior(schedule, x0, xt, t, s, variance=variance)
        return mean, kept

    def first_log_variance(self, schedule: Handle, t: Native, s: Native, rule: str) -> Native:
        """The log-variances of some steps, those to level 0 by a rule."""
        return self.posterior_log_variance(schedule, t, s, rule)

    def classifier_guided_eps_of_samples(
        self, schedule: Handle, eps: Native, t: Native, gradient: Native, scales: Native
    ) -> Native:
        """Guided noise with a scale for each sample."""
        return self.classifier_guided_eps(schedule, eps, t, gradient, scales)

    def second_moment_of_a_number(
        self, schedule: Handle, second_moment: float, t: Native, s: Native, dimension: int
    ) -> Native:
        """The second moment at level t from a plain number."""
        return self.second_moment(schedule, second_moment, t, s, dimension)

    def kl_of_equal_means(self, mean: Native, logvar1: Native, logvar2: Native) -> Native:
        """The divergence of two laws with one mean, however narrow they are."""
        return self.kl_normal_logvar(mean, logvar1, mean, logvar2)

    def dynamic_threshold_limited(self, x0: Native, percentile: float, maximum: float) -> Native:
        """Dynamic thresholding with a limit of the threshold; data may be empty."""
        return self.dynamic_threshold(x0, percentile, maximum)
