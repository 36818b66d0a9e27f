"""Estimation: what a trained network leaves unknown of its data, measured, with intervals. Needs the extra `train`."""

from __future__ import annotations

from ddpm_ref import extras

try:
    from ddpm_ref.estimation.comoments import CoMoments
    from ddpm_ref.estimation.measurement import Estimate, estimate
    from ddpm_ref.estimation.moments import Moments, Origin, data_digest, network_digest
except ModuleNotFoundError as error:
    raise extras.missing(error, "train") from error

__all__ = ["CoMoments", "Estimate", "Moments", "Origin", "data_digest", "estimate", "network_digest"]
