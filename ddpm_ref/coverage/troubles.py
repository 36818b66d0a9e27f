"""What is wrong with the matrix as a whole: formulas without an entry, and laws, derivations and functions without a formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from ddpm_ref.coverage import places
from ddpm_ref.coverage.formulas import Matrix
from ddpm_ref.errors import MissingExtraError


def troubles(matrix: Matrix) -> list[str]:
    """One sentence for each thing that is wrong; empty if nothing is.

    Derivations are left out where SymPy is not installed.

    >>> from ddpm_ref.coverage import written
    >>> troubles(written())
    []
    """
    return [*_lists(matrix), *_laws(matrix), *_derivations(matrix), *_functions(matrix), *_errata(matrix)]


def _lists(matrix: Matrix) -> Iterator[str]:
    """The ids that are asked for against those that are there."""
    for section in matrix.sections:
        have = tuple(formula.id for formula in section.formulas)
        where = f"section {section.number}"
        yield from (f"{where}: {id_} has no entry" for id_ in section.ids if id_ not in have)
        yield from (f"{where}: {id_} has an entry and is not listed" for id_ in have if id_ not in section.ids)
        if have != section.ids and set(have) == set(section.ids):
            yield f"{where}: the entries stand in another order than the list"
        for formula in section.formulas:
            yield from (f"{formula.id}: there is no column {name!r}" for name in formula.unknown)
            if not formula.says:
                yield f"{formula.id}: what it is, is not said"
    times = Counter(id_ for section in matrix.sections for id_ in section.ids)
    yield from (f"{id_} is listed {n} times" for id_, n in times.items() if n > 1)


def _accounted(kind: str, all_of_them: Iterable[str], attached: set[str], beyond: Iterable[str]) -> Iterator[str]:
    """Everything there is belongs to a formula or stands beyond them, not to both, and nothing stands there that is not."""
    known, outside = list(all_of_them), list(beyond)
    for name in known:
        if name not in attached and name not in outside:
            yield f"{kind} {name} belongs to no formula; attach it, or say in beyond.toml why not"
    for name, times in Counter(outside).items():
        if name not in known:
            yield f"beyond.toml names the {kind} {name}, which does not exist"
        elif name in attached:
            yield f"{kind} {name} belongs to a formula; take it out of beyond.toml"
        if times > 1:
            yield f"beyond.toml names the {kind} {name} {times} times"


def _laws(matrix: Matrix) -> Iterator[str]:
    from ddpm_ref.laws import REGISTRY

    beyond = (name for group in matrix.beyond for name in group.laws)
    yield from _accounted("law", (law.id for law in REGISTRY), matrix.named("law"), beyond)


def _derivations(matrix: Matrix) -> Iterator[str]:
    try:
        known = places.derivations()
    except MissingExtraError:
        return
    beyond = (name for group in matrix.beyond for name in group.derivations)
    yield from _accounted("derivation", known, matrix.named("symbolic"), beyond)


def _functions(matrix: Matrix) -> Iterator[str]:
    """Objects are compared, not names: what is offered in two places is one thing, and a method belongs to its class."""
    offered = places.public()
    named = {id(thing) for name in matrix.named("reference") for thing in _way(name)}
    attached = {name for name, thing in offered.items() if id(thing) in named}
    beyond = [name for group in matrix.beyond for name in group.functions]
    elsewhere = {id(offered[name]) for name in beyond if name in offered}
    known = [name for name, thing in offered.items() if name in beyond or id(thing) not in elsewhere]
    yield from _accounted("function", known, attached, beyond)


def _way(name: str) -> list[object]:
    """What a path leads past; a broken one is the trouble of its cell."""
    try:
        return places.found(name)
    except LookupError:
        return []


def _errata(matrix: Matrix) -> Iterator[str]:
    from ddpm_ref.errata import ERRATA

    ids = {id_ for section in matrix.sections for id_ in section.ids}
    for erratum in ERRATA.values():
        yield from (
            f"{erratum.id} is about {name}, which is no formula" for name in erratum.formulas if name not in ids
        )
