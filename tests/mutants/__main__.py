"""``python -m tests.mutants --write``: draw the mutants, judge them, and write the catalogue and its page."""

from __future__ import annotations

import sys
import time
from collections import Counter

import tyro

from tests.mutants import catalogue, page
from tests.mutants.drawing import everything
from tests.mutants.judging import judged


def main(write: bool = False, everywhere: bool = False) -> int:
    """Judge the drawn mutants of the mirror and say how many survive.

    Args:
        write: write tests/mutants/catalogue.json and docs/mutants.md.
        everywhere: judge every mutant there is, drawn or not, and print the survivors; takes half an hour.
    """
    start = time.perf_counter()
    if everywhere:
        proved, survivors = catalogue.proofs(), 0
        for mutant in everything():
            if judged(mutant) is None:
                survivors += 1
                print(
                    f"{'equivalent' if mutant.id in proved else 'SURVIVED'}  {mutant.id}  {mutant.before}  ->  {mutant.after}"
                )
        print(f"{survivors} survivors, {time.perf_counter() - start:.0f} s")
        return 0
    found = catalogue.judge_all()
    for entry in found.entries:
        if entry.verdict == "survived":
            print(f"SURVIVED  {entry.id}\n    {entry.before}\n    {entry.after}")
    counts = Counter(entry.verdict for entry in found.entries)
    print(f"{dict(counts)} of {sum(found.sites.values())} possible, {time.perf_counter() - start:.0f} s")
    if write:
        catalogue.FILE.write_text(catalogue.as_json(found), encoding="utf-8")
        page.PAGE.write_text(page.page(found), encoding="utf-8")
    return int(counts["survived"] > 0)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
