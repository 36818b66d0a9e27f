import pytest
import torch

from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.nn import MLP, MLPConfig

SMALL = {"width": 8, "blocks": 2}


def awake(config: MLPConfig) -> MLP:
    """A network none of whose layers is silent, as after some training."""
    torch.manual_seed(0)
    network = MLP(config)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network


def test_the_default_has_the_size_its_documentation_says():
    assert sum(parameter.numel() for parameter in MLP(MLPConfig()).parameters()) == 183_298


@pytest.mark.parametrize(
    "config",
    [MLPConfig(**SMALL), MLPConfig(components=5, outputs_per_channel=2, **SMALL), MLPConfig(classes=3, **SMALL)],
)
def test_output_has_the_shape_of_the_input_and_every_weight_takes_part(config):
    network, x = awake(config), torch.randn(4, config.components)
    labels = (torch.arange(4),) if config.classes else ()
    predicted = network(x, torch.arange(4), *labels)
    assert predicted.shape == (4, config.outputs_per_channel * config.components)
    predicted.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_an_untrained_network_predicts_zero():
    assert not MLP(MLPConfig(**SMALL))(torch.randn(2, 2), torch.tensor([0, 999])).any()


def test_the_time_and_the_label_matter_and_the_neighbours_in_the_batch_do_not():
    network = awake(MLPConfig(classes=2, **SMALL))
    x, time = torch.randn(2, 2), torch.tensor([0, 0])
    one, other = network(x, time), network(x, torch.tensor([0, 999]))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])
    told = network(x, time, torch.tensor([2, 1]))  # 2 is the null label
    assert torch.equal(told[0], one[0])
    assert not torch.equal(told[1], one[1])


@pytest.mark.parametrize(
    ("x", "time", "message"),
    [
        ((2, 3), (2,), r"takes \(batch, 2\)"),
        ((2, 2, 1), (2,), r"takes \(batch, 2\)"),
        ((2, 2), (3,), "one per example"),
    ],
)
def test_wrong_shapes_are_named(x, time, message):
    with pytest.raises(ShapeError, match=message):
        MLP(MLPConfig(**SMALL))(torch.zeros(x), torch.zeros(time))


def test_another_number_format_than_that_of_the_weights_is_named():
    network, x, time = MLP(MLPConfig(**SMALL)), torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2)
    with pytest.raises(PrecisionError, match=r"x is torch.float64 and the network's weights are torch.float32"):
        network(x, time)
    assert network.double()(x, time).dtype == torch.float64


def test_wrong_labels_are_named():
    x, time = torch.zeros(2, 2), torch.zeros(2)
    with pytest.raises(RangeError, match="this network has no classes"):
        MLP(MLPConfig(**SMALL))(x, time, torch.tensor([0, 1]))
    network = MLP(MLPConfig(classes=2, **SMALL))
    with pytest.raises(ShapeError, match=r"write one per example, shape \(2,\)"):
        network(x, time, torch.tensor([0]))
    with pytest.raises(RangeError, match="label"):
        network(x, time, torch.tensor([0, 3]))


@pytest.mark.wrong_types
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"components": 0}, "components is 0"),
        ({"width": 7}, "even"),
        ({"blocks": True}, "blocks is True"),
        ({"classes": -1}, "classes is -1"),
        ({"outputs_per_channel": 3}, "outputs_per_channel is 3"),
        ({"outputs_per_channel": 2.0}, r"outputs_per_channel is 2\.0"),
    ],
)
def test_wrong_sizes_are_named(wrong, message):
    with pytest.raises(RangeError, match=message):
        MLPConfig(**wrong)
