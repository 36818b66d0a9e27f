"""Every kind of plan, step by step: its row, its stages, its form, held against the coefficients in double-double."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.named_schedules import cosine_schedule
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling import Denoiser, GeneratorNoise, PhiloxNoise, sample, snapshots, states, step
from ddpm_ref.sampling.rows import rows

SCHEDULE = cosine_schedule(T=50)
CPU = torch.device("cpu")
TEN = SCHEDULE.trajectory(10)
CLIP = (-0.5, 0.5)
PLANS = {
    "ancestral": plans.ancestral(SCHEDULE, TEN, "beta"),
    "ancestral, x0": plans.ancestral(SCHEDULE, TEN, form="x0"),
    "ancestral, clipped": plans.ancestral(SCHEDULE, TEN, clip=CLIP, last_noise="variance"),
    "ddim": plans.ddim(SCHEDULE, TEN),
    "ddim, noisy": plans.ddim(SCHEDULE, TEN, 0.7),
    "ddim, clipped": plans.ddim(SCHEDULE, TEN, 0.3, clip=CLIP),
    "ddim, clipped, eps kept": plans.ddim(SCHEDULE, TEN, 0.3, clip=CLIP, rederive_eps=False),
    "ddim, thresholded": plans.ddim(SCHEDULE, TEN, threshold=plans.Threshold(90)),
    "ddim, thresholded, eps kept": plans.ddim(SCHEDULE, TEN, threshold=plans.Threshold(90, 1.5), rederive_eps=False),
}
DTYPES = {torch.float64: Claim("fp64"), torch.float32: Claim("fp32")}


def times(coefficient, tensor):
    return DoubleDouble.of(tensor.double().numpy()) * float(coefficient)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PLANS)
def test_each_step_is_its_row_of_the_plan(name, dtype):
    # The network answers in the plan's own form, so that no conversion stands between it and the row, but where eps
    # is kept: there it answers in eps, and x0 is a conversion of k = 3 roundings.
    plan, noise, claim = PLANS[name], GeneratorNoise(5), DTYPES[dtype]
    denoiser = Denoiser(lambda x, time: (3 * x).sin(), "eps" if plan.eps is not None else plan.form)
    chain = [x for _, x in states(denoiser, (64, 3), plan, noise, dtype=dtype)]
    worst = 0.0
    for k, (before, after) in enumerate(pairwise(chain)):
        t, answer = plan.asked[k], (3 * before).sin()
        y, k_y, scale_y = answer, 0, answer.abs()
        if plan.eps is not None:
            gain, noise_gain = SCHEDULE.sqrt_recip_alpha_bar[t], SCHEDULE.sqrt_recipm1_alpha_bar[t]
            y = (times(gain, before) - times(noise_gain, answer)).high
            y, k_y = torch.from_numpy(y), 3
            scale_y = gain * before.double().abs() + noise_gain * answer.double().abs()
        if not plan.affine:
            if plan.threshold is not None:
                # Beside its own five roundings, the radius carries those of the order statistics: charged to the scale.
                sizes = np.sort(np.abs(y.numpy()), axis=1)
                radius = torch.from_numpy(
                    np.clip(sizes[:, 1] + 0.8 * (sizes[:, 2] - sizes[:, 1]), 1, plan.threshold.maximum)
                )
                largest = scale_y.max(dim=1, keepdim=True).values
                scale_y = scale_y + 3 * largest * y.abs() / radius[:, None]
                k_y += 5
            y = torch.from_numpy(plans.staged(plan, y.double().numpy()))
        z = noise.normal(k + 1, (64, 3), dtype, CPU)
        terms = [times(plan.x[k], before), times(plan.prediction[k], y), times(plan.noise[k], z)]
        scale = (
            sum(abs(term).high for term in (terms[0], terms[2])) + abs(plan.prediction[k]) * scale_y.double().numpy()
        )
        if plan.eps is not None:
            terms.append(times(plan.eps[k], answer))
            scale = scale + abs(terms[-1]).high
        total = terms[0] + terms[1]
        for term in terms[2:]:
            total = total + term
        ratio = Expected(total, scale, roundings=len(terms) + 1 + k_y).error_over_bound(after.double().numpy(), claim)
        worst = max(worst, float(ratio.max()))
    assert worst <= 1
    assert worst > 0.02  # so that a bound which allows anything is noticed


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "score"])
@pytest.mark.parametrize("name", ["ancestral", "ddim, clipped", "ddim, clipped, eps kept", "ddim, thresholded"])
def test_what_the_network_predicts_makes_no_difference_but_rounding(prediction, name):
    # The optimal network for the point 0.25, in every parametrisation: all of them end there.
    column = {key: torch.tensor(getattr(SCHEDULE, key)) for key in ("sqrt_alpha_bar", "sqrt_beta_bar")}

    def network(x, t):
        a, b = (column[key][t][:, None] for key in ("sqrt_alpha_bar", "sqrt_beta_bar"))
        eps = (x - a * 0.25) / b
        return {"eps": eps, "x0": torch.full_like(x, 0.25), "v": a * eps - b * 0.25, "score": -eps / b}[prediction]

    x = sample(Denoiser(network, prediction, "one_based"), (3, 4), PLANS[name], dtype=torch.float64)
    # rule: affine combinations; eps from x is a difference of x and a c, so x0 = (x - b eps) / a is off by at most
    # 8 u (1 + b/a) |x| / a in the first step; every later step contracts it, and the last, at t = 1, adds its own.
    t = TEN.levels[-2]
    assert float((x - 0.25).abs().max()) <= 32 * 2.0**-53 * (1 + SCHEDULE.sqrt_recipm1_alpha_bar[t])


def test_ddim_up_and_down_again_is_the_identity_where_the_prediction_does_not_change():
    trajectory = SCHEDULE.trajectory(25)
    constant = Denoiser(lambda x, time: torch.full_like(x, 0.5))
    data = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
    up = sample(constant, (4, 3), plans.ddim_inversion(SCHEDULE, trajectory), start=data, dtype=torch.float64)
    down = sample(constant, (4, 3), plans.ddim(SCHEDULE, trajectory), start=up, dtype=torch.float64)
    # rule: chains. What is lost on the way up, 4 u (|x| + |eps|) a step, comes back 1 / sqrt(alpha_bar) times as large.
    assert float((down - data).abs().max()) <= 2 * 25 * 4 * 2.0**-53 * 1.5 * SCHEDULE.sqrt_recip_alpha_bar[50]
    assert float((up - data).abs().max()) > 0.1


def test_an_inversion_asks_at_the_levels_of_the_plan_and_needs_a_start():
    plan, asked = plans.ddim_inversion(SCHEDULE, SCHEDULE.trajectory(5)), []

    def network(x, time):
        asked.append(int(time[0]))
        return torch.zeros_like(x)

    chain = list(states(Denoiser(network, time_code="one_based"), (2, 3), plan, start=torch.zeros(2, 3)))
    assert [t for t, _ in chain] == list(plan.trajectory.levels)
    assert asked == list(plan.asked)
    with pytest.raises(RangeError, match="starts from data; pass start"):
        states(Denoiser(network), (2, 3), plan)


def test_a_start_of_another_kind_is_refused():
    for start, error in ((torch.zeros(2, 4), ShapeError), (torch.zeros(2, 3, dtype=torch.float64), PrecisionError)):
        with pytest.raises(error, match="start"):
            sample(Denoiser(torch.sin), (2, 3), PLANS["ddim"], start=start)


def test_a_ddim_chain_draws_nothing_after_its_start():
    class Once:
        def normal(self, step, shape, dtype, device):
            assert step == 0
            return torch.ones(shape, dtype=dtype)

    assert torch.isfinite(sample(Denoiser(lambda x, t: x.sin()), (2, 3), PLANS["ddim"], Once())).all()


@pytest.mark.parametrize("name", PLANS)
def test_step_by_step_and_all_at_once_are_the_same(name):
    plan, noise, denoiser = PLANS[name], PhiloxNoise(3), Denoiser(lambda x, t: x.sin())
    x = noise.normal(0, (4, 3), torch.float32, CPU)
    kept = dict(states(denoiser, (4, 3), plan, noise))
    for k in range(len(plan)):
        assert torch.equal(kept[plan.trajectory.levels[k]], x)
        x = step(denoiser, x, plan, k, noise.normal(k + 1, (4, 3), torch.float32, CPU))
    assert torch.equal(x, sample(denoiser, (4, 3), plan, noise))
    some = snapshots(denoiser, (4, 3), plan, noise, levels=TEN.levels[2:5])
    assert list(some) == list(TEN.levels[2:5])
    assert all(torch.equal(some[t], kept[t]) for t in some)


@pytest.mark.parametrize("name", PLANS)
def test_with_philox_an_elementwise_network_gives_the_same_bits_for_every_split(name):
    denoiser, plan = Denoiser(lambda x, t: x * 0.5 + t[:, None, None]), PLANS[name]
    whole = sample(denoiser, (7, 3, 5), plan, PhiloxNoise(9))
    for size in (1, 3):
        parts = [
            sample(denoiser, (min(size, 7 - first), 3, 5), plan, PhiloxNoise(9, first)) for first in range(0, 7, size)
        ]
        assert torch.equal(torch.cat(parts), whole)


def test_a_step_needs_its_noise_and_only_then():
    denoiser, x = Denoiser(lambda x, t: 0 * x), torch.ones(2, 3)
    with pytest.raises(RangeError, match="the step of index 0 adds noise; pass noise"):
        step(denoiser, x, PLANS["ancestral"], 0)
    assert step(denoiser, x, PLANS["ancestral"], 9).shape == (2, 3)
    assert torch.equal(step(denoiser, x, PLANS["ddim"], 0), step(denoiser, x, PLANS["ddim"], 0, torch.ones(2, 3)))


@pytest.mark.parametrize("index", [-1, 10, True])
def test_a_step_that_is_not_in_the_plan_is_refused(index):
    with pytest.raises(LevelError, match=r"the plan has the steps 0\.\.9"):
        step(Denoiser(lambda x, t: x), torch.ones(2, 3), PLANS["ddim"], index)


def test_a_step_passes_gradients_and_forgets_in_which_mode_its_rows_were_made():
    plan = plans.ddim(SCHEDULE, TEN, clip=(-10.0, 10.0))
    with torch.inference_mode():
        sample(Denoiser(lambda x, t: x), (2, 3), plan)
    x = torch.ones(2, 3, requires_grad=True)
    step(Denoiser(lambda x, t: x.sin()), x, plan, 3).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().min()) > 0


def test_levels_off_the_plan_are_refused_with_their_neighbours():
    with pytest.raises(LevelError, match="does not visit level 2; the nearest that it visits: 1 and 6"):
        snapshots(Denoiser(lambda x, t: x), (2, 3), PLANS["ddim"], levels=[2])
    with pytest.raises(LevelError, match="level 51; the nearest that it visits: 50"):
        snapshots(Denoiser(lambda x, t: x), (2, 3), PLANS["ddim"], levels=[51])


def test_progress_hears_of_every_step_and_may_end_the_chain():
    heard = []
    sample(Denoiser(lambda x, t: x), (2, 3), PLANS["ddim"], progress=lambda done, steps: heard.append((done, steps)))
    assert heard == [(k, 10) for k in range(1, 11)]

    def enough(done, steps):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(Denoiser(lambda x, t: x), (2, 3), PLANS["ddim"], progress=enough)


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (
            lambda x, t: x[:, :1],
            ShapeError,
            r"at step 4 of 10 \(t = 34 to s = 28\): the network returned shape \(2, 1\)",
        ),
        (lambda x, t: x.double(), PrecisionError, "at step 4 of 10 .*returned torch.float64"),
        (lambda x, t: (x, x), PrecisionError, "at step 4 of 10 .*returned a tuple; it must return one tensor"),
        (lambda x, t: x / 0 * 0, RangeError, "not finite at step 4 of 10"),
        (lambda x, t: x / 0, RangeError, "not finite at step 4 of 10"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_by_the_name_of_its_step(network, error, message):
    wrong = Denoiser(lambda x, time: network(x, time) if int(time[0]) == 33 else x)
    for name in ("ddim", "ddim, clipped"):  # clipping would hide an infinity
        with pytest.raises(error, match=message):
            sample(wrong, (2, 3), PLANS[name])


def test_large_numbers_whose_sum_overflows_are_finite_still():
    huge = Denoiser(lambda x, t: torch.full_like(x, 1e38), "x0")
    assert torch.equal(sample(huge, (2, 300), PLANS["ddim, clipped"]), torch.full((2, 300), 0.5))


def test_a_last_state_that_overflows_is_refused():
    schedule = NoiseSchedule.from_betas([0.75])  # doubles the state where the network sees no noise
    plan, start = plans.ddim(schedule, schedule.trajectory(1)), torch.full((2, 3), 6e4).half()
    with pytest.raises(RangeError, match=r"the state overflows torch\.float16 at step 1 of 1 \(t = 1 to s = 0\)"):
        sample(Denoiser(lambda x, t: 0 * x), (2, 3), plan, start=start, dtype=torch.float16)


def test_coefficients_that_float32_cannot_hold_are_refused_before_the_network_is_asked():
    schedule = NoiseSchedule.from_betas([1 - 2.0**-53] * 6)
    plan = plans.ddim(schedule, schedule.trajectory(1))
    with pytest.raises(RangeError, match=r"coefficient 7\.3\d*e\+47 of x at t = 6 overflows torch\.float32"):
        states(Denoiser(lambda x, t: x), (2, 3), plan)
    assert len(rows(plan, "eps", torch.float64, CPU)) == 1


def test_zero_terminal_snr_takes_what_a_network_can_know_and_names_what_it_cannot():
    schedule = NoiseSchedule.from_betas([0.1, 0.5, 1.0])
    plan = plans.ddim(schedule, schedule.trajectory(3), clip=(-1.0, 1.0))
    assert torch.isfinite(sample(Denoiser(lambda x, t: 0 * x, "v"), (2, 3), plan)).all()
    with pytest.raises(RangeError, match="zero terminal SNR"):
        sample(Denoiser(lambda x, t: 0 * x, "eps"), (2, 3), plan)


def test_a_column_that_vanishes_in_a_single_step_keeps_its_conversion():
    # From level T at zero terminal SNR, in one step: v says x0 = -v, and x_T has no part in it.
    schedule = NoiseSchedule.from_betas([0.5, 1.0])
    plan = plans.ddim(schedule, schedule.trajectory(1), clip=(-1.0, 1.0))
    assert torch.equal(sample(Denoiser(lambda x, t: 0 * x + 0.25, "v"), (2, 3), plan), torch.full((2, 3), -0.25))
    kept = plans.ddim(schedule, schedule.trajectory(1), clip=(-1.0, 1.0), rederive_eps=False)
    assert torch.equal(sample(Denoiser(lambda x, t: 0 * x + 0.25, "v"), (2, 3), kept), torch.full((2, 3), -0.25))
