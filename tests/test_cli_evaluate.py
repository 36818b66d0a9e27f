"""``ddpm-ref evaluate``, as a user meets it."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY, run, run_stopped
from PIL import Image

from ddpm_ref import cli
from ddpm_ref.estimation import Moments, network_digest
from ddpm_ref.estimation.unknown import unknown_by_level
from ddpm_ref.evaluation import Evaluation, evaluate
from ddpm_ref.reference.analytic import optimal_trajectory
from ddpm_ref.training.data import load
from ddpm_ref.training.folder import latest


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run that was analyzed and evaluated."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    for command in (
        f"train --output {folder} --max-steps 20 {TINY}",
        f"analyze {folder} --count 20 --batch-size 20",
        f"evaluate {folder} --count 20 --batch-size 8",
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(command.split())
        assert end.value.code == 0
    return folder


@pytest.fixture
def copy(evaluated: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated, tmp_path / "run")
    return tmp_path / "run"


def test_evaluate_leaves_a_file_a_table_and_a_plot(evaluated: Path) -> None:
    checkpoint, images = latest(evaluated).checkpoint, load("digits")
    found = Evaluation.load(evaluated / "evaluation.safetensors")
    assert found.conditions.network_digest == network_digest(checkpoint)
    assert (found.conditions.levels, found.conditions.variance, found.count) == (17, "posterior", 20)
    again = evaluate(
        checkpoint.denoiser(), checkpoint.schedule, images.held_out[:20], levels=images.levels, batch_size=8
    )
    assert np.array_equal(again.totals, found.totals)
    table = json.loads((evaluated / "evaluation.json").read_text())
    assert [row["t"] for row in table["terms"]] == list(range(10, 0, -1))
    assert table["bits_per_dim"]["estimate"] == float(found.total.estimate)
    with Image.open(evaluated / "evaluation.png") as picture:
        assert picture.size == (960, 840)


def test_the_same_again_costs_nothing_and_another_is_refused(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = f"evaluate {copy} --count 20 --batch-size 8"
    status, out, err = run(f"{flags} --json", capsys)
    assert (status, err) == (0, "")  # nothing was evaluated, so nothing was said of it
    assert json.loads(out)["count"] == 20
    before = (copy / "evaluation.safetensors").read_bytes()
    status, _, err = run(f"{flags} --seed 1", capsys)
    assert status == 2
    assert "is of another evaluation: seed is 0 there and 1 now" in err
    assert (copy / "evaluation.safetensors").read_bytes() == before
    assert run(f"{flags} --seed 1 --overwrite", capsys)[0] == 0
    assert (copy / "evaluation.safetensors").read_bytes() != before


def test_overwrite_replaces_evaluations_and_nothing_else(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moments = copy / "moments.safetensors"
    before = moments.read_bytes()
    status, _, err = run(f"evaluate {copy} --count 8 --steps 2 --output {moments} --overwrite", capsys)
    assert (status, moments.read_bytes()) == (2, before)
    assert "not a ddpm_ref evaluation" in err
    (copy / "mine.json").write_text("precious")
    status, _, err = run(f"evaluate {copy} --count 8 --steps 2 --output {copy / 'mine.safetensors'}", capsys)
    assert (status, (copy / "mine.json").read_text()) == (2, "precious")
    assert "mine.json exists; name another --output, or write --overwrite" in err


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ("--steps 4 --spacing trailing --variance beta --images train --seed 3", {"variance": "beta", "seed": 3}),
        ("--steps 4 --continuous --as-levels 17 --no-clip", {"levels": None, "clip_x0": False}),
        ("--steps 4 --variance analytic --form mean-square", {"variance": "analytic"}),
        (
            "--steps 3 --spacing optimal --variance analytic --first-step replace",
            {"variance": "analytic", "first_step": "replace"},
        ),
    ],
)
def test_flags_are_arguments(
    flags: str, options: dict[str, object], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = copy / "e.safetensors"
    status, out, _ = run(f"evaluate {copy} --count 6 --output {target} {flags}", capsys)
    assert status == 0
    checkpoint, images = latest(copy).checkpoint, load("digits")
    schedule, moments = checkpoint.schedule, Moments.load(copy / "moments.safetensors")
    unknown, _ = unknown_by_level(schedule, moments, "mean_square" if "mean-square" in flags else "residual")
    steps = int(flags.split()[1])
    if "optimal" in flags:
        walk = optimal_trajectory(schedule, unknown, steps).trajectory
    else:
        walk = schedule.trajectory(steps, "trailing" if "trailing" in flags else "even")
    wanted = evaluate(
        checkpoint.denoiser(),
        schedule,
        (images.train if "train" in flags else images.held_out)[:6],
        walk,
        **{"levels": images.levels, **options},  # type: ignore[arg-type] # by name
        x0_variance=unknown if "analytic" in flags else None,
    )
    assert np.array_equal(Evaluation.load(target).totals, wanted.totals)
    assert ("sigma-hat^2 of 20 images" in out) == ("analytic" in flags)
    assert f"bits per dimension <= {float(wanted.total.estimate):.5g}" in out
    if "--as-levels" in flags:
        assert f"as if the data had 17 levels: {wanted.total.estimate + math.log2(8):.5g}" in out
        assert json.loads(target.with_suffix(".json").read_text())["as_17_levels"] == wanted.as_if_discrete(17)


def test_an_interrupted_evaluation_says_so_and_goes_on(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = f"evaluate {copy} --count 20 --batch-size 8 --seed 5 --output {copy / 'e.safetensors'}"
    for stop in (3, 14):
        status, _, err = run_stopped(flags, stop, capsys, monkeypatch)
        assert status == 130
        assert "what was measured is kept; the same command goes on" in err
        assert (copy / "e.partial.safetensors").exists()
    assert run(flags, capsys)[0] == 0
    assert not (copy / "e.partial.safetensors").exists()
    checkpoint, images = latest(copy).checkpoint, load("digits")
    whole = evaluate(checkpoint.denoiser(), checkpoint.schedule, images.held_out[:20], levels=17, batch_size=8, seed=5)
    assert np.array_equal(Evaluation.load(copy / "e.safetensors").totals, whole.totals)


def test_what_a_network_learned_of_the_variance_is_the_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hybrid"
    learns = "--loss hybrid --variance learned-range"
    assert run(f"train --output {folder} --max-steps 2 {learns} {TINY}", capsys)[0] == 0
    assert run(f"evaluate {folder} --count 6 --steps 4", capsys)[0] == 0
    found, checkpoint = Evaluation.load(folder / "evaluation.safetensors"), latest(folder).checkpoint
    assert found.conditions.variance == "learned_range"
    walk, data = checkpoint.schedule.trajectory(4), load("digits").held_out[:6]
    wanted, posterior = (
        evaluate(checkpoint.denoiser(), checkpoint.schedule, data, walk, variance=variance, levels=17)
        for variance in ("learned_range", "posterior")
    )
    assert np.array_equal(found.totals, wanted.totals)
    assert not np.array_equal(found.totals, posterior.totals)


def test_points_are_evaluated_without_clipping(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "points"
    tiny = "--dataset mixture --network.width 8 --network.blocks 1 --schedule.T 10 --batch-size 4"
    assert run(f"train --output {folder} --max-steps 1 {tiny}", capsys)[0] == 0
    before = sorted(folder.iterdir())
    status, _, err = run(f"evaluate {folder} --count 6 --steps 4", capsys)
    assert status == 2
    assert "the run is of points, which lie anywhere, and not of images in [-1, 1]; write --no-clip" in err
    assert err.count("\n") == 1
    assert sorted(folder.iterdir()) == before
    assert run(f"evaluate {folder} --count 6 --steps 4 --no-clip", capsys)[0] == 0
    found, checkpoint = Evaluation.load(folder / "evaluation.safetensors"), latest(folder).checkpoint
    assert found.conditions.levels is None
    data, walk = load("mixture").held_out[:6], checkpoint.schedule.trajectory(4)
    wanted = evaluate(checkpoint.denoiser(), checkpoint.schedule, data, walk, levels=None, clip_x0=False)
    assert np.array_equal(found.totals, wanted.totals)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--count 1", "--count 1: a standard error needs at least 2 images"),
        ("--count 451", "there are 450 held-out images"),
        ("--count 5000 --images train", "there are 1347 train images"),
        ("--steps 11", "steps = 11"),
        ("--steps 3 --spacing leading", r"begins at level \d+, the wrong end"),
        ("--steps 1", "has only one"),
        ("--spacing optimal", "write --steps"),
        ("--spacing optimal --steps 1", "K = 1"),
        ("--moments m.safetensors", "--moments belongs to --variance analytic"),
        ("--form residual", "--form belongs to --variance analytic"),
        ("--variance analytic --moments none.safetensors", "does not exist; measure them with ddpm-ref analyze first"),
        ("--variance analytic --weights raw", "the moments are of a network with digest"),
        ("--variance learned-range", "the network says nothing of a variance"),
        ("--first-step exact", "at 0, where a likelihood says nothing"),
        ("--as-levels 17", "--as-levels 17.*add --continuous"),
        ("--continuous --as-levels 1", "--as-levels 1"),
        ("--batch-size 0", "batch_size is 0"),
        ("--threads 0", "--threads 0"),
        ("--device abacus", "device 'abacus' cannot be used here"),
        ("--output e.npz", "give a name ending in .safetensors"),
        ("--output /no/such/e.safetensors", "does not exist; make it first"),
    ],
)
def test_wrong_usage_of_evaluate_is_said_in_a_line(
    flags: str, message: str, evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(f"evaluate {evaluated} {'' if '--count' in flags else '--count 20'} {flags}", capsys)
    assert status == 2
    assert re.search(message, err)
    assert err.count("\n") == 1


def test_mean_squares_say_nothing_without_signal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "dark"
    zero = "--schedule.kind cosine --schedule.zero-terminal-snr --prediction v"
    assert run(f"train --output {folder} --max-steps 1 {zero} {TINY}", capsys)[0] == 0
    assert run(f"analyze {folder} --count 8 --batch-size 8", capsys)[0] == 0
    status, _, err = run(f"evaluate {folder} --count 8 --variance analytic --form mean-square", capsys)
    assert status == 2
    assert "says nothing at level T" in err
    assert run(f"evaluate {folder} --count 8 --variance analytic", capsys)[0] == 0
