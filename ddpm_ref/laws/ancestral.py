"""The law of one step of ancestral sampling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import where
from ddpm_ref.laws.cases import Case, at, at_step, spread_over_data, step
from ddpm_ref.laws.posterior import WRONG_WEIGHTS, in_eps_form
from ddpm_ref.laws.registry import PAIR_AFFINE, Law, Mistake, Outputs, affine
from ddpm_ref.typing import AnyArray, Array


def _both(impl: Any, c: Any) -> tuple[object, object]:
    small, large = (
        impl.ancestral_step(c.schedule, c.xt, c.t, c.s, c.eps, c.noise, kind) for kind in ("posterior", "beta")
    )
    return small, large


def _expected(case: Case) -> tuple[Expected, ...]:
    mean = (case.step("recip_sqrt_alpha", case.xt), case.xt), (-case.step("eps_weight", case.xt), case.eps)
    silent = spread_over_data(case, np.asarray(case.s == 0))
    large = case.step("sqrt_beta", case.xt)
    large = where(silent.astype(bool), DoubleDouble.of(np.zeros(large.shape)), large)
    stds = {"posterior variance": case.step("std_tilde", case.xt), "variance beta": large}
    return tuple(
        replace(affine(*mean, (std, case.noise), roundings=PAIR_AFFINE + 1), name=name) for name, std in stds.items()
    )


def _mean(case: Case) -> Array:
    return step(case, "recip_sqrt_alpha") * case.xt - step(case, "eps_weight") * case.eps


def _with(case: Case, small: Array, large: Array, *, silent: bool = True, mean: Array | None = None) -> Outputs:
    """Both steps with these factors of the noise, the last without noise, and maybe another mean."""
    return _noisy(case, case.s > 0 if silent else np.ones_like(case.s), small, large, mean)


def _noisy(case: Case, where: AnyArray, small: Array, large: Array, mean: Array | None = None) -> Outputs:
    """Both steps with these factors of the noise at some levels, and without noise at the others."""
    kept = spread_over_data(case, np.asarray(where)).astype(bool)
    factors = (np.where(kept, factor, 0.0) for factor in (small, large))
    mean = _mean(case) if mean is None else mean
    small, large = (np.asarray(mean + factor * case.noise) for factor in factors)
    return small, large


def _root_of_logarithm(case: Case) -> Array:
    """Not a number, wherever the variance is below 1."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(np.log(step(case, "beta"))))


def _floored(case: Case) -> Array:
    """The posterior's, of a variance that is kept from being 0 because its logarithm may be taken."""
    return np.asarray(np.sqrt(np.maximum(step(case, "beta_tilde"), 1e-20)))


def _misweighted(case: Case, name: str, *, variance: bool = False) -> Outputs:
    """The predicted x_0 put into the mean with wrong weights; ``variance``: that of the posterior has lost its factor too."""
    of_xt, of_eps = in_eps_form(case, WRONG_WEIGHTS[name][1](case))
    small, large = step(case, "std_tilde"), step(case, "sqrt_beta")
    return _with(case, large if variance else small, large, mean=of_xt * case.xt + of_eps * case.eps)


def _wrong_weights(name: str) -> Mistake:
    return Mistake(name, lambda c: _misweighted(c, name), WRONG_WEIGHTS[name][0])


STEP = Law(
    id="ancestral/step",
    needs="ancestral_step",
    statement=r"x_s = \frac{1}{\sqrt{\alpha_{t|s}}}\left(x_t - \frac{\beta_{t|s}}{\sqrt{\bar\beta_t}}\hat\varepsilon\right)"
    r" + \sigma z,\quad \sigma^2 = \tilde\beta_{t|s}\ \text{or}\ \beta_{t|s},\ 0\ \text{at}\ s = 0",
    source="ho2020, algorithm 2",
    cases=at_step("xt", "eps", "noise", zero_snr=False),
    call=_both,
    expect=_expected,
    mistakes=(
        Mistake(
            "variance_used_as_standard_deviation", lambda c: _with(c, step(c, "beta_tilde"), step(c, "beta")), "E40"
        ),
        Mistake(
            "fixed_small_and_large_exchanged", lambda c: _with(c, step(c, "sqrt_beta"), step(c, "std_tilde")), "E42"
        ),
        Mistake("noise_in_the_last_step", lambda c: _with(c, step(c, "std_tilde"), step(c, "sqrt_beta"), silent=False)),
        Mistake("last_step_known_by_its_level", lambda c: _noisy(c, c.t > 1, _floored(c), step(c, "sqrt_beta"))),
        Mistake("logarithm_used_as_variance", lambda c: _with(c, step(c, "std_tilde"), _root_of_logarithm(c))),
        Mistake(
            "logarithm_used_as_variance_and_last_step_known_by_its_level",
            lambda c: _noisy(c, c.t > 1, _floored(c), _root_of_logarithm(c)),
        ),
        Mistake("noise_forgotten", lambda c: (_mean(c), _mean(c)), "E21"),
        *map(_wrong_weights, WRONG_WEIGHTS),
        Mistake(
            "alpha_bar_of_t_for_that_of_s_in_mean_and_variance",
            lambda c: _misweighted(c, "alpha_bar_of_t_for_that_of_s", variance=True),
        ),
        Mistake(
            "alpha_without_its_index",
            lambda c: _with(c, step(c, "std_tilde") / step(c, "sqrt_beta") * _last(c), _last(c)),
            "E41",
        ),
        Mistake(
            "strided_std_from_the_full_chain",
            lambda c: _with(c, np.sqrt(at(c, "beta_tilde")), at(c, "sqrt_beta")),
            "E52",
        ),
    ),
)


def _last(case: Case) -> Array:
    """The noise of the step to T instead of the step at hand."""
    return np.asarray(case.noise_schedule.sqrt_beta[-1])


LAWS = (STEP,)
