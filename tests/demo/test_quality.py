"""The judge of samples knows digits from what are none, and copies from digits."""

from __future__ import annotations

import pytest
import torch

from ddpm_ref.demo.quality import COUNT, Quality, fitted_gaussian, frechet_distance, judge, nearest_distance
from ddpm_ref.errors import RangeError
from ddpm_ref.nn import Classifier
from ddpm_ref.training import classifier as training
from ddpm_ref.training.data import Images, digits


@pytest.fixture(scope="module")
def images() -> Images:
    return digits()


@pytest.fixture(scope="module")
def copies(images: Images) -> Quality:
    """The judge's word on training images passed off as samples."""
    return judge(images, images.train[::3][:COUNT].repeat(2, 1, 1, 1)[:COUNT])


def test_real_digits_are_near_and_a_normal_law_is_far(copies: Quality) -> None:
    assert copies.images == COUNT
    assert 0 < copies.held_out < copies.fitted_gaussian / 10
    assert copies.samples < copies.fitted_gaussian / 5
    assert copies.classifier_accuracy > 0.95
    assert sum(copies.digits) == COUNT
    assert copies.of_gaussian == copies.samples / copies.fitted_gaussian


def test_copies_are_found_out(copies: Quality) -> None:
    assert copies.nearest == 0.0
    assert copies.nearest_held_out > 0.1


def test_the_distance_of_a_set_to_itself_is_nothing(images: Images) -> None:
    """The rule is NUMERICS 5, reductions: float32 features, so that 2^-10 of the distance of two halves is plenty."""
    judge = Classifier(images.shape)
    itself = frechet_distance(judge, images.train, images.train)
    assert abs(itself) < 2**-10 * frechet_distance(judge, images.train[:600], images.train[600:] * 0.5)


def test_the_normal_law_has_the_pixels_moments(images: Images) -> None:
    drawn = fitted_gaussian(images.train, 2000)
    assert drawn.shape == (2000, *images.shape)
    assert drawn.min() >= -1
    assert drawn.max() <= 1
    # Five standard errors of the mean of 2000 draws (rule: NUMERICS 5, distributions); clipping moves edge pixels up.
    middle = drawn[:, 0, 3, 3].mean() - images.train[:, 0, 3, 3].mean()
    assert abs(middle) < 5 * images.train[:, 0, 3, 3].std() / 2000**0.5 + 0.1
    assert torch.equal(drawn, fitted_gaussian(images.train, 2000))


def test_nearest_distance_is_per_pixel() -> None:
    among = torch.tensor([[[[0.0, 0.0]]], [[[1.0, 1.0]]]])
    assert nearest_distance(torch.tensor([[[[0.5, 0.0]]]]), among) == pytest.approx(
        0.5 / 2**0.5, rel=2**-22
    )  # fp32, k = 3


def test_training_the_classifier_is_deterministic_and_leaves_no_trace(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "EPOCHS", 1)
    before = torch.random.get_rng_state()
    first, second = training.fit_classifier(images, 3), training.fit_classifier(images, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(training.fit_classifier(images, 4).parameters()))
    assert not first.training


@pytest.mark.parametrize("options", [{"shape": (1, 3, 8)}, {"shape": (8, 8)}, {"shape": (1, 8, 8), "classes": 0}])
def test_the_classifier_refuses_sizes_it_cannot_have(options) -> None:
    with pytest.raises(RangeError, match="needed are"):
        Classifier(**options)
