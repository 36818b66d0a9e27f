"""The demo from start to end, in small."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_ref import demo
from ddpm_ref.demo import page
from ddpm_ref.demo.quality import Quality
from ddpm_ref.errors import OutputError, RangeError, ScheduleError
from ddpm_ref.nn import UNetConfig
from ddpm_ref.training import Checkpoint, Config, fit

PICTURES = ("samples.png", "forward.png", "posterior.png", "loss.png")


class Page(HTMLParser):
    """Which pictures a page shows, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.pictures: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures.append(dict(attrs)["src"] or "")
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, demo.Summary, list]:
    folder, seen = tmp_path_factory.mktemp("runs") / "demo", []
    return folder, demo.run(folder, seconds=0.2, samples=6, steps=4, progress=seen.append), seen


def test_it_leaves_what_it_says(made) -> None:
    folder, summary, seen = made
    assert set(summary.files) <= {entry.name for entry in folder.iterdir()}
    assert Checkpoint.load(folder / "checkpoint.safetensors").steps == summary.training_steps >= 1
    assert [progress.step for progress in seen if progress.task == "sample"] == [1, 2, 3, 4]
    assert summary.stopped == "time"
    assert 0 < summary.held_out_loss < 10
    for name in PICTURES:
        with Image.open(folder / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 0


def test_the_page_shows_every_picture(made) -> None:
    folder, summary, _ = made
    shown = Page((folder / "index.html").read_text(encoding="utf-8"))
    assert sorted(shown.pictures) == sorted(PICTURES)
    assert shown.open == []
    assert "were not judged: that takes 450" in (folder / "index.html").read_text(encoding="utf-8")
    assert summary.quality is None


def test_the_summary_is_json_with_the_ratios(made) -> None:
    folder, summary, _ = made
    stored = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert stored == json.loads(summary.to_json())
    assert stored["training_steps"] == summary.training_steps
    judged = dataclasses.replace(
        summary, quality=Quality(450, 30.0, 10.0, 120.0, 0.98, 0.9, 0.97, (45,) * 10, 0.2, 0.2)
    )
    assert json.loads(judged.to_json())["quality"]["of_gaussian"] == 0.25
    assert json.loads(judged.to_json())["quality"]["of_held_out"] == 3.0
    text = page.render(judged)
    assert Page(text).open == []
    assert "3.0 times that of real digits" in text


def test_it_replaces_its_own_results(made) -> None:
    folder, first, _ = made
    again = demo.run(folder, seconds=0.2, seed=1, samples=1, steps=1, progress=lambda progress: None)
    assert (again.seed, again.samples) == (1, 1)
    assert again.files == first.files


def test_it_leaves_somebody_s_own_run_alone(tmp_path: Path) -> None:
    config = Config(network=UNetConfig(width=8, groups=4), batch_size=2, max_steps=1, max_seconds=None)
    own = fit(config, tmp_path / "own")
    with pytest.raises(OutputError, match="not a demo's"):
        demo.run(tmp_path / "own", seconds=0.2, samples=1, steps=1)
    assert Checkpoint.load(own.path).steps == 1


@pytest.mark.full
def test_an_older_page_never_stands_beside_a_newer_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo.run(tmp_path, seconds=0.2, samples=1, steps=1, progress=lambda progress: None)

    def interrupted(progress: object) -> None:
        if progress.task == "sample":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.run(tmp_path, seconds=0.2, samples=1, steps=2, progress=interrupted)
    assert not (tmp_path / "index.html").exists()
    assert (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.full
def test_without_a_callback_progress_goes_to_the_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.run(tmp_path, seconds=0.2, samples=1, steps=2)
    assert "train: step" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seconds": 0}, RangeError),
        ({"samples": 0}, RangeError),
        ({"steps": 0}, ScheduleError),
        ({"steps": 1001}, ScheduleError),
        ({"seed": -1}, RangeError),
        ({"threads": 0}, RangeError),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(tmp_path: Path, options, error) -> None:
    with pytest.raises(error):
        demo.run(tmp_path / "demo", **options)
    assert not (tmp_path / "demo").exists()


def test_other_people_s_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("precious")
    with pytest.raises(OutputError):
        demo.run(tmp_path, seconds=0.2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes"]
