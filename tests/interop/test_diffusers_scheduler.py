"""Our plans inside real pipelines of diffusers: the images of our own sampler, and near those of their scheduler."""

from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

from ddpm_ref import NoiseSchedule, cosine_schedule, linear_schedule, zero_terminal_snr
from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import LevelError, MissingExtraError, PrecisionError, RangeError, ScheduleError, ShapeError
from ddpm_ref.interop import PlanScheduler
from ddpm_ref.reference import plan
from ddpm_ref.sampling import Denoiser, sample
from ddpm_ref.sampling.rows import advance, rows
from ddpm_ref.torch import tables
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.prediction import v_target, x0_from_eps

STEPS, SHAPE = 5, (2, 1, 8, 8)
SCHEDULE = cosine_schedule(20)


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    """A network that has learned nothing."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    made = UNet2DModel(8, 1, 1, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4, **blocks)
    return made.eval()


@dataclass
class InTurn:
    """Noise as a pipeline draws it: from one generator, in the order of the steps."""

    generator: torch.Generator

    def normal(self, step: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, dtype=dtype, device=device)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def ours(unet: UNet2DModel, rows: plan.Plan, prediction: str) -> np.ndarray:
    """The images of our sampler, as a pipeline hands them out."""
    denoiser = Denoiser(lambda x, time: unet(x, time).sample, prediction)
    with torch.no_grad():
        images = sample(denoiser, SHAPE, rows, InTurn(generator()))
    return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def piped(pipeline: Any, **arguments: Any) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        batch_size=2, generator=generator(), num_inference_steps=STEPS, output_type="numpy", **arguments
    ).images


WALK = SCHEDULE.trajectory(STEPS, "trailing")
UNIT = SCHEDULE.beta_bar.tolist()
CASES: dict[str, tuple[dict[str, Any], plan.Plan]] = {
    "ancestral": ({"kind": "ancestral"}, plan.ancestral(SCHEDULE, WALK)),
    "fixed large": (
        {"kind": "ancestral", "variance_type": "fixed_large", "clip_sample": True, "clip_sample_range": 0.5},
        plan.ancestral(SCHEDULE, WALK, "beta", clip=(-0.5, 0.5)),
    ),
    "ddim": ({"eta": 0.5}, plan.ddim(SCHEDULE, WALK, 0.5)),
    "raw eps": (
        {"clip_sample": True, "rederive_eps": False},
        plan.ddim(SCHEDULE, WALK, clip=(-1.0, 1.0), rederive_eps=False),
    ),
    "v": ({"prediction_type": "v_prediction"}, plan.ddim(SCHEDULE, WALK, form="x0")),
    "x0": (
        {"prediction_type": "sample", "kind": "ancestral", "thresholding": True, "sample_max_value": 3.0},
        plan.ancestral(SCHEDULE, WALK, threshold=plan.Threshold(99.5, 3.0)),
    ),
    "analytic": ({"kind": "analytic", "x0_variance": UNIT}, plan.analytic(SCHEDULE, WALK, SCHEDULE.beta_bar)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_pipeline_makes_the_images_of_our_sampler(unet: UNet2DModel, name: str) -> None:
    settings, rows_of = CASES[name]
    scheduler = PlanScheduler.of(SCHEDULE, timestep_spacing="trailing", **settings)
    images = piped(DDPMPipeline(unet, scheduler))
    assert 0.01 < images.std() < 1
    np.testing.assert_array_equal(images, ours(unet, rows_of, scheduler.config.prediction_type))


@pytest.mark.parametrize("again", [False, True])
def test_the_ddim_pipeline_names_eta_and_clipping_itself(unet: UNet2DModel, again: bool) -> None:
    pipeline = DDIMPipeline(unet, DDIMScheduler(num_train_timesteps=SCHEDULE.T))
    pipeline.scheduler = PlanScheduler.of(SCHEDULE, clip_sample=True)
    images = piped(pipeline, eta=0.5, use_clipped_model_output=again)
    walk = SCHEDULE.trajectory(STEPS, "leading")
    rows_of = plan.ddim(SCHEDULE, walk, 0.5, clip=(-1.0, 1.0), rederive_eps=again)
    np.testing.assert_array_equal(images, ours(unet, rows_of, "eps"))


# --- beside their own scheduler ---------------------------------------------------------------------------------------


def table_error(schedule: NoiseSchedule, t: int, s: int, x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """How far float32 tables may lead one deterministic DDIM step astray.

    alpha_bar_t is a product of t factors ``1 - beta``: gamma_2t. Its complement loses snr_t times as much, and a root
    halves a relative error (the whole is granted, which covers products of errors). A quotient of roots, two products
    and two sums add up to six roundings more.
    """
    u = 2.0**-24

    def of_product(level: int) -> float:
        return float(gamma(2 * level, u))

    def of_complement(level: int) -> float:
        return float(schedule.snr[level]) * of_product(level) + float(gamma(2, u)) if level else 0.0

    kept = schedule.sqrt_alpha_bar[s] / schedule.sqrt_alpha_bar[t]
    pair = of_product(s) + of_product(t) + float(gamma(6, u))
    of_t = kept * schedule.sqrt_beta_bar[t] * eps.abs()
    of_s = schedule.sqrt_beta_bar[s] * eps.abs()
    own = float(gamma(1, 2.0**-53)) * 8 * (kept * x.abs() + of_t + of_s)  # what float64 data lose with us
    return kept * x.abs() * pair + of_t * (pair + of_complement(t)) + of_s * (pair + of_complement(s)) + own


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_steps_agree_with_theirs_within_the_error_of_float32_tables(spacing: str) -> None:
    theirs = DDIMScheduler(clip_sample=False, timestep_spacing=spacing)
    mine = PlanScheduler.from_scheduler(theirs)
    assert mine.schedule.beta[1:].tolist() == theirs.betas.double().tolist()
    for scheduler in (theirs, mine):
        scheduler.set_timesteps(10)
    assert theirs.timesteps.tolist() == mine.timesteps.tolist()
    levels, worst = [*(mine.timesteps + 1).tolist(), 0], 0.0
    for k, t in enumerate(mine.timesteps):
        x, eps = (
            torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in (k, 99)
        )
        got, want = (scheduler.step(eps, t, x) for scheduler in (theirs, mine))
        bound = table_error(mine.schedule, levels[k], levels[k + 1], x, eps)
        worst = max(worst, float(((got.prev_sample - want.prev_sample).abs() / bound).max()))
        if levels[k] > levels[k + 1] + 1:  # another end, the neighbour of the right one, is told from it
            wrong = plan.ddim(mine.schedule, (levels[k], levels[k + 1] + 1, 0))
            off = advance(rows(wrong, "eps", x.dtype, x.device)[0], x, eps)
            assert bool(((off - want.prev_sample).abs() > bound).any())
    assert 1e-3 < worst <= 1  # neither beyond the bound nor out of its sight


def test_from_scheduler_takes_kind_stages_and_variance() -> None:
    ddpm = PlanScheduler.from_scheduler(DDPMScheduler(variance_type="fixed_large_log", timestep_spacing="trailing"))
    assert (ddpm.config.kind, ddpm.config.clip_sample, ddpm.config.timestep_spacing) == ("ancestral", True, "trailing")
    ddpm.set_timesteps(4)
    expected = plan.ancestral(ddpm.schedule, ddpm.schedule.trajectory(4, "trailing"), "beta", clip=(-1.0, 1.0))
    assert ddpm._plan(None, None).noise.tolist() == expected.noise.tolist()
    ddim = PlanScheduler.from_scheduler(
        DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"), eta=0.25
    )
    assert (ddim.config.kind, ddim.config.eta, ddim.config.rederive_eps) == ("ddim", 0.25, False)
    assert ddim.schedule.alpha_bar[-1] == 0
    with pytest.raises(RangeError, match="variance_type = 'learned_range' is not known; write one of 'fixed_small'"):
        PlanScheduler.from_scheduler(DDPMScheduler(variance_type="learned_range"))
    with pytest.raises(RangeError, match="pass a scheduler of diffusers"):
        PlanScheduler.from_scheduler(object())


# --- configurations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_saved_scheduler_comes_back_the_same(name: str, tmp_path: Any) -> None:
    first = PlanScheduler.of(SCHEDULE, timestep_spacing="trailing", **CASES[name][0])
    first.save_pretrained(tmp_path)
    second = PlanScheduler.from_pretrained(tmp_path)
    third = PlanScheduler.from_config(first.config)
    x, answer = torch.randn((2, *SHAPE), generator=generator())
    states = []
    for scheduler in (first, second, third):
        scheduler.set_timesteps(STEPS)
        assert scheduler.schedule == SCHEDULE
        states.append(scheduler.step(answer, scheduler.timesteps[1], x, generator()).prev_sample)
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_configurations_of_their_schedulers_are_read_and_ours_by_them() -> None:
    theirs = DDIMScheduler(num_train_timesteps=50, beta_schedule="squaredcos_cap_v2", steps_offset=1)
    mine = PlanScheduler.from_config(theirs.config)
    assert mine.schedule == cosine_schedule(50)
    mine.set_timesteps(10)
    theirs.set_timesteps(10)
    assert mine.timesteps.tolist() == theirs.timesteps.tolist()
    back = DDPMScheduler.from_config(PlanScheduler.of(SCHEDULE, timestep_spacing="trailing").config)
    assert back.config.timestep_spacing == "trailing"
    np.testing.assert_array_equal(back.betas.numpy(), SCHEDULE.beta[1:].astype(np.float32))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, linear_schedule()),
        ({"beta_schedule": "linear", "num_train_timesteps": 10}, linear_schedule(10)),
        ({"rescale_betas_zero_snr": True, "num_train_timesteps": 10}, zero_terminal_snr(linear_schedule(10))),
        ({"trained_betas": np.array([0.25, 0.5]), "num_train_timesteps": 2}, NoiseSchedule.from_betas([0.25, 0.5])),
    ],
)
def test_noise_schedules(settings: dict[str, Any], expected: NoiseSchedule) -> None:
    assert PlanScheduler(**settings, prediction_type="v_prediction").schedule == expected


# --- single steps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_step_is_the_row_of_the_plan_rounded_once(dtype: torch.dtype) -> None:
    scheduler = PlanScheduler.of(SCHEDULE, kind="ancestral")
    scheduler.set_timesteps(STEPS)
    x, eps, z = torch.randn((3, *SHAPE), generator=generator()).to(dtype)
    before = x.clone()
    got = scheduler.step(eps, int(scheduler.timesteps[1]), x, variance_noise=z)
    row = rows(plan.ancestral(SCHEDULE, SCHEDULE.trajectory(STEPS, "leading")), "eps", dtype, x.device)[1]
    assert got.prev_sample.dtype == dtype
    assert torch.equal(got.prev_sample, advance(row, x, eps, z))
    level = int(scheduler.timesteps[1]) + 1
    assert torch.equal(got.pred_original_sample, x0_from_eps(tables(SCHEDULE), x, level, eps))
    assert torch.equal(x, before)
    assert scheduler.scale_model_input(x, 3) is x
    pair = scheduler.step(eps, scheduler.timesteps[1], x, return_dict=False, variance_noise=z)
    assert torch.equal(pair[0], got.prev_sample)
    assert torch.equal(pair[1], got.pred_original_sample)


def test_the_predicted_data_are_staged() -> None:
    x, eps = torch.randn((2, *SHAPE), generator=generator())
    for settings in ({"clip_sample": True}, {"thresholding": True, "sample_max_value": 2.0}):
        scheduler = PlanScheduler.of(SCHEDULE, **settings)
        raw = PlanScheduler.of(SCHEDULE).step(eps, 15, x).pred_original_sample
        staged = scheduler.step(eps, 15, x).pred_original_sample
        assert float(raw.abs().max()) > 1 >= float(staged.abs().max())
        assert not torch.equal(staged, torch.zeros_like(staged))


def test_noise_and_velocity_are_those_of_the_mirror_and_keep_their_noise_in_halves() -> None:
    scheduler, theirs = PlanScheduler(), DDPMScheduler()
    x0, noise = torch.randn((2, *SHAPE), generator=generator())
    t = torch.tensor([0, 999])
    assert torch.equal(scheduler.add_noise(x0, noise, t), q_sample(tables(linear_schedule()), x0, t + 1, noise))
    assert torch.equal(scheduler.get_velocity(x0, noise, t), v_target(tables(linear_schedule()), x0, t + 1, noise))
    assert len(scheduler) == len(theirs)
    zero, one = torch.zeros(1, 4, dtype=torch.bfloat16), torch.ones(1, 4, dtype=torch.bfloat16)
    first = torch.tensor([0])
    assert bool((scheduler.add_noise(zero, one, first) == torch.tensor(0.01, dtype=torch.bfloat16)).all())
    assert not theirs.add_noise(zero, one, first).any()


def test_without_a_list_every_level_is_visited() -> None:
    scheduler = PlanScheduler.of(SCHEDULE)
    assert scheduler.timesteps.tolist() == list(range(19, -1, -1))
    x, eps = torch.randn((2, *SHAPE), generator=generator())
    whole = plan.ddim(SCHEDULE, range(20, -1, -1))
    expected = advance(rows(whole, "eps", x.dtype, x.device)[3], x, eps)
    assert torch.equal(scheduler.step(eps, 16, x).prev_sample, expected)
    scheduler.set_timesteps(timesteps=[12, 3])
    assert scheduler.timesteps.tolist() == [12, 3]


def test_zero_terminal_snr_needs_another_prediction_than_eps() -> None:
    schedule = zero_terminal_snr(linear_schedule(20))
    x, v = torch.randn((2, *SHAPE), generator=generator())
    scheduler = PlanScheduler.of(schedule, prediction_type="v_prediction", timestep_spacing="trailing")
    scheduler.set_timesteps(4)
    assert bool(scheduler.step(v, 19, x).prev_sample.isfinite().all())
    with pytest.raises(RangeError, match="zero terminal SNR"):
        PlanScheduler.of(schedule, timestep_spacing="trailing").set_timesteps(4)


X, Y = torch.zeros(1, 2), torch.zeros(1, 4)
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "timestep": (lambda: PlanScheduler().step(X, 1000, X), LevelError, "timestep 1000 is not on the list 999, 998"),
    "learned": (lambda: PlanScheduler().step(Y, 0, X), ShapeError, r"shape \(1, 4\) and the sample \(1, 2\)"),
    "dtype": (lambda: PlanScheduler().step(X.double(), 0, X), PrecisionError, r"write model_output.to\(sample\)"),
    "noise": (lambda: PlanScheduler().step(X, 0, X, variance_noise=Y), ShapeError, "variance_noise has shape"),
    "eta": (lambda: PlanScheduler(kind="ancestral").step(X, 0, X, eta=0.5), RangeError, "eta = 0.5 for ancestral"),
    "eta of the kind": (lambda: PlanScheduler(kind="ancestral", eta=0.5), RangeError, "which has none; write kind='ddim'"),
    "eta outside": (lambda: PlanScheduler(eta=2.0).set_timesteps(4), RangeError, "eta"),
    "kind": (lambda: PlanScheduler(kind="heun"), RangeError, "write one of 'ancestral', 'ddim', 'analytic'"),
    "prediction": (lambda: PlanScheduler(prediction_type="flow"), RangeError, "prediction_type = 'flow'"),
    "variances missing": (lambda: PlanScheduler(kind="analytic"), RangeError, "the variances of x0, one per level 0..T"),
    "variances unused": (lambda: PlanScheduler(x0_variance=[0.0] * 1001), RangeError, "belong to kind='analytic'"),
    "variance unknown": (
        lambda: PlanScheduler(kind="analytic", x0_variance=[None] * 1001).set_timesteps(4), RangeError, "not known|NaN|nan",
    ),
    "lengths": (lambda: PlanScheduler(trained_betas=[0.5]), ScheduleError, "write num_train_timesteps=1"),
    "name": (lambda: PlanScheduler(beta_schedule="laplace"), RangeError, "'laplace' is not known; .*from_scheduler"),
    "steps": (lambda: PlanScheduler().set_timesteps(1001), ScheduleError, "steps = 1001"),
    "neither": (lambda: PlanScheduler().set_timesteps(), ScheduleError, "one of num_inference_steps and timesteps"),
    "ascending": (lambda: PlanScheduler().set_timesteps(timesteps=[3, 12]), ScheduleError, "descending"),
    "offset": (lambda: PlanScheduler(steps_offset=1).set_timesteps(1000), ScheduleError, "steps_offset = 1 leads from level 1000"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage_is_named(name: str) -> None:
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call()


def test_nothing_is_loaded_before_it_is_used() -> None:
    code = (
        "import sys, ddpm_ref.interop, ddpm_ref.conformance.diffusers_adapter;"
        "print('diffusers' in sys.modules, 'torch' in sys.modules, dir(ddpm_ref.interop))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False False ['PlanScheduler']"
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        importlib.import_module("ddpm_ref.interop").Nothing  # noqa: B018 - the access is the test


def test_without_diffusers_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    monkeypatch.delitem(sys.modules, "ddpm_ref.interop.diffusers")
    with pytest.raises(
        MissingExtraError, match=r"diffusers is not installed; write: pip install 'ddpm-ref\[diffusers\]'"
    ):
        importlib.import_module("ddpm_ref.interop.diffusers")
