"""Common statements refuted: each beside what is derived, with a point at which the two are different numbers."""

from __future__ import annotations

from ddpm_ref.errors import RangeError
from ddpm_ref.symbolic.refutations import (
    analytic,
    ancestral,
    bound,
    ddim,
    forward,
    guidance,
    objectives,
    posterior,
    reverse_kernel,
)
from ddpm_ref.symbolic.refutations.refutation import Case, Contrast, Refutation, Refute, refutes

SUBJECTS = (forward, posterior, reverse_kernel, bound, objectives, ancestral, ddim, analytic, guidance)
REFUTATIONS: dict[str, Refute] = {made.erratum: made for subject in SUBJECTS for made in subject.REFUTATIONS}
"""What makes each refutation, by the id of the erratum."""


def refute(erratum: str) -> Refutation:
    r"""The refutation of an erratum; made when first asked for, everything in it checked.

    Raises:
        RangeError: there is none of this id.

    >>> refute("E13").contrasts[0].discrepancy
    sqrt(alpha_bar_s)
    """
    if erratum not in REFUTATIONS:
        raise RangeError(f"nothing refutes {erratum!r} symbolically; there are {', '.join(REFUTATIONS)}")
    return REFUTATIONS[erratum]()


__all__ = ["REFUTATIONS", "SUBJECTS", "Case", "Contrast", "Refutation", "Refute", "refute", "refutes"]
