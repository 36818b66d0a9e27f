"""The adapter of OpenAI's interface passes a right stand-in, and finds wrong ones by the name of their mistake."""

from __future__ import annotations

import types
from fnmatch import fnmatchcase

import numpy as np
import openai_stand_in as right
import pytest
import torch
from judged_cases import broken, names, shorten, wrong

from ddpm_ref.conformance import check
from ddpm_ref.conformance.openai_adapter import OpenAIAdapter
from ddpm_ref.errors import AdapterError
from ddpm_ref.laws import REGISTRY


@pytest.fixture(autouse=True)
def _short_schedules(monkeypatch):
    shorten(monkeypatch)


ADAPTER = OpenAIAdapter(right, right)


def offered(adapter):
    return [law.id for law in REGISTRY if all(hasattr(adapter, method) for method in law.needs.split())]


def with_methods(**methods):
    """Modules whose classes have some methods replaced."""
    base = type("GaussianDiffusion", (right.GaussianDiffusion,), methods)
    spaced = type("SpacedDiffusion", (right.SpacedDiffusion,), methods)
    return OpenAIAdapter({**vars(right), "GaussianDiffusion": base}, spaced)


def test_what_is_offered_covers_every_step():
    assert set(offered(ADAPTER)) >= {
        "schedule/alpha_bar", "schedule/beta_bar", "schedule/beta_tilde", "forward/q_sample", "forward/terminal_kl",
        "posterior/mean", "posterior/variance", "posterior/weights", "posterior/replaced_log_variance",
        "prediction/x0_from_eps", "prediction/eps_from_x0", "prediction/clip_x0", "reverse/mean_from_eps",
        "reverse/mean_from_x0", "reverse/variance", "reverse/learned_variance", "reverse/replaced_log_variance",
        "ancestral/step", "ddim/step_from_eps", "ddim/step_from_x0", "ddim/inversion_step", "ddim/strided_betas",
        "identified/ancestral", "identified/ddim", "oracle/ancestral_moments", "oracle/ddim_moments",
        "guidance/mean_shift", "guidance/ddim_step", "divergence/kl_normal_logvar", "bound/term_selector",
        "bound/reconstruction_of_grey_levels",
    }  # fmt: skip


@pytest.mark.parametrize("claim", ["fp64", pytest.param("fp32", marks=pytest.mark.full)])
def test_a_right_implementation_passes(claim):
    for law in set(offered(ADAPTER)) - EXPECTED - OF_THE_TEXTBOOK:
        assert not [f"{law}: {judged.describe()}" for judged in broken(ADAPTER, law, claim, tries=4)]


@pytest.mark.full
def test_a_right_implementation_is_told_so_by_the_whole_check():
    report = check(ADAPTER, offered(ADAPTER), max_examples=20)
    assert {f.law.id for f in report.findings if f.verdict == "expected failure"} == EXPECTED
    assert {f.law.id for f in report.violations} <= OF_THE_TEXTBOOK, str(report)


@pytest.mark.parametrize("law", ["reverse/variance", "guidance/mean_shift_step"])
def test_a_convention_of_the_interface_fails_as_expected(law):
    assert law in EXPECTED
    assert wrong(ADAPTER, law, tries=20)


def test_the_gradient_is_right_at_the_one_point_that_the_interface_knows():
    judged = wrong(ADAPTER, "guidance/mean_shift_step_small")
    assert judged
    assert not [j.describe() for j in judged if j.ratios[1].max() > 1]


EXPECTED = {
    law.id for law in REGISTRY if any(fnmatchcase(law.id, pattern) for pattern in OpenAIAdapter.expected_failures)
}
# The interface forms betas from a function given in float64, as the textbook does.
OF_THE_TEXTBOOK = {"schedule/cosine_betas"}


def test_the_expected_failures_are_those_of_the_interface():
    assert {"reverse/variance", "guidance/mean_shift_step", "guidance/mean_shift_step_small"} == EXPECTED


def _std_is_variance(self, t, x, out):
    return right.GaussianDiffusion.scale_of_noise(self, t, x, out) ** 2


def _never_silent(self, t, x, out):
    return np.exp(0.5 * right.array(out["log_variance"]))


def _clipped_anyway(self, model, x, t, clip_denoised=True):
    answer, level = model(x, self.heard(t)), self.step(t)
    x0 = right.prediction.x0_from_eps(self.whole, right.array(x), level[0], right.array(answer)).clip(-1, 1)
    mean = right.posterior.q_posterior(self.whole, x0, right.array(x), *level)[0]
    variance, log_variance = self.variances(t, x.shape, None)
    return {"mean": right.tensor(mean), "variance": variance, "log_variance": log_variance}


def _shifted(self, x, t, noise):
    return right.tensor(right.forward.q_sample(self.whole, right.array(x), self.step(t)[1], right.array(noise)))


def _eta_of_the_variance(self, model, x, t, eta=0.0, **options):
    return right.GaussianDiffusion.ddim_sample(self, model, x, t, eta=eta**0.5, **options)


def _weights_swapped(self, x_start, x_t, t):
    return right.GaussianDiffusion.q_posterior_mean_variance(self, x_t, x_start, t)


def _shifted_by_the_std(self, cond_fn, p_mean_var, x, t, model_kwargs=None):
    out = {**p_mean_var, "variance": p_mean_var["variance"].sqrt()}
    return right.GaussianDiffusion.condition_mean(self, cond_fn, out, x, t, model_kwargs)


def _linear_range(self, t, shape, frac):
    if frac is None:
        return right.GaussianDiffusion.variances(self, t, shape, None)
    spread = (-1,) + (1,) * (len(shape) - 1)
    low, high = (v[t.numpy()].reshape(spread) for v in (self.posterior_variance, self.betas))
    variance = frac * high + (1 - frac) * low
    return right.tensor(variance), right.tensor(np.log(variance))


def _guided_uphill(self, model, x, t, cond_fn=None, **options):
    against = None if cond_fn is None else (lambda *a, **k: -cond_fn(*a, **k))
    return right.GaussianDiffusion.ddim_sample(self, model, x, t, cond_fn=against, **options)


def _never_learnt_to_stride(self, t):
    """Levels of the full chain."""
    level = self.levels[t.numpy() + 1]
    return level, level - 1


WRONG = {
    "q_sample": (_shifted, "forward/q_sample", {"shifted_by_one"}),
    "scale_of_noise": (_std_is_variance, "identified/ancestral", {"variance_used_as_standard_deviation"}),
    "p_mean_variance": (_clipped_anyway, "identified/ancestral", {"x0_clipped"}),
    "ddim_sample": (_eta_of_the_variance, "identified/ddim", {"eta_scales_the_variance"}),
    "q_posterior_mean_variance": (_weights_swapped, "posterior/mean", {"weights_swapped"}),
    "condition_mean": (_shifted_by_the_std, "guidance/mean_shift", {"standard_deviation_used_as_variance"}),
    "variances": (_linear_range, "reverse/learned_variance", {"interpolated_without_logarithm"}),
    "step": (_never_learnt_to_stride, "identified/ddim", {"levels_of_the_full_chain"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_method_is_called_by_its_name(name):
    method, law, mistakes = WRONG[name]
    assert names(with_methods(**{name: method}), law) == mistakes


@pytest.mark.parametrize(
    ("method", "law", "mistakes"),
    [
        ({"scale_of_noise": _never_silent}, "oracle/ancestral_moments", None),
        ({"p_mean_variance": _clipped_anyway}, "identified/ancestral_is_affine", {"x0_clipped"}),
        ({"ddim_sample": _guided_uphill}, "guidance/ddim_step", {"sign_of_the_gradient"}),
    ],
)
def test_a_wrong_method_is_found_where_it_shows(method, law, mistakes):
    found = names(with_methods(**method), law)
    assert mistakes is None or found == mistakes


def test_a_divergence_with_its_arguments_swapped_is_called_by_its_name():
    changed = {**vars(right), "normal_kl": lambda a, b, c, d: right.normal_kl(c, d, a, b)}
    assert names(OpenAIAdapter(changed), "divergence/kl_normal_logvar") == {"arguments_swapped"}


def _approximated(x, *, means, log_scales):
    """The decoder of the code this stands in for, in formulas: a tanh in the place of the distribution function."""
    centered, inverse = x - means, torch.exp(-log_scales)
    upper, lower = (_tanh(inverse * (centered + side / 255)) for side in (1, -1))
    inside = torch.where(
        x > 0.999, torch.log((1 - lower).clamp(min=1e-12)), torch.log((upper - lower).clamp(min=1e-12))
    )
    return torch.where(x < -0.999, torch.log(upper.clamp(min=1e-12)), inside)


def _tanh(z):
    return (1 + torch.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))) / 2


def _decoded_by_tanh(self, model, x_start, x_t, t, clip_denoised=True):
    right_ones = right.GaussianDiffusion._vb_terms_bpd(self, model, x_start, x_t, t, clip_denoised)["output"]
    mean, log_variance = torch.split(model(x_t, t), x_t.shape[1], dim=1)
    nats = -_approximated(x_start, means=mean, log_scales=log_variance / 2).mean(dim=1)
    return {"output": torch.where(t == 0, nats / np.log(2), right_ones)}


@pytest.mark.parametrize(
    ("adapter", "law"),
    [
        (
            OpenAIAdapter({**vars(right), "discretized_gaussian_log_likelihood": _approximated}),
            "bound/reconstruction_of_grey_levels",
        ),
        pytest.param(with_methods(_vb_terms_bpd=_decoded_by_tanh), "bound/term_selector", marks=pytest.mark.full),
    ],
)
def test_a_tanh_in_the_decoder_is_called_by_its_name(adapter, law):
    (found,) = check(adapter, [law], max_examples=10).violations
    assert [m.name for m in found.violation.mistakes] == ["tanh_for_the_distribution_function"]


def test_of_other_grey_levels_and_of_densities_nothing_is_known():
    ask = lambda levels: ADAPTER.reconstruction_term(*torch.ones(3, 2), levels)  # noqa: E731
    assert ask(None) is ask(17) is NotImplemented
    assert ask(256) is not NotImplemented


def test_without_respacing_chains_are_made_of_the_class_itself():
    for law in ("identified/ancestral", "identified/ddim", "oracle/ddim_moments"):
        assert not wrong(OpenAIAdapter(right), law, tries=6)


def test_a_version_without_guidance_offers_none():
    class Plain(right.GaussianDiffusion):
        condition_mean = property()

    bare = {k: v for k, v in vars(right).items() if k != "normal_kl"} | {"GaussianDiffusion": Plain}
    assert hasattr(OpenAIAdapter(right), "mean_shift_step")
    assert hasattr(OpenAIAdapter(right), "kl_normal_logvar")
    assert not hasattr(OpenAIAdapter(bare), "mean_shift_step")
    assert not hasattr(OpenAIAdapter(bare), "kl_normal_logvar")
    assert hasattr(OpenAIAdapter(bare), "ancestral_step")


def test_a_version_without_terms_of_the_bound_offers_none():
    class Plain(right.GaussianDiffusion):
        _vb_terms_bpd = property()

    left_out = "discretized_gaussian_log_likelihood"
    bare = {k: v for k, v in vars(right).items() if k != left_out} | {"GaussianDiffusion": Plain}
    for method in ("bound_term", "reconstruction_term"):
        assert hasattr(OpenAIAdapter(right), method)
        assert not hasattr(OpenAIAdapter(bare), method)


def test_what_is_missing_is_named():
    with pytest.raises(AdapterError, match=r"has no ModelVarType, LossType; pass the module gaussian_diffusion"):
        OpenAIAdapter({"GaussianDiffusion": object, "ModelMeanType": object})
    with pytest.raises(AdapterError, match="has no SpacedDiffusion"):
        OpenAIAdapter(right, types.ModuleType("respace"))


def test_nothing_foreign_is_left_changed():
    before = dict(vars(right.GaussianDiffusion)), torch.Tensor.float, torch.randn_like
    assert not broken(ADAPTER, "ancestral/step", tries=3)
    assert (dict(vars(right.GaussianDiffusion)), torch.Tensor.float, torch.randn_like) == before
    assert torch.ones(1, dtype=torch.float64).float().dtype == torch.float32
