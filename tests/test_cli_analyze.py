"""``ddpm-ref analyze`` and ``sample --sampler analytic``, as a user meets them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY, run, run_stopped
from PIL import Image

from ddpm_ref import cli
from ddpm_ref.estimation import Moments, estimate, network_digest
from ddpm_ref.estimation.unknown import unknown_by_level
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.analytic import optimal_trajectory
from ddpm_ref.training.data import load
from ddpm_ref.training.folder import latest
from ddpm_ref.training.samples import draw_samples


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run that was analyzed."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    for command in (f"train --output {folder} --max-steps 20 {TINY}", f"analyze {folder} --count 20 --batch-size 8"):
        with pytest.raises(SystemExit) as end:
            cli.main(command.split())
        assert end.value.code == 0
    return folder


@pytest.fixture
def copy(analyzed: Path, tmp_path: Path) -> Path:
    shutil.copytree(analyzed, tmp_path / "run")
    return tmp_path / "run"


def test_analyze_leaves_moments_a_table_and_a_plot(analyzed: Path) -> None:
    checkpoint = latest(analyzed).checkpoint
    moments = Moments.load(analyzed / "moments.safetensors")
    assert moments.levels == tuple(range(1, 11))
    moments.must_belong_to(checkpoint.schedule, network_digest(checkpoint))
    data = load("digits").train[:20]
    again = estimate(checkpoint.denoiser(), checkpoint.schedule, data, batch_size=8).moments
    assert np.array_equal(again.residual.products, moments.residual.products)
    table = json.loads((analyzed / "moments.json").read_text())
    assert [row["t"] for row in table["levels"]] == list(range(1, 11))
    with Image.open(analyzed / "moments.png") as picture:
        assert picture.size == (960, 840)


def test_other_forms_cost_nothing_and_other_measurements_are_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = f"analyze {copy} --count 20 --batch-size 8"
    status, out, err = run(f"{flags} --form mean-square --eta 0 --confidence 0.5 --json", capsys)
    table = json.loads(out)
    assert (status, err) == (0, "")  # nothing was measured, so nothing was said of it
    assert (table["form"], table["eta"], table["confidence"], table["path_cost"]) == ("mean_square", 0.0, 0.5, None)
    before = (copy / "moments.safetensors").read_bytes()
    status, _, err = run(f"{flags} --seed 1", capsys)
    assert status == 2
    assert "is of another measurement: seed is 0 there and 1 now" in err
    assert (copy / "moments.safetensors").read_bytes() == before
    assert run(f"{flags} --seed 1 --overwrite", capsys)[0] == 0
    assert (copy / "moments.safetensors").read_bytes() != before


def test_overwrite_replaces_measurements_and_nothing_else(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = copy / "checkpoint.safetensors"
    before = checkpoint.read_bytes()
    status, _, err = run(f"analyze {copy} --count 8 --steps 2 --output {checkpoint} --overwrite", capsys)
    assert (status, checkpoint.read_bytes()) == (2, before)
    assert "not a ddpm_ref file of moments" in err
    precious = copy / "mine.json"
    precious.write_text("precious")
    target = f"--count 8 --steps 2 --output {copy / 'mine.safetensors'}"
    status, _, err = run(f"analyze {copy} {target}", capsys)
    assert (status, precious.read_text()) == (2, "precious")
    assert "mine.json exists; name another --output, or write --overwrite" in err
    assert run(f"analyze {copy} {target} --overwrite", capsys)[0] == 0


def test_a_device_that_is_not_there(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(f"analyze {copy} --device abacus", capsys)
    assert status == 2
    assert "device 'abacus' cannot be used here" in err


def test_the_levels_of_a_trajectory_held_out_images_and_draws(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = copy.parent / "few.safetensors"
    status, out, _ = run(
        f"analyze {copy} --count 8 --draws 2 --steps 4 --spacing trailing --images held-out --weights raw --output {target}",
        capsys,
    )
    assert status == 0
    moments, checkpoint = Moments.load(target), latest(copy).checkpoint
    assert moments.levels == tuple(reversed(checkpoint.schedule.trajectory(4, "trailing").levels[:-1]))
    wanted = estimate(
        checkpoint.denoiser(weights="raw"), checkpoint.schedule, load("digits").held_out[:8], moments.levels, draws=2
    ).moments
    assert np.array_equal(wanted.residual.mean, moments.residual.mean)
    assert moments.origin.network_digest == network_digest(checkpoint, "raw")
    assert str(target.with_suffix(".json")) in out
    assert target.with_suffix(".png").exists()


def test_an_interrupted_analysis_says_so_and_goes_on(
    copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = f"analyze {copy} --count 20 --batch-size 8 --seed 5 --output {copy / 'm.safetensors'}"
    for stop in (3, 14):
        status, _, err = run_stopped(flags, stop, capsys, monkeypatch)
        assert status == 130
        assert "what was measured is kept; the same command goes on" in err
        assert (copy / "m.partial.safetensors").exists()
    assert run(flags, capsys)[0] == 0
    assert not (copy / "m.partial.safetensors").exists()
    whole = estimate(
        latest(copy).checkpoint.denoiser(),
        latest(copy).checkpoint.schedule,
        load("digits").train[:20],
        batch_size=8,
        seed=5,
    )
    assert np.array_equal(Moments.load(copy / "m.safetensors").residual.products, whole.moments.residual.products)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--count 1", "an interval needs at least 2 images"),
        ("--count 5000", "there are 1347 train images"),
        ("--count 451 --images held-out", "there are 450 held-out images"),
        ("--low -0.5", r"% of the|of data \(.* %\) lie outside \[-0.5, 1\]"),
        ("--confidence 1", "--confidence 1 is a share"),
        ("--eta 1.5", "--eta 1.5"),
        ("--steps 11", "steps = 11"),
        ("--draws 0", "draws is 0"),
        ("--processes 0", "processes is 0"),
        ("--batch-size 0", "batch_size is 0"),
        ("--threads 0", "--threads 0"),
        ("--output m.npz", "give a name ending in .safetensors"),
        ("--output /no/such/m.safetensors", "does not exist; make it first"),
    ],
)
def test_wrong_usage_of_analyze_is_said_in_a_line(
    flags: str, message: str, analyzed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    status, _, err = run(f"analyze {analyzed} --count 20 {flags}", capsys)
    assert status == 2
    assert re.search(message, err)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "form", "options"),
    [
        ("--steps 4", "residual", {}),
        ("--steps 4 --eta 0 --form mean-square", "mean_square", {"eta": 0.0}),
        ("--steps 3 --spacing trailing --last-noise analytic --no-clip", "residual", {"last_noise": "analytic"}),
        ("--steps 4 --pixel-threshold 1 --keep-eps", "residual", {"pixel_threshold": 1.0, "rederive_eps": False}),
        ("--steps 4 --spacing optimal --eta 0.5", "residual", {"eta": 0.5}),
    ],
)
def test_analytic_samples_are_those_of_the_plan(
    flags: str, form: str, options: dict[str, object], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = copy / "s.npz"
    status, out, _ = run(f"sample {copy} --sampler analytic --count 3 --seed 7 --output {target} {flags}", capsys)
    assert status == 0
    found = latest(copy)
    schedule, moments = found.checkpoint.schedule, Moments.load(copy / "moments.safetensors")
    table, _ = unknown_by_level(schedule, moments, form)
    steps = int(flags.split()[1])
    if "optimal" in flags:
        walk = optimal_trajectory(schedule, table, steps, 0.5).trajectory
    else:
        walk = schedule.trajectory(steps, "trailing" if "trailing" in flags else "even")
    clip = None if "--no-clip" in flags else (-1.0, 1.0)
    plan = plans.analytic(schedule, walk, table, **{"clip": clip, **options})  # type: ignore[arg-type] # by name
    with np.load(target) as arrays:
        images, arguments = arrays["images"], json.loads(str(arrays["arguments"]))
    assert np.array_equal(images, draw_samples(found.checkpoint, 3, plan, 7).numpy())
    assert (arguments["sampler"], arguments["levels"]) == ("analytic", list(walk.levels))
    assert arguments["form"] == form.replace("_", "-")
    assert "estimates clipped" in out
    assert out.startswith("sigma-hat^2 of 20 images")


def test_what_was_clipped_is_said_with_its_levels(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moments = Moments.load(copy / "moments.safetensors")
    moments.residual.mean[:] = [0.0] * 9 + [1e3]
    moments.save(copy / "moments.safetensors")
    _, out, _ = run(f"sample {copy} --sampler analytic --count 1 --steps 4 --output {copy / 's.npz'}", capsys)
    assert "1 of 3 estimates clipped; 1 above the bound at levels 10" in out
    with np.load(copy / "s.npz") as arrays:
        assert json.loads(str(arrays["arguments"]))["clipped"] == [10]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--sampler analytic --moments none.safetensors", "does not exist; measure them with ddpm-ref analyze first"),
        ("--sampler analytic --weights raw", "the moments are of a network with digest"),
        ("--sampler analytic --variance beta", "--variance beta belongs to --sampler ddpm"),
        ("--sampler analytic --keep-eps --no-clip", "--keep-eps says what happens after clipping"),
        ("--sampler analytic --spacing optimal --eta 0", "eta = 0"),
        ("--sampler analytic --eta 2", "eta"),
        ("--sampler analytic --pixel-threshold -1", "pixel_threshold"),
        ("--sampler analytic --label 3", "the moments are of the network without labels"),
        ("--sampler ddpm --form residual", "--form belongs to --sampler analytic"),
        ("--sampler ddim --last-noise none", "--last-noise belongs to --sampler analytic"),
        ("--sampler ddim --pixel-threshold 1", "--pixel-threshold belongs"),
        ("--spacing optimal", "--spacing optimal belongs"),
    ],
)
def test_flags_that_do_not_belong_together_are_said_in_a_line(
    flags: str, message: str, analyzed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(f"sample {analyzed} --count 1 --steps 4 {flags}", capsys)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_moments_of_another_run_or_schedule_are_refused(
    analyzed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for changes, message in (
        ("--seed 1", "of a network with digest"),
        ("--schedule.s 0.02", "of a schedule with digest"),
    ):
        other = tmp_path / changes.split()[0]
        assert run(f"train --output {other} --max-steps 1 {changes} {TINY}", capsys)[0] == 0
        status, _, err = run(
            f"sample {other} --sampler analytic --steps 4 --moments {analyzed / 'moments.safetensors'}", capsys
        )
        assert status == 2
        assert message in err


def test_a_trajectory_through_levels_that_were_not_measured_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = copy / "few.safetensors"
    assert run(f"analyze {copy} --count 8 --steps 3 --output {few}", capsys)[0] == 0
    assert run(f"sample {copy} --sampler analytic --count 1 --steps 3 --moments {few}", capsys)[0] == 0
    status, _, err = run(f"sample {copy} --sampler analytic --count 1 --steps 5 --moments {few}", capsys)
    assert status == 2
    assert "is not known (NaN) at level" in err
