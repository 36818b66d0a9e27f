"""The bound and the hybrid loss: their values, where their gradients go, and runs that are trained with them."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from ddpm_ref.errors import CheckpointError, RangeError
from ddpm_ref.nn import UNetConfig
from ddpm_ref.reference import bound as exact
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.posterior import posterior_log_variance, q_posterior
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling import Denoiser, sample
from ddpm_ref.torch import tables
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.objectives import hybrid
from ddpm_ref.torch.prediction import v_target
from ddpm_ref.training import Checkpoint, ScheduleConfig, data, fit, log, loop
from ddpm_ref.training.folder import LOG_NAME
from ddpm_ref.training.objective import Draw, bound_loss, draw, hybrid_parts, simple_loss
from ddpm_ref.training.trainer import Trainer

SCHEDULE = linear_schedule(T=20, beta_1=0.01, beta_T=0.3)
TABLES = tables(SCHEDULE)
LEVELS = 17
DATA = (torch.randint(0, LEVELS, (40, 3), generator=torch.Generator().manual_seed(0)) / 8 - 1).double()
HYBRID = {"loss": "hybrid", "variance": "learned_range"}
TOLERANCE = 1e-12  # rule: sums and transcendental functions in float64, of some tens of terms


def drawn(step=1, batch=16):
    return draw(DATA, 20, batch, 0, step)


def says(predicted, extra, prediction="eps", variance="learned_range"):
    """A denoiser whose two halves are these tensors, leaves of a graph."""
    return Denoiser(lambda x, time: torch.cat([predicted, extra], dim=1), prediction, variance=variance)


def halves(like, seed=5):
    generator = torch.Generator().manual_seed(seed)
    made = [0.3 * torch.randn(like.shape, generator=generator, dtype=like.dtype) for _ in range(2)]
    return [half.requires_grad_() for half in made]


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [LEVELS, None])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("variance", ["learned_range", "learned", "posterior", "beta"])
def test_the_bound_is_T_times_the_term_of_the_reference(variance, prediction, levels):
    given = drawn()
    given = dataclasses.replace(given, t=torch.arange(1, 17))  # the step to level 0 among them
    predicted, extra = (half.detach() for half in halves(given.x0))
    learned = variance if variance.startswith("learned") else None
    fixed = {} if learned else {"fixed_variance": variance}
    denoiser = (
        says(predicted, extra, prediction, learned) if learned else Denoiser(lambda x, time: predicted, prediction)
    )
    got = bound_loss(denoiser, TABLES, given, levels, **fixed)
    x0, t = given.x0.numpy(), given.t.numpy()
    s = t - 1
    xt = q_sample(TABLES, given.x0, given.t, given.noise).numpy()
    a, b = SCHEDULE.sqrt_alpha_bar[t][:, None], SCHEDULE.sqrt_beta_bar[t][:, None]
    y = predicted.numpy()
    guessed = {"eps": (xt - b * y) / a, "x0": y, "v": a * xt - b * y}[prediction]
    mean = q_posterior(SCHEDULE, guessed, xt, t, s)[0]
    small = posterior_log_variance(SCHEDULE, t, s)[:, None]
    large = np.log(SCHEDULE.between(t, s).beta)[:, None]
    share = (extra.numpy() + 1) / 2
    log_variance = {
        "learned": extra.numpy(),
        "learned_range": share * large + (1 - share) * small,
        "posterior": small,
        "beta": np.where(s[:, None] == 0, small, large),
    }[variance]
    terms = exact.bound_term(SCHEDULE, x0, xt, t, s, mean, log_variance, levels)
    assert np.allclose(
        got.numpy(), 20 * terms, rtol=TOLERANCE * 100, atol=TOLERANCE
    )  # eps at t: divided by sqrt(alpha_bar)


def test_averaged_over_all_levels_it_is_the_bound():
    x0, T = DATA[:2], 20
    knows = lambda answer: Denoiser(lambda x, time: answer, "x0")  # noqa: E731
    total = torch.zeros(2, dtype=torch.float64)
    for t in range(1, T + 1):
        generator = torch.Generator().manual_seed(t)
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        total += bound_loss(knows(0 * x0), TABLES, Draw(x0, torch.full((2,), t), noise), LEVELS) / T
    # The mean is linear in x0 and the prediction is 0, so that each term is a weight times |x0|^2, whatever the noise;
    # that of level 0 is a probability of levels.
    weights = sum(exact.loss_weight_x0(SCHEDULE, t, t - 1) for t in range(2, T + 1))
    log_variance = float(posterior_log_variance(SCHEDULE, 1, 0))
    last = exact.reconstruction_term(x0.numpy(), np.zeros(x0.shape), log_variance, LEVELS)
    wanted = (weights * x0.numpy() ** 2 + last).mean(axis=1) / math.log(2)
    assert np.allclose(total.numpy(), wanted, rtol=TOLERANCE, atol=0)


def test_the_simple_part_is_the_simple_loss_bit_for_bit():
    given = drawn()
    denoiser = says(*halves(given.x0))
    simple, vlb = hybrid_parts(denoiser, TABLES, given, LEVELS)
    assert torch.equal(simple, simple_loss(denoiser, TABLES, given))
    assert torch.equal(hybrid(simple, vlb, 0.0), simple)
    assert not torch.equal(hybrid(simple, vlb, 0.001), simple)
    assert torch.equal(vlb, bound_loss(denoiser, TABLES, given, LEVELS))


# --- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", ["learned_range", "learned"])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_bound_in_the_hybrid_loss_teaches_the_variance_only(prediction, variance):
    given = dataclasses.replace(drawn(), t=torch.arange(1, 17))
    predicted, extra = halves(given.x0)
    denoiser = says(predicted, extra, prediction, variance)
    simple, vlb = hybrid_parts(denoiser, TABLES, given, LEVELS)
    hybrid(simple, vlb, 0.001).mean().backward()
    of_hybrid, of_extra = predicted.grad.clone(), extra.grad.clone()
    predicted.grad = extra.grad = None
    simple_loss(denoiser, TABLES, given).mean().backward()
    assert torch.equal(of_hybrid, predicted.grad)  # exactly
    assert not extra.grad.any()
    assert of_extra.abs().min() > 0
    # The guard can fire: the bound by itself moves the mean, too.
    predicted.grad = extra.grad = None
    (0.001 * bound_loss(denoiser, TABLES, given, LEVELS)).mean().backward()
    assert predicted.grad.abs().min() > 0
    assert torch.allclose(extra.grad, of_extra, rtol=TOLERANCE)


def test_the_variance_that_the_bound_asks_for_is_the_mean_square_of_the_error():
    # With the mean held fixed, KL is least where sigma^2 = beta_tilde + (mu - mu_tilde)^2: there its gradient is 0.
    given = dataclasses.replace(drawn(), t=torch.arange(2, 18))
    predicted, _ = (half.detach() for half in halves(given.x0))
    t, s = given.t.numpy(), given.t.numpy() - 1
    xt = q_sample(TABLES, given.x0, given.t, given.noise).numpy()
    mean, spread = q_posterior(SCHEDULE, predicted.numpy(), xt, t, s)
    truth, _ = q_posterior(SCHEDULE, given.x0.numpy(), xt, t, s)
    best = torch.from_numpy(np.log(spread + (mean - truth) ** 2)).requires_grad_()
    _, vlb = hybrid_parts(says(predicted, best, "x0", "learned"), TABLES, given, LEVELS)
    vlb.sum().backward()
    scale = 20 / (3 * math.log(2))  # the gradient of one element is this times a number of size 1, whose terms cancel
    assert float(best.grad.abs().max()) < scale * 1e-12  # rule: sums


# --- refusals and edges -----------------------------------------------------------------------------------------------


def test_what_the_losses_cannot_use_is_named():
    given, bare = drawn(), Denoiser(lambda x, time: 0 * x)
    with pytest.raises(RangeError, match="the hybrid loss teaches a variance, and this denoiser has none"):
        hybrid_parts(bare, TABLES, given, LEVELS)
    with pytest.raises(RangeError, match="'posterior', 'beta'"):
        bound_loss(bare, TABLES, given, LEVELS, "learned")
    off = dataclasses.replace(given, x0=given.x0 * 0.9, t=torch.ones_like(given.t))
    with pytest.raises(RangeError):
        bound_loss(bare, TABLES, off, LEVELS)
    assert torch.isfinite(bound_loss(bare, TABLES, off, None)).all()


@pytest.mark.parametrize("T", [1, 2])
def test_the_shortest_chains(T):
    of = tables(NoiseSchedule.from_betas([0.1, 0.5][:T]))
    given = Draw(DATA[:4], torch.tensor([1, T, 1, T]), torch.zeros_like(DATA[:4]))
    predicted, extra = halves(given.x0)
    assert torch.isfinite(bound_loss(says(predicted, extra, variance="learned"), of, given, LEVELS)).all()
    for denoiser in (says(predicted, extra), Denoiser(lambda x, time: predicted)):
        if T == 2:
            assert torch.isfinite(bound_loss(denoiser, of, given, LEVELS)).all()
        else:
            with pytest.raises(ValueError, match="second step"):
                bound_loss(denoiser, of, given, LEVELS)


def test_an_empty_batch_has_no_losses():
    given = Draw(DATA[:0], torch.zeros(0, dtype=torch.int64), DATA[:0])
    denoiser = says(DATA[:0], DATA[:0])
    simple, vlb = hybrid_parts(denoiser, TABLES, given, LEVELS)
    assert simple.shape == vlb.shape == (0,)
    assert bound_loss(Denoiser(lambda x, time: x), TABLES, given, LEVELS).shape == (0,)


def test_at_zero_terminal_snr_the_bound_takes_v_and_x0():
    of = tables(NoiseSchedule.from_betas([0.1, 0.5, 1.0]))
    given = Draw(DATA[:3], torch.tensor([1, 2, 3]), torch.ones_like(DATA[:3]))
    right = v_target(of, given.x0, given.t, given.noise)
    for prediction, answer in (("v", right), ("x0", given.x0)):
        losses = bound_loss(Denoiser(lambda x, time: answer, prediction), of, given, None)  # noqa: B023
        assert torch.allclose(
            losses[1:], torch.zeros(2, dtype=torch.float64), atol=1e-14
        )  # rule: sums; the mean is right
        assert torch.isfinite(losses).all()


# --- configs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"loss": "hybrid"}, "variance is None; write variance 'learned_range', or loss 'l2'"),
        ({"variance": "learned_range"}, "loss 'l2' does not depend on it; write loss 'hybrid' or 'vlb'"),
        ({"variance": "posterior", "loss": "vlb"}, "'learned', 'learned_range'"),
        ({**HYBRID, "vlb_weight": -1.0}, "vlb_weight is -1.0"),
        ({**HYBRID, "vlb_weight": math.inf}, "vlb_weight is inf"),
        ({"vlb_weight": 0.5}, "vlb_weight is 0.5, which is for loss 'hybrid'"),
        ({"fixed_variance": "small"}, "'posterior', 'beta'"),
        ({"fixed_variance": "beta"}, "fixed_variance is 'beta', which is for loss 'vlb'"),
        ({**HYBRID, "fixed_variance": "beta"}, "of a network that learns no variance"),
        ({"time_sampler": "often"}, "'uniform', 'antithetic', 'importance'"),
        ({"network": UNetConfig(outputs_per_channel=2)}, "nothing teaches the second half"),
        ({**HYBRID, "schedule": ScheduleConfig(T=1)}, "schedule.T is 1"),
        ({"loss": "vlb", "schedule": ScheduleConfig(T=1)}, "write variance 'learned'"),
    ],
)
def test_wrong_configs_are_named(wrong, message, tiny_config):
    with pytest.raises(RangeError, match=message):
        tiny_config(**wrong)


def test_a_learned_variance_doubles_the_output_and_nothing_else(tiny_config):
    config = tiny_config(**HYBRID)
    assert config.network == dataclasses.replace(tiny_config().network, outputs_per_channel=2)
    assert type(config).from_dict(config.to_dict()) == config
    torch.manual_seed(0)
    plain = tiny_config().build_network().state_dict()
    torch.manual_seed(0)
    double = config.build_network().state_dict()
    assert plain.keys() == double.keys()
    differ = [name for name in plain if plain[name].shape != double[name].shape]
    assert differ == ["outlet.weight", "outlet.bias"]
    assert all(torch.equal(plain[name], double[name]) for name in plain if name not in differ)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def images(monkeypatch):
    """Puts another data set under training."""

    def use(**changes):
        few = dataclasses.replace(data.load("digits"), **changes)
        monkeypatch.setattr(loop, "load", lambda name: few)
        return few

    return use


def test_digits_have_17_levels_and_are_on_their_grid():
    digits = data.load("digits")
    assert digits.levels == 17
    assert set(torch.cat([digits.train, digits.held_out]).unique().tolist()) <= {k / 8 - 1 for k in range(17)}


@pytest.mark.parametrize("part", ["train", "held_out"])
@pytest.mark.parametrize("loss", [HYBRID, {"loss": "vlb"}], ids=["hybrid", "vlb"])
def test_data_off_their_grid_are_refused_by_name_before_training(loss, part, images, tiny_config):
    digits = data.load("digits")
    moved = getattr(digits, part).clone()
    moved[3, 0, 2, 2] += 0.01
    images(**{part: moved})
    with pytest.raises(RangeError, match=rf"17 grey levels, and its images '{part}' are off them.*levels=None"):
        fit(tiny_config(**loss), progress=lambda progress: pytest.fail("a step was made"))
    images(**{part: moved}, levels=None)
    assert fit(tiny_config(max_steps=1, **loss)).checkpoint.steps == 1
    images(**{part: moved})
    assert fit(tiny_config(max_steps=1)).checkpoint.steps == 1  # the squared error asks for no levels


@pytest.mark.parametrize(
    "changes",
    [
        HYBRID,
        {**HYBRID, "variance": "learned", "prediction": "v", "time_sampler": "antithetic"},
        {"loss": "vlb"},
        {"loss": "vlb", "fixed_variance": "beta", "prediction": "x0"},
        {"loss": "vlb", "variance": "learned_range", "time_sampler": "importance"},
    ],
    ids=str,
)
def test_training_lowers_every_loss(changes, tiny_config):
    begun = fit(tiny_config(max_steps=1, learning_rate=1e-9, **changes))
    run = fit(tiny_config(max_steps=25, batch_size=8, learning_rate=0.02, **changes))
    assert 0 < run.held_out_loss < 0.8 * begun.held_out_loss
    assert np.isfinite(run.checkpoint.losses).all()


@pytest.mark.parametrize("loss", [HYBRID, {"loss": "vlb"}], ids=["hybrid", "vlb"])
def test_a_run_that_diverges_says_what_to_do(loss, tiny_config):
    wild = tiny_config(learning_rate=1e30, warmup_steps=0, max_gradient_norm=None, max_steps=20, **loss)
    with pytest.raises(RangeError, match=r"at step [2-9].* lower learning_rate"):
        fit(wild)


def test_hybrid_with_weight_0_trains_the_mean_as_the_squared_error_does(tiny_config):
    plain, double = fit(tiny_config()), fit(tiny_config(vlb_weight=0.0, **HYBRID))
    assert np.array_equal(plain.checkpoint.losses, double.checkpoint.losses)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    one, other = plain.checkpoint.denoiser(), double.checkpoint.denoiser()
    assert torch.allclose(
        one(x, 4), other(x, 4), rtol=1e-4, atol=1e-6
    )  # rule: networks; another shape of the last layer
    assert not other.with_variance(x, 4)[1].any()


def test_the_log_and_whoever_waits_hear_of_both_parts(tmp_path, tiny_config):
    heard = []
    run = fit(tiny_config(**HYBRID), tmp_path, heard.append)
    told = log.read(tmp_path / LOG_NAME)
    simple, vlb = (told.steps[name] for name in ("simple", "vlb"))
    total = simple + 0.001 * vlb
    assert np.allclose(told.steps["loss"], total, rtol=1e-5)  # rule: sums, in float32
    assert heard[-1].parts == {"simple": pytest.approx(simple.mean()), "vlb": pytest.approx(vlb.mean())}  # rule: sums
    assert f"(simple {simple.mean():.4f}, vlb {vlb.mean():.4f})" in str(heard[-1])
    assert told.held_out_parts == run.held_out_parts
    parts = run.held_out_parts
    assert parts["simple"] + 0.001 * parts["vlb"] == pytest.approx(
        run.held_out_loss, rel=1e-5
    )  # rule: sums, in float32
    fit(tiny_config(), tmp_path / "plain")
    plain = log.read(tmp_path / "plain" / LOG_NAME)
    assert set(plain.steps) == set(log.COLUMNS)
    assert plain.held_out_parts == {}


def test_a_run_samples_with_the_variance_it_learned(tmp_path, tiny_config):
    run = fit(tiny_config(max_steps=10, learning_rate=0.02, **HYBRID), tmp_path).checkpoint
    loaded = Checkpoint.load(tmp_path / "checkpoint.safetensors")
    denoiser = loaded.denoiser()
    assert denoiser.variance == "learned_range"
    made = {
        kind: sample(denoiser, (3, 1, 8, 8), plans.ancestral(run.schedule, run.schedule.trajectory(5), kind))
        for kind in ("posterior", "learned_range", "beta")
    }
    assert all(torch.isfinite(x).all() for x in made.values())
    assert len({x.numpy().tobytes() for x in made.values()}) == 3


def test_what_importance_sampling_remembers_is_in_the_file(tmp_path, tiny_config):
    run = fit(tiny_config(time_sampler="importance", max_steps=10), tmp_path).checkpoint
    kept = Checkpoint.load(tmp_path / "checkpoint.safetensors").times
    assert kept.keys() == run.times.keys() == {"losses", "seen"}
    assert all(torch.equal(kept[name], run.times[name]) for name in kept)
    assert int(kept["seen"].sum()) == 10 * 4
    plain = fit(tiny_config()).checkpoint
    assert plain.times is None
    with_none = dataclasses.replace(run, times=None)
    too_many = dataclasses.replace(plain, times=run.times)
    bad = dataclasses.replace(run, times={**run.times, "seen": -run.times["seen"] - 1})
    for wrong, message in (
        (with_none, "its time sampler has no tensors"),
        (too_many, "tensors of a time sampler, and its config says 'uniform'"),
        (bad, "no whole numbers >= 0"),
    ):
        wrong.save(tmp_path / "wrong.safetensors")
        with pytest.raises(CheckpointError, match=message):
            Checkpoint.load(tmp_path / "wrong.safetensors")


def test_the_logged_loss_of_importance_sampling_is_the_weighted_one(tiny_config):
    config = tiny_config(time_sampler="importance", max_steps=None, max_seconds=1.0, schedule=ScheduleConfig(T=3))
    trainer = Trainer(config, loop.load("digits"), torch.device("cpu"))
    while (trainer.times.state()["seen"][1:] < 10).any():
        trainer.step()
    before = trainer.times.probabilities()
    assert len(set(before.tolist())) == 3
    seen = trainer.times.state()
    number = trainer.steps + 1
    given = draw(trainer.data, 3, 4, 0, number, None, trainer.times)
    assert torch.equal(given.weight, (1 / (3 * before[given.t - 1])).float())
    denoiser = Denoiser(trainer.network, "eps")
    losses = simple_loss(denoiser, trainer.tables, given).detach()
    trainer.step()
    assert trainer.losses[-1] == float((given.weight * losses).mean())
    after = trainer.times.state()
    assert int((after["seen"] - seen["seen"]).sum()) == 4
    for t, loss in zip(given.t.tolist(), losses.tolist(), strict=True):
        assert loss in after["losses"][t].tolist()  # as it was found, without its weight
