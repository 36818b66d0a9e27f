"""The classifier of noisy images: its loss, its accuracy by level, and a gradient that is each image's own."""

import math

import pytest
import torch

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.nn import NoisyClassifier, UNetConfig
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.torch import tables
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.guidance import classifier_gradient
from ddpm_ref.training import data, fit
from ddpm_ref.training.noisy_classifier import LevelClassifier, accuracy_by_level, label_loss
from ddpm_ref.training.objective import draw

TABLES = tables(linear_schedule(T=20, beta_1=0.01, beta_T=0.3))
CONFIG = UNetConfig(width=8, groups=4, classes=10)


def awake(config: UNetConfig = CONFIG) -> NoisyClassifier:
    """A classifier none of whose layers is silent, in float64."""
    torch.manual_seed(0)
    network = NoisyClassifier(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return network.double()


def test_an_untrained_classifier_knows_nothing():
    images = data.load("digits")
    drawn = draw(images.train, 20, 16, 0, 1, images.train_labels)
    loss = label_loss(LevelClassifier(NoisyClassifier(CONFIG)), TABLES, drawn)
    assert loss.shape == (16,)
    assert loss.tolist() == pytest.approx([math.log(10)] * 16, rel=2**-22)  # float32: log and softmax, a rounding each


def test_the_loss_is_minus_the_log_probability_of_the_label_of_the_noisy_example():
    images = data.load("digits")
    drawn = draw(images.train.double(), 20, 16, 0, 1, images.train_labels)
    network = awake()
    classifier = LevelClassifier(network, "one_based")
    logits = network(q_sample(TABLES, drawn.x0, drawn.t, drawn.noise), drawn.t).detach()
    wanted = [float(torch.logsumexp(row, 0) - row[y]) for row, y in zip(logits, drawn.label, strict=True)]
    assert label_loss(classifier, TABLES, drawn).detach().tolist() == pytest.approx(
        wanted, rel=1e-12
    )  # rule: networks, float64
    with pytest.raises(RangeError, match="the examples have no labels"):
        label_loss(classifier, TABLES, draw(images.train, 20, 4, 0, 1))


@pytest.mark.parametrize(("code", "first"), [("zero_based", 0), ("one_based", 1)])
def test_the_clock_is_named(code, first):
    network, x = awake(), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    wanted = network(x, torch.tensor([first, first + 9]))
    assert torch.equal(LevelClassifier(network, code)(x, torch.tensor([1, 10])), wanted)
    with pytest.raises(RangeError, match="'zero_based'"):
        LevelClassifier(network, "continuous")


def test_every_weight_takes_part_the_time_matters_and_neighbours_do_not():
    network = awake(
        UNetConfig(width=8, groups=4, classes=3, channels=3, multipliers=(1, 2, 2), blocks=2, attention=(0,))
    )
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    logits = network(x, torch.tensor([0, 5]))
    assert logits.shape == (2, 3)
    logits.square().sum().backward()
    idle = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert idle == []
    other = network(torch.stack([x[0], -x[1]]), torch.tensor([0, 9]))
    assert torch.equal(other[0], logits[0])
    assert not torch.equal(network(x, torch.tensor([0, 9]))[1], logits[1])


def test_the_gradient_is_each_image_s_own_and_agrees_with_differences():
    network, label = awake().eval(), torch.tensor([3, 7])
    x, t = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.tensor([2, 15])
    both = classifier_gradient(network, x, t, label)
    alone = classifier_gradient(network, x[1:], t[1:], label[1:])
    assert torch.allclose(
        both[1:], alone, rtol=1e-12, atol=1e-14
    )  # rule: networks, float64; convolutions know the batch
    direction, h = torch.randn_like(x), 1e-5

    def log_probability(x):
        return network(x, t).log_softmax(1).gather(1, label[:, None])[:, 0]

    with torch.no_grad():
        slope = (log_probability(x + h * direction) - log_probability(x - h * direction)) / (2 * h)
    # rule: gradients. The central difference is off by h^2 f'''/6 and by rounding over h: 1e-10 and 1e-11 here.
    assert (both * direction).sum(dim=(1, 2, 3)).tolist() == pytest.approx(slope.tolist(), rel=1e-6, abs=1e-9)


def test_accuracy_is_counted_level_by_level_with_the_same_noise_at_every_call():
    images = data.load("digits")
    x0, labels = images.held_out[:64], images.held_out_labels[:64]

    class Peeking(NoisyClassifier):
        """Says 3 at level 5 and the truth elsewhere."""

        def forward(self, x, time):
            seen.append(x.clone())
            truth = torch.nn.functional.one_hot(labels, 10)
            return (truth if int(time[0]) + 1 != 5 else torch.eye(10)[3].expand(64, 10)).float()

    seen: list[torch.Tensor] = []
    first, second = (
        accuracy_by_level(LevelClassifier(Peeking(CONFIG)), TABLES, x0, labels, [1, 5, 20]) for _ in range(2)
    )
    assert first == second == {1: 1.0, 5: float((labels == 3).double().mean()), 20: 1.0}
    assert torch.equal(seen[0], seen[3])
    noise = [
        (seen[k] - TABLES.sqrt_alpha_bar[t].float() * x0) / TABLES.sqrt_beta_bar[t].float()
        for k, t in enumerate((1, 5, 20))
    ]
    assert not torch.allclose(noise[0], noise[2], atol=0.1)  # another noise at every level
    assert list(accuracy_by_level(LevelClassifier(Peeking(CONFIG)), TABLES, x0, labels)) == [1, *range(2, 21, 2)]


@pytest.mark.full
def test_a_few_hundred_steps_teach_clean_digits_and_nothing_about_pure_noise(tiny_config):
    network = UNetConfig(width=16, multipliers=(1, 1), attention=(), groups=4, classes=10)
    config = tiny_config(
        network=network, prediction="label", loss="cross_entropy", batch_size=32, max_steps=500, learning_rate=5e-3
    )
    run = fit(config)
    # rule: distributions. 32 held-out digits: guessing gives more than half right once in 1e12 runs.
    assert run.accuracy[1] > 0.5
    assert run.accuracy[10] < 0.5
    assert run.held_out_loss < math.log(10)


@pytest.mark.parametrize(("x", "time"), [((2, 3, 8, 8), (2,)), ((2, 1, 7, 8), (2,)), ((2, 1, 8, 8), (3,))])
def test_wrong_shapes_are_named(x, time):
    with pytest.raises(ShapeError):
        NoisyClassifier(CONFIG)(torch.zeros(x), torch.zeros(time))


@pytest.mark.parametrize("classes", [0, 1])
def test_too_few_classes_are_named(classes):
    with pytest.raises(RangeError, match="at least 2 to choose from"):
        NoisyClassifier(UNetConfig(width=8, groups=4, classes=classes))
