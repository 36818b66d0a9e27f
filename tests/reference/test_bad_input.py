"""Bad input: each row raises the named error, and says what was given, what is allowed and what to write instead."""

import numpy as np
import pytest

from ddpm_ref.errors import DdpmRefError, LevelError, RangeError, ScheduleError, ShapeError
from ddpm_ref.reference import forward, named_schedules, posterior, prediction, reverse
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory

H = NoiseSchedule.from_betas([0.1, 0.2, 0.3, 0.4])
ONE = np.ones((2, 3))


def betas(value):
    return lambda: NoiseSchedule.from_betas(value)


def alpha_bars(value):
    return lambda: NoiseSchedule.from_alpha_bars(value)


SCHEDULES = {
    "empty": (betas([]), "betas have shape (0,)", "give one non-empty axis, shape (T,)"),
    "empty array": (betas(np.zeros(0)), "betas have shape (0,)", "one number per level 1..T"),
    "NaN": (betas([0.1, np.nan]), "betas at level t = 2 is nan", "allowed: 0 < beta < 1"),
    "infinite": (betas([np.inf, 0.1]), "betas at level t = 1 is inf", "allowed: 0 < beta < 1"),
    "zero": (betas([0.1, 0.0]), "betas at level t = 2 is 0.0", "allowed: 0 < beta < 1"),
    "negative": (betas([-0.1]), "betas at level t = 1 is -0.1", "allowed: 0 < beta < 1"),
    "above one": (betas([0.1, 0.2, 1.5]), "betas at level t = 3 is 1.5", "allowed: 0 < beta < 1"),
    "one before T": (betas([1.0, 0.5]), "betas at level t = 1 is 1.0", "beta = 1 is allowed at t = T only"),
    "scalar": (betas(0.1), "betas have shape ()", "shape (T,)"),
    "matrix": (betas(np.full((2, 3), 0.1)), "betas have shape (2, 3)", "shape (T,)"),
    "ragged": (betas([[0.1], [0.1, 0.2]]), "rows of unequal lengths", "shape (T,)"),
    "complex": (betas([0.1 + 0j]), "betas have dtype complex128", "give real floating-point numbers"),
    "integer": (betas([1, 0]), "betas have dtype int64", "give real floating-point numbers, e.g. np.linspace"),
    "boolean": (betas([True]), "betas have dtype bool", "give real floating-point numbers"),
    "text": (betas(["0.1"]), "betas have dtype <U3", "give real floating-point numbers"),
    "underflow": (betas([0.999] * 110), "first at level t = 103 of T = 110", "use smaller betas"),
    "alpha_bars empty": (alpha_bars([]), "alpha_bars have shape (0,)", "shape (T,)"),
    "alpha_bars rising": (alpha_bars([0.5, 0.6]), "level 2 has 0.6 after 0.5", "must decrease strictly"),
    "alpha_bars with level 0": (alpha_bars([1.0, 0.5]), "alpha_bars at level t = 1 is 1.0", "0 < alpha_bar < 1"),
    "alpha_bars zero before T": (alpha_bars([0.0, 0.0]), "alpha_bars at level t = 1 is 0.0", "0 is allowed at t = T only"),
    "alpha_bars NaN": (alpha_bars([0.5, np.nan]), "alpha_bars at level t = 2 is nan", "0 < alpha_bar < 1"),
    "alpha_bars complex": (alpha_bars([0.5j]), "alpha_bars have dtype complex128", "give real floating-point numbers"),
    "T = 0": (lambda: named_schedules.linear_schedule(0), "T = 0", "must be a whole number of levels, at least 1"),
    "T < 0": (lambda: named_schedules.cosine_schedule(-5), "T = -5", "at least 1"),
    "T fractional": (lambda: named_schedules.sigmoid_schedule(10.5), "T = 10.5", "must be a whole number"),
    "T boolean": (lambda: named_schedules.scaled_linear_schedule(True), "T = True", "must be a whole number"),
    "beta_1 zero": (lambda: named_schedules.linear_schedule(10, 0.0), "beta_1 = 0.0", "0 < beta_1 <= 1"),
    "beta_T NaN": (lambda: named_schedules.linear_schedule(10, 0.1, np.nan), "beta_T = nan", "0 < beta_T <= 1"),
    "beta_T above one": (lambda: named_schedules.constant_schedule(10, 2), "beta_1 = 2", "0 < beta_1 <= 1"),
    "cosine s": (lambda: named_schedules.cosine_schedule(10, s=-0.1), "s = -0.1", "must be a number >= 0 (0.008 is usual)"),
    "cosine s infinite": (lambda: named_schedules.cosine_schedule(10, s=np.inf), "s = inf", "0.008 is usual"),
    "max_beta": (lambda: named_schedules.cosine_schedule(10, max_beta=1.0), "max_beta = 1.0", "0.999 is usual"),
    "sigmoid ends": (lambda: named_schedules.sigmoid_alpha_bar_schedule(10, 3.0, -3.0), "start = 3.0, end = -3.0", "start < end"),
    "sigmoid infinite": (lambda: named_schedules.sigmoid_alpha_bar_schedule(10, end=np.inf), "end = inf", "finite"),
    "sigmoid tau": (lambda: named_schedules.sigmoid_alpha_bar_schedule(10, tau=0), "tau = 0", "tau > 0"),
    "trajectory above T": (lambda: H.trajectory(5), "steps = 5", "from 1 to T = 4"),
    "trajectory text": (lambda: H.trajectory(2, "log"), "spacing 'log'", "write one of even, trailing"),
    "no trajectory": (lambda: Trajectory((3, 1)), "trajectory (3, 1)", "must be whole levels in strictly descending order"),
}  # fmt: skip

# Every function of a level, and every function of a step, with good data
AT_LEVEL = {
    "forward_step": lambda t: forward.forward_step(H, ONE, t, ONE),
    "q_sample": lambda t: forward.q_sample(H, ONE, t, ONE),
    "aggregate_noise_correlation": lambda t: forward.aggregate_noise_correlation(H, t),
    "data_marginal": lambda t: forward.data_marginal(H, ONE, ONE, t),
    "stepwise_inversion": lambda t: forward.stepwise_inversion(H, ONE, t, ONE),
    "v_target": lambda t: prediction.v_target(H, ONE, t, ONE),
    "clipped_prediction": lambda t: prediction.clipped_prediction(H, ONE, t, ONE, "x0"),
} | {
    name: lambda t, name=name: getattr(prediction, name)(H, ONE, t, ONE)
    for name in ("x0_from_eps", "x0_from_v", "x0_from_score", "eps_from_x0", "eps_from_v", "eps_from_score", "v_from_x0",
                 "v_from_eps", "score_from_eps", "score_from_x0")
}  # fmt: skip

STEPS = {
    "between": lambda t, s: H.between(t, s),
    "q_mean_variance": lambda t, s: forward.q_mean_variance(H, ONE, t, s),
    "q_sample_between": lambda t, s: forward.q_sample_between(H, ONE, t, s, ONE),
    "second_moment": lambda t, s: forward.second_moment(H, ONE, t, s),
    "posterior_weights": lambda t, s: posterior.posterior_weights(H, t, s),
    "posterior_variance": lambda t, s: posterior.posterior_variance(H, t, s),
    "q_posterior": lambda t, s: posterior.q_posterior(H, ONE, ONE, t, s),
    "posterior_mean_from_eps": lambda t, s: posterior.posterior_mean_from_eps(H, ONE, t, s, ONE),
    "completing_square": lambda t, s: posterior.completing_square(H, ONE, ONE, t, s),
    "log_q_posterior": lambda t, s: posterior.log_q_posterior(H, ONE, ONE, ONE, t, s),
    "posterior_log_variance": lambda t, s: posterior.posterior_log_variance(H, t, s),
    "true_reverse_kernel": lambda t, s: posterior.true_reverse_kernel(H, ONE, t, s, ONE, ONE),
    "plug_in_reverse": lambda t, s: posterior.plug_in_reverse(H, ONE, t, s, ONE),
    "model_mean_from_eps": lambda t, s: reverse.model_mean_from_eps(H, ONE, t, s, ONE),
    "model_mean_from_x0": lambda t, s: reverse.model_mean_from_x0(H, ONE, t, s, ONE),
    "reverse_variance": lambda t, s: reverse.reverse_variance(H, t, s),
    "fixed_large_log_variance": lambda t, s: reverse.fixed_large_log_variance(H, t, s),
    "optimal_variance_bounds": lambda t, s: reverse.optimal_variance_bounds(H, t, s),
    "learned_variance": lambda t, s: reverse.learned_variance(H, t, s, ONE),
}

LEVELS = {
    "negative": (-1, "level -1", "whole numbers from"),
    "negative in a batch": ([1, -2], "level -2", "whole numbers from"),
    "above T": (5, "level 5", "to T = 4"),
    "far above T": (np.uint64(2**63 + 5), "", "whole numbers from"),
    "huge": (2**70, str(2**70), "write an int or an integer array"),
    "fractional": (1.5, "1.5", "write an int or an integer array"),
    "whole but floating": (2.0, "2.0", "write an int or an integer array"),
    "floating array": (np.array([1.0, 2.0]), "an array of dtype float64", "write an int or an integer array"),
    "NaN": (np.nan, "nan", "write an int or an integer array"),
    "boolean": (True, "True", "write an int or an integer array"),
    "boolean array": (np.array([True, False]), "an array of dtype bool", "write an int or an integer array"),
    "complex": (1 + 0j, "(1+0j)", "write an int or an integer array"),
}  # fmt: skip


def check(call, error, *words):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, DdpmRefError)
    message = str(caught.value)
    for word in words:
        assert word in message, message
    assert "\n" not in message


@pytest.mark.parametrize("row", SCHEDULES)
def test_schedules(row):
    call, *words = SCHEDULES[row]
    check(call, ScheduleError, *words)


@pytest.mark.parametrize("row", LEVELS)
@pytest.mark.parametrize("function", AT_LEVEL)
def test_levels(function, row):
    t, *words = LEVELS[row]
    check(lambda: AT_LEVEL[function](t), LevelError, *words)


@pytest.mark.parametrize("row", LEVELS)
@pytest.mark.parametrize("function", STEPS)
def test_levels_of_steps(function, row):
    level, *words = LEVELS[row]
    check(lambda: STEPS[function](level, 0 if np.ndim(level) == 0 else [0, 0]), LevelError, *words)
    check(lambda: STEPS[function](4 if np.ndim(level) == 0 else [4, 4], level), LevelError, *words)


@pytest.mark.parametrize(("t", "s"), [(2, 2), (1, 3), ([3, 2], [1, 2]), (2, [0, 3])])
@pytest.mark.parametrize("function", STEPS)
def test_steps_that_do_not_go_down(function, t, s):
    check(lambda: STEPS[function](t, s), LevelError, "step from t = ", " to s = ", "a step needs t > s")


@pytest.mark.parametrize(
    "name", ["forward_step", "aggregate_noise_correlation", "stepwise_inversion", "eps_from_x0", "v_from_x0"]
)
def test_level_zero_where_there_is_none(name):
    check(lambda: AT_LEVEL[name](0), LevelError, "level 0", "whole numbers from 1 to T = 4")


DATA = {
    "forward_step": lambda x, y: forward.forward_step(H, x, 2, y),
    "q_sample": lambda x, y: forward.q_sample(H, x, 2, y),
    "q_sample_between": lambda x, y: forward.q_sample_between(H, x, 2, 1, y),
    "stepwise_inversion": lambda x, y: forward.stepwise_inversion(H, x, 2, y),
    "data_marginal": lambda x, y: forward.data_marginal(H, x, y, 2),
    "gaussian_sum": lambda x, y: forward.gaussian_sum(x, 1.0, y, 1.0),
    "q_posterior": lambda x, y: posterior.q_posterior(H, x, y, 3, 1),
    "posterior_mean_from_eps": lambda x, y: posterior.posterior_mean_from_eps(H, x, 3, 1, y),
    "completing_square": lambda x, y: posterior.completing_square(H, x, y, 3, 1),
    "log_q_posterior": lambda x, y: posterior.log_q_posterior(H, x, y, x, 3, 1),
    "true_reverse_kernel": lambda x, y: posterior.true_reverse_kernel(H, x, 3, 1, y, 1.0),
    "plug_in_reverse": lambda x, y: posterior.plug_in_reverse(H, x, 3, 1, y),
    "log_normal": lambda x, y: posterior.log_normal(x, y, 1.0),
    "reverse_step": lambda x, y: reverse.reverse_step(x, 1.0, y),
    "log_reverse_step": lambda x, y: reverse.log_reverse_step(x, y, 1.0),
    "v_target": lambda x, y: prediction.v_target(H, x, 2, y),
    "convert": lambda x, y: prediction.convert(H, x, 2, y, "eps", "v"),
    "clipped_prediction": lambda x, y: prediction.clipped_prediction(H, x, 2, y, "v"),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("function", DATA)
def test_data_that_are_not_finite(function, bad):
    spoilt = ONE.copy()
    spoilt[1, 2] = bad
    for arguments in ((spoilt, ONE), (ONE, spoilt)):
        check(lambda a=arguments: DATA[function](*a), RangeError, f"contains {bad} at index (1, 2)", "must be finite")


@pytest.mark.parametrize("function", DATA)
def test_data_that_are_not_real_numbers(function):
    check(lambda: DATA[function](ONE * 1j, ONE), RangeError, "has dtype complex128", "give real numbers")
    check(lambda: DATA[function](ONE, ONE > 0), RangeError, "has dtype bool", "give real numbers")
    check(
        lambda: DATA[function]([[1.0], [1.0, 2.0]], ONE),
        ShapeError,
        "rows of unequal lengths",
        "give a rectangular array",
    )


@pytest.mark.parametrize("function", DATA)
def test_data_that_do_not_broadcast(function):
    check(
        lambda: DATA[function](ONE, np.ones(4)),
        ShapeError,
        "(2, 3)",
        "(4,)",
        "give equal shapes or shapes that broadcast",
    )


@pytest.mark.parametrize("function", AT_LEVEL)
def test_levels_that_do_not_fit_the_data(function):
    if function == "aggregate_noise_correlation":
        return
    for t in (np.array([1, 2, 3]), np.ones((2, 3, 1), dtype=int), np.ones((1,), dtype=int)):
        check(
            lambda t=t: AT_LEVEL[function](t),
            ShapeError,
            f"t has shape {t.shape}",
            "(2, 3)",
            "leading axes of the data",
        )


def test_steps_of_two_shapes():
    check(
        lambda: H.between([3, 4], [1, 2, 0]),
        ShapeError,
        "t has shape (2,) and s (3,)",
        "give scalars or arrays of one shape",
    )
    check(lambda: posterior.q_posterior(H, ONE, ONE, [3, 3, 3], 1), ShapeError, "t has shape (3,)", "leading axes")


OTHERS = {
    "negative variance": (lambda: forward.data_marginal(H, 0.0, -1.0, 2), RangeError, "variance contains -1.0", ">= 0"),
    "negative moment": (lambda: forward.second_moment(H, -1.0, 2, 1), RangeError, "second_moment contains -1.0", ">= 0"),
    "dimension": (lambda: forward.second_moment(H, 1.0, 2, 1, 0), RangeError, "dimension = 0", "at least 1"),
    "dimension fractional": (lambda: forward.second_moment(H, 1.0, 2, 1, 1.5), RangeError, "dimension = 1.5", "whole number"),
    "dimension boolean": (lambda: forward.second_moment(H, 1.0, 2, 1, True), RangeError, "dimension = True", "whole number"),
    "correlation": (lambda: forward.gaussian_sum(0.0, 1.0, 0.0, 1.0, 1.1), RangeError, "correlation = 1.1", "[-1, 1]"),
    "correlation NaN": (lambda: forward.gaussian_sum(0.0, 1.0, 0.0, 1.0, np.nan), RangeError, "correlation = nan", "[-1, 1]"),
    "variance of a sum": (lambda: forward.gaussian_sum(0.0, -1.0, 0.0, 1.0), RangeError, "variance1 contains -1.0", ">= 0"),
    "chain too long": (lambda: forward.q_chain(H, ONE, np.ones((5, 2, 3))), ShapeError, "(5, 2, 3)", "n <= T = 4"),
    "chain of another shape": (lambda: forward.q_chain(H, ONE, np.ones((2, 3))), ShapeError, "(2, 3)", "n <= T = 4"),
    "noises of another t": (lambda: forward.aggregate_noise(H, np.ones((3, 2)), 2), ShapeError, "(3, 2)", "shape (2, *event)"),
    "noises without axes": (lambda: forward.aggregate_noise(H, 1.0, 1), ShapeError, "shape ()", "shape (1, *event)"),
    "noises of levels": (lambda: forward.aggregate_noise(H, ONE, [2, 2]), ShapeError, "t has shape (2,)", "one scalar level"),
    "noises of a fractional level": (lambda: forward.aggregate_noise(H, ONE, 1.5), LevelError, "1.5", "write an int"),
    "density without variance": (lambda: posterior.log_normal(0.0, 0.0, 0.0), RangeError, "variance contains 0.0", "> 0"),
    "reverse step": (lambda: reverse.reverse_step(0.0, -1.0, 0.0), RangeError, "variance contains -1.0", ">= 0"),
    "gains": (lambda: reverse.reverse_chain_variance([1.0, 2.0], [1.0]), ShapeError, "gains (2,)", "shape (K,)"),
    "terminal variance": (lambda: reverse.reverse_chain_variance([1.0], [1.0], -1.0), RangeError, "terminal_variance", ">= 0"),
    "two ends": (lambda: reverse.reverse_chain_variance([1.0], [1.0], [1.0, 2.0]), ShapeError, "has shape (2,)", "one number"),
    "spread": (lambda: posterior.true_reverse_kernel(H, 0.0, 2, 1, 0.0, -1.0), RangeError, "x0_variance contains -1.0", ">= 0"),
    "prediction": (lambda: prediction.convert(H, 1.0, 1, 1.0, "noise", "x0"), RangeError, "'noise'", "write one of eps, x0, v"),
    "target": (lambda: prediction.convert(H, 1.0, 1, 1.0, "eps", "mu"), RangeError, "prediction 'mu'", "write one of"),
    "clip": (lambda: prediction.clip_x0(1.0, 1.0, -1.0), RangeError, "low = 1.0, high = -1.0", "e.g. -1 and 1"),
    "clip NaN": (lambda: prediction.clip_x0(1.0, np.nan, 1.0), RangeError, "low = nan", "needs low < high"),
    "variance kind": (lambda: reverse.reverse_variance(H, 2, 1, "small"), RangeError, "kind = 'small'", "write one of posterior"),
}  # fmt: skip


@pytest.mark.parametrize("row", OTHERS)
def test_other_arguments(row):
    call, error, *words = OTHERS[row]
    check(call, error, *words)


def test_every_error_is_also_a_builtin_one():
    assert issubclass(ScheduleError, ValueError)
    assert issubclass(ShapeError, ValueError)
    assert issubclass(RangeError, ValueError)
    assert issubclass(LevelError, IndexError)
