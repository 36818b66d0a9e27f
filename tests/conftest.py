"""What every test needs before anything is imported."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Kernels run in Triton's interpreter; it must be chosen before Triton is first imported.
os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest

# A shell that starts a job in the background may have it ignore Ctrl-C, and nohup a hang-up, and the tests of both with it.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The same cases every time: a red test stays red until its cause is found.
hypothesis.settings.register_profile("ddpm_ref", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("ddpm_ref")

# What the tests of a folder, or of a file, share is dear: derivations, figures, a trained network. One worker makes it, not each.
SHARING = {"symbolic", "errata", "demo"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Send tests that share something to one worker of ``--dist loadgroup``."""
    for item in items:
        place = item.path.relative_to(Path(__file__).parent) if Path(__file__).parent in item.path.parents else Path()
        if place.parts and (place.parts[0] in SHARING or place.stem.startswith("test_cli_")):
            item.add_marker(pytest.mark.xdist_group(place.parts[0]))


@pytest.fixture(autouse=True)
def wrong_types_reach_the_code(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is marked ``wrong_types`` is not stopped by the run-time checks of ``make test-full`` before the code can refuse it."""
    if request.node.get_closest_marker("wrong_types") is None:
        yield
        return
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


_BEGUN: dict[int, dict[str, object]] = {}


@pytest.fixture(autouse=True)
def same_numbers_in_any_order(request: pytest.FixtureRequest) -> None:
    """A module's generator begins anew with every test: what a test draws does not depend on the tests before it."""
    for value in vars(request.module).values() if isinstance(request.node, pytest.Function) else ():
        if isinstance(value, np.random.Generator):
            value.bit_generator.state = _BEGUN.setdefault(id(value), value.bit_generator.state)
