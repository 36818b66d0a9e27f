"""Samplers taken as black boxes: what a broken one is told, by moments, orders of convergence and batches."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_ref.conformance import ReferenceAdapter, check
from ddpm_ref.reference import plan


def diagnosis(adapter, law):
    """The mistakes by whose names a violated law is called."""
    finding = check(adapter, law, max_examples=4).findings[0]
    assert finding.violation is not None, law
    return finding.violation.description, {mistake.name for mistake in finding.violation.mistakes}


class NoisyEnd(ReferenceAdapter):
    """Adds noise in the last step too."""

    def ancestral_sample(self, schedule, levels, network, start, noises, variance):
        rows = plan.ancestral(schedule, levels, variance, last_noise="variance", form="eps")
        return self._walked(rows, network, start, noises)


class Late(ReferenceAdapter):
    """Asks the network at the level where a step ends."""

    def _walked(self, plan, network, x, noises):
        for (_, s, a, b, c), asked, z in zip(plan.rows(), plan.asked, noises, strict=False):
            x = a * x + b * network(x, s or asked) + c * z
        return x


class FirstOfTheBatch(ReferenceAdapter):
    """Numbers its samples from 0 in every batch."""

    def keyed_noise(self, seed, step, first, shape):
        return super().keyed_noise(seed, step, 0, shape)


class FullChain(ReferenceAdapter):
    """Steps over several levels with the coefficients of one."""

    def ddim_sample(self, schedule, levels, network, start, noises, eta):
        for t, z in zip(levels[:-1], noises, strict=False):
            row = plan.ddim(schedule, (t, *([t - 1] if t > 1 else []), 0), eta, form="eps")
            start = row.x[0] * start + row.prediction[0] * network(start, t) + row.noise[0] * z
        return start


def test_noise_in_the_last_step_is_called_by_its_name():
    _, names = diagnosis(NoisyEnd(), "oracle/ancestral_moments")
    assert names == {"noise_in_the_last_step"}


@pytest.mark.full
@pytest.mark.parametrize("law", ["oracle/ddim_order", "oracle/inversion_round_trip"])
def test_a_network_asked_too_late_breaks_the_order(law):
    message, _ = diagnosis(Late(), law)
    assert "times the bound" in message


@pytest.mark.full
def test_levels_of_the_full_chain_have_no_order():
    message, names = diagnosis(FullChain(), "oracle/ddim_order")
    assert names == {"levels_of_the_full_chain"}, message


@pytest.mark.parametrize("law", ["sampling/noise_split", pytest.param("sampling/batch_split", marks=pytest.mark.full)])
def test_samples_numbered_from_zero_in_every_batch(law):
    message, names = diagnosis(FirstOfTheBatch(), law)
    assert "law 0.0" in message
    assert names <= {"stream_restarted_with_every_batch"}


def test_a_level_that_the_walk_does_not_visit_is_named():
    class OneBelow(Late):
        def _walked(self, plan, network, x, noises):
            for (t, _, a, b, c), z in zip(plan.rows(), noises, strict=False):
                x = a * x + b * network(x, t - 1) + c * z
            return x

    message, _ = diagnosis(OneBelow(), "oracle/ddim_moments")
    assert "LevelError: the network was asked at level" in message


def test_a_batch_of_samples_does_not_depend_on_who_sits_beside():
    adapter = ReferenceAdapter()
    whole = adapter.keyed_noise(7, 2, 5, (6, 3))
    assert np.array_equal(whole[2:], adapter.keyed_noise(7, 2, 7, (4, 3)))
