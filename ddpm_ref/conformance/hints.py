"""What an adapter's author may have overlooked, said beside what went wrong."""

from __future__ import annotations

from difflib import get_close_matches

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.adapters import Adapter, NumpyAdapter, TorchAdapter
from ddpm_ref.laws import REGISTRY
from ddpm_ref.laws.cases import LEVEL_NAMES, Case
from ddpm_ref.laws.registry import Law

PER_ROW = "t may be an array of one level per row: see ddpm_ref.conformance.one_level_of_t_at_a_time"
AXES = "data have any number of axes, none included: see ddpm_ref.conformance.as_batch"
FROM_ONE = "levels are 1..T; a 0-based table wants t - 1"
ABOUT_SHAPES = ("broadcast", "shape", "size of tensor", "dimension", "axis", "axes", "too many indices")
ABOUT_ARGUMENTS = ("positional argument", "keyword argument")
NEAR = 0.8  # how much alike a method's name and a capability's are, of two that are taken for one


def of_error(law: Law, case: Case, error: BaseException) -> str:
    """What an exception of an implementation may come from; empty if it tells nothing."""
    said = str(error)
    if isinstance(error, IndexError) and ("out of bounds" in said or "out of range" in said):
        return FROM_ONE
    if isinstance(error, TypeError) and any(words in said for words in ABOUT_ARGUMENTS):
        return f"ddpm-ref show {law.id} says which arguments a method is asked with"
    return of_shape(case) if any(words in said for words in ABOUT_SHAPES) else ""


def of_shape(case: Case) -> str:
    """What an answer of a wrong shape may come from."""
    data = [value for name, value in case.values.items() if name not in LEVEL_NAMES and value.dtype.kind == "f"]
    if not data:
        return ""
    per_row = any(np.ndim(case.values.get(name, 0)) for name in LEVEL_NAMES)
    return "; ".join([PER_ROW] * per_row + [AXES])


def of_format(misfit: str, claim: Claim) -> str:
    """What to claim instead, for a result that keeps no more digits than those of float32."""
    named = misfit.split()[1] if misfit else "fp32"
    what = f"the answer is {named}" if misfit else "the answer keeps what float32 keeps (tables or a step in float32?)"
    return f'{what}, the claim is {claim}; where that is meant, set claims = (Claim("{named}"),)'


def of_step(case: Case) -> str:
    """What a step that agrees with no known mistake may not have been made for; empty for a law of single levels."""
    if not {"t", "s"} <= case.values.keys():
        return ""
    return (
        "steps lead from t to any s < t, with either variance where there is one: answer NotImplemented for what is not served, "
        "or see ddpm_ref.conformance.neighbours"
    )


def of_short_claim(claim: Claim) -> str:
    """That a wider format would tell a wrong formula from lost digits."""
    named = claim.store if claim.store == claim.compute else f'{claim.store}", "{claim.compute}'
    return (
        f"under {claim} alone lost digits may look like a wrong formula; if the code runs in float64 too, set "
        f'claims = (Claim("fp64"), Claim("{named}"))'
    )


def near_misses(adapter: Adapter) -> list[str]:
    """Public methods of an adapter that nobody asks, under a name much like that of a capability it lacks."""
    asked = {method for law in REGISTRY for method in law.needs.split()}
    lacking = sorted(method for method in asked if not hasattr(adapter, method))
    bases = (NumpyAdapter, TorchAdapter, Adapter)
    known = asked | {name for kind in bases for name in dir(kind)}
    own = {name for kind in type(adapter).__mro__ if kind not in bases for name in vars(kind)}
    found = []
    for name in sorted(own - known):
        if not name.startswith("_") and callable(getattr(adapter, name, None)):
            for method in get_close_matches(name, lacking, 1, NEAR):
                found.append(f"{type(adapter).__name__}.{name} is asked by no law; is {method} meant?")
    return found
