"""What an adapter does not serve is not judged; steps of neighbours serve any step."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from ddpm_ref.commands.json_numbers import finite
from ddpm_ref.conformance import NumpyAdapter, check, neighbours
from ddpm_ref.conformance.neighbours import beta_between
from ddpm_ref.conformance.report_json import schema
from ddpm_ref.conformance.serving import UNSERVED, Declined
from ddpm_ref.reference import ancestral, posterior
from ddpm_ref.reference.schedule import NoiseSchedule

FEW = 8


class Exact(NumpyAdapter):
    """Steps from a level to the one before it, and the levels they were asked at."""

    name = "neighbours"

    def __init__(self) -> None:
        self.lengths: set[int] = set()

    def schedule(self, betas: np.ndarray) -> NoiseSchedule:
        return NoiseSchedule.from_betas(betas)

    def ancestral_step(self, own: Any, xt: Any, t: Any, s: Any, eps: Any, noise: Any, variance: str) -> Any:
        def step(own: NoiseSchedule, t: int, x: Any, e: Any, z: Any) -> Any:
            self.lengths.add(own.T)
            return ancestral.ancestral_step(own, x, t, t - 1, e, z, variance)

        return neighbours(step, own, t, s, xt, eps, noise, make=self.schedule, betas=own.beta[1:])

    def posterior_variance(self, own: Any, t: Any, s: Any) -> Any:
        ask = lambda own, t: posterior.posterior_variance(own, t, t - 1)  # noqa: E731
        return neighbours(ask, own, t, s, make=self.schedule, betas=own.beta[1:])

    def q_posterior(self, own: Any, x0: Any, xt: Any, t: Any, s: Any) -> Any:
        ask = lambda own, t, x0, xt: posterior.q_posterior(own, x0, xt, t, t - 1)  # noqa: E731
        return neighbours(ask, own, t, s, x0, xt, make=self.schedule, betas=own.beta[1:])


def test_exact_steps_of_neighbours_keep_the_laws_of_all_steps() -> None:
    adapter = Exact()
    report = check(adapter, ["ancestral/step", "posterior/variance", "posterior/mean", "posterior/composes"], FEW)
    assert report.ok, str(report)
    assert all(finding.applicable and not finding.unserved for finding in report.findings)
    assert {1, 2} < adapter.lengths  # chains of one and two steps were made, and the whole ones were asked too


def test_the_chain_of_neighbours_has_the_products_of_the_whole_one() -> None:
    betas = np.array([1e-8, 0.5, 0.999, 0.25, 1.0])
    whole = NoiseSchedule.from_betas(betas)
    seen = []
    for t, s in ((3, 1), (4, 0), (5, 2), (2, 1)):
        neighbours(lambda own, t: seen.append((own, t)), whole, t, s, make=NoiseSchedule.from_betas, betas=betas)
        own, last = seen.pop()
        assert (own is whole) == (s == t - 1)
        # NUMERICS 1, k = 4: each of the two betas is rounded once, and each side's table once
        np.testing.assert_allclose(own.beta_bar[[last - 1, last]], whole.beta_bar[[s, t]], rtol=4 * 2.0**-53)
    assert beta_between(betas, 5, 3) == 1.0


class OneVariance(Exact):
    """Serves the posterior variance, wrongly if so wanted, and neighbouring levels only."""

    factor = 1.0

    def ancestral_step(self, own: Any, xt: Any, t: Any, s: Any, eps: Any, noise: Any, variance: str) -> Any:
        if variance == "beta" or np.any(t - s > 1):
            return NotImplemented
        return ancestral.ancestral_step(own, xt, t, s, eps, noise, variance) * self.factor


class Halved(OneVariance):
    factor = 0.5


def test_what_is_not_served_is_not_judged() -> None:
    report = check(OneVariance(), ["ancestral/step", "identified/*"], FEW)
    assert report.ok, str(report)
    notes = {finding.law.id: finding.unserved for finding in report.findings if finding.applicable}
    assert notes["ancestral/step"].endswith("more cases, variance beta")
    assert notes["identified/ancestral"].endswith("more cases, 4 outputs")
    assert "holds (not served: " in str(report)
    for text in (report.as_markdown(), report.as_html()):
        assert "variance beta" in text
    jsonschema.validate(json.loads(json.dumps(finite(report.as_json()), allow_nan=False)), schema())


def test_what_is_served_is_judged() -> None:
    report = check(Halved(), "ancestral/step", FEW)
    (finding,) = report.findings
    assert finding.verdict == "VIOLATED"
    assert finding.violation is not None
    assert finding.violation.element is not None
    assert finding.violation.element.name == "posterior variance"
    assert "result  posterior variance, index" in str(report)


class Nothing(Exact):
    def ancestral_step(self, *_: Any) -> Any:
        return NotImplemented

    def q_posterior(self, own: Any, x0: Any, xt: Any, t: Any, s: Any) -> Any:
        return NotImplemented, NotImplemented


@pytest.mark.parametrize(
    "law",
    [
        "ancestral/step",
        "identified/ancestral",
        "identified/ancestral_is_affine",
        "posterior/mean",
        "posterior/composes",
    ],
)
def test_a_law_of_which_nothing_is_served_does_not_apply(law: str) -> None:
    (finding,) = check(Nothing(), law, 3).findings
    assert finding.verdict == "not applicable"
    assert finding.reason == "NotImplemented is the answer to all of it"


class Stumbles(Nothing):
    def ancestral_step(self, own: Any, xt: Any, t: Any, s: Any, eps: Any, noise: Any, variance: str) -> Any:
        if variance == "posterior":
            return NotImplemented
        raise ZeroDivisionError("by design")


def test_an_exception_is_no_refusal() -> None:
    (finding,) = check(Stumbles(), "ancestral/step", 3).findings
    assert finding.violation is not None
    assert "ZeroDivisionError: by design" in finding.violation.summary


def test_what_is_made_of_an_unserved_answer_is_unserved() -> None:
    for x in (np.ones(3), torch.ones(3), 2.0):
        for made in (x + UNSERVED, UNSERVED - x, x * UNSERVED, x / UNSERVED, UNSERVED[0], -UNSERVED, UNSERVED.sum(-1)):
            assert made is UNSERVED
    with pytest.raises(Declined):
        _ = [*UNSERVED]
