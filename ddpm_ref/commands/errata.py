"""``ddpm-ref errata``: what is commonly written and wrong, one record with its live figures, and the page."""

from pathlib import Path

import tyro

from ddpm_ref.commands.output import refuse_unwritable
from ddpm_ref.errors import RangeError
from ddpm_ref.exit_status import OK
from ddpm_ref.extras import require


def errata(erratum: tyro.conf.Positional[str] = "", page: Path | None = None) -> int:
    """List the errata; or show one with its damage, computed now, and its refutation; or write the page.

    Args:
        erratum: id of the one to show, e.g. E13; a table of all of them if left out.
        page: write the page of all errata there (a name ending in .md).
    """
    if erratum and page is not None:
        raise RangeError(f"--page {page} writes all errata; leave out {erratum}, or leave out --page to see it")
    if page is not None:
        refuse_unwritable("--page", page, "Markdown", ".md")
    require("sympy", "symbolic")
    from ddpm_ref.errata import ERRATA, find
    from ddpm_ref.errata import page as written
    from ddpm_ref.files import write_atomically

    if erratum:
        print(written.section(find(erratum)))
        return OK
    if page is not None:
        write_atomically(page, written.page().encode())
        print(f"{page}: {len(ERRATA)} errata")
        return OK
    print(f"{'id':<6}{'class':<27}{'killed by':<37}what")
    for each in ERRATA.values():
        print(f"{each.id:<6}{each.kind:<27}{written.killed_by(each):<37}{each.title}")
    print(f"\n{len(ERRATA)} errata; ddpm-ref errata ID tells more")
    return OK
