"""The adapter of lucidrains' interface passes a right stand-in, and finds wrong ones by the name of their mistake."""

from __future__ import annotations

from fnmatch import fnmatchcase

import lucidrains_stand_in as right
import pytest
import torch
from judged_cases import broken, names, shorten, wrong

from ddpm_ref.conformance.lucidrains_adapter import LucidrainsAdapter
from ddpm_ref.errors import AdapterError
from ddpm_ref.laws import REGISTRY

ADAPTER = LucidrainsAdapter(right.GaussianDiffusion)
OFFERED = [law.id for law in REGISTRY if all(hasattr(ADAPTER, method) for method in law.needs.split())]


@pytest.fixture(autouse=True)
def _short_schedules(monkeypatch):
    shorten(monkeypatch)


def of(**methods):
    return LucidrainsAdapter(type("GaussianDiffusion", (right.GaussianDiffusion,), methods))


def test_what_is_offered_covers_every_step():
    assert set(OFFERED) >= {
        "schedule/alpha_bar", "schedule/beta_tilde", "forward/q_sample", "posterior/mean", "posterior/weights",
        "posterior/variance", "posterior/floored_log_variance", "prediction/x0_from_eps", "prediction/eps_from_x0",
        "prediction/x0_from_v", "prediction/v_target", "reverse/mean_from_eps", "reverse/mean_from_x0", "ancestral/step",
        "ddim/step_from_eps", "ddim/step_from_x0", "identified/ancestral", "identified/ddim", "oracle/ancestral_moments",
        "oracle/ddim_moments", "oracle/ddim_order",
    }  # fmt: skip


@pytest.mark.parametrize("law", OFFERED)
def test_a_right_implementation_shows_no_wrong_formula(law):
    """Its tables are the textbook's, in float64, so that digits are lost there; it has no limit at zero terminal SNR either."""
    assert not [j.describe() for j in wrong(ADAPTER, law, tries=5) if j.case.schedule.snr[-1] > 0]


OF_TABLES = [law for law in OFFERED if not law.startswith(("ddim/", "identified/", "oracle/"))]


@pytest.mark.parametrize("law", OF_TABLES)
def test_a_right_implementation_passes_in_its_own_format(law):
    assert not [j.describe() for j in broken(ADAPTER, law, "fp32", tries=5) if j.case.schedule.snr[-1] > 0]


def _variance(self, log_variance):
    return log_variance.exp()


def _variance_of_ddim(self, now, after):
    return right.GaussianDiffusion.sigma(self, now, after) ** 2


def _eta_of_the_variance(self, now, after):
    eta = self.ddim_sampling_eta
    return right.GaussianDiffusion.sigma(self, now, after) / (eta**0.5 if eta else 1.0)


def _late(self, x_start, t, noise):
    return right.GaussianDiffusion.q_sample(self, x_start, (t - 1).clamp(min=0), noise)


def _wrong_sign(self, x_t, t, v):
    return right.GaussianDiffusion.predict_start_from_v(self, x_t, t, -v)


def _clipping(self, x, t, x_self_cond=None, clip_denoised=True):
    return right.GaussianDiffusion.p_mean_variance(self, x, t, x_self_cond, clip_denoised=True)


@pytest.mark.parametrize(
    ("methods", "law", "name"),
    [
        ({"deviation": _variance}, "identified/ancestral", "variance_used_as_standard_deviation"),
        ({"sigma": _eta_of_the_variance}, "identified/ddim", "eta_scales_the_variance"),
        ({"p_mean_variance": _clipping}, "identified/ancestral", "x0_clipped"),
    ],
)
def test_a_wrong_method_is_called_by_its_name(methods, law, name):
    assert names(of(**methods), law) == {name}


@pytest.mark.parametrize(
    ("methods", "law"),
    [
        ({"q_sample": _late}, "forward/q_sample"),
        ({"predict_start_from_v": _wrong_sign}, "prediction/x0_from_v"),
        ({"sigma": _variance_of_ddim}, "oracle/ddim_moments"),
        ({"deviation": _variance}, "oracle/ancestral_moments"),
    ],
)
def test_a_wrong_method_is_found(methods, law):
    assert wrong(of(**methods), law)


def test_the_clipping_of_the_class_is_an_expected_failure():
    clipping = LucidrainsAdapter(right.GaussianDiffusion, clip=True)
    expected = {law for law in OFFERED if any(fnmatchcase(law, pattern) for pattern in clipping.expected_failures)}
    assert "clipping" in clipping.name
    assert {"ancestral/step", "ddim/step_from_x0", "identified/ddim_is_affine", "oracle/ddim_moments"} <= expected
    for law in ("ancestral/step", "identified/ddim"):
        assert wrong(clipping, law)
    assert names(clipping, "identified/ddim") == {"x0_clipped_and_eps_derived_from_it"}


def test_what_is_no_diffusion_is_named():
    with pytest.raises(AdapterError, match="pass the class GaussianDiffusion"):
        LucidrainsAdapter(right)

    class Elsewhere(torch.nn.Module):
        def p_mean_variance(self):
            raise NotImplementedError

    with pytest.raises(AdapterError, match="has no linear_beta_schedule, through which betas are put in"):
        LucidrainsAdapter(Elsewhere)


def test_nothing_foreign_is_left_changed():
    before = dict(vars(right)), dict(vars(right.GaussianDiffusion)), torch.linspace, torch.Tensor.to
    assert not wrong(ADAPTER, "ddim/step_from_eps", tries=2)
    assert (dict(vars(right)), dict(vars(right.GaussianDiffusion)), torch.linspace, torch.Tensor.to) == before
    assert len(torch.linspace(0, 1, 7)) == 7
