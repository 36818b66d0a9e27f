"""The oracles on tensors: against the reference, their own gradients, and the exact law of what is sampled with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ddpm_ref
from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.reference import oracle as exact
from ddpm_ref.reference.plan import ancestral, ddim
from ddpm_ref.sampling import Denoiser, GeneratorNoise, sample
from ddpm_ref.torch import oracle, tables

H = ddpm_ref.linear_schedule(1000)
T = tables(H)
rng = np.random.default_rng(6)


def covariance(d):
    root = rng.standard_normal((d, d))
    return root @ root.T + 0.05 * np.eye(d)


ARGUMENTS = {
    "Gaussian d=1": ("Gaussian", (0.3, 0.25)),
    "Gaussian d=3": ("Gaussian", (rng.standard_normal(3), covariance(3))),
    "Mixture d=1": ("Mixture", ([0.2, 0.5, 0.3], [-1.0, 0.1, 1.0], [0.01, 0.3, 0.0025])),
    "Mixture d=2": ("Mixture", ([0.6, 0.4], rng.standard_normal((2, 2)), np.stack([covariance(2), covariance(2)]))),
    "Finite d=3": ("Finite", (rng.standard_normal((6, 3)),)),
}
LEVELS = np.array([1, 2, 30, 300, 1000])
ANSWERS = ("eps", "score", "x0", "x0_covariance")


def both(name):
    kind, arguments = ARGUMENTS[name]
    return getattr(oracle, kind)(*arguments), getattr(exact, kind)(*arguments)


def bounds(law, x, t, u):
    """What rounding of unit ``u`` may do to an answer (docs/oracle.md): through the responsibilities, and by itself.

    The exponent of component k errs by ``u`` times its own size and the size of x in units of b; an answer then moves by
    that, weighted with the responsibilities, times the distance of the components' answers.
    """
    a, b = H.sqrt_alpha_bar[t][:, None, None], H.sqrt_beta_bar[t][:, None, None]
    parts = law._parts
    along = x[:, None] - a * parts.means
    along = along if parts.axes is None else np.einsum("nki,kij->nkj", along, parts.axes)
    spread = a**2 * parts.variances + b**2
    square = (along**2 / spread).sum(-1)
    joint = parts.log_weights - square / 2 - np.log(spread).sum(-1) / 2
    share = np.exp(joint - joint.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    size = np.abs(x).max(-1, keepdims=True) + np.abs(parts.means).max()
    scale = np.sqrt(spread.min(-1))
    exponent = u * ((16 * law.d + 16) * (square + 4) + 8 * law.d * np.sqrt(square + 1) * size / scale)
    away = u * 8 * law.d * size[:, 0] / b[:, 0, 0]
    return (share * exponent).sum(1), away


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_against_the_reference(name, dtype):
    mine, law = both(name)
    near = law._parts.means[rng.integers(len(law._parts.means), size=5)]
    x = H.sqrt_alpha_bar[LEVELS, None] * near + H.sqrt_beta_bar[LEVELS, None] * rng.standard_normal(near.shape)
    given = torch.tensor(x, dtype=dtype)
    x = given.double().numpy()  # quantisation of the input is nobody's error
    u = torch.finfo(dtype).eps / 2
    shares, away = bounds(law, x, LEVELS, u)
    data_size = np.abs(law._parts.means).max() + np.sqrt(law._parts.variances.max()) + np.abs(x).max()
    b = H.sqrt_beta_bar[LEVELS]
    allowed = {"eps": shares + away, "score": shares + away, "x0": shares + 64 * u, "x0_covariance": shares + 64 * u}
    scale = {"eps": data_size / b, "score": data_size / b**2, "x0": data_size, "x0_covariance": data_size**2}
    for answer in ANSWERS:
        got = getattr(mine, answer)(T, given, torch.tensor(LEVELS))
        want = getattr(law, answer)(H, x, LEVELS)
        error = np.abs(got.double().numpy() - want).reshape(5, -1).max(1)
        assert got.dtype == dtype
        assert got.shape == want.shape
        # sixteen: of the axes there and back, and of the reference itself
        assert np.all(error <= 16 * allowed[answer] * scale[answer]), (answer, error / allowed[answer] / scale[answer])
    got = mine.nll(given, T, torch.tensor(LEVELS)).double().numpy()
    assert np.all(np.abs(got - law.nll(x, H, LEVELS)) <= 16 * (shares + 32 * law.d * u))


def test_the_bounds_above_bite():
    mine, law = both("Mixture d=2")
    found = []
    for _ in range(20):
        x = rng.standard_normal((5, 2))
        shares, away = bounds(law, x, LEVELS, 2.0**-24)
        wrong = mine.eps(T, torch.tensor(x), torch.tensor(np.minimum(LEVELS + 1, 999))).numpy()
        error = np.abs(wrong - law.eps(H, x, LEVELS)).max(1)
        found.append(error > 16 * (shares + away) * (np.abs(law.means).max() + 4) / H.sqrt_beta_bar[LEVELS])
    assert np.any(found)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_the_score_is_the_gradient_of_the_density(name):
    mine, _ = both(name)
    x = torch.tensor(rng.standard_normal((4, mine.d)), requires_grad=True)
    (gradient,) = torch.autograd.grad(mine.nll(x, T, 300).sum(), x)
    score = mine.score(T, x.detach(), 300)
    # float64, both forms of one sum: rule of sums, of terms of size |x| / b^2
    size = float(x.detach().abs().max() + 4) / float(H.beta_bar[300])
    assert float((gradient + score).abs().max()) <= 1e3 * 2.0**-53 * size
    assert torch.autograd.gradcheck(lambda y: mine.x0(T, y, 300), (x,))


def test_v_is_made_of_both():
    mine, _ = both("Mixture d=2")
    x = torch.tensor(rng.standard_normal((3, 2)))
    v = ddpm_ref.torch.prediction.convert(T, x, 300, mine.eps(T, x, 300), "eps", "v")
    assert float((mine.v(T, x, 300) - v).abs().max()) <= 1e3 * 2.0**-53  # well-conditioned at this level


def test_levels_shapes_halves_and_blocks():
    mine, _ = both("Finite d=3")
    x = torch.tensor(rng.standard_normal((2, 4, 3)))
    t = torch.tensor([5, 900])
    batch = mine.eps(T, x, t)
    assert torch.equal(batch, mine.eps(T, x, t[:, None].expand(2, 4)))
    assert torch.equal(batch[1], mine.eps(T, x[1], 900))
    assert mine.x0_covariance(T, x, t).shape == (2, 4, 3, 3)
    assert mine.nll(x, T, t).shape == (2, 4)
    assert mine.eps(T, x[:0], 5).shape == (0, 4, 3)
    small = oracle.Finite(mine.means, memory=8 * 8 * mine.means.numel())  # one example at a time
    assert torch.allclose(
        small.eps(T, x, t), batch, rtol=1e-13, atol=1e-13
    )  # NUMERICS 5, sums: six terms in another order
    few = oracle.Finite(mine.means, memory=8 * (8 * 18 + 3 * 9))
    assert torch.allclose(
        few.x0_covariance(T, x, t), mine.x0_covariance(T, x, t), rtol=1e-13, atol=1e-13
    )  # sums, as above
    half = x.bfloat16()
    assert torch.equal(mine.eps(T, half, t), mine.eps(T, half.float(), t).bfloat16())
    clean, _ = both("Gaussian d=3")
    assert float((clean.x0(T, x, 0) - x).abs().max()) <= 64 * 2.0**-53


def test_a_memory_too_little_names_what_would_do():
    for name, squares in {"Finite d=3": 3, "Mixture d=2": 7}.items():
        mine, x = both(name)[0], torch.ones(2, both(name)[0].d)
        for ask, matrices in ((mine.x0, 0), (mine.x0_covariance, squares)):
            needed = 4 * (8 * mine.means.numel() + matrices * mine.d**2)
            mine.memory = needed
            ask(T, x, 300)
            mine.memory = needed - 1
            with pytest.raises(RangeError, match=f"memory = {needed - 1} bytes .* at least memory={needed}"):
                ask(T, x, 300)


def test_an_empty_batch_and_numbers_as_large_as_squares_reach():
    mine, _ = both("Mixture d=2")
    nothing = torch.zeros(0, dtype=torch.int64)
    assert mine.network(T)(torch.zeros(0, 2), nothing).shape == (0, 2)
    assert mine.network(T)(torch.zeros(0, 1, 1, 2), nothing).shape == (0, 1, 1, 2)
    (nll,) = oracle.Gaussian(0.0, 1.0).nll(torch.tensor([[1e19]]), T)
    assert float(nll) == pytest.approx(5e37, rel=8 * 2.0**-24)  # NUMERICS 2: a square and half of it


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score"])
@pytest.mark.parametrize("time_code", ["zero_based", "one_based"])
def test_as_a_network_it_samples_its_data(prediction, time_code):
    law = exact.Gaussian(0.3, 0.25)
    denoiser = Denoiser(oracle.Gaussian(0.3, 0.25).network(T, prediction, time_code), prediction, time_code)
    made = ddim(H, H.trajectory(20))
    noise = GeneratorNoise(0)
    got = sample(denoiser, (64, 1, 1, 1), made, noise, dtype=torch.float64)
    # On Gaussian data a deterministic plan is one affine map of the first state, with the exact mean and gain.
    moments = exact.sample_moments(made, law)
    first = noise.normal(0, (64, 1, 1, 1), torch.float64, torch.device("cpu"))
    gain = float(np.sqrt(moments.variances[-1, 0]))
    want = moments.mean[-1, 0] + gain * first
    # rule of chains: 20 steps, of which the first divides by sqrt(alpha_bar) = 1/157
    assert float((got - want).abs().max()) <= 20 * 64 * 157 * 2.0**-53


def test_float32_chain_on_a_mixture_stays_near_its_law():
    made, law = ancestral(H, H.trajectory(20)), exact.Mixture([0.5, 0.5], [-1.0, 1.0], [0.0625, 0.0625])
    denoiser = Denoiser(oracle.Mixture([0.5, 0.5], [-1.0, 1.0], [0.0625, 0.0625]).network(T), "eps")
    got = sample(denoiser, (4000, 1), made, GeneratorNoise(3)).double().numpy()[:, 0]
    density = exact.sample_density(made, law)
    cdf = np.cumsum(density.mass)
    found = np.searchsorted(np.sort(got), density.x) / got.size
    # Dvoretzky-Kiefer-Wolfowitz, failure probability 1e-9: sqrt(log(2e9) / 2n); and the mass of one node
    assert np.abs(found - cdf).max() <= np.sqrt(np.log(2e9) / (2 * got.size)) + density.mass.max()


def test_buffers_move_and_are_no_parameters():
    mine, _ = both("Mixture d=2")
    assert not list(mine.parameters())
    assert set(dict(mine.named_buffers())) == {"log_weights", "means", "variances", "axes"}
    network = mine.network(T)
    assert torch.equal(
        network(torch.ones(3, 2), torch.tensor([0, 1, 2])), mine.eps(T, torch.ones(3, 2), torch.tensor([1, 2, 3]))
    )
    assert network.state_dict().keys() == {f"oracle.{name}" for name in dict(mine.named_buffers())}


ERRORS = {
    "not positive definite": (lambda: oracle.Gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]]), RangeError, "not positive definite"),
    "asymmetric": (lambda: oracle.Gaussian([0.0, 0.0], [[1.0, 0.5], [0.4, 1.0]]), RangeError, "not symmetric"),
    "NaN": (lambda: oracle.Finite([float("nan")]), RangeError, "points holds a number that is not finite"),
    "weights": (lambda: oracle.Mixture([0.5, 0.6], [0.0, 1.0], [1.0, 1.0]), RangeError, "the sum 1.1"),
    "negative weight": (lambda: oracle.Mixture([1.5, -0.5], [0.0, 1.0], [1.0, 1.0]), RangeError, "the least is -0.5"),
    "weights shape": (lambda: oracle.Finite([0.0, 1.0], [1.0]), ShapeError, "weights have shape (1,) for 2"),
    "shapes": (lambda: oracle.Gaussian([0.0, 0.0], [1.0, 1.0]), ShapeError, "write (d,) and (d, d)"),
    "mixture shapes": (lambda: oracle.Mixture([1.0], [[0.0, 1.0]], [1.0]), ShapeError, "write (n, d) and (n, d, d)"),
    "no points": (lambda: oracle.Finite(np.zeros((0, 2))), ShapeError, "points have shape (0, 2)"),
    "level 0": (lambda: both("Finite d=3")[0].x0(T, torch.ones(1, 3), 0), LevelError, "t = 0"),
    "eps at 0": (lambda: both("Gaussian d=1")[0].eps(T, torch.ones(1, 1), 0), LevelError, "t = 0"),
    "dimensions": (lambda: both("Finite d=3")[0].x0(T, torch.ones(1, 2), 1), ShapeError, "data of 3 dimensions"),
    "levels": (lambda: both("Finite d=3")[0].x0(T, torch.ones(2, 3), torch.tensor([1, 2, 3])), ShapeError, "t has shape (3,)"),
    "integers": (lambda: both("Finite d=3")[0].x0(T, torch.ones(2, 3, dtype=torch.int64), 1), PrecisionError, "int64"),
    "far out": (
        lambda: oracle.Finite([1.0, 2.0]).x0(T, torch.tensor([[0.0], [1e30]]), 1),
        RangeError, "xt contains 1e+30: its square overflows torch.float32",
    ),
    "turned far out": (
        lambda: both("Gaussian d=3")[0].nll(torch.full((1, 3), 1e160, dtype=torch.float64), T, 1),
        RangeError, "overflows torch.float64",
    ),
    "memory 0": (lambda: oracle.Finite([0.0], memory=0), RangeError, "memory = 0 must be a whole number"),
    "memory below 0": (lambda: oracle.Gaussian(0.0, 1.0, memory=-5), RangeError, "memory = -5"),
    "memory true": (lambda: oracle.Gaussian(0.0, 1.0, memory=True), RangeError, "memory = True"),
    "no dimensions": (lambda: oracle.Gaussian([], torch.zeros(0, 0)), ShapeError, "mean (0,), covariance (0, 0)"),
    "no components": (lambda: oracle.Mixture([], [], []), ShapeError, "means (0, 1), covariances (0, 1, 1)"),
    "ragged": (lambda: oracle.Finite([[1.0], [1.0, 2.0]]), ShapeError, "points is no rectangular array of numbers"),
    "network dimensions": (
        lambda: both("Finite d=3")[0].network(T)(torch.ones(2, 2), torch.tensor([1, 2])),
        ShapeError, "data of 3 dimensions",
    ),
    "data NaN": (lambda: both("Finite d=3")[0].x0(T, torch.full((2, 3), torch.nan), 1), RangeError, "must be finite"),
    "prediction": (lambda: both("Finite d=3")[0].network(T, "noise"), RangeError, "prediction = 'noise'"),
    "clock": (lambda: both("Finite d=3")[0].network(T, time_code="two_based"), RangeError, "time_code = 'two_based'"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_wrong_arguments_have_named_errors(name):
    call, error, words = ERRORS[name]
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)
