"""``ddpm-ref train``, ``sample`` and ``report``, as a user meets them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import TINY, run
from PIL import Image

from ddpm_ref import cli
from ddpm_ref.commands.training_flags import NO_SCHEDULE, NetworkFlags, ProcessFlags, TrainingFlags, merged
from ddpm_ref.nn import MLPConfig
from ddpm_ref.training import Checkpoint, Config, log, samples
from ddpm_ref.training.folder import CHECKPOINT_NAME, PREVIOUS_NAME


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.raises(SystemExit) as end:
        cli.main(f"train --output {folder} --max-steps 4 --loss l1 --checkpoint-seconds 1e-9 {TINY}".split())
    assert end.value.code == 0
    return folder


def test_train_leaves_checkpoints_and_a_log_of_what_it_was_told(trained: Path) -> None:
    checkpoint = Checkpoint.load(trained / CHECKPOINT_NAME)
    assert checkpoint.steps == 4
    assert (checkpoint.config.loss, checkpoint.config.schedule.T, checkpoint.config.network.multipliers) == (
        "l1",
        10,
        (1,),
    )
    assert checkpoint.config.learning_rate == Config().learning_rate  # what is left out has its default
    assert log.read(trained / "log.jsonl").steps["step"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("flags", "limits"),
    [
        ("--max-steps 1", (1, None)),
        ("--max-steps 1 --max-seconds 50", (1, 50)),
        ("--max-seconds 0.01", (None, 0.01)),
        ("--max-steps None --max-seconds 0.01", (None, 0.01)),
    ],
)
def test_a_new_run_with_a_number_of_steps_has_no_limit_of_time_unasked(
    flags: str, limits: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"train --output {tmp_path} {flags} {TINY}", capsys)[0] == 0
    config = Checkpoint.load(tmp_path / CHECKPOINT_NAME).config
    assert (config.max_steps, config.max_seconds) == limits


def test_a_flag_of_the_schedule_that_is_denied_is_compared_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = "--schedule.kind linear --schedule.zero-terminal-snr --schedule.beta-T 0.5 --prediction v --max-steps 1"
    assert run(f"train --output {tmp_path} {flags} {TINY}", capsys)[0] == 0
    status, _, err = run(f"train --output {tmp_path} --resume --schedule.no-zero-terminal-snr", capsys)
    assert status == 2
    assert "schedule.zero_terminal_snr is True in the run so far and False now" in err
    for said in ("--schedule.zero-terminal-snr", "--schedule.no-scale-ends", ""):
        assert run(f"train --output {tmp_path} --resume {said}", capsys)[0] == 0
    assert run(f"train --output {tmp_path} --resume --schedule.beta-T None", capsys)[0] == 2


def test_train_interrupted_says_how_to_go_on_and_resume_takes_the_stored_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    step = log.Writer.step

    def impatient(writer: log.Writer, **columns: Any) -> None:
        step(writer, **columns)
        if columns["step"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(log.Writer, "step", impatient)
        status, out, err = run(f"train --output {folder} --max-steps 4 --seed 3 {TINY}", capsys)
    assert status == 130
    assert re.match(r"2 steps in \d+ s \(interrupted\), held-out loss \d\.\d{4}\n", out)
    assert f"ddpm-ref train --output {folder} --resume" in err
    status, out, _ = run(f"train --output {folder} --resume", capsys)
    assert status == 0
    assert "4 steps in" in out
    assert "--max-steps reached" in out
    assert str(folder / CHECKPOINT_NAME) in out
    assert Checkpoint.load(folder / CHECKPOINT_NAME).config.seed == 3
    status, out, _ = run(f"train --output {folder} --resume --max-steps 5", capsys)
    assert (status, out[:7]) == (0, "5 steps")
    (folder / CHECKPOINT_NAME).write_bytes(b"damaged")
    status, out, err = run(f"train --output {folder} --resume --max-steps 5", capsys)
    assert (status, out[:7]) == (0, "5 steps")
    assert err.count("ddpm-ref: warning:") == 1
    assert "the checkpoint before it is used, of step 4" in err


def test_sample_writes_a_page_into_the_folder_of_the_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(f"sample {trained} --count 5 --steps 3", capsys)
    assert status == 0
    assert f"5 images in 3 steps from {trained / CHECKPOINT_NAME}\n{trained / 'samples.png'}\n" == out
    assert "sample: step 3 of 3" in err
    with Image.open(trained / "samples.png") as picture:
        assert picture.size == (3 * 68 + 4, 2 * 68 + 4)


def test_sample_writes_numbers_and_how_they_were_made(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, told = {}, {}
    for name, flags in {
        "usual": "",
        "again": "--weights ema --variance posterior --clip --seed 0",
        "beta": "--variance beta",
        "raw": "--weights raw",
        "seed": "--seed 1",
        "free": "--no-clip",
        "spaced": "--spacing leading",
        "ddim": "--sampler ddim",
        "ddim again": "--sampler ddim --eta 0",
        "noisy": "--sampler ddim --eta 1",
        "kept": "--sampler ddim --keep-eps",
        "thresholded": "--threshold 90",
        "philox": "--noise philox",
    }.items():
        status, _, _ = run(
            f"sample {trained} --count 2 --steps 3 {flags} --output {tmp_path}/{name.replace(' ', '_')}.npz", capsys
        )
        assert status == 0
        with np.load(tmp_path / f"{name.replace(' ', '_')}.npz") as file:
            made[name] = file["images"]
            told[name] = json.loads(str(file["arguments"]))
    assert told["spaced"]["spacing"] == "leading"
    assert told["usual"]["schedule_digest"] == Checkpoint.load(trained / CHECKPOINT_NAME).schedule.digest
    assert told["usual"]["weights"] == "ema"
    assert {name: told["usual"][name] for name in ("sampler", "variance", "eta", "clip", "noise")} == {
        "sampler": "ddpm",
        "variance": "posterior",
        "eta": None,
        "clip": True,
        "noise": "generator",
    }
    assert (told["ddim"]["variance"], told["ddim"]["eta"], told["kept"]["keep_eps"]) == (None, 0.0, True)
    assert (told["thresholded"]["threshold"], told["thresholded"]["clip"]) == (90.0, False)
    assert all(images.shape == (2, 1, 8, 8) for images in made.values())
    assert np.array_equal(made["usual"], made["again"])
    assert np.array_equal(made["ddim"], made["ddim again"])
    # eta = 1 is ancestral sampling with the posterior variance: equal but for the rounding of other formulas
    assert np.abs(made["noisy"] - made["usual"]).max() < 1e-4  # rule: networks
    assert len({images.tobytes() for images in made.values()}) >= 10


def test_a_learned_variance_is_trained_resumed_and_sampled_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    flags = "--loss hybrid --variance learned-range --vlb-weight 0.01 --time-sampler importance"
    status, out, err = run(f"train --output {folder} --max-steps 2 {flags} {TINY}", capsys)
    assert status == 0
    assert re.search(r"held-out loss \d\.\d{4} \(simple \d\.\d{4}, vlb \d+\.\d{4}\)", out)
    assert re.search(r"train: step 2 of 2, loss \S+ \(simple \S+, vlb \S+\)", err)
    status, _, _ = run(f"train --output {folder} --resume --variance learned_range --max-steps 3", capsys)
    assert status == 0
    config = Checkpoint.load(folder / CHECKPOINT_NAME).config
    assert (config.variance, config.vlb_weight, config.network.outputs_per_channel) == ("learned_range", 0.01, 2)
    status, out, _ = run(f"report {folder}", capsys)
    assert "held-out loss, vlb" in out
    made = {}
    for name, flags in {
        "usual": "",
        "same": "--variance learned-range",
        "again": "--variance learned_range",
        "least": "--variance posterior",
        "ddim": "--sampler ddim",
    }.items():
        target = tmp_path / f"{name}.npz"
        assert run(f"sample {folder} --count 2 --steps 3 {flags} --output {target}", capsys)[0] == 0
        with np.load(target) as file:
            made[name] = file["images"]
            told = json.loads(str(file["arguments"]))["variance"]
            assert told == {"least": "posterior", "ddim": None}.get(name, "learned_range")
    assert np.array_equal(made["usual"], made["same"])
    assert np.array_equal(made["usual"], made["again"])
    assert len({images.tobytes() for images in made.values()}) == 3
    status, _, err = run(f"sample {folder} --variance learned", capsys)
    assert (status, "the network of this run learned another, learned_range; write --variance" in err) == (2, True)


def test_sample_in_batches_with_states(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--count 3 --batch-size 2 --noise philox --steps 4 --sampler ddim --states 2"
    status, out, err = run(f"sample {trained} {flags} --output {tmp_path}/x.npz", capsys)
    assert status == 0
    assert out.startswith("3 images in 4 steps")
    assert "sample: step 8 of 8" in err
    with np.load(tmp_path / "x.npz") as file:
        assert file["levels"].tolist() == [10, 4]
        assert file["states"].shape == (2, 3, 1, 8, 8)
        assert file["states"][0].std() > 0.5


def test_sample_takes_100_steps_or_as_many_as_there_are(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(f"sample {trained} --count 1 --output {trained}/all.npz", capsys)
    assert (status, out.splitlines()[0][:20]) == (0, "1 images in 10 steps")


def test_sample_interrupted_by_a_signal_writes_the_batches_that_are_finished(trained: Path, tmp_path: Path) -> None:
    # A process of its own, because the signal is a real one; it comes when the first batches are surely done.
    program = (
        "import os, signal, sys\n"
        "from ddpm_ref import cli\n"
        "from ddpm_ref.training import samples\n"
        "class Impatient(samples.Progress):\n"
        "    def __init__(self, *arguments, **more):\n"
        "        super().__init__(*arguments, **more)\n"
        "        if self.step == 2 * 3 + 1:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "samples.Progress = Impatient\n"
        "cli.main(sys.argv[1:])\n"
    )
    target = tmp_path / "x.npz"
    flags = f"--count 1000000 --batch-size 2 --steps 3 --output {target}"
    command = [sys.executable, "-c", program, "sample", str(trained), *flags.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 130, done.stderr
    written = "interrupted; 4 of 1000000 images were finished and are written; the rest: --first 4 --count 999996"
    assert written in done.stderr
    assert "Traceback" not in done.stderr
    with np.load(target) as file:
        assert file["images"].shape == (4, 1, 8, 8)
        assert json.loads(str(file["arguments"]))["count"] == 4
    assert list(tmp_path.iterdir()) == [target]


def test_sample_takes_one_checkpoint_too(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(f"sample {trained / PREVIOUS_NAME} --count 1 --steps 1 --output {trained}/one.npz", capsys)
    assert (status, out.splitlines()[-1]) == (0, f"{trained}/one.npz")
    with np.load(trained / "one.npz") as file:
        assert json.loads(str(file["arguments"]))["training_steps"] == 3


def test_sample_interrupted_writes_nothing(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(samples, "Progress", interrupted)
    status, out, err = run(f"sample {trained} --count 1 --steps 2 --output {tmp_path}/x.png", capsys)
    assert (status, out) == (130, "")
    assert "interrupted" in err
    assert not list(tmp_path.iterdir())


def test_report_says_what_the_run_did(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = Checkpoint.load(trained / CHECKPOINT_NAME)
    status, out, _ = run(f"report {trained} --json", capsys)
    told = json.loads(out)
    assert status == 0
    assert told["steps"] == 4
    assert told["config"] == checkpoint.config.to_dict()
    assert told["loss"]["first"] == checkpoint.losses[0]
    assert told["loss"]["last"] == checkpoint.losses[-1]
    assert told["loss"]["smoothed"] == checkpoint.losses.mean()
    assert told["held_out_loss"] == log.read(trained / "log.jsonl").held_out_loss
    assert told["schedule_digest"] == checkpoint.schedule.digest
    assert told["parameters"] == sum(weight.numel() for weight in checkpoint.weights.values())
    status, out, _ = run(f"report {trained} --plot", capsys)
    assert status == 0
    assert "config.schedule.T                   10\n" in out
    assert f"{told['held_out_loss']:.4f} (ema weights)" in out
    assert out.splitlines()[-1] == str(trained / "loss.png")
    with Image.open(trained / "loss.png") as picture:
        assert picture.format == "PNG"


def test_report_of_a_run_that_was_killed_has_no_held_out_loss(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / CHECKPOINT_NAME).write_bytes((trained / CHECKPOINT_NAME).read_bytes())
    status, out, _ = run(f"report {tmp_path}", capsys)
    assert status == 0
    assert "not measured since the last step" in out
    lines = (trained / "log.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "log.jsonl").write_text("".join(lines[:-1]))
    status, out, _ = run(f"report {tmp_path} --json", capsys)
    assert json.loads(out)["held_out_loss"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sample {tmp}/none", "none does not exist; name the folder of a run"),
        ("sample {tmp}", "is not the folder of a run"),
        ("report {tmp}", "is not the folder of a run"),
        ("report {tmp}/none", "does not exist"),
        ("train --output {tmp}/none --resume", "does not exist"),
        ("train --output {tmp} --resume", "is not the folder of a run"),
        ("train --output {run}", "holds a run already"),
        ("train --output {run} --resume --loss l2", "loss is 'l1' in the run so far and 'l2' now"),
        ("train --output {run} --resume --schedule.kind linear", "schedule.kind is 'cosine' in the run so far"),
        ("train --output {run} --resume --prediction v", "prediction is 'eps' in the run so far and 'v' now"),
        ("train --output {tmp}/new --schedule.zero-terminal-snr", "write prediction 'v' or 'x0'"),
        ("train --output {run} --resume --network.multipliers 1 1", "network.multipliers is [1] in the run so far"),
        ("train --output {run} --resume --overwrite", "resume and overwrite"),
        ("train --output /proc/none", "name a folder you may write to"),
        ("train --output {tmp}/new --batch-size 0", "batch_size is 0"),
        ("train --output {tmp}/new --max-seconds None", "the run would never end"),
        ("train --output {tmp}/new --schedule.beta-T 0.1", "beta_T is not an argument of the cosine schedule"),
        ("train --output {tmp}/new --threads 0", "--threads 0"),
        ("train --output {tmp}/new --device abacus", "device 'abacus' cannot be used here"),
        ("sample {run} --count 0", "--count 0: make at least 1 image"),
        ("sample {run} --steps 0", "steps = 0 must be a whole number from 1 to T = 10"),
        ("sample {run} --steps 11", "--steps 11: the run has T = 10 levels, and every step goes down by at least one"),
        ("sample {run} --eta 0.5", "--eta 0.5 belongs to --sampler ddim"),
        ("sample {run} --sampler ddim --eta 1.5", "eta = 1.5; it is a number in [0, 1]"),
        ("sample {run} --sampler ddim --variance beta", "--variance beta belongs to --sampler ddpm"),
        ("sample {run} --sampler ddim --variance learned", "--variance learned belongs to --sampler ddpm"),
        ("sample {run} --variance learned-range", "the network of this run learned none; train one with --loss hybrid"),
        ("train --output {tmp}/x --loss hybrid", "variance is None; write variance 'learned_range'"),
        ("train --output {tmp}/x --variance learned", "loss 'l2' does not depend on it"),
        ("sample {run} --keep-eps", "--keep-eps says what --sampler ddim does after clipping"),
        ("sample {run} --sampler ddim --no-clip --keep-eps", "--keep-eps says what --sampler ddim does"),
        ("sample {run} --threshold 0.995", "it is in percent: write 99.5"),
        ("sample {run} --batch-size 0", "--batch-size 0: make at least 1 image"),
        ("sample {run} --states 2", "write --output FILE.npz beside it"),
        ("sample {run} --states -1 --output {tmp}/x.npz", "--states -1"),
        ("sample {run} --states 4 --steps 3 --output {tmp}/x.npz", "write at most 3"),
        ("sample {run} --noise philox --seed -1", "seed is -1"),
        ("sample {run} --steps 2 --seed -1", "seed is -1"),
        ("sample {run} --output {tmp}/x.jpg", "a name ending in .png or .npz"),
        ("sample {run} --output {tmp}/none/x.png", "does not exist; make it first"),
        ("sample {run} --steps 2 --output /proc/x.png", "cannot be written"),
    ],
)
def test_wrong_usage_exits_2_with_one_line_and_makes_nothing(
    arguments: str, words: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(arguments.format(tmp=tmp_path, run=trained), capsys)
    assert (status, out) == (2, "")
    assert words in err
    assert len([line for line in err.splitlines() if line.startswith("ddpm-ref:")]) == 1
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", ["train", "train --output x --loss l3", "sample", "sample x --variance none"])
def test_what_cannot_be_parsed_exits_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments, capsys)[0] == 2


def kinds(flags: Any) -> dict[str, Any]:
    return typing.get_type_hints(flags, include_extras=True)


def shown_default(kind: Any) -> str:
    return str(kind.__metadata__[0].help_behavior_hint)


def test_the_flags_of_train_are_the_fields_of_the_config_and_show_its_defaults() -> None:
    fields = Config().to_dict()
    assert kinds(TrainingFlags).keys() | {"schedule"} == fields.keys()
    points = MLPConfig().__dict__
    assert kinds(NetworkFlags).keys() == fields["network"].keys() | points.keys()
    assert kinds(ProcessFlags).keys() == fields["schedule"].keys()
    flags = {name: kind for name, kind in kinds(TrainingFlags).items() if name != "network"}
    for shown, values in (
        (flags, fields),
        ({name: kind for name, kind in kinds(NetworkFlags).items() if name in fields["network"]}, fields["network"]),
        ({name: kinds(ProcessFlags)[name] for name in ("kind", "T")}, fields["schedule"]),
    ):
        for name, kind in shown.items():
            value = values[name]
            text = (
                " ".join(map(str, value))
                if isinstance(value, list)
                else f"{value:g}"
                if type(value) is float
                else value
            )
            of_points = (
                f"; {points[name]} for points"
                if values is fields["network"] and points.get(name, value) != value
                else ""
            )
            assert shown_default(kind) == f"(default: {text}{of_points})", name
    assert shown_default(kinds(NetworkFlags)["components"]) == f"(default: {points['components']}, of points only)"
    choices = {name: set(typing.get_args(kinds(TrainingFlags)[name].__origin__)) for name in ("loss", "prediction")}
    for name, words in choices.items():
        for word in words:
            beside = {"variance": "learned_range"} if word == "hybrid" else {}
            assert getattr(dataclasses.replace(Config(), **{name: word}, **beside), name) == word
    for word in typing.get_args(typing.get_args(kinds(TrainingFlags)["variance"].__origin__)[0]):
        kept = merged(Config().to_dict(), {"loss": "vlb", "variance": word}, NO_SCHEDULE)
        assert Config.from_dict(kept).variance in ("learned", "learned_range")


def test_help_shows_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("train --help", capsys)
    assert status == 0
    for flag in (
        "--output",
        "--resume",
        "--overwrite",
        "--ema-decay",
        "--schedule.kind",
        "--network.width",
        "--log-every",
    ):
        assert flag in out
    assert "unset" not in out


def test_points_are_trained_on_sampled_and_never_clipped(tmp_path, capsys) -> None:
    folder = tmp_path / "points"
    flags = "--dataset mixture --network.width 8 --network.blocks 1 --schedule.T 10 --max-steps 3 --batch-size 8"
    status, out, _ = run(f"train --output {folder} {flags}", capsys)
    assert status == 0
    assert re.search(r"held-out loss \d\.\d+ \(floor 0\.\d+, excess 0\.\d+\)", out)
    status, _, err = run(f"sample {folder} --count 4", capsys)
    assert (status, "write --no-clip" in err) == (2, True)
    for name in ("points.png", "points.npz"):
        assert run(f"sample {folder} --count 4 --no-clip --output {tmp_path / name}", capsys)[0] == 0
    assert np.load(tmp_path / "points.npz")["images"].shape == (4, 2)
    status, _, err = run(f"train --output {tmp_path / 'heads'} --dataset mixture --network.heads 2", capsys)
    assert (status, "Config.network has no 'heads'" in err) == (2, True)
