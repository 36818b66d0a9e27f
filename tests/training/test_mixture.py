"""Points of a known law: what the best network would lose is known, and training says how far it is from it."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from scipy.stats import norm

from ddpm_ref.errors import CheckpointError, RangeError, ShapeError
from ddpm_ref.nn import MLPConfig, UNetConfig
from ddpm_ref.reference import plan
from ddpm_ref.sampling import Denoiser
from ddpm_ref.torch import oracle
from ddpm_ref.torch.tables import tables
from ddpm_ref.training import Checkpoint, Config, ScheduleConfig, data, fit, log, loop
from ddpm_ref.training.folder import CHECKPOINT_NAME, LOG_NAME
from ddpm_ref.training.objective import Draw, even_levels, simple_loss, simple_parts
from ddpm_ref.training.plots import scatter
from ddpm_ref.training.samples import draw, write_samples

POINTS = data.mixture()
SCHEDULE = ScheduleConfig(T=20).build()
FAMILY_WISE = 1e-9
"""How often all comparisons of a test together may fail by chance; each is held against the normal law."""


@pytest.fixture(autouse=True)
def _all_data_sets(monkeypatch):
    """The folder's conftest knows digits only."""
    monkeypatch.setattr(loop, "load", lambda name: {"mixture": POINTS}[name])


def config(**changes):
    fields = {
        "dataset": "mixture",
        "network": MLPConfig(width=16, blocks=1),
        "schedule": ScheduleConfig(T=20),
        "batch_size": 8,
        "max_steps": 4,
        "max_seconds": None,
    }
    return Config(**{**fields, **changes})


def optimal(prediction="eps", schedule=SCHEDULE):
    """The best network on the law of the points."""
    law = POINTS.law
    mixture = oracle.Mixture(*(torch.tensor(np.array(a)) for a in (law.weights, law.means, law.covariances)))
    return Denoiser(oracle.OptimalNetwork(mixture, tables(schedule), prediction), prediction)


def products(apart):
    """Outer products, whose mean is the covariance if ``apart`` are distances from the mean of the law."""
    return apart[:, :, None] * apart[:, None, :]


def standard_errors(values):
    """How many standard errors, estimated from the values themselves, their mean is away from 0."""
    given = np.asarray(values)
    return given.mean(axis=0) * len(given) ** 0.5 / given.std(axis=0, ddof=1)


def chance(errors):
    """Whether chance may have made all of these errors, in standard errors, of means of thousands."""
    sizes = np.abs(np.concatenate([np.ravel(error) for error in errors]))
    return bool((sizes <= norm.isf(FAMILY_WISE / 2 / sizes.size)).all())


def test_points_are_draws_of_the_law_and_the_same_for_everybody():
    law = POINTS.law
    assert POINTS.shape == (2,)
    assert POINTS.levels is None
    assert (len(POINTS.train), len(POINTS.held_out)) == (50_000, 5_000)
    assert torch.equal(data.load("mixture").train, POINTS.train)
    x, labels = POINTS.train.double().numpy(), POINTS.train_labels.numpy()
    n = len(x)
    errors = [standard_errors(x - law.mean), standard_errors(products(x - law.mean) - law.covariance)]
    errors.append((np.bincount(labels) - n * law.weights) / np.sqrt(n * law.weights * (1 - law.weights)))  # binomial
    for k in range(len(law.weights)):
        apart = x[labels == k] - law.means[k]
        errors += [standard_errors(apart), standard_errors(products(apart) - law.covariances[k])]
    assert chance(errors)
    assert not chance([*errors, standard_errors(x - law.mean - 0.05)])  # the comparison can fail


@cache
def exact_floor(t):
    """By quadrature, which is slow."""
    return float(POINTS.law.loss_floor(SCHEDULE, t))


@pytest.mark.parametrize("levels", [(20,), pytest.param((1, 10), marks=pytest.mark.full)])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_best_network_loses_the_floor_and_nothing_else(prediction, levels):
    """The floor of eps is `Oracle.loss_floor`, by quadrature; of x0 and v it is that by SNR and by alpha_bar."""
    schedule, of_schedule, best = SCHEDULE, tables(SCHEDULE), optimal(prediction)
    x0, errors = POINTS.train[:20_000].double(), []
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in levels:
        loss, floor, excess = simple_parts(best, best, of_schedule, Draw(x0, torch.full((len(x0),), t), noise))
        assert torch.equal(loss, floor)
        assert not excess.any()
        scale = {"eps": 1.0, "x0": schedule.snr[t], "v": schedule.alpha_bar[t]}[prediction]
        errors.append(standard_errors(floor - exact_floor(t) / scale))
    assert chance(errors)


def test_floor_and_excess_add_up_to_the_loss_on_average():
    of_schedule, best, worse = tables(SCHEDULE), optimal(), Denoiser(lambda x, time: 0.5 * x)
    x0 = POINTS.train[:20_000].double()
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    drawn = Draw(x0, torch.randint(1, 21, (len(x0),), generator=generator), noise)
    loss, floor, excess = simple_parts(worse, best, of_schedule, drawn)
    assert torch.equal(loss, simple_loss(worse, of_schedule, drawn))
    apart = loss - floor - excess
    assert apart.std() > 0.01  # of one example they do not
    assert chance([standard_errors(apart)])


def test_floor_and_loss_are_of_one_prediction():
    of_schedule, x0 = tables(config().schedule.build()), POINTS.train[:2].double()
    drawn = Draw(x0, torch.tensor([1, 20]), torch.zeros_like(x0))
    one, other = Denoiser(lambda x, time: x, "x0"), Denoiser(lambda x, time: x, "eps")
    with pytest.raises(RangeError, match="best predicts 'eps' and the network 'x0'"):
        simple_parts(one, other, of_schedule, drawn)


def test_whoever_waits_and_the_log_hear_of_floor_and_excess(tmp_path):
    heard = []
    run = fit(config(), tmp_path, heard.append)
    told = log.read(tmp_path / LOG_NAME)
    floor, excess = told.steps["floor"].mean(), told.steps["excess"].mean()
    assert f"(floor {floor:.4f}, excess {excess:.4f})" in str(heard[-1])
    assert run.held_out_parts.keys() == {"floor", "excess"}
    assert told.held_out_parts == run.held_out_parts


@pytest.mark.full
def test_what_is_held_out_has_the_exact_floor_and_what_is_above_it_is_excess():
    levels = np.arange(1, 5)
    run, t = fit(config(schedule=ScheduleConfig(T=4))), even_levels(len(POINTS.held_out), 4)
    schedule, trained = run.checkpoint.schedule, run.checkpoint.denoiser()
    # The same examples and levels with other noise say how far chance may take the means.
    noise = torch.randn(POINTS.held_out.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        again = simple_parts(trained, optimal(schedule=schedule), tables(schedule), Draw(POINTS.held_out, t, noise))
    loss, floor, excess = (values.double().numpy() for values in again)
    exact = POINTS.law.loss_floor(schedule, levels)[t.numpy() - 1]
    found, root = {"loss": run.held_out_loss, **run.held_out_parts}, len(t) ** 0.5
    errors = [
        (found["floor"] - exact.mean()) * root / (floor - exact).std(),
        (found["loss"] - found["floor"] - found["excess"]) * root / (loss - floor - excess).std(),
    ]
    for name, values in {"loss": loss, "floor": floor, "excess": excess}.items():
        errors.append((found[name] - values.mean()) * root / values.std() / 2**0.5)  # a difference of two means
    assert chance(errors)


@pytest.mark.parametrize("changes", [{"loss": "l1"}, {"loss": "vlb"}, {"network": MLPConfig(width=16, classes=4)}])
def test_no_floor_is_shown_where_it_is_another_one(changes):
    """The least absolute error is not the oracle's, and who is told the component can do better than who is not."""
    assert fit(config(**changes)).held_out_parts == {}


def test_showing_the_floor_changes_no_bit_of_the_run(monkeypatch):
    shown = fit(config())
    hidden = data.Images(POINTS.train, POINTS.train_labels, POINTS.held_out, POINTS.held_out_labels)
    monkeypatch.setattr(loop, "load", lambda name: hidden)
    plain = fit(config())
    assert plain.held_out_parts == {}
    assert np.array_equal(plain.checkpoint.losses, shown.checkpoint.losses)
    assert plain.held_out_loss == shown.held_out_loss


def test_a_run_is_resumed_saved_and_sampled_from(tmp_path):
    whole = fit(config()).checkpoint
    fit(config(max_steps=2, cooldown=0.0), tmp_path)
    parts = fit(config(cooldown=0.0), tmp_path, resume=True).checkpoint
    assert np.array_equal(parts.losses, fit(config(cooldown=0.0)).checkpoint.losses)
    whole.save(tmp_path / CHECKPOINT_NAME)
    read = Checkpoint.load(tmp_path / CHECKPOINT_NAME)
    assert read.shape == (2,)
    assert read.config == config()
    steps = plan.ancestral(read.schedule, read.schedule.trajectory(5))
    points = draw(read, 10, steps).images
    assert points.shape == (10, 2)
    assert torch.equal(points, draw(whole, 10, steps).images)


def test_points_are_scattered_over_a_picture(tmp_path):
    write_samples(tmp_path / "points.png", np.random.default_rng(0).standard_normal((30, 2)), {})
    assert (tmp_path / "points.png").read_bytes().startswith(b"\x89PNG")
    for wrong, error in (
        (np.zeros((3, 3)), ShapeError),
        (np.zeros((0, 2)), ShapeError),
        (np.full((1, 2), np.nan), RangeError),
    ):
        with pytest.raises(error):
            scatter(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"network": UNetConfig()},
            r"a UNetConfig, which does not take the data set 'mixture'; write network=MLPConfig\(\)",
        ),
        (
            {"dataset": "digits"},
            r"a MLPConfig, which does not take the data set 'digits'; write network=UNetConfig\(\)",
        ),
        ({"prediction": "label", "loss": "cross_entropy"}, "one of noisy images, and the data set 'mixture' has none"),
    ],
)
def test_networks_and_data_that_do_not_fit_are_named(changes, message):
    with pytest.raises(RangeError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"network": MLPConfig(components=3, width=16, blocks=1)},
            "network.components is 3, and an example of the data set 'mixture' has 2; write 2",
        ),
        (
            {"dataset": "digits", "network": UNetConfig(channels=3)},
            "network.channels is 3, and an example of the data set 'digits' has 1; write 1",
        ),
        (
            {"dataset": "digits", "network": UNetConfig(multipliers=(1,) * 5)},
            "multipliers has 5 entries, .* multiples of 16; those of 'digits' have 8 x 8 pixels: write fewer",
        ),
        (
            {"network": MLPConfig(width=16, classes=3)},
            "network.classes is 3, but the data have labels up to 3; write 4",
        ),
    ],
)
def test_data_that_the_network_does_not_take_are_refused_before_anything_is_written(
    changes, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "load", data.load)
    with pytest.raises(RangeError, match=message):
        fit(config(**changes), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_data_set_says_what_the_names_of_a_network_in_json_mean():
    assert Config.from_dict(config().to_dict()) == config()
    assert Config.from_dict({"dataset": "mixture", "network": {"width": 64}}).network == MLPConfig(width=64)
    assert Config.from_dict({"dataset": "mixture"}).network == MLPConfig()
    assert Config.from_dict({"network": {"width": 16}}).network == UNetConfig(width=16)
    assert Config.from_dict({}) == Config()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": {"depth": 3}}, r"Config\.network has no 'depth'; it has channels, width"),
        ({"network": {"components": 3}}, r"Config\.network has no 'components'; it has channels, width"),
        (
            {"dataset": "mixture", "network": {"multipliers": [1]}},
            r"Config\.network has no 'multipliers'; it has components",
        ),
        ({"network": {"depth": 3}, "dataset": "cifar10"}, "dataset = 'cifar10' is not known; write one of 'digits'"),
        ({"network": {"depth": 3}, "dataset": 3}, r"Config\.dataset is 3; it must be str"),
        ({"dataset": "mixture", "network": None}, r"Config\.network is None; a table of names and values is needed"),
    ],
)
def test_wrong_names_in_json_are_said_to_be_wrong_of_the_right_network(values, message):
    with pytest.raises(RangeError, match=message):
        Config.from_dict(values)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    path = tmp_path / CHECKPOINT_NAME
    made = fit(config()).checkpoint
    object.__setattr__(made, "shape", (3,))
    made.save(path)
    with pytest.raises(CheckpointError, match=r"its shape is \[3\], and its network takes points of 2 components"):
        Checkpoint.load(path)


@pytest.mark.full
def test_a_small_network_comes_within_two_percent_of_the_floor():
    run = fit(Config(dataset="mixture", network=MLPConfig(), batch_size=256, max_steps=2000, max_seconds=None))
    parts = run.held_out_parts
    print(json.dumps({"loss": run.held_out_loss, **parts, "share": parts["excess"] / parts["floor"]}))
    assert parts["excess"] <= 0.02 * parts["floor"]
