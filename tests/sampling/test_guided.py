"""Guided sampling against oracles whose guided samples are known exactly, in every form, kind and plan."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import ddpm_ref
from ddpm_ref.errors import PrecisionError, RangeError, ShapeError
from ddpm_ref.reference import oracle as exact
from ddpm_ref.reference import plan
from ddpm_ref.reference.named_schedules import zero_terminal_snr
from ddpm_ref.reference.plan import Threshold
from ddpm_ref.sampling import (
    ClassifierFree,
    ClassifierGuided,
    Denoiser,
    GeneratorNoise,
    MeanShift,
    sample,
    snapshots,
    states,
    step,
)
from ddpm_ref.torch import labelled_oracle, oracle

H = ddpm_ref.linear_schedule(1000)
T = ddpm_ref.torch.tables(H)
KINDS = ["eps", "x0", "v", "score"]
FULL_KINDS = [pytest.param(kind, marks=pytest.mark.full) for kind in KINDS[1:]]
# A measurement of standard normal data, as two classes of which the first is so rare that only the other is seen without label:
# the gradient of its log-probability is then the difference of two affine scores to the last bit.
RARE = 1e-300
PAIR = exact.GuidedGaussian.observed(exact.Gaussian(0.0, 1.0), 1.0, 0.25)
MEASURED = labelled_oracle.Labelled([RARE, 1.0], [oracle.Gaussian(0.8, 0.2), oracle.Gaussian(0.0, 1.0)])
MODES = labelled_oracle.Labelled([0.5, 0.5], [oracle.Gaussian(-1.0, 0.09), oracle.Gaussian(1.0, 0.25)])
FAR = labelled_oracle.Labelled([0.5, 0.5], [oracle.Gaussian(-1.0, 0.01), oracle.Gaussian(1.0, 0.01)])
STEPS = 4
PLANS = {
    "ancestral": plan.ancestral(H, H.trajectory(STEPS), "beta"),
    "ancestral x0": plan.ancestral(H, H.trajectory(STEPS), form="x0"),
    "ddim": plan.ddim(H, H.trajectory(STEPS)),
    "eta": plan.ddim(H, H.trajectory(STEPS), 0.5),
}


class Silent:
    """No noise at all: a chain of means."""

    def normal(self, step, shape, dtype, device):
        return torch.zeros(shape, dtype=dtype, device=device)


def free(data, label, prediction="eps", **weight):
    network = ClassifierFree(data.network(T, prediction), label, null_label=data.classes, **weight)
    return Denoiser(network, prediction)


def unguided(data, prediction="eps"):
    return Denoiser(lambda x, time: data.network(T, prediction)(x, time), prediction)


def final(denoiser, made, noise=None, **more):
    return sample(denoiser, (5, 1), made, noise or GeneratorNoise(4), dtype=torch.float64, **more)


# --- exact answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("prediction", ["eps", *FULL_KINDS])
def test_guided_means_are_those_of_the_oracle(name, prediction):
    made, start = PLANS[name], torch.zeros(5, 1, dtype=torch.float64)
    for scale in (1.0, 3.0):
        want = exact.guided_moments(made, PAIR, guidance_scale=scale).mean[-1, 0]
        known = free(MEASURED, 0, prediction, guidance_scale=scale)
        moved = ClassifierGuided(unguided(MEASURED, prediction), MEASURED.classifier(T), 0, scale, T).denoiser
        assert moved.prediction == prediction
        for denoiser in (known, moved):
            got = final(denoiser, made, Silent(), start=start)
            # the first step in eps form divides by sqrt(alpha_bar) = 1/157, in score form besides: rule of chains
            assert float((got - want).abs().max()) <= STEPS * 64 * 157 * 2.0**-53


@pytest.mark.parametrize("point", ["mean", "xt"])
@pytest.mark.parametrize("variance", [None, "beta", "posterior"])
@pytest.mark.parametrize("name", ["ancestral", "ancestral x0", pytest.param("eta", marks=pytest.mark.full)])
def test_mean_shifted_means_are_those_of_the_oracle(point, variance, name):
    made = PLANS[name]
    shift = MeanShift(MEASURED.classifier(T), 0, 2.0, gradient_point=point, variance=variance, lowest_level=0)
    got = final(unguided(MEASURED), made, Silent(), start=torch.zeros(5, 1, dtype=torch.float64), shift=shift)
    want = exact.mean_shift_moments(made, PAIR, 2.0, gradient_point=point, variance=variance).mean[-1, 0]
    assert float((got - want).abs().max()) <= STEPS * 64 * 157 * 2.0**-53  # rule of chains, as above
    other = exact.mean_shift_moments(
        made, PAIR, 2.0, gradient_point="xt" if point == "mean" else "mean", variance=variance
    )
    assert float((got - other.mean[-1, 0]).abs().min()) > 1e-3  # the comparison bites


def test_a_guided_deterministic_chain_has_the_gain_of_the_oracle():
    made, noise = plan.ddim(H, H.trajectory(20)), GeneratorNoise(7)
    moments = exact.guided_moments(made, PAIR, guidance_weight=0.5)
    first = noise.normal(0, (5, 1), torch.float64, torch.device("cpu"))
    got = final(free(MEASURED, 0, guidance_weight=0.5), made, noise)
    assert float((got - moments.mean[-1, 0] - moments.std[-1, 0] * first).abs().max()) <= 20 * 64 * 157 * 2.0**-53


@pytest.mark.parametrize(
    "made",
    [
        plan.ancestral(H, H.trajectory(4), clip=(-1.0, 1.0)),
        pytest.param(plan.ddim(H, H.trajectory(4), clip=(-1.0, 1.0), rederive_eps=False), marks=pytest.mark.full),
        pytest.param(plan.ddim(H, H.trajectory(4), 1.0, threshold=Threshold(99.0)), marks=pytest.mark.full),
        pytest.param(plan.ancestral(H, H.trajectory(4)), marks=pytest.mark.full),
    ],
)
def test_both_methods_and_all_kinds_agree_on_modes_with_stages_too(made):
    chains = [
        final(denoiser, made)
        for kind in KINDS
        for denoiser in (
            free(MODES, 1, kind, guidance_weight=1.5),
            free(MODES, 1, kind, guidance_scale=2.5),
            ClassifierGuided(unguided(MODES, kind), MODES.classifier(T), 1, 2.5, T).denoiser,
        )
    ]
    spread = torch.stack(chains).std(0, correction=0)
    # rule of chains; modes bend, a slope of at most |dE[x0|x_t]/dx_t| sqrt(alpha_bar) / beta_bar per step
    assert float(spread.max()) <= 1e-9
    assert float((chains[0] - final(unguided(MODES), made)).abs().max()) > 1e-2


def test_weights_zero_and_minus_one_ask_once_and_change_nothing():
    asked = []

    def network(x, time, label):
        asked.append(label.tolist())
        return MODES.network(T)(x, time, label)

    x, time = torch.rand(2, 1, dtype=torch.float64), torch.full((2,), 299)
    plain = ClassifierFree(network, 1, null_label=2, guidance_weight=0.0)(x, time)
    nobody = ClassifierFree(network, 1, null_label=2, guidance_scale=0.0)(x, time)
    ClassifierFree(network, torch.tensor([1, 0]), null_label=2, guidance_scale=3.0)(x, time)
    assert asked == [[1, 1], [2, 2], [1, 0, 2, 2]]
    assert torch.equal(plain, MODES.eps(T, x, 300, 1))
    assert torch.equal(nobody, MODES.eps(T, x, 300, 2))
    still = ClassifierGuided(unguided(MODES), lambda x, time: pytest.fail("it is not to be asked"), 1, 0.0, T)
    assert torch.equal(still(x, time), nobody)


@pytest.mark.parametrize("weight", [-1.0, 0.0, 2.0])
def test_rescaling_is_the_same_for_a_number_and_a_tensor(weight):
    torch.manual_seed(0)
    x, time = torch.randn(3, 2, 4), torch.ones(3)
    network = lambda x, time, label: x * (1 + label[:, None, None]).sin()  # noqa: E731
    made = [
        ClassifierFree(network, 1, null_label=3, guidance_weight=w, rescale_factor=0.7)(x, time)
        for w in (weight, torch.full((3,), weight))
    ]
    assert torch.equal(*made)
    plain = ClassifierFree(network, 1, null_label=3, guidance_weight=weight)(x, time)
    assert torch.equal(made[0], plain) == (weight == 0)


@pytest.mark.parametrize("weight", [-1.0, 0.0, 2.0])
def test_a_network_that_answers_with_a_tuple_is_named(weight):
    guided = ClassifierFree(lambda x, time, label: (x,), 1, null_label=3, guidance_weight=weight)
    with pytest.raises(PrecisionError, match="returned a tuple"):
        guided(torch.zeros(2, 3), torch.ones(2))


def test_one_batch_is_two_calls_to_the_last_bit():
    def network(x, time, label):
        return (torch.sin(x) * (1 + label[:, None, None] / 5) + time[:, None, None] / 1000).to(x.dtype)

    x, time, label = torch.randn(6, 2, 3), torch.arange(6) * 100, torch.tensor([0, 1, 2, 2, 1, 0])
    guided = ClassifierFree(network, label, null_label=3, guidance_weight=2.0)
    apart = ddpm_ref.torch.guidance.classifier_free(
        network(x, time, label), network(x, time, torch.full_like(label, 3)), guidance_weight=2.0
    )
    assert torch.equal(guided(x, time), apart)
    each = ClassifierFree(network, label, null_label=3, guidance_weight=torch.tensor([2.0, 0.0, 1.0, -1.0, 5.0, 2.0]))
    assert torch.equal(each(x, time)[0], apart[0])
    assert torch.equal(each(x, time)[1], network(x, time, label)[1])
    nobody = ClassifierFree(network, 1, null_label=3, guidance_weight=2.0)(x[:0], time[:0])
    assert nobody.shape == (0, 2, 3)
    seven = ClassifierFree(network, 1, null_label=3, guidance_weight=7.3)  # no bfloat16 number
    assert torch.equal(
        seven(x.bfloat16(), time),
        ClassifierFree(network, 1, null_label=3, guidance_weight=torch.full((6,), 7.3))(x.bfloat16(), time),
    )
    rescaled = ClassifierFree(network, label, null_label=3, guidance_weight=2.0, rescale_factor=1.0)(x, time)
    wanted = network(x, time, label).flatten(1).std(1)
    assert float((rescaled.flatten(1).std(1) / wanted - 1).abs().max()) <= 64 * 2.0**-24


# --- states, steps, batches, formats, modes ---------------------------------------------------------------------------


def test_states_steps_and_snapshots_walk_the_same_chain():
    made, noise = PLANS["ancestral"], GeneratorNoise(2)
    shift = MeanShift(MODES.classifier(T), 1, 1.5)
    for denoiser, moved in ((free(MODES, 1, guidance_weight=1.0), None), (unguided(MODES), shift)):
        walked = list(states(denoiser, (3, 1), made, noise, shift=moved))
        assert torch.equal(walked[-1][1], sample(denoiser, (3, 1), made, noise, shift=moved))
        kept = snapshots(denoiser, (3, 1), made, noise, levels=(0,), shift=moved)
        assert torch.equal(kept[0], walked[-1][1])
        z = noise.normal(4, (3, 1), torch.float32, torch.device("cpu"))
        assert torch.equal(step(denoiser, walked[3][1], made, 3, z, shift=moved), walked[4][1])


def test_a_shift_of_nothing_is_no_shift():
    class Nothing:
        def __call__(self, plan, k, x, mean):
            return torch.zeros_like(mean)

    for made in (*PLANS.values(), plan.ddim(H, H.trajectory(5), clip=(-1.0, 1.0))):
        plain, moved = (final(unguided(MODES), made, shift=shift) for shift in (None, Nothing()))
        assert torch.equal(plain, moved)
    deterministic = final(unguided(MODES), PLANS["ddim"], shift=MeanShift(MODES.classifier(T), 1, 9.0))
    assert torch.equal(deterministic, final(unguided(MODES), PLANS["ddim"]))  # void at zero variance


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_batches_and_formats(batch, dtype):
    made = plan.ancestral(H, H.trajectory(4), clip=(-1.0, 1.0))
    guided = ClassifierGuided(unguided(MODES), MODES.classifier(T), 1, 2.0, T).denoiser
    for denoiser, shift in (
        (free(MODES, 1, guidance_weight=2.0), None),
        (guided, None),
        (unguided(MODES), MeanShift(MODES.classifier(T), 1, 2.0)),
    ):
        got = sample(denoiser, (batch, 1, 1), made, dtype=dtype, shift=shift)
        assert got.shape == (batch, 1, 1)
        assert got.dtype == dtype


def test_labels_of_a_batch_lead_to_their_classes():
    label = torch.tensor([0, 1] * 20)
    guided = free(FAR, label, guidance_weight=1.0)
    got = sample(guided, (40, 1), PLANS["ancestral x0"], GeneratorNoise(1))
    assert bool(((got[:, 0] > 0) == (label == 1)).all())
    per_sample = ClassifierGuided(unguided(FAR), FAR.classifier(T), label, torch.full((40,), 2.0), T).denoiser
    assert bool(((sample(per_sample, (40, 1), PLANS["ddim"])[:, 0] > 0) == (label == 1)).all())
    of_each, of_one = (MeanShift(FAR.classifier(T), *given) for given in ((label, torch.full((40,), 2.0)), (1, 2.0)))
    each, one = (sample(unguided(FAR), (40, 1), PLANS["ancestral"], shift=shift) for shift in (of_each, of_one))
    assert torch.equal(each[1::2], one[1::2])
    assert not torch.equal(each[::2], one[::2])


def test_a_classifier_guides_in_evaluation_mode_and_stays_as_it_was():
    class Dropping(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.inner = torch.nn.Dropout(0.5), MODES.classifier(T)

        def forward(self, x, time):
            return self.inner(self.drop(x), time)

    classifier = Dropping().train()
    denoiser = ClassifierGuided(unguided(MODES), classifier, 1, 2.0, T).train().denoiser
    assert torch.equal(final(denoiser, PLANS["ddim"]), final(denoiser, PLANS["ddim"]))
    shift = MeanShift(classifier, 1, 2.0)
    assert torch.equal(*(final(unguided(MODES), PLANS["eta"], shift=shift) for _ in range(2)))
    assert classifier.training
    assert classifier.drop.training


def test_the_clock_of_the_classifier():
    asked = []

    def classifier(x, time):
        asked.append(int(time[0]))
        return torch.cat([x, -x], dim=1)

    made = plan.ancestral(H, H.trajectory(3), "beta")
    assert made.trajectory.levels == (1000, 501, 1, 0)
    for options, times in (
        ({"gradient_point": "xt"}, [999, 500]),
        ({}, [500, 0]),
        ({"time_code": "one_based"}, [501, 1]),
        ({"variance": "beta"}, [500, 0, 0]),
        ({"variance": "beta", "time_code": "one_based", "lowest_level": 0}, [501, 1, 0]),
        ({"variance": "posterior"}, [500, 0]),
    ):
        asked.clear()
        sample(Denoiser(lambda x, time: 0 * x), (2, 1), made, shift=MeanShift(classifier, 0, **options))
        assert asked == times, options
    asked.clear()
    guided = ClassifierGuided(Denoiser(lambda x, time: 0 * x, time_code="one_based"), classifier, 0, 1.0, T).denoiser
    sample(guided, (2, 1), made)
    assert asked == [1000, 501, 1]


def test_zero_terminal_snr():
    dead = zero_terminal_snr(H)
    tables = ddpm_ref.torch.tables(dead)
    made = plan.ddim(dead, dead.trajectory(10), form="x0")
    network = ClassifierFree(MODES.network(tables, "v"), 1, null_label=2, guidance_weight=1.0)
    assert bool(sample(Denoiser(network, "v"), (3, 1), made).isfinite().all())
    moved = ClassifierGuided(Denoiser(lambda x, time: 0 * x, "v"), MODES.classifier(tables), 1, 1.0, tables).denoiser
    with pytest.raises(RangeError, match="does not move v at zero terminal SNR"):
        sample(moved, (3, 1), made)


# --- what is refused --------------------------------------------------------------------------------------------------

NETWORK, EIGHT = MODES.network(T), torch.tensor([0] * 8)


def run(denoiser, **more):
    return sample(denoiser, (2, 1), PLANS["ancestral"], **more)


def moved(classifier, label=1, scale=1.0, **more):
    return lambda: run(ClassifierGuided(unguided(MODES), classifier, label, scale, T, **more).denoiser)


BAD = {
    "neither": (lambda: ClassifierFree(NETWORK, 1, null_label=2), RangeError, "write exactly one"),
    "both": (
        lambda: ClassifierFree(NETWORK, 1, null_label=2, guidance_weight=1.0, guidance_scale=2.0),
        RangeError,
        "write exactly one",
    ),
    "null as label": (
        lambda: ClassifierFree(NETWORK, 2, null_label=2, guidance_weight=1.0),
        RangeError,
        "label holds 2, and the classes are 0..1",
    ),
    "negative": (lambda: ClassifierFree(NETWORK, -1, null_label=2, guidance_weight=1.0), RangeError, "label holds -1"),
    "fraction": (lambda: ClassifierFree(NETWORK, 0.5, null_label=2, guidance_weight=1.0), RangeError, "label = 0.5"),
    "classes": (lambda: ClassifierFree(NETWORK, 0, null_label=0, guidance_weight=1.0), RangeError, "null_label = 0"),
    "factor": (
        lambda: ClassifierFree(NETWORK, 0, null_label=2, guidance_weight=1.0, rescale_factor=2),
        RangeError,
        "rescale_factor = 2",
    ),
    "labels": (lambda: run(free(MODES, EIGHT, guidance_weight=1.0)), ShapeError, "label is (8,), the batch 2"),
    "weights": (lambda: run(free(MODES, 1, guidance_weight=torch.ones(3))), ShapeError, "the guidance weight is (3,)"),
    "network shape": (
        lambda: run(Denoiser(ClassifierFree(lambda x, t, y: x[:1], 1, null_label=2, guidance_weight=1.0))),
        ShapeError,
        "twice the batch",
    ),
    "network type": (
        lambda: run(Denoiser(ClassifierFree(lambda x, t, y: (x,), 1, null_label=2, guidance_weight=1.0))),
        PrecisionError,
        "returned a tuple",
    ),
    "no gradient": (moved(lambda x, t: torch.zeros(2, 2)), PrecisionError, "the classifier has no gradient"),
    "output": (moved(lambda x, t: x[:, 0]), ShapeError, "one logit per class"),
    "output size": (moved(MODES.classifier(T), classes=3), ShapeError, "(2, 3) was expected"),
    "class": (moved(MODES.classifier(T), label=2), RangeError, "label holds 2, and the classes are 0..1"),
    "class known": (lambda: MeanShift(MODES.classifier(T), 7, classes=2), RangeError, "the classes are 0..1"),
    "scale": (moved(MODES.classifier(T), scale=float("nan")), RangeError, "classifier_scale = nan"),
    "scales": (moved(MODES.classifier(T), scale=torch.ones(3)), ShapeError, "classifier_scale is (3,)"),
    "shift labels": (
        lambda: run(unguided(MODES), shift=MeanShift(MODES.classifier(T), EIGHT)),
        ShapeError,
        "label is (8,)",
    ),
    "point": (lambda: MeanShift(MODES.classifier(T), 1, gradient_point="x0"), RangeError, "gradient_point = 'x0'"),
    "variance": (lambda: MeanShift(MODES.classifier(T), 1, variance="large"), RangeError, "variance = 'large'"),
    "clock": (lambda: MeanShift(MODES.classifier(T), 1, time_code="half_based"), RangeError, "time_code"),
    "lowest": (lambda: MeanShift(MODES.classifier(T), 1, lowest_level=5), RangeError, "lowest_level = 5"),
    "inversion": (
        lambda: sample(
            unguided(MODES),
            (2, 1),
            plan.ddim_inversion(H, H.trajectory(3)),
            start=torch.zeros(2, 1),
            shift=MeanShift(MODES.classifier(T), 1),
        ),
        RangeError,
        "the plan is an inversion",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_has_a_named_error(name):
    call, error, words = BAD[name]
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)


def test_a_guided_network_is_an_ordinary_network():
    guided = ClassifierFree(torch.nn.Identity(), 1, null_label=2, guidance_weight=1.0)
    assert isinstance(guided, torch.nn.Module)
    assert dataclasses.replace(Denoiser(guided, "v"), network=guided).prediction == "v"
    assert not guided.state_dict()
