"""What the tests of the errata share."""

from __future__ import annotations

from fractions import Fraction

import pytest

from ddpm_ref.reference.schedule import NoiseSchedule


@pytest.fixture(scope="session")
def lin1000() -> NoiseSchedule:
    """The linear schedule from its definition, in exact fractions."""
    first, last = Fraction(1e-4), Fraction(0.02)
    return NoiseSchedule.from_betas([float(first + (last - first) * k / 999) for k in range(1000)])
