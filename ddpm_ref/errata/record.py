"""What an erratum is: a form that is commonly written, the right one, why, what it costs, and what catches it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

from ddpm_ref.laws import REGISTRY, Law, Mistake
from ddpm_ref.typing import AnyArray, Real

if TYPE_CHECKING:
    from ddpm_ref.symbolic.refutations import Refutation

Severity: TypeAlias = Literal["A", "B", "C", "D"]
SEVERITIES: dict[str, str] = {
    "A": "gives wrong numbers when implemented as written",
    "B": "a wrong statement or step of a derivation that need not spoil the result, but does if it is used by itself",
    "C": "notation, comment, index",
    "D": "a claim in prose that is wrong or unsupported",
}
Witness: TypeAlias = Literal["law", "refutation", "demonstration"]
WITNESSES: tuple[str, ...] = get_args(Witness)


class Figure(NamedTuple):
    """One number that shows the damage, computed now, and the number that is known for it."""

    says: str
    """What it is: a phrase, the same for figures of one kind."""
    where: str
    """Where it was taken, e.g. ``t = 500``; may be empty."""
    value: float
    printed: str
    """The known figure, to the digits that are known."""

    @property
    def format(self) -> str:
        """How ``printed`` is written: as many digits, and with an exponent if it has one."""
        mantissa, exponent, _ = self.printed.partition("e")
        return f"z.{len(mantissa.partition('.')[2])}{'e' if exponent else 'f'}"

    @property
    def live(self) -> str:
        """The value as it came out now, written like the known figure."""
        return format(self.value, self.format)

    @property
    def holds(self) -> bool:
        """Whether every digit is reproduced."""
        return self.live == self.printed


def figure(says: str, value: Real | AnyArray, printed: str, where: str = "") -> Figure:
    """A single figure; the value is one number, an array without axes included."""
    return Figure(says, where, float(value), printed)


def figures(says: str, values: Iterable[Real | AnyArray], printed: str, levels: Sequence[int]) -> tuple[Figure, ...]:
    """One figure per level; ``printed`` holds theirs, separated by blanks.

    >>> [each.live for each in figures("halves", [0.25, 0.5], "0.2 0.50", levels=[1, 2])]
    ['0.2', '0.50']
    """
    rows = zip(values, printed.split(), levels, strict=True)
    return tuple(figure(says, value, known, f"t = {t}") for value, known, t in rows)


Demonstration: TypeAlias = Callable[[], tuple[Figure, ...]]


class Catch(NamedTuple):
    """A law, and the mistake under which it knows an erratum."""

    law: Law
    mistake: Mistake

    def __str__(self) -> str:
        return f"{self.law.id}: {self.mistake.name.replace('_', ' ')}"


@dataclass(frozen=True)
class Erratum:
    """A mistake that is commonly made.

    Formulas are LaTeX and for one step, from level ``t`` to ``t - 1``, unless they say otherwise.
    """

    id: str
    """``E01``, ``E02``..."""
    name: str
    """In code, e.g. ``bayes_denominator_inverted``."""
    severity: Severity
    """See `SEVERITIES`."""
    subject: str
    """The file it stands in."""
    title: str
    """What is wrong, in one short sentence."""
    written: str
    """The form that is commonly written, LaTeX."""
    right: str
    """The right form, LaTeX."""
    why: str
    """Why the one is wrong and the other right, in a few sentences."""
    damage: str
    """In one phrase; every number in it is one of the figures."""
    formulas: tuple[str, ...]
    """Ids of the formulas it is about."""
    demonstration: Demonstration
    """What computes the figures."""
    killed_by: tuple[Witness, ...]
    """What shows it to be wrong; the tests hold this against what there is."""
    remark: str = ""
    """A condition on the severity, e.g. ``A if taken literally``."""

    @property
    def kind(self) -> str:
        """The severity with its remark, e.g. ``B (A if used)``."""
        return f"{self.severity} ({self.remark})" if self.remark else self.severity

    def catches(self) -> tuple[Catch, ...]:
        """The laws that reject it, and under which name; from the registry of laws."""
        return tuple(Catch(law, each) for law in REGISTRY for each in law.mistakes if each.erratum == self.id)

    def refutation(self) -> Refutation | None:
        """Its refutation by computer algebra, if there is one.

        Raises:
            MissingExtraError: SymPy is not installed.
        """
        from ddpm_ref.symbolic import refutations

        return refutations.refute(self.id) if self.id in refutations.REFUTATIONS else None

    @cache  # noqa: B019 - there is one of these per erratum, and it lives as long as the program
    def figures(self) -> tuple[Figure, ...]:
        """The damage, computed when first asked for."""
        return self.demonstration()


def numbers(phrase: str) -> list[str]:
    """The numbers of a phrase as they are written, levels such as ``t = 500`` left out.

    >>> numbers("71.8 instead of 1 at t = 2, 500 and T; 6.35e-05 at t = 1")
    ['71.8', '1', '6.35e-05']
    """
    without_levels = re.sub(r"\bt = \d+((, | and )\d+(?![.\d]))*", "", phrase)
    return re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", without_levels)
