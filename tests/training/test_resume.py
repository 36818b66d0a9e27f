"""A run in parts is the run in one piece, bit for bit; and killing it costs at most the steps since its checkpoint."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_ref.errors import CheckpointError, OutputError, RangeError
from ddpm_ref.files import claim_folder
from ddpm_ref.nn import UNetConfig
from ddpm_ref.training import Checkpoint, ScheduleConfig, fit, log
from ddpm_ref.training.folder import CHECKPOINT_NAME, LOG_NAME, PREVIOUS_NAME, DamagedCheckpointWarning


def parts(checkpoint):
    """Every tensor of a checkpoint by name."""
    for name in ("weights", "average", "optimizer", "times"):
        for key, tensor in (getattr(checkpoint, name) or {}).items():
            yield f"{name} {key}", tensor


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Equal to the bit: weights, average, optimiser, losses, and what the time sampler remembers."""
    ours, theirs = dict(parts(one)), dict(parts(other))
    assert ours.keys() == theirs.keys()
    return np.array_equal(one.losses, other.losses) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def stop_after(step):
    def report(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return report


@pytest.fixture
def twenty(tiny_config):
    return tiny_config(max_steps=20)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "l2"},
        {"loss": "l1", "prediction": "v", "ema_decay": None},
        {"prediction": "x0", "dropout": 0.5, "max_gradient_norm": None},
        {"loss": "l1", "time_code": "one_based", "dropout": 0.3, "ema_decay": 0.5},
        {"time_sampler": "antithetic", "loss": "vlb"},
        {"time_sampler": "importance", "loss": "hybrid", "variance": "learned_range", "schedule": ScheduleConfig(T=3)},
        {"time_sampler": "importance", "loss": "vlb", "variance": "learned", "schedule": ScheduleConfig(T=2)},
    ],
    ids=[
        "l2-eps",
        "l1-v-no-average",
        "l2-x0-dropout",
        "l1-eps-dropout",
        "vlb-antithetic",
        "hybrid-importance",
        "vlb-learned-importance",
    ],
)
def test_ten_and_ten_steps_are_twenty(changes, tmp_path, twenty):
    network = dataclasses.replace(twenty.network, dropout=changes.pop("dropout", 0.0))
    config = dataclasses.replace(twenty, network=network, **changes)
    first = fit(config, tmp_path, stop_after(10))
    assert (first.stopped, first.checkpoint.steps) == ("interrupted", 10)
    torch.manual_seed(5)  # must not matter
    second = fit(config, tmp_path, resume=True)
    whole = fit(config)
    assert (second.stopped, second.checkpoint.steps) == ("steps", 20)
    assert same(second.checkpoint, whole.checkpoint)
    assert same(Checkpoint.load(tmp_path / CHECKPOINT_NAME), whole.checkpoint)
    assert second.held_out_loss == whole.held_out_loss
    assert not same(first.checkpoint, whole.checkpoint)


def test_without_what_the_time_sampler_remembers_ten_and_ten_would_not_be_twenty(tmp_path, twenty):
    config = dataclasses.replace(twenty, time_sampler="importance", schedule=ScheduleConfig(T=3), batch_size=8)
    first = fit(config, tmp_path, stop_after(10)).checkpoint
    assert int(first.times["seen"][1:].min()) >= 10  # so that levels are drawn by what it remembers
    forgetful = {name: tensor * 0 for name, tensor in first.times.items()}
    dataclasses.replace(first, times=forgetful).save(tmp_path / CHECKPOINT_NAME)
    assert not same(fit(config, tmp_path, resume=True).checkpoint, fit(config).checkpoint)


def test_without_the_optimiser_s_state_ten_and_ten_would_not_be_twenty(tmp_path, twenty):
    # The test above can fail: one number of one moment is enough.
    first = fit(twenty, tmp_path, stop_after(10)).checkpoint
    name = "exp_avg_sq.outlet.weight"
    spoiled = {**first.optimizer, name: first.optimizer[name] * 1.001}
    dataclasses.replace(first, optimizer=spoiled).save(tmp_path / CHECKPOINT_NAME)
    assert not same(fit(twenty, tmp_path, resume=True).checkpoint, fit(twenty).checkpoint)


def test_time_is_counted_over_all_parts(tmp_path, tiny_config):
    config = tiny_config(max_steps=None, max_seconds=1000.0)
    first = fit(config, tmp_path, stop_after(2)).checkpoint
    late = dataclasses.replace(first, seconds=999.9999)
    late.save(tmp_path / CHECKPOINT_NAME)
    run = fit(config, tmp_path, stop_after(4), resume=True)  # which it does not reach
    assert run.stopped == "time"
    assert run.checkpoint.seconds >= 1000.0
    assert run.checkpoint.steps == 3


def test_beside_a_limit_of_steps_the_clock_decides_nothing_but_when_to_stop(tmp_path, twenty):
    config = dataclasses.replace(twenty, max_seconds=1e6)
    first = fit(config, tmp_path, stop_after(5)).checkpoint
    dataclasses.replace(first, seconds=9e5).save(tmp_path / CHECKPOINT_NAME)  # 9/10 of its time, 1/4 of its steps
    assert same(fit(config, tmp_path, resume=True).checkpoint, fit(twenty).checkpoint)


def test_a_run_that_is_complete_is_left_as_it_is(tmp_path, tiny_config):
    done = fit(tiny_config(), tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in (CHECKPOINT_NAME,)}
    again = fit(tiny_config(), tmp_path, lambda progress: pytest.fail("a step was made"), resume=True)
    assert again.stopped == "steps"
    assert again.held_out_loss == done.held_out_loss
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert not (tmp_path / PREVIOUS_NAME).exists()


def test_a_run_extended_before_its_cool_down_is_the_longer_run(tmp_path, tiny_config):
    short, long = tiny_config(max_steps=12, cooldown=0.5), tiny_config(max_steps=24, cooldown=0.5)
    fit(short, tmp_path, stop_after(7))  # the 7th step is the last at the full rate
    assert same(fit(long, tmp_path, resume=True).checkpoint, fit(long).checkpoint)


def test_a_run_extended_after_its_cool_down_warms_up_to_the_new_schedule(tmp_path, tiny_config):
    fit(tiny_config(max_steps=4, cooldown=0.5), tmp_path)
    longer = tiny_config(max_steps=8, cooldown=0.5)
    fit(longer, tmp_path, resume=True)
    rates = log.read(tmp_path / LOG_NAME).steps["learning_rate"].tolist()
    short = tiny_config(max_steps=4, cooldown=0.5)
    wanted = [short.learning_rate_at(step, (step - 1) / 4) for step in range(1, 5)]
    wanted += [longer.learning_rate_at(step, (step - 1) / 8) for step in range(5, 9)]
    assert rates == wanted
    assert rates[4] > rates[3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.1}, r"learning_rate is 0\.002 in the run so far and 0\.1 now"),
        ({"seed": 1}, "seed is 0 in the run so far and 1 now"),
        ({"loss": "l1"}, "loss is 'l2' in the run so far and 'l1' now"),
        ({"ema_decay": None}, r"ema_decay is 0\.995 in the run so far and None now"),
        ({"network": UNetConfig(width=16, multipliers=(1,), attention=(), groups=4)}, "network.width is 8"),
    ],
)
def test_another_config_is_refused_by_its_first_field_that_differs(changes, message, tmp_path, tiny_config):
    fit(tiny_config(), tmp_path)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with pytest.raises(RangeError, match=message):
        fit(tiny_config(**changes), tmp_path, resume=True)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_limits_and_bookkeeping_may_change(tmp_path, tiny_config):
    fit(tiny_config(), tmp_path)
    changed = tiny_config(max_steps=5, max_seconds=500.0, checkpoint_seconds=1.0, log_every=2)
    assert fit(changed, tmp_path, resume=True).checkpoint.steps == 5


def test_new_limits_are_kept_from_the_first_moment_on(tmp_path, tiny_config):
    class Killed(BaseException):
        """As by kill -9."""

    def kill(progress):
        raise Killed

    before = fit(tiny_config(), tmp_path).checkpoint
    with pytest.raises(Killed):
        fit(tiny_config(max_steps=5), tmp_path, kill, resume=True)
    kept = Checkpoint.load(tmp_path / CHECKPOINT_NAME)
    assert same(kept, before)
    assert kept.config == tiny_config(max_steps=5)
    assert fit(kept.config, tmp_path, resume=True).checkpoint.steps == 5


def test_nothing_to_resume_is_named_and_nothing_is_made(tmp_path, tiny_config):
    with pytest.raises(CheckpointError, match="does not exist"):
        fit(tiny_config(), tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    with pytest.raises(CheckpointError, match="not the folder of a run"):
        fit(tiny_config(), tmp_path, resume=True)
    assert not list(tmp_path.iterdir())
    claim_folder(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        fit(tiny_config(), tmp_path, resume=True)


@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}, {"resume": True, "overwrite": True}])
def test_resuming_nowhere_or_both_ways_is_refused(options, tmp_path, tiny_config):
    with pytest.raises(RangeError, match="resume and overwrite"):
        fit(tiny_config(), tmp_path if len(options) == 2 else None, **options)


def test_a_run_is_replaced_only_on_demand_and_only_by_a_checkpoint(tmp_path, tiny_config):
    first = fit(tiny_config(max_steps=2, checkpoint_seconds=1e-9), tmp_path).checkpoint
    assert (tmp_path / PREVIOUS_NAME).exists()
    with pytest.raises(OutputError, match=r"holds a run already .*--resume.*--overwrite"):
        fit(tiny_config(seed=1), tmp_path)
    seen = []

    def look(progress):
        seen.append(same(Checkpoint.load(tmp_path / CHECKPOINT_NAME), first))

    second = fit(tiny_config(seed=1), tmp_path, look, overwrite=True).checkpoint
    assert seen == [True, True, True]
    assert same(Checkpoint.load(tmp_path / CHECKPOINT_NAME), second)
    assert not (tmp_path / PREVIOUS_NAME).exists()  # it was the other run's


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.unlink])
def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_resumed(damage, tmp_path, tiny_config):
    config = tiny_config(max_steps=6, checkpoint_seconds=1e-9)
    fit(config, tmp_path, stop_after(4))
    damage(tmp_path / CHECKPOINT_NAME)
    steps = []
    with pytest.warns(DamagedCheckpointWarning, match="the checkpoint before it is used, of step 3"):
        run = fit(config, tmp_path, lambda progress: steps.append(progress.step), resume=True)
    assert steps == [4, 5, 6]
    assert same(run.checkpoint, fit(config).checkpoint)
    assert [Checkpoint.load(tmp_path / name).steps for name in (PREVIOUS_NAME, CHECKPOINT_NAME)] == [5, 6]


def killed_run(folder, kills, seed, config):
    """What `kill_often.py` saw, the uninterrupted run beside it."""
    script = Path(__file__).with_name("kill_often.py")
    command = [sys.executable, str(script), str(folder), str(kills), str(seed), json.dumps(config.to_dict())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["status"], seen["killed"]) == (0, kills), done.stderr
    return seen["lives"]


def check_killed_run(folder, kills, seed, config):
    lives = killed_run(folder, kills, seed, config)
    made = 0
    for steps in filter(None, lives):
        # At most the report of the last step was lost; and no step, where each has its checkpoint before it is reported.
        assert (made if config.checkpoint_seconds < 1e-6 else 0) < steps[0] <= made + 2
        assert steps == list(range(steps[0], steps[-1] + 1))
        made = steps[-1]
    assert made == config.max_steps
    assert same(Checkpoint.load(folder / CHECKPOINT_NAME), fit(config).checkpoint)
    assert log.read(folder / LOG_NAME).steps["step"].tolist() == list(range(1, config.max_steps + 1))


@pytest.mark.full  # in short: killed between any two operations on files, tests/training/test_folder.py
def test_a_run_killed_three_times_is_the_run(tmp_path, tiny_config):
    network = UNetConfig(width=8, multipliers=(1,), attention=(), groups=4, dropout=0.2)
    check_killed_run(tmp_path, 3, 1, tiny_config(network=network, max_steps=30, checkpoint_seconds=1e-9))


@pytest.mark.full
@pytest.mark.parametrize("checkpoint_seconds", [1e-9, 0.04])
def test_a_run_killed_twenty_times_is_the_run(checkpoint_seconds, tmp_path, tiny_config):
    check_killed_run(tmp_path, 20, 2, tiny_config(max_steps=150, checkpoint_seconds=checkpoint_seconds))
