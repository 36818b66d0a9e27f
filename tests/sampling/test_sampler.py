import pytest
import torch
from scipy import stats
from torch import nn

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.named_schedules import cosine_schedule, linear_schedule
from ddpm_ref.sampling import Denoiser, GeneratorNoise, sample, states

SCHEDULE = cosine_schedule(T=50)
POINT = torch.tensor([[0.25, -0.75, 0.5]])


def ancestral(steps, **options):
    return plans.ancestral(SCHEDULE, SCHEDULE.trajectory(steps), **options)


def knows_a_point(x, time):
    """The exact data prediction where the data are one point."""
    return POINT.to(x.dtype).expand_as(x)


class Counting:
    """A network that remembers the times it was asked about."""

    def __init__(self):
        self.times = []

    def __call__(self, x, time):
        assert not torch.is_grad_enabled()
        self.times.append(sorted(set(time.tolist())))
        return torch.zeros_like(x)


class Recorded:
    """A source of noise that remembers for which steps it was asked."""

    def __init__(self):
        self.steps = []

    def normal(self, step, shape, dtype, device):
        self.steps.append(step)
        return GeneratorNoise(1).normal(step, shape, dtype, device)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_the_chain_visits_the_plan_and_asks_the_network_once_per_step_never_at_level_0(steps):
    network, plan = Counting(), ancestral(steps)
    levels = [t for t, _ in states(Denoiser(network), (2, 3), plan)]
    assert levels == list(plan.trajectory.levels)
    assert network.times == [[t - 1] for t in plan.trajectory.levels[:-1]]


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_no_noise_is_drawn_for_the_last_step(variance):
    noise = Recorded()
    sample(Denoiser(Counting()), (2, 3), ancestral(5, variance=variance), noise)
    assert noise.steps == [0, 1, 2, 3, 4]


def test_noise_on_the_last_step_is_drawn_where_the_plan_asks_for_it():
    noise = Recorded()
    sample(Denoiser(Counting()), (2, 3), ancestral(5, variance="beta", last_noise="variance"), noise)
    assert noise.steps == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("options", [{"prediction": "x0"}, {"prediction": "sample", "time_code": "one_based"}])
def test_a_network_that_knows_the_data_returns_them_exactly(options):
    x = sample(Denoiser(knows_a_point, **options), (4, 3), ancestral(10, clip=(-1.0, 1.0)))
    assert torch.equal(x, POINT.expand(4, 3))


def test_the_spread_of_gaussian_samples_is_what_the_chain_s_moments_say():
    # G(s) of EQUATIONS.md: with the exact network the sampler is linear, so its output variance is known.
    schedule, s = linear_schedule(T=1000), 0.5
    plan = plans.ancestral(schedule, schedule.trajectory(20), variance="beta")
    alpha_bar, beta_bar = (torch.tensor(column) for column in (schedule.alpha_bar, schedule.beta_bar))
    gain = beta_bar.sqrt() / (alpha_bar * s**2 + beta_bar)  # the exact eps at level t is gain[t] x
    count = 200_000
    x = sample(
        Denoiser(lambda x, t: gain[t][:, None] * x, time_code="one_based"), (count, 1), plan, dtype=torch.float64
    )
    variance = 1.0
    for k, (t, _) in enumerate(plan.trajectory.pairs()):
        variance = (plan.x[k] + plan.prediction[k] * float(gain[t])) ** 2 * variance + plan.noise[k] ** 2
    # rule: distributions. The sum of squares over the variance is chi-squared, n degrees of freedom; level 1e-9.
    low, high = stats.chi2.ppf([5e-10, 1 - 5e-10], count)
    assert low <= float((x**2).sum()) / variance <= high


def test_equal_noise_gives_equal_samples_and_states_are_never_written_to_again():
    plan, denoiser = ancestral(5), Denoiser(lambda x, time: x.tanh())
    chain = [(t, x, x.clone()) for t, x in states(denoiser, (4, 3), plan, GeneratorNoise(2))]
    assert all(torch.equal(x, kept) for _, x, kept in chain)
    assert torch.equal(chain[-1][1], sample(denoiser, (4, 3), plan, GeneratorNoise(2)))
    assert not torch.equal(chain[-1][1], sample(denoiser, (4, 3), plan, GeneratorNoise(3)))


def test_between_states_the_caller_has_gradients_and_training_mode():
    class Sloppy(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.5))

        def forward(self, x, time):
            assert not self.training
            return self.scale * x

    network = Sloppy().train()
    for _, x in states(Denoiser(network), (2, 3), ancestral(3)):
        assert network.training
        assert torch.is_grad_enabled()
        assert not x.requires_grad


def test_an_empty_batch_is_a_batch():
    assert sample(Denoiser(Counting()), (0, 3), ancestral(3)).shape == (0, 3)


def test_a_prediction_that_is_not_finite_is_refused_by_the_name_of_its_step():
    sick = Denoiser(lambda x, time: torch.where(time[:, None] < 20, torch.nan, x))
    with pytest.raises(RangeError, match=r"not finite at step 4 of 5 \(t = 13 to s = 1\)"):
        sample(sick, (2, 3), ancestral(5))


@pytest.mark.parametrize("shape", [(), (2, -1), (2.0, 3), (True, 3)])
def test_wrong_shapes_are_refused_before_anything_is_drawn(shape):
    with pytest.raises(ShapeError, match=r"write \(batch, \.\.\.\)"):
        states(Denoiser(Counting()), shape, ancestral(3))


@pytest.mark.parametrize(
    ("answer", "error"), [(torch.zeros(1, 3), ShapeError), (torch.zeros(2, 3, dtype=torch.float64), PrecisionError)]
)
def test_a_source_of_noise_that_answers_something_else_is_named(answer, error):
    class Wrong:
        def normal(self, step, shape, dtype, device):
            return answer

    with pytest.raises(error, match="noise source"):
        sample(Denoiser(Counting()), (2, 3), ancestral(3), Wrong())


def test_half_precision_states_keep_their_format():
    x = sample(Denoiser(lambda x, time: 0 * x), (2, 3), ancestral(3), dtype=torch.bfloat16)
    assert x.dtype == torch.bfloat16


class Broken:
    """A source of noise that returns NaN from some step on."""

    def __init__(self, first):
        self.first = first

    def normal(self, step, shape, dtype, device):
        good = GeneratorNoise(1).normal(step, shape, dtype, device)
        return good * float("nan") if step >= self.first else good


@pytest.mark.parametrize(("first", "named"), [(0, "the state before step 1 of 3"), (1, "the state before step 2 of 3")])
def test_nan_from_the_source_of_noise_is_not_blamed_on_the_network(first, named):
    with pytest.raises(RangeError, match=rf"{named} .*, from start or noise, holds nan"):
        sample(Denoiser(lambda x, time: 0.5 * x), (1, 2), ancestral(3), Broken(first))


def test_nan_that_the_network_does_not_look_at_is_found_at_the_end():
    with pytest.raises(RangeError, match=r"the state before step 3 of 3 .* holds nan"):
        sample(Denoiser(knows_a_point, prediction="x0"), (1, 3), ancestral(3, form="x0"), Broken(2))
    noisy = ancestral(3, form="x0", last_noise="variance", variance="beta")
    with pytest.raises(RangeError, match=r"the noise of step 3 of 3 .* holds nan"):
        sample(Denoiser(knows_a_point, prediction="x0"), (1, 3), noisy, Broken(3))
