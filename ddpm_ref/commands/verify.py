"""``ddpm-ref verify``: hold an implementation against the laws, or prove the tables of a schedule."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import tyro

from ddpm_ref.commands import certify
from ddpm_ref.commands.certify import NO_PROOF, ProofFlags
from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.commands.output import refuse_unwritable
from ddpm_ref.commands.schedule_flags import NO_FLAGS, ScheduleFlags
from ddpm_ref.errors import AdapterError, RangeError
from ddpm_ref.exit_status import OK, VIOLATED


def verify(
    adapter: tyro.conf.Positional[str] = "",
    laws: str = "*",
    max_examples: int = 100,
    device: str = "cpu",
    report: Path | None = None,
    proof: Annotated[ProofFlags, tyro.conf.OmitArgPrefixes] = NO_PROOF,
    schedule: Annotated[ScheduleFlags, tyro.conf.OmitArgPrefixes] = NO_FLAGS,
) -> int:
    """Hold an implementation against the laws, or prove a schedule's tables; exit 1 if a law is violated or a proof fails.

    Args:
        adapter: package.module:attribute of the adapter; the package's own PyTorch mirror if left out.
        laws: which laws, as shell patterns of their ids joined by commas, e.g. "forward/*,divergence/*".
        max_examples: cases per law and claim.
        device: where the mirror runs, e.g. cpu or cuda.
        report: write the report there as JSON (a name ending in .json).
        proof: what to prove; without an adapter no laws are run then.
        schedule: the schedule whose tables are proved.
    """
    if max_examples < 1:
        raise RangeError(f"--max-examples {max_examples}: try at least one case per law (100 is usual)")
    proof.refuse_unused(schedule)
    for flag, path in (("--report", report), ("--certificate", proof.certificate)):
        if path is not None:
            refuse_unwritable(flag, path, "JSON", ".json")
    status = OK
    if proof.asked:
        of_laws = {"--laws": laws != "*", "--max-examples": max_examples != 100, "--device": device != "cpu"}
        unused = [flag for flag, given in {**of_laws, "--report": report is not None}.items() if given]
        if unused and not adapter:
            raise RangeError(f"{unused[0]} is of the laws, and a proof runs none; leave it out, or name an adapter")
        again = proof.check_certificate
        status = certify.prove(proof, schedule) if again is None else certify.check(again, proof, schedule)
        if not adapter:
            return status
    return max(status, _hold(adapter, laws, max_examples, device, report))


def _hold(adapter: str, laws: str, max_examples: int, device: str, report: Path | None) -> int:
    from ddpm_ref import conformance
    from ddpm_ref.conformance.report import describe, footer, header, line

    # A console script does not look for modules where the user stands, and that is where adapters are written.
    sys.path.insert(0, os.getcwd())
    subject: conformance.Adapter = conformance.load(adapter) if adapter else conformance.TorchMirror(device)
    print(header(subject.claims), flush=True)
    result = conformance.check(
        subject, laws, max_examples, progress=lambda finding: print(line(finding, subject.claims), flush=True)
    )
    if not any(finding.applicable for finding in result.findings):
        raise AdapterError(
            f"{subject.name} answers none of the laws chosen by --laws {laws}; see ddpm-ref laws for what they need"
        )
    for finding in result.violations:
        print("", *describe(finding), sep="\n")
    print("", *footer(result), sep="\n")
    if report is not None:
        from ddpm_ref.files import write_atomically

        write_atomically(report, (json.dumps(finite(result.as_json()), indent=1) + "\n").encode())
    return OK if result.ok else VIOLATED
