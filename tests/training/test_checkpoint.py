import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tensor_files import rewrite, tensors_and_header

from ddpm_ref.errors import CheckpointError, OutputError, RangeError
from ddpm_ref.files import claim_folder
from ddpm_ref.nn import UNet
from ddpm_ref.training import Checkpoint, fit


@pytest.fixture(scope="module")
def checkpoint(tiny_config):
    return fit(tiny_config(prediction="v", time_code="one_based")).checkpoint


@pytest.fixture
def saved(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "c.safetensors")
    return tmp_path / "c.safetensors"


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_everything_survives_a_file(checkpoint, saved):
    loaded = Checkpoint.load(saved)
    assert loaded.config == checkpoint.config
    assert loaded.shape == (1, 8, 8)
    assert loaded.seconds == checkpoint.seconds
    assert np.array_equal(loaded.schedule.beta, checkpoint.schedule.beta)
    assert np.array_equal(loaded.losses, checkpoint.losses)
    assert equal(loaded.weights, checkpoint.weights)
    assert equal(loaded.average, checkpoint.average)
    assert equal(loaded.optimizer, checkpoint.optimizer)
    names = {f"{key}.{name}" for key in ("exp_avg", "exp_avg_sq", "step") for name in checkpoint.weights}
    assert loaded.optimizer.keys() == names
    assert {float(loaded.optimizer[f"step.{name}"]) for name in checkpoint.weights} == {3.0}
    assert all(loaded.average[name].dtype == torch.float32 for name in loaded.average)


def test_the_average_is_used_unless_the_raw_weights_are_asked_for(checkpoint):
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    usual, averaged, raw = (checkpoint.denoiser(weights=weights)(x, 4) for weights in (None, "ema", "raw"))
    assert torch.equal(usual, averaged)
    assert not torch.equal(averaged, raw)
    plain = dataclasses.replace(checkpoint, average=None)
    assert torch.equal(plain.denoiser()(x, 4), raw)
    with pytest.raises(RangeError, match="kept no average of its weights; write 'raw'"):
        plain.denoiser(weights="ema")
    with pytest.raises(RangeError, match="'ema', 'raw'"):
        checkpoint.denoiser(weights="best")


def as_version_1(path):
    """The file as the first version would have written it: no average, no optimiser, none of the new fields."""
    tensors, header = tensors_and_header(path)
    config = json.loads(header["config"])
    for name in ("ema_decay", "log_every"):
        del config[name]
    tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(("network.", "history."))}
    rewrite(path, tensors, version="1", config=json.dumps(config))


def test_a_file_of_version_1_is_sampled_from_and_not_resumed(checkpoint, tmp_path):
    claim_folder(tmp_path)
    checkpoint.save(tmp_path / "checkpoint.safetensors")
    as_version_1(tmp_path / "checkpoint.safetensors")
    old = Checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert (old.average, old.optimizer, old.config.ema_decay, old.steps) == (None, None, None, 3)
    assert old.config == dataclasses.replace(checkpoint.config, ema_decay=None)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(old.denoiser()(x, 4), checkpoint.denoiser(weights="raw")(x, 4))
    with pytest.raises(CheckpointError, match="is of version 1, which holds no optimiser"):
        fit(old.config, tmp_path, resume=True)


def test_a_file_of_version_3_is_read_and_resumed(tmp_path, tiny_config):
    # It knew neither learned variances nor time samplers: what it leaves out is what it did.
    fit(tiny_config(max_steps=2, cooldown=0), tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    config = json.loads(tensors_and_header(path)[1]["config"])
    for name in ("variance", "vlb_weight", "fixed_variance", "time_sampler"):
        del config[name]
    del config["network"]["outputs_per_channel"]
    rewrite(path, version="3", config=json.dumps(config))
    assert Checkpoint.load(path).config == tiny_config(max_steps=2, cooldown=0)
    longer = tiny_config(max_steps=4, cooldown=0)
    assert equal(fit(longer, tmp_path, resume=True).checkpoint.weights, fit(longer).checkpoint.weights)


def test_the_loaded_network_is_the_trained_one_and_making_it_costs_no_random_numbers(checkpoint, saved):
    before = torch.get_rng_state()
    denoiser = Checkpoint.load(saved).denoiser()
    assert torch.equal(before, torch.get_rng_state())
    assert (denoiser.prediction, denoiser.time_code) == ("v", "one_based")
    assert not denoiser.network.training
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(denoiser(x, 4), checkpoint.denoiser()(x, 4))


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def without(prefix):
    """Spoils a file by leaving out tensors."""

    def spoil(path):
        rewrite(path, {name: t for name, t in tensors_and_header(path)[0].items() if not name.startswith(prefix)})

    return spoil


def other_network(path):
    config = json.loads(tensors_and_header(path)[1]["config"])
    config["network"]["width"] = 16
    rewrite(path, config=json.dumps(config))


def with_tensor(name, change):
    """Spoils a file by changing one tensor."""

    def spoil(path):
        tensors = tensors_and_header(path)[0]
        rewrite(path, {**tensors, name: change(tensors[name]).contiguous()})

    return spoil


def with_nan(tensor):
    return torch.where(torch.arange(tensor.numel()).view(tensor.shape) == 0, torch.nan, tensor)


def with_betas(change):
    """Spoils a file by changing its betas."""

    def spoil(path):
        betas = [float.fromhex(beta) for beta in json.loads(tensors_and_header(path)[1]["betas"])]
        rewrite(path, betas=json.dumps([beta.hex() for beta in change(betas)]))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
        (lambda path: path.write_bytes(b""), "truncated: it ends after 0 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:7]), "truncated: it ends after 7 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "truncated: it ends after 100 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated or damaged"),
        (flip_a_bit, "SHA-256"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "no pickle is ever loaded"),
        (lambda path: torch.save({"a": torch.ones(1)}, path), "no pickle is ever loaded"),
        (lambda path: path.write_text("weights: 3, 4, 5 and some more"), "not a safetensors file"),
        (lambda path: safetensors.torch.save_file({"a": torch.ones(1)}, path), "not a ddpm_ref checkpoint"),
        (lambda path: rewrite(path, version="99"), "of version 99"),
        (lambda path: rewrite(path, config="{"), "makes no sense"),
        (lambda path: rewrite(path, config='{"batch_size": 0}'), "batch_size is 0"),
        (lambda path: rewrite(path, betas='["nan"]'), "makes no sense"),
        (lambda path: rewrite(path, sha256="0"), "SHA-256"),
        (lambda path: rewrite(path, betas='["0x1p99999"]'), "makes no sense"),
        *(
            (lambda path, name=name: rewrite(path, **{name: "[" * 100_000}), "makes no sense")
            for name in ("config", "betas", "shape", "steps", "seconds")
        ),
        (with_betas(lambda betas: betas[:-1]), "holds 9 betas, but its config says T = 10"),
        (with_betas(lambda betas: [betas[0], betas[1] * 1.01, *betas[2:]]), "beta at level 2 is .* another schedule"),
        *(
            (lambda path, seconds=seconds: rewrite(path, seconds=seconds), "its time is")
            for seconds in ("NaN", "Infinity", "-1", "true", '"1"')
        ),
        (lambda path: rewrite(path, seconds="1" + "0" * 400), "makes no sense"),
        (lambda path: rewrite(path, shape="[3, 8, 8]"), "its images have 3 channels, and its network 1"),
        *(
            (lambda path, shape=shape: rewrite(path, shape=shape), "its shape is")
            for shape in ("8", "[1, 8]", "[1, 0, 8]", '["1", 8, 8]', "[1, 8.5, 8]")
        ),
        *(
            (lambda path, steps=steps: rewrite(path, steps=steps), "steps, but holds the losses of 3")
            for steps in ("2", "3.0", "null")
        ),
        (with_tensor("history.loss", lambda losses: losses[:0]), r"history.loss is .* of shape \(0,\)"),
        (with_tensor("history.loss", lambda losses: losses[None]), r"history.loss is .* of shape \(1, 3\)"),
        (with_tensor("history.loss", torch.Tensor.float), "history.loss is torch.float32"),
        (with_tensor("history.loss", with_nan), "history.loss is .* finite"),
        *(
            (with_tensor(name, change), rf"tensor \S*outlet.weight is torch.{kind} or not finite")
            for name in ("network.outlet.weight", "average.outlet.weight", "adam.exp_avg.outlet.weight")
            for change, kind in ((torch.Tensor.double, "float64"), (with_nan, "float32"))
        ),
        (without("average."), r"does not fit its own config: tensor [\w.]+ of the network"),
        (without("adam.exp_avg_sq"), r"does not fit its own config: tensor exp_avg_sq\."),
        (without("history."), "makes no sense"),
        (
            other_network,
            r"does not fit its own config: tensor time\.hidden\.weight has shape \(32, 8\) in the checkpoint",
        ),
    ],
)
def test_what_is_no_good_checkpoint_is_named(saved, spoil, message):
    spoil(saved)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(saved)


def test_betas_that_a_later_version_would_round_otherwise_are_kept(saved):
    with_betas(lambda betas: [np.nextafter(betas[0], 1.0).item(), *betas[1:]])(saved)
    loaded = Checkpoint.load(saved)
    assert loaded.schedule.beta[1] == np.nextafter(loaded.config.schedule.build().beta[1], 1.0)


def test_a_header_whose_length_begins_like_a_pickle_is_a_header(saved):
    # Its lowest byte is 0x80 for one length in 32, lengths being multiples of 8.
    for padding in range(0, 256, 8):
        rewrite(saved, note="x" * padding)
        if saved.read_bytes()[0] == 0x80:
            break
    assert saved.read_bytes()[0] == 0x80
    assert Checkpoint.load(saved).steps == 3


def test_a_pickle_is_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    (tmp_path / "bomb").write_bytes(pickle.dumps(Bomb()))
    torch.save(Bomb(), tmp_path / "bomb.pt")
    for name in ("bomb", "bomb.pt"):
        with pytest.raises(CheckpointError, match="no pickle"):
            Checkpoint.load(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 12}, r"tensor time\.hidden\.weight has shape \(32, 8\) in the checkpoint and \(48, 12\)"),
        (
            {"multipliers": (1, 1)},
            r"tensor down\.1\.residual\.norm_in\.weight of the network, .* not in the checkpoint",
        ),
        ({"groups": 2}, None),
    ],
)
def test_another_network_is_refused_by_its_first_tensor_that_differs(checkpoint, changes, message):
    network = UNet(dataclasses.replace(checkpoint.config.network, **changes))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if message is None:
        checkpoint.restore(network)
        return
    with pytest.raises(CheckpointError, match=message):
        checkpoint.restore(network)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_tensor_too_many_is_named(checkpoint):
    more = dataclasses.replace(checkpoint, weights={**checkpoint.weights, "extra": torch.ones(1)})
    with pytest.raises(CheckpointError, match="tensor extra of the checkpoint is not in the network"):
        more.restore(UNet(more.config.network), "raw")


def test_a_failed_write_leaves_the_old_file_and_no_litter(checkpoint, saved, monkeypatch):
    old = saved.read_bytes()

    def fail(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="no space left on device"):
        dataclasses.replace(checkpoint, seconds=99.0).save(saved)
    assert saved.read_bytes() == old
    assert [entry.name for entry in saved.parent.iterdir()] == [saved.name]


def test_saving_where_there_is_no_folder_is_an_output_error(checkpoint, tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        checkpoint.save(tmp_path / "missing" / "c.safetensors")


def test_the_file_is_readable_without_this_package(saved, checkpoint):
    tensors, header = tensors_and_header(saved)
    assert header["format"] == "ddpm_ref.checkpoint"
    assert [float.fromhex(beta) for beta in json.loads(header["betas"])] == checkpoint.schedule.beta[1:].tolist()
    assert json.loads(header["config"])["network"]["width"] == 8
    assert json.loads(header["steps"]) == len(tensors["history.loss"]) == 3
    prefixes = ("network.", "average.", "adam.exp_avg.", "adam.exp_avg_sq.", "adam.step.")
    assert set(tensors) == {"history.loss", *(prefix + name for prefix in prefixes for name in checkpoint.weights)}
