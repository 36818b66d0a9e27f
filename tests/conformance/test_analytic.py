"""Laws of Analytic-DPM held against implementations that are wrong in the well-known ways: the report names the mistake."""

import pytest

from ddpm_ref.conformance import ReferenceAdapter, check
from ddpm_ref.reference import analytic, plan


class NotComplemented(ReferenceAdapter):
    """The energy itself where one minus it belongs."""

    def sigma_hat_squared(self, schedule, t, eps_mean_square):
        return analytic.sigma_hat_squared(schedule, t, 1 - eps_mean_square)


class Unclipped(ReferenceAdapter):
    """Estimates are returned as they come."""

    def clip_sigma_hat_squared(self, schedule, sigma_hat_squared, t, low, high):
        return sigma_hat_squared, None


class WithoutTheUnknown(ReferenceAdapter):
    """Plain DDIM sold as Analytic-DPM."""

    def analytic_plan(self, schedule, levels, sigma_hat_squared, eta, form, last_noise):
        rows = plan.ddim(schedule, levels, eta, form=form)
        return rows.x, rows.prediction, rows.noise


@pytest.mark.parametrize(
    ("adapter", "law", "mistake"),
    [
        (NotComplemented, "analytic/sigma_hat_squared", "factor not complemented (E54)"),
        (Unclipped, "analytic/clip_sigma_hat_squared", "not clipped (E62)"),
        (WithoutTheUnknown, "analytic/plan_x0", "what is unknown forgotten"),
    ],
)
def test_the_report_names_the_mistake(adapter, law, mistake):
    pytest.importorskip("hypothesis")
    (finding,) = check(adapter(), laws=law, max_examples=20).findings
    assert finding.violation is not None
    assert mistake in [str(found) for found in finding.violation.mistakes]
