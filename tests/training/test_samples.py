import json
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_ref.errors import LevelError, OutputError, RangeError
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.sampling import GeneratorNoise, PhiloxNoise, sample, snapshots
from ddpm_ref.training import fit
from ddpm_ref.training.samples import draw, draw_samples, write_samples


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


@pytest.mark.parametrize("noise", ["generator", "philox"])
def test_a_large_count_is_made_in_batches_each_with_noise_of_its_own(noise, checkpoint):
    plan, seen = a_plan(checkpoint, clip=(-1.0, 1.0)), []
    drawn = draw(checkpoint, 5, plan, 7, noise=noise, batch_size=2, progress=seen.append)
    source = {"generator": GeneratorNoise, "philox": PhiloxNoise}[noise]
    parts = [
        sample(checkpoint.denoiser(), (size, 1, 8, 8), plan, source(7, first))
        for first, size in ((0, 2), (2, 2), (4, 1))
    ]
    assert torch.equal(drawn.images, torch.cat(parts))
    assert len({image.numpy().tobytes() for image in drawn.images}) == 5
    assert [(progress.step, progress.steps) for progress in seen] == [(k, 12) for k in range(1, 13)]
    assert (drawn.interrupted, drawn.states) == (False, {})


def test_with_philox_the_batch_size_makes_no_difference_but_the_network_s_own(checkpoint):
    plan = a_plan(checkpoint, clip=(-1.0, 1.0))
    whole, parts = (draw(checkpoint, 6, plan, noise="philox", batch_size=size).images for size in (6, 1))
    other = draw(checkpoint, 6, plan, 1, noise="philox").images
    largest = float((whole - parts).abs().max())
    print(f"largest difference between batches of 6 and of 1: {largest:.2g}")
    # rule: networks; far below what another noise does
    assert largest < 1e-3 * float((whole - other).abs().max())


def test_states_on_the_way_are_kept_by_level(checkpoint):
    plan = a_plan(checkpoint)
    levels = plan.trajectory.levels
    drawn = draw(checkpoint, 3, plan, noise="philox", batch_size=2, levels=[levels[2], levels[0]])
    assert list(drawn.states) == [levels[0], levels[2]]
    want = snapshots(checkpoint.denoiser(), (2, 1, 8, 8), plan, PhiloxNoise(0), levels=levels)
    assert all(torch.equal(drawn.states[t][:2], want[t]) for t in drawn.states)
    assert torch.equal(drawn.images[:2], want[0])
    with pytest.raises(LevelError, match="does not visit level 3"):
        draw(checkpoint, 3, plan, levels=[3])


@pytest.mark.parametrize("stop", [4, 5, 8, 11])
def test_an_interruption_keeps_the_batches_that_are_finished(stop, checkpoint):
    plan = a_plan(checkpoint)

    def impatient(progress):
        if progress.step == stop:
            raise KeyboardInterrupt

    drawn = draw(checkpoint, 6, plan, batch_size=2, progress=impatient)
    finished = stop // 4 * 2
    assert (drawn.interrupted, len(drawn.images)) == (True, finished)
    assert torch.equal(drawn.images, draw(checkpoint, 6, plan, batch_size=2).images[:finished])


def test_the_rest_of_an_interrupted_set_is_made_later(checkpoint):
    plan = a_plan(checkpoint)
    whole = draw(checkpoint, 6, plan, 3, noise="philox", batch_size=2).images
    rest = draw(checkpoint, 4, plan, 3, first=2, noise="philox", batch_size=2).images
    assert torch.equal(whole[2:], rest)
    with pytest.raises(RangeError, match="first is -1; images are counted from 0"):
        draw(checkpoint, 4, plan, first=-1)


def test_an_interruption_of_the_first_batch_is_passed_on(checkpoint):
    def impatient(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="no batch was finished; a smaller --batch-size keeps more"):
        draw(checkpoint, 6, a_plan(checkpoint), batch_size=2, progress=impatient)


def test_an_interruption_after_the_last_step_is_none(checkpoint):
    def late(progress):
        if progress.step == progress.steps:
            raise KeyboardInterrupt

    assert not draw(checkpoint, 2, a_plan(checkpoint), progress=late).interrupted


def test_a_wrong_batch_size_or_source_is_refused(checkpoint):
    for size in (0, -1, True):
        with pytest.raises(RangeError, match="make at least 1 image at once"):
            draw(checkpoint, 2, a_plan(checkpoint), batch_size=size)
    with pytest.raises(RangeError, match="noise = 'perlin' is not known; write one of 'generator', 'philox'"):
        draw(checkpoint, 2, a_plan(checkpoint), noise="perlin")


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


def test_states_go_into_the_npz_file(tmp_path):
    states = {t: np.full((2, 1, 8, 8), t, dtype=np.float32) for t in (9, 4)}
    write_samples(tmp_path / "x.npz", states[4], {}, states)
    with np.load(tmp_path / "x.npz") as file:
        assert file["levels"].tolist() == [9, 4]
        assert np.array_equal(file["states"], np.stack([states[9], states[4]]))


def test_a_png_file_is_a_page_of_images(tmp_path):
    write_samples(tmp_path / "x.png", np.zeros((4, 1, 8, 8)), {})
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (140, 140)


@pytest.mark.parametrize("name", ["x.jpg", "x", "x.PNG.txt"])
def test_another_ending_is_refused(name, tmp_path):
    with pytest.raises(OutputError, match=r"ending in \.png or \.npz"):
        write_samples(tmp_path / name, np.zeros((1, 1, 8, 8)), {})
    assert not list(tmp_path.iterdir())
