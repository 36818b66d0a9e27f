"""Plans: one row of exact coefficients a step; the same sampler as the functions, step by step."""

import numpy as np
import pytest

from ddpm_ref.errors import RangeError, ScheduleError
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.plan import Plan, ancestral
from ddpm_ref.reference.posterior import q_posterior
from ddpm_ref.reference.reverse import model_mean_from_eps
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.reference.trajectory import Trajectory

H = linear_schedule(50)


@pytest.mark.parametrize("variance", ["posterior", "fixed_small", "beta", "fixed_large"])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_rows_are_exact_entries(steps, variance, oracle, rounded, compared):
    truth, trajectory = oracle(H.beta[1:]), H.trajectory(steps)
    eps, x0 = (
        ancestral(H, trajectory, variance, "variance"),
        ancestral(H, trajectory, variance, "variance", (-1.0, 1.0)),
    )
    deviation = "std_tilde" if variance in ("posterior", "fixed_small") else "sqrt_beta"
    for i, (t, s) in enumerate(trajectory.pairs()):
        e = truth.between(t, s)
        row = [eps.x[i], -eps.prediction[i], eps.noise[i], x0.x[i], x0.prediction[i], x0.noise[i]]
        names = ("recip_sqrt_alpha", "eps_weight", deviation, "xt_weight", "x0_weight", deviation)
        assert row == [rounded(e[name]) for name in names]
    compared["plan coefficients compared by equality"] += 6 * steps
    assert (eps.form, x0.form, x0.clip, len(eps)) == ("eps", "x0", (-1.0, 1.0), steps)


def test_a_plan_does_what_the_functions_do():
    plan = ancestral(H, H.trajectory(9))
    x, y = np.random.default_rng(0).standard_normal((2, 5))
    for i, (t, s) in enumerate(plan.trajectory.pairs()):
        assert np.array_equal(plan.x[i] * x + plan.prediction[i] * y, model_mean_from_eps(H, x, t, s, y))
    clipped = ancestral(H, H.trajectory(9), clip=(-1.0, 1.0))
    for i, (t, s) in enumerate(clipped.trajectory.pairs()):
        assert np.array_equal(clipped.prediction[i] * y + clipped.x[i] * x, q_posterior(H, y, x, t, s)[0])


def test_noise_of_the_last_step():
    trajectory = H.trajectory(9)
    assert ancestral(H, trajectory, "beta").noise[-1] == 0
    assert ancestral(H, trajectory, "beta", "variance").noise[-1] > 0
    assert ancestral(H, trajectory, "posterior", "variance").noise[-1] == 0  # beta_tilde of the step to 0


def test_columns_are_read_only():
    plan = ancestral(H, H.trajectory(3))
    for column in (plan.x, plan.prediction, plan.noise):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1


def test_zero_terminal_snr():
    end = NoiseSchedule.from_betas([0.1, 0.3, 1.0])
    with pytest.raises(RangeError, match=r"zero terminal SNR.*pass clip=\(-1.0, 1.0\)"):
        ancestral(end, end.trajectory(3))
    assert ancestral(end, end.trajectory(3), clip=(-1.0, 1.0)).x[0] == 0


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ancestral(H, Trajectory((51, 0))), ScheduleError, "starts at level 51, above T = 50"),
        (
            lambda: ancestral(H, H.trajectory(3), "learned"),
            RangeError,
            "variance = 'learned' is not known; write one of",
        ),
        (lambda: ancestral(H, H.trajectory(3), clip=(1.0, -1.0)), RangeError, r"clip = \(1.0, -1.0\)"),
        (
            lambda: Plan(H, H.trajectory(3), "eps", np.ones(2), np.ones(3), np.ones(3)),
            ScheduleError,
            r"shape \(2,\) for 3 steps",
        ),
    ],
)
def test_plans_that_cannot_be_made(call, error, words):
    with pytest.raises(error, match=words):
        call()
