"""``ddpm-ref laws`` and ``show``: what implementations are held against, and what formula of the field has which law."""

import json as json_format
from pathlib import Path

import tyro

from ddpm_ref.arithmetic import Claim
from ddpm_ref.commands.output import refuse_unwritable
from ddpm_ref.errors import RangeError
from ddpm_ref.exit_status import OK, VIOLATED
from ddpm_ref.extras import require

SHOWN = (Claim("fp32"), Claim("fp64"), Claim("bf16", "fp32"))


def laws(coverage: bool = False, section: int | None = None, json: bool = False, page: Path | None = None) -> int:
    """List the laws: id, what an implementation needs, how many mistakes each rejects; or what every formula has.

    Args:
        coverage: every formula with its function, derivation, mirror, laws, mistakes and page; exit 1 if one is missing.
        section: of the formulas, its number; all if left out.
        json: coverage as JSON.
        page: write the page of the coverage there (a name ending in .md).
    """
    if coverage:
        return _cover(section, json, page)
    for flag, given in (("--section", section is not None), ("--json", json), ("--page", page is not None)):
        if given:
            raise RangeError(f"{flag} is of the coverage; write --coverage {flag}, or leave it out")
    from ddpm_ref.laws import REGISTRY

    wide = 2 + max(len(law.id) for law in REGISTRY)
    print(f"{'law':<{wide}}{'kind':<13}{'mistakes':<10}needs")
    for law in REGISTRY:
        print(f"{law.id:<{wide}}{law.kind:<13}{len(law.mistakes):<10}{law.needs}")
    print(
        f"\n{len(REGISTRY)} laws, {sum(len(law.mistakes) for law in REGISTRY)} mistakes; ddpm-ref show LAW tells more"
    )
    return OK


def _cover(section: int | None, json: bool, page: Path | None) -> int:
    if page is not None:
        refuse_unwritable("--page", page, "Markdown", ".md")
        if section is not None or json:
            raise RangeError(f"--page {page} writes all sections; leave out {'--json' if json else '--section'}")
        require(
            "sympy", "symbolic"
        )  # derivations and tensors are linked and counted; a page without them would be another
        require("ddpm_ref.estimation", "train")
    from ddpm_ref.coverage import page as written
    from ddpm_ref.coverage import report, table
    from ddpm_ref.files import write_atomically

    found = report(section=section)
    if json:
        print(json_format.dumps(found.as_json(), indent=1))
    elif page is not None:
        write_atomically(page, written.page(found).encode())
        print(f"{page}: {sum(len(tally.rows) for tally in found.tallies)} formulas")
    else:
        table.show(found)
    return OK if found.holds else VIOLATED


def show(law: tyro.conf.Positional[str], smallest: bool = False) -> int:
    """Show one law: statement, source, mistakes.

    Args:
        law: its id, e.g. forward/q_sample, or a pattern, e.g. "forward/*".
        smallest: also the smallest case in which each mistake breaks the law (takes a second or two for each).
    """
    from ddpm_ref.conformance.signatures import signatures
    from ddpm_ref.conformance.smallest import smallest_case
    from ddpm_ref.laws import REGISTRY

    for found in REGISTRY.select(law):
        print(f"{found.id}\n  states    {found.statement}\n  source    {found.source}")
        for signature in signatures(found):
            print(f"  needs     {signature}")
        print(f"  kind      {found.kind}\n  rejects")
        for mistake in found.mistakes:
            print(f"            {mistake}{': digits lost' if mistake.rounding else ''}", flush=True)
            if smallest:
                claim = next(c for c in SHOWN if mistake.concerns(c))
                case = smallest_case(found, mistake, claim)
                print(f"              {claim}: {case.describe() if case else 'not told from the law'}", flush=True)
    return OK
