"""Proofs on the command line: ``ddpm-ref verify --certify`` and ``--check-certificate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_ref.commands.schedule_flags import ScheduleFlags, build
from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.exit_status import OK, VIOLATED
from ddpm_ref.reference.schedule import NoiseSchedule, Spacing
from ddpm_ref.schedule_config import ScheduleConfig, ScheduleKind

if TYPE_CHECKING:
    from ddpm_ref.certificate import Certificate

WITHOUT_MORE = ("linear", "cosine")
SHOWN = 10  # refuted entries; the certificate has all


@dataclass(frozen=True)
class ProofFlags:
    """What is to be proved, and where the proof is kept."""

    certify: bool = False
    """Prove every entry of a schedule's tables with Arb; of linear and cosine if no schedule is named."""
    check_certificate: Path | None = None
    """Read a certificate and do its proof again; with a schedule, it must be that one's."""
    kind: ScheduleKind | None = None
    """The schedule to prove, with its arguments below."""
    steps: int | None = None
    """Prove the steps of a trajectory of so many steps as well."""
    spacing: Spacing | None = None
    """Of that trajectory; even if left out."""
    max_bits: int | None = None
    """Entries undecided at this precision stay unproved; 65536 if left out."""
    certificate: Path | None = None
    """Write the certificate there as JSON (a name ending in .json)."""

    @property
    def asked(self) -> bool:
        """Whether anything is to be proved."""
        return self.certify or self.check_certificate is not None

    def refuse_unused(self, schedule: ScheduleFlags) -> None:
        """Refuse flags that would be passed over in silence (`RangeError`)."""
        making = {
            "steps": self.steps,
            "spacing": self.spacing,
            "max_bits": self.max_bits,
            "certificate": self.certificate,
        }
        made = [f"--{name.replace('_', '-')}" for name, value in making.items() if value is not None]
        named = [*(["--kind"] if self.kind else []), *schedule.used()]
        if not self.asked and (made or named):
            raise RangeError(
                f"{[*made, *named][0]} says what to prove; give --certify (or --check-certificate FILE) with it"
            )
        if self.certify and self.check_certificate is not None:
            raise RangeError("--certify makes a proof, --check-certificate repeats one; give one of the two")
        if self.check_certificate is not None and made:
            raise RangeError(f"{made[0]} goes with --certify; a certificate that is checked says itself what to prove")
        if self.spacing is not None and self.steps is None:
            raise RangeError("--spacing is of a trajectory; give its number of steps as well: --steps K")
        if self.certificate is not None and not named:
            raise RangeError("--certificate holds the proof of one schedule; name it: --kind KIND, or --betas FILE")


NO_PROOF = ProofFlags()


def prove(flags: ProofFlags, schedule: ScheduleFlags) -> int:
    """Do what the flags say, print what was found, and answer the exit status."""
    from ddpm_ref import certificate

    subjects: list[ScheduleConfig | NoiseSchedule]
    if flags.kind is None and not schedule.used():
        subjects = [ScheduleConfig(kind) for kind in WITHOUT_MORE]
    elif flags.kind is None and schedule.betas is None:
        raise ScheduleError(f"{schedule.used()[0]} is of a named schedule; name it: --kind KIND")
    else:
        subjects = [schedule.schedule(flags.kind)]
    max_bits = certificate.MAX_BITS if flags.max_bits is None else flags.max_bits
    status = OK
    for subject in subjects:
        levels: tuple[int, ...] = ()
        if flags.steps is not None:
            levels = build(subject).trajectory(flags.steps, flags.spacing or "even").levels
        found = certificate.certify(subject, levels, max_bits)
        _print(found)
        if flags.certificate is not None:
            found.write(flags.certificate)
        status = max(status, _status(found))
    return status


def check(path: Path, flags: ProofFlags, schedule: ScheduleFlags) -> int:
    """Do the proof of a certificate again; `CertificateError` if it does not hold."""
    from ddpm_ref.certificate import Certificate, certify_again

    certificate = Certificate.read(path)
    if flags.kind is not None or schedule.used():
        certificate.belongs_to(build(schedule.schedule(flags.kind)))
    found = certify_again(certificate)
    _print(found)
    print(f"{path}: every digest and count is that of the proof made again")
    return _status(found)


def _status(certificate: Certificate) -> int:
    return OK if certificate.verdict == "proved" else VIOLATED


def _print(certificate: Certificate) -> None:
    T = len(certificate.betas)
    named = certificate.schedule
    arguments = "".join(f", {name} = {value}" for name, value in named.given().items()) if named else ""
    print(f"{named.kind if named else 'betas given'}, T = {T}{arguments}")
    print(f"{'table':<42}{'entries':>9}{'proved':>9}{'refuted':>9}{'unproved':>10}{'bits':>8}")
    for table in certificate.tables:
        print(
            f"{table.name:<42}{table.entries:>9}{table.proved:>9}{table.refuted:>9}{table.unproved:>10}{table.bits:>8}"
        )
    for wrong in certificate.refutations[:SHOWN]:
        print(f"refuted: {wrong.table} at t = {wrong.t}, s = {wrong.s} is {wrong.got}; proved: {wrong.proved}")
    if len(certificate.refutations) > SHOWN:
        print(f"... and {len(certificate.refutations) - SHOWN} more")
    counts = ", ".join(f"{certificate.count(what)} {what}" for what in ("entries", "proved", "refuted", "unproved"))
    digests = f"schedule {certificate.schedule_digest[:12]}, certificate {certificate.digest}"
    print(f"{counts}: {certificate.verdict}; {digests}", flush=True)
