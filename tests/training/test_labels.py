"""Labels in training: told, withheld with a probability of each example's own, stored, and refused where there are none."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy import stats

from ddpm_ref.errors import CheckpointError, RangeError
from ddpm_ref.nn import NoisyClassifier, UNet, UNetConfig
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.sampling import Denoiser
from ddpm_ref.torch import tables
from ddpm_ref.training import Checkpoint, container, data, fit, log
from ddpm_ref.training.folder import CHECKPOINT_NAME, LOG_NAME
from ddpm_ref.training.objective import Draw, draw, drop_labels, simple_loss
from ddpm_ref.training.trainer import Trainer

DATA = torch.arange(5.0).reshape(5, 1).expand(5, 3)
LABELS = torch.tensor([3, 1, 4, 1, 5])
TINY = {"width": 8, "multipliers": (1,), "attention": (), "groups": 4}


@pytest.fixture(scope="module")
def conditional(tiny_config):
    """Makes configs of tiny runs with labels."""
    return lambda **changes: tiny_config(
        **{"network": UNetConfig(classes=10, **TINY), "label_dropout": 0.25, **changes}
    )


@pytest.fixture(scope="module")
def classifying(tiny_config):
    """Makes configs of tiny classifiers."""
    return lambda **changes: tiny_config(
        **{"network": UNetConfig(classes=10, **TINY), "prediction": "label", "loss": "cross_entropy", **changes}
    )


def test_the_labels_drawn_are_those_of_the_examples_and_change_no_other_number():
    with_labels, without = draw(DATA, 20, 64, 0, 1, LABELS), draw(DATA, 20, 64, 0, 1)
    assert torch.equal(with_labels.label, LABELS[with_labels.x0[:, 0].long()])
    assert without.label is None
    assert all(torch.equal(getattr(with_labels, name), getattr(without, name)) for name in ("x0", "t", "noise"))


def test_the_loss_tells_the_network_the_labels():
    drawn = draw(DATA, 20, 8, 0, 1, LABELS)

    def network(x, time, label):
        assert torch.equal(label, drawn.label)
        return drawn.noise

    exact = tables(linear_schedule(T=20, beta_1=0.01, beta_T=0.3))
    assert simple_loss(Denoiser(network), exact, drawn).tolist() == [0.0] * 8
    with pytest.raises(TypeError):  # without labels it is asked as ever
        simple_loss(Denoiser(network), exact, dataclasses.replace(drawn, label=None))


def test_what_is_dropped_is_a_function_of_seed_and_step():
    one, same, other, seed = (drop_labels(LABELS.repeat(9), 10, 0.5, *key) for key in ((0, 1), (0, 1), (0, 2), (1, 1)))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, seed)
    assert set(one[one != LABELS.repeat(9)].tolist()) == {10}


def p_values(dropped, share):
    """Of what independent dropping with this probability would rarely show, for a table ``(steps, batch)`` of booleans."""
    steps, batch = dropped.shape
    yield stats.binomtest(int(dropped.sum()), batch * steps, share).pvalue  # the rate
    excess = (dropped.sum(dim=0).numpy() - share * steps) ** 2 / (steps * share * (1 - share))
    yield stats.chi2.sf(excess.sum(), batch)  # the same for every place in the batch
    edges = stats.binom.ppf([0.2, 0.4, 0.6, 0.8], batch, share)
    shares = np.diff(np.concatenate([[0], stats.binom.cdf(edges, batch, share), [1]]))
    observed = np.bincount(np.searchsorted(edges, dropped.sum(dim=1).numpy()), minlength=5)
    yield stats.chisquare(observed, shares * steps).pvalue  # how many of a batch: binomial, not a fixed number
    for one, other in ((dropped[:, :-1], dropped[:, 1:]), (dropped[:-1], dropped[1:])):
        table = [[int(((one == a) & (other == b)).sum()) for b in (False, True)] for a in (False, True)]
        yield stats.chi2_contingency(table).pvalue  # neighbours in a batch, and in time, know nothing of each other


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_every_example_is_dropped_by_itself_with_its_probability(share):
    label = torch.zeros(64, dtype=torch.int64)
    dropped = torch.stack([drop_labels(label, 10, share, 3, step) for step in range(2000)]) == 10
    assert min(p_values(dropped, share)) > 1e-9  # rule: distributions


def test_dropping_periodically_or_by_whole_batches_is_told_from_it():
    # E76, and a habit of code: the test above can fail, though the rate is right.
    periodic = (torch.arange(2000 * 64) % 10 == 0).reshape(2000, 64)
    whole = (torch.rand(2000, 1, generator=torch.Generator().manual_seed(0)) < 0.1).expand(2000, 64)
    fixed = torch.rand(2000, 64, generator=torch.Generator().manual_seed(0)).argsort(dim=1) < 6
    for wrong, share in ((periodic, 0.1), (whole, 0.1), (fixed, 6 / 64)):
        assert min(p_values(wrong, share)) < 1e-9


def test_nothing_is_dropped_at_share_0():
    labels = torch.arange(10).repeat(10)
    assert torch.equal(drop_labels(labels, 10, 0.0, 0, 1), labels)


def test_the_trainer_withholds_labels_from_the_network_at_random(conditional, monkeypatch):
    seen = []

    def watch(network, x, time, label=None):
        seen.append(label)
        return forward(network, x, time, label)

    forward = UNet.forward
    monkeypatch.setattr(UNet, "forward", watch)
    fit(conditional(batch_size=32, max_steps=4))
    trained, held_out = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert stats.binomtest(int((trained == 10).sum()), len(trained), 0.25).pvalue > 1e-9
    assert torch.equal(held_out, data.load("digits").held_out_labels[:32])  # the held-out loss tells all of them


@pytest.mark.parametrize("kind", ["conditional", "classifying"])
def test_four_and_four_steps_are_eight(kind, tmp_path, request):
    config = request.getfixturevalue(kind)(max_steps=8)

    def stop(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    first = fit(config, tmp_path, stop)
    torch.manual_seed(5)  # must not matter
    second, whole = fit(config, tmp_path, resume=True), fit(config)
    assert (first.checkpoint.steps, second.checkpoint.steps) == (4, 8)
    stored = Checkpoint.load(tmp_path / CHECKPOINT_NAME)
    for part in ("weights", "average", "optimizer"):
        wanted = getattr(whole.checkpoint, part)
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in getattr(stored, part).items())
    assert np.array_equal(stored.losses, whole.checkpoint.losses)
    assert (second.held_out_loss, second.accuracy) == (whole.held_out_loss, whole.accuracy)


def test_another_label_dropout_would_not_be_the_same_run(conditional):
    one, other = (fit(conditional(max_steps=5, batch_size=16, label_dropout=share)).checkpoint for share in (0.1, 0.9))
    assert one.losses[0] == other.losses[0]  # the network's answer is silent at first
    assert not torch.equal(one.weights["label.weight"], other.weights["label.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_dropout": 1.0}, r"label_dropout is 1\.0; it is a share"),
        ({"label_dropout": -0.1}, "at least 0 and below 1"),
        ({"label_dropout": float("nan")}, "label_dropout is nan"),
        ({"network": UNetConfig(**TINY)}, r"label_dropout is 0\.25, but network\.classes is 0: there are no labels"),
        ({"prediction": "label"}, "a classifier has prediction 'label' and loss 'cross_entropy'"),
        ({"loss": "cross_entropy"}, "a classifier has prediction 'label' and loss 'cross_entropy'"),
        ({"prediction": "label", "loss": "cross_entropy"}, "a classifier needs at least 2 classes, and all labels"),
    ],
)
def test_configs_that_make_no_sense_are_named(changes, message, conditional):
    with pytest.raises(RangeError, match=message):
        conditional(**changes)


def test_a_classifier_of_one_class_is_none(classifying):
    for classes in (0, 1):
        with pytest.raises(RangeError, match=f"network.classes is {classes}"):
            classifying(network=UNetConfig(classes=classes, **TINY))


def test_a_classifier_may_know_levels_without_signal(classifying):
    schedule = dataclasses.replace(classifying().schedule, zero_terminal_snr=True)
    assert fit(classifying(schedule=schedule, max_steps=1)).checkpoint.schedule.alpha_bar[-1] == 0


def test_labels_beyond_the_classes_are_refused_before_training(conditional):
    with pytest.raises(RangeError, match=r"network\.classes is 9, but the data have labels up to 9; write 10"):
        fit(conditional(network=UNetConfig(classes=9, **TINY)))
    more = Trainer(conditional(network=UNetConfig(classes=12, **TINY)), data.load("digits"), torch.device("cpu"))
    more.step()
    assert more.config.network.null_label == 12


def test_digits_have_ten_classes():
    images = data.digits()
    assert images.classes == 10
    assert images.train_labels.dtype == torch.int64
    assert dataclasses.replace(images, held_out_labels=images.held_out_labels + 5).classes == 15


def test_a_checkpoint_gives_what_it_trained_and_refuses_the_other(conditional, classifying):
    run, classifier = fit(conditional()).checkpoint, fit(classifying()).checkpoint
    x, time = torch.randn(2, 1, 8, 8), torch.tensor([3, 7])
    network = run.network(weights="raw")
    assert torch.equal(network(x, time), network(x, time, torch.tensor([10, 10])))
    assert torch.equal(run.denoiser(weights="raw")(x, 4), network(x, torch.tensor([3, 3])))
    assert isinstance(classifier.network(), NoisyClassifier)
    assert classifier.classifier().classes == 10
    with pytest.raises(RangeError, match="this run trained a classifier, from which nothing is sampled"):
        classifier.denoiser()
    with pytest.raises(RangeError, match="this run trained a denoiser, no classifier"):
        run.classifier()
    told = fit(conditional(label_dropout=0.0)).checkpoint
    with pytest.raises(RangeError, match=r"trained with every label \(label_dropout 0\)"):
        told.denoiser()
    assert isinstance(told.network(), UNet)


def as_version_2(folder):
    """The files of a run as the version before labels would have written them."""
    path = folder / CHECKPOINT_NAME
    with safetensors.safe_open(path, framework="pt") as file:
        tensors, header = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    config = json.loads(header["config"])
    del config["label_dropout"], config["network"]["classes"]
    header |= {"version": "2", "config": json.dumps(config)}
    header["sha256"] = container.digest(header, tensors)
    path.write_bytes(safetensors.torch.save(tensors, header))
    first, *rest = (folder / LOG_NAME).read_text().splitlines()
    (folder / LOG_NAME).write_text("\n".join([json.dumps(json.loads(first) | {"config": config}), *rest, ""]))


def test_a_run_of_version_2_is_read_and_gone_on_with_and_so_is_its_log(tmp_path, tiny_config):
    def stop(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    config = tiny_config(max_steps=4)
    fit(config, tmp_path, stop)
    as_version_2(tmp_path)
    old = Checkpoint.load(tmp_path / CHECKPOINT_NAME)
    assert (old.config, old.config.network.classes, old.config.label_dropout) == (config, 0, 0.0)
    whole = fit(config).checkpoint
    again = fit(config, tmp_path, resume=True).checkpoint
    assert all(torch.equal(weight, again.weights[name]) for name, weight in whole.weights.items())
    assert log.read(tmp_path / LOG_NAME).steps["step"].tolist() == [1, 2, 3, 4]


def test_a_label_s_embedding_is_checked_like_every_tensor(tmp_path, conditional):
    fit(conditional(), tmp_path)
    path = tmp_path / CHECKPOINT_NAME
    with safetensors.safe_open(path, framework="pt") as file:
        tensors, header = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118
    assert tensors["network.label.weight"].shape == (11, 32)
    tensors["network.label.weight"] = tensors["network.label.weight"][:10].clone()
    header["sha256"] = container.digest(header, tensors)
    path.write_bytes(safetensors.torch.save(tensors, header))
    with pytest.raises(
        CheckpointError, match=r"tensor label\.weight has shape \(10, 32\) in the checkpoint and \(11, 32\)"
    ):
        Checkpoint.load(path)


def test_the_log_and_the_run_of_a_classifier_tell_its_accuracy(tmp_path, classifying):
    run = fit(classifying(), tmp_path)
    assert sorted(run.accuracy) == list(range(1, 11))
    assert log.read(tmp_path / LOG_NAME).accuracy == run.accuracy
    assert fit(classifying(prediction="eps", loss="l2")).accuracy is None
    text = (tmp_path / LOG_NAME).read_text()
    for wrong in ('{"1": "much"}', "[1]", '{"one": 0.5}'):
        (tmp_path / LOG_NAME).write_text(text[: text.index('"accuracy": ')] + f'"accuracy": {wrong}}}\n' + "{}\n" * 2)
        with pytest.raises(CheckpointError, match="is not what a log holds"):
            log.read(tmp_path / LOG_NAME)


def test_a_draw_needs_no_labels():
    assert Draw(DATA, torch.ones(5).long(), DATA).label is None
