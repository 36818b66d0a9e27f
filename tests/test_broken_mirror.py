"""A copy of the package with one line of its mirror broken by hand: ``ddpm-ref verify`` exits 1 and names the mistake."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddpm_ref"
BREAKS = {
    "variance used as standard deviation": (
        "torch/forward.py",
        "return lincomb([at(tables.sqrt_alpha_bar, t), at(tables.sqrt_beta_bar, t)], [x0, noise])",
        "return lincomb([at(tables.sqrt_alpha_bar, t), at(tables.beta_bar, t)], [x0, noise])",
    ),
    "shifted by one": (
        "torch/arguments.py",
        "    if isinstance(t, int):\n        return column[t]\n",
        "    t = max(t - 1, 0) if isinstance(t, int) else (t - 1).clamp(min=0)\n"
        "    if isinstance(t, int):\n        return column[t]\n",
    ),
    "log variance returned as variance": (
        "torch/reverse.py",
        'return step.beta_tilde if KINDS[kind] == "beta_tilde" else step.beta\n',
        'return (step.beta_tilde if KINDS[kind] == "beta_tilde" else step.beta).log()\n',
    ),
}


@pytest.mark.full
@pytest.mark.parametrize("mistake", BREAKS)
def test_verify_names_what_was_broken(mistake: str, tmp_path: Path) -> None:
    file, right, wrong = BREAKS[mistake]
    shutil.copytree(PACKAGE, tmp_path / "ddpm_ref", ignore=shutil.ignore_patterns("__pycache__"))
    source = (tmp_path / "ddpm_ref" / file).read_text()
    assert source.count(right) == 1
    (tmp_path / "ddpm_ref" / file).write_text(source.replace(right, wrong))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "ddpm_ref", "verify", "--max-examples", "20"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"WRONG: {mistake}" in done.stdout
