"""Every affine formula against the paper's, evaluated in mpmath from the betas alone, in every data format."""

import pytest
import torch

from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.torch import forward, posterior, prediction, reverse, tables

T = 40
BETAS = [float(b) for b in torch.linspace(1e-4, 0.3, T, dtype=torch.float64)]
STEPS = [(1, 0), (2, 1), (2, 0), (7, 6), (20, 3), (39, 38), (40, 39), (40, 1)]
LATER, EARLIER = (torch.tensor(levels) for levels in zip(*STEPS, strict=True))

# name: (call, coefficients of the two data tensors, roundings with coefficients rounded once, with float32 tables)
CASES = {
    "forward_step": (
        lambda H, x, y, t, s: forward.forward_step(H, x, t, y),
        lambda c: (c.sqrt(c.alpha_1), c.sqrt(c.beta_1)),
        3,
    ),
    "q_sample": (lambda H, x, y, t, s: forward.q_sample(H, x, t, y), lambda c: (c.sqrt(c.a_t), c.sqrt(c.b_t)), 3),
    "q_sample_between": (
        lambda H, x, y, t, s: forward.q_sample_between(H, x, t, s, y),
        lambda c: (c.sqrt(c.alpha), c.sqrt(c.beta)),
        8,
    ),
    "q_mean_variance": (
        lambda H, x, y, t, s: forward.q_mean_variance(H, x, t, s)[0],
        lambda c: (c.sqrt(c.alpha), 0),
        8,
    ),
    "stepwise_inversion": (
        lambda H, x, y, t, s: forward.stepwise_inversion(H, x, t, y),
        lambda c: (1 / c.sqrt(c.alpha_1), -c.sqrt(c.beta_1 / c.alpha_1)),
        5,
    ),
    "q_posterior": (
        lambda H, x, y, t, s: posterior.q_posterior(H, x, y, t, s)[0],
        lambda c: (c.sqrt(c.a_s) * c.beta / c.b_t, c.sqrt(c.alpha) * c.b_s / c.b_t),
        8,
    ),
    "plug_in_reverse": (
        lambda H, x, y, t, s: posterior.plug_in_reverse(H, y, t, s, x)[0],
        lambda c: (c.sqrt(c.a_s) * c.beta / c.b_t, c.sqrt(c.alpha) * c.b_s / c.b_t),
        8,
    ),
    "true_reverse_kernel": (
        lambda H, x, y, t, s: posterior.true_reverse_kernel(H, y, t, s, x, 0.5)[0],
        lambda c: (c.sqrt(c.a_s) * c.beta / c.b_t, c.sqrt(c.alpha) * c.b_s / c.b_t),
        8,
    ),
    "model_mean_from_x0": (
        lambda H, x, y, t, s: reverse.model_mean_from_x0(H, y, t, s, x),
        lambda c: (c.sqrt(c.a_s) * c.beta / c.b_t, c.sqrt(c.alpha) * c.b_s / c.b_t),
        8,
    ),
    "posterior_mean_from_eps": (
        lambda H, x, y, t, s: posterior.posterior_mean_from_eps(H, x, t, s, y),
        lambda c: (1 / c.sqrt(c.alpha), -c.beta / c.sqrt(c.alpha * c.b_t)),
        8,
    ),
    "model_mean_from_eps": (
        lambda H, x, y, t, s: reverse.model_mean_from_eps(H, x, t, s, y),
        lambda c: (1 / c.sqrt(c.alpha), -c.beta / c.sqrt(c.alpha * c.b_t)),
        8,
    ),
    "v_target": (lambda H, x, y, t, s: prediction.v_target(H, x, t, y), lambda c: (-c.sqrt(c.b_t), c.sqrt(c.a_t)), 3),
    "x0_from_eps": (
        lambda H, x, y, t, s: prediction.x0_from_eps(H, x, t, y),
        lambda c: (1 / c.sqrt(c.a_t), -c.sqrt(c.b_t / c.a_t)),
        3,
    ),
    "x0_from_v": (lambda H, x, y, t, s: prediction.x0_from_v(H, x, t, y), lambda c: (c.sqrt(c.a_t), -c.sqrt(c.b_t)), 3),
    "x0_from_score": (
        lambda H, x, y, t, s: prediction.x0_from_score(H, x, t, y),
        lambda c: (1 / c.sqrt(c.a_t), c.b_t / c.sqrt(c.a_t)),
        5,
    ),
    "eps_from_x0": (
        lambda H, x, y, t, s: prediction.eps_from_x0(H, x, t, y),
        lambda c: (1 / c.sqrt(c.b_t), -c.sqrt(c.a_t / c.b_t)),
        5,
    ),
    "eps_from_v": (
        lambda H, x, y, t, s: prediction.eps_from_v(H, x, t, y),
        lambda c: (c.sqrt(c.b_t), c.sqrt(c.a_t)),
        3,
    ),
    "eps_from_score": (
        lambda H, x, y, t, s: prediction.eps_from_score(H, x, t, y),
        lambda c: (0, -c.sqrt(c.b_t)),
        3,
    ),
    "v_from_x0": (
        lambda H, x, y, t, s: prediction.v_from_x0(H, x, t, y),
        lambda c: (c.sqrt(c.a_t / c.b_t), -1 / c.sqrt(c.b_t)),
        5,
    ),
    "v_from_eps": (
        lambda H, x, y, t, s: prediction.v_from_eps(H, x, t, y),
        lambda c: (-c.sqrt(c.b_t / c.a_t), 1 / c.sqrt(c.a_t)),
        3,
    ),
    "score_from_eps": (
        lambda H, x, y, t, s: prediction.score_from_eps(H, x, t, y),
        lambda c: (0, -1 / c.sqrt(c.b_t)),
        5,
    ),
    "score_from_x0": (
        lambda H, x, y, t, s: prediction.score_from_x0(H, x, t, y),
        lambda c: (-1 / c.b_t, c.sqrt(c.a_t) / c.b_t),
        5,
    ),
    "score_to_v": (
        lambda H, x, y, t, s: prediction.convert(H, x, t, y, "score", "v"),
        lambda c: (-c.sqrt(c.b_t / c.a_t), -c.sqrt(c.b_t / c.a_t)),
        3,
    ),
    "v_to_score": (
        lambda H, x, y, t, s: prediction.convert(H, x, t, y, "v", "score"),
        lambda c: (-1, -c.sqrt(c.a_t / c.b_t)),
        5,
    ),
}
FORMATS = [
    (torch.float64, torch.float64),
    (torch.float32, torch.float64),
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float64),
]


@pytest.fixture(scope="module")
def schedule():
    return NoiseSchedule.from_betas(BETAS)


@pytest.fixture(scope="module")
def H(schedule):
    return tables(schedule)


@pytest.fixture(scope="module")
def rows(coefficients):
    """The exact coefficients of each of `STEPS`, with those of the one step down from t."""
    found = []
    for t, s in STEPS:
        row, one = coefficients(BETAS, t, s), coefficients(BETAS, t, t - 1)
        row.alpha_1, row.beta_1 = one.alpha, one.beta
        found.append(row)
    return found


SHAPE = (len(STEPS), 3, 2)


def data(dtype, seed=0, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "table_dtype"), FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_affine_formulas_keep_their_bound(name, dtype, table_dtype, H, rows, exact, worst):
    call, of, roundings = CASES[name]
    if table_dtype == torch.float64 and dtype != torch.float64:
        roundings = 3  # the coefficient is rounded to float32 once, whatever made it
    x, y = data(dtype), data(dtype, seed=1)
    got = call(H.to(dtype=table_dtype), x, y, LATER, EARLIER)
    assert got.dtype == dtype
    assert got.shape == x.shape
    values, scales = [], []
    for row, xs, ys in zip(rows, x.double().flatten(1).tolist(), y.double().flatten(1).tolist(), strict=True):
        c, d = of(row)
        for u, v in zip(xs, ys, strict=True):
            first, second = c * exact.mpf(u), d * exact.mpf(v)
            values.append(first + second)
            scales.append(abs(first) + abs(second))
    assert worst(got, values, scales, roundings) <= 1


@pytest.mark.parametrize("name", CASES)
def test_a_batch_of_levels_is_its_rows_and_strides_do_not_matter(name, H):
    call = CASES[name][0]
    x, y = data(torch.float32), data(torch.float32, seed=1)
    whole = call(H, x, y, LATER, EARLIER)
    for i, (t, s) in enumerate(STEPS):
        assert torch.equal(whole[i], call(H, x[i], y[i], t, s))
        assert torch.equal(whole[i], call(H, x[i], y[i], torch.tensor(t), torch.tensor(s, dtype=torch.int32)))
    strided = x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not strided.is_contiguous()
    assert torch.equal(whole, call(H, strided, y, LATER, EARLIER))
    empty = call(H, x[:0], y[:0], LATER[:0], EARLIER[:0])
    assert empty.shape == (0, 3, 2)


def test_variances_keep_their_bound(H, rows, exact, worst):
    x = data(torch.float32)
    formulas = {
        "q_mean_variance": (forward.q_mean_variance(H, x, LATER, EARLIER)[1], lambda c: c.beta),
        "q_posterior": (posterior.q_posterior(H, x, x, LATER, EARLIER)[1], lambda c: c.beta * c.b_s / c.b_t),
        "posterior_variance": (posterior.posterior_variance(H, LATER, EARLIER), lambda c: c.beta * c.b_s / c.b_t),
        "fixed_small": (reverse.reverse_variance(H, LATER, EARLIER), lambda c: c.beta * c.b_s / c.b_t),
        "fixed_large": (reverse.reverse_variance(H, LATER, EARLIER, "fixed_large"), lambda c: c.beta),
        "upper": (reverse.optimal_variance_bounds(H, LATER, EARLIER)[1], lambda c: c.beta / c.alpha),
        "lower": (reverse.optimal_variance_bounds(H, LATER, EARLIER)[0], lambda c: c.beta * c.b_s / c.b_t),
        "second_moment": (
            forward.second_moment(H, 3.0, LATER, EARLIER, dimension=5),
            lambda c: 3 * c.alpha + 5 * c.beta,
        ),
        "data_marginal": (forward.data_marginal(H, x[:, 0, 0], 2.0, LATER)[1], lambda c: 2 * c.a_t + c.b_t),
        "true_reverse": (
            posterior.true_reverse_kernel(H, x[:, 0, 0], LATER, EARLIER, x[:, 0, 0], 0.25)[1],
            lambda c: c.beta * c.b_s / c.b_t + (c.sqrt(c.a_s) * c.beta / c.b_t) ** 2 / 4,
        ),
    }
    for name, (got, of) in formulas.items():
        values = [exact.mpf(of(row)) for row in rows]
        assert worst(got, values, values, 8) <= 1, name


def test_level_zero_is_exact(H):
    x0, xt = data(torch.float32), data(torch.float32, seed=1)
    assert torch.equal(forward.q_sample(H, x0, 0, xt), x0)
    for t in (1, 5, T):
        mean, variance = posterior.q_posterior(H, x0, xt, t, 0)
        assert torch.equal(mean, x0)
        assert torch.equal(variance, torch.zeros_like(variance))
        assert posterior.posterior_weights(H, t, 0) == (1, 0)


def test_bfloat16_keeps_the_noise_at_the_first_level(worst, exact):
    beta_1 = 1e-4
    H = tables(NoiseSchedule.from_betas([beta_1, 0.02]))
    noise = data(torch.bfloat16, shape=(1000,))
    got = forward.q_sample(H, torch.zeros_like(noise), 1, noise)
    values = [exact.sqrt(exact.mpf(beta_1)) * exact.mpf(float(n)) for n in noise]
    assert worst(got, values, [abs(v) for v in values], 3) <= 1


def test_chain_and_its_aggregate_noise_agree(H, worst, exact, coefficients):
    x0, noises = data(torch.float64, shape=(2,)), data(torch.float64, seed=3, shape=(T, 2))
    states = forward.q_chain(H, x0, noises)
    state, scale = [exact.mpf(float(v)) for v in x0], [abs(exact.mpf(float(v))) for v in x0]
    for t in range(1, T + 1):
        c = coefficients(BETAS, t, t - 1)
        steps = [c.sqrt(c.beta) * exact.mpf(float(n)) for n in noises[t - 1]]
        state = [c.sqrt(c.alpha) * x + n for x, n in zip(state, steps, strict=True)]
        scale = [c.sqrt(c.alpha) * x + abs(n) for x, n in zip(scale, steps, strict=True)]
        assert worst(states[t - 1], state, scale, 3 * t) <= 1
        assert torch.equal(states[t - 1], forward.forward_step(H, states[t - 2] if t > 1 else x0, t, noises[t - 1]))
        aggregate = forward.aggregate_noise(H, noises[:t], t)
        start = c.sqrt(c.a_t)
        wanted = [(x - start * exact.mpf(float(v))) / c.sqrt(c.b_t) for x, v in zip(state, x0, strict=True)]
        sizes = [(x + start * abs(exact.mpf(float(v)))) / c.sqrt(c.b_t) for x, v in zip(scale, x0, strict=True)]
        assert worst(aggregate, wanted, sizes, 8 + t) <= 1
    assert forward.q_chain(H, x0, noises[:0]).shape == (0, 2)
    assert forward.aggregate_noise_correlation(H, 1) == 1
    half = forward.q_chain(H, x0.bfloat16(), noises.bfloat16())
    assert half.dtype == torch.bfloat16


def test_posterior_by_bayes_and_by_completing_the_square(H):
    x0, xt, xs = (data(torch.float64, seed=i) for i in range(3))
    later, earlier = LATER.clamp(min=3), EARLIER.clamp(min=1, max=2)
    mean, variance = posterior.q_posterior(H, x0, xt, later, earlier)
    a, b = posterior.completing_square(H, x0, xt, later, earlier)
    scale = posterior.q_posterior(H, x0.abs(), xt.abs(), later, earlier)[0]
    u = 2.0**-53
    assert bool((((b / (2 * a)) - mean).abs() <= 24 * u * scale).all())  # rule: section 1 twice, k = 8 + 16
    assert bool(((1 / a - variance).abs() <= 24 * u * variance).all())  # rule: section 1 twice, k = 8 + 16
    short = posterior.log_normal(xs, mean, variance)
    bayes = posterior.log_q_posterior(H, xs, x0, xt, later, earlier)
    largest = (xs.abs() + xt.abs() + x0.abs()).square() / variance.clamp(max=1e-2) + 10
    assert bool(((short - bayes).abs() <= 64 * u * largest).all())  # rule: section 1, S = the largest of the densities


def test_terminal_kl_is_the_kl_of_the_last_level(exact, worst):
    x0 = data(torch.float64, shape=(6,))
    for betas in ([0.5], [1e-6], [0.999999], [0.3] * 30, [0.5, 1.0]):
        H = tables(NoiseSchedule.from_betas(betas))
        a = exact.mpf(1)
        for beta in betas:
            a *= 1 - exact.mpf(beta)
        gap = (-a - exact.log(1 - a)) / 2
        values = [a * exact.mpf(float(v)) ** 2 / 2 + gap for v in x0]
        assert worst(forward.terminal_kl(H, x0), values, values, 8) <= 1


def test_sum_of_gaussians(exact, worst):
    v1, v2 = data(torch.float64).abs().flatten(), data(torch.float64, seed=1).abs().flatten()
    for rho in (0.0, 0.5, 1.0, -0.5, -1.0):
        mean, variance = forward.gaussian_sum(v1, v1, v2, v2, rho)
        assert torch.equal(mean, v1 + v2)
        pairs = [(exact.mpf(float(a)), exact.mpf(float(b))) for a, b in zip(v1, v2, strict=True)]
        values = [a + b + 2 * exact.mpf(rho) * exact.sqrt(a * b) for a, b in pairs]
        assert worst(variance, values, values, 12) <= 1  # S is the value itself: nothing cancels


def test_first_step_rules(H, schedule, exact):
    later, earlier = torch.arange(1, T + 1), torch.arange(T)
    tilde = posterior.posterior_variance(H, later, earlier)
    second = posterior.posterior_variance(H, 2, 1)
    replaced = posterior.posterior_log_variance(H, later, earlier)
    assert torch.equal(replaced, torch.cat([second.reshape(1), tilde[1:]]).log())
    assert torch.equal(replaced, posterior.posterior_log_variance(H, later, earlier, "replace_unstrided"))
    assert torch.equal(posterior.posterior_log_variance(H, later, earlier, "exact"), tilde.log())
    assert posterior.posterior_log_variance(H, 1, 0, "floor") == torch.tensor(1e-20, dtype=torch.float64).log()
    strided = posterior.posterior_log_variance(H, 10, 0, trajectory=schedule.trajectory(4, "trailing"))
    assert strided == posterior.posterior_variance(H, 20, 10).log()
    assert strided == posterior.posterior_log_variance(H, 10, 0, trajectory=[40, 30, 20, 10, 0])
    large = reverse.fixed_large_log_variance(H, later, earlier)
    assert large[0] == second.log()
    assert torch.equal(large[1:], H.between(later[1:], earlier[1:]).beta.log())
    assert reverse.fixed_large_log_variance(H, 1, 0, "exact") == H.between(1, 0).beta.log()


def test_learned_variance_ends_at_the_fixed_ones(H):
    later, earlier = LATER[1:], EARLIER[1:]
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(len(later), 2)
    got = reverse.learned_variance(H, later, earlier, ends)
    small = posterior.posterior_log_variance(H, later, earlier)
    large = H.between(later, earlier).beta.log()
    assert torch.equal(got, torch.stack([small.exp(), large.exp()], dim=1))


def test_reverse_step_and_chain():
    mean, noise = data(torch.float32), data(torch.float32, seed=1)
    assert torch.equal(reverse.reverse_step(mean, 0.0, noise), mean)
    assert torch.equal(reverse.reverse_step(mean, 4.0, noise), mean + 2 * noise)
    assert torch.equal(reverse.log_reverse_step(mean, noise, 2.0), posterior.log_normal(mean, noise, 2.0))
    half = reverse.reverse_step(mean.bfloat16(), torch.full((len(STEPS), 1, 1), 4.0), noise.bfloat16())
    assert torch.equal(half, (mean.bfloat16().float() + 2 * noise.bfloat16().float()).bfloat16())
    chain = reverse.reverse_chain_variance(torch.tensor([0.5, 2.0]), torch.tensor([1.0, 0.0]), 4.0)
    assert torch.equal(chain, torch.tensor([4.0, 2.0, 8.0]))


def test_clipped_prediction_fits_xt_again(H):
    xt, eps = data(torch.float64), data(torch.float64, seed=1)
    x0, noise = prediction.clipped_prediction(H, xt, LATER, eps, "epsilon", -0.5, 0.5)
    assert x0.abs().max() <= 0.5
    back = forward.q_sample(H, x0, LATER, noise)
    scale = xt.abs() + 2 * x0.abs()
    assert bool(((back - xt).abs() <= 8 * 2.0**-53 * scale).all())  # rule: section 1, k = 3 + 5


def test_zero_terminal_snr():
    H = tables(NoiseSchedule.from_betas([0.1, 0.5, 1.0]))
    x, y = data(torch.float64), data(torch.float64, seed=1)
    for each in (H, H.to(dtype=torch.float32)):
        u, v = x.to(each.dtype), y.to(each.dtype)
        assert torch.equal(forward.q_sample(each, u, 3, v), v)
        assert torch.equal(prediction.x0_from_v(each, u, 3, v), -v)
        assert torch.equal(prediction.eps_from_x0(each, u, 3, v), u)
        mean, variance = posterior.q_posterior(each, u, v, 3, 2)
        assert torch.equal(variance.reshape(()), each.beta_bar[2])
        assert bool(mean.isfinite().all())
        step = each.between(torch.tensor([3, 3, 3]), torch.tensor([0, 1, 2]))
        assert torch.equal(step.beta, torch.ones_like(step.beta))
        for name in ("alpha", "beta_tilde", "x0_weight", "xt_weight", "sqrt_alpha", "std_tilde"):
            assert bool(getattr(step, name).isfinite().all()), name
    noises = data(torch.float64, shape=(3, 2))
    assert torch.equal(forward.aggregate_noise(H, noises, 3), noises[2])


@pytest.mark.parametrize("betas", [[0.25], [0.25, 0.5]])
def test_the_shortest_schedules(betas):
    H = tables(NoiseSchedule.from_betas(betas))
    x, y = data(torch.float64), data(torch.float64, seed=1)
    xt = forward.q_sample(H, x, len(betas), y)
    assert torch.equal(posterior.q_posterior(H, x, xt, len(betas), 0)[0], x)
    assert posterior.posterior_log_variance(H, 1, 0, "floor").isfinite()


@pytest.mark.parametrize("name", CASES)
def test_gradients(name, H):
    call = CASES[name][0]
    x, y = (data(torch.float64, seed=i, shape=(len(STEPS), 2)).requires_grad_() for i in range(2))
    assert torch.autograd.gradcheck(lambda u, v: call(H, u, v, LATER, EARLIER), (x, y))


def test_gradients_of_densities(H):
    x, m, v = (data(torch.float64, seed=i, shape=(4,)).abs().add(0.1).requires_grad_() for i in range(3))
    fraction = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(posterior.log_normal, (x, m, v))
    assert torch.autograd.gradcheck(lambda f: reverse.learned_variance(H, 5, 3, f), (fraction,))
    assert torch.autograd.gradcheck(lambda *a: forward.gaussian_sum(*a, -0.25), (x, m, v, m))
    assert torch.autograd.gradcheck(lambda a: forward.terminal_kl(H, a), (x,))
    assert torch.autograd.gradcheck(reverse.reverse_step, (x, v, m))


def test_functions_of_functions(H):
    """Functional transforms pass through the checks of arguments."""
    x, y = data(torch.float64, shape=(3, 2)), data(torch.float64, seed=1, shape=(3, 2))
    whole = forward.q_sample(H, x, 4, y)
    assert torch.equal(torch.vmap(lambda u, v: forward.q_sample(H, u, 4, v))(x, y), whole)
