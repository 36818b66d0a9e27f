"""``ddpm-ref verify``: hold an implementation against the laws."""

import json
import os
import sys
from pathlib import Path

import tyro

from ddpm_ref.commands.status import OK, VIOLATED, finite
from ddpm_ref.errors import AdapterError, OutputError, RangeError


def verify(
    adapter: tyro.conf.Positional[str] = "",
    laws: str = "*",
    max_examples: int = 100,
    device: str = "cpu",
    report: Path | None = None,
) -> int:
    """Hold an implementation against the laws; exit 1 if one is violated.

    Args:
        adapter: package.module:attribute of the adapter; the package's own PyTorch mirror if left out.
        laws: which laws, as shell patterns of their ids joined by commas, e.g. "forward/*,divergence/*".
        max_examples: cases per law and claim.
        device: where the mirror runs, e.g. cpu or cuda.
        report: write the report there as JSON (a name ending in .json).
    """
    from ddpm_ref import conformance
    from ddpm_ref.conformance.report import describe, footer, header, line

    if max_examples < 1:
        raise RangeError(f"--max-examples {max_examples}: try at least one case per law (100 is usual)")
    if report is not None and report.suffix != ".json":
        raise OutputError(f"--report {report}: reports are written as JSON; give a name ending in .json")
    if report is not None and not report.parent.is_dir():
        raise OutputError(f"--report {report}: the folder {report.parent} does not exist; make it first")
    if report is not None and not os.access(report.parent, os.W_OK):
        raise OutputError(f"--report {report}: {report.parent} cannot be written; name a folder you may write to")
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
