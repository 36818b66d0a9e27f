"""Failures that are expected: of which law, why, and, if it is said, by which mistake."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, get_args

from ddpm_ref.conformance.verdict import ExpectedFailure, Kind
from ddpm_ref.errors import ClaimError
from ddpm_ref.laws import REGISTRY
from ddpm_ref.laws.registry import Law

Entry: TypeAlias = str | Mapping[str, Any] | ExpectedFailure
Entries: TypeAlias = Mapping[str, Entry]


def expectations(*lists: Entries | None) -> dict[str, ExpectedFailure]:
    """Expected failures by pattern of law ids, of several lists together.

    Raises `ClaimError` for an unknown law, a missing reason, a mistake that none of the laws knows, or an unknown kind.
    """
    return {pattern: _read(pattern, entry) for entries in lists for pattern, entry in (entries or {}).items()}


def expected(law: Law, known: Mapping[str, ExpectedFailure]) -> ExpectedFailure | None:
    """Why and how a law is expected to fail; None if it is not."""
    return next((failure for pattern, failure in known.items() if fnmatchcase(law.id, pattern)), None)


def _read(pattern: str, entry: Entry) -> ExpectedFailure:
    laws = REGISTRY.select([pattern])
    if isinstance(entry, Mapping):
        unknown = set(entry) - {"reason", "mistake", "kind"}
        if unknown:
            raise ClaimError(
                f"expected failure {pattern!r} has {sorted(unknown)}; write reason, and maybe mistake and kind"
            )
        entry = ExpectedFailure(entry.get("reason", ""), entry.get("mistake", ()), entry.get("kind", ()))
    failure = entry if isinstance(entry, ExpectedFailure) else ExpectedFailure(entry)
    if not isinstance(failure.reason, str) or not failure.reason.strip():
        raise ClaimError(f"expected failure {pattern!r} has no reason; write why, e.g. a link to the known issue")
    names = dict.fromkeys(mistake.name.replace("_", " ") for law in laws for mistake in law.mistakes)
    for what, given, allowed in (
        ("mistake", failure.mistakes, list(names)),
        ("kind", failure.kinds, list(get_args(Kind))),
    ):
        for word in given:
            if word not in allowed:
                raise ClaimError(f"expected failure {pattern!r}: no {what} {word!r}; there are {', '.join(allowed)}")
    return failure
