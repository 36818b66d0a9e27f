"""Points of a known law: what the best network would lose is known, and training says how far it is from it."""

import json

import numpy as np
import pytest
import torch

from ddpm_ref.errors import CheckpointError, RangeError, ShapeError
from ddpm_ref.nn import MLPConfig, UNetConfig
from ddpm_ref.reference import plan
from ddpm_ref.sampling import Denoiser
from ddpm_ref.torch import oracle
from ddpm_ref.torch.tables import tables
from ddpm_ref.training import Checkpoint, Config, ScheduleConfig, data, fit, log, loop
from ddpm_ref.training.folder import CHECKPOINT_NAME, LOG_NAME
from ddpm_ref.training.objective import Draw, simple_loss, simple_parts
from ddpm_ref.training.plots import scatter
from ddpm_ref.training.samples import draw, write_samples

POINTS = data.mixture()


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


def test_points_are_draws_of_the_law_and_the_same_for_everybody():
    law = POINTS.law
    assert POINTS.shape == (2,)
    assert POINTS.levels is None
    assert (len(POINTS.train), len(POINTS.held_out)) == (50_000, 5_000)
    assert torch.equal(data.load("mixture").train, POINTS.train)
    x, labels = POINTS.train.double().numpy(), POINTS.train_labels.numpy()
    n = len(x)
    # Six standard errors: of means, of second moments about them, of counts.
    assert np.all(np.abs(x.mean(axis=0) - law.mean) < 6 * np.sqrt(np.diag(law.covariance) / n))
    assert np.all(np.abs(np.cov(x.T) - law.covariance) < 6 * np.sqrt(3 / n) * law.covariance.max())
    counts = np.bincount(labels)
    assert np.all(np.abs(counts - n * law.weights) < 6 * np.sqrt(n * law.weights))
    for k, count in enumerate(counts):
        inside = law.covariances[k]
        assert np.all(np.abs(x[labels == k].mean(axis=0) - law.means[k]) < 6 * np.sqrt(np.diag(inside) / count))
        assert np.all(np.abs(np.cov(x[labels == k].T) - inside) < 6 * np.sqrt(2 / count) * inside.max())


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_best_network_loses_the_floor_and_nothing_else(prediction):
    """The floor of eps is `Oracle.loss_floor`, by quadrature; of x0 and v it is that by SNR and by alpha_bar."""
    law, schedule = POINTS.law, config().schedule.build()
    of_schedule = tables(schedule)
    mixture = oracle.Mixture(*(torch.tensor(np.array(a)) for a in (law.weights, law.means, law.covariances)))
    best = Denoiser(oracle.OptimalNetwork(mixture, of_schedule, prediction), prediction)
    x0 = POINTS.train[:20_000].double()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (1, 10, 20):
        drawn = Draw(x0, torch.full((len(x0),), t), noise)
        loss, floor, excess = simple_parts(best, best, of_schedule, drawn)
        assert torch.equal(loss, floor)
        assert not excess.any()
        scale = {"eps": 1.0, "x0": schedule.snr[t], "v": schedule.alpha_bar[t]}[prediction]
        exact = float(law.loss_floor(schedule, t)) / scale
        assert abs(floor.mean() - exact) < 6 * floor.std() / len(x0) ** 0.5  # standard errors


def test_floor_and_excess_add_up_to_the_loss_on_average():
    law, schedule = POINTS.law, config().schedule.build()
    of_schedule = tables(schedule)
    mixture = oracle.Mixture(*(torch.tensor(np.array(a)) for a in (law.weights, law.means, law.covariances)))
    best = Denoiser(oracle.OptimalNetwork(mixture, of_schedule))
    worse = Denoiser(lambda x, time: 0.5 * x)
    x0 = POINTS.train[:20_000].double()
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    drawn = Draw(x0, torch.randint(1, 21, (len(x0),), generator=generator), noise)
    loss, floor, excess = simple_parts(worse, best, of_schedule, drawn)
    assert torch.equal(loss, simple_loss(worse, of_schedule, drawn))
    apart = loss - floor - excess
    assert apart.std() > 0.01  # of one example they do not
    assert abs(apart.mean()) < 6 * apart.std() / len(x0) ** 0.5  # standard errors


def test_whoever_waits_and_the_log_hear_of_floor_and_excess(tmp_path):
    heard = []
    run = fit(config(), tmp_path, heard.append)
    told = log.read(tmp_path / LOG_NAME)
    floor, excess = told.steps["floor"].mean(), told.steps["excess"].mean()
    assert f"(floor {floor:.4f}, excess {excess:.4f})" in str(heard[-1])
    assert run.held_out_parts.keys() == {"floor", "excess"}
    assert told.held_out_parts == run.held_out_parts
    # An untrained network predicts no noise: it loses 1, of which all that is not the floor is excess.
    assert 0.2 < run.held_out_parts["floor"] < 0.8
    assert 0.8 < run.held_out_loss < 1.2


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


def test_json_says_which_network_by_its_names():
    assert Config.from_dict(config().to_dict()) == config()
    assert Config.from_dict({"network": {"width": 16}}).network == UNetConfig(width=16)
    with pytest.raises(RangeError, match="has no 'depth'"):
        Config.from_dict({"network": {"depth": 3}})


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
