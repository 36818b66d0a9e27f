"""The emulated machine is the real one: every operation equals NumPy's float32 and float16, fused ones equal fractions."""

from fractions import Fraction

import numpy as np
import pytest

from ddpm_ref.arithmetic import FORMATS, Machine
from ddpm_ref.errors import ClaimError

NUMPY = {"fp32": np.float32, "fp16": np.float16}
OPERATIONS = {"add": np.add, "multiply": np.multiply, "divide": np.divide}


def numbers(name, rng, n, low=None, high=None):
    """Numbers of the format, of every exponent between ``low`` and ``high`` (default: all, subnormal ones too)."""
    form = FORMATS[name]
    low = form.min_exponent - form.precision if low is None else low
    high = form.max_exponent + 1 if high is None else high
    x = rng.uniform(1, 2, n) * 2.0 ** rng.integers(low, high, n) * rng.choice([-1, 1], n)
    return np.clip(form.round(x), -form.max, form.max)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", NUMPY)
def test_operations_equal_the_hardware(name, operation):
    rng = np.random.default_rng(0)
    a, b = numbers(name, rng, 200_000), numbers(name, rng, 200_000)
    close = a[:50_000] * (1 + rng.integers(-4, 5, 50_000) * 2.0 ** (1 - FORMATS[name].precision))
    a = np.append(a, a[:50_000])
    b = np.append(b, np.clip(FORMATS[name].round(close), -FORMATS[name].max, FORMATS[name].max))
    a, b = np.append(a, [0.0, -0.0, 0.0, np.inf]), np.append(b, [-0.0, -0.0, 1.0, 1.0])
    if operation == "divide":
        b = np.where(b == 0, 1.0, b)
    with np.errstate(all="ignore"):
        want = OPERATIONS[operation](a.astype(NUMPY[name]), b.astype(NUMPY[name])).astype(np.float64)
    got = getattr(Machine(FORMATS[name]), operation)(a, b)
    assert np.array_equal(got, want)
    assert np.array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_fused_multiply_add_rounds_the_exact_value_once(name):
    """Addends chosen near minus the product, and far below it, where rounding twice would show."""
    form, rng, n = FORMATS[name], np.random.default_rng(1), 3000
    a, b = numbers(name, rng, n, -3, 4), numbers(name, rng, n, -3, 4)
    c = np.concatenate(
        [
            form.round(-a[: n // 3] * b[: n // 3] * (1 + rng.integers(-3, 4, n // 3) * form.u)),
            form.round(a[n // 3 :] * b[n // 3 :]) * 2.0 ** rng.integers(-form.precision - 3, 5, n - n // 3),
        ]
    )
    c = form.round(c)
    got = Machine(form, fused=True).multiply_add(a, b, c)
    for x, y, z, result in zip(a.tolist(), b.tolist(), c.tolist(), got.tolist(), strict=True):
        value = Fraction(x) * Fraction(y) + Fraction(z)
        error, ulp = abs(Fraction(result) - value), Fraction(float(form.spacing(result)))
        assert error <= ulp / 2
        if error == ulp / 2:
            assert Fraction(result) / ulp % 2 == 0


def test_without_fusing_the_product_is_rounded_first():
    form = FORMATS["bf16"]
    a = np.array([1 + 2.0**-7])
    assert Machine(form).multiply_add(a, a, -form.round(a * a)) == 0
    assert Machine(form, fused=True).multiply_add(a, a, -form.round(a * a)) == 2.0**-14


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_double_rounding_is_avoided(sign):
    """1 + 2**-23 + 2**-24 - 2**-54 lies just below a tie of float32; rounded to float64 first, it would be the tie itself."""
    form, a, b = FORMATS["fp32"], 2.0**-12 * (1 - 2.0**-15), 2.0**-12 * (1 + 2.0**-15)
    c = 1 + 2.0**-23
    assert form.round(a * b + c) == 1 + 2.0**-22
    got = Machine(form, fused=True).multiply_add(np.array([sign * a]), np.array([b]), np.array([sign * c]))
    assert got == sign * c


def test_lincomb_rounds_coefficients_and_goes_from_the_first_term_to_the_last():
    form = FORMATS["fp16"]
    coefficients, values = (
        [np.array([0.1]), np.array([1 / 3]), np.array([3.7])],
        [np.array([v]) for v in (1.5, -2.0, 7.0)],
    )
    total = np.float16(0.1) * np.float16(1.5)
    for c, v in ((1 / 3, -2.0), (3.7, 7.0)):
        total = total + np.float16(c) * np.float16(v)
    assert Machine(form).lincomb(coefficients, values) == np.float64(total)


def test_float64_cannot_be_emulated_in_itself():
    with pytest.raises(ClaimError, match="choose fp32, fp16 or bf16"):
        Machine(FORMATS["fp64"])
