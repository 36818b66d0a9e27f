"""What one forward pass tells of each datum: for every prediction, on exact cases, and whatever the batches are."""

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.estimation.values import Job, mean_squares
from ddpm_ref.reference.named_schedules import cosine_schedule, zero_terminal_snr
from ddpm_ref.reference.prediction import eps_from_score, eps_from_v, eps_from_x0
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling import Denoiser
from ddpm_ref.torch.tables import tables

X0 = torch.tensor([[0.5, -0.25], [1.0, 0.0]], dtype=torch.float64)
NOISE = torch.tensor([[1.0, 2.0], [0.0, -0.5]], dtype=torch.float64)


def test_on_numbers_that_are_exact():
    schedule = NoiseSchedule.from_betas([0.75])  # sqrt(alpha_bar) = 1/2; sqrt(beta_bar) is not exact, eps needs it not
    silent = Denoiser(lambda x, time: torch.zeros_like(x))
    ones = Denoiser(lambda x, time: torch.ones_like(x))
    table = tables(schedule)
    assert mean_squares(silent, table, X0, 1, NOISE).tolist() == [[0.0, 2.5], [0.0, 0.125]]
    assert mean_squares(ones, table, X0, 1, NOISE).tolist() == [[1.0, 0.5], [1.0, 1.625]]


@pytest.mark.parametrize(("prediction", "back"), [("x0", eps_from_x0), ("v", eps_from_v), ("score", eps_from_score)])
@pytest.mark.parametrize("t", [1, 5, 10])
def test_every_prediction_is_converted_to_eps_first(prediction, back, t, schedule):
    # The reference's conversion of what the network answered, squared and averaged by NumPy.
    denoiser = Denoiser(lambda x, time: 0.25 * x + 0.5, prediction)
    found = mean_squares(denoiser, tables(schedule), X0, t, NOISE).numpy()
    xt = (schedule.sqrt_alpha_bar[t] * X0 + schedule.sqrt_beta_bar[t] * NOISE).numpy()
    answer = 0.25 * xt + 0.5
    eps = back(schedule, xt, t, answer)
    scale = np.abs(xt) + np.abs(answer) + 1.0
    worth = scale / min(schedule.sqrt_beta_bar[t], schedule.sqrt_alpha_bar[t])  # no coefficient is larger
    # At most 3 roundings in x_t, 2 in the answer, 5 in a conversion, on both sides; squares double them, sums add 32.
    bound = gamma(64, 2.0**-53) * np.mean((worth + np.abs(NOISE.numpy())) ** 2, axis=1)
    assert (np.abs(found[:, 0] - np.mean(eps**2, axis=1)) <= bound).all()
    assert (np.abs(found[:, 1] - np.mean((NOISE.numpy() - eps) ** 2, axis=1)) <= bound).all()


def test_without_signal_the_error_is_that_of_the_data():
    schedule = zero_terminal_snr(cosine_schedule(T=10))
    for prediction, answer in (("x0", 0.25), ("v", -0.25)):  # v is -x0 there
        denoiser = Denoiser(lambda x, time, answer=answer: torch.full_like(x, answer), prediction)
        found = mean_squares(denoiser, tables(schedule), X0, 10, NOISE)
        assert found[:, 1].tolist() == [(0.25**2 + 0.5**2) / 2, (0.75**2 + 0.25**2) / 2]
        assert found[:, 0].tolist() == [2.5, 0.125]  # x_T is the noise
    with pytest.raises(RangeError, match="eps prediction does not determine x0"):
        mean_squares(Denoiser(lambda x, time: x), tables(schedule), X0, 10, NOISE)


def test_a_value_depends_on_seed_level_datum_and_draw_and_on_no_batch(schedule, data, half):
    def values(batch_size, draws=2, seed=0, t=3, data=data):
        job = Job(half, schedule, data, draws, batch_size, seed, "cpu")
        ready = job.ready()
        return np.concatenate([ready.values(batch, t) for batch in range(job.batches)])

    whole = values(1000)
    assert whole.shape == (7, 2)
    for batch_size in (1, 2, 3, 4, 6, 14):
        assert np.array_equal(values(batch_size), whole)
    assert np.array_equal(values(4, data=data[:5]), whole[:5])  # more data change nothing of the first
    for other in ({"seed": 1}, {"t": 4}, {"draws": 1}, {"draws": 3}):
        assert not np.isin(values(1000, **other), whole).any()
    same = values(1000, data=data[:1].expand(7, 3))
    assert len(set(same[:, 1].tolist())) == 7  # equal data have noise of their own


def test_draws_are_averaged(schedule, data, half):
    def squares(draws):
        return Job(half, schedule, data[:1], draws, 256, 0, "cpu").ready().values(0, 3)

    # One datum, so that its second draw is what a second datum's first would be.
    both = Job(half, schedule, data[:1].expand(2, 3), 1, 256, 0, "cpu").ready().values(0, 3)
    assert np.array_equal(squares(2)[0], both.mean(axis=0))


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (lambda x, time: torch.full_like(x, torch.nan), RangeError, "not finite at t = 3"),
        (lambda x, time: torch.full_like(x, torch.inf), RangeError, "not finite at t = 3"),
        (lambda x, time: x[:1], ShapeError, "must have the shape of its input"),
        (lambda x, time: x.double(), PrecisionError, "float64"),
    ],
)
def test_a_network_that_is_none_is_refused(network, error, message, schedule, data):
    with pytest.raises(error, match=message):
        Job(Denoiser(network), schedule, data, 1, 256, 0, "cpu").ready().values(0, 3)


def test_level_0_is_no_level_of_a_network(schedule):
    with pytest.raises(LevelError):
        mean_squares(Denoiser(lambda x, time: x), tables(schedule), X0, 0, NOISE)
