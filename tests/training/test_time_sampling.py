"""Laws of the levels: whatever they are, the weighted loss has the mean over uniform levels."""

import numpy as np
import pytest
import torch
from scipy import stats

from ddpm_ref.errors import RangeError
from ddpm_ref.training.objective import draw
from ddpm_ref.training.time_sampling import (
    HISTORY,
    UNIFORM_SHARE,
    AntitheticTimes,
    ImportanceTimes,
    make,
    state_problem,
)

DATA = torch.arange(5.0).reshape(5, 1).expand(5, 3)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(losses):
    """An importance sampler that has seen, of level t, the loss ``losses[t - 1]`` ten times."""
    times = ImportanceTimes(len(losses))
    for _ in range(HISTORY):
        times.update(torch.arange(1, len(losses) + 1), torch.tensor(losses, dtype=torch.float64))
    return times


def test_the_uniform_draw_is_what_it_always_was():
    drawn = draw(DATA, 20, 8, seed=3, step=7)
    assert drawn.t.tolist() == [17, 14, 10, 19, 19, 1, 9, 17]
    assert drawn.weight is None
    assert make("uniform", 20) is None


@pytest.mark.parametrize("times", [AntitheticTimes(20), ImportanceTimes(20), filled([1.0] * 20)])
def test_examples_and_noise_are_the_same_whoever_draws_the_levels(times):
    usual, drawn = draw(DATA, 20, 8, 3, 7), draw(DATA, 20, 8, 3, 7, None, times)
    assert torch.equal(usual.x0, drawn.x0)
    assert torch.equal(usual.noise, drawn.noise)
    assert not torch.equal(usual.t, drawn.t)
    assert torch.equal(drawn.t, draw(DATA, 20, 8, 3, 7, None, times).t)
    assert drawn.weight is None or drawn.weight.dtype == DATA.dtype


@pytest.mark.parametrize(("count", "T"), [(8, 20), (20, 8), (1, 1), (7, 7), (64, 1000)])
def test_antithetic_levels_visit_every_stretch_as_often_as_its_length_says(count, T):
    cuts = torch.arange(1, T + 1, dtype=torch.float64)
    for seed in range(50):
        levels, _ = AntitheticTimes(T).draw(count, generator(seed))
        assert levels.min() >= 1
        assert levels.max() <= T
        below = torch.bincount(levels, minlength=T + 1)[1:].cumsum(0)
        # How many lie in 1..t is count * t / T to within one; the quotient is rounded.
        assert float((below - count * cuts / T).abs().max()) < 1 + 1e-12


def test_each_antithetic_level_by_itself_is_uniform():
    levels = torch.stack([AntitheticTimes(5).draw(3, generator(seed))[0] for seed in range(600)])
    for column in levels.T:
        # rule: distributions. Chi-squared statistic against the uniform law, level 1e-9.
        assert stats.chisquare(torch.bincount(column, minlength=6)[1:].numpy()).pvalue > 1e-9


def test_importance_is_uniform_until_every_level_is_filled():
    times = ImportanceTimes(3)
    for _ in range(HISTORY):
        times.update(torch.tensor([1, 2]), torch.tensor([100.0, 1.0]))
    for _ in range(HISTORY):
        assert times.probabilities().tolist() == [1 / 3] * 3
        assert torch.allclose(
            times.draw(4, generator())[1], torch.ones(4, dtype=torch.float64), rtol=1e-15
        )  # rule: sums
        times.update(torch.tensor([3]), torch.tensor([1.0]))
    assert times.probabilities()[0] > 0.9


def test_importance_follows_the_root_mean_square_of_the_last_ten_losses():
    times = filled([9.0, 9.0, 9.0])
    for _ in range(HISTORY):
        times.update(torch.tensor([1, 2, 3]), torch.tensor([1.0, 2.0, 5.0]))
    times.update(torch.tensor([2, 2]), torch.tensor([4.0, 6.0]))  # twice in a batch: both are kept, the oldest two go
    roots = np.sqrt([1.0, (8 * 4.0 + 16.0 + 36.0) / 10, 25.0])
    wanted = (1 - UNIFORM_SHARE) * roots / roots.sum() + UNIFORM_SHARE / 3
    assert np.allclose(times.probabilities().numpy(), wanted, rtol=1e-14, atol=0)  # rule: section 1, some ten roundings


@pytest.mark.parametrize("losses", [[1.0, 3.0, 0.5, 20.0], [1e-6, 1.0, 1e6], [2.0]])
def test_the_weighted_loss_has_the_mean_over_uniform_levels(losses):
    # Exhaustively: the sum over all levels of p_t * w_t * L_t is the mean of L_t, for any L whatsoever.
    times, T = filled(losses), len(losses)
    p = times.probabilities()
    drawn, weight = times.draw(10_000, generator(1))
    of = {int(t): float(w) for t, w in zip(drawn, weight, strict=True)}
    w = torch.tensor([of.get(t, 1 / (T * float(p[t - 1]))) for t in range(1, T + 1)], dtype=torch.float64)
    assert torch.allclose(w * p, torch.full((T,), 1 / T, dtype=torch.float64), rtol=1e-15, atol=0)  # rule: section 1
    other = torch.linspace(-3, 2, T, dtype=torch.float64)
    assert float((p * w * other).sum()) == pytest.approx(float(other.mean()), rel=1e-14, abs=1e-15)  # rule: sums
    # rule: distributions. Chi-squared statistic of the levels drawn against their law, level 1e-9.
    counts = torch.bincount(drawn, minlength=T + 1)[1:].double()
    often = 10_000 * p > 1
    if int(often.sum()) > 1:
        seen, expected = counts[often].numpy(), (10_000 * p)[often].numpy()
        assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-9


def test_importance_has_less_variance_where_losses_differ():
    losses = torch.tensor([10.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    times = filled(losses.tolist())
    t, weight = times.draw(4000, generator(2))
    uniform = losses[torch.randint(0, 8, (4000,), generator=generator(3))]
    assert float((weight * losses[t - 1]).std()) < 0.05 * float(uniform.std())


def test_the_state_says_all_there_is_and_is_a_copy():
    times = filled([1.0, 2.0])
    state = times.state()
    again = ImportanceTimes(2, state)
    for sampler in (times, again):
        sampler.update(torch.tensor([2, 1, 2]), torch.tensor([5.0, 6.0, 7.0]))
    assert torch.equal(times.probabilities(), again.probabilities())
    assert not torch.equal(state["losses"], times.state()["losses"])
    assert AntitheticTimes(2).state() == {}


def test_an_unknown_sampler_is_named():
    with pytest.raises(RangeError, match="'uniform', 'antithetic', 'importance'"):
        make("stratified", 10)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("losses", lambda x: x[:, 1:], r"no finite float64 numbers of shape \(3, 10\)"),
        ("losses", torch.Tensor.float, "no finite float64"),
        ("losses", lambda x: x / 0, "no finite float64"),
        ("seen", lambda x: x[1:], r"no whole numbers >= 0 of shape \(3,\)"),
        ("seen", lambda x: -x, "no whole numbers >= 0"),
        ("seen", torch.Tensor.double, "no whole numbers >= 0"),
        ("seen", lambda x: x + 1, "the first of them 0"),
    ],
)
def test_what_is_no_state_is_named(name, change, message):
    state = filled([1.0, 2.0]).state()
    assert state_problem(state, 2) is None
    problem = state_problem({**state, name: change(state[name])}, 2)
    assert problem is not None
    assert __import__("re").search(message, problem)
    assert "it must have losses and seen" in str(state_problem({"seen": state["seen"]}, 2))
