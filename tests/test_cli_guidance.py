"""``ddpm-ref train --conditional``, ``train-classifier`` and guided ``sample``, as a user meets them."""

from __future__ import annotations

import json
import typing
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY, run
from PIL import Image

from ddpm_ref import cli
from ddpm_ref.commands.guidance_flags import GuidanceFlags
from ddpm_ref.commands.training_flags import RunFlags, TrainingFlags
from ddpm_ref.training import Checkpoint, log
from ddpm_ref.training.folder import CHECKPOINT_NAME


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs: conditional, told (every label), plain, classifier, and a classifier on another schedule."""
    folder = tmp_path_factory.mktemp("runs")
    for name, flags in {
        "conditional": f"train --conditional {TINY}",
        "told": f"train --conditional --label-dropout 0 {TINY}",
        "plain": f"train {TINY}",
        "classifier": f"train-classifier {TINY}",
        "elsewhere": f"train-classifier --schedule.kind linear {TINY}",
    }.items():
        command, *more = flags.split()
        with pytest.raises(SystemExit) as end:
            cli.main([command, "--output", str(folder / name), "--max-steps", "3", *more])
        assert not end.value.code
    return folder


def test_conditional_takes_the_classes_of_the_data_and_drops_one_label_in_ten(runs: Path) -> None:
    configs = {name: Checkpoint.load(runs / name / CHECKPOINT_NAME).config for name in ("conditional", "told", "plain")}
    assert [(c.network.classes, c.label_dropout) for c in configs.values()] == [(10, 0.1), (10, 0.0), (0, 0.0)]


def test_train_classifier_says_how_often_it_is_right_and_so_does_report(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(f"train-classifier --output {tmp_path} --max-steps 2 --seed 3 {TINY}", capsys)
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("2 steps in ")
    assert lines[1].split() == ["t", "right", "on", "held-out", "images"]
    assert [line.split()[0] for line in lines[2:12]] == [str(t) for t in range(1, 11)]
    assert lines[12] == str(tmp_path / CHECKPOINT_NAME)
    accuracy = log.read(tmp_path / "log.jsonl").accuracy
    assert accuracy is not None
    assert f"{accuracy[1]:.1%} at 1, " in run(f"report {tmp_path}", capsys)[1]
    told = json.loads(run(f"report {tmp_path} --json", capsys)[1])
    assert told["accuracy"] == {str(t): share for t, share in accuracy.items()}
    assert json.loads(run(f"report {runs / 'plain'} --json", capsys)[1])["accuracy"] is None
    status, out, _ = run(f"train-classifier --output {tmp_path} --resume --max-steps 3", capsys)
    assert (status, out[:7]) == (0, "3 steps")
    assert Checkpoint.load(tmp_path / CHECKPOINT_NAME).config.seed == 3


def test_guided_samples_and_how_they_were_made(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, told = {}, {}
    for name, flags in {
        "unconditional": "",
        "label": "--label 7",
        "weight0": "--label 7 --guidance-weight 0",
        "weight": "--label 7 --guidance-weight 2",
        "scale": "--label 7 --guidance-scale 3",
        "without": "--label 7 --guidance-weight -1",
        "rescaled": "--label 7 --guidance-weight 2 --rescale 0.7",
        "labels": "--label 7 1 --guidance-weight 2",
        "noise": f"--label 7 --classifier {runs}/classifier --classifier-scale 50",
        "at_x_t": f"--label 7 --classifier {runs}/classifier --classifier-scale 50 --gradient-at xt",
        "at_mean": f"--label 7 --classifier {runs}/classifier --classifier-scale 50 --gradient-at mean",
        "ddim": f"--label 7 --classifier {runs}/classifier --classifier-scale 50 --sampler ddim",
        "both": f"--label 7 --guidance-weight 2 --classifier {runs}/classifier",
    }.items():
        target = tmp_path / f"{name}.npz"
        assert run(f"sample {runs}/conditional --count 2 --steps 3 {flags} --output {target}", capsys)[0] == 0
        with np.load(target) as file:
            made[name], told[name] = file["images"], json.loads(str(file["arguments"]))
    assert "labels" not in told["unconditional"]
    assert {name: told["noise"][name] for name in ("labels", "guidance_weight", "classifier_scale", "gradient_at")} == {
        "labels": [7],
        "guidance_weight": -1.0,
        "classifier_scale": 50.0,
        "gradient_at": None,
    }
    assert (told["scale"]["guidance_weight"], told["rescaled"]["rescale"]) == (2.0, 0.7)
    assert (told["at_mean"]["gradient_at"], told["noise"]["classifier_training_steps"]) == ("mean", 3)
    assert np.array_equal(made["label"], made["weight0"])
    assert np.array_equal(made["weight"], made["scale"])
    assert np.array_equal(made["unconditional"], made["without"])
    assert np.array_equal(made["weight"][0], made["labels"][0])


def test_every_class_in_a_column_of_its_own(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = f"sample {runs}/conditional --label all --count 13 --steps 1 --output {tmp_path}/x.png"
    assert run(flags, capsys)[0] == 0
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (10 * 68 + 4, 2 * 68 + 4)
    assert run(f"sample {runs}/plain --label all --classifier {runs}/classifier --count 1 --steps 1", capsys)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sample {runs}/conditional --label 10", "label 10 is none of the classes 0..9"),
        ("sample {runs}/conditional --label 3 -1", "label -1 is none of the classes 0..9"),
        ("sample {runs}/plain --label 3", "trained without labels; train one with: ddpm-ref train --conditional"),
        ("sample {runs}/plain --label 3 --guidance-weight 2", "trained without labels"),
        ("sample {runs}/plain --label 3 --guidance-weight 2 --classifier {runs}/classifier", "trained without labels"),
        ("sample {runs}/conditional --guidance-weight 2", "write --label beside it"),
        ("sample {runs}/conditional --label 3 --guidance-weight 2 --guidance-scale 3", "write one of them"),
        ("sample {runs}/conditional --label 3 --guidance-weight nan", "weight is nan"),
        ("sample {runs}/conditional --label 3 --rescale 0.7", "write --guidance-weight beside it"),
        ("sample {runs}/conditional --label 3 --guidance-weight 2 --rescale 7", "rescale is 7.0"),
        ("sample {runs}/conditional --label 3 --classifier-scale 2", "write --classifier RUN beside it"),
        ("sample {runs}/conditional --label 3 --gradient-at mean", "write --classifier RUN beside it"),
        ("sample {runs}/conditional --label 3 --classifier {runs}/plain", "holds a denoiser"),
        ("sample {runs}/conditional --label 3 --classifier {tmp}/none", "none does not exist"),
        ("sample {runs}/conditional --label 3 --classifier {runs}/elsewhere", "trained on another schedule"),
        (
            "sample {runs}/conditional --label 3 --classifier {runs}/classifier --gradient-at mean --sampler ddim",
            "the plan adds no noise",
        ),
        ("sample {runs}/classifier", "holds a classifier; name the run to sample from"),
        ("sample {runs}/told", "write --label all, or classes"),
        ("sample {runs}/told --label 3 --guidance-weight 2", "no unconditional prediction"),
        ("train --output {tmp}/new --label-dropout 0.1", "there are no labels to drop"),
        ("train --output {tmp}/new --conditional --label-dropout 1", "at least 0 and below 1"),
        ("train --output {tmp}/new --conditional --network.classes 5", "the data have labels up to 9; write 10"),
        ("train --output {runs}/plain --resume --conditional", "network.classes is 0 in the run so far and 10 now"),
        ("train --output {runs}/conditional --resume --label-dropout 0.2", "label_dropout is 0.1 in the run so far"),
        ("train --output {runs}/classifier --resume", "go on with: ddpm-ref train-classifier"),
        ("train-classifier --output {runs}/plain --resume", "go on with: ddpm-ref train --output"),
        ("train-classifier --output {tmp}/new --network.classes 1", "at least 2 classes"),
    ],
)
def test_wrong_usage_exits_2_with_one_line_and_makes_nothing(
    arguments: str, words: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(arguments.format(tmp=tmp_path, runs=runs), capsys)
    assert (status, out) == (2, "")
    assert words in err
    assert len([line for line in err.splitlines() if line.startswith("ddpm-ref:")]) == 1
    assert "Traceback" not in err
    assert not [entry for entry in tmp_path.glob("**/*") if entry.is_file() and entry.suffix == ".safetensors"]


def test_resuming_needs_no_word_about_labels(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"train --output {tmp_path} --max-steps 1 --conditional --label-dropout 0.3 {TINY}", capsys)[0] == 0
    for said in ("", "--conditional"):
        assert run(f"train --output {tmp_path} --resume {said}", capsys)[0] == 0
    assert Checkpoint.load(tmp_path / CHECKPOINT_NAME).config.label_dropout == 0.3


def test_a_classifier_has_the_flags_of_a_run_but_for_what_it_does_not_have() -> None:
    own = set(typing.get_type_hints(TrainingFlags)) - set(typing.get_type_hints(RunFlags))
    assert own == {"prediction", "loss", "label_dropout", "variance", "fixed_variance", "vlb_weight"}


def test_help_shows_every_flag_of_guidance(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("sample --help", capsys)
    assert status == 0
    for name in typing.get_type_hints(GuidanceFlags):
        assert f"--{name.replace('_', '-')}" in out
