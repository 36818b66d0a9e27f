"""A scheduler for the pipelines of diffusers whose steps are the rows of this package's plans.

Levels there are 0-based: timestep t is the paper's level t + 1. Coefficients come from the exact tables, correctly rounded
to float64, and are computed with in float32 for float32 and halves; each step knows from its row where it ends, so that no
spacing can disagree with its steps.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ScheduleError, ShapeError
from ddpm_ref.extras import require
from ddpm_ref.interop import configured
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.schedule import NoiseSchedule, Trajectory
from ddpm_ref.sampling.rows import Row, advance, rows
from ddpm_ref.torch import tables
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.plan import dynamic_threshold
from ddpm_ref.torch.prediction import NAMES, convert, v_target
from ddpm_ref.torch.tables import Tables
from ddpm_ref.typing import AnyArray

require("diffusers", "diffusers")
from diffusers.configuration_utils import ConfigMixin, register_to_config  # noqa: E402 - after the friendlier error
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput  # noqa: E402
from diffusers.schedulers.scheduling_utils import SchedulerMixin  # noqa: E402
from diffusers.utils.torch_utils import randn_tensor  # noqa: E402


class PlanScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc] # diffusers carries no types
    r"""Ancestral sampling, DDIM and Analytic-DPM as a scheduler of diffusers.

    .. math:: x_s = a_k\,x_t + b_k\,\hat y_\theta(x_t, t) + c_k\,z

    Args:
        num_train_timesteps: T.
        beta_schedule, beta_start, beta_end: ``"linear"``, ``"scaled_linear"``, ``"squaredcos_cap_v2"`` or ``"sigmoid"``.
        trained_betas: T numbers instead of a name.
        rescale_betas_zero_snr: shift and scale to zero terminal SNR (predict ``sample`` or ``v_prediction`` then).
        kind: ``"ancestral"``, ``"ddim"`` or ``"analytic"``.
        variance_type: of ancestral sampling: ``"fixed_small"`` (the posterior's) or ``"fixed_large"`` (beta).
        eta: of the DDIM family, in [0, 1]; 0 by default for DDIM, 1 for Analytic-DPM.
        x0_variance: of Analytic-DPM: variances of the data given x_t, one per level 0..T; None where not known.
        prediction_type: ``"epsilon"``, ``"sample"`` or ``"v_prediction"``.
        timestep_spacing: ``"leading"``, ``"linspace"``, ``"trailing"``, or another spacing of
            `ddpm_ref.reference.trajectory`.
        steps_offset: moves the levels of ``leading`` up.
        clip_sample, clip_sample_range: clip a predicted x0 to [-range, range].
        thresholding, dynamic_thresholding_ratio, sample_max_value: dynamic thresholding instead.
        rederive_eps: after clipping, the noise of a DDIM step is that of the clipped x0 (False: the network's own).

    Raises:
        RangeError, ScheduleError: arguments of which no plan can be made.

    Limits: the last step leads to clean data; there is nothing like ``set_alpha_to_one=False``. Source: ho2020, algorithm 2;
    song2020ddim, eq. (12); bao2022, eq. (3).

    >>> scheduler = PlanScheduler(timestep_spacing="trailing")
    >>> scheduler.set_timesteps(4)
    >>> scheduler.timesteps.tolist()
    [999, 749, 499, 249]
    """

    order = 1
    init_noise_sigma = 1.0
    _compatibles = ["DDPMScheduler", "DDIMScheduler"]  # noqa: RUF012 - a list, as in the class above

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        beta_start: float | int = 1e-4,
        beta_end: float | int = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Sequence[float] | AnyArray | None = None,
        rescale_betas_zero_snr: bool = False,
        kind: str = "ddim",
        variance_type: str = "fixed_small",
        eta: float | int | None = None,
        x0_variance: Sequence[float | None] | None = None,
        prediction_type: str = "epsilon",
        timestep_spacing: str = "leading",
        steps_offset: int = 0,
        clip_sample: bool = False,
        clip_sample_range: float | int = 1.0,
        thresholding: bool = False,
        dynamic_thresholding_ratio: float = 0.995,
        sample_max_value: float | int = 1.0,
        rederive_eps: bool = True,
    ):
        configured.check(self.config)
        self.schedule: NoiseSchedule = configured.schedule_of(self.config)
        self._tables: Tables = tables(self.schedule)
        self.num_inference_steps: int | None = None
        self._plans: dict[tuple[float | int | None, bool | None], Plan] = {}
        self._begin(Trajectory(tuple(range(self.schedule.T, -1, -1))), None)

    @classmethod
    def of(cls, schedule: NoiseSchedule, **settings: Any) -> PlanScheduler:
        """The scheduler of a noise schedule of this package; ``settings`` as for the class.

        >>> from ddpm_ref import cosine_schedule
        >>> len(PlanScheduler.of(cosine_schedule(50), kind="ancestral"))
        50
        """
        made: PlanScheduler = cls(num_train_timesteps=schedule.T, trained_betas=schedule.beta[1:].tolist(), **settings)
        return made

    @classmethod
    def from_scheduler(cls, other: Any, **settings: Any) -> PlanScheduler:
        """The scheduler that does what another one of diffusers is configured to do.

        Args:
            other: such as ``pipeline.scheduler``; its betas are taken to the last bit, and with them whatever made them.
            settings: replace what the other one says; see the class.

        A scheduler whose class has DDIM in its name becomes ``kind="ddim"`` with ``rederive_eps=False``, which is the
        default of its steps; any other becomes ``"ancestral"``. Raises `RangeError` for a learned variance, or for an
        object without betas and configuration.
        """
        if not (hasattr(other, "betas") and hasattr(other, "config")):
            raise RangeError(f"{other!r} has no betas or no config; pass a scheduler of diffusers")
        betas = other.betas.detach().cpu().double().tolist()
        implicit = "DDIM" in type(other).__name__
        known = {name: other.config[name] for name in _SHARED if name in other.config}
        if implicit:
            known.pop("variance_type", None)
        taken = {
            **known,
            "num_train_timesteps": len(betas),
            "trained_betas": betas,
            "kind": "ddim" if implicit else "ancestral",
            "rederive_eps": not implicit,
        }
        made: PlanScheduler = cls(**{**taken, **settings})
        return made

    # --- what pipelines ask ----------------------------------------------------------------------------------------------

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        """Choose the levels of a chain: so many steps of the configured spacing, or descending 0-based timesteps.

        Raises `ScheduleError` for neither or both, more steps than levels, or timesteps that do not descend within
        0..T - 1; `RangeError` where the plan needs a variance that is not known.
        """
        if (num_inference_steps is None) is (timesteps is None):
            raise ScheduleError("write one of num_inference_steps and timesteps")
        if timesteps is not None:
            walk = Trajectory((*(operator.index(t) + 1 for t in timesteps), 0))
        else:
            walk = configured.trajectory_of(self.schedule, self.config, operator.index(num_inference_steps))  # type: ignore[arg-type]
        self.num_inference_steps = walk.steps
        self._begin(walk, device)

    def scale_model_input(self, sample: Tensor, timestep: int | Tensor | None = None) -> Tensor:
        """The sample as it is: these networks see the state itself."""
        return sample

    def step(
        self,
        model_output: Tensor,
        timestep: int | Tensor,
        sample: Tensor,
        generator: torch.Generator | list[torch.Generator] | None = None,
        return_dict: bool = True,
        *,
        eta: float | int | None = None,
        use_clipped_model_output: bool | None = None,
        variance_noise: Tensor | None = None,
    ) -> DDPMSchedulerOutput | tuple[Tensor, Tensor]:
        """The state at the next level of the chain, from what the network said at this one.

        Args:
            model_output: of the network, like ``sample``.
            timestep: 0-based, one of ``timesteps``.
            sample: the state, ``(batch, ...)``.
            generator: for the noise of the step, if it has any.
            return_dict: an output with ``prev_sample`` and ``pred_original_sample``; otherwise a tuple of the two.
            eta, use_clipped_model_output: replace ``eta`` and ``rederive_eps`` of the configuration (`DDIMPipeline` always
                names an eta; ancestral sampling has none, and the pipeline's 0 says nothing).
            variance_noise: the noise itself, like ``sample``.

        Raises:
            LevelError: a timestep that is not on the list.
            ShapeError, PrecisionError: tensors that do not fit together.
            RangeError: an eta outside [0, 1], or one for ancestral sampling.
        """
        self._check(model_output, sample, variance_noise)
        level = operator.index(timestep) + 1
        if level not in self._index:
            raise LevelError(
                f"timestep {level - 1} is not on the list {_shown(self.timesteps)}; call set_timesteps, and step through "
                "scheduler.timesteps"
            )
        if self.config["kind"] == "ancestral" and eta == 0:
            eta = None
        plan, row = self._row(self._index[level], sample, eta, use_clipped_model_output)
        noise = variance_noise
        if row.noise is not None and noise is None:
            noise = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
        previous = advance(row, sample, model_output, noise, plan.clip, plan.threshold)
        original = self._original(plan, level, sample, model_output)
        if not return_dict:
            return previous, original
        return DDPMSchedulerOutput(prev_sample=previous, pred_original_sample=original)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """A draw of x_t given clean data; see `ddpm_ref.torch.forward.q_sample`. ``timesteps`` are 0-based, one per sample."""
        return q_sample(self._on(original_samples.device), original_samples, timesteps + 1, noise)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The target of v-prediction; see `ddpm_ref.torch.prediction.v_target`. ``timesteps`` are 0-based."""
        return v_target(self._on(sample.device), sample, timesteps + 1, noise)

    def __len__(self) -> int:
        return self.schedule.T

    # --- inside -----------------------------------------------------------------------------------------------------------

    def _begin(self, walk: Trajectory, device: torch.device | str | None) -> None:
        self._walk, self._plans = walk, {}
        self._index = {level: k for k, level in enumerate(walk.levels[:-1])}
        self.timesteps = torch.tensor(walk.levels[:-1], device=device) - 1
        if self.num_inference_steps is not None:
            self._plan(None, None)  # what cannot be done is said here, not in the first step

    def _plan(self, eta: float | int | None, again: bool | None) -> Plan:
        if eta is not None and self.config["kind"] == "ancestral":
            raise RangeError(f"eta = {eta!r} for ancestral sampling, which has none; write kind='ddim'")
        if (eta, again) not in self._plans:
            self._plans[eta, again] = configured.plan_of(
                self.schedule, self._walk, self.config, eta=eta, rederive_eps=again
            )
        return self._plans[eta, again]

    def _row(self, k: int, sample: Tensor, eta: float | int | None, again: bool | None) -> tuple[Plan, Row]:
        plan = self._plan(eta, again)
        return plan, rows(plan, NAMES[self.config["prediction_type"]], sample.dtype, sample.device)[k]

    def _original(self, plan: Plan, level: int, sample: Tensor, answer: Tensor) -> Tensor:
        """The predicted x0, after the stage."""
        x0 = convert(self._on(sample.device), sample, level, answer, self.config["prediction_type"], "x0")
        if plan.threshold is not None:
            return dynamic_threshold(x0, plan.threshold.percentile, plan.threshold.maximum)
        return x0 if plan.clip is None else x0.clamp(*plan.clip)

    def _on(self, device: torch.device) -> Tables:
        if self._tables.beta.device != device:
            self._tables = self._tables.to(device)
        return self._tables

    @staticmethod
    def _check(answer: Tensor, sample: Tensor, noise: Tensor | None) -> None:
        for name, tensor in (("model_output", answer), ("variance_noise", noise)):
            if tensor is None:
                continue
            if tensor.shape != sample.shape:
                raise ShapeError(
                    f"{name} has shape {tuple(tensor.shape)} and the sample {tuple(sample.shape)}; they must be alike (of a "
                    "network with a learned variance pass the first half of the channels)"
                )
            if tensor.dtype != sample.dtype or tensor.device != sample.device:
                raise PrecisionError(
                    f"{name} is {tensor.dtype} on {tensor.device} and the sample {sample.dtype} on {sample.device}; "
                    f"write {name}.to(sample)"
                )


_SHARED = (
    "variance_type", "prediction_type", "timestep_spacing", "steps_offset", "clip_sample", "clip_sample_range", "thresholding",
    "dynamic_thresholding_ratio", "sample_max_value",
)  # fmt: skip


def _shown(timesteps: Tensor) -> str:
    listed = timesteps.tolist()
    return ", ".join(map(str, listed[:6])) + (", ..." if len(listed) > 6 else "")
