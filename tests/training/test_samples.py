import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_ref.errors import OutputError, RangeError
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.sampling import GeneratorNoise, sample
from ddpm_ref.training import fit
from ddpm_ref.training.samples import draw_samples, write_samples


@pytest.fixture(scope="module")
def checkpoint(tiny_config):
    return fit(tiny_config(max_steps=10, learning_rate=0.01)).checkpoint


def a_plan(checkpoint, **options):
    return plans.ancestral(checkpoint.schedule, checkpoint.schedule.trajectory(4), **options)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_samples_are_those_of_the_sampler(variance, weights, checkpoint):
    plan, seen = a_plan(checkpoint, variance=variance, clip=(-1.0, 1.0)), []
    x = draw_samples(checkpoint, 3, plan, 7, weights=weights, progress=seen.append)
    assert torch.equal(x, sample(checkpoint.denoiser(weights=weights), (3, 1, 8, 8), plan, GeneratorNoise(7)))
    assert [(progress.task, progress.step, progress.steps) for progress in seen] == [
        ("sample", k, 4) for k in (1, 2, 3, 4)
    ]
    assert seen[-1].remaining == 0
    assert x.abs().max() <= 1


def test_variance_weights_seed_and_clipping_all_matter(checkpoint):
    options = [{"variance": "posterior"}, {"variance": "beta"}, {"clip": (-1.0, 1.0)}]
    made = [draw_samples(checkpoint, 2, a_plan(checkpoint, **option)) for option in options]
    made += [
        draw_samples(checkpoint, 2, a_plan(checkpoint), weights="raw"),
        draw_samples(checkpoint, 2, a_plan(checkpoint), 1),
    ]
    assert len({x.numpy().tobytes() for x in made}) == 5


def test_a_wrong_count_seed_device_or_schedule_is_refused(checkpoint, tiny_config):
    plan = a_plan(checkpoint)
    for count in (0, -3, True):
        with pytest.raises(RangeError, match="make at least 1 image"):
            draw_samples(checkpoint, count, plan)
    with pytest.raises(RangeError, match="seed is -1"):
        draw_samples(checkpoint, 1, plan, -1)
    with pytest.raises(RangeError, match="device 'abacus'"):
        draw_samples(checkpoint, 1, plan, device="abacus")
    for schedule, fits in ((tiny_config().schedule.build(), True), (linear_schedule(10), False)):  # equal betas fit
        other = plans.ancestral(schedule, schedule.trajectory(4))
        with nullcontext() if fits else pytest.raises(RangeError, match="of another schedule"):
            draw_samples(checkpoint, 1, other)


def test_an_npz_file_holds_the_numbers_and_how_they_were_made(tmp_path):
    images = np.linspace(-1, 1, 2 * 64, dtype=np.float32).reshape(2, 1, 8, 8)
    write_samples(tmp_path / "x.npz", images, {"seed": 3, "clip": True})
    with np.load(tmp_path / "x.npz") as file:
        assert np.array_equal(file["images"], images)
        assert file["images"].dtype == np.float32
        assert json.loads(str(file["arguments"])) == {"seed": 3, "clip": True}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.npz"]


def test_a_png_file_is_a_page_of_images(tmp_path):
    write_samples(tmp_path / "x.png", np.zeros((4, 1, 8, 8)), {})
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (140, 140)


@pytest.mark.parametrize("name", ["x.jpg", "x", "x.PNG.txt"])
def test_another_ending_is_refused(name, tmp_path):
    with pytest.raises(OutputError, match=r"ending in \.png or \.npz"):
        write_samples(tmp_path / name, np.zeros((1, 1, 8, 8)), {})
    assert not list(tmp_path.iterdir())
