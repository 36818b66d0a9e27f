"""`ddpm_ref.torch.analytic`: within its bounds of the reference, format by format; gradients, batches of levels, bad input."""

import math

import numpy as np
import pytest
import torch

from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.reference import analytic as truth
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.torch import analytic, ddim, tables

BETAS = np.linspace(1e-3, 0.1, 40)
SCHEDULE = NoiseSchedule.from_betas(BETAS)
H = tables(SCHEDULE)
END = tables(NoiseSchedule.from_betas([0.1, 1.0]))
STEPS = [(40, 39), (40, 3), (9, 4), (2, 1), (7, 0)]
LATER, EARLIER = (torch.tensor(levels) for levels in zip(*STEPS, strict=True))
UNKNOWN = torch.tensor([0.5, 0.0, 0.03, 1e-4, 0.2], dtype=torch.float64)
ETAS = (0.0, 0.5, 1.0)
U = 2.0**-53


def data(dtype, seed, shape=(5, 3)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("eta", ETAS)
def test_coefficients_lie_within_the_roundings_of_their_assembly(eta):
    t, s, v = LATER.numpy(), EARLIER.numpy(), UNKNOWN.numpy()
    pairs = [
        (
            analytic.analytic_variance(H, LATER, EARLIER, UNKNOWN, eta),
            truth.analytic_variance(SCHEDULE, t, s, v, eta),
            14,
        ),
        (analytic.analytic_std(H, LATER, EARLIER, UNKNOWN, eta), truth.analytic_std(SCHEDULE, t, s, v, eta), 9),
        (analytic.sigma_hat_squared(H, LATER, UNKNOWN), truth.sigma_hat_squared(SCHEDULE, t, v), 5),
        (
            analytic.sigma_hat_squared_from_residual(H, LATER, UNKNOWN),
            truth.sigma_hat_squared_from_residual(SCHEDULE, t, v),
            4,
        ),
    ]
    for ends in ((-1.0, 1.0), (-math.inf, math.inf), (0.0, 0.1)):
        bounds = analytic.analytic_variance_bounds(H, LATER, EARLIER, *ends, eta)
        pairs += zip(bounds, truth.analytic_variance_bounds(SCHEDULE, t, s, *ends, eta), (8, 17), strict=True)
    if eta:
        keep = EARLIER > 0
        cost = analytic.step_cost(H, LATER[keep], EARLIER[keep], UNKNOWN[keep], eta)
        pairs.append((cost, truth.step_cost(SCHEDULE, t[keep], s[keep], v[keep], eta), 40))
    for got, want, roundings in pairs:  # rule: section 1 of the numerics, S is the value, and one rounding of the truth
        assert (np.abs(got.numpy() - want) <= (roundings + 1) * U * np.abs(want)).all()
        assert got.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_step_is_that_of_the_reference(dtype):
    x, eps, z = (data(dtype, seed) for seed in range(3))
    u = {torch.float64: U, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}[dtype]
    exact = (value.double().numpy() for value in (x, eps, z))
    a, e, n = exact
    for eta in ETAS:
        got = analytic.analytic_step(H, x, LATER, EARLIER, eps, UNKNOWN, z, eta)
        want = truth.analytic_step(SCHEDULE, a, LATER.numpy(), EARLIER.numpy(), e, UNKNOWN.numpy(), n, eta)
        scale = 2 * np.abs(a) + 2 * np.abs(e) + np.abs(n)  # no coefficient is above 2 on this schedule
        assert (np.abs(got.double().numpy() - want) <= 12 * u * scale).all()  # rule: k = 11 with the deviation's nine
        assert (got.dtype, got.shape) == (dtype, x.shape)


def test_covariances_and_the_surrogate_are_those_of_the_reference():
    c, x, eps = data(torch.float64, 0), data(torch.float64, 1), data(torch.float64, 2)
    moment = data(torch.float64, 3, (5, 3, 3))
    t = LATER.numpy()
    ratio = (SCHEDULE.beta_bar[t] / SCHEDULE.alpha_bar[t])[:, None]
    got = analytic.x0_posterior_covariance(H, LATER, c).numpy()
    assert (
        np.abs(got - truth.x0_posterior_covariance(SCHEDULE, t, c.numpy())) <= 5 * U * ratio * np.abs(c.numpy())
    ).all()
    got = analytic.x0_posterior_covariance_averaged(H, LATER, moment).numpy()
    want = truth.x0_posterior_covariance_averaged(SCHEDULE, t, moment.numpy())
    assert (np.abs(got - want) <= 6 * U * np.abs(want)).all()
    mean, variance = analytic.x0_gaussian_approximation(H, x, LATER, eps, UNKNOWN)
    exact = truth.x0_gaussian_approximation(SCHEDULE, x.numpy(), t, eps.numpy(), UNKNOWN.numpy())
    scale = (np.abs(x.numpy()) + np.abs(eps.numpy())) / SCHEDULE.sqrt_alpha_bar[t][:, None]
    assert (np.abs(mean.numpy() - exact[0]) <= 6 * U * scale).all()
    assert np.array_equal(variance.numpy(), exact[1])


def test_clipping_moves_what_the_reference_moves():
    v = torch.tensor([-0.3, 0.2, 9.0, 0.001, 2.0], dtype=torch.float64)
    for ends in ((-1.0, 1.0), (-math.inf, math.inf), (0.0, 0.5)):
        clipped, moved = analytic.clip_sigma_hat_squared(H, v, LATER, *ends)
        want, record = truth.clip_sigma_hat_squared(SCHEDULE, v.numpy(), LATER.numpy(), *ends)
        assert (np.abs(clipped.numpy() - want) <= 3 * U * want).all()
        assert int(moved.sum()) == record.clipped
        assert sorted(LATER[moved].tolist()) == sorted((*record.below, *record.above))


def test_statistics_of_draws():
    eps, noise = data(torch.float64, 0, (300, 4)), data(torch.float64, 1, (300, 4))
    tree = (math.ceil(math.log2(1200)) + 36) * U  # rule: section 5, sums; squares have S = value
    for got, want in (
        (analytic.eps_mean_square(eps), truth.eps_mean_square(eps.numpy())),
        (analytic.residual_mean_square(noise, eps), truth.residual_mean_square(noise.numpy(), eps.numpy())),
    ):
        assert abs(float(got) - want) <= 2 * tree * want
    assert analytic.eps_mean_square(eps.bfloat16()).dtype == torch.float32


def test_a_batch_of_levels_is_its_rows_and_numbers_serve_for_tensors():
    x, eps, z = (data(torch.float32, seed) for seed in range(3))
    whole = analytic.analytic_step(H, x, LATER, EARLIER, eps, UNKNOWN, z, 0.5)
    for i, (t, s) in enumerate(STEPS):
        assert torch.equal(whole[i], analytic.analytic_step(H, x[i], t, s, eps[i], float(UNKNOWN[i]), z[i], 0.5))
    one = analytic.analytic_variance(H, LATER, EARLIER, 0.3)
    assert torch.equal(one, analytic.analytic_variance(H, LATER, EARLIER, torch.full((5,), 0.3, dtype=torch.float64)))
    assert analytic.sigma_hat_squared(H, LATER, 0.3).shape == (5,)
    assert analytic.sigma_hat_squared(H, 9, 0.3).shape == ()
    short = H.to(dtype=torch.float32)
    assert analytic.analytic_variance(short, LATER, EARLIER, UNKNOWN).dtype == torch.float32


def test_limits():
    x, eps = data(torch.float32, 0), data(torch.float32, 1)
    assert float(analytic.analytic_variance(H, 9, 0, 0.123)) == 0.123
    plain = ddim.ddim_step_from_eps(H, x, LATER, EARLIER, eps, None, 0.0)
    assert torch.equal(analytic.analytic_step(H, x, LATER, EARLIER, eps, 0.0, None, 0.0), plain)
    want = float(truth.analytic_variance(NoiseSchedule.from_betas([0.1, 1.0]), 2, 1, 0.5))
    assert abs(float(analytic.analytic_variance(END, 2, 1, 0.5)) - want) <= 15 * U * want  # rule: k = 14, as above
    assert math.isinf(float(analytic.analytic_variance_bounds(END, 2, 1, -math.inf, math.inf)[1]))


def test_the_gradient_passes():
    x, eps, z = (data(torch.float64, seed, (2, 2)).requires_grad_() for seed in range(3))
    v = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b, c, d: analytic.analytic_step(H, a, LATER[:2], EARLIER[:2], b, d, c, 0.5), (x, eps, z, v)
    )


X = torch.ones(2, 3)
BAD = {
    "energy": (lambda: analytic.sigma_hat_squared(H, 3, 1.2), RangeError, "no conditional mean has more energy"),
    "energy negative": (lambda: analytic.sigma_hat_squared(H, 3, -0.2), RangeError, "must be >= 0"),
    "level 0": (lambda: analytic.sigma_hat_squared(H, 0, 0.2), LevelError, "1..40"),
    "shape": (lambda: analytic.sigma_hat_squared(H, LATER, torch.ones(3)), ShapeError, "do not fit"),
    "integers": (lambda: analytic.sigma_hat_squared(H, 3, torch.tensor(1)), PrecisionError, "int64"),
    "zero terminal SNR": (
        lambda: analytic.sigma_hat_squared_from_residual(END, 2, 0.2),
        RangeError,
        "variance of the data",
    ),
    "covariance, zero terminal SNR": (
        lambda: analytic.x0_posterior_covariance(END, 2, X),
        RangeError,
        "variance of the data",
    ),
    "averaged, zero terminal SNR": (
        lambda: analytic.x0_posterior_covariance_averaged(END, 2, torch.eye(2)),
        RangeError,
        "the data",
    ),
    "no matrices": (lambda: analytic.x0_posterior_covariance_averaged(H, 3, X), ShapeError, "write matrices"),
    "nothing": (lambda: analytic.eps_mean_square(X[:0]), ShapeError, "nothing to average"),
    "mixed": (lambda: analytic.residual_mean_square(X, X.double()), PrecisionError, "nothing is converted silently"),
    "variance": (lambda: analytic.analytic_variance(H, 3, 2, -0.1), RangeError, "must be >= 0"),
    "one per level": (
        lambda: analytic.analytic_variance(H, LATER, EARLIER, torch.ones(3)),
        ShapeError,
        "one per level",
    ),
    "eta": (lambda: analytic.analytic_variance(H, 3, 2, 0.1, 1.5), RangeError, "eta = 1.5"),
    "range": (lambda: analytic.analytic_variance_bounds(H, 3, 2, 1.0, 0.0), RangeError, "low < high"),
    "range of clipping": (lambda: analytic.clip_sigma_hat_squared(H, 0.1, 3, math.nan, 0.0), RangeError, "low < high"),
    "noise missing": (lambda: analytic.analytic_step(H, X, 3, 2, X, 0.1), RangeError, "pass noise"),
    "step at zero terminal SNR": (
        lambda: analytic.analytic_step(END, X, 2, 1, X, 0.1, X),
        RangeError,
        "zero terminal SNR",
    ),
    "cost of the last step": (lambda: analytic.step_cost(H, 3, 0, 0.1), LevelError, "1..40"),
    "cost of eta = 0": (lambda: analytic.step_cost(H, 3, 2, 0.1, 0.0), RangeError, "the cost is infinite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, words = BAD[name]
    with pytest.raises(error, match=words):
        call()


def test_an_energy_above_one_is_allowed_when_asked_for():
    assert float(analytic.sigma_hat_squared(H, 3, 1.2, allow_negative=True)) < 0
