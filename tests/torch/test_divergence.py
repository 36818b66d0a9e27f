"""Divergences against mpmath, with attention to nearly equal laws."""

import math

import pytest
import torch

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.torch import divergence
from ddpm_ref.torch.series import gap_expm1, gap_log1p

U = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}


def near_one(dtype):
    size = torch.logspace(-13 if dtype == torch.float64 else -6, math.log10(0.5), 400, dtype=torch.float64)
    return torch.cat([1 + size, 1 - size]).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("variance2", [1.0, 3.7e-5])
def test_nearly_equal_variances(dtype, variance2, exact):
    v2 = torch.tensor(variance2, dtype=dtype)
    v1 = near_one(dtype) * v2
    got = divergence.kl_normal(0.0, v1, 0.0, v2)
    for value, variance in zip(got.tolist(), v1.tolist(), strict=True):
        r = exact.mpf(variance) / exact.mpf(float(v2))
        want = (r - 1 - exact.log(r)) / 2
        assert abs(exact.mpf(value) - want) <= 8 * U[dtype] * want  # rule: NUMERICS section 3, 8u


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nearly_equal_log_variances(dtype, exact):
    size = near_one(dtype) - 1
    got = divergence.kl_normal_logvar(0.0, size, 0.0, torch.zeros((), dtype=dtype))
    for value, delta in zip(got.tolist(), size.tolist(), strict=True):
        d = exact.mpf(delta)
        want = (exact.expm1(d) - d) / 2
        assert abs(exact.mpf(value) - want) <= 8 * U[dtype] * want  # rule: NUMERICS section 3, 8u


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_kl_from_variances(dtype, exact, worst):
    generator = torch.Generator().manual_seed(0)
    m1, m2, a, b = (torch.randn(300, generator=generator, dtype=torch.float64) for _ in range(4))
    m1, m2, v1, v2 = m1.to(dtype), m2.to(dtype), (2 * a).exp().to(dtype), (2 * b).exp().to(dtype)
    numbers = [[exact.mpf(float(x)) for x in each] for each in (m1, v1, m2, v2)]
    values, scales, matched, matched_scales = [], [], [], []
    for p, v, q, w in zip(*numbers, strict=True):
        r, shift = v / w, (p - q) ** 2 / w
        values.append((r - 1 - exact.log(r) + shift) / 2)
        scales.append((r + 1 + abs(exact.log(r)) + (abs(p) + abs(q)) ** 2 / w) / 2)
        matched.append(shift / 2)
        matched_scales.append((abs(p) + abs(q)) ** 2 / w / 2)
    assert worst(divergence.kl_normal(m1, v1, m2, v2), values, scales, 8) <= 1
    assert worst(divergence.kl_normal_matched(m1, m2, v2), matched, matched_scales, 8) <= 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_kl_from_log_variances(dtype, exact, worst):
    generator = torch.Generator().manual_seed(1)
    m1, l1, m2, l2 = (torch.randn(300, generator=generator, dtype=torch.float64).to(dtype) * 2 for _ in range(4))
    values, scales = [], []
    for p, k, q, n in zip(*[[exact.mpf(float(x)) for x in each] for each in (m1, l1, m2, l2)], strict=True):
        d, weight = k - n, exact.exp(-n)
        values.append((exact.expm1(d) - d + (p - q) ** 2 * weight) / 2)
        grown = (1 + abs(d)) * exact.exp(d) + 1 + abs(k) + abs(n)
        scales.append((grown + (abs(p) + abs(q)) ** 2 * weight) / 2)
    assert worst(divergence.kl_normal_logvar(m1, l1, m2, l2), values, scales, 8) <= 1


def test_the_forms_agree_with_each_other():
    generator = torch.Generator().manual_seed(2)
    m1, m2 = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    v1, v2 = (torch.rand(5, generator=generator, dtype=torch.float64) + 0.1 for _ in range(2))
    whole = divergence.kl_normal_isotropic(m1, v1, m2, v2)
    parts = divergence.kl_normal(m1, v1[:, None], m2, v2[:, None])
    eye = torch.eye(4, dtype=torch.float64)
    full = divergence.kl_normal_full(m1, v1[:, None, None] * eye, m2, v2[:, None, None] * eye)
    depth = 2.0**-53 * (2 + 32) * 4  # rule: section 5, sums: depth log2(4) + 32 over non-negative terms
    assert bool(((parts.sum(-1) - whole).abs() <= depth * whole).all())
    assert bool(((full - whole).abs() <= depth * whole).all())
    assert divergence.kl_normal_isotropic(m1, 0.5, m1, 0.5).eq(0).all()
    assert divergence.kl_normal_isotropic(m1[0], 0.5, m2[0], v2[0]).shape == ()


def test_full_covariances(exact):
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.randn(3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    m1, m2 = (torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(2))
    s1, s2 = a @ a.mT + 0.1 * torch.eye(3), b @ b.mT + 0.1 * torch.eye(3)
    p, q = exact.matrix(s1.tolist()), exact.matrix(s2.tolist())
    inverse = exact.inverse(q)
    shift = exact.matrix((m2 - m1).tolist())
    ratio = inverse * p
    trace = sum(ratio[i, i] for i in range(3))
    want = (exact.log(exact.det(q) / exact.det(p)) - 3 + trace + (shift.T * inverse * shift)[0]) / 2
    got = divergence.kl_normal_full(m1, s1, m2, s2)
    condition = float(torch.linalg.cond(s1) + torch.linalg.cond(s2))
    # rule: condition numbers: Cholesky and triangular solves are backward stable, 3 d (d + 1) u each
    assert abs(float(got) - float(want)) <= 72 * 2.0**-53 * condition * float(want)
    assert float(divergence.kl_normal_full(m1, s1, m1, s1)) <= 72 * 2.0**-53 * condition


def test_gaps_join_smoothly_and_have_gradients_everywhere():
    x = torch.tensor([-0.999, -0.6, -0.5, -0.3, -1e-9, 0.0, 1e-9, 0.3, 0.9, 1.0, 1.1, 30.0], dtype=torch.float64)
    u = 2.0**-53
    for gap, slope in ((gap_log1p, x / (1 + x)), (gap_expm1, torch.expm1(x))):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(gap(leaf).sum(), leaf)
        assert bool(((gradient - slope).abs() <= 16 * u * slope.abs()).all())  # rule: section 5, same (S, k)


def test_gradients():
    def normal(seed):
        return torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    m1, m2 = (normal(i).requires_grad_() for i in (0, 1))
    v1 = (normal(2).abs() + 0.5).requires_grad_()
    v2 = (normal(3).abs() + 0.5).requires_grad_()
    twin = v2.detach().clone().requires_grad_()
    check = torch.autograd.gradcheck
    assert check(divergence.kl_normal, (m1, v1, m2, v2))
    assert check(divergence.kl_normal, (m1, twin, m2, v2))  # equal variances
    assert check(divergence.kl_normal_logvar, (m1, v1, m2, v2))
    assert check(divergence.kl_normal_logvar, (m1, twin, m2, v2))
    assert check(divergence.kl_normal_matched, (m1, m2, v1))
    assert check(lambda a, b, c, d: divergence.kl_normal_isotropic(a, c.sum(), b, d.sum()), (m1, m2, v1, v2))
    root = normal(4)[:4].reshape(2, 2).requires_grad_()
    other = normal(5)[:4].reshape(2, 2).requires_grad_()
    eye = torch.eye(2, dtype=torch.float64)
    means = (m1.detach()[:2].requires_grad_(), m2.detach()[:2].requires_grad_())
    assert check(
        lambda p, a, q, b: divergence.kl_normal_full(p, a @ a.mT + eye, q, b @ b.mT + eye),
        (means[0], root, means[1], other),
    )
    assert torch.autograd.gradgradcheck(divergence.kl_normal, (m1, twin, m2, v2))
    v = torch.ones(3, dtype=torch.float32, requires_grad=True)
    (gradient,) = torch.autograd.grad(divergence.kl_normal(0.0, v, 0.0, 1.0).sum(), v)
    assert torch.equal(gradient, torch.zeros(3))


def test_numbers_beside_tensors_and_empty_batches():
    empty = torch.zeros(0, 3)
    assert divergence.kl_normal(empty, 1.0, 0.0, 1.0).shape == (0, 3)
    assert divergence.kl_normal(torch.ones(2, dtype=torch.bfloat16), torch.ones(2), 0.0, 1.0).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "call",
    [
        lambda x: divergence.kl_normal(x, 0.0, x, 1.0),
        lambda x: divergence.kl_normal(x, 1.0, x, -x.square() - 1),
        lambda x: divergence.kl_normal(x, float("nan"), x, 1.0),
        lambda x: divergence.kl_normal_logvar(x, -math.inf, x, 0.0),
        lambda x: divergence.kl_normal_matched(x, x, 0.0),
        lambda x: divergence.kl_normal_isotropic(x, 0.0, x, 1.0),
        lambda x: divergence.kl_normal_full(x, torch.zeros(4, 4), x, torch.eye(4)),
        lambda x: divergence.kl_normal_full(x, torch.eye(4), x, -torch.eye(4)),
    ],
)
def test_what_is_no_variance(call):
    with pytest.raises(RangeError, match=r"must|definite"):
        call(torch.zeros(4))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: divergence.kl_normal(x, torch.ones(3), x, 1.0),
        lambda x: divergence.kl_normal_isotropic(x, 1.0, torch.zeros(1), 1.0),
        lambda x: divergence.kl_normal_isotropic(x[0], 1.0, x[0], 1.0),
        lambda x: divergence.kl_normal_full(x, torch.eye(3), x, torch.eye(4)),
    ],
)
def test_shapes_that_do_not_fit(call):
    with pytest.raises(ShapeError):
        call(torch.zeros(4))
