"""Errata as Markdown: ``docs/errata.md`` is made from the records, the figures computed now, and nothing else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from ddpm_ref.errata import ERRATA, SEVERITIES
from ddpm_ref.errata.record import Catch, Erratum, Figure
from ddpm_ref.symbolic.derivation import Step
from ddpm_ref.symbolic.page import SHARED_PAGES
from ddpm_ref.symbolic.refutations import Contrast, Refutation
from ddpm_ref.symbolic.symbols import latex

_PREFACE = """\
# Errata

Forms that are commonly written about these models, in good texts too, and that do not hold: what is right instead, why, what it
costs to believe them, and what catches them. Every figure on this page was computed when the page was made, and a test
compares each, digit by digit, with the one recorded beside its computation. The page is generated from `ddpm_ref/errata` by
`ddpm-ref errata --page docs/errata.md`; a test compares the two. `ddpm-ref errata E13` prints one of the sections.

Three kinds of witness show that something is wrong. A **law** rejects implementations that make the mistake, and a failing report
names it ([laws](laws.md)). A **refutation** sets the common form beside the derived one, by computer algebra: they differ by the
stated expression, and they are different numbers at the stated point, which has rational coordinates. A **demonstration** computes
the damage with `ddpm_ref.reference`.

Formulas are for one step, $s = t - 1$; refutations are for any step from $t$ to $s$. Figures are for the linear schedule of ho2020
($T = 1000$, $\\beta_1 = 10^{{-4}}$, $\\beta_T = 0.02$) and for scalar data unless they say otherwise. *Unit data* are
$\\mathcal N(0, 1)$; for normal data the best network is known and every sampler is linear, so that the deviations of its samples
are exact. Letters are those of [the overview](index.md#notation); $c^0_t$ and $c^x_t$ are the weights of $x_0$ and $x_t$ in the
posterior mean, $v_0$ is the variance of the data, and $\\mathrm{{SNR}}_t = \\bar\\alpha_t/\\bar\\beta_t$. $C^0$ is the weight of
$x_0$ in a step of DDIM, $\\Gamma_t$ the mean square of a predicted noise per dimension, $\\omega$ the scale of a classifier and $w$
the weight of classifier-free guidance.

| class | meaning |
|---|---|
{classes}

```python
>>> from ddpm_ref import errata
>>> for figure in errata.find("E15").figures():
...     print(figure.says, figure.where, figure.live)
posterior mean at $x_0 = 0.3$, $x_t = 0.7$, as written t = 500 1.4351
posterior mean at $x_0 = 0.3$, $x_t = 0.7$, as written t = 2 2.0752
posterior mean at $x_0 = 0.3$, $x_t = 0.7$, right t = 500 0.6968
posterior mean at $x_0 = 0.3$, $x_t = 0.7$, right t = 2 0.4819

```
"""


def page() -> str:
    """The whole page: a summary, then a section for each erratum."""
    classes = "\n".join(f"| {severity} | {meaning} |" for severity, meaning in SEVERITIES.items())
    summary = ["| id | mistake | class | damage | killed by |", "|---|---|---|---|---|"]
    for erratum in ERRATA.values():
        link = f"[{erratum.id}](#{erratum.id.lower()})"
        cells = (link, erratum.title, erratum.kind, _powers(erratum.damage), killed_by(erratum))
        summary.append(f"| {' | '.join(cells)} |")
    sections = "\n".join(section(erratum) for erratum in ERRATA.values())
    return "\n".join([_PREFACE.format(classes=classes), *summary, "", sections])


def killed_by(erratum: Erratum) -> str:
    """What shows it to be wrong, in words.

    >>> killed_by(ERRATA["E14"])
    '2 laws, refutation, demonstration'
    """
    laws = len({catch.law.id for catch in erratum.catches()})
    counted = {"law": "1 law" if laws == 1 else f"{laws} laws"}
    return ", ".join(counted.get(witness, witness) for witness in erratum.killed_by)


def section(erratum: Erratum) -> str:
    """One erratum: both forms, why, the damage, and everything that catches it.

    >>> print(section(ERRATA["E13"]).splitlines()[0])
    ## E13
    """
    refutation = erratum.refutation()
    read = SHARED_PAGES.get(erratum.subject, erratum.subject)
    lines = [
        f"## {erratum.id}",
        "",
        f"**{erratum.title}** (`{erratum.name}`). Class {erratum.kind}. "
        f"See [{read}]({read}.md); about "
        f"{', '.join(f'`{each}`' for each in erratum.formulas)}.",
        "",
        "Commonly written:",
        "",
        *_formula(erratum.written),
        "",
        "Right:",
        "",
        *_formula(erratum.right),
        "",
        erratum.why,
        "",
        *_damage(erratum.figures()),
        *_caught(erratum.catches()),
        *(_refuted(refutation) if refutation else ()),
    ]
    return "\n".join(lines)


def _damage(figures: Iterable[Figure]) -> Iterator[str]:
    yield from ("Damage:", "", "| figure | value |", "|---|---|")
    for says, kind in itertools.groupby(figures, key=lambda each: each.says):
        values = (_powers(each.live) + (f" ({_levels(each.where)})" if each.where else "") for each in kind)
        yield f"| {says} | {', '.join(values)} |"
    yield ""


def _caught(catches: Iterable[Catch]) -> Iterator[str]:
    lines = [f"* `{catch.law.id}`, as: {catch.mistake.name.replace('_', ' ')}" for catch in catches]
    yield from ["Rejected by the laws", "", *lines, ""] if lines else ()


def _refuted(refutation: Refutation) -> Iterator[str]:
    yield from (f"Refuted. {refutation.introduction}", "")
    yield from (f"* Given: {each}" for each in refutation.assumes)
    yield ""
    for step in refutation.steps:
        yield from _step(step)
    for contrast in refutation.contrasts:
        yield from _contrast(contrast)


def _step(step: Step) -> Iterator[str]:
    yield from (step.says, "", *(_formula(step.formula) if step.formula else ()), "")


def _contrast(contrast: Contrast) -> Iterator[str]:
    where = f" at ${contrast.witness()}$" if contrast.witness() else ""
    yield from (
        f"**{contrast.about[0].upper()}{contrast.about[1:]}**, derived and right:",
        "",
        *_formula(contrast.proved),
        "",
    )
    yield from ("As it is commonly written:", "", *_formula(contrast.formula()), "")
    yield f"The right value{where} is ${latex(contrast.right_there)}$, the other ${latex(contrast.wrong_there)}$."
    yield ""


def _formula(formula: str) -> list[str]:
    return ["```math", formula, "```"]


def _levels(where: str) -> str:
    return re.sub(r"^t = (\d+)$", r"$t = \1$", where)


def _powers(text: str) -> str:
    """Numbers like 2.0e-05 as a product with a power of ten."""
    return re.sub(r"(\d(?:\.\d+)?)e([-+])0*(\d+)", lambda m: rf"${m[1]}\times10^{{{m[2].strip('+')}{m[3]}}}$", text)
