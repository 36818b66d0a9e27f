"""The file of moments: nothing is lost in it, nothing damaged or foreign is taken from it, and no pickle is read."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from tensor_files import rewrite, tensors_and_header

from ddpm_ref.errors import CheckpointError, MomentsError, OutputError, RangeError
from ddpm_ref.estimation import Moments, data_digest, estimate, network_digest
from ddpm_ref.nn import UNet, UNetConfig
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.training import Config
from ddpm_ref.training.checkpoint import Checkpoint


@pytest.fixture
def measured(schedule, data, half):
    return estimate(half, schedule, data, [2, 5, 9], network="n" * 64).moments


@pytest.fixture
def saved(measured, tmp_path):
    measured.save(tmp_path / "moments.safetensors")
    return tmp_path / "moments.safetensors"


def test_what_is_written_is_read_again(measured, saved):
    found = Moments.load(saved)
    assert found.origin == measured.origin
    for form in ("mean_square", "residual"):
        for name in ("count", "mean", "products"):
            assert np.array_equal(getattr(found.of(form), name), getattr(measured.of(form), name))


def with_tensor(name, change):
    def spoil(path):
        tensors = tensors_and_header(path)[0]
        rewrite(path, {**tensors, name: change(tensors[name]).contiguous()})

    return spoil


def with_origin(**changes):
    def spoil(path):
        origin = json.loads(tensors_and_header(path)[1]["origin"])
        rewrite(path, origin=json.dumps({**origin, **changes}))

    return spoil


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "does not exist; measure them with ddpm-ref analyze first"),
        (lambda path: (path.unlink(), path.mkdir()), r"is a folder; name the file in it, .*moments\.safetensors"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated or damaged"),
        (flip_a_bit, "SHA-256"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "no pickle is ever loaded"),
        (lambda path: torch.save({"a": torch.ones(1)}, path), "no pickle is ever loaded"),
        (lambda path: path.write_text("sigma: 3, 4, 5 and some more"), "not a safetensors file"),
        (lambda path: safetensors.torch.save_file({"a": torch.ones(1)}, path), "not a ddpm_ref file of moments"),
        (lambda path: rewrite(path, version="99"), "of version 99"),
        (lambda path: rewrite(path, format="ddpm_ref.checkpoint"), "not a ddpm_ref file of moments"),
        (lambda path: rewrite(path, origin="{"), "makes no sense"),
        (lambda path: rewrite(path, origin="[" * 100_000), "makes no sense"),
        (with_origin(seed="0"), "origin.seed is '0'"),
        (with_origin(levels=[5, 2, 9]), "no measurement has the origin"),
        (with_origin(levels=[0, 2, 9]), "no measurement has the origin"),
        (with_origin(levels=[2, 5]), r"it needs mean_square.mean, torch.float64 of shape \(2,\)"),
        (with_origin(low=1.0), "no measurement has the origin"),
        (with_origin(count=8), "it is of 8 data"),
        (with_origin(more=1), "origin has no 'more'"),
        (with_tensor("residual.mean", torch.Tensor.float), "residual.mean, torch.float64"),
        (with_tensor("residual.mean", lambda mean: -mean), "a negative mean of squares"),
        (with_tensor("residual.mean", lambda mean: mean * torch.nan), "not finite"),
        (with_tensor("mean_square.products", lambda products: -products), "a negative mean of squares"),
        (with_tensor("residual.count", lambda count: count * 0), "residual has 0 data"),
        (lambda path: rewrite(path, {**tensors_and_header(path)[0], "more": torch.ones(1)}), "not all it holds is"),
    ],
)
def test_damage_is_named(spoil, message, saved):
    spoil(saved)
    with pytest.raises(MomentsError, match=message):
        Moments.load(saved)


def test_a_checkpoint_is_no_file_of_moments_and_the_reverse(saved):
    with pytest.raises(CheckpointError, match="not a ddpm_ref checkpoint"):
        Checkpoint.load(saved)


def test_what_cannot_be_written_leaves_what_was_there(measured, saved):
    before = saved.read_bytes()
    with pytest.raises(OutputError):
        measured.save(saved.parent / "no" / "m.safetensors")
    assert saved.read_bytes() == before


def test_moments_belong_to_one_schedule_and_one_network(measured, schedule):
    measured.must_belong_to(schedule)
    measured.must_belong_to(schedule, "n" * 64)
    with pytest.raises(MomentsError, match=r"of a schedule with digest .*; measure them on this one"):
        measured.must_belong_to(NoiseSchedule.from_betas([*schedule.beta[1:10], 0.5]))
    with pytest.raises(MomentsError, match="of a network with digest nnnnnnnnnnnn, and this one has mmmmmmmmmmmm"):
        measured.must_belong_to(schedule, "m" * 64)


def test_there_are_two_forms(measured):
    with pytest.raises(RangeError, match="form = 'eps'"):
        measured.of("eps")


def test_the_digest_of_a_network_tells_weights_sizes_and_conventions_apart():
    small = UNetConfig(width=8, multipliers=(1,), attention=(0,), groups=4, heads=2)
    config = Config(network=small)
    raw, average = (UNet(small).state_dict() for _ in range(2))
    checkpoint = Checkpoint(config, config.schedule.build(), (1, 8, 8), raw, np.ones(1), 1.0, average)
    weights = dict(checkpoint.weights)
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    others = [
        dataclasses.replace(checkpoint, weights=weights),
        dataclasses.replace(checkpoint, config=dataclasses.replace(config, prediction="v")),
        dataclasses.replace(checkpoint, config=dataclasses.replace(config, time_code="one_based")),
        dataclasses.replace(
            checkpoint, config=dataclasses.replace(config, network=dataclasses.replace(small, heads=1))
        ),
    ]
    digests = [network_digest(each, "raw") for each in (checkpoint, *others)] + [network_digest(checkpoint, "ema")]
    assert len(set(digests)) == 6
    assert network_digest(checkpoint) == network_digest(checkpoint, "ema")
    longer = dataclasses.replace(checkpoint, config=dataclasses.replace(config, max_steps=7))
    assert network_digest(longer) == network_digest(checkpoint)  # limits change no answer


def test_the_digest_of_data_tells_order_and_format_apart(data):
    digests = [data_digest(each) for each in (data, data.flip(0), data.double(), data.reshape(3, 7))]
    assert len(set(digests)) == 4
