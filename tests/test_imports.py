"""What importing the package costs and what it must not load; each check runs in a fresh interpreter and is shown able to fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "sympy", "scipy", "mpmath", "hypothesis", "matplotlib", "pytest", "tyro", "triton")


def loaded_after(statement: str) -> set[str]:
    """Which heavy modules are loaded once a fresh interpreter has run a statement."""
    code = f"{statement}\nimport sys\nprint(*(m for m in {HEAVY} if m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import ddpm_ref",
        "import ddpm_ref; ddpm_ref.linear_schedule().beta_tilde; ddpm_ref.linear_schedule().log_snr",
        "import ddpm_ref.reference",
        "from ddpm_ref import laws, conformance",
    ],
)
def test_nothing_heavy_is_loaded(statement: str) -> None:
    assert loaded_after(statement) == set()


def test_the_check_above_can_fail() -> None:
    assert loaded_after("import ddpm_ref; ddpm_ref.cosine_schedule(10)") == {"mpmath"}
    assert "hypothesis" in loaded_after("import ddpm_ref.conformance.strategies")


def test_import_takes_less_than_three_tenths_of_a_second_beyond_numpy() -> None:
    code = "import numpy, time; t = time.process_time(); import ddpm_ref, ddpm_ref.reference; print(time.process_time() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert min(float(run.stdout) for run in runs) < 0.3


def test_public_names_exist_and_are_listed() -> None:
    import ddpm_ref

    for name in ddpm_ref.__all__:
        assert getattr(ddpm_ref, name) is not None
    assert set(ddpm_ref.__all__) == set(dir(ddpm_ref))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        ddpm_ref.nothing  # noqa: B018 - the access is the test
