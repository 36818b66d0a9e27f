"""The schedulers of diffusers before the laws: what is wrong with them is found and named, what is right is let be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance import check
from ddpm_ref.conformance.diagnosis import kind_of
from ddpm_ref.conformance.diffusers_adapter import (
    DiffusersAdapter,
    DiffusersDDIM,
    DiffusersDDIMParallel,
    DiffusersDDPM,
    DiffusersDDPMParallel,
)
from ddpm_ref.conformance.judge import Court
from ddpm_ref.errors import AdapterError, LevelError
from ddpm_ref.laws import REGISTRY, NumpySource
from ddpm_ref.laws.spacing import SPACINGS

FP64, FP32, BF16 = Claim("fp64"), Claim("fp32"), Claim("bf16")
DDPM, DDIM = DiffusersDDPM(), DiffusersDDIM()
FEW = 6


def names(adapter: DiffusersAdapter, law: str, claim: Claim, examples: int = FEW) -> set[str]:
    """By which mistakes a violated law is called: those that explain everything, or the nearest one."""
    finding = check(adapter, law, max_examples=examples, claims=[claim]).findings[0]
    assert finding.verdict == "VIOLATED", (law, finding.worst)
    found = {mistake.name for violation in finding.violations for mistake in violation.mistakes}
    return found or {violation.nearest[0].name for violation in finding.violations if violation.nearest}


DEFECTS = [
    # In ancestral steps and in their variances: a logarithm where a variance belongs.
    (DiffusersDDPM("fixed_large_log"), "ancestral/step", FP64, "logarithm_used_as_variance_and_last_step_known_by_its_level"),
    (DiffusersDDPM("fixed_large_log"), "reverse/variance", FP64, "logarithm_of_the_larger_variance"),
    # Chains whose steps do not lead to the next level of their list.
    (DDIM, "spacing/ddim_moments", FP64, "previous_level_at_even_distance"),
    (DiffusersDDPMParallel(), "spacing/ancestral_moments", FP64, "mean_of_steps_at_even_distance"),
    (DDPM, "spacing/ancestral_moments", FP64, "last_step_known_by_its_level"),
    (DDPM, "spacing/levels", FP64, "range_of_floats_with_a_level_too_many"),
    # Digits: a table cast before it is subtracted from 1, or a float32 one subtracted.
    (DDPM, "forward/q_sample", BF16, "complement_after_cast_to_storage"),
    (DDIM, "prediction/v_target", BF16, "complement_after_cast_to_storage"),
    (DDPM, "forward/q_sample", FP32, "one_minus_rounded_product"),
    (DDPM, "schedule/laplace_betas", FP64, "root_of_alpha_bar_taken_for_it"),
]  # fmt: skip
SELDOM = ("reverse/variance", "prediction/v_target", "spacing/ancestral_moments")
DEFECT_CASES = [
    pytest.param(
        *case,
        id="-".join((case[0].default, case[1], case[2].store)),
        marks=[pytest.mark.full] if case[1] in SELDOM else [],
    )
    for case in DEFECTS
]


@pytest.mark.parametrize(("adapter", "law", "claim", "mistake"), DEFECT_CASES)
def test_a_live_defect_is_found_unaided_and_named(
    adapter: DiffusersAdapter, law: str, claim: Claim, mistake: str
) -> None:
    assert names(adapter, law, claim, 20 if law.startswith("spacing") else FEW) == {mistake}


def kinds(adapter: DiffusersAdapter, law: str, cases: int = 6) -> set[str]:
    """How the answers of an adapter in float64 are wrong, where they are: small cases, and one large."""
    court, source, found = Court(adapter), NumpySource(np.random.default_rng(4), pooled=True), set()
    for _ in range(cases):
        judged = court.judge(REGISTRY[law], REGISTRY[law].cases(source, FP64))
        if judged.worst > 1:
            found.add(kind_of(judged))
    return found


FORWARD = ["schedule/alpha_bar", "schedule/linear_betas", "forward/q_sample"]
PREDICTION = ["prediction/x0_from_eps", "prediction/x0_from_v", "prediction/v_target", "prediction/clip_x0"]
RIGHT = [
    *((adapter, law) for adapter in (DDPM, DDIM) for law in (*FORWARD, *PREDICTION, "plan/dynamic_threshold")),
    *((DDPM, f"reverse/{law}") for law in ("mean_from_eps", "mean_from_x0", "variance", "learned_variance")),
    (DiffusersDDPM("fixed_small_log"), "reverse/variance"),
    (DDPM, "schedule/beta_tilde"),
    (DiffusersDDPMParallel(), "reverse/mean_from_eps"),
    (DDIM, "ddim/std"),
    (DDIM, "ddim/step_from_x0"),
    (DDIM, "ddim/step_from_eps"),
    (DiffusersDDIMParallel(), "ddim/step_from_eps"),
]


@pytest.mark.parametrize(("adapter", "law"), RIGHT, ids=[f"{adapter.default}-{law}" for adapter, law in RIGHT])
def test_what_is_right_is_called_wrong_by_nothing_but_lost_digits(adapter: DiffusersAdapter, law: str) -> None:
    assert kinds(adapter, law) <= {"rounding"}


@pytest.mark.parametrize(
    "law", ["schedule/alpha_bar", "schedule/linear_betas", "prediction/clip_x0", "plan/dynamic_threshold"]
)
def test_what_does_not_cancel_holds(law: str) -> None:
    finding = check(DDPM, law, max_examples=FEW).findings[0]
    assert finding.verdict == "holds", finding.violations


class OneList(DDIMScheduler):
    """Goes to the next timestep of its own list."""

    def step(self, model_output: Any, timestep: Any, sample: Any, **arguments: Any) -> Any:
        listed = self.timesteps.tolist()
        k = listed.index(int(timestep))
        after = listed[k + 1] if k + 1 < len(listed) else -1
        told = self.config.num_train_timesteps
        self.register_to_config(num_train_timesteps=(int(timestep) - after) * self.num_inference_steps)
        try:
            return super().step(model_output, timestep, sample, **arguments)
        finally:
            self.register_to_config(num_train_timesteps=told)


def spaced(adapter: DiffusersAdapter, law: str, spacing: str, cases: int = 30) -> set[str]:
    """How whole samplers of one spacing are wrong, where they are."""
    court, source, found = Court(adapter), NumpySource(np.random.default_rng(5), pooled=True), set()
    for _ in range(cases):
        case = REGISTRY[law].cases(source, FP64)
        if SPACINGS[int(case.spacing)] == spacing:
            judged = court.judge(REGISTRY[law], case)
            found |= {kind_of(judged)} if judged.worst > 1 else set()
    return found


CHAINS = [
    (DDIM, "ddim_moments", "leading", True),
    (DDIM, "ddim_moments", "linspace", False),
    (DiffusersDDIM(OneList), "ddim_moments", "linspace", True),
    (DDPM, "ancestral_moments", "linspace", True),
    (DDPM, "ancestral_moments", "trailing", False),
]
MORE_CHAINS = [
    (DDIM, "ddim_moments", "trailing", False),
    (DiffusersDDIM(OneList), "ddim_moments", "trailing", True),
    (DDPM, "ancestral_moments", "leading", True),
    (DiffusersDDPMParallel(), "ancestral_moments", "leading", True),
    (DiffusersDDPMParallel(), "ancestral_moments", "linspace", False),
    (DiffusersDDIMParallel(), "ddim_moments", "linspace", False),
]


@pytest.mark.parametrize(
    ("adapter", "law", "spacing", "right"),
    [*CHAINS, *(pytest.param(*chain, marks=pytest.mark.full) for chain in MORE_CHAINS)],
)
def test_the_spacings_in_which_a_chain_is_right(adapter: DiffusersAdapter, law: str, spacing: str, right: bool) -> None:
    assert ("logic" not in spaced(adapter, f"spacing/{law}", spacing)) is right


def test_the_level_too_many_is_really_there() -> None:
    """Without any adapter: sixty-one steps of a thousand levels."""
    for made in (DDPMScheduler, DDIMScheduler):
        scheduler = made(timestep_spacing="trailing")
        scheduler.set_timesteps(61)
        assert len(scheduler.timesteps) == 62
        assert int(scheduler.timesteps[-1]) == -1


# --- the adapter itself -----------------------------------------------------------------------------------------------


def test_float64_tables_come_from_the_same_code() -> None:
    betas = np.linspace(1e-4, 0.02, 50)
    own, wide = (DDPM.schedule(betas).of(dtype) for dtype in (torch.float32, torch.float64))
    assert (own.alphas_cumprod.dtype, wide.alphas_cumprod.dtype) == (torch.float32, torch.float64)
    assert wide.betas.tolist() == betas.tolist()
    assert torch.equal(wide.alphas_cumprod, torch.cumprod(1 - torch.from_numpy(betas), 0))
    assert torch.equal(own.alphas_cumprod, torch.cumprod(1 - torch.from_numpy(betas).float(), 0))
    assert torch.get_default_dtype() == torch.float32
    assert torch.zeros(1, dtype=torch.float32).dtype == torch.float32


def test_without_float64_tables_only_what_ships_is_claimed() -> None:
    as_shipped = DiffusersDDPM(float64_tables=False)
    assert as_shipped.claims == (FP32, BF16)
    assert as_shipped.alpha_bar(as_shipped.schedule(np.array([0.5]))).dtype == torch.float32
    assert kinds(DDPM, "schedule/alpha_bar") == set()


@pytest.mark.parametrize("scheduler", ["DDPMScheduler", DDPMScheduler, DDPMScheduler(variance_type="fixed_large")])
def test_a_scheduler_is_a_name_a_class_or_an_object(scheduler: Any) -> None:
    adapter = DiffusersDDPM("fixed_large_log", scheduler)
    assert adapter.name.endswith("DDPMScheduler (fixed_small, fixed_large_log)")
    made = adapter.schedule(np.array([0.25, 0.5])).of(torch.float32, variance_type="fixed_large")
    assert made.config.clip_sample is False
    assert made.betas.tolist() == [0.25, 0.5]


def test_what_a_user_told_a_scheduler_is_kept() -> None:
    told = DDIMScheduler(set_alpha_to_one=False, clip_sample=True, timestep_spacing="trailing", num_train_timesteps=7)
    made = DiffusersDDIM(told).schedule(np.array([0.25, 0.5])).of(torch.float64)
    assert float(made.final_alpha_cumprod) == 0.75
    assert (made.config.clip_sample, made.config.num_train_timesteps) == (False, 2)


def test_wrong_usage_is_named() -> None:
    with pytest.raises(AdapterError, match="diffusers has no 'DDPMScheduller'"):
        DiffusersDDPM(scheduler="DDPMScheduller")
    with pytest.raises(AdapterError, match="no scheduler of diffusers; write a name"):
        DiffusersDDIM(3)
    with pytest.raises(AdapterError, match="variance_type = 'learned' is no fixed variance; write one of fixed_small"):
        DiffusersDDPM("learned")
    with pytest.raises(LevelError, match="level 0, clean data, has no index"):
        DDPM.q_sample(DDPM.schedule(np.array([0.5])), torch.zeros(2), 0, torch.zeros(2))


def test_the_parallel_ddpm_takes_no_custom_list() -> None:
    assert hasattr(DDPM, "ancestral_sample")
    assert not hasattr(DiffusersDDPMParallel(), "ancestral_sample")
