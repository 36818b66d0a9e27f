"""Plans whose noise the network says: at both ends they are the plans with a fixed variance, between them the formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.errors import RangeError, ScheduleError, ShapeError
from ddpm_ref.nn import UNet, UNetConfig
from ddpm_ref.reference import oracle
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.named_schedules import cosine_schedule
from ddpm_ref.reference.plan import Plan
from ddpm_ref.reference.posterior import posterior_log_variance
from ddpm_ref.reference.reverse import learned_variance
from ddpm_ref.sampling import (
    ClassifierFree,
    ClassifierGuided,
    Denoiser,
    GeneratorNoise,
    MeanShift,
    sample,
    states,
    step,
)
from ddpm_ref.torch import tables

SCHEDULE = cosine_schedule(T=50)
WALKS = {"all levels": SCHEDULE.trajectory(50), "strided": SCHEDULE.trajectory(7), "two steps": SCHEDULE.trajectory(2)}
CLIP = (-0.5, 0.5)
CPU = torch.device("cpu")
DTYPES = {torch.float64: Claim("fp64"), torch.float32: Claim("fp32")}


def says(extra, kind="learned_range", prediction="eps"):
    """A network that predicts something and says of the variance what ``extra(x)`` is."""
    return Denoiser(lambda x, time: torch.cat([(3 * x).sin(), extra(x)], dim=1), prediction, variance=kind)


def constant(value):
    return lambda x: torch.full_like(x, value)


@pytest.mark.parametrize("walk", WALKS)
@pytest.mark.parametrize("last_noise", ["none", "variance"])
def test_the_ends_of_a_learned_range_are_the_columns_of_the_fixed_variances(walk, last_noise):
    trajectory = WALKS[walk]
    learned = plans.ancestral(SCHEDULE, trajectory, "learned_range", last_noise)
    least = plans.ancestral(SCHEDULE, trajectory, "posterior", "none" if last_noise == "none" else "replace")
    largest = plans.ancestral(SCHEDULE, trajectory, "beta", last_noise)
    for column in ("x", "prediction"):
        assert np.array_equal(getattr(learned, column), getattr(least, column))
    assert np.array_equal(learned.noise, least.noise)
    assert np.array_equal(learned.largest_noise, largest.noise)
    assert (learned.learned, learned.affine, learned.staged) == ("learned_range", False, False)
    ones = plans.ancestral(SCHEDULE, trajectory, "learned", last_noise)
    assert ones.noise.tolist() == [1.0] * (trajectory.steps - 1) + [float(last_noise == "variance")]
    assert (ones.learned, ones.largest_noise) == ("learned", None)


@pytest.mark.parametrize("options", [{}, {"clip": CLIP}, {"form": "x0", "last_noise": "variance"}], ids=str)
@pytest.mark.parametrize("walk", WALKS)
def test_at_v_0_the_samples_are_those_of_the_posterior_variance_bit_for_bit(walk, options):
    plan = plans.ancestral(SCHEDULE, WALKS[walk], "learned_range", **options)
    fixed = {**options, "last_noise": "replace"} if "last_noise" in options else options
    wanted = sample(
        Denoiser(lambda x, time: (3 * x).sin()), (5, 3), plans.ancestral(SCHEDULE, WALKS[walk], "posterior", **fixed)
    )
    assert torch.equal(sample(says(constant(-1.0)), (5, 3), plan), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "value"), [("learned_range", 1.0), ("learned_range", 0.2), ("learned", -3.0)])
@pytest.mark.parametrize("walk", WALKS)
def test_every_step_has_the_deviation_of_the_formula(walk, kind, value, dtype):
    trajectory, claim = WALKS[walk], DTYPES[dtype]
    plan = plans.ancestral(SCHEDULE, trajectory, kind)
    denoiser, worst = says(lambda x: value * (1 + x.cos() / 100), kind), 0.0
    generator = torch.Generator().manual_seed(1)
    for k, (t, s) in enumerate(trajectory.pairs()):
        x, z = (torch.randn(64, 3, generator=generator, dtype=dtype) for _ in range(2))
        moved = step(denoiser, x, plan, k, z).double().numpy()
        extra = (value * (1 + x.cos() / 100)).double().numpy()
        if s == 0:
            exponent, std = np.zeros_like(extra), np.zeros_like(extra)
        elif kind == "learned":
            exponent, std = extra / 2, np.exp(extra / 2)
        else:
            exponent = (extra + 1) / 2 * np.log(plan.largest_noise[k] / plan.noise[k])
            std = np.sqrt(learned_variance(SCHEDULE, t, s, np.clip((extra + 1) / 2, 0, 1)))
            if value == 1.0:  # a little above v = 1: beta, and a little more
                std = plan.noise[k] * np.exp(exponent)
        terms = [(plan.x[k], x), (plan.prediction[k], (3 * x).sin())]
        total = DoubleDouble.of(std * z.double().numpy())
        scale = np.abs(std * z.double().numpy()) * (3 + 4 * np.abs(exponent))
        for coefficient, value_of in terms:
            product = DoubleDouble.of(value_of.double().numpy()) * float(coefficient)
            total, scale = total + product, scale + abs(product).high
        # rule: section 1, k = 4 for three terms; the exponential adds 3 roundings and 4 |exponent|, charged to its term.
        ratio = Expected(total, scale, roundings=4).error_over_bound(moved, claim)
        worst = max(worst, float(ratio.max()))
    assert worst <= 1
    assert worst > 0.02


@pytest.mark.parametrize("walk", WALKS)
def test_at_v_1_the_samples_are_those_of_beta_within_rounding(walk):
    plan = plans.ancestral(SCHEDULE, WALKS[walk], "learned_range", clip=CLIP)
    fixed = plans.ancestral(SCHEDULE, WALKS[walk], "beta", clip=CLIP)
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bare = Denoiser(lambda x, time: (3 * x).sin())
    for k in range(len(plan)):
        z = torch.randn(64, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        one, other = step(says(constant(1.0)), x, plan, k, z), step(bare, x, fixed, k, z)
        # rule: section 1. The exponential and its argument, whose size is the logarithm of the range, and the product.
        size = 4 + 2 * np.log(max(plan.largest_noise[k], 1e-300) / max(plan.noise[k], 1e-300))
        bound = 2.0**-53 * (size * fixed.noise[k] * z.abs() + 4 * other.abs() + 4 * (x.abs() + 1))
        assert ((one - other).abs() <= bound).all()


def test_the_variance_is_each_element_s_own():
    plan = plans.ancestral(SCHEDULE, WALKS["strided"], "learned_range")
    shares = torch.tensor([-1.0, 0.0, 1.0])
    denoiser = says(lambda x: shares.to(x).expand_as(x))
    count = 20_000
    x, z = torch.zeros(count, 3, dtype=torch.float64), torch.randn(count, 3, dtype=torch.float64)
    spread = (step(denoiser, x, plan, 2, z) / z).mean(dim=0)
    least, largest = plan.noise[2], plan.largest_noise[2]
    wanted = torch.tensor([least, (least * largest) ** 0.5, largest])
    assert torch.allclose(spread, wanted, rtol=1e-12, atol=0)  # rule: sums, 20 000 equal quotients


def test_the_last_step_has_no_noise_unless_asked_and_then_that_of_the_rule():
    walk = WALKS["strided"]
    drawn = []

    class Source:
        def normal(self, step, shape, dtype, device):
            drawn.append(step)
            return GeneratorNoise(1).normal(step, shape, dtype, device)

    sample(says(constant(0.0)), (2, 3), plans.ancestral(SCHEDULE, walk, "learned_range"), Source())
    assert drawn == list(range(walk.steps))
    drawn.clear()
    plan = plans.ancestral(SCHEDULE, walk, "learned_range", "variance")
    sample(says(constant(0.0)), (2, 3), plan, Source())
    assert drawn == list(range(walk.steps + 1))
    # rule: section 1. An exponential of a logarithm that is rounded, of size up to 20.
    assert 2 * np.log(plan.noise[-1]) == pytest.approx(
        posterior_log_variance(SCHEDULE, 1, 0, "replace", walk), rel=1e-14
    )


def test_a_chain_of_one_step_has_no_noise_and_nothing_to_replace_by():
    one = (50, 0)
    for kind in ("learned", "learned_range"):
        assert not plans.ancestral(SCHEDULE, one, kind).noise.any()
        assert torch.isfinite(sample(says(constant(0.0), kind), (2, 3), plans.ancestral(SCHEDULE, one, kind))).all()
    with pytest.raises(ScheduleError, match="has one step"):
        plans.ancestral(SCHEDULE, one, "learned_range", "variance")
    assert plans.ancestral(SCHEDULE, one, "learned", "variance").noise.tolist() == [1.0]


def test_a_fixed_variance_leaves_aside_what_the_network_says():
    bare = Denoiser(lambda x, time: (3 * x).sin())
    for plan in (plans.ddim(SCHEDULE, WALKS["strided"], 0.5), plans.ancestral(SCHEDULE, WALKS["strided"], "beta")):
        assert torch.equal(sample(says(constant(float("nan"))), (2, 3), plan), sample(bare, (2, 3), plan))


def test_half_precision_is_computed_in_float32_and_rounded_once():
    plan = plans.ancestral(SCHEDULE, WALKS["strided"], "learned_range")
    denoiser = says(lambda x: x.tanh())
    x, z = (torch.randn(64, 3, generator=torch.Generator().manual_seed(k)).bfloat16() for k in (0, 1))
    narrow = step(denoiser, x, plan, 3, z)

    def answers(wide, time):
        half = wide.bfloat16()
        return torch.cat([(3 * half).sin(), half.tanh()], dim=1).float()

    wide = step(Denoiser(answers, variance="learned_range"), x.float(), plan, 3, z.float())
    assert torch.equal(narrow, wide.bfloat16())


def test_gradients_reach_what_the_network_says():
    extra = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    denoiser = Denoiser(lambda x, time: torch.cat([0 * x, extra], dim=1), variance="learned")
    z = torch.ones(2, 3, dtype=torch.float64)
    plan = plans.ancestral(SCHEDULE, WALKS["strided"], "learned")
    step(denoiser, torch.zeros(2, 3, dtype=torch.float64), plan, 1, z).sum().backward()
    assert torch.equal(extra.grad, torch.full_like(extra, 0.5))  # d exp(e / 2) / de at e = 0


def test_an_empty_batch_is_a_batch():
    for kind in ("learned", "learned_range"):
        plan = plans.ancestral(SCHEDULE, WALKS["strided"], kind)
        assert sample(says(constant(0.0), kind), (0, 3), plan).shape == (0, 3)


@pytest.mark.parametrize(
    ("denoiser", "kind", "message"),
    [
        (
            Denoiser(lambda x, t: x),
            "learned_range",
            r"says nothing of one; write Denoiser\(..., variance='learned_range'\)",
        ),
        (Denoiser(lambda x, t: x, variance="learned"), "learned_range", "make the plan with variance='learned'"),
        (Denoiser(lambda x, t: x, variance="learned_range"), "learned", "make the plan with variance='learned_range'"),
    ],
)
def test_a_plan_and_a_denoiser_of_different_variances_are_refused(denoiser, kind, message):
    plan = plans.ancestral(SCHEDULE, WALKS["strided"], kind)
    for use in (
        lambda: sample(denoiser, (2, 3), plan),
        lambda: states(denoiser, (2, 3), plan),
        lambda: step(denoiser, torch.zeros(2, 3), plan, 0, torch.zeros(2, 3)),
    ):
        with pytest.raises(RangeError, match=message):
            use()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), r"what the network says of the variance at step 1 of 7 \(t = 50 to s = 42\) holds nan"),
        (float("inf"), "what the network says of the variance at step 1 of 7 .* holds inf"),
        (1e5, "the learned deviation overflows at step 1 of 7 .* says up to 100000; was it trained"),
    ],
)
def test_what_is_no_variance_is_refused_by_the_name_of_its_step(value, message):
    with pytest.raises(RangeError, match=message):
        sample(says(constant(value), "learned"), (2, 3), plans.ancestral(SCHEDULE, WALKS["strided"], "learned"))


COLUMNS = (np.ones(2), np.ones(2))
TWO = SCHEDULE.trajectory(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: plans.ancestral(SCHEDULE, TWO, "learned", 0.5),
            "last_noise = 0.5 is a fixed deviation beside a learned",
        ),
        (lambda: plans.ancestral(SCHEDULE, TWO, "learned_range", "replace"), "write 'none' or 'variance'"),
        (lambda: Plan(SCHEDULE, TWO, "eps", *COLUMNS, np.ones(2), learned="known"), "learned = 'known' is not known"),
        (lambda: Plan(SCHEDULE, TWO, "eps", *COLUMNS, np.ones(2), learned="learned_range"), "largest_noise is missing"),
        (
            lambda: Plan(SCHEDULE, TWO, "eps", *COLUMNS, np.ones(2), largest_noise=np.ones(2)),
            "learned = None and largest_noise is given",
        ),
        (
            lambda: Plan(SCHEDULE, TWO, "eps", *COLUMNS, np.full(2, 0.5), learned="learned"),
            "write 1, or 0 in a step without noise",
        ),
        (
            lambda: Plan(
                SCHEDULE, TWO, "eps", *COLUMNS, np.zeros(2), learned="learned_range", largest_noise=np.ones(2)
            ),
            "deviations > 0, or both 0",
        ),
        (
            lambda: oracle.sample_moments(plans.ancestral(SCHEDULE, TWO, "learned"), oracle.Gaussian(0.0, 1.0)),
            r"has a learned variance \('learned'\), of which no oracle knows",
        ),
    ],
)
def test_plans_that_cannot_be_made_or_judged(make, message):
    with pytest.raises(RangeError, match=message):
        make()


def test_the_second_column_of_noise_is_read_only():
    with pytest.raises(ValueError, match="read-only"):
        plans.ancestral(SCHEDULE, TWO, "learned_range").largest_noise[0] = 1


# --- denoisers ------------------------------------------------------------------------------------------------------


def test_a_denoiser_gives_its_halves_and_alone_its_prediction():
    denoiser = says(lambda x: x.cos())
    x = torch.linspace(-1, 1, 6).reshape(2, 3)
    predicted, extra = denoiser.with_variance(x, 7)
    assert torch.equal(predicted, (3 * x).sin())
    assert torch.equal(extra, x.cos())
    assert torch.equal(denoiser(x, 7), predicted)
    assert [half.shape for half in denoiser.with_variance(x[:0], 7)] == [(0, 3), (0, 3)]


def test_a_denoiser_without_a_variance_says_so():
    with pytest.raises(RangeError, match="says nothing of a variance; write Denoiser"):
        Denoiser(lambda x, time: x).with_variance(torch.zeros(2, 3), 1)
    with pytest.raises(RangeError, match="'learned', 'learned_range'"):
        Denoiser(lambda x, time: x, variance="posterior")


@pytest.mark.parametrize(
    ("variance", "outputs", "shape", "message"),
    [
        (
            "learned_range",
            1,
            (2, 1, 8, 8),
            r"twice the channels, \(2, 2, 8, 8\): write UNetConfig\(outputs_per_channel=2\)",
        ),
        (None, 2, (2, 1, 8, 8), r"if the second half .* write Denoiser\(..., variance='learned_range'\)"),
    ],
)
def test_a_network_with_other_channels_than_the_denoiser_says_is_named(variance, outputs, shape, message):
    network = UNet(UNetConfig(width=8, groups=4, outputs_per_channel=outputs))
    with pytest.raises(ShapeError, match=message):
        Denoiser(network, variance=variance)(torch.zeros(shape), 1)
    plan = plans.ancestral(SCHEDULE, TWO, variance or "posterior")
    with pytest.raises(ShapeError, match=r"at step 1 of 2 .*" + message):
        sample(Denoiser(network, variance=variance), shape, plan)


def test_data_without_channels_cannot_have_twice_as_many():
    with pytest.raises(ShapeError, match="x needs channels, of which the answer has twice as many"):
        Denoiser(lambda x, time: torch.cat([x, x]), variance="learned")(torch.zeros(2), 1)
    with pytest.raises(ShapeError, match=r"returned shape \(2, 9\) .* twice the channels, \(2, 6\)"):
        Denoiser(lambda x, time: torch.cat([x, x, x], 1), variance="learned")(torch.zeros(2, 3), 1)


# --- guidance -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"guidance_weight": 2.0}, {"guidance_weight": 0.0}, {"guidance_scale": 1.5, "rescale_factor": 0.5}],
    ids=str,
)
def test_classifier_free_guidance_guides_the_prediction_and_keeps_the_conditional_variance(options):
    def network(x, time, label):
        return torch.cat([x * (1 + label[:, None] / 2), 0 * x + label[:, None]], dim=1)

    x, label = torch.linspace(-1, 1, 6).reshape(2, 3), torch.tensor([1, 0])
    both = ClassifierFree(network, label, null_label=2, **options)(x, torch.zeros(2))
    alone = ClassifierFree(lambda x, time, label: x * (1 + label[:, None] / 2), label, null_label=2, **options)(
        x, torch.zeros(2)
    )
    assert torch.equal(both[:, :3], alone)
    assert both[:, 3:].tolist() == [[1.0] * 3, [0.0] * 3]


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_classifier_guidance_leaves_the_variance_as_it_was(scale):
    classifier = lambda x, time: torch.cat([x.sum(1, keepdim=True), -x.sum(1, keepdim=True)], dim=1)  # noqa: E731
    of = tables(SCHEDULE)
    guided = ClassifierGuided(says(lambda x: x.cos()), classifier, 0, scale, of).denoiser
    plain = ClassifierGuided(Denoiser(lambda x, time: (3 * x).sin()), classifier, 0, scale, of).denoiser
    x = torch.linspace(-1, 1, 6).reshape(2, 3)
    predicted, extra = guided.with_variance(x, 7)
    assert torch.equal(predicted, plain(x, 7))
    assert torch.equal(extra, x.cos())


def test_a_shift_of_the_mean_is_scaled_by_the_learned_variance():
    classifier = lambda x, time: torch.cat([x.sum(1, keepdim=True), 0 * x.sum(1, keepdim=True)], dim=1)  # noqa: E731
    fixed = plans.ancestral(SCHEDULE, WALKS["strided"], "posterior")
    learned = plans.ancestral(SCHEDULE, WALKS["strided"], "learned_range")
    bare, shift = Denoiser(lambda x, time: (3 * x).sin()), MeanShift(classifier, 0, 2.0)
    wanted = sample(bare, (2, 3), fixed, shift=shift)
    assert torch.allclose(
        sample(says(constant(-1.0)), (2, 3), learned, shift=shift), wanted, rtol=1e-4, atol=1e-6
    )  # rule: networks; a squared float32 deviation instead of a squared float64 one
    assert not torch.allclose(sample(says(constant(1.0)), (2, 3), learned, shift=shift), wanted, rtol=1e-2)
    # The largest range: a shift by the variance of the step, per element, and not by that of the row.
    seen = []

    def spy(plan, k, x, mean, variance):
        seen.append(variance)
        return torch.zeros_like(mean)

    moved = sample(
        says(constant(1.0)), (2, 3), learned, shift=lambda *given: spy(*given) if len(given) == 5 else 0 * given[3]
    )
    assert torch.isfinite(moved).all()
    assert len(seen) == len(learned) - 1
    largest = torch.tensor(learned.largest_noise[:-1]).square()
    assert torch.allclose(
        torch.stack([v.double().mean() for v in seen]), largest, rtol=1e-5
    )  # rule: section 1, float32
