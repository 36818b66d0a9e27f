"""Certificates as files: what was proved of which schedule, under a digest of its own."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import ddpm_ref
from ddpm_ref.errors import CertificateError, DdpmRefError
from ddpm_ref.extras import require
from ddpm_ref.files import write_atomically
from ddpm_ref.records import plain, record
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.schedule_config import ScheduleConfig

FORMAT, VERSION = "ddpm_ref.certificate", 1


@dataclass(frozen=True)
class TableProof:
    """What was found of one table."""

    name: str
    """Of the attribute; of pairs, with the pairs before it."""
    claim: str
    """``nearest``: the float64 nearest to the exact value. ``one ulp``: less than one unit in the last place away."""
    entries: int
    """How many there are."""
    proved: int
    """Of these, how many the claim was proved for."""
    refuted: int
    """How many it was disproved for."""
    unproved: int
    """How many were left undecided at the greatest precision allowed."""
    bits: int
    """The greatest precision that an entry needed; 0 where all are stated."""
    sha256: str
    """Of the entries as hexadecimal floats, joined by blanks."""


@dataclass(frozen=True)
class Refutation:
    """An entry that is not what it claims to be."""

    table: str
    t: int
    s: int
    """The earlier level of the pair; of a level table, t - 1."""
    got: str
    """What the table holds, as a hexadecimal float."""
    proved: str
    """The float64 that was proved to be nearest."""


@dataclass(frozen=True)
class Versions:
    """What made the proof."""

    ddpm_ref: str
    python_flint: str
    flint: str

    @classmethod
    def here(cls) -> Versions:
        """Those installed."""
        flint = require("flint", "certify")
        return cls(ddpm_ref.__version__, flint.__version__, flint.__FLINT_VERSION__)


@dataclass(frozen=True)
class Certificate:
    """What was proved of the tables of one schedule."""

    schedule: ScheduleConfig | None
    """The named schedule; None if betas were given."""
    betas: tuple[str, ...]
    """As hexadecimal floats."""
    schedule_digest: str
    """`NoiseSchedule.digest`."""
    levels: tuple[int, ...]
    """Of the trajectory whose steps were proved; empty for none."""
    max_bits: int
    """The precision at which undecided entries were left unproved."""
    tables: tuple[TableProof, ...]
    refutations: tuple[Refutation, ...]
    made_with: Versions

    def count(self, what: str) -> int:
        """``entries``, ``proved``, ``refuted`` or ``unproved`` of all tables together."""
        return sum(getattr(table, what) for table in self.tables)

    @property
    def verdict(self) -> str:
        """``proved`` if every entry is, ``refuted`` if one is refuted, ``unproved`` otherwise."""
        if self.count("refuted"):
            return "refuted"
        return "unproved" if self.count("unproved") else "proved"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: format and version, everything above, the verdict, and the SHA-256 digest of all this."""
        content: dict[str, Any] = {"format": FORMAT, "version": VERSION} | plain(self) | {"verdict": self.verdict}
        if self.schedule:
            content["schedule"] = self.schedule.to_dict()
        return content | {"digest": _digest(content)}

    @property
    def digest(self) -> str:
        """The SHA-256 digest over the content."""
        return str(self.to_dict()["digest"])

    def write(self, path: Path | str) -> None:
        """Write the certificate as JSON, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        write_atomically(Path(path), (json.dumps(self.to_dict(), indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path | str) -> Certificate:
        """Read a file that `write` wrote. Nothing is proved by this; see `certify_again`.

        Raises:
            CertificateError: missing, no JSON, not a certificate, of a later version, changed, or with missing fields.
        """
        try:
            values = json.loads(Path(path).read_bytes(), parse_constant=_no_constant)
        except OSError as error:
            raise CertificateError(f"{path} cannot be read ({(error.strerror or str(error)).lower()})") from error
        except (ValueError, RecursionError) as error:
            raise CertificateError(f"{path} is not JSON and so not a certificate ({error})") from error
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise CertificateError(f"{path} is JSON but not a ddpm_ref certificate: it does not say so in its format")
        if values.get("version") != VERSION:
            raise CertificateError(
                f"{path} is a certificate of version {values.get('version')!r}; this ddpm_ref, {ddpm_ref.__version__}, reads "
                f"version {VERSION}"
            )
        digest = values.pop("digest", None)
        if digest != _digest(values):
            raise CertificateError(f"{path} was changed: its content does not have the SHA-256 digest written in it")
        return cls._of(values, str(path))

    @classmethod
    def _of(cls, values: dict[str, Any], where: str) -> Certificate:
        content = {name: value for name, value in values.items() if name not in ("format", "version", "verdict")}
        try:
            found: Certificate = record(cls, content, "certificate")
        except DdpmRefError as error:
            raise CertificateError(f"{where} is not a whole certificate: {error}") from error
        if values.get("verdict") != found.verdict:
            raise CertificateError(
                f"{where} says {values.get('verdict')!r} where its own tables say {found.verdict!r}: it does not hold"
            )
        return found

    def rebuilt(self) -> NoiseSchedule:
        """The schedule of the betas, which must be that of the parameters if there are any.

        Raises:
            CertificateError: they define none, or another one.
        """
        T = len(self.betas)
        if self.schedule and self.schedule.T != T:  # before anything of that length is built
            raise CertificateError(f"the certificate has {T} betas; its own parameters say T = {self.schedule.T}")
        try:
            schedule = NoiseSchedule.from_betas([float.fromhex(beta) for beta in self.betas])
            named = self.schedule.build() if self.schedule else schedule
        except (DdpmRefError, ValueError, OverflowError) as error:
            raise CertificateError(f"the certificate's betas or parameters define no schedule: {error}") from error
        _same(schedule, named, "the schedule of its own parameters")
        return schedule

    def belongs_to(self, schedule: NoiseSchedule) -> None:
        """Refuse to speak for another schedule.

        Raises:
            CertificateError: T or a beta differs; the message names the first that does.
        """
        _same(self.rebuilt(), schedule, "the schedule asked for")

    def compare(self, found: Certificate) -> None:
        """Hold the certificate against a proof that was made again.

        Raises:
            CertificateError: something in it is not what was found; bits and versions may differ.
        """
        if self.schedule_digest != found.schedule_digest:
            raise CertificateError(
                f"the certificate's schedule_digest is {self.schedule_digest[:12]}..., that of its betas "
                f"{found.schedule_digest[:12]}...: it does not hold"
            )
        said, proved = ([table.name for table in one.tables] for one in (self, found))
        if said != proved:
            differing = ", ".join(sorted(set(said) ^ set(proved))[:3]) or "they stand in another order"
            raise CertificateError(f"the certificate's tables are not those of the proof: {differing}; make a new one")
        for old, new in zip(self.tables, found.tables, strict=True):
            for what in ("claim", "entries", "proved", "refuted", "unproved", "sha256"):
                if getattr(old, what) != getattr(new, what):
                    raise CertificateError(
                        f"the certificate says of {old.name}: {what} {getattr(old, what)}; the proof made again finds "
                        f"{getattr(new, what)}: it does not hold"
                    )
        if self.refutations != found.refutations:
            raise CertificateError(
                "the certificate's refutations are not those of the proof made again: it does not hold"
            )


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _same(certified: NoiseSchedule, other: NoiseSchedule, which: str) -> None:
    if certified.T != other.T:
        raise CertificateError(f"the certificate is of a schedule with T = {certified.T}; {which} has T = {other.T}")
    pairs = zip(certified.beta.tolist(), other.beta.tolist(), strict=True)
    for t, (mine, its) in enumerate(pairs):
        if mine != its:
            raise CertificateError(f"the certificate has beta {mine!r} at level t = {t}; {which} has {its!r}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
