"""Digits that were asked for are what was asked for, in the eyes of a classifier that took no part in making them."""

import pytest
import torch

from ddpm_ref.nn import UNetConfig
from ddpm_ref.reference import plan as plans
from ddpm_ref.training import Config, fit
from ddpm_ref.training.classifier import accuracy, fit_classifier
from ddpm_ref.training.data import load
from ddpm_ref.training.guided import Guidance
from ddpm_ref.training.samples import draw


@pytest.mark.full
def test_guided_digits_are_those_that_were_asked_for() -> None:
    images, every = load("digits"), tuple(range(10))
    told = UNetConfig(classes=10)
    run = fit(Config(network=told, label_dropout=0.1, max_steps=700, max_seconds=None)).checkpoint
    noisy = Config(network=told, prediction="label", loss="cross_entropy", max_steps=400, max_seconds=None)
    classifier = fit(noisy)
    assert classifier.accuracy is not None
    assert classifier.accuracy[1] > 0.9
    assert classifier.accuracy[1000] < 0.2
    judge = fit_classifier(images)
    plan = plans.ancestral(run.schedule, run.schedule.trajectory(25), clip=(-1.0, 1.0))

    def right(guidance: Guidance) -> float:
        x = draw(run, 200, plan, guidance=guidance).images
        return accuracy(judge, x, torch.arange(200) % 10)

    unguided, free = right(Guidance(every, -1.0)), [right(Guidance(every, weight)) for weight in (1.0, 2.0)]
    by_classifier = right(Guidance(every, classifier=classifier.checkpoint, classifier_scale=4.0))
    print(f"right: unguided {unguided:.1%}, weights 1 and 2 {free}, classifier, scale 4 {by_classifier:.1%}")
    assert max(free) >= 0.95  # at some weight
    assert unguided < 0.3
    assert by_classifier > 0.7
