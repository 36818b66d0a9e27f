"""Laws of Analytic-DPM: what is unknown of the data, the variance of a reverse step that follows, and its bounds."""

from ddpm_ref.laws.analytic import sampling, unknown, variance

LAWS = (*unknown.LAWS, *variance.LAWS, *sampling.LAWS)

__all__ = ["LAWS"]
