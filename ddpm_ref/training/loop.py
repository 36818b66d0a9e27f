"""The training loop: Algorithm 1 until a limit is reached or somebody presses Ctrl-C."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import torch

from ddpm_ref.errors import RangeError
from ddpm_ref.files import claim_folder
from ddpm_ref.nn import UNet
from ddpm_ref.sampling.denoiser import Denoiser
from ddpm_ref.sampling.noise import Stream, keyed_generator, keyed_seed
from ddpm_ref.torch.tables import Tables
from ddpm_ref.torch.tables import tables as tables_of
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.config import Config
from ddpm_ref.training.data import Images, load
from ddpm_ref.training.objective import Draw, draw, even_levels, simple_loss
from ddpm_ref.training.progress import Progress, Report

CHECKPOINT_NAME = "checkpoint.safetensors"
_WINDOW = 100  # steps over which the loss shown is averaged


@dataclass(frozen=True, eq=False)
class Run:
    """What `fit` returns."""

    checkpoint: Checkpoint
    """The trained weights with their config, schedule and loss history."""
    held_out_loss: float
    """Mean loss on the held-out images, over levels spread evenly and fixed noise."""
    stopped: str
    """Why it ended: ``steps``, ``time`` or ``interrupted``."""
    path: Path | None
    """Where the checkpoint was written, if anywhere."""


def fit(
    config: Config,
    output: Path | str | None = None,
    progress: Report | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Run:
    r"""Train a denoiser.

    Repeats: draw examples x0, levels t uniform on 1..T and one noise eps per example; make one step of Adam on

    .. math::
        \tfrac1d\lVert \varepsilon - \epsilon_\theta(x_t, t) \rVert^2,
        \qquad x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{\bar\beta_t}\, \varepsilon

    averaged over the batch.

    Args:
        config: everything that decides the result.
        output: folder for the checkpoint; nothing is written if None.
        progress: told after every step; may raise KeyboardInterrupt to stop.
        device: where to compute.

    Returns:
        the run. Pressing Ctrl-C ends the loop after the step being made and loses nothing; a second one aborts, and the
        last checkpoint stays.

    Raises:
        OutputError: results cannot be written to ``output``; found out before training starts.
        RangeError: the loss or its gradient is no longer finite; the last checkpoint stays.

    Limits: deterministic on one CPU with one number of threads, if ended by ``max_steps``. Torch's global random
    state is left as it was. Source: ho2020, algorithm 1.
    """
    path = None if output is None else claim_folder(Path(output)) / CHECKPOINT_NAME
    images = load(config.dataset)
    place = torch.device(device)
    random_states = [place] if place.type == "cuda" else []
    with torch.random.fork_rng(devices=random_states), _postponed_interrupt() as interrupted:
        trainer = _Trainer(config, images, place)
        stopped = _loop(trainer, progress, interrupted, path)
        checkpoint = trainer.checkpoint()
        if path is not None:
            checkpoint.save(path)
        return Run(checkpoint, trainer.held_out_loss(), stopped, path)


class _Trainer:
    # The moving parts of a run: everything that changes from step to step is here.
    def __init__(self, config: Config, images: Images, device: torch.device) -> None:
        self.config = config
        self.images = images
        self.schedule = config.schedule.build()
        self.tables: Tables = tables_of(self.schedule).to(device)
        self.data = images.train.to(device)
        torch.manual_seed(keyed_seed(Stream.WEIGHTS, config.seed))
        self.network = UNet(config.network).to(device).train()
        self.denoiser = Denoiser(self.network, config.prediction, config.time_code)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)
        self.losses: list[float] = []
        self.seconds = 0.0

    def step(self) -> None:
        config, number = self.config, len(self.losses) + 1
        torch.manual_seed(keyed_seed(Stream.DROPOUT, config.seed, number))
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate_at(number, self.fraction())
        drawn = draw(self.data, self.schedule.T, config.batch_size, config.seed, number)
        loss = simple_loss(self.denoiser, self.tables, drawn, config.loss).mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        longest = math.inf if config.max_gradient_norm is None else config.max_gradient_norm
        length = torch.nn.utils.clip_grad_norm_(self.network.parameters(), longest)
        if not math.isfinite(loss.item()) or not math.isfinite(length.item()):
            raise RangeError(
                f"the loss is {loss.item()} and its gradient has length {length.item()} at step {number}; "
                f"lower learning_rate ({config.learning_rate}) or max_gradient_norm ({config.max_gradient_norm}). "
                "The last checkpoint, if one was written, stays"
            )
        self.optimizer.step()
        self.losses.append(loss.item())

    def fraction(self) -> float:
        # The share of the run that is over, by whichever limit is nearer.
        steps, seconds = self.config.max_steps, self.config.max_seconds
        by_steps = len(self.losses) / steps if steps is not None else 0.0
        by_time = self.seconds / seconds if seconds is not None else 0.0
        return min(1.0, max(by_steps, by_time))

    def checkpoint(self) -> Checkpoint:
        weights = {name: weight.detach().cpu().clone() for name, weight in self.network.state_dict().items()}
        losses = np.asarray(self.losses, dtype=np.float64)
        return Checkpoint(self.config, self.schedule, self.images.shape, weights, losses, self.seconds)

    @torch.no_grad()
    def held_out_loss(self) -> float:
        x0 = self.images.held_out.to(self.data.device)
        generator = keyed_generator(x0.device, Stream.HELD_OUT, 0)  # the same noise for every run
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        t = even_levels(len(x0), self.schedule.T).to(x0.device)
        parts = zip(*(torch.split(column, 256) for column in (x0, t, noise)), strict=True)
        with self.denoiser.evaluating():
            losses = [simple_loss(self.denoiser, self.tables, Draw(*part), self.config.loss) for part in parts]
        return float(torch.cat(losses).mean())

    def progress(self) -> Progress:
        limits: list[float] = []
        if self.config.max_seconds is not None:
            limits.append(self.config.max_seconds - self.seconds)
        if self.config.max_steps is not None:
            limits.append((self.config.max_steps - len(self.losses)) * self.seconds / len(self.losses))
        recent = self.losses[-_WINDOW:]
        return Progress(
            "train",
            len(self.losses),
            self.config.max_steps,
            self.seconds,
            max(0.0, min(limits)),
            sum(recent) / len(recent),
        )


def _loop(trainer: _Trainer, report: Report | None, interrupted: Callable[[], bool], path: Path | None) -> str:
    config = trainer.config
    start = saved = time.monotonic()
    while True:
        trainer.step()
        now = time.monotonic()
        trainer.seconds = now - start
        if path is not None and now - saved >= config.checkpoint_seconds:
            trainer.checkpoint().save(path)
            saved = now
        try:
            if report is not None:
                report(trainer.progress())
        except KeyboardInterrupt:
            return "interrupted"
        if interrupted():
            return "interrupted"
        if config.max_steps is not None and len(trainer.losses) >= config.max_steps:
            return "steps"
        if config.max_seconds is not None and trainer.seconds >= config.max_seconds:
            return "time"


@contextlib.contextmanager
def _postponed_interrupt() -> Iterator[Callable[[], bool]]:
    # Ctrl-C in the middle of an optimiser step would leave some weights new and some old; so it is noted and asked for
    # between steps. Other people's signal handlers, and threads other than the main one, are let be.
    asked = threading.Event()
    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield asked.is_set
        return

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
