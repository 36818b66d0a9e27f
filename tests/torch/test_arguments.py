"""Wrong arguments get a named error that says what to write instead."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ScheduleError, ShapeError
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.torch import forward, posterior, prediction, reverse, tables
from ddpm_ref.torch.arguments import at, expand_right, level

H = tables(NoiseSchedule.from_betas([0.1, 0.2, 0.3, 0.4]))
DEAD = tables(NoiseSchedule.from_betas([0.1, 1.0]))
X = torch.zeros(3, 2)


@pytest.mark.parametrize(
    "t",
    [
        -1,
        5,
        1.0,
        float("nan"),
        True,
        np.float64(1.0),
        torch.tensor(1.0),
        torch.tensor(True),
        torch.tensor([1, 2, 5]),
        torch.tensor([1, -1, 2]),
        torch.tensor([1, 2, 3], dtype=torch.uint8),
    ],
)
def test_bad_levels(t):
    with pytest.raises(LevelError, match="whole level"):
        forward.q_sample(H, X, t, X)


def test_good_levels():
    for t in (2, np.int64(2), torch.tensor(2), torch.tensor([2, 2, 2]), torch.tensor([2, 2, 2], dtype=torch.int32)):
        assert torch.equal(forward.q_sample(H, X + 1, t, X), forward.q_sample(H, X + 1, 2, X))
    assert level(H, np.int32(3)) == 3
    assert forward.q_sample(H, X, torch.ones(3, 2, dtype=torch.long), X).shape == X.shape
    with pytest.raises(LevelError, match="write 4"):
        level(H, -1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: forward.forward_step(H, X, 0, X),
        lambda: forward.stepwise_inversion(H, X, 0, X),
        lambda: forward.aggregate_noise_correlation(H, 0),
        lambda: forward.aggregate_noise(H, X, torch.tensor([3, 3])),
        lambda: forward.q_chain(H, X[0], torch.zeros(5, 2)),
        lambda: forward.q_mean_variance(H, X, 0),
        lambda: forward.q_sample_between(H, X, 2, 2, X),
        lambda: forward.q_sample_between(H, X, 1, 2, X),
        lambda: forward.q_sample_between(H, X, torch.tensor([3, 2, 1]), torch.tensor([2, 2, 0]), X),
        lambda: forward.q_sample_between(H, X, torch.tensor([3, 2, 1]), 1, X),
        lambda: posterior.completing_square(H, X, X, 1, 0),
        lambda: posterior.log_q_posterior(H, X, X, X, 1, 0),
        lambda: prediction.eps_from_x0(H, X, 0, X),
        lambda: prediction.v_from_x0(H, X, 0, X),
        lambda: prediction.score_from_eps(H, X, 0, X),
        lambda: prediction.score_from_x0(H, X, torch.tensor([1, 0, 2]), X),
        lambda: prediction.convert(H, X, 0, X, "v", "score"),
        lambda: prediction.clipped_prediction(H, X, 0, X, "x0"),
    ],
)
def test_levels_a_formula_does_not_have(call):
    with pytest.raises(LevelError):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: forward.q_sample(H, X, 1, torch.zeros(3, 3)),
        lambda: forward.q_sample(H, X, torch.tensor([1, 2]), X),
        lambda: forward.q_sample(H, X, torch.tensor([1]), X),
        lambda: forward.q_sample(H, X[0, 0], torch.tensor([1]), X[0, 0]),
        lambda: forward.q_chain(H, X, torch.zeros(2, 3, 3)),
        lambda: forward.q_chain(H, X, X),
        lambda: forward.aggregate_noise(H, torch.zeros(3, 2), 2),
        lambda: forward.aggregate_noise(H, torch.zeros(()), 1),
        lambda: forward.data_marginal(H, X, torch.ones(5), 1),
        lambda: posterior.q_posterior(H, X, X, torch.tensor([1, 2, 3]), torch.tensor([0, 1])),
        lambda: posterior.true_reverse_kernel(H, X, 2, 1, X, torch.ones(7)),
        lambda: reverse.reverse_step(X, torch.ones(7), X),
        lambda: reverse.reverse_chain_variance(torch.ones(3), torch.ones(2)),
        lambda: reverse.reverse_chain_variance(torch.ones(3), torch.ones(3), torch.ones(2)),
        lambda: reverse.learned_variance(H, torch.tensor([2, 3]), 1, X),
    ],
)
def test_bad_shapes(call):
    with pytest.raises(ShapeError):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: forward.q_sample(H, X, 1, X.double()),
        lambda: forward.q_sample(H, X.bfloat16(), 1, X),
        lambda: forward.q_sample(H, X.long(), 1, X.long()),
        lambda: forward.q_sample(H, X, 1, X.to("meta")),
        lambda: forward.q_sample(H.to("meta"), X, 1, X),
        lambda: forward.q_sample(H, X, torch.ones(3, dtype=torch.long, device="meta"), X),
        lambda: forward.q_sample(H.to(dtype=torch.float32), X.double(), 1, X.double()),
        lambda: forward.data_marginal(H, X, torch.ones(2, dtype=torch.float64), 1),
        lambda: posterior.log_normal(0.0, 0.0, 1.0),
        lambda: posterior.log_normal(torch.zeros(2, dtype=torch.long), 0.0, 1.0),
        lambda: reverse.reverse_step(X, torch.ones(2).bfloat16(), X),
    ],
)
def test_bad_formats(call):
    with pytest.raises(PrecisionError, match="write"):
        call()


NAN = X + float("nan")


@pytest.mark.parametrize(
    "call",
    [
        lambda: forward.q_sample(H, NAN, 1, X),
        lambda: forward.q_mean_variance(H, X + float("inf"), 1),
        lambda: forward.q_chain(H, NAN, torch.zeros(2, 3, 2)),
        lambda: forward.terminal_kl(H, NAN),
        lambda: posterior.q_posterior(H, NAN, X, 2, 1),
        lambda: posterior.completing_square(H, NAN, X, 2, 1),
        lambda: posterior.log_q_posterior(H, X, NAN, X, 2, 1),
        lambda: reverse.model_mean_from_x0(H, X, 2, 1, NAN),
        lambda: prediction.v_target(H, NAN, 1, X),
        lambda: prediction.eps_from_x0(H, X, 1, NAN),
        lambda: prediction.clip_x0(NAN),
        lambda: prediction.clip_x0(X, 1.0, -1.0),
        lambda: prediction.convert(H, X, 1, X, "noise", "x0"),
        lambda: prediction.convert(H, X, 1, X, "eps", "velocity"),
        lambda: reverse.reverse_variance(H, 2, 1, "learned"),
        lambda: reverse.learned_variance(H, 2, 1, X + 1.5),
        lambda: reverse.learned_variance(H, 2, 1, X, "exact"),
        lambda: posterior.posterior_log_variance(H, 2, 1, "clip"),
        lambda: forward.gaussian_sum(X, 1.0, X, 1.0, 1.5),
        lambda: forward.gaussian_sum(X, -1.0, X, 1.0),
        lambda: forward.data_marginal(H, X, -1.0, 1),
        lambda: forward.second_moment(H, -1.0, 2, 1),
        lambda: forward.second_moment(H, 1.0, 2, 1, dimension=0),
        lambda: posterior.true_reverse_kernel(H, X, 2, 1, X, -1.0),
        lambda: posterior.log_normal(X, 0.0, 0.0),
        lambda: reverse.reverse_step(X, -1.0, X),
        lambda: reverse.reverse_chain_variance(torch.ones(2), -torch.ones(2)),
        lambda: prediction.x0_from_eps(DEAD, X, 2, X),
        lambda: prediction.x0_from_eps(DEAD, X, torch.tensor([1, 1, 2]), X),
        lambda: prediction.x0_from_score(DEAD, X, 2, X),
        lambda: prediction.v_from_eps(DEAD, X, 2, X),
        lambda: prediction.convert(DEAD, X, 2, X, "score", "v"),
        lambda: posterior.posterior_mean_from_eps(DEAD, X, 2, 1, X),
        lambda: reverse.model_mean_from_eps(DEAD, X, 2, 0, X),
        lambda: forward.stepwise_inversion(DEAD, X, 2, X),
    ],
)
def test_numbers_outside_the_domain(call):
    with pytest.raises(RangeError):
        call()


def test_the_message_at_zero_terminal_snr():
    with pytest.raises(RangeError, match="eps prediction does not determine x0 at zero terminal SNR; use v or x0"):
        prediction.x0_from_eps(DEAD, X, 2, X)


def test_a_chain_without_a_second_step():
    one = tables(NoiseSchedule.from_betas([0.5]))
    for rule, trajectory in (("replace", None), ("replace_unstrided", None), ("replace", [1, 0])):
        with pytest.raises(ScheduleError, match="second step"):
            posterior.posterior_log_variance(one, 1, 0, rule, trajectory)


def test_gathering_never_wraps_around():
    with pytest.raises(RuntimeError, match="out of bounds"):
        at(H.beta, torch.tensor([-1]))


def test_expand_right():
    assert expand_right(torch.ones(2, 3), 5).shape == (2, 3, 1, 1, 1)


def test_without_torch_the_remedy_is_named():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ddpm_ref.errors import MissingExtraError\n"
        "try:\n    import ddpm_ref.torch\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'ddpm-ref[torch]'" in done.stdout
