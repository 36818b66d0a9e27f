"""The DDIM family, ancestral steps and stages on tensors, against mpmath and against the reference, in every format."""

import numpy as np
import pytest
import torch

from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.reference import ddim as truth
from ddpm_ref.reference import plan
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.torch import ancestral, ddim, tables
from ddpm_ref.torch.plan import dynamic_threshold

BETAS = [float(b) for b in torch.linspace(1e-4, 0.3, 40, dtype=torch.float64)]
SCHEDULE = NoiseSchedule.from_betas(BETAS)
H = tables(SCHEDULE)
STEPS = [(1, 0), (2, 1), (2, 0), (7, 6), (20, 3), (39, 38), (40, 39), (40, 1)]
LATER, EARLIER = (torch.tensor(levels) for levels in zip(*STEPS, strict=True))
FORMATS = [
    (torch.float64, torch.float64),
    (torch.float32, torch.float64),
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.float16, torch.float64),
]
ETAS = (0.0, 0.25, 1.0)
# name: (call on tables, x, y, z and eta; coefficients of the three)
CALLS = {
    "ddim_step": lambda T, x, y, z, eta: ddim.ddim_step(T, x, y, LATER, EARLIER, z, eta),
    "ddim_step_from_eps": lambda T, x, y, z, eta: ddim.ddim_step_from_eps(T, x, LATER, EARLIER, y, z, eta),
    "ddim_step_from_x0": lambda T, x, y, z, eta: ddim.ddim_step_from_x0(T, x, LATER, EARLIER, y, z, eta),
    "ddim_inversion_step": lambda T, x, y, z, eta: ddim.ddim_inversion_step(T, x, LATER, EARLIER, y),
    "ancestral_small": lambda T, x, y, z, eta: ancestral.ancestral_step(T, x, LATER, EARLIER, y, z),
    "ancestral_large": lambda T, x, y, z, eta: ancestral.ancestral_step(T, x, LATER, EARLIER, y, z, "beta"),
}


def weights(name, c, eta):
    """Coefficients of x, y and z by the papers' formulas."""
    eta = 1 if name == "ancestral_small" else eta
    square = eta**2 * c.beta * c.b_s / c.b_t
    left = c.b_s - square if c.b_s else 0 * c.b_s
    if name == "ddim_step":
        return c.sqrt(c.a_s), c.sqrt(left), c.sqrt(square)
    if name == "ddim_step_from_x0":
        return c.sqrt(left / c.b_t), c.sqrt(c.a_s) - c.sqrt(c.a_t * left / c.b_t), c.sqrt(square)
    if name == "ddim_inversion_step":
        return c.sqrt(c.alpha), c.sqrt(c.b_t) - c.sqrt(c.alpha * c.b_s), 0
    if name == "ancestral_large":
        return 1 / c.sqrt(c.alpha), -c.beta / c.sqrt(c.alpha * c.b_t), c.sqrt(c.beta) if c.b_s else 0
    return 1 / c.sqrt(c.alpha), c.sqrt(left) - c.sqrt(c.b_t / c.alpha), c.sqrt(square)


SHAPE = (len(STEPS), 3, 2)


def data(dtype, seed, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "table_dtype"), FORMATS)
@pytest.mark.parametrize("name", CALLS)
def test_steps_keep_their_bound(name, dtype, table_dtype, coefficients, exact, worst):
    short = table_dtype == torch.float64 and dtype != torch.float64
    roundings = 4 if short else 9  # a coefficient rounded once, or assembled in six roundings; three terms
    for eta in ETAS if name.startswith("ddim_step") else (0.0,):
        x, y, z = (data(dtype, seed) for seed in range(3))
        got = CALLS[name](H.to(dtype=table_dtype), x, y, z, eta)
        assert (got.dtype, got.shape) == (dtype, x.shape)
        values, scales = [], []
        for (t, s), *rows in zip(STEPS, *(v.double().flatten(1).tolist() for v in (x, y, z)), strict=True):
            ws = weights(name, coefficients(BETAS, t, s), exact.mpf(eta))
            for numbers in zip(*rows, strict=True):
                terms = [w * exact.mpf(v) for w, v in zip(ws, numbers, strict=True)]
                values.append(sum(terms, exact.mpf(0)))
                scales.append(sum(map(abs, terms), exact.mpf(0)))
        assert worst(got, values, scales, roundings) <= 1


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_coefficients_lie_within_the_roundings_of_their_assembly(eta):
    u = 2.0**-53  # rule: section 1 of the numerics, k = 6, S is the value
    t, s = LATER.numpy(), EARLIER.numpy()
    for got, want in (
        (ddim.ddim_std(H, LATER, EARLIER, eta), truth.ddim_std(SCHEDULE, t, s, eta)),
        (ddim.ddim_direction(H, LATER, EARLIER, eta), truth.ddim_direction(SCHEDULE, t, s, eta)),
        *zip(ddim.ddim_weights(H, LATER, EARLIER, eta), truth.ddim_weights(SCHEDULE, t, s, eta), strict=True),
    ):
        assert (np.abs(got.numpy() - want) <= 7 * u * want).all()
    assert torch.equal(ddim.ddim_std(H, 40, 3, torch.tensor(eta)), ddim.ddim_std(H, 40, 3, float(torch.tensor(eta))))


def test_a_batch_of_levels_is_its_rows():
    x, y, z = (data(torch.float32, seed) for seed in range(3))
    whole = ddim.ddim_step_from_x0(H, x, LATER, EARLIER, y, z, 0.5)
    for i, (t, s) in enumerate(STEPS):
        assert torch.equal(whole[i], ddim.ddim_step_from_x0(H, x[i], t, s, y[i], z[i], 0.5))
    assert ddim.ddim_step(H, x[:0], y[:0], LATER[:0], EARLIER[:0]).shape == (0, 3, 2)


def test_level_zero_and_no_noise():
    x, y, z = (data(torch.float32, seed) for seed in range(3))
    for eta in ETAS:
        assert torch.equal(ddim.ddim_posterior(H, x, y, 9, 0, eta)[0], x)
        assert torch.equal(ddim.ddim_step(H, x, y, 9, 0, None, eta), x)
        assert torch.equal(ddim.ddim_step_from_x0(H, y, 9, 0, x, z, eta), x)
    silent = ddim.ddim_step(H, x, y, LATER, EARLIER)
    assert torch.equal(silent, ddim.ddim_step(H, x, y, LATER, EARLIER, torch.zeros_like(x)))


def test_posterior_for_a_variance():
    x, y = data(torch.float64, 0), data(torch.float64, 1)
    for share in (0.0, 0.5, 1.0):
        variance = share * H.beta_bar[EARLIER]
        mean, got = ddim.ddim_posterior(H, x, y, LATER, EARLIER, variance=variance)
        want, _ = truth.ddim_posterior(
            SCHEDULE, x.numpy(), y.numpy(), LATER.numpy(), EARLIER.numpy(), variance=variance.numpy()
        )
        assert torch.equal(got.reshape(-1), variance)
        # rule: section 1, k = 16; what is left of beta_bar_s is rounded to it, which its root shows
        lost = 2.0**-26 if share == 1 else 0
        assert (np.abs(mean.numpy() - want) <= 16 * 2.0**-53 * (np.abs(x.numpy()) + np.abs(y.numpy())) + lost).all()
    assert torch.equal(
        ddim.ddim_posterior(H, x, y, 9, 3, variance=0.0)[0],
        ddim.ddim_posterior(H, x, y, 9, 3, variance=torch.zeros(()))[0],
    )


def test_the_gradient_passes():
    x, y, z = (data(torch.float64, seed, (2, 2)).requires_grad_() for seed in range(3))
    for call in (ddim.ddim_step_from_eps, ddim.ddim_step_from_x0):
        assert torch.autograd.gradcheck(lambda a, b, c: call(H, a, 9, 3, b, c, 0.5), (x, y, z))  # noqa: B023


def test_strided_betas():
    got = ddim.strided_betas(H, (40, 9, 2, 0))
    want = truth.strided_betas(SCHEDULE, plan.ddim(SCHEDULE, (40, 9, 2, 0)).trajectory)
    assert (np.abs(got.numpy() - want) <= 3 * 2.0**-53 * want).all()  # rule: `Tables.between`, within three roundings


def test_dynamic_threshold_is_that_of_the_reference():
    x = 3 * data(torch.float64, 5, (4, 3, 7))
    for percentile in (50.0, 99.5, 100):
        want = plan.dynamic_threshold(x.numpy(), percentile, 2.0)
        assert (
            np.abs(dynamic_threshold(x, percentile, 2.0).numpy() - want) <= 8 * 2.0**-53 * 22
        ).all()  # rule: k = 8, position < 22
    assert dynamic_threshold(x.bfloat16()).dtype == torch.bfloat16
    assert dynamic_threshold(x[:0]).shape == (0, 3, 7)
    small = torch.rand(3, 5)
    assert torch.equal(dynamic_threshold(small), small)


X = torch.ones(2, 3)
END = tables(NoiseSchedule.from_betas([0.1, 1.0]))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ddim.ddim_std(H, 3, 2, 1.5), RangeError, r"eta = 1.5; it is one number in \[0, 1\]"),
        (lambda: ddim.ddim_std(H, 3, 2, float("nan")), RangeError, "eta = nan"),
        (lambda: ddim.ddim_std(H, 3, 2, torch.ones(2)), RangeError, r"eta = a tensor of shape \(2,\)"),
        (lambda: ddim.ddim_weights(H, 3, 3), LevelError, "s >= t"),
        (lambda: ddim.ddim_posterior(H, X, X, 3, 2, 0.5, 0.1), RangeError, "both given"),
        (
            lambda: ddim.ddim_posterior(H, X, X, 2, 1, variance=0.9),
            RangeError,
            "from t = 2 to s = 1 exceeds beta_bar_s",
        ),
        (lambda: ddim.ddim_posterior(H, X, X, 2, 1, variance=-0.9), RangeError, "must be >= 0"),
        (lambda: ddim.ddim_posterior(H, X, X, 2, 1, variance=torch.zeros(3)), ShapeError, r"variance has shape \(3,\)"),
        (lambda: ddim.ddim_step(H, X, X, 3, 2, None, 0.5), RangeError, "pass noise"),
        (lambda: ddim.ddim_step(H, X, X.double(), 3, 2), PrecisionError, "nothing is converted silently"),
        (lambda: ddim.ddim_step_from_eps(END, X, 2, 1, X), RangeError, "zero terminal SNR"),
        (lambda: ancestral.ancestral_step(END, X, 2, 1, X, X), RangeError, "zero terminal SNR"),
        (lambda: ancestral.ancestral_step(H, X, 2, 1, X, X, "large"), RangeError, "'large' is not known"),
        (lambda: dynamic_threshold(X, 0.995), RangeError, "in percent"),
        (lambda: dynamic_threshold(X, 99, 0.5), RangeError, "the maximum is >= 1"),
        (lambda: dynamic_threshold(torch.ones(())), ShapeError, "needs a batch axis"),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_zero_terminal_snr_in_x0_form():
    x, y = torch.tensor([[2.0]]), torch.tensor([[0.5]])
    got = ddim.ddim_step_from_x0(END, x, 2, 1, y)
    assert torch.equal(got, ddim.ddim_step(END, y, x, 2, 1))
