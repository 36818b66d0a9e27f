"""The file of an evaluation, its description and its picture: nothing is lost, nothing damaged or foreign is taken."""

import io
import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from tensor_files import rewrite, tensors_and_header

from ddpm_ref.errors import EvaluationError, OutputError
from ddpm_ref.estimation.state import partial_path
from ddpm_ref.evaluation import Evaluation, evaluate
from ddpm_ref.evaluation.plots import figure
from ddpm_ref.evaluation.report import describe
from ddpm_ref.sampling import Denoiser


@pytest.fixture
def found(schedule, images, half):
    return evaluate(half, schedule, images, (10, 6, 2, 0), levels=5, batch_size=4)


@pytest.fixture
def saved(found, tmp_path):
    found.save(tmp_path / "e.safetensors")
    return tmp_path / "e.safetensors"


def test_what_is_written_is_read_again(found, saved):
    again = Evaluation.load(saved)
    assert again.conditions == found.conditions
    assert json.dumps(again.as_json()) == json.dumps(found.as_json())
    assert np.array_equal(again.totals, found.totals)


def with_tensor(name, change):
    def spoil(path):
        tensors = tensors_and_header(path)[0]
        rewrite(path, {**tensors, name: change(tensors[name]).contiguous()})

    return spoil


def without(name):
    return lambda path: rewrite(
        path, {key: tensor for key, tensor in tensors_and_header(path)[0].items() if key != name}
    )


def with_conditions(**changes):
    def spoil(path):
        conditions = json.loads(tensors_and_header(path)[1]["conditions"])
        rewrite(path, conditions=json.dumps({**conditions, **changes}))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "does not exist; make it with ddpm-ref evaluate first"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated or damaged"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "no pickle is ever loaded"),
        (lambda path: safetensors.torch.save_file({"a": torch.ones(1)}, path), "not a ddpm_ref evaluation"),
        (lambda path: rewrite(path, version="99"), "of version 99"),
        (lambda path: rewrite(path, conditions="{"), "makes no sense"),
        (with_conditions(seed="0"), "conditions.seed is '0'"),
        (with_conditions(trajectory=[0, 3]), "must be whole levels"),
        (with_conditions(trajectory=[10, 2, 0]), r"it needs means, finite float64 of shape \(2, 3\)"),
        (with_conditions(count=8), "it is of 8 images, but not all it holds is"),
        (with_conditions(count=1), "no evaluation has the conditions"),
        (with_conditions(levels=1), "no evaluation has the conditions"),
        (without("totals"), "it holds no totals"),
        (with_tensor("totals", lambda values: values[:0]), "it needs priors"),
        (with_tensor("priors", torch.Tensor.float), "it needs priors"),
        (with_tensor("means", lambda means: means * torch.nan), "it needs means"),
        (with_tensor("means", lambda means: -means), "a mean of squares in it is negative"),
        (with_tensor("products", lambda products: -products), "a mean of squares in it is negative"),
        (lambda path: rewrite(path, {**tensors_and_header(path)[0], "more": torch.ones(1)}), "not all it holds is"),
    ],
)
def test_damage_is_named(spoil, message, saved):
    spoil(saved)
    with pytest.raises(EvaluationError, match=message):
        Evaluation.load(saved)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: rewrite(path, seconds="-1"), "in -1.0 s"),
        (lambda path: rewrite(path, seconds="soon"), "could not convert"),
        (with_tensor("waiting", lambda values: values[:, :2]), "it needs waiting"),
        (with_tensor("waiting", lambda values: values * torch.nan), "it needs waiting"),
        (with_tensor("waiting", lambda values: values.repeat(3, 1, 1)), "it needs waiting"),
        (with_tensor("totals", lambda values: values[:3]), "it needs priors"),
        (lambda path: rewrite(path, {**tensors_and_header(path)[0], "more": torch.ones(1)}), "1 tensors besides"),
    ],
)
def test_damage_of_what_is_under_way_is_named(spoil, message, schedule, images, half, tmp_path):
    def stop(progress):
        if progress.step == 4:  # one batch of four images through three steps, and one step of the next
            raise KeyboardInterrupt

    options = {"levels": 5, "batch_size": 4, "output": tmp_path / "e.safetensors"}
    evaluate(half, schedule, images, (10, 6, 2, 0), **options, progress=stop)
    spoil(partial_path(options["output"]))
    with pytest.raises(EvaluationError, match=message):
        evaluate(half, schedule, images, (10, 6, 2, 0), **options)


def test_what_cannot_be_written_leaves_what_was_there(found, saved):
    before = saved.read_bytes()
    with pytest.raises(OutputError):
        found.save(saved.parent / "no" / "e.safetensors")
    assert saved.read_bytes() == before


def test_the_description_says_where_the_bits_go(found):
    lines = describe(found, rows=2).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["10", "2"]
    assert lines[3] == "2 of 3 steps; variance posterior, first step replace, x0 clipped, 7 images"
    assert lines[4].startswith("prior ")
    assert lines[5].split()[:3] == ["2", "KL", "terms"]
    assert lines[6].startswith("decoder, 5 levels: ")
    assert lines[7].startswith(f"bits per dimension <= {float(found.total.estimate):.5g} +- ")


def test_the_description_of_continuous_data(schedule, images, half):
    found = evaluate(half, schedule, -1 + images.double() / 2, levels=None)
    text = describe(found, as_levels=5)
    assert "density of the data: " in text
    assert text.splitlines()[-1] == f"as if the data had 5 levels: {found.total.estimate + 1:.5g} bits per dimension"


@pytest.mark.parametrize("walk", [(10, 0), (10, 6, 2, 0)])
def test_the_figure_is_a_picture(walk, schedule, images, half):
    found = evaluate(half, schedule, images, walk, levels=5, variance="beta", first_step="exact")
    with Image.open(io.BytesIO(figure(found))) as picture:
        assert picture.format == "PNG"
        assert len(set(picture.convert("L").tobytes())) > 20  # something is drawn


def test_a_density_above_one_is_drawn_too(schedule, images):
    knows = omniscient(-1 + images.double() / 2)
    found = evaluate(knows, schedule, -1 + images.double() / 2, levels=None)
    assert found.column("bits_per_dim").estimate[-1] < 0
    assert figure(found).startswith(b"\x89PNG")


def omniscient(data):
    return Denoiser(lambda x, time: data.repeat(len(x) // len(data), 1, 1, 1), "x0")
