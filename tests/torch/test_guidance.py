"""The torch mirror of guidance: agreement with the reference, per-example gradients by autograd, named errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ddpm_ref
from ddpm_ref.errors import LevelError, PrecisionError, RangeError, ShapeError
from ddpm_ref.reference import guidance as exact
from ddpm_ref.reference import oracle as laws
from ddpm_ref.torch import guidance, labelled_oracle, oracle

H = ddpm_ref.linear_schedule(1000)
T = ddpm_ref.torch.tables(H)
RNG = np.random.default_rng(9)
C, U, G, X, Z = RNG.standard_normal((5, 4, 3))
TENSORS = [torch.tensor(a) for a in (C, U, G, X, Z)]
LEVELS, EARLIER = np.array([1, 20, 500, 1000]), np.array([0, 10, 499, 600])
W = np.array([0.0, 1.0, 2.5, -1.0])


def close(got, want, size=8.0, roundings=32):
    """NUMERICS section 1: so many roundings of terms of this size, in float64."""
    return bool(np.all(np.abs(got.numpy() - want) <= roundings * 2.0**-53 * size))


def test_every_function_agrees_with_the_reference():
    c, u, g, x, z = TENSORS
    t, s, w = torch.tensor(LEVELS), torch.tensor(EARLIER), torch.tensor(W)
    pull, line = (lambda x, level: 1 - x), (lambda x, level: 1 - x)
    # the step from T = 1000 divides by sqrt(alpha_bar): terms grow by 1/0.16 between levels 1000 and 600
    pairs = [
        (guidance.classifier_free(c, u, guidance_weight=w), exact.classifier_free(C, U, guidance_weight=W)),
        (guidance.classifier_free(c, u, guidance_scale=3.0), exact.classifier_free(C, U, guidance_scale=3.0)),
        (guidance.rescale(c, u, 0.7), exact.rescale(C, U, 0.7)),
        (guidance.classifier_guided_score(c, g, w), exact.classifier_guided_score(C, G, W)),
        (guidance.classifier_guided_eps(T, u, t, g, w), exact.classifier_guided_eps(H, U, LEVELS, G, W)),
        (guidance.classifier_guided_eps(T, u, 500, g, 2.0), exact.classifier_guided_eps(H, U, 500, G, 2.0)),
        (guidance.classifier_mean_shift(c, u.abs(), g, 2), exact.classifier_mean_shift(C, np.abs(U), G, 2)),
        (
            guidance.guided_ancestral_step(T, x, t, s, u, g, z, w, "beta"),
            exact.guided_ancestral_step(H, X, LEVELS, EARLIER, U, G, Z, W, "beta"),
        ),
        (
            guidance.guided_ddim_step(T, x, t, s, u, g, z, 2.0, eta=0.5),
            exact.guided_ddim_step(H, X, LEVELS, EARLIER, U, G, Z, 2.0, eta=0.5),
        ),
        (guidance.guided_ddim_step(T, x, 20, 10, u, g), exact.guided_ddim_step(H, X, 20, 10, U, G)),
    ]
    pairs += [
        (
            guidance.mean_shift_step(T, x, t, s, u, pull, z, w, variance, point),
            exact.mean_shift_step(H, X, LEVELS, EARLIER, U, line, Z, W, variance, point),
        )
        for variance in ("beta", "posterior")
        for point in guidance.GRADIENT_POINTS
    ]
    assert all(close(got, want, 200.0) for got, want in pairs)
    implicit = guidance.implicit_classifier_gradient(T, c, u, t)
    assert close(implicit, exact.implicit_classifier_gradient(H, C, U, LEVELS), 8 / H.sqrt_beta_bar[1])
    assert guidance.weight_from_scale(guidance.scale_from_weight(2.0)) == 2.0
    mean, variance = guidance.guided_normal(c, 0.2, u, 1.0, guidance_weight=1.0)
    want = exact.guided_normal(C, 0.2, U, 1.0, guidance_weight=1.0)
    assert close(mean, want[0])
    assert close(variance, want[1])


def test_the_agreement_above_bites():
    wrong = guidance.classifier_guided_eps(
        T, TENSORS[1], torch.tensor(LEVELS).clamp(max=999), TENSORS[2], torch.tensor(W)
    )
    assert not close(wrong, exact.classifier_guided_eps(H, U, LEVELS, G, W), 200.0)


def test_labels_are_dropped_as_in_the_reference():
    label, uniform = RNG.integers(0, 10, 100), RNG.random(100)
    got = guidance.drop_condition(torch.tensor(label), torch.tensor(uniform), 0.2, 10)
    assert np.array_equal(got.numpy(), exact.drop_condition(label, uniform, 0.2, 10))


def test_halves_are_computed_in_float32_and_rounded_once():
    c, u, g, x, z = (a.bfloat16() for a in TENSORS)
    for call in (
        lambda c, u, g, x, z: guidance.classifier_free(c, u, guidance_weight=2.0),
        lambda c, u, g, x, z: guidance.rescale(c, u),
        lambda c, u, g, x, z: guidance.classifier_mean_shift(c, 0.3, g, 2.0),
        lambda c, u, g, x, z: guidance.guided_ancestral_step(T, x, 500, 400, u, g, z, 2.0),
        lambda c, u, g, x, z: guidance.guided_ddim_step(T, x, 500, 400, u, g, z, 2.0, 0.5),
        lambda c, u, g, x, z: guidance.mean_shift_step(T, x, 500, 400, u, lambda x, t: g.to(x), z, 2.0),
    ):
        half = call(c, u, g, x, z)
        assert half.dtype == torch.bfloat16
        assert torch.equal(half, call(*(a.float() for a in (c, u, g, x, z))).bfloat16())


# --- the gradient of a classifier -------------------------------------------------------------------------------------


class Curved(torch.nn.Module):
    """Three logits that bend, and an input scale that training could change."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def forward(self, x, time):
        flat = x.flatten(1)
        return torch.stack([torch.sin(flat.sum(1)), self.gain * flat[:, 0] ** 2, time * flat[:, 1]], dim=1)


def test_the_gradient_agrees_with_finite_differences_and_the_closed_form():
    classifier, x = Curved(), TENSORS[3].reshape(4, 1, 3)
    time, label = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 1, 2, 1])
    gradient = guidance.classifier_gradient(classifier, x, time, label)
    assert gradient.shape == x.shape
    logp = lambda x: classifier(x, time).log_softmax(1)[torch.arange(4), label]  # noqa: E731
    step = 1e-5
    for i in range(3):
        e = torch.zeros(4, 1, 3, dtype=torch.float64)
        e[..., i] = step
        slope = (logp(x + e) - logp(x - e)).detach() / (2 * step)
        assert (
            float((slope - gradient[:, 0, i]).abs().max()) <= 1e-8
        )  # central differences, third derivatives of some tens
    jacobian = torch.autograd.functional.jacobian(lambda x: classifier(x, time), x).sum(2)  # others do not matter
    closed = guidance.log_softmax_gradient(classifier(x, time).detach(), jacobian, label)
    assert float((closed - gradient).abs().max()) <= 64 * 2.0**-53 * float(jacobian.abs().max())


def test_each_example_gets_its_own_gradient_and_nobody_elses_is_touched():
    classifier, x = Curved(), TENSORS[3]
    time, label = torch.ones(4), torch.tensor([0, 1, 2, 0])
    together = guidance.classifier_gradient(classifier, x, time, label)
    for k in range(4):
        alone = guidance.classifier_gradient(classifier, x[k : k + 1], time[k : k + 1], label[k : k + 1])
        assert float((alone - together[k : k + 1]).abs().max()) <= 8 * 2.0**-53 * 8
    assert classifier.gain.grad is None
    assert not together.requires_grad
    with torch.no_grad():
        assert torch.equal(guidance.classifier_gradient(classifier, x, time, label), together)
    with torch.inference_mode():
        assert torch.equal(guidance.classifier_gradient(classifier, x.clone(), time.clone(), label.clone()), together)
    assert guidance.classifier_gradient(classifier, x[:0], time[:0], label[:0]).shape == (0, 3)


def test_log_probabilities_and_logits_give_the_same_gradient():
    classifier, time, label = Curved(), torch.ones(4), torch.tensor([0, 1, 2, 0])
    logits = guidance.classifier_gradient(classifier, TENSORS[3], time, label)
    normalised = guidance.classifier_gradient(lambda x, t: classifier(x, t).log_softmax(1), TENSORS[3], time, label)
    assert float((logits - normalised).abs().max()) <= 64 * 2.0**-53 * 8
    probability = guidance.classifier_gradient(lambda x, t: classifier(x, t).softmax(1), TENSORS[3], time, label)
    assert float((logits - probability).abs().max()) > 0.1  # a softmax too many (E74) is another gradient


# --- the mirror of the labelled oracles -------------------------------------------------------------------------------


def spd(d):
    root = RNG.standard_normal((d, d))
    return root @ root.T + 0.3 * np.eye(d)


ARGUMENTS = {
    "normal": ([0.3, 0.7], [("Gaussian", (-1.0, 0.25)), ("Gaussian", (1.0, 0.09))]),
    "plane": ([0.5, 0.2, 0.3], [("Gaussian", (RNG.standard_normal(2), spd(2))) for _ in range(3)]),
    "mixture": (
        [0.5, 0.5],
        [
            ("Mixture", (np.array([0.4, 0.6]), RNG.standard_normal((2, 2)), np.stack([spd(2), spd(2)]))),
            ("Gaussian", (np.zeros(2), spd(2))),
        ],
    ),
    "points": ([0.25, 0.75], [("Finite", (RNG.standard_normal((3, 2)),)), ("Finite", (RNG.standard_normal((2, 2)),))]),
}


def both(name):
    weights, parts = ARGUMENTS[name]
    mine = labelled_oracle.Labelled(weights, [getattr(oracle, kind)(*given) for kind, given in parts])
    return mine, laws.Labelled(weights, [getattr(laws, kind)(*given) for kind, given in parts])


@pytest.mark.parametrize("name", ARGUMENTS)
def test_labelled_oracles_agree_with_the_reference(name):
    mine, law = both(name)
    n = 6
    x, t = RNG.standard_normal((n, law.d)), np.array([50, 200, 400, 600, 800, 1000])
    y = np.arange(n) % (law.classes + 1)
    tensors = torch.tensor(x), torch.tensor(t), torch.tensor(y)
    for method in ("eps", "x0", "score", "gradient"):
        want = getattr(law, method)(H, x, t, y)
        # responsibilities err by the roundings of exponents of some tens, and what they weigh is divided by the noise
        assert np.abs(getattr(mine, method)(T, *tensors).numpy() - want).max() <= 2e4 * 2.0**-53 * (
            np.abs(want).max() + 1
        ), method
    log_p = law.log_probabilities(H, x, t)
    assert np.abs(mine.log_probabilities(T, *tensors[:2]).numpy() - log_p).max() <= 2e4 * 2.0**-53 * (
        np.abs(log_p).max() + 1
    )
    v = ddpm_ref.torch.prediction.convert(T, tensors[0], tensors[1], mine.eps(T, *tensors), "eps", "v")
    assert float((mine.v(T, *tensors) - v).abs().max()) <= 1e6 * 2.0**-53  # eps to v divides by 1/157 at T
    if name != "points":
        assert mine.log_probabilities(T, tensors[0], 0).shape == (n, law.classes)


def test_autograd_of_the_exact_classifier_is_its_closed_gradient():
    mine, law = both("mixture")
    classifier, x = mine.classifier(T), torch.tensor(RNG.standard_normal((6, 2)))
    label = torch.tensor([0, 1, 0, 1, 0, 1])
    automatic = guidance.classifier_gradient(classifier, x, torch.full((6,), 299), label)
    closed = mine.gradient(T, x, 300, label)
    assert float((automatic - closed).abs().max()) <= 1e3 * 2.0**-53 * float(law.score(H, x.numpy(), 300, 0).max() + 4)


def test_as_a_network_it_takes_images_labels_and_clocks():
    mine, law = both("plane")
    x, label = torch.tensor(RNG.standard_normal((4, 1, 1, 2))), torch.tensor([0, 1, 2, 3])
    network = mine.network(T, "x0", "one_based")
    assert network.null_label == 3
    want = law.x0(H, x.reshape(4, 2).numpy(), 250, label.numpy()).reshape(4, 1, 1, 2)
    assert close(network(x, torch.full((4,), 250), label), want, 64.0, 256)
    nobody = network(x, torch.full((4,), 250))
    assert torch.equal(nobody, network(x, torch.full((4,), 250), torch.full((4,), 3)))
    assert not list(network.parameters())
    float32 = mine.eps(T, x.reshape(4, 2).float(), 250, label)
    assert float32.dtype == torch.float32
    assert mine.gradient(T, x.reshape(4, 2).bfloat16(), 250, 1).dtype == torch.bfloat16


X2 = torch.zeros(2, 3)
BAD = {
    "both": (
        lambda: guidance.classifier_free(X2, X2, guidance_weight=1.0, guidance_scale=2.0),
        RangeError,
        "write exactly one",
    ),
    "neither": (lambda: guidance.classifier_free(X2, X2), RangeError, "write exactly one"),
    "infinite": (lambda: guidance.classifier_free(X2, X2, guidance_weight=float("inf")), RangeError, "finite number"),
    "shapes": (lambda: guidance.classifier_free(X2, X2[:, :2], guidance_weight=1.0), ShapeError, "shapes do not fit"),
    "formats": (
        lambda: guidance.classifier_free(X2, X2.double(), guidance_weight=1.0),
        PrecisionError,
        "nothing is converted",
    ),
    "level": (lambda: guidance.classifier_guided_eps(T, X2, 0, X2), LevelError, "t = 0"),
    "variance": (lambda: guidance.classifier_mean_shift(X2, -1.0, X2), RangeError, "must be >= 0"),
    "wide variance": (lambda: guidance.classifier_mean_shift(X2, torch.ones(4, 2, 3), X2), ShapeError, "that fits it"),
    "point": (
        lambda: guidance.mean_shift_step(T, X2, 2, 1, X2, lambda x, t: x, X2, gradient_point="x0"),
        RangeError,
        "gradient_point",
    ),
    "gradient": (
        lambda: guidance.mean_shift_step(T, X2, 2, 1, X2, lambda x, t: x[:1], X2),
        ShapeError,
        "return the shape of x",
    ),
    "factor": (lambda: guidance.rescale(X2, X2, 1.5), RangeError, "outside [0, 1]"),
    "constant": (lambda: guidance.rescale(X2, X2), RangeError, "no spread"),
    "flat": (lambda: guidance.rescale(X2[0], X2[0]), ShapeError, "(batch, *event)"),
    "precision": (lambda: guidance.guided_normal(X2, 1.0, X2, 0.5, guidance_weight=2.0), RangeError, "no such law"),
    "numbers": (lambda: guidance.guided_normal(0.0, 1.0, 0.0, 1.0, guidance_weight=2.0), PrecisionError, "as a tensor"),
    "label": (
        lambda: guidance.drop_condition(torch.tensor([10]), torch.rand(1), 0.1, 10),
        RangeError,
        "label holds 10, and the classes are 0..9",
    ),
    "label format": (
        lambda: guidance.drop_condition(torch.tensor([1.0]), torch.rand(1), 0.1, 10),
        RangeError,
        "torch.float32",
    ),
    "numbers for labels": (
        lambda: guidance.drop_condition(torch.tensor([1, 2]), torch.rand(1), 0.1, 10),
        ShapeError,
        "one number per label",
    ),
    "probability": (
        lambda: guidance.drop_condition(torch.tensor([1]), torch.rand(1), -0.1, 10),
        RangeError,
        "probability = -0.1",
    ),
    "jacobian": (
        lambda: guidance.log_softmax_gradient(X2, X2, torch.tensor([0, 1, 1])),
        ShapeError,
        "(batch, classes, *event)",
    ),
    "laws": (
        lambda: labelled_oracle.Labelled([0.5, 0.5], [oracle.Gaussian(0.0, 1.0), oracle.Finite([0.0])]),
        ShapeError,
        "all Finite or all",
    ),
    "oracle far out": (
        lambda: both("normal")[0].eps(T, torch.full((2, 1), 1e30), 5, 1),
        RangeError,
        "xt contains 1e+30: its square overflows torch.float32",
    ),
    "classifier far out": (
        lambda: both("normal")[0].log_probabilities(T, torch.full((2, 1), 1e30), 5),
        RangeError,
        "xt contains 1e+30",
    ),
    "network dimensions": (
        lambda: both("normal")[0].network(T)(torch.ones(2, 3), torch.tensor([4, 5])),
        ShapeError,
        "data of 1 dimensions",
    ),
    "classifier dimensions": (
        lambda: both("normal")[0].classifier(T)(torch.ones(2, 3), torch.tensor([4, 5])),
        ShapeError,
        "data of 1 dimensions",
    ),
    "oracle label": (
        lambda: both("normal")[0].eps(T, torch.zeros(2, 1), 5, 3),
        RangeError,
        "label holds 3, and the classes are 0..2; 2 stands for no label",
    ),
    "oracle labels": (
        lambda: both("normal")[0].eps(T, torch.zeros(2, 1), 5, torch.tensor([0, 1, 0])),
        ShapeError,
        "one label per example",
    ),
    "oracle levels": (
        lambda: both("normal")[0].eps(T, torch.zeros(2, 1), torch.tensor([1, 2, 3]), 0),
        ShapeError,
        "one level per example",
    ),
    "prediction": (lambda: both("normal")[0].network(T, "noise"), RangeError, "prediction = 'noise'"),
    "clock": (lambda: both("normal")[0].classifier(T, "two_based"), RangeError, "time_code = 'two_based'"),
}

ONE = torch.tensor([0, 1])
CLASSIFIERS = {
    "detached": (lambda x, t: x.detach() * 2, ONE, PrecisionError, "does not depend on x differentiably"),
    "weights only": (lambda x, t: torch.ones(2, 3, requires_grad=True) * 2, ONE, PrecisionError, "but not on x"),
    "numbers": (lambda x, t: [1.0, 2.0], ONE, PrecisionError, "returned a list"),
    "labels": (lambda x, t: x.argmax(1), ONE, PrecisionError, "returned torch.int64"),
    "one logit": (lambda x, t: x.sum(1), ONE, ShapeError, "returned shape (2,) for x of shape (2, 3)"),
    "batch": (lambda x, t: x[:1], ONE, ShapeError, "one logit per class, (2, classes)"),
    "no class": (lambda x, t: x[:, :0], ONE, ShapeError, "one logit per class"),
    "label": (lambda x, t: x[:, :1], ONE, RangeError, "label holds 1, and the classes are 0..0"),
    "label count": (lambda x, t: x, ONE[:1], ShapeError, "one label per example"),
    "gradient": (lambda x, t: x / 0, ONE, RangeError, "the classifier's gradient holds"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_has_a_named_error(name):
    call, error, words = BAD[name]
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_that_cannot_guide_is_named(name):
    classifier, label, error, words = CLASSIFIERS[name]
    with pytest.raises(error) as raised:
        guidance.classifier_gradient(classifier, torch.rand(2, 3), torch.ones(2), label)
    assert words in str(raised.value)


def test_an_empty_batch_of_labelled_data():
    mine, _ = both("points")
    nothing = torch.zeros(0, dtype=torch.int64)
    assert mine.network(T)(torch.zeros(0, 1, 2), nothing, nothing).shape == (0, 1, 2)
    assert mine.classifier(T)(torch.zeros(0, 2), nothing).shape == (0, mine.classes)
