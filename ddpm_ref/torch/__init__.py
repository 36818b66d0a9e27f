"""The formulas of `ddpm_ref.reference` on tensors: same stems, same signatures, any device, differentiable.

The first argument is a `Tables` instead of a ``NoiseSchedule``::

    tables = ddpm_ref.torch.tables(schedule).to("cuda")
    xt = ddpm_ref.torch.forward.q_sample(tables, x0, t, noise)

``ddpm_ref.torch.tables`` is that function; the module of the same name is reached with ``from ddpm_ref.torch.tables
import …``.
"""

from __future__ import annotations

from ddpm_ref.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401 - asked for here so that its absence has a name and a remedy
except ModuleNotFoundError as missing:
    if missing.name != "torch":
        raise
    raise MissingExtraError(
        "ddpm_ref.torch needs PyTorch, which is not installed; write: pip install 'ddpm-ref[torch]'"
    ) from missing

from ddpm_ref.torch import (
    analytic,
    ancestral,
    bound,
    ddim,
    decoder,
    divergence,
    forward,
    guidance,
    labelled_oracle,
    labels,
    objectives,
    oracle,
    plan,
    posterior,
    prediction,
    reverse,
    scaling,
    schedule,
)
from ddpm_ref.torch.tables import Tables, tables

__all__ = [
    "Tables",
    "analytic",
    "ancestral",
    "bound",
    "ddim",
    "decoder",
    "divergence",
    "forward",
    "guidance",
    "labelled_oracle",
    "labels",
    "objectives",
    "oracle",
    "plan",
    "posterior",
    "prediction",
    "reverse",
    "scaling",
    "schedule",
    "tables",
]
