"""Losses and the drawing of levels, against what they are by definition."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.torch.objectives import (
    antithetic_levels,
    hybrid,
    importance_probabilities,
    importance_weights,
    simple_l1,
    simple_l2,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("loss", "power"), [(simple_l2, 2), (simple_l1, 1)])
def test_one_number_per_example(dtype, loss, power, exact, worst):
    target, prediction = normal(5, 2, 3, dtype=dtype), normal(5, 2, 3, seed=1, dtype=dtype)
    values, scales = [], []
    for one, other in zip(target, prediction, strict=True):
        pairs = list(zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
        values.append(sum(abs(exact.mpf(a) - exact.mpf(b)) ** power for a, b in pairs) / 6)
        scales.append(sum((abs(exact.mpf(a)) + abs(exact.mpf(b))) ** power for a, b in pairs) / 6)
    got = loss(target, prediction)
    assert got.shape == (5,)
    assert worst(got, values, scales, 3 + 32 + 3) <= 1  # rule: section 5, sums of 6: depth 3 + 32


def test_losses_scale_and_agree_where_they_must():
    error, target = normal(4, 7), normal(4, 7, seed=1)
    assert torch.equal(simple_l2(target, target), torch.zeros(4, dtype=torch.float64))
    assert torch.equal(simple_l2(2 * error, 0 * error), 4 * simple_l2(error, 0 * error))
    assert torch.equal(simple_l1(2 * error, 0 * error), 2 * simple_l1(error, 0 * error))
    assert torch.equal(simple_l2(target, error), simple_l2(error, target))
    assert bool((simple_l1(error, target).square() <= simple_l2(error, target)).all())  # Jensen's inequality
    assert torch.equal(simple_l2(error[:, 0], target[:, 0]), (error[:, 0] - target[:, 0]).square())
    turned = simple_l2(error.t().contiguous().t(), target)
    assert bool(((turned / simple_l2(error, target) - 1).abs() <= 2 * (3 + 32) * 2.0**-53).all())  # rule: sums of 7
    assert simple_l2(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)


def test_the_minimisers_are_mean_and_median():
    data = torch.tensor([0.0, 0.0, 0.0, 1.0, 9.0], dtype=torch.float64)
    places = torch.linspace(-1, 10, 1101, dtype=torch.float64)[:, None].expand(-1, 5)
    targets = data.expand(1101, 5)
    assert float(places[simple_l2(targets, places).argmin(), 0]) == pytest.approx(2.0, abs=0.005)  # half a step
    assert float(places[simple_l1(targets, places).argmin(), 0]) == pytest.approx(0.0, abs=0.005)  # half a step


def test_gradients():
    target, prediction = normal(3, 4), normal(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: simple_l2(target, p), prediction)
    (slope,) = torch.autograd.grad(simple_l2(target, prediction).sum(), prediction)
    assert torch.equal(slope, 2 * (prediction - target).detach() / 4)
    (slope,) = torch.autograd.grad(simple_l1(target, prediction).sum(), prediction)
    assert torch.equal(slope, (prediction - target).detach().sign() / 4)


def test_the_hybrid_adds_a_thousandth_of_the_bound():
    simple, vlb = normal(6).square(), normal(6, seed=1).square()
    assert torch.equal(hybrid(simple, vlb), simple + 0.001 * vlb)
    assert torch.equal(hybrid(simple, vlb, 0), simple)
    assert hybrid(simple.bfloat16(), vlb.bfloat16(), 1.0).dtype == torch.bfloat16


@pytest.mark.parametrize(("count", "T"), [(4, 50), (7, 10), (16, 4), (1, 3), (100, 1), (3, 3)])
def test_antithetic_levels_are_spread_and_each_is_uniform(count, T):
    # u in the middle of each of count * T equal cells, one of which every example sees for every level
    visits = np.zeros((count, T), dtype=int)
    for cell in range(count * T):
        t = antithetic_levels((cell + 0.5) / (count * T), count, T)
        assert t.dtype == torch.int64
        assert t.shape == (count,)
        np.add.at(visits, (np.arange(count), t.numpy() - 1), 1)
        share = np.bincount(t.numpy() - 1, minlength=T)
        assert share.max() <= -(-count // T)
        assert share.min() >= count // T
    assert visits.min() == visits.max() == count


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_antithetic_levels_stay_within_the_schedule(dtype):
    for T in (1, 3, 1000, 4096):
        for u in (0.0, 0.5, 1 - torch.finfo(dtype).eps / 2):
            t = antithetic_levels(torch.tensor(u, dtype=dtype), 33, T)
            assert int(t.min()) >= 1
            assert int(t.max()) <= T
    assert antithetic_levels(0.0, 4, 8).tolist() == [1, 3, 5, 7]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_antithetic_levels_are_exact(dtype):
    """At numbers that lie beside the start of a level, where a rounded product would land in the next one."""
    for T in (3, 50, 1000):
        for count in (1, 13, 64):
            beside = torch.arange(0, count * T, max(1, count * T // 20), dtype=torch.float64) / (count * T)
            below = torch.nextafter(beside.to(dtype), torch.tensor(-1.0, dtype=dtype)).clamp(min=0)
            for u in (*beside.to(dtype), *below, torch.tensor(2.0**-40, dtype=dtype)):
                place = (Fraction(float(u)) + Fraction(i, count) for i in range(count))
                want = [1 + math.floor(T * (x - math.floor(x))) for x in place]
                assert antithetic_levels(u, count, T).tolist() == want
    assert antithetic_levels(np.float64(0.3), np.int64(1), np.uint8(50)).tolist() == [15]
    assert antithetic_levels(0.3, 1, 50).tolist() == [15]  # the float64 0.3 is below three tenths


def test_importance_sampling_is_unbiased_and_has_the_least_variance():
    losses = torch.tensor([4.0, 1.0, 0.25, 0.0], dtype=torch.float64)
    p = importance_probabilities(losses.square(), 0)
    assert p.tolist() == pytest.approx([4 / 5.25, 1 / 5.25, 0.25 / 5.25, 0], rel=2.0**-50)  # rule: four roundings
    p = importance_probabilities(losses.square())
    assert float(p[3]) == 0.001 / 4
    assert float(p.sum()) == pytest.approx(1, rel=2.0**-50)  # rule: sums, depth 2
    weights = importance_weights(p)
    assert float((p * weights * losses).sum()) == pytest.approx(float(losses.mean()), rel=2.0**-49)  # rule: sums
    uniform = torch.full_like(p, 0.25)
    assert torch.equal(importance_weights(uniform), torch.ones(4, dtype=torch.float64))
    assert torch.equal(importance_probabilities(losses, 1), uniform)
    assert torch.allclose(importance_probabilities(0 * losses), uniform, rtol=2.0**-50, atol=0)  # rule: six roundings

    def second_moment(q):
        return float((q * (importance_weights(q) * losses).square()).sum())

    assert second_moment(p) < second_moment(uniform)
    for seed in range(20):
        other = importance_probabilities(normal(4, seed=seed).square())
        assert second_moment(p) <= second_moment(other) * 1.002  # the uniform share costs up to 1 / (1 - 0.001)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_importance_in_other_formats(dtype):
    moments = torch.tensor([1.0, 4.0, 9.0, 0.0], dtype=dtype)
    p = importance_probabilities(moments)
    assert p.dtype == dtype
    assert importance_weights(p).dtype == dtype
    assert torch.equal(p, importance_probabilities(moments.float()).to(dtype))


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: simple_l2(x, x[:1]), ShapeError),
        (lambda x: simple_l2(x[0, 0], x[0, 0]), ShapeError),
        (lambda x: simple_l1(x[:, :0], x[:, :0]), ShapeError),
        (lambda x: simple_l2(x, x.float()), PrecisionError),
        (lambda x: simple_l2(x + float("nan"), x), RangeError),
        (lambda x: hybrid(x[0], x[0], -1.0), RangeError),
        (lambda x: hybrid(x[0], x[0], float("nan")), RangeError),
        (lambda x: hybrid(x[0], 0 * x[0], float("inf")), RangeError),
        (lambda x: hybrid(x[0].float(), 0 * x[0].float(), 1e39), RangeError),
        (lambda x: hybrid(x[0], x[0], "1"), RangeError),
        (lambda x: hybrid(x[0], x[0], True), RangeError),
        (lambda x: hybrid(x[0], x[0], [1.0, 2.0, 3.0]), RangeError),
        (lambda x: hybrid(x[0], x[0], x), RangeError),
        (lambda x: hybrid(x[0], x), ShapeError),
        (lambda x: antithetic_levels(1.0, 4, 10), RangeError),
        (lambda x: antithetic_levels(-0.1, 4, 10), RangeError),
        (lambda x: antithetic_levels(float("nan"), 4, 10), RangeError),
        (lambda x: antithetic_levels("0.3", 4, 10), RangeError),
        (lambda x: antithetic_levels(False, 4, 10), RangeError),
        (lambda x: antithetic_levels([0.3], 4, 10), RangeError),
        *(
            (lambda x, count=count, T=T: antithetic_levels(0.5, count, T), RangeError)
            for wrong in (0, 2.5, 2.0, True, "4", np.array([4, 4]), torch.tensor(4), None)
            for count, T in ((wrong, 10), (4, wrong))
        ),
        (lambda x: antithetic_levels(x[0], 4, 10), ShapeError),
        (lambda x: antithetic_levels(torch.tensor(0), 4, 10), PrecisionError),
        (lambda x: importance_probabilities(-x[0].square() - 1), RangeError),
        (lambda x: importance_probabilities(x[0] + float("inf")), RangeError),
        (lambda x: importance_probabilities(x[0].square(), 1.5), RangeError),
        (lambda x: importance_probabilities(x), ShapeError),
        (lambda x: importance_probabilities(x[0, :0]), ShapeError),
        (lambda x: importance_weights(0 * x[0]), RangeError),
        (lambda x: importance_weights(torch.ones(3, dtype=torch.long)), PrecisionError),
    ],
)
def test_bad_arguments(call, error):
    with pytest.raises(error):
        call(normal(2, 3))
