"""What the tests of `ddpm_ref.torch` share: exact levels in mpmath, and the error over the bound of a claim."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected

EXACT = mpmath.mp.clone()
EXACT.prec = 300
NAMES = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def step_coefficients(betas: Sequence[float], t: int, s: int) -> SimpleNamespace:
    """The coefficients of the step (t, s), from the betas read as exact reals (the papers' definitions)."""
    alpha_bar = [EXACT.mpf(1)]
    for beta in betas:
        alpha_bar.append(alpha_bar[-1] * (1 - EXACT.mpf(float(beta))))
    at, as_ = alpha_bar[t], alpha_bar[s]
    return SimpleNamespace(a_t=at, b_t=1 - at, a_s=as_, b_s=1 - as_, alpha=at / as_, beta=1 - at / as_, sqrt=EXACT.sqrt)


def error_over_bound(got: torch.Tensor, values: Sequence, scales: Sequence, roundings: int) -> float:
    """The worst error as a fraction of the bound of NUMERICS section 1, for eager code computing halves in float32."""
    store = NAMES[got.dtype]
    high = np.array([float(v) for v in values])
    low = np.array([float(v - EXACT.mpf(h)) for v, h in zip(values, high, strict=True)])
    expected = Expected(DoubleDouble(high, low), np.array([float(s) for s in scales]), roundings)
    claim = Claim(store, "fp64" if store == "fp64" else "fp32")
    return float(np.max(expected.error_over_bound(got.detach().double().reshape(-1).numpy(), claim)))


@pytest.fixture(scope="session")
def exact():
    """An mpmath context of 300 bits of its own."""
    return EXACT


@pytest.fixture(scope="session")
def coefficients() -> Callable[..., SimpleNamespace]:
    """`step_coefficients`."""
    return step_coefficients


@pytest.fixture(scope="session")
def worst() -> Callable[..., float]:
    """`error_over_bound`."""
    return error_over_bound
