"""Where the names of the cells lead: objects of the package, derivations, laws, and headings on pages.

Each function returns what it found or raises `LookupError` with a sentence; `MissingExtraError` where only an extra that is
not installed here could tell.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ddpm_ref.errors import MissingExtraError

FIELD = object()
"""Stands for a field of a record, which exists in its instances only."""


def found(name: str, roots: Iterable[str] = ("ddpm_ref.",)) -> list[Any]:
    """What a dotted path leads past, the last of it being the object itself (or `FIELD`).

    Args:
        name: e.g. ``"ddpm_ref.reference.forward.q_sample"``.
        roots: with one of which it must begin.

    Raises:
        LookupError: another root, a private name, or nothing of this name.
        MissingExtraError: an extra would be needed to look.

    >>> found("ddpm_ref.reference.forward.q_sample")[-1].__name__
    'q_sample'
    >>> found("ddpm_ref.reference.forward.q_simple")
    Traceback (most recent call last):
    LookupError: ddpm_ref.reference.forward has no 'q_simple'
    """
    if not name.startswith(tuple(roots)):
        raise LookupError(f"{name} does not begin with {' or '.join(roots)}")
    first, *rest = name.split(".")
    if any(part.startswith("_") for part in rest):
        raise LookupError(f"{name} is private")
    way: list[Any] = [importlib.import_module(first)]
    for part in rest:
        way.append(_below(way[-1], part))
    return way


def _below(owner: Any, name: str) -> Any:
    """An attribute, a module not yet imported, or a field."""
    if hasattr(owner, name):
        return getattr(owner, name)
    if isinstance(owner, ModuleType):
        whole = f"{owner.__name__}.{name}"
        try:
            return importlib.import_module(whole)
        except ModuleNotFoundError as error:
            if not f"{whole}.".startswith(f"{error.name}."):
                raise
    elif inspect.isclass(owner) and any(name in inspect.get_annotations(base) for base in owner.__mro__):
        return FIELD
    raise LookupError(f"{getattr(owner, '__name__', owner)} has no {name!r}")


def public(package: str = "ddpm_ref.reference") -> dict[str, Any]:
    """The functions and classes that a package offers: those of the modules in its ``__all__``, by dotted path.

    >>> "ddpm_ref.reference.forward.q_sample" in public()
    True
    """
    owner = importlib.import_module(package)
    modules = (getattr(owner, name) for name in owner.__all__)
    return {f"{module.__name__}.{name}": thing for module in modules for name, thing in _offered(module)}


def _offered(module: ModuleType) -> Iterator[tuple[str, Any]]:
    listed = getattr(module, "__all__", None)
    for name, thing in vars(module).items():
        if not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        own = name in listed if listed is not None else not name.startswith("_") and thing.__module__ == module.__name__
        if own:
            yield name, thing


def derivation(name: str) -> str:
    """The subject of a derivation, which is the name of its page.

    >>> derivation("posterior_variance")
    'posterior'
    """
    known = derivations()
    if name not in known:
        raise LookupError(f"no derivation is called {name!r}")
    return known[name]


@cache
def derivations() -> dict[str, str]:
    """The subjects of all derivations by name; `MissingExtraError` without SymPy."""
    from ddpm_ref import symbolic

    subjects = {subject.__name__.rpartition(".")[2]: subject.DERIVATIONS for subject in symbolic.SUBJECTS}
    return {made.__name__: subject for subject, all_made in subjects.items() for made in all_made}


def law(name: str) -> None:
    """Whether there is a law of this id."""
    from ddpm_ref.laws import REGISTRY

    if name not in {law.id for law in REGISTRY}:
        raise LookupError(f"no law has the id {name!r}")


# --- pages ------------------------------------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs"
"""The pages lie beside the package in a checkout; they are not installed with it."""


def page(name: str) -> str:
    """The heading that a place such as ``docs/forward.md#limits`` leads to."""
    path, _, wanted = name.partition("#")
    folder, _, file = path.partition("/")
    if folder != "docs" or not file.endswith(".md") or not wanted:
        raise LookupError(f"{name} is not written like docs/forward.md#limits")
    if not (DOCS / "index.md").is_file():
        raise MissingExtraError("the pages are not installed; look into a checkout of the repository")
    if not (DOCS / file).is_file():
        raise LookupError(f"there is no page {path}")
    headings = anchors(file)
    if wanted not in headings:
        raise LookupError(f"{path} has no heading for #{wanted}")
    return headings[wanted]


def anchor(heading: str) -> str:
    """What GitHub makes of a heading: lower case, hyphens for blanks, no punctuation.

    >>> anchor("10. Score, classifier guidance")
    '10-score-classifier-guidance'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@cache
def anchors(file: str) -> dict[str, str]:
    """The headings of a page by their anchors; a heading that occurs again gets a number."""
    text = re.sub(r"^```.*?^```", "", (DOCS / file).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = anchor(heading)
        repeated = sum(1 for other in found if re.fullmatch(rf"{re.escape(plain)}(-\d+)?", other))
        found[f"{plain}-{repeated}" if repeated else plain] = heading
    return found
