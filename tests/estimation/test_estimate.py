"""Measuring in one piece, in parts, in batches, in several processes: the same bits."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_ref.errors import LevelError, MomentsError, OutputError, PrecisionError, RangeError, ShapeError
from ddpm_ref.estimation import CoMoments, Moments, estimate, measurement, workers
from ddpm_ref.estimation.state import partial_path
from ddpm_ref.estimation.values import FORMS, Job
from ddpm_ref.nn import UNet, UNetConfig
from ddpm_ref.sampling import Denoiser


def same(one: Moments, other: Moments) -> bool:
    """Equal to the bit."""
    return one.count == other.count and all(
        np.array_equal(getattr(one.of(form), name), getattr(other.of(form), name))
        for form in FORMS
        for name in ("mean", "products")
    )


def stop_after(tasks):
    def report(progress):
        if progress.step >= tasks:
            raise KeyboardInterrupt

    return report


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    network = UNet(UNetConfig(width=8, multipliers=(1,), attention=(), groups=4)).eval()
    with torch.no_grad():
        for parameter in network.parameters():  # its output is not the zero that some layers start with
            parameter.add_(0.1 * torch.randn_like(parameter))
    return Denoiser(network)


@pytest.fixture(scope="module")
def images():
    return torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_moments_are_those_of_the_values(schedule, data, half):
    seen = []
    found = estimate(half, schedule, data, [2, 9, 5], draws=2, batch_size=6, seed=3, progress=seen.append)
    ready = Job(half, schedule, data, 2, 6, 3, "cpu").ready()
    parts = [np.stack([ready.values(batch, t) for t in (2, 5, 9)], axis=1) for batch in range(3)]
    for k, form in enumerate(FORMS):
        whole = CoMoments.of(parts[0][:, :, k])
        for part in parts[1:]:
            whole = whole.merged(CoMoments.of(part[:, :, k]))
        assert np.array_equal(found.moments.of(form).mean, whole.mean)
        assert np.array_equal(found.moments.of(form).products, whole.products)
    assert not found.interrupted
    assert (found.moments.levels, found.moments.count) == ((2, 5, 9), 7)
    assert [(progress.task, progress.step, progress.steps) for progress in seen] == [
        ("analyze", k, 9) for k in range(1, 10)
    ]
    assert seen[-1].remaining == 0
    origin = found.moments.origin
    assert (origin.schedule_digest, origin.draws, origin.batch_size, origin.seed) == (schedule.digest, 2, 6, 3)


def test_by_level_is_nan_where_nothing_was_measured(schedule, data, half):
    table = estimate(half, schedule, data, [2, 9]).moments.by_level("residual", schedule.T)
    assert table.shape == (11,)
    assert np.flatnonzero(np.isfinite(table)).tolist() == [2, 9]


def test_all_levels_are_measured_unless_some_are_named(schedule, data, half):
    assert estimate(half, schedule, data).moments.levels == tuple(range(1, 11))


def test_the_random_state_and_the_mode_of_the_network_are_left_as_they_were(schedule, images, unet):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    unet.network.train()
    estimate(unet, schedule, images, [3])
    assert unet.network.training
    unet.network.eval()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("stop", [4, 5, 6, 13])
def test_in_parts_it_is_what_it_is_in_one_piece(stop, schedule, images, unet, tmp_path):
    path, wanted = (
        tmp_path / "m.safetensors",
        {"levels": [1, 4, 10], "batch_size": 3, "output": tmp_path / "m.safetensors"},
    )
    whole = estimate(unet, schedule, images, [1, 4, 10], batch_size=3).moments
    first = estimate(unet, schedule, images, **wanted, progress=stop_after(stop))
    if stop == 13:  # more than there are: it was not interrupted
        assert not first.interrupted
    else:
        assert first.interrupted
        assert first.moments.count == 3 * (stop // 3)
        assert not path.exists()
        seen = []
        second = estimate(unet, schedule, images, **wanted, progress=seen.append)
        assert not second.interrupted
        assert [progress.step for progress in seen] == list(range(stop + 1, 13))
        assert same(second.moments, whole)
    assert same(Moments.load(path), whole)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.safetensors"]  # the state is gone


def test_an_interruption_before_the_first_batch_is_finished_loses_nothing(schedule, images, unet, tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(KeyboardInterrupt):
        estimate(unet, schedule, images, [1, 4], output=path, progress=stop_after(1))
    assert partial_path(path).exists()
    seen = []
    found = estimate(unet, schedule, images, [1, 4], output=path, progress=seen.append)
    assert [progress.step for progress in seen] == [2]
    assert same(found.moments, estimate(unet, schedule, images, [1, 4]).moments)


def test_sigterm_ends_it_after_the_task_being_done(schedule, images, unet, tmp_path):
    def report(progress):
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    found = estimate(unet, schedule, images, [1, 4], batch_size=5, output=tmp_path / "m.safetensors", progress=report)
    assert (found.interrupted, found.moments.count) == (True, 5)


def test_the_state_is_written_now_and_then(schedule, images, unet, tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "SAVE_SECONDS", 0.0)
    path, sizes = tmp_path / "m.safetensors", []

    def report(progress):
        sizes.append(partial_path(path).exists())
        if progress.step == 2:
            partial_path(path).unlink()

    estimate(unet, schedule, images, [1, 4], batch_size=5, output=path, progress=report)
    assert sizes == [True] * 4


def test_what_is_complete_is_not_computed_again(schedule, data, half, tmp_path):
    path = tmp_path / "m.safetensors"
    found = estimate(half, schedule, data, [1, 4], output=path)

    def never(x, time):
        raise AssertionError

    again = estimate(Denoiser(never), schedule, data, [4, 1], output=path)
    assert same(again.moments, found.moments)


CHANGES = [
    ({"seed": 1}, "seed is 0 there and 1 now"),
    ({"levels": [1, 5]}, r"levels is \(1, 4\) there and \(1, 5\) now"),
    ({"draws": 2}, "draws is 1 there"),
    ({"batch_size": 3}, "batch_size is 2 there"),
    ({"network": "other"}, "network_digest is  there and other now"),
    ({"high": 2.0}, "high is 1.0 there"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
@pytest.mark.parametrize("stop", [3, 100])
def test_another_measurement_is_refused_and_only_replaced_if_told(
    change, message, stop, schedule, data, half, tmp_path
):
    path, usual = tmp_path / "m.safetensors", {"levels": [1, 4], "batch_size": 2}
    estimate(half, schedule, data, **usual, output=path, progress=stop_after(stop))
    left = path if stop == 100 else partial_path(path)
    before = left.read_bytes()
    with pytest.raises(MomentsError, match=message):
        estimate(half, schedule, data, **{**usual, **change}, output=path)
    assert left.read_bytes() == before
    replaced = estimate(half, schedule, data, **{**usual, **change}, output=path, overwrite=True).moments
    assert same(replaced, estimate(half, schedule, data, **{**usual, **change}).moments)
    assert same(replaced, Moments.load(path))


@pytest.mark.parametrize("what", ["data", "schedule"])
def test_other_data_and_another_schedule_are_another_measurement(what, schedule, data, half, tmp_path):
    path = tmp_path / "m.safetensors"
    estimate(half, schedule, data, [1], output=path)
    other = {"data": data.flip(0), "schedule": type(schedule).from_betas(schedule.beta[1:6])}
    given = {"schedule": schedule, "data": data, what: other[what]}
    with pytest.raises(MomentsError, match=f"{what}_digest"):
        estimate(half, given["schedule"], given["data"], [1], output=path)


@pytest.mark.parametrize("spoil", [lambda raw: raw[:-1], lambda raw: raw[:50], lambda raw: b"PK\x03\x04" + raw])
def test_a_damaged_state_is_refused_and_replaced_if_told(spoil, schedule, data, half, tmp_path):
    path = tmp_path / "m.safetensors"
    estimate(half, schedule, data, [1, 4], batch_size=2, output=path, progress=stop_after(3))
    partial_path(path).write_bytes(spoil(partial_path(path).read_bytes()))
    with pytest.raises(MomentsError, match=r"m\.partial\.safetensors"):
        estimate(half, schedule, data, [1, 4], batch_size=2, output=path)
    assert estimate(half, schedule, data, [1, 4], batch_size=2, output=path, overwrite=True).moments.count == 7


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"levels": []}, LevelError, "no level was given"),
        ({"levels": [0, 1]}, LevelError, "level 0 is outside 1..10"),
        ({"levels": [11]}, LevelError, "level 11 is outside"),
        ({"levels": [3, 3]}, LevelError, "given twice"),
        ({"data": torch.zeros(0, 3)}, ShapeError, "at least one datum"),
        ({"data": torch.zeros(3)}, ShapeError, r"shape \(3,\)"),
        ({"data": torch.zeros(3, 2, dtype=torch.int64)}, PrecisionError, r"write data.float\(\)"),
        ({"data": torch.zeros(3, 2).half()}, PrecisionError, "float16"),
        ({"data": torch.tensor([[0.0, 0.5], [1.5, 2.0]])}, RangeError, r"2 of 4 numbers of data \(50 %\) lie outside"),
        ({"data": torch.tensor([[0.0, torch.nan]])}, RangeError, "nan"),
        ({"low": 0.0, "high": 1.0}, RangeError, r"lie outside \[0, 1\]"),
        ({"low": 1.0, "high": 1.0}, RangeError, "low < high"),
        ({"draws": 0}, RangeError, "draws is 0"),
        ({"batch_size": 0}, RangeError, "batch_size is 0"),
        ({"processes": 0}, RangeError, "processes is 0"),
        ({"seed": -1}, RangeError, "seed is -1"),
        ({"device": "abacus"}, RangeError, "'abacus' cannot be used"),
        ({"denoiser": Denoiser(lambda x, time: x / 0)}, RangeError, "not finite at t = 1"),
        ({"output": Path("/no/such/folder/m.safetensors")}, OutputError, "cannot be written"),
    ],
)
def test_what_cannot_be_measured_is_named(change, error, message, schedule, data, half):
    with pytest.raises(error, match=message):
        estimate(**{"denoiser": half, "schedule": schedule, "data": data, "levels": [1], **change})


def test_two_processes_find_the_bits_of_one_and_go_on_where_one_left(schedule, images, unet, tmp_path):
    wanted = {"levels": [1, 4, 10], "batch_size": 3, "draws": 2}
    whole = estimate(unet, schedule, images, **wanted).moments
    path = tmp_path / "m.safetensors"
    estimate(unet, schedule, images, **wanted, output=path, progress=stop_after(4))
    found = estimate(unet, schedule, images, **wanted, processes=2, output=path)
    assert same(found.moments, whole)


def test_a_network_that_cannot_travel_is_refused_before_a_process_is_started(schedule, data, half, monkeypatch):
    monkeypatch.setattr(workers, "_Worker", None)
    with pytest.raises(RangeError, match="cannot be sent to another process"):
        estimate(half, schedule, data, [1], processes=2)


class Dies(torch.nn.Module):
    """A network during whose third answer its process is killed."""

    def forward(self, x, time):
        self.answers = getattr(self, "answers", 0) + 1
        if self.answers == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return x


class Raises(torch.nn.Module):
    """A network that fails at one level."""

    def forward(self, x, time):
        if int(time[0]) == 2:
            raise ValueError("no answer at time 2")
        return x


SCRIPT = """
import sys, torch, ddpm_ref
from pathlib import Path
from ddpm_ref.errors import MomentsError
from ddpm_ref.estimation import estimate
from ddpm_ref.sampling import Denoiser
from test_estimate import Dies, Raises
schedule, path = ddpm_ref.cosine_schedule(T=10), Path(sys.argv[1])
if __name__ == "__main__":
    try:
        estimate(Denoiser(Raises()), schedule, torch.zeros(4, 2), [1, 2, 3], processes=2)
    except ValueError as error:
        print(error)
    try:
        estimate(Denoiser(Dies()), schedule, torch.zeros(4, 2), batch_size=1, processes=2, output=path)
    except MomentsError as error:
        print(error)
    moments = estimate(Denoiser(lambda x, time: x), schedule, torch.zeros(4, 2), batch_size=1, output=path).moments
    print(moments.count)
"""


@pytest.mark.full
def test_what_a_process_raises_or_dies_of_is_said_and_what_was_finished_is_kept(tmp_path):
    (tmp_path / "run.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "m.safetensors")]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    raised, died, count = run.stdout.splitlines()
    assert raised == "no answer at time 2"
    assert "ended with exit code -9 (out of memory?)" in died
    assert count == "4"


KILLED = """
import sys, torch, ddpm_ref
from pathlib import Path
from ddpm_ref.estimation import estimate, measurement
from ddpm_ref.nn import UNet, UNetConfig
from ddpm_ref.sampling import Denoiser
if __name__ == "__main__":
    measurement.SAVE_SECONDS = 0.0
    torch.manual_seed(0)
    denoiser = Denoiser(UNet(UNetConfig(width=8, multipliers=(1,), attention=(), groups=4)).eval())
    report = lambda progress: print(progress.step, flush=True)
    data = torch.linspace(-1, 1, 640).reshape(10, 1, 8, 8)
    estimate(denoiser, ddpm_ref.cosine_schedule(T=10), data, batch_size=4, processes=int(sys.argv[2]),
        output=Path(sys.argv[1]), progress=report)
"""


@pytest.mark.full
@pytest.mark.parametrize("processes", ["1", "2"])
def test_after_kill_9_it_goes_on_from_the_last_state_and_no_process_is_left(processes, tmp_path):
    (tmp_path / "run.py").write_text(KILLED)
    path = tmp_path / "m.safetensors"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(tmp_path / "run.py"), str(path), processes]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
    for line in first.stdout:
        if int(line) == 7:
            first.kill()
            break
    first.wait()
    first.stdout.close()
    end = time.monotonic() + 60
    while (
        time.monotonic() < end
        and subprocess.run(["pgrep", "-g", str(first.pid)], stdout=subprocess.DEVNULL).returncode == 0
    ):
        time.sleep(0.2)
    assert subprocess.run(["pgrep", "-g", str(first.pid)], stdout=subprocess.DEVNULL).returncode == 1
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert 7 <= int(second.stdout.split()[0]) <= 10
    whole = tmp_path / "whole.safetensors"
    subprocess.run([*command[:2], str(whole), "1"], env=environment, capture_output=True, check=True, timeout=300)
    assert same(Moments.load(path), Moments.load(whole))
