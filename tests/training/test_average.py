from fractions import Fraction

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.training import fit
from ddpm_ref.training.average import Average, decay_at


def test_the_decay_rises_from_2_over_11_to_its_limit():
    decays = [decay_at(0.995, step) for step in range(1, 3000)]
    assert decays == [min(0.995, float(Fraction(1 + step, 10 + step))) for step in range(1, 3000)]
    assert decays == sorted(decays)
    assert (decays[0], decays[-1]) == (2 / 11, 0.995)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_update_is_the_convex_combination_in_float32(dtype):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(1000, generator=generator).to(dtype) for _ in range(6)]
    average = Average({"w": weights[0]}, 0.6)
    for step, weight in enumerate(weights[1:], start=1):
        before = average.values["w"].double().numpy()
        average.update({"w": weight}, step)
        share = float(np.float32(1.0 - decay_at(0.6, step)))
        # m + s (w - m), as torch computes it: the share rounded, the difference, the product, the sum.
        difference = (DoubleDouble.of(weight.double().numpy()) + DoubleDouble.of(-before)) * share
        terms = (abs(DoubleDouble.of(weight.double().numpy())) + abs(DoubleDouble.of(before))) * share
        wanted = Expected(DoubleDouble.of(before) + difference, np.abs(before) + terms.high, roundings=4)
        assert average.values["w"].dtype == torch.float32
        assert np.all(wanted.error_over_bound(average.values["w"].double().numpy(), Claim("fp32")) <= 1)


def test_the_average_is_its_own_copy():
    weight = torch.zeros(3)
    average = Average({"w": weight}, 0.9)
    weight += 1
    assert average.values["w"].tolist() == [0.0] * 3


def test_a_run_keeps_the_average_of_the_weights_it_went_through(tiny_config):
    # The same updates again, from the weights before the first step (a rate of 1e-30 changes no weight that is not
    # tiny) and those of shorter runs.
    still = fit(tiny_config(learning_rate=1e-30, max_steps=1)).checkpoint
    through = [fit(tiny_config(cooldown=0, max_steps=steps)).checkpoint for steps in (1, 2, 3)]
    name = "inlet.weight"
    average = Average({name: still.weights[name]}, tiny_config().ema_decay)
    for step, checkpoint in enumerate(through, start=1):
        average.update({name: checkpoint.weights[name]}, step)
    assert torch.equal(average.values[name], through[-1].average[name])


def test_without_a_decay_there_is_no_average_and_the_weights_are_used(tiny_config):
    plain = fit(tiny_config(ema_decay=None))
    assert plain.checkpoint.average is None
    assert plain.checkpoint.state() is plain.checkpoint.weights
    averaged = fit(tiny_config())
    assert averaged.checkpoint.state() is averaged.checkpoint.average
    assert all(torch.equal(averaged.checkpoint.weights[n], w) for n, w in plain.checkpoint.weights.items())
    assert averaged.held_out_loss != plain.held_out_loss
