import os
import signal
import threading

import numpy as np
import pytest
import torch

from ddpm_ref.errors import OutputError, RangeError
from ddpm_ref.nn import UNetConfig
from ddpm_ref.training import Checkpoint, fit, trainer
from ddpm_ref.training.loop import CHECKPOINT_NAME


def same(one: Checkpoint, other: Checkpoint) -> bool:
    weights = all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
    return weights and np.array_equal(one.losses, other.losses)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_equal_configs_give_equal_bits_and_other_seeds_other_ones(dropout, tiny_config):
    network = UNetConfig(width=8, multipliers=(1, 1), groups=4, dropout=dropout)
    first = fit(tiny_config(network=network))
    torch.manual_seed(123)  # must not matter
    second = fit(tiny_config(network=network))
    assert same(first.checkpoint, second.checkpoint)
    assert first.held_out_loss == second.held_out_loss
    assert not same(first.checkpoint, fit(tiny_config(network=network, seed=1)).checkpoint)


def test_torch_s_random_state_is_left_as_it_was(tiny_config):
    before = torch.get_rng_state()
    fit(tiny_config())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("prediction", "loss"), [("eps", "l2"), ("x0", "l1"), ("v", "l2")])
def test_training_lowers_the_loss(prediction, loss, tiny_config):
    run = fit(tiny_config(prediction=prediction, loss=loss, max_steps=30, batch_size=16, learning_rate=0.01))
    assert run.checkpoint.losses[-10:].mean() < 0.8 * run.checkpoint.losses[:3].mean()
    assert run.held_out_loss < 0.8 * run.checkpoint.losses[0]


def test_a_run_stops_after_its_steps_and_its_checkpoint_is_the_run(tmp_path, tiny_config):
    seen = []
    run = fit(tiny_config(), tmp_path / "new" / "run", seen.append)
    assert run.stopped == "steps"
    assert [progress.step for progress in seen] == [1, 2, 3]
    assert seen[-1].loss == pytest.approx(run.checkpoint.losses.mean(), rel=1e-12)  # rule: sums
    assert seen[-1].remaining == 0
    assert run.path == tmp_path / "new" / "run" / CHECKPOINT_NAME
    assert same(Checkpoint.load(run.path), run.checkpoint)


def test_a_run_stops_when_its_time_is_over(tiny_config):
    run = fit(tiny_config(max_steps=None, max_seconds=0.05))
    assert run.stopped == "time"
    assert run.checkpoint.seconds >= 0.05
    assert run.checkpoint.steps >= 1


def test_checkpoints_are_written_on_the_way(tmp_path, tiny_config):
    found = []
    fit(
        tiny_config(checkpoint_seconds=1e-9),
        tmp_path,
        lambda progress: found.append(Checkpoint.load(tmp_path / CHECKPOINT_NAME).steps),
    )
    assert found == [1, 2, 3]


def interrupt_by_raising():
    raise KeyboardInterrupt


def interrupt_by_signal():
    os.kill(os.getpid(), signal.SIGINT)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def hang_up():
    os.kill(os.getpid(), signal.SIGHUP)


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


@pytest.mark.parametrize("interrupt", [interrupt_by_raising, interrupt_by_signal, terminate, hang_up])
def test_an_interrupted_run_keeps_its_work(tmp_path, interrupt, tiny_config):
    before = handlers()
    run = fit(tiny_config(max_steps=50), tmp_path, lambda progress: interrupt() if progress.step == 2 else None)
    assert run.stopped == "interrupted"
    assert run.checkpoint.steps == 2
    assert same(Checkpoint.load(tmp_path / CHECKPOINT_NAME), run.checkpoint)
    assert handlers() == before


def test_somebody_else_s_handler_is_let_be(tiny_config):
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        run = fit(tiny_config(), None, lambda progress: terminate())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert (run.stopped, heard) == ("steps", [signal.SIGTERM] * 3)


@pytest.mark.parametrize("second", [interrupt_by_signal, terminate])
def test_a_second_interrupt_within_a_step_aborts_and_the_last_checkpoint_stays(
    second, tmp_path, tiny_config, monkeypatch
):
    before, right_loss = handlers(), trainer.simple_loss
    good = fit(tiny_config(), tmp_path)

    def impatient(*arguments):
        interrupt_by_signal()
        second()
        return right_loss(*arguments)

    monkeypatch.setattr(trainer, "simple_loss", impatient)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_config(seed=1), tmp_path, overwrite=True)
    assert same(Checkpoint.load(tmp_path / CHECKPOINT_NAME), good.checkpoint)
    assert handlers() == before


def test_an_interrupt_within_a_step_waits_for_its_end(tiny_config, monkeypatch):
    right_loss = trainer.simple_loss

    def interrupted(*arguments):
        interrupt_by_signal()
        return right_loss(*arguments)

    whole = fit(tiny_config(max_steps=1, cooldown=0)).checkpoint
    monkeypatch.setattr(trainer, "simple_loss", interrupted)
    monkeypatch.setattr(trainer.Trainer, "held_out", lambda self: {"loss": 0.0})
    run = fit(tiny_config(max_steps=50, cooldown=0))
    assert run.stopped == "interrupted"
    assert same(run.checkpoint, whole)


def test_training_works_in_a_thread_where_no_signal_can_be_caught(tiny_config):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(fit(tiny_config())))
    thread.start()
    thread.join()
    assert runs[0].stopped == "steps"


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_last_checkpoint(tmp_path, tiny_config):
    good = fit(tiny_config(), tmp_path)
    wild = tiny_config(learning_rate=1e30, warmup_steps=0, max_gradient_norm=None, max_steps=20)
    with pytest.raises(RangeError, match="lower learning_rate"):
        fit(wild, tmp_path, overwrite=True)
    assert same(Checkpoint.load(tmp_path / CHECKPOINT_NAME), good.checkpoint)


def test_a_place_that_cannot_be_written_is_found_out_before_training(tmp_path, tiny_config):
    (tmp_path / "file").write_text("precious")
    steps = []
    with pytest.raises(OutputError, match="a file of that name is in the way"):
        fit(tiny_config(), tmp_path / "file" / "run", steps.append)
    with pytest.raises(OutputError, match="not of a ddpm_ref run"):
        fit(tiny_config(), tmp_path, steps.append)
    assert steps == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "precious"


def test_a_device_that_is_not_there_is_named(tiny_config):
    with pytest.raises(RangeError, match="device 'abacus' cannot be used here"):
        fit(tiny_config(), device="abacus")
