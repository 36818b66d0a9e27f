"""The counts of roundings that the laws of the DDIM family grant are derived, and every count is really needed."""

from __future__ import annotations

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance import TorchMirror
from ddpm_ref.conformance.judge import Court
from ddpm_ref.laws import REGISTRY
from ddpm_ref.laws.cases import Case
from ddpm_ref.laws.family import FAMILY_GAP, FAMILY_ROOT
from ddpm_ref.laws.registry import ROOT
from ddpm_ref.reference.schedule import NoiseSchedule

# Roundings of an entry: alpha and beta of a pair of levels, their roots, anything of a single level.
PAIR, PAIR_OF_ROOTS, LEVEL = 2, 3, 1


def roundings() -> tuple[float, float]:
    """Of the direction and of E/(Bt + R) at worst, over h = eta^2 and rho = alpha Bs / Bt, both in [0, 1]."""
    h = np.linspace(0, 1, 1001)[:, None]
    rho = np.concatenate([np.logspace(-8, 0, 400), 1 - np.logspace(-8, -1, 100)])[None]
    noisy = h * rho  # everything in units of Bt
    e, f = 1 + noisy, np.maximum(1 - h + noisy, 1e-300)
    r = np.sqrt(rho * f)
    # How much of a relative error of each quantity arrives, above (e) and below (r, through the root by half).
    above, below, in_f = noisy / e, r / (1 + r) / 2, noisy / f
    products, differences = 3, 4  # h alpha Bs; (1 - eta)(1 + eta) Bt
    gap = (
        np.abs(above - below * in_f) * (PAIR + products)
        + np.abs(above - below * (in_f + 1)) * LEVEL  # Bs is in h alpha Bs and under the root
        + np.abs(1 / e - 1 / (1 + r) - below * (1 - h) / f) * LEVEL  # Bt
        + below * ((1 - h) / f * differences + 2)  # the sum F and its product with Bs
        + 2 * below * (ROOT + PAIR_OF_ROOTS + 1)  # R is the root times sqrt(alpha)
        + 3  # the sums E and Bt + R, the quotient
    )
    under_the_root = (1 - h) / f * (differences + LEVEL) + in_f * (PAIR + LEVEL + products) + 1 + LEVEL + 1
    return float(np.max(under_the_root) / 2 + ROOT + LEVEL + 1), float(np.max(gap))


def test_the_counts_are_the_greatest_over_all_eta_and_levels() -> None:
    direction, gap = roundings()
    eps_weight = gap + (PAIR + 1) + (PAIR_OF_ROOTS + 1) + (LEVEL + 1)
    assert FAMILY_ROOT - 1 < direction <= FAMILY_ROOT
    assert FAMILY_GAP - 1 < eps_weight <= FAMILY_GAP


def test_the_mirror_needs_more_than_six_roundings_for_the_weight_of_eps() -> None:
    """What six roundings, enough for ancestral sampling, once declared wrong: correct code in another order of operations."""
    betas = np.linspace(0.02, 1e-4, 40)
    values = {"t": np.array([33, 31]), "s": np.array([31, 0]), "eta": np.asarray(0.4532960779445511)}
    case = Case(Claim("fp64"), NoiseSchedule.from_betas(betas), values)
    worst = Court(TorchMirror()).judge(REGISTRY["plan/ddim_eps"], case).worst
    assert 6 / FAMILY_GAP < worst <= 1
