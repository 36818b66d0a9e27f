import numpy as np
import pytest
import torch
from scipy import stats

from ddpm_ref.errors import RangeError
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.sampling import Denoiser
from ddpm_ref.torch import tables
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.prediction import v_target
from ddpm_ref.training.objective import Draw, draw, even_levels, simple_loss

SCHEDULE = linear_schedule(T=20, beta_1=0.01, beta_T=0.3)
TABLES = tables(SCHEDULE)
DATA = torch.arange(5.0).reshape(5, 1).expand(5, 3)


def test_a_draw_is_a_function_of_seed_and_step():
    one, same, other = draw(DATA, 20, 8, 0, 1), draw(DATA, 20, 8, 0, 1), draw(DATA, 20, 8, 0, 2)
    assert torch.equal(one.x0, same.x0)
    assert torch.equal(one.t, same.t)
    assert torch.equal(one.noise, same.noise)
    assert not torch.equal(one.noise, other.noise)


def test_levels_are_uniform_on_1_to_T_and_examples_uniform_on_the_data():
    drawn = draw(DATA, 20, 20_000, 0, 1)
    # rule: distributions. Chi-squared statistic against the uniform law, level 1e-9.
    for values, low, high in ((drawn.t, 1, 20), (drawn.x0[:, 0], 0, 4)):
        counts = torch.bincount(values.long(), minlength=high + 1)[low:].numpy()
        assert counts.sum() == 20_000
        assert len(counts) == high - low + 1
        assert stats.chisquare(counts).pvalue > 1e-9


def test_every_component_of_every_example_has_its_own_standard_normal_noise():
    noise = draw(DATA, 20, 20_000, 0, 1).noise.double().numpy()
    # rule: distributions. Kolmogorov-Smirnov per component, and correlations as normals of deviation 1/sqrt(n); 1e-9.
    assert all(stats.kstest(column, "norm").pvalue > 1e-9 for column in noise.T)
    correlations = np.corrcoef(noise.T)[np.triu_indices(3, 1)]
    assert np.all(np.abs(correlations) * np.sqrt(len(noise)) < stats.norm.isf(1e-9))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_network_that_answers_the_target_has_no_loss_and_sees_x_t_made_of_the_same_noise(prediction):
    drawn = draw(DATA, 20, 8, 0, 1)
    right = {"eps": drawn.noise, "x0": drawn.x0, "v": v_target(TABLES, drawn.x0, drawn.t, drawn.noise)}[prediction]

    def network(x, time):
        assert torch.equal(x, q_sample(TABLES, drawn.x0, drawn.t, drawn.noise))
        assert torch.equal(time, drawn.t - 1)
        return right

    assert simple_loss(Denoiser(network, prediction), TABLES, drawn).tolist() == [0.0] * 8


def test_the_loss_is_the_mean_of_squares_over_components_of_each_example():
    drawn = Draw(torch.zeros(2, 2, 2), torch.tensor([1, 1]), torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0] * 2] * 2]))
    assert simple_loss(Denoiser(lambda x, time: 0 * x), TABLES, drawn).tolist() == [7.5, 0.0]


def test_examples_of_one_number_have_losses_too():
    silent = Denoiser(lambda x, time: torch.zeros_like(x))
    noise = torch.tensor([0.5, -2.0])
    drawn = Draw(torch.zeros(2), torch.tensor([1, 2]), noise)
    assert simple_loss(silent, tables(linear_schedule(10)), drawn).tolist() == [0.25, 4.0]


@pytest.mark.parametrize("t", [1, 10, 20])
def test_the_loss_of_the_exact_network_is_its_known_floor(t):
    # On G(s) of EQUATIONS.md the least loss is alpha_bar s^2 / V per dimension, V = alpha_bar s^2 + beta_bar.
    count, s = 100_000, 0.5
    generator = torch.Generator().manual_seed(t)
    x0 = s * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    alpha_bar, beta_bar = float(SCHEDULE.alpha_bar[t]), float(SCHEDULE.beta_bar[t])
    marginal = alpha_bar * s**2 + beta_bar
    exact = Denoiser(lambda x, time: beta_bar**0.5 / marginal * x)
    losses = simple_loss(exact, TABLES, Draw(x0, torch.full((count,), t), noise))
    # rule: distributions. The sum of squares over the floor is chi-squared, n degrees of freedom; level 1e-9.
    low, high = stats.chi2.ppf([5e-10, 1 - 5e-10], count)
    assert low <= float(losses.sum()) / (alpha_bar * s**2 / marginal) <= high


def test_the_absolute_loss_is_the_mean_of_absolute_values():
    drawn = Draw(torch.zeros(1, 2, 2), torch.tensor([1]), torch.tensor([[[1.0, -2.0], [-3.0, 4.0]]]))
    assert simple_loss(Denoiser(lambda x, time: 0 * x), TABLES, drawn, "l1").tolist() == [2.5]


def test_a_network_that_knows_nothing_has_the_absolute_loss_of_a_normal_number():
    noise = torch.randn(100_000, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    drawn = Draw(torch.zeros_like(noise), torch.full((len(noise),), 7), noise)
    losses = simple_loss(Denoiser(lambda x, time: 0 * x), TABLES, drawn, "l1").numpy()
    assert stats.kstest(losses, "halfnorm").pvalue > 1e-9  # rule: distributions
    assert stats.halfnorm.mean() == pytest.approx(np.sqrt(2 / np.pi), rel=1e-15)  # the 0.798 of docs/training.md


@pytest.mark.parametrize("t", [1, 10, 20])
def test_the_absolute_loss_of_the_exact_network_is_its_known_floor(t):
    # On Gaussian data the conditional law is normal: its median is its mean, and the floor is sqrt(2/pi) times
    # the deviation, the root of the floor of the squared error.
    count, s = 100_000, 0.5
    generator = torch.Generator().manual_seed(t)
    x0 = s * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    alpha_bar, beta_bar = float(SCHEDULE.alpha_bar[t]), float(SCHEDULE.beta_bar[t])
    marginal = alpha_bar * s**2 + beta_bar
    exact = Denoiser(lambda x, time: beta_bar**0.5 / marginal * x)
    losses = simple_loss(exact, TABLES, Draw(x0, torch.full((count,), t), noise), "l1").numpy()
    # rule: distributions. Kolmogorov-Smirnov against the half-normal law of this deviation, level 1e-9.
    assert stats.kstest(losses, "halfnorm", args=(0, (alpha_bar * s**2 / marginal) ** 0.5)).pvalue > 1e-9


def test_the_squared_loss_asks_for_the_mean_and_the_absolute_one_for_the_median():
    # E58. One x_t that came from +1 three times and from -1 once: the noises that made it are two numbers.
    t, x0 = 8, torch.tensor([[1.0], [1.0], [1.0], [-1.0]], dtype=torch.float64)
    alpha, sigma = SCHEDULE.alpha_bar[t] ** 0.5, SCHEDULE.beta_bar[t] ** 0.5
    noise = (0.3 - alpha * x0) / sigma
    drawn = Draw(x0, torch.full((4,), t), noise)
    answers = torch.linspace(float(noise.min()), float(noise.max()), 41, dtype=torch.float64)

    def best(loss):
        means = [float(simple_loss(Denoiser(lambda x, time: 0 * x + a), TABLES, drawn, loss).mean()) for a in answers]  # noqa: B023
        return int(np.argmin(means))

    assert best("l2") == int((answers - noise.mean()).abs().argmin())
    assert best("l1") == int((answers - noise.median()).abs().argmin())
    assert abs(best("l2") - best("l1")) == 10  # a quarter of the way: the share of -1


def test_unknown_losses_and_predictions_nobody_trains_on_are_refused():
    drawn = draw(DATA, 20, 2, 0, 1)
    with pytest.raises(RangeError, match="'l2', 'l1'"):
        simple_loss(Denoiser(lambda x, time: x), TABLES, drawn, "l3")
    with pytest.raises(RangeError, match="'eps', 'x0', 'v'"):
        simple_loss(Denoiser(lambda x, time: x, "score"), TABLES, drawn)


@pytest.mark.parametrize(("count", "T"), [(1, 10), (7, 10), (10, 10), (450, 1000), (25, 10)])
def test_even_levels_cover_the_range_evenly(count, T):
    levels = even_levels(count, T).numpy()
    assert levels.min() >= 1
    assert levels.max() == T
    occupied = np.bincount(levels, minlength=T + 1)[1:]
    assert occupied.max() - occupied.min() <= 1
