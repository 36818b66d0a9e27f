"""Every formula derived from first principles, step by checked step; independent of `ddpm_ref.reference`.

The files have the names they have in `ddpm_ref.reference`. What a derivation ends in can be evaluated exactly, and the
tests hold the reference against it.
"""

from __future__ import annotations

from ddpm_ref.extras import require

require("sympy", "symbolic")

from ddpm_ref.errors import RangeError  # noqa: E402 - a missing extra is named before anything of it is needed
from ddpm_ref.symbolic import (  # noqa: E402
    analytic,
    ancestral,
    bound,
    ddim,
    divergence,
    forward,
    guidance,
    objectives,
    posterior,
    prediction,
    reverse,
    schedule,
)
from ddpm_ref.symbolic.derivation import Derivation, Derive, Proof, derives  # noqa: E402
from ddpm_ref.symbolic.levels import ExactSchedule  # noqa: E402

SUBJECTS = (
    schedule, forward, posterior, prediction, reverse, bound, objectives, ancestral, ddim, analytic, guidance, divergence,
)  # fmt: skip
DERIVATIONS: dict[str, Derive] = {made.__name__: made for subject in SUBJECTS for made in subject.DERIVATIONS}
"""What makes each derivation, by the id of its formula, in the order of the subjects."""


def derive(name: str) -> Derivation:
    r"""The derivation of a formula; made when first asked for, every step of it checked.

    Raises:
        RangeError: there is none of this name.

    >>> derive("posterior_variance").results["variance"]
    beta*beta_bar_s/beta_bar_t
    """
    if name not in DERIVATIONS:
        raise RangeError(f"no derivation is called {name!r}; there are {', '.join(DERIVATIONS)}")
    return DERIVATIONS[name]()


__all__ = [
    "DERIVATIONS",
    "SUBJECTS",
    "Derivation",
    "ExactSchedule",
    "Proof",
    "analytic",
    "ancestral",
    "bound",
    "ddim",
    "derive",
    "derives",
    "divergence",
    "forward",
    "guidance",
    "objectives",
    "posterior",
    "prediction",
    "reverse",
    "schedule",
]
