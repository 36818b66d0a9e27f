"""Guided samples of trained runs are those of the formulas, label by label and batch by batch; misfits are named."""

import dataclasses

import pytest
import torch

from ddpm_ref.errors import RangeError
from ddpm_ref.nn import UNetConfig
from ddpm_ref.reference import plan as plans
from ddpm_ref.sampling import Denoiser, GeneratorNoise, sample
from ddpm_ref.torch import tables
from ddpm_ref.torch.guidance import classifier_free, classifier_gradient, classifier_guided_eps
from ddpm_ref.training import ScheduleConfig, fit
from ddpm_ref.training.guided import Guidance
from ddpm_ref.training.samples import draw

TINY = {"width": 8, "multipliers": (1,), "attention": (), "groups": 4}


@pytest.fixture(scope="module")
def runs(tiny_config):
    """A conditional run, an unconditional one, and a classifier with another clock, all a little trained."""
    quick = {"max_steps": 6, "learning_rate": 0.05, "batch_size": 4, "warmup_steps": 0}
    told = UNetConfig(classes=10, **TINY)
    return {
        "conditional": fit(tiny_config(network=told, label_dropout=0.3, **quick)).checkpoint,
        "plain": fit(tiny_config(**quick)).checkpoint,
        "classifier": fit(
            tiny_config(network=told, prediction="label", loss="cross_entropy", time_code="one_based", **quick)
        ).checkpoint,
        "certain": fit(tiny_config(network=told, **quick)).checkpoint,
    }


def a_plan(run, variance="posterior", **options):
    return plans.ancestral(run.schedule, run.schedule.trajectory(4), variance, **options)


def made(run, guidance, count=3, plan=None, **options):
    return draw(run, count, plan or a_plan(run), 7, guidance=guidance, **options).images


@pytest.mark.parametrize("weight", [-1.0, 0.0, 0.5, 2.0])
def test_classifier_free_samples_are_those_of_the_formula(weight, runs):
    run, label = runs["conditional"], torch.tensor([3, 8, 3])
    network = run.network()

    def by_hand(x, time):
        null = torch.full_like(label, 10)
        return classifier_free(network(x, time, label), network(x, time, null), guidance_weight=weight)

    wanted = sample(Denoiser(by_hand), (3, 1, 8, 8), a_plan(run), GeneratorNoise(7))
    got = made(run, Guidance((3, 8), weight))
    # rule: networks; one batch of six and two of three round differently
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert not torch.allclose(got, made(run, Guidance((3, 8), weight + 1)), rtol=1e-3)


def test_without_a_weight_it_is_the_conditional_network_and_minus_one_the_unconditional(runs):
    run = runs["conditional"]
    assert torch.equal(made(run, Guidance((4,))), made(run, Guidance((4,), 0.0)))
    assert torch.equal(made(run, Guidance((4,), -1.0)), draw(run, 3, a_plan(run), 7).images)
    assert not torch.equal(made(run, Guidance((4,))), made(run, Guidance((5,))))


def test_rescaling_changes_guided_samples_and_nothing_at_weight_0(runs):
    run = runs["conditional"]
    assert not torch.allclose(made(run, Guidance((4,), 2.0, rescale=0.7)), made(run, Guidance((4,), 2.0)), rtol=1e-3)
    plain, rescaled = made(run, Guidance((4,), 0.0)), made(run, Guidance((4,), 0.0, rescale=0.7))
    assert torch.allclose(plain, rescaled, rtol=1e-4, atol=1e-5)  # rule: networks


@pytest.mark.parametrize("kind", ["plain", "conditional"])
def test_classifier_guided_samples_are_those_of_the_formula_whatever_the_clocks(kind, runs):
    run, label = runs[kind], torch.tensor([3, 8, 3])
    network, classifier, exact = run.network(), runs["classifier"].network(), tables(run.schedule)

    def by_hand(x, time):  # the run's clock is t - 1, the classifier's t
        gradient = classifier_gradient(classifier, x, time + 1, label)
        return classifier_guided_eps(exact, network(x, time), time + 1, gradient, 5.0)

    wanted = sample(Denoiser(by_hand), (3, 1, 8, 8), a_plan(run), GeneratorNoise(7))
    got = made(run, Guidance((3, 8), classifier=runs["classifier"], classifier_scale=5.0))
    assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))  # rule: networks
    unguided = made(run, Guidance((3, 8), classifier=runs["classifier"], classifier_scale=0.0))
    assert torch.equal(unguided, draw(run, 3, a_plan(run), 7).images)
    assert not torch.allclose(got, unguided, rtol=1e-3)


@pytest.mark.parametrize("point", ["xt", "mean"])
def test_shifted_means_are_those_of_the_formula(point, runs):
    run, plan = runs["plain"], a_plan(runs["plain"])
    classifier, network, label = runs["classifier"].network(), run.network(), torch.tensor([3, 8, 3])
    x, source = None, GeneratorNoise(7)
    for k, (t, s) in enumerate(plan.trajectory.pairs()):
        shape, place = (3, 1, 8, 8), torch.device("cpu")
        x = source.normal(0, shape, torch.float32, place) if x is None else x
        eps = network(x, torch.full((3,), t - 1)).detach()
        mean = float(plan.x[k]) * x + float(plan.prediction[k]) * eps
        at, level = (x, t) if point == "xt" else (mean, max(s, 1))
        gradient = classifier_gradient(classifier, at, torch.full((3,), level), label)
        x = mean + 5.0 * float(plan.noise[k]) ** 2 * gradient
        x = x + float(plan.noise[k]) * source.normal(k + 1, shape, torch.float32, place)
    guidance = Guidance((3, 8), classifier=runs["classifier"], classifier_scale=5.0, gradient_at=point)
    assert torch.allclose(made(run, guidance), x, rtol=1e-4, atol=1e-5 * float(x.abs().max()))  # rule: networks


def test_the_forms_and_points_differ(runs):
    run, classifier = runs["plain"], runs["classifier"]
    forms = [
        made(run, Guidance((3,), classifier=classifier, classifier_scale=5.0, gradient_at=point))
        for point in (None, "xt", "mean")
    ]
    assert len({x.numpy().tobytes() for x in forms}) == 3


def test_labels_go_round_over_the_batches(runs):
    run, guidance = runs["conditional"], Guidance((1, 2, 3), 1.0)
    assert guidance.labels_of(2, 5).tolist() == [3, 1, 2, 3, 1]
    whole, parts = (made(run, guidance, 5, noise="philox", batch_size=size) for size in (5, 2))
    assert torch.allclose(whole, parts, rtol=1e-4, atol=1e-5)  # rule: networks
    other = made(run, Guidance((1, 2, 3, 4), 1.0), 5, noise="philox")
    assert torch.allclose(whole[:3], other[:3], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole[3:], other[3:], rtol=1e-3)
    assert (guidance.columns(7), guidance.columns(2), Guidance((1,)).columns(7)) == (3, 2, None)


def test_a_run_that_was_told_every_label_is_sampled_with_labels_only(runs):
    run = runs["certain"]
    assert made(run, Guidance((1,))).shape == (3, 1, 8, 8)
    for weight in (-1.0, 0.5):
        with pytest.raises(RangeError, match="no unconditional prediction to be guided away from"):
            made(run, Guidance((1,), weight))
    with pytest.raises(RangeError, match="no unconditional prediction"):
        made(run, Guidance((1,), classifier=runs["classifier"]))
    assert made(run, Guidance((1,), 0.0, classifier=runs["classifier"])).shape == (3, 1, 8, 8)
    with pytest.raises(RangeError, match="give labels"):
        draw(run, 1, a_plan(run))


@pytest.mark.parametrize("label", [-1, 10, True])
@pytest.mark.parametrize("kind", ["plain", "conditional"])
def test_labels_out_of_range_are_named(kind, label, runs):
    guidance = Guidance((3, label), classifier=None if kind == "conditional" else runs["classifier"])
    with pytest.raises(RangeError, match=rf"label {label} is none of the classes 0\.\.9"):
        made(runs[kind], guidance)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": ()}, "name at least one class"),
        ({"labels": (1,), "weight": float("nan")}, "weight is nan"),
        ({"labels": (1,), "weight": float("inf")}, "weight is inf"),
        ({"labels": (1,), "weight": True}, "weight is True"),
        ({"labels": (1,), "classifier_scale": float("nan")}, "classifier_scale is nan"),
        ({"labels": (1,), "rescale": 1.1}, r"rescale is 1\.1"),
        ({"labels": (1,), "rescale": 0.7, "weight": -1}, r"weight -1.* has none; leave rescale out"),
        ({"labels": (1,), "gradient_at": "mean"}, "there is no classifier"),
        ({"labels": (1,), "gradient_at": "x0"}, "'mean', 'xt'"),
    ],
)
def test_guidance_that_makes_no_sense_is_named(wrong, message):
    with pytest.raises(RangeError, match=message):
        Guidance(**wrong)


def test_runs_that_cannot_be_guided_so_are_named(runs, tiny_config):
    plain, conditional, classifier = runs["plain"], runs["conditional"], runs["classifier"]
    with pytest.raises(RangeError, match="trained without labels"):
        made(plain, Guidance((1,)))
    with pytest.raises(RangeError, match="trained without labels"):
        made(plain, Guidance((1,), 2.0, classifier=classifier))
    with pytest.raises(RangeError, match="the classifier's run trained a denoiser"):
        made(conditional, Guidance((1,), classifier=conditional))
    with pytest.raises(RangeError, match="the run trained a classifier"):
        made(classifier, Guidance((1,)))
    still = plans.ddim(plain.schedule, plain.schedule.trajectory(4))
    with pytest.raises(RangeError, match="the plan adds no noise"):
        made(plain, Guidance((1,), classifier=classifier, gradient_at="mean"), plan=still)
    other = ScheduleConfig("linear", T=10, beta_1=0.01, beta_T=0.5)
    elsewhere = dataclasses.replace(classifier, schedule=other.build())
    with pytest.raises(RangeError, match="trained on another schedule"):
        made(plain, Guidance((1,), classifier=elsewhere))
    with pytest.raises(RangeError, match=r"images are \(1, 16, 16\), the run's \(1, 8, 8\)"):
        made(plain, Guidance((1,), classifier=dataclasses.replace(classifier, shape=(1, 16, 16))))
    wider = dataclasses.replace(classifier.config, network=UNetConfig(classes=12, **TINY))
    with pytest.raises(RangeError, match="knows 12 classes, the run 10"):
        made(conditional, Guidance((1,), classifier=dataclasses.replace(classifier, config=wider)))
