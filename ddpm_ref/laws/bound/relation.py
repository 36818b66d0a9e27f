"""Laws of one prediction told in four ways: of its errors, and of what the weights of the bound make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import DoubleDouble, Expected
from ddpm_ref.laws.bound.weights import FOUR, WEIGHT, snr, weight_of, weight_words
from ddpm_ref.laws.cases import Case, at, at_step, spread_over_data, step
from ddpm_ref.laws.prediction import SOLVED
from ddpm_ref.laws.registry import PAIR_AFFINE, Law, Mistake, Outputs
from ddpm_ref.laws.running import Running, running
from ddpm_ref.typing import Array

FOUR_PREDICTIONS = "q_posterior model_mean_from_eps x0_from_eps eps_from_x0 v_from_x0 v_from_eps"


def _differences(impl: Any, c: Any) -> dict[str, Any]:
    """The error of one prediction of eps, and of what is derived from it."""
    level, to_s = (c.schedule, c.xt, c.t), (c.schedule, c.xt, c.t, c.s)
    return {
        "mean": impl.q_posterior(c.schedule, c.x0, c.xt, c.t, c.s)[0] - impl.model_mean_from_eps(*to_s, c.eps),
        "x0": c.x0 - impl.x0_from_eps(*level, c.eps),
        "eps": impl.eps_from_x0(*level, c.x0) - c.eps,
        "v": impl.v_from_x0(*level, c.x0) - impl.v_from_eps(*level, c.eps),
    }


def _squares(impl: Any, c: Any) -> object:
    return tuple(error * error for error in _differences(impl, c).values())


def _weighed(impl: Any, c: Any) -> object:
    found = []
    for name, error in _differences(impl, c).items():
        weight = getattr(impl, f"loss_weight_{name}")(c.schedule, c.t, c.s, "posterior")
        found.append(weight.reshape(weight.shape + (1,) * (error.ndim - weight.ndim)) * error * error)
    return tuple(found)


def _errors(case: Case) -> dict[str, Running]:
    """The same differences, with what roundings do to either side of them, and storage to both."""
    like, u = case.xt, case.claim.computing.u
    root, signal = case.level("sqrt_beta_bar", like), case.level("sqrt_alpha_bar", like)
    gap = (DoubleDouble.of(case.xt) - signal * case.x0) / root - case.eps
    parts = (("x0_weight", case.x0), ("xt_weight", case.xt), ("recip_sqrt_alpha", case.xt), ("eps_weight", case.eps))
    x0, xt, eps = np.abs(case.x0), np.abs(case.xt), np.abs(case.eps)
    a, b = signal.high, root.high
    terms = {
        "mean": (
            gap * case.step("eps_weight", like),
            PAIR_AFFINE,
            sum(np.abs(case.step(n, like).high * d) for n, d in parts),
        ),
        "x0": (gap * root / signal, SOLVED, (xt + b * eps) / a),
        "eps": (gap, SOLVED, (xt + a * x0) / b),
        "v": (gap / signal, SOLVED, (x0 + a * xt) / b + (eps + b * xt) / a),
    }
    stored = case.stored_between_calls
    return {
        name: Running(value, np.asarray((rounded + stored) * size), u).through(1 + stored)
        for name, (value, rounded, size) in terms.items()
    }


def _squares_expected(case: Case) -> tuple[Expected, ...]:
    stored = case.stored_between_calls
    return tuple(error.square.through(stored).expected() for error in _errors(case).values())


def _weighed_expected(case: Case) -> tuple[Expected, ...]:
    """All four are one number, the divergence of the step where the variance is that of the posterior."""
    stored, like = 2 * case.stored_between_calls, case.xt
    found = []
    for name, error in _errors(case).items():
        words = weight_words(case, "posterior")[name]
        weight = words.reshape(words.shape + (1,) * (like.ndim - len(words.shape)))
        found.append((running(case, weight, WEIGHT) * error.square).through(stored).expected())
    return tuple(found)


def _float_squares(case: Case, **factors: Array) -> dict[str, Array]:
    """In float64, with another factor for the error of eps in some of them."""
    root, signal = at(case, "sqrt_beta_bar"), at(case, "sqrt_alpha_bar")
    gap = (case.xt - signal * case.x0) / root - case.eps
    right = {"mean": step(case, "eps_weight"), "x0": root / signal, "eps": np.ones_like(root), "v": 1 / signal}
    return {name: np.asarray((factor * gap) ** 2) for name, factor in (right | factors).items()}


def _with(**factors: Callable[[Case], Array]) -> Callable[[Case], Outputs]:
    return lambda case: tuple(_float_squares(case, **{name: of(case) for name, of in factors.items()}).values())


def _weighed_by(**weights: Callable[[Case], Array]) -> Callable[[Case], Outputs]:
    def value(case: Case) -> Outputs:
        squares = _float_squares(case)
        right = {name: spread_over_data(case, _flat(case, name)) for name in FOUR}
        return tuple((weights[name](case) if name in weights else right[name]) * squares[name] for name in FOUR)

    return value


def _flat(case: Case, name: str) -> Array:
    return weight_of(Case(case.claim, case.schedule, {"t": case.t, "s": case.s}), "posterior", name)


ERRORS = Law(
    id="bound/errors_of_one_prediction",
    needs=FOUR_PREDICTIONS,
    statement=r"(x_0-\hat x_0)^2 = \frac{(\varepsilon-\hat\varepsilon)^2}{\mathrm{SNR}_t},\quad"
    r"(v-\hat v)^2 = \frac{(\varepsilon-\hat\varepsilon)^2}{\bar\alpha_t},\quad"
    r"(\tilde\mu-\mu_\theta)^2 = \frac{\beta_{t|s}^2(\varepsilon-\hat\varepsilon)^2}{\alpha_{t|s}\bar\beta_t}",
    source="ho2020, section 3.2; salimans2022; kingma2021",
    cases=at_step("x0", "xt", "eps", lowest_s=1, zero_snr=False),
    call=_squares,
    expect=_squares_expected,
    mistakes=(
        Mistake("errors_taken_for_equal", _with(x0=lambda c: np.ones_like(snr(c)))),
        Mistake("ratio_turned_round", _with(x0=lambda c: np.sqrt(snr(c)))),
        Mistake("root_forgotten", _with(x0=lambda c: 1 / snr(c))),
        Mistake("coefficient_not_squared", _with(mean=lambda c: np.sqrt(step(c, "eps_weight"))), "E29"),
        Mistake("signal_of_v_forgotten", _with(v=lambda c: np.ones_like(snr(c)))),
    ),
    kind="metamorphic",
)

RELATION = Law(
    id="bound/weight_relation",
    needs=FOUR_PREDICTIONS + " " + " ".join(f"loss_weight_{name}" for name in FOUR),
    statement=r"\frac{(\tilde\mu-\mu_\theta)^2}{2\tilde\beta} = w^x(x_0-\hat x_0)^2"
    r" = w^\varepsilon(\varepsilon-\hat\varepsilon)^2 = w^v(v-\hat v)^2",
    source="ho2020, eq. (8) and (12); kingma2021; salimans2022",
    cases=ERRORS.cases,
    call=_weighed,
    expect=_weighed_expected,
    mistakes=(
        Mistake(
            "coefficient_not_squared",
            _weighed_by(eps=lambda c: step(c, "eps_weight") / 2 / step(c, "beta_tilde")),
            "E29",
        ),
        Mistake("weights_left_away", _weighed_by(eps=lambda c: np.ones_like(snr(c))), "E30"),
        Mistake("one_weight_for_all", _weighed_by(x0=lambda c: spread_over_data(c, _flat(c, "eps")))),
        Mistake("x0_predicted_for_nothing", _weighed_by(x0=lambda c: 0 * snr(c)), "E32"),
        Mistake("signal_of_v_forgotten", _weighed_by(v=lambda c: spread_over_data(c, _flat(c, "eps")))),
    ),
    kind="metamorphic",
)

LAWS = (ERRORS, RELATION)
