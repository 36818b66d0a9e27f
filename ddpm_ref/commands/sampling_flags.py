"""Which flags of ``ddpm-ref sample`` belong to which sampler."""

from __future__ import annotations

from ddpm_ref.errors import RangeError
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory


def variance_of(sampler: str, flag: str | None, learned: str | None) -> str | None:
    """The variance of the steps: that of the flag; or, in ancestral sampling, that which the run learned.

    >>> variance_of("ddpm", None, "learned_range"), variance_of("ddim", None, "learned_range")
    ('learned_range', None)
    """
    if flag is None:
        return (learned or "posterior") if sampler == "ddpm" else None
    wanted = flag.replace("-", "_")
    if sampler == "ddpm" and wanted.startswith("learned") and wanted != learned:
        has = "learned none" if learned is None else f"learned another, {learned}"
        better = (
            "train one with --loss hybrid --variance learned_range, or write --variance posterior"
            if learned is None
            else f"write --variance {learned}"
        )
        raise RangeError(f"--variance {flag}: the network of this run {has}; {better}")
    return wanted


def plan_of(
    schedule: NoiseSchedule,
    trajectory: Trajectory,
    sampler: str,
    variance: str | None,
    eta: float | None,
    clip: bool,
    threshold: float | None,
    keep_eps: bool,
) -> Plan:
    """The plan of the flags of `sample`, or an error that names those that do not belong together."""
    if sampler == "ddpm" and eta is not None:
        raise RangeError(f"--eta {eta:g} belongs to --sampler ddim; ddpm takes --variance")
    if sampler == "ddim" and variance is not None:
        raise RangeError(f"--variance {variance} belongs to --sampler ddpm; ddim takes --eta, and 1 is posterior")
    if keep_eps and (sampler == "ddpm" or not (clip or threshold is not None)):
        raise RangeError(
            "--keep-eps says what --sampler ddim does after clipping x0; leave it out, or write --sampler ddim --clip"
        )
    limits = (-1.0, 1.0) if clip and threshold is None else None
    rule = None if threshold is None else plans.Threshold(threshold)
    if sampler == "ddpm":
        return plans.ancestral(schedule, trajectory, variance or "posterior", clip=limits, threshold=rule)
    return plans.ddim(schedule, trajectory, eta or 0.0, limits, rederive_eps=not keep_eps, threshold=rule)
