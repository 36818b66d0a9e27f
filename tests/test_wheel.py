"""The wheel built from this tree works in a fresh environment, away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOUR = """
import ddpm_ref, pathlib, sys
assert pathlib.Path(ddpm_ref.__file__).is_relative_to(sys.prefix), ddpm_ref.__file__
assert ddpm_ref.linear_schedule(1000).alpha_bar[-1] == 4.035829765375682e-05
assert ddpm_ref.cosine_schedule(10).T == 10
try:
    ddpm_ref.torch
except ImportError as error:
    print(error)
"""


@pytest.mark.full
def test_the_wheel_works_in_a_fresh_environment(tmp_path: Path) -> None:
    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(c) for c in command], cwd=tmp_path, capture_output=True, text=True, check=False)

    built = run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("ddpm_ref-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "ddpm_ref/py.typed" in names
    assert "ddpm_ref/references.bib" in names
    assert not [n for n in names if n.startswith(("tests/", "benchmarks/", "docs/"))]

    run(sys.executable, "-m", "venv", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    installed = run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints-cpu.txt", wheel)
    assert installed.returncode == 0, installed.stderr
    tour = run(python, "-c", TOUR)
    assert tour.returncode == 0, tour.stderr
    assert "pip install 'ddpm-ref[torch]'" in tour.stdout
    bare = run(tmp_path / "env" / "bin" / "ddpm-ref", "laws")
    assert bare.returncode == 2
    assert "pip install 'ddpm-ref[conformance]'" in bare.stderr

    run(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints-cpu.txt", f"{wheel}[conformance]")
    table = run(tmp_path / "env" / "bin" / "ddpm-ref", "table", "linear", "--T", "3")
    assert table.returncode == 0, table.stderr
    assert "0.9700539849" in table.stdout
