"""Certificates on the disk: what was changed, belongs elsewhere or does not hold is refused by name."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ddpm_ref
from ddpm_ref.certificate import Certificate, certify, certify_again
from ddpm_ref.errors import CertificateError, MissingExtraError, OutputError
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.schedule_config import ScheduleConfig

CONFIG = ScheduleConfig("linear", T=6, beta_T=0.5)


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    """Of a named schedule with a trajectory."""
    return certify(CONFIG, (6, 3, 0))


@pytest.fixture
def path(certificate: Certificate, tmp_path: Path) -> Path:
    """The same as a file."""
    certificate.write(tmp_path / "cert.json")
    return tmp_path / "cert.json"


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Whoever changes a certificate can also make its digest again."""
    content = {name: value for name, value in values.items() if name != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return content | {"digest": hashlib.sha256(text.encode()).hexdigest()}


def test_a_certificate_survives_the_disk_and_holds(certificate: Certificate, path: Path) -> None:
    read = Certificate.read(path)
    assert read == certificate
    assert certify_again(read) == certificate
    values = json.loads(path.read_bytes())
    assert values["verdict"] == "proved"
    assert values["digest"] == certificate.digest == sealed(values)["digest"]
    assert values["betas"] == [float(beta).hex() for beta in CONFIG.build().beta[1:]]
    assert values["schedule"] == {"kind": "linear", "T": 6, "beta_T": 0.5}
    assert values["schedule_digest"] == CONFIG.build().digest
    assert set(values["made_with"]) == {"ddpm_ref", "python_flint", "flint"}


def test_a_certificate_of_given_betas_and_one_of_a_refuted_table(tmp_path: Path) -> None:
    schedule = NoiseSchedule.from_betas([0.25, 1.0])
    certify(schedule).write(tmp_path / "given.json")
    again = certify_again(Certificate.read(tmp_path / "given.json"))
    assert (again.schedule, again.verdict) == (None, "proved")
    table = schedule.snr.copy()
    table[1] += 1
    schedule.__dict__["snr"] = table
    certify(schedule).write(tmp_path / "refuted.json")
    refuted = Certificate.read(tmp_path / "refuted.json")
    assert refuted.verdict == "refuted"
    # The tables of this package are right, so what was refuted then is not found again.
    with pytest.raises(CertificateError, match="says of snr: proved 2; the proof made again finds 3"):
        certify_again(refuted)


def test_the_digests_of_tables_do_not_depend_on_the_proof(certificate: Certificate) -> None:
    alpha_bar = CONFIG.build().alpha_bar.tolist()
    expected = hashlib.sha256(" ".join(map(float.hex, alpha_bar)).encode()).hexdigest()
    assert next(table.sha256 for table in certificate.tables if table.name == "alpha_bar") == expected


def every_leaf(values: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all numbers and strings."""
    if isinstance(values, dict):
        return [leaf for name, item in values.items() for leaf in every_leaf(item, (*where, name))]
    if isinstance(values, list):
        return [leaf for i, item in enumerate(values) for leaf in every_leaf(item, (*where, i))]
    return [where]


def test_whatever_is_changed_is_noticed(path: Path) -> None:
    original = path.read_text()
    leaves = [leaf for leaf in every_leaf(json.loads(original)) if leaf[0] != "tables" or leaf[1] < 3]  # all are alike
    assert {leaf[0] for leaf in leaves} == set(json.loads(original)) - {"refutations"}  # there are none
    for *where, last in leaves:
        values = json.loads(original)
        place = values
        for name in where:
            place = place[name]
        place[last] = place[last] + 1 if isinstance(place[last], int | float) else place[last] + "0"
        path.write_text(json.dumps(values))
        with pytest.raises(CertificateError):
            Certificate.read(path)


def edit(*where: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Write a value into a place of the certificate."""

    def change(values: dict[str, Any]) -> None:
        place: Any = values
        for name in where[:-1]:
            place = place[name]
        place[where[-1]] = value

    return change


def forget(name: str) -> Callable[[dict[str, Any]], None]:
    """Leave out a field."""
    return lambda values: values.pop(name)


FORGED: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a beta": (
        edit("betas", 2, value="0x1.8p-3"),
        r"beta 0\.1875 at level t = 3; the schedule of its own parameters has",
    ),
    "a beta too few": (
        lambda values: values["betas"].pop(),
        "has 5 betas; its own parameters say T = 6",
    ),
    "a beta that is none": (edit("betas", 2, value="0x1p3"), "define no schedule: betas at level t = 3 is 8.0"),
    "a beta that is no number": (edit("betas", 2, value="many"), "define no schedule"),
    "a beta beyond float64": (edit("betas", 2, value="0x1p5000"), "define no schedule"),
    "a T beyond all memory": (edit("schedule", "T", value=10**18), "has 6 betas; its own parameters say T = 10000"),
    "other parameters": (edit("schedule", "beta_T", value=0.25), "the schedule of its own parameters has"),
    "a kind": (edit("schedule", "kind", value="scaled_linear"), "the schedule of its own parameters has"),
    "an unknown kind": (edit("schedule", "kind", value="mine"), "not a whole certificate: .*'mine' is not known"),
    "the schedule's digest": (edit("schedule_digest", value="0" * 64), "schedule_digest is 000000000000..."),
    "a table's digest": (edit("tables", 3, "sha256", value="0" * 64), "says of alpha_bar: sha256 0000"),
    "a count": (edit("tables", 3, "entries", value=8), "says of alpha_bar: entries 8; the proof made again finds 7"),
    "a weaker claim": (edit("tables", 3, "claim", value="one ulp"), "says of alpha_bar: claim one ulp"),
    "a verdict": (edit("verdict", value="refuted"), "says 'refuted' where its own tables say 'proved'"),
    "a table left out": (lambda values: values["tables"].pop(4), "tables are not those of the proof: beta_bar"),
    "tables in another order": (lambda values: values["tables"].reverse(), "they stand in another order"),
    "no trajectory": (edit("levels", value=[]), "tables are not those of the proof: trajectory"),
    "levels that are no trajectory": (edit("levels", value=[3, 5, 0]), "cannot be proved again: trajectory"),
    "levels above T": (edit("levels", value=[9, 0]), "cannot be proved again"),
    "no bits": (edit("max_bits", value=0), "cannot be proved again: max_bits = 0"),
    "a refutation": (
        edit("refutations", value=[{"table": "snr", "t": 1, "s": 0, "got": "0x1p0", "proved": "0x1p1"}]),
        "refutations are not those of the proof",
    ),
    "a later version": (edit("version", value=2), "of version 2; this ddpm_ref, .*, reads version 1"),
    "another format": (edit("format", value="mine"), "not a ddpm_ref certificate"),
    "no betas": (forget("betas"), r"certificate\.betas is missing"),
    "no tables": (forget("tables"), r"certificate\.tables is missing"),
    "no version": (forget("version"), "of version None"),
    "no verdict": (forget("verdict"), "says None"),
    "an unknown field": (edit("colour", value="blue"), "certificate has no 'colour'"),
    "betas that are no list": (edit("betas", value="0x1p-1"), "it must be a list"),
    "a count that is no number": (
        edit("tables", 0, "proved", value="all"),
        r"tables\[0\]\.proved is 'all'; it must be int",
    ),
    "a half proved entry": (edit("tables", 0, "proved", value=0.5), r"tables\[0\]\.proved is 0.5; it must be int"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_certificate_is_refused_though_its_digest_is_right(name: str, path: Path) -> None:
    change, words = FORGED[name]
    values = json.loads(path.read_bytes())
    change(values)
    path.write_text(json.dumps(sealed(values)))
    with pytest.raises(CertificateError, match=words):
        certify_again(Certificate.read(path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"format": NaN}', "NaN is not JSON"),
        (b"[]", "not a ddpm_ref certificate"),
        (b"{}", "not a ddpm_ref certificate"),
        (b'{"format": "ddpm_ref.certificate", "version": 1}', "was changed"),
        (b'{"format": "ddpm_ref.certificate", "version": "1"}', "of version '1'"),
    ],
)
def test_what_is_no_certificate_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "cert.json").write_bytes(content)
    with pytest.raises(CertificateError, match=words):
        Certificate.read(tmp_path / "cert.json")


def test_a_certificate_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="cannot be read"):
        Certificate.read(tmp_path / "cert.json")
    with pytest.raises(CertificateError, match="cannot be read"):
        Certificate.read(tmp_path)


def test_a_certificate_speaks_for_its_own_schedule_only(certificate: Certificate) -> None:
    certificate.belongs_to(CONFIG.build())
    with pytest.raises(CertificateError, match="with T = 6; the schedule asked for has T = 7"):
        certificate.belongs_to(ScheduleConfig("linear", T=7).build())
    with pytest.raises(CertificateError, match=r"at level t = 2; the schedule asked for has 0\.08008"):
        certificate.belongs_to(ScheduleConfig("linear", T=6, beta_T=0.4).build())


def test_a_certificate_that_cannot_be_written_leaves_the_old_one(certificate: Certificate, path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        certificate.write(path.parent / "no" / "cert.json")
    assert Certificate.read(path) == certificate


def test_without_python_flint_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("ddpm_ref.certificate")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(ddpm_ref, "certificate")
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ddpm-ref\[certify\]'"):
        importlib.import_module("ddpm_ref.certificate")
