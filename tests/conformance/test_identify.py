"""A black-box step is told its coefficients, whether it is affine, and by which name it is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.identification import identify
from ddpm_ref.errors import AdapterError, LevelError
from ddpm_ref.reference import analytic, ancestral, ddim, plan
from ddpm_ref.reference.named_schedules import linear_schedule, zero_terminal_snr
from ddpm_ref.torch import ancestral as mirror
from ddpm_ref.torch import tables

H = linear_schedule(1000)
STEPS = [(1000, 999), (1000, 1), (700, 650), (3, 2), (2, 1)]


def of_rows(made, t, s):
    """A step that is a row of a plan."""
    _, _, a, b, c = next(made((t, s, 0) if s else (t, 0)).rows())
    return lambda x, y, z: a * x + b * y + c * z


def named(step, t, s, **options):
    found = identify(step, H, t, s, **options)
    assert found.affine
    return {(member.name, member.form) for member in found.members}


@pytest.mark.parametrize(("t", "s"), STEPS)
@pytest.mark.parametrize("form", ["eps", "x0"])
@pytest.mark.parametrize(("kind", "words"), [("posterior", "posterior variance"), ("beta", "variance beta")])
def test_ancestral_steps_have_their_names(t, s, form, kind, words):
    names = named(of_rows(lambda levels: plan.ancestral(H, levels, kind, form=form), t, s), t, s)
    expected = {(f"ancestral sampling, {words}", form)} | ({("DDIM, eta = 1", form)} if kind == "posterior" else set())
    assert names == expected


@pytest.mark.parametrize(("t", "s"), STEPS)
@pytest.mark.parametrize("form", ["eps", "x0"])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_members_of_the_family_have_their_names(t, s, form, eta):
    names = named(of_rows(lambda levels: plan.ddim(H, levels, eta, form=form), t, s), t, s)
    assert (f"DDIM, eta = {eta:g}", form) in names
    assert len(names) == (2 if eta == 1 else 1)  # ancestral sampling is one of them


def test_an_eta_of_many_digits_is_given_as_it_is():
    eta = 0.123456789012
    (member,) = identify(lambda x, e, z: ddim.ddim_step_from_eps(H, x, 700, 650, e, z, eta), H, 700, 650).members
    assert member.name == "DDIM, eta = 0.123457"
    assert member.error_over_bound <= 1


def test_a_prediction_of_v_is_recognised():
    kernel, a, b = H.between(700, 650), H.sqrt_alpha_bar[700], H.sqrt_beta_bar[700]

    def step(x, v, z):
        return kernel.xt_weight * x + kernel.x0_weight * (a * x - b * v) + kernel.std_tilde * z

    assert named(step, 700, 650) == {("ancestral sampling, posterior variance", "v"), ("DDIM, eta = 1", "v")}


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_optimal_variance_is_recognised(eta):
    def step(x, e, z):
        return analytic.analytic_step(H, x, 700, 650, e, 0.25, z, eta)

    assert named(step, 700, 650, x0_variance=0.25) == {(f"Analytic-DPM, eta = {eta:g}", "eps")}
    names = {name for name, _ in named(step, 700, 650)}
    assert f"mean of DDIM, eta = {eta:g}; noise of Analytic-DPM for the x0 variance 0.25" in names
    assert named(step, 700, 650, x0_variance=0.5) == set()


def test_the_last_step_is_all_of_them_but_noise_tells_them_apart():
    clean = identify(lambda x, e, z: ancestral.ancestral_step(H, x, 1, 0, e, z, "posterior"), H, 1, 0)
    assert set(clean.names) >= {"ancestral sampling, variance beta", "DDIM, eta = 0", "DDIM, eta = 1"}
    noisy = of_rows(lambda levels: plan.ancestral(H, levels, "beta", last_noise="variance"), 1, 0)
    assert named(noisy, 1, 0) == {("ancestral sampling, variance beta, noise in the last step", "eps")}


MISTAKES = {
    "variance as deviation": lambda x, e, z, k: k.recip_sqrt_alpha * x - k.eps_weight * e + k.beta_tilde * z,
    "sign of eps": lambda x, e, z, k: k.recip_sqrt_alpha * x + k.eps_weight * e + k.std_tilde * z,
    "not rescaled": lambda x, e, z, k: x - k.eps_weight * e + k.std_tilde * z,
    "offset": lambda x, e, z, k: k.recip_sqrt_alpha * x - k.eps_weight * e + k.std_tilde * z + 0.5,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_step_is_no_known_one(mistake):
    kernel = H.between(700, 650)
    found = identify(lambda x, e, z: MISTAKES[mistake](x, e, z, kernel), H, 700, 650)
    assert found.affine
    assert found.names == ()
    assert found.offset == (0.5 if mistake == "offset" else 0)
    assert "no known step" in str(found)


@pytest.mark.parametrize("stage", ["clip", "threshold", "answer"])
def test_a_stage_is_not_affine(stage):
    k = H.between(700, 650)

    def step(x, x0, z):
        if stage == "clip":
            x0 = np.clip(x0, -1, 1)
        if stage == "threshold":
            x0 = x0 / max(1.0, np.abs(x0).max())
        out = k.xt_weight * x + k.x0_weight * x0 + k.std_tilde * z
        return np.clip(out, -1, 1) if stage == "answer" else out

    found = identify(step, H, 700, 650)
    assert not found.affine
    assert "not affine" in str(found)


def test_rows_that_differ_are_not_affine_of_one_kind():
    factor = np.linspace(1, 2, 256)
    assert not identify(lambda x, e, z: factor * x, H, 700, 650).affine


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_of_any_format_and_shape_are_understood(dtype):
    schedule = tables(H)
    for shape in ((), (3,), (2, 3, 4, 4)):
        found = identify(
            lambda x, e, z: mirror.ancestral_step(schedule, x, 700, 650, e, z, "posterior"),
            H,
            700,
            650,
            like=torch.zeros(shape, dtype=dtype),
            claim=Claim("bf16", "fp32") if dtype == torch.bfloat16 else None,
        )
        assert found.affine
        assert "ancestral sampling, posterior variance" in found.names


def test_lost_digits_do_not_lose_the_name():
    k = H.between(700, 650)
    found = identify(lambda x, e, z: k.recip_sqrt_alpha * x - (1 + 1e-10) * k.eps_weight * e, H, 700, 650)
    assert found.names == ()
    found = identify(
        lambda x, e, z: k.recip_sqrt_alpha * x - (1 + 1e-10) * k.eps_weight * e + k.std_tilde * z, H, 700, 650
    )
    assert "ancestral sampling, posterior variance" in found.names
    assert found.members[0].error_over_bound > 1000
    assert "times its bound off" in str(found.members[0])


def test_zero_terminal_snr_has_no_eps_form():
    silent = zero_terminal_snr(linear_schedule(10))
    rows = plan.ancestral(silent, (10, 9, 0), form="x0")
    found = identify(lambda x, y, z: rows.x[0] * x + rows.prediction[0] * y + rows.noise[0] * z, silent, 10, 9)
    assert {member.form for member in found.members} == {"x0"}


@pytest.mark.parametrize(
    ("step", "options", "said"),
    [
        (lambda x, e, z: (x, e), {}, "returned a tuple at"),
        (lambda x, e, z: x[:3], {}, r"returned shape \(3,\) at \(1, 0, 0\)"),
        (lambda x, e, z: x * np.nan, {}, "returned nan at"),
        (lambda x, e, z: x, {"like": np.zeros(3, dtype=np.int64)}, "like is int64"),
        (lambda x, e, z: x, {"like": np.zeros((0, 2))}, r"of shape \(0, 2\)"),
    ],
)
def test_what_is_no_step_is_named(step, options, said):
    with pytest.raises(AdapterError, match=said):
        identify(step, H, 700, 650, **options)


def test_levels_that_are_no_step_are_refused():
    with pytest.raises(LevelError):
        identify(lambda x, e, z: x, H, 650, 700)


def test_a_step_that_is_nearly_known_is_shown_the_coefficients_it_should_have():
    k = H.between(700, 650)
    found = identify(lambda x, e, z: k.recip_sqrt_alpha * x - 1.5 * k.eps_weight * e + k.std_tilde * z, H, 700, 650)
    member, coefficients = found.nearest
    assert (member.name, member.form) == ("ancestral sampling, posterior variance", "eps")
    assert coefficients == (k.recip_sqrt_alpha.item(), -k.eps_weight.item(), k.std_tilde.item())
    assert "no known step; the nearest has other coefficients:\n  1.40595 x_700 -0.697117 y +0.700513 z: anc" in str(
        found
    )


def test_clipping_is_what_is_thought_of_first_where_a_step_is_not_affine():
    k = H.between(700, 650)
    found = identify(lambda x, x0, z: k.xt_weight * x + k.x0_weight * np.clip(x0, -1, 1), H, 700, 650)
    assert "no known step; clipping or thresholding of x0 on the way does this" in str(found)


@pytest.mark.parametrize("form", ["eps", "x0"])
@pytest.mark.parametrize("name", ["alpha bar in the weight of xt", "root missing in the weight of x0"])
def test_wrong_weights_of_the_mean_have_their_names(name, form):
    k, signal, noise = H.between(700, 650), H.sqrt_alpha_bar[700], H.sqrt_beta_bar[700]
    of_x0, of_xt = k.x0_weight, k.xt_weight
    if "xt" in name:
        of_xt = signal * H.beta_bar[650] / H.beta_bar[700]
    else:
        of_x0 = H.alpha_bar[650] * k.beta / H.beta_bar[700]

    def step(x, y, z):
        return of_x0 * ((x - noise * y) / signal if form == "eps" else y) + of_xt * x + k.sqrt_beta * z

    found = identify(step, H, 700, 650)
    assert (f"ancestral sampling, variance beta, {name}", form) in {(slip.name, slip.form) for slip in found.slips}
