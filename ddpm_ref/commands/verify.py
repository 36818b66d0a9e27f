"""``ddpm-ref verify``: hold an implementation against the laws, or prove the tables of a schedule."""

import json
import os
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from unittest import mock

import tyro

from ddpm_ref.commands import certify
from ddpm_ref.commands.certify import NO_PROOF, ProofFlags
from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.commands.output import refuse_unwritable
from ddpm_ref.commands.schedule_flags import NO_FLAGS, ScheduleFlags
from ddpm_ref.errors import AdapterError, RangeError
from ddpm_ref.exit_status import OK, VIOLATED

if TYPE_CHECKING:
    from ddpm_ref.conformance import Report

TIME_LIMIT = 30.0  # as in ddpm_ref.conformance.check, which a command line that only asks for help does not load
WRITERS: dict[str, Callable[["Report"], str]] = {
    ".json": lambda report: json.dumps(finite(report.as_json()), indent=1) + "\n",
    ".md": lambda report: report.as_markdown(),
    ".html": lambda report: report.as_html(),
}


def verify(
    adapter: tyro.conf.Positional[str] = "",
    laws: str = "*",
    max_examples: int = 100,
    device: str = "cpu",
    report: Path | None = None,
    expected_failures: Path | None = None,
    time_limit: float = TIME_LIMIT,
    seed: int | None = None,
    proof: Annotated[ProofFlags, tyro.conf.OmitArgPrefixes] = NO_PROOF,
    schedule: Annotated[ScheduleFlags, tyro.conf.OmitArgPrefixes] = NO_FLAGS,
) -> int:
    """Hold an implementation against the laws, or prove a schedule's tables; exit 1 if a law is violated or a proof fails.

    Args:
        adapter: package.module:attribute of the adapter; the package's own PyTorch mirror if left out.
        laws: which laws, as shell patterns of their ids joined by commas, e.g. "forward/*,divergence/*".
        max_examples: cases per law and claim.
        device: where the mirror runs, e.g. cpu or cuda.
        report: write the report there, as JSON, Markdown or one self-contained page (.json, .md or .html).
        expected_failures: a TOML file of laws that are known to fail, each with the reason: "law/id" = "why", or
            "law/id" = { reason = "why", mistake = "its name" }, which excuses no other mistake.
        time_limit: seconds that one question to the implementation may take.
        seed: another sequence of cases than the fixed one.
        proof: what to prove; without an adapter no laws are run then.
        schedule: the schedule whose tables are proved.
    """
    if max_examples < 1:
        raise RangeError(f"--max-examples {max_examples}: try at least one case per law (100 is usual)")
    proof.refuse_unused(schedule)
    if not time_limit > 0:
        raise RangeError(f"--time-limit {time_limit:g}: give a positive number of seconds (30 is usual)")
    if report is not None:
        refuse_unwritable("--report", report, "JSON, Markdown or HTML", *WRITERS)
    if proof.certificate is not None:
        refuse_unwritable("--certificate", proof.certificate, "JSON", ".json")
    reasons = {} if expected_failures is None else _reasons(expected_failures)
    status = OK
    if proof.asked:
        of_laws = {
            "--laws": laws != "*",
            "--max-examples": max_examples != 100,
            "--device": device != "cpu",
            "--report": report is not None,
            "--expected-failures": expected_failures is not None,
            "--time-limit": time_limit != TIME_LIMIT,
            "--seed": seed is not None,
        }
        unused = [flag for flag, given in of_laws.items() if given]
        if unused and not adapter:
            raise RangeError(f"{unused[0]} is of the laws, and a proof runs none; leave it out, or name an adapter")
        again = proof.check_certificate
        status = certify.prove(proof, schedule) if again is None else certify.check(again, proof, schedule)
        if not adapter:
            return status
    settings = Settings(laws, max_examples, reasons, time_limit, seed)
    return max(status, _hold(adapter, device, settings, report))


def _reasons(path: Path) -> dict[str, Any]:
    """Expected failures from a file; what is in it is checked where they are used."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RangeError(f'--expected-failures {path}: {error}; write lines like "forward/q_sample" = "why"') from error
    return dict(found)


@contextmanager
def _no_folder_of_hypothesis() -> Iterator[None]:
    """Keeps what Hypothesis writes for its own use out of the user's folder, unless the user has said where it goes."""
    with TemporaryDirectory() as folder:
        given = {"HYPOTHESIS_STORAGE_DIRECTORY": folder} | dict(os.environ)
        with mock.patch.dict(os.environ, given):
            yield


class Settings(NamedTuple):
    """How the laws are tried."""

    laws: str
    max_examples: int
    expected_failures: Mapping[str, Any]
    time_limit: float
    seed: int | None


def _hold(adapter: str, device: str, settings: Settings, report: Path | None) -> int:
    from ddpm_ref import conformance
    from ddpm_ref.conformance.report import conclusions, footer, header, line, shown

    # A console script does not look for modules where the user stands, and that is where adapters are written.
    sys.path.insert(0, os.getcwd())
    subject: conformance.Adapter = conformance.load(adapter) if adapter else conformance.TorchMirror(device)
    print(header(subject.claims), flush=True)

    def tell(finding: conformance.Finding) -> None:
        if shown(finding):
            print(line(finding, subject.claims), flush=True)

    with _no_folder_of_hypothesis():
        result = conformance.check(subject, **settings._asdict(), progress=tell)
    if not any(finding.applicable for finding in result.findings):
        near = "".join(f"; {warning}" for warning in result.warnings)
        raise AdapterError(
            f"{subject.name} answers none of the laws chosen by --laws {settings.laws}{near}; see ddpm-ref laws for what they need"
        )
    print(*conclusions(result), "", *footer(result), sep="\n")
    if report is not None:
        from ddpm_ref.files import write_atomically

        write_atomically(report, WRITERS[report.suffix](result).encode())
        print(f"report: {report}")
    return OK if result.ok else VIOLATED
