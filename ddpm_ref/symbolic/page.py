"""Derivations as Markdown: the pages in ``docs/derivations`` are made from the proofs and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

from ddpm_ref.symbolic.derivation import Derivation
from ddpm_ref.symbolic.symbols import latex

TITLES = {
    "schedule": "Schedules",
    "forward": "The forward process",
    "posterior": "The posterior",
    "prediction": "Predictions",
    "reverse": "The reverse model",
    "bound": "The variational bound",
    "objectives": "Training objectives",
    "ancestral": "Ancestral sampling",
    "ddim": "The DDIM family",
    "analytic": "Analytic-DPM",
    "guidance": "Guidance",
    "divergence": "Divergences",
}

SHARED_PAGES = {"ancestral": "reverse", "objectives": "bound"}
"""Subjects that have no page of their own in ``docs`` but share one."""

_PREFACE = """\
# {title}, derived

Every equation below was decided by a computer algebra system when this page was made: a step that does not follow cannot be
written. The displayed form of some steps is written by hand: it is notation for the statement that was checked, and what a step
displays without an equation to check (a definition, a substitution) is no claim. The page is generated from
`ddpm_ref/symbolic/{subject}` by `ddpm-ref derive --pages docs/derivations`; a test compares the two. What the formulas are for,
and how they are called, is on [the page of the subject](../{read}.md); the letters are those of
[the overview](../index.md#notation).
"""


def page(subject: ModuleType) -> str:
    """The page of one subject: a table of contents, then each of its derivations."""
    name = subject.__name__.rpartition(".")[2]
    derivations: list[Derivation] = [derive() for derive in subject.DERIVATIONS]
    contents = [f"* [`{each.id}`](#{each.id}): ${each.states}$" for each in derivations]
    sections = (section(each) for each in derivations)
    return "\n".join(
        [
            _PREFACE.format(title=TITLES[name], subject=name, read=SHARED_PAGES.get(name, name)),
            *contents,
            "",
            "\n".join(sections),
        ]
    )


def section(derivation: Derivation) -> str:
    r"""One derivation: what it states, what it starts from, its steps, its result and where that holds.

    >>> from ddpm_ref.symbolic import derive
    >>> print(section(derive("posterior_variance")).splitlines()[0])
    ## `posterior_variance`
    """
    return "\n".join(
        [
            f"## `{derivation.id}`",
            "",
            derivation.introduction,
            "",
            *_formula(derivation.states),
            "",
            f"Source: {derivation.source}.",
            "",
            *_list("Starts from:", derivation.assumes),
            *_steps(derivation),
            *_list("Ends in:", (f"`{name}` $= {latex(result)}$" for name, result in derivation.results.items())),
            *_list("Not defined elsewhere:", (condition.says for condition in derivation.domain)),
        ]
    )


def _steps(derivation: Derivation) -> Iterable[str]:
    for number, step in enumerate(derivation.steps, start=1):
        yield f"{number}. {step.says}"
        if step.formula:
            yield ""
            yield from (f"   {line}" for line in _formula(step.formula))
        yield ""


def _formula(formula: str) -> list[str]:
    return ["```math", formula, "```"]


def _list(title: str, items: Iterable[str]) -> list[str]:
    lines = [f"* {item}" for item in items]
    return [title, "", *lines, ""] if lines else []
