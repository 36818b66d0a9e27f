"""``ddpm-ref derive``: prove the formulas again, show a proof, write the pages."""

import time
from pathlib import Path

import tyro

from ddpm_ref.errors import OutputError
from ddpm_ref.exit_status import OK
from ddpm_ref.extras import require


def derive(formula: tyro.conf.Positional[str] = "", pages: Path | None = None) -> int:
    """Derive formulas from first principles, every step checked by a computer algebra system.

    Args:
        formula: id of the one to show, e.g. posterior_variance; all of them, with counts and times, if left out.
        pages: write the pages of all subjects into this folder.
    """
    require("sympy", "symbolic")
    from ddpm_ref import symbolic
    from ddpm_ref.files import write_atomically
    from ddpm_ref.symbolic.page import page, section

    if formula and pages is not None:
        raise OutputError(f"{formula} --pages {pages}: pages are made of whole subjects; leave out one of the two")
    if formula:
        print(section(symbolic.derive(formula)))
        return OK
    if pages is not None and not pages.is_dir():
        raise OutputError(f"--pages {pages}: there is no such folder; make it first")
    start, steps = time.perf_counter(), 0
    print(f"{'formula':<40}{'subject':<14}{'steps':>5}{'seconds':>9}  source")
    for name in symbolic.DERIVATIONS:
        begun = time.perf_counter()
        derived = symbolic.derive(name)
        steps += len(derived.steps)
        seconds = time.perf_counter() - begun
        print(f"{name:<40}{derived.subject:<14}{len(derived.steps):>5}{seconds:>9.2f}  {derived.source}", flush=True)
    print(
        f"\n{len(symbolic.DERIVATIONS)} derivations, {steps} steps, all of them hold; "
        f"{time.perf_counter() - start:.1f} s. ddpm-ref derive FORMULA shows one"
    )
    if pages is not None:
        for subject in symbolic.SUBJECTS:
            write_atomically(pages / f"{subject.__name__.rpartition('.')[2]}.md", page(subject).encode())
    return OK
