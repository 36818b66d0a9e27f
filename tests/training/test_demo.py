import numpy as np
import pytest
from PIL import Image

from ddpm_ref.errors import OutputError, RangeError, ScheduleError
from ddpm_ref.training import Checkpoint, demo


def test_the_demo_leaves_a_checkpoint_and_a_page_of_samples(tmp_path):
    seen = []
    result = demo.run(tmp_path / "demo", seconds=0.2, samples=6, steps=4, progress=seen.append)
    assert Checkpoint.load(result.checkpoint).steps == result.steps >= 1
    assert [progress.step for progress in seen if progress.task == "sample"] == [1, 2, 3, 4]
    with Image.open(result.picture) as picture:
        assert np.asarray(picture).std() > 0
    assert result.stopped == "time"
    assert 0 < result.held_out_loss < 10
    again = demo.run(tmp_path / "demo", seconds=0.2, samples=1, steps=1, progress=seen.append)
    assert again.checkpoint == result.checkpoint


def test_without_a_callback_progress_goes_to_the_console(tmp_path, capsys):
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
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(tmp_path, options, error):
    with pytest.raises(error):
        demo.run(tmp_path / "demo", **options)
    assert not (tmp_path / "demo").exists()


def test_other_people_s_files_are_left_alone(tmp_path):
    (tmp_path / "notes").write_text("precious")
    with pytest.raises(OutputError):
        demo.run(tmp_path, seconds=0.2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes"]
