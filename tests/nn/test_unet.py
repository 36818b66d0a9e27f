import pytest
import torch

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.nn import UNet, UNetConfig

SMALL = {"width": 8, "groups": 4}


def awake(config: UNetConfig) -> UNet:
    """A network none of whose layers is silent, as after some training."""
    torch.manual_seed(0)
    network = UNet(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network


def test_the_default_has_the_size_its_documentation_says():
    assert sum(parameter.numel() for parameter in UNet(UNetConfig()).parameters()) == 284_513


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (UNetConfig(**SMALL), (3, 1, 8, 8)),
        (UNetConfig(channels=3, multipliers=(1, 2, 2), blocks=2, attention=(0, 2), heads=2, **SMALL), (2, 3, 8, 12)),
        (UNetConfig(multipliers=(1,), attention=(), **SMALL), (1, 1, 5, 3)),
        (UNetConfig(channels=3, outputs_per_channel=2, **SMALL), (2, 3, 8, 8)),
    ],
)
def test_output_has_the_shape_of_the_input_and_every_weight_takes_part(config, shape):
    network = awake(config)
    predicted = network(torch.randn(shape), torch.arange(shape[0]))
    assert predicted.shape == (shape[0], config.outputs_per_channel * shape[1], *shape[2:])
    predicted.square().sum().backward()
    idle = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert idle == []


def test_an_untrained_network_predicts_zero():
    predicted = UNet(UNetConfig(**SMALL))(torch.randn(2, 1, 8, 8), torch.tensor([0, 999]))
    assert not predicted.any()


def test_the_time_matters_and_the_neighbours_in_the_batch_do_not():
    network = awake(UNetConfig(**SMALL)).eval()
    x = torch.randn(2, 1, 8, 8)
    early, late = network(x, torch.tensor([0, 0])), network(x, torch.tensor([0, 999]))
    assert torch.equal(early[0], late[0])
    assert not torch.equal(early[1], late[1])


def test_dropout_is_random_in_training_and_absent_in_evaluation():
    network = awake(UNetConfig(dropout=0.5, **SMALL))
    x, time = torch.randn(1, 1, 8, 8), torch.tensor([3])
    assert not torch.equal(network(x, time), network(x, time))
    network.eval()
    assert torch.equal(network(x, time), network(x, time))


@pytest.mark.parametrize(
    ("x", "time", "message"),
    [
        ((2, 3, 8, 8), (2,), r"takes \(batch, 1, height, width\)"),
        ((2, 1, 8), (2,), r"takes \(batch, 1, height, width\)"),
        ((2, 1, 7, 8), (2,), "multiples of 2"),
        ((2, 1, 8, 8), (3,), "one per image"),
        ((2, 1, 8, 8), (), "one per image"),
    ],
)
def test_wrong_shapes_are_named(x, time, message):
    with pytest.raises(ShapeError, match=message):
        UNet(UNetConfig(**SMALL))(torch.zeros(x), torch.zeros(time))


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"width": True}, "width is True"),
        ({"width": 9, "groups": 3}, "even"),
        ({"multipliers": ()}, "one number >= 1 per resolution"),
        ({"width": 12, "groups": 8}, "not divisible by groups = 8"),
        ({"heads": 3}, "heads = 3"),
        ({"attention": (2,)}, r"resolutions are 0\.\.1"),
        ({"dropout": 1.0}, "below 1"),
        ({"outputs_per_channel": 3}, "outputs_per_channel is 3; write 1, or 2 where a variance is learned"),
        ({"outputs_per_channel": True}, "outputs_per_channel is True"),
        ({"outputs_per_channel": 2.0}, r"outputs_per_channel is 2\.0"),
    ],
)
def test_wrong_sizes_are_named(wrong, message):
    with pytest.raises(RangeError, match=message):
        UNetConfig(**wrong)


def test_a_second_half_of_the_output_changes_no_weight_before_it():
    # The last layer is the last to be drawn, and starts at zero: a network by its seed is the same with it and without.
    torch.manual_seed(0)
    one = UNet(UNetConfig(**SMALL)).state_dict()
    torch.manual_seed(0)
    two = UNet(UNetConfig(outputs_per_channel=2, **SMALL)).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one if not name.startswith("outlet"))
    assert two["outlet.weight"].shape == (2, 8, 3, 3)
    assert not two["outlet.weight"].any()


def told(config: UNetConfig) -> UNet:
    """A network that is awake and has something to say of every label."""
    network = awake(config)
    assert all(bool(row.any()) for row in network.label.weight)
    return network


def test_labels_matter_and_none_is_the_null_label():
    network = told(UNetConfig(classes=3, **SMALL)).eval()
    x, time = torch.randn(1, 1, 8, 8).expand(4, -1, -1, -1), torch.zeros(4).long()
    answers = network(x, time, torch.arange(4))
    assert len({answer.detach().numpy().tobytes() for answer in answers}) == 4
    assert torch.equal(network(x, time)[0], network(x, time, torch.full((4,), 3))[0])
    assert torch.equal(network(x, time, torch.arange(4).int()), answers)
    assert UNetConfig(classes=3).null_label == 3


def test_an_untrained_network_makes_no_difference_between_labels():
    network = UNet(UNetConfig(classes=3, **SMALL))
    assert not network.label.weight.any()


def test_a_network_without_classes_has_the_weights_it_always_had():
    torch.manual_seed(0)
    names = UNet(UNetConfig(**SMALL)).state_dict().keys()
    torch.manual_seed(0)
    assert UNet(UNetConfig(classes=3, **SMALL)).state_dict().keys() - names == {"label.weight"}


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (torch.tensor([0, 4]), RangeError, r"label holds 4, and the classes are 0\.\.3; 3 stands for no label"),
        (torch.tensor([-1, 0]), RangeError, "label holds -1"),
        (torch.tensor([0.0, 1.0]), RangeError, "int64"),
        (torch.tensor([0]), ShapeError, "one per example"),
        (torch.tensor(0), ShapeError, "one per example"),
    ],
)
def test_wrong_labels_are_named(label, error, message):
    with pytest.raises(error, match=message):
        UNet(UNetConfig(classes=3, **SMALL))(torch.zeros(2, 1, 8, 8), torch.zeros(2), label)


def test_labels_for_a_network_that_knows_none_are_refused():
    with pytest.raises(RangeError, match="this network has no classes"):
        UNet(UNetConfig(**SMALL))(torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.tensor([0]))


@pytest.mark.parametrize("classes", [-1, True])
def test_a_wrong_number_of_classes_is_named(classes):
    with pytest.raises(RangeError, match=rf"classes is {classes}"):
        UNetConfig(classes=classes)


def test_another_number_format_than_that_of_the_weights_is_named():
    network, x, time = UNet(UNetConfig(**SMALL)), torch.zeros(1, 1, 8, 8, dtype=torch.float64), torch.zeros(1)
    with pytest.raises(PrecisionError, match=r"x is torch.float64 and the network's weights are torch.float32"):
        network(x, time)
    assert network.double()(x, time).dtype == torch.float64
