"""What the conformance kit finds in well-known libraries: runs it for real and writes the page and the data behind it.

``python benchmarks/known_failures.py`` holds the schedulers of the installed diffusers against all laws. Other libraries are
given as checkouts, ``--guided-diffusion FOLDER`` and ``--lucidrains-folder FOLDER``; without a checkout, what the data hold of it
stays. The data are ``docs/known-failures.json``, and the page is made from them alone.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import tyro

from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.conformance import Report, check

DOCS = Path(__file__).parents[1] / "docs"
DATA, PAGE = DOCS / "known-failures.json", DOCS / "known-failures.md"
FEW = 20
UNUSED = (
    "torchvision", "torchvision.transforms", "torchvision.datasets", "einops", "einops.layers", "einops.layers.torch", "accelerate",
    "ema_pytorch", "pytorch_fid", "pytorch_fid.fid_score", "pytorch_fid.inception", "scipy.optimize", "tqdm", "tqdm.auto",
)  # fmt: skip

# What is known upstream of a cause, by its name: threads of the projects' own trackers.
THREADS = {
    "diffusers": {
        "complement after cast to storage": "PR #3005 (merged) for a related cast, PR #9004 (merged) for two scripts",
        "previous level at even distance": "#12633 and #11347 (open), PR #13108 (closed), PR #14357 (open)",
        "logarithm used as variance and last step known by its level": "#14569 and PR #14571 (open)",
        "logarithm of the larger variance": "#14569 and PR #14571 (open)",
        "complements from rounded products": "#5130 (closed) asks about the difference; #3056 (closed) about the format",
        "one minus rounded product": "#3056 (closed) asks why these tables are float32",
    },
    "guided-diffusion": {},
    "lucidrains": {},
}


@dataclass(frozen=True)
class Subject:
    """One implementation: the library it belongs to, and the command that holds it against the laws."""

    library: str
    command: str
    report: Report


def diffusers() -> list[Subject]:
    from ddpm_ref.conformance import diffusers_adapter as adapters

    subjects = []
    for made, adapter in {
        "DiffusersDDPM()": adapters.DiffusersDDPM(),
        "DiffusersDDPM('fixed_large_log')": adapters.DiffusersDDPM("fixed_large_log"),
        "DiffusersDDIM()": adapters.DiffusersDDIM(),
        "DiffusersDDPMParallel()": adapters.DiffusersDDPMParallel(),
        "DiffusersDDIMParallel()": adapters.DiffusersDDIMParallel(),
    }.items():
        subjects.append(Subject("diffusers", _command("diffusers_adapter", made), held(adapter)))
    return subjects


def openai(checkout: Path, package: str, library: str) -> list[Subject]:
    from ddpm_ref.conformance.openai_adapter import OpenAIAdapter

    sys.path.insert(0, str(checkout))
    modules = [import_module(f"{package}.{name}") for name in ("gaussian_diffusion", "respace")]
    imports = f"from {package} import gaussian_diffusion, respace; "
    command = _command("openai_adapter", "OpenAIAdapter(gaussian_diffusion, respace)", imports)
    return [Subject(library, command, held(OpenAIAdapter(*modules)))]


def lucidrains(checkout: Path) -> list[Subject]:
    from ddpm_ref.conformance.lucidrains_adapter import LucidrainsAdapter

    sys.path.insert(0, str(checkout))
    # What it imports for data, networks and training plays no part in its formulas, and need not be installed.
    unused = {name: MagicMock() for name in UNUSED if importlib.util.find_spec(name.partition(".")[0]) is None}
    with patch.dict(sys.modules, unused):
        module = import_module("denoising_diffusion_pytorch.denoising_diffusion_pytorch")
    imports = "from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion; "
    command = _command("lucidrains_adapter", "LucidrainsAdapter(GaussianDiffusion)", imports)
    return [Subject("lucidrains", command, held(LucidrainsAdapter(module.GaussianDiffusion)))]


def _command(module: str, made: str, imports: str = "") -> str:
    """What to write in a shell (in the checkout, where one is needed)."""
    name = made.partition("(")[0]
    kit = f"from ddpm_ref.conformance import check; from ddpm_ref.conformance.{module} import {name}"
    return f'python -c "{imports}{kit}; print(check({made}))"'


def held(adapter: Any) -> Report:
    print(adapter.name, flush=True)
    report = check(adapter, max_examples=FEW)
    print(f"  {report.headline()}; {report.seconds:.0f} s", flush=True)
    return report


# --- data and page -------------------------------------------------------------------------------------------------------


def as_data(subject: Subject) -> dict[str, Any]:
    causes = []
    for cause in subject.report.causes:
        finding, violation = cause.plainest
        element = violation.element
        causes.append(
            {
                "name": cause.name if violation.mistakes or violation.nearest else violation.diagnosis,
                "kinds": sorted({v.kind for _, v in cause.members}),
                "laws": list(cause.laws),
                "law": finding.law.id,
                "claim": str(violation.claim),
                "case": violation.case,
                "got": None if element is None else element.got,
                "want": None if element is None else element.want,
                "size": f"{violation.error_over_bound:.3g} times the bound",
                "summary": violation.summary,
            }
        )
    expected = [[f.law.id, f.expected] for f in subject.report.findings if f.verdict == "expected failure"]
    holds = [f.law.id for f in subject.report.findings if f.verdict == "holds"]
    return {
        "name": subject.report.implementation,
        "command": subject.command,
        "headline": subject.report.headline(),
        "causes": causes,
        "expected": expected,
        "holds": holds,
    }


def page(data: dict[str, Any]) -> str:
    """The page, from the data alone."""
    lines = [HEAD]
    for library, section in data.items():
        lines += [f"## {library} {section['version']}", "", section["note"], ""]
        for subject in section["subjects"]:
            lines += [f"### {subject['name']}", "", f"{subject['headline']}.", ""]
            for title, kinds in (("Wrong", False), ("Digits lost", True)):
                causes = [c for c in subject["causes"] if (c["kinds"] == ["rounding"]) == kinds]
                lines += _table(title, causes, THREADS.get(library, {}))
            lines += [f"* `{law}` fails as expected: {reason}." for law, reason in subject["expected"]]
            if subject["holds"]:
                lines += [f"Right under every claim: {', '.join(f'`{law}`' for law in subject['holds'])}.", ""]
            lines += ["To see it:", "", f"```console\n$ {subject['command']}\n```", ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(title: str, causes: list[dict[str, Any]], threads: dict[str, str]) -> list[str]:
    if not causes:
        return []
    rows = [
        f"| {title} | laws | smallest case | got | law says | size | known upstream |",
        "|---|---|---|---|---|---|---|",
    ]
    for cause in causes:
        cells = (
            cause["name"],
            ", ".join(f"`{law}`" for law in cause["laws"]),
            f"{cause['claim']}: `{cause['case']}`",
            "" if cause["got"] is None else f"`{cause['got']}`",
            "" if cause["want"] is None else f"`{cause['want']}`",
            cause["size"] + (f" ({cause['summary']})" if cause["summary"] else ""),
            threads.get(cause["name"], "no thread known"),
        )
        rows.append("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return [*rows, ""]


HEAD = """# What the kit finds

These are facts about code that many people use, found by running [the kit](conformance.md) on it, as anybody can. The authors of
these libraries wrote and share software that works for its users; that a law fails says what arithmetic could have done, and at
which level, not that samples look wrong. Every line has a smallest case, and every implementation a command.

*Wrong* means a formula that differs from its source by more than half of the digits; *digits lost* means that the formula is right
and rounding is not kept within the bound for the claimed format. Laws are tried in float64 first where the code can run in it. "No
thread known" means that none was found, not that none exists.

This page is generated, with checkouts of your own:
`python benchmarks/known_failures.py --guided-diffusion FOLDER --lucidrains-folder FOLDER`.
"""
NOTES = {
    "diffusers": "Installed from the package index. Its tables are float32 (claims fp32, bf16); under fp64 its own "
    "constructor makes them in float64, so that formulas can be seen apart from rounding.",
    "guided-diffusion": "From a public snapshot. Its tables are float64 and are cast to float32 when they are looked up; "
    "under the claim fp64 the cast is left out.",
    "lucidrains": "denoising-diffusion-pytorch, from a public snapshot. Clipping of the predicted x0 is switched off by a "
    "subclass, so that the formulas can be seen.",
}


def main(
    guided_diffusion: Path | None = None, lucidrains_folder: Path | None = None, without_diffusers: bool = False
) -> None:
    """Run the kit and write data and page.

    Args:
        guided_diffusion: a checkout of openai/guided-diffusion.
        lucidrains_folder: a checkout of lucidrains/denoising-diffusion-pytorch.
        without_diffusers: keep what the data say of diffusers.
    """
    data = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    runs: dict[str, tuple[str, list[Subject]]] = {}
    if not without_diffusers:
        runs["diffusers"] = metadata.version("diffusers"), diffusers()
    if guided_diffusion is not None:
        runs["guided-diffusion"] = (
            _commit(guided_diffusion),
            openai(guided_diffusion, "guided_diffusion", "guided-diffusion"),
        )
    if lucidrains_folder is not None:
        runs["lucidrains"] = _commit(lucidrains_folder), lucidrains(lucidrains_folder)
    for library, (version, subjects) in runs.items():
        found = [as_data(subject) for subject in subjects]
        data[library] = {"version": version, "note": NOTES[library], "subjects": found}
    DATA.write_text(json.dumps(finite(data), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(DATA.read_text(encoding="utf-8"))), encoding="utf-8")


def _commit(checkout: Path) -> str:
    """The commit of a checkout, if it says so."""
    note = checkout / "COMMIT"
    return note.read_text().strip()[:10] if note.exists() else "(snapshot)"


if __name__ == "__main__":
    tyro.cli(main)
