"""The training loop: Algorithm 1 until a limit is reached or somebody presses Ctrl-C."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ddpm_ref.errors import RangeError
from ddpm_ref.sampling.device import usable
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.config import Config
from ddpm_ref.training.data import load
from ddpm_ref.training.folder import CHECKPOINT_NAME, RunFolder, open_run
from ddpm_ref.training.interruption import postponed
from ddpm_ref.training.progress import Progress, Report
from ddpm_ref.training.trainer import Trainer, refuse_unfit

__all__ = ["CHECKPOINT_NAME", "WINDOW", "Run", "fit"]

WINDOW = 100
"""Steps over which a loss that is shown is averaged."""


@dataclass(frozen=True, eq=False)
class Run:
    """What `fit` returns."""

    checkpoint: Checkpoint
    """The trained weights with everything that goes with them."""
    held_out_loss: float
    """Mean loss on the held-out images, over levels spread evenly and fixed noise; of the averaged weights, if any."""
    stopped: str
    """Why it ended: ``steps``, ``time`` or ``interrupted``."""
    path: Path | None
    """Where the checkpoint was written, if anywhere."""
    accuracy: dict[int, float] | None = None
    """Of a classifier: how often it is right on the held-out images, by level, with the same noise for every run."""
    held_out_parts: Mapping[str, float] = field(default_factory=dict)
    """The parts of the held-out loss, by name, where it is a sum."""


def fit(
    config: Config,
    output: Path | str | None = None,
    progress: Report | None = None,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
) -> Run:
    r"""Train a denoiser, or a classifier of noisy images.

    Repeats: draw examples x0, levels t uniform on 1..T and one noise eps per example; make one step of Adam on

    .. math::
        \tfrac1d\lVert \varepsilon - \epsilon_\theta(x_t, t) \rVert^2,
        \qquad x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{\bar\beta_t}\, \varepsilon

    (or on its relatives, see `ddpm_ref.training.objective` and, for a classifier,
    `ddpm_ref.training.noisy_classifier.label_loss`) averaged over the batch, and take the new weights into their moving
    average. A network with classes is told the labels, of which some, at random, are withheld.

    Args:
        config: everything that decides the result.
        output: folder for ``checkpoint.safetensors``, the one before it and ``log.jsonl``; nothing is written if None.
        progress: told after every step; may raise KeyboardInterrupt to stop.
        device: where to compute.
        resume: go on from the latest checkpoint in ``output``. A run in parts is, bit for bit, the run in one piece.
        overwrite: replace the run in ``output``, if there is one. It stays until the first new checkpoint is written.

    Returns:
        the run. Pressing Ctrl-C (or SIGTERM, or SIGHUP) ends the loop after the step being made and loses nothing; a second one
        aborts, and the last checkpoint stays.

    Raises:
        OutputError: results cannot be written to ``output``, or it holds a run and neither ``resume`` nor ``overwrite``
            was said; found out before training starts.
        CheckpointError: nothing to resume.
        RangeError: a config that is not that of the run to be resumed; a device that is not there; data of a shape that the
            network does not take, labels beyond its classes, or data off the grid of their levels where the loss is a bound
            (all of these before anything is written); the loss or its gradient is no longer finite (the last checkpoint
            stays).

    Warns `DamagedCheckpointWarning` where the latest checkpoint is damaged and the one before it is resumed.

    Limits: deterministic on one CPU with one number of threads, if ended by ``max_steps``. Torch's global random
    state is left as it was. Source: ho2020, algorithm 1.
    """
    if resume and overwrite:
        raise RangeError("resume and overwrite are both True; go on with the run, or replace it")
    if output is None and (resume or overwrite):
        raise RangeError("resume and overwrite are about a run in a folder; name it as output")
    place = usable(device)
    images = load(config.dataset)
    refuse_unfit(config, images)
    random_states = [place] if place.type == "cuda" else []
    with contextlib.ExitStack() as stack:
        run = None
        if output is not None:
            run = stack.enter_context(open_run(Path(output), config, str(place), resume=resume, overwrite=overwrite))
        stack.enter_context(torch.random.fork_rng(devices=random_states))
        interrupted = stack.enter_context(postponed())
        trainer = Trainer(config, images, place, run.start if run is not None else None)
        stopped = _loop(trainer, progress, interrupted, run)
        checkpoint = trainer.checkpoint()
        if run is not None:
            run.save(checkpoint)
        held_out, accuracy = trainer.held_out(), trainer.accuracy()
        held_out_loss = held_out.pop("loss")
        if run is not None:
            more = {"accuracy": accuracy, "held_out_parts": held_out}
            said = {name: value for name, value in more.items() if value}
            run.log.event("end", step=trainer.steps, stopped=stopped, held_out_loss=held_out_loss, **said)
        path = None if run is None else run.checkpoint_path
        return Run(checkpoint, held_out_loss, stopped, path, accuracy, held_out)


def _loop(trainer: Trainer, report: Report | None, interrupted: Callable[[], bool], run: RunFolder | None) -> str:
    config, before = trainer.config, trainer.seconds
    start = saved = time.monotonic()
    parts: deque[dict[str, float]] = deque(maxlen=WINDOW)
    while (limit := _limit_reached(trainer)) is None:
        rate = trainer.learning_rate()
        trainer.step()
        parts.append(trainer.parts)
        now = time.monotonic()
        trainer.seconds = before + now - start
        if run is not None:
            _log_step(trainer, rate, run)
            if now - saved >= config.checkpoint_seconds:
                run.save(trainer.checkpoint())
                saved = now
        try:
            if report is not None:
                report(_progress(trainer, parts))
        except KeyboardInterrupt:
            return "interrupted"
        if interrupted():
            return "interrupted"
    return limit


def _limit_reached(trainer: Trainer) -> str | None:
    config = trainer.config
    if config.max_steps is not None and trainer.steps >= config.max_steps:
        return "steps"
    if config.max_seconds is not None and trainer.seconds >= config.max_seconds:
        return "time"
    return None


def _log_step(trainer: Trainer, rate: float, run: RunFolder) -> None:
    if trainer.steps == 1 or trainer.steps % trainer.config.log_every == 0:
        run.log.step(
            step=trainer.steps,
            loss=trainer.losses[-1],
            learning_rate=rate,
            gradient_norm=trainer.gradient_norm,
            seconds=trainer.seconds,
            **trainer.parts,
        )


def _progress(trainer: Trainer, parts: Sequence[Mapping[str, float]]) -> Progress:
    recent = trainer.losses[-WINDOW:]
    means = {name: sum(part[name] for part in parts) / len(parts) for name in trainer.parts}
    return Progress(
        "train",
        trainer.steps,
        trainer.config.max_steps,
        trainer.seconds,
        trainer.remaining(),
        sum(recent) / len(recent),
        means,
    )
