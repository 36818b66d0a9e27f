"""Laws of a classifier's gradient with respect to its input: by the closed form of the softmax, and by differentiation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.arithmetic.double_double import exp
from ddpm_ref.laws.cases import Case, Source, draw_tensor
from ddpm_ref.laws.guidance import SOFTMAX
from ddpm_ref.laws.registry import Law, Mistake, Outputs
from ddpm_ref.typing import Array

CLOSED_FORM = replace(
    SOFTMAX,
    id="guidance/log_softmax_gradient_in_closed_form",
    needs="closed_log_softmax_gradient",
    call=lambda impl, c: impl.closed_log_softmax_gradient(c.logits, c.jacobian, c.label),
)

# --- a classifier that is differentiated ------------------------------------------------------------------------------


def _cases(source: Source, claim: Claim) -> Case:
    """Logits z_k + g_k x_k of an input that has one number for each class."""
    batch, classes = (64, 10) if source.bulk else (source.integer(1, 4), source.integer(2, 5))
    label = np.array([source.integer(0, classes - 1) for _ in range(batch)], dtype=np.int64)
    tensors = {name: draw_tensor(source, (batch, classes), claim) for name in ("logits", "slopes")}
    return Case(claim, None, {**tensors, "label": label})


def _asked(impl: Any, c: Any) -> object:
    def classifier(x: Any, time: Any) -> Any:
        return c.logits + c.slopes * x

    return impl.classifier_gradient(classifier, 0 * c.logits, c.label, c.label)


def _chosen(case: Case) -> Array:
    return np.asarray(np.arange(case.logits.shape[1]) == case.label[:, None], dtype=np.float64)


def _expected(case: Case) -> tuple[Expected, ...]:
    classes = case.logits.shape[1]
    above = exp(DoubleDouble.of(case.logits) - case.logits.max(axis=1, keepdims=True))
    shares = above / above.sum(1).reshape((len(case.logits), 1))
    value = (DoubleDouble.of(_chosen(case)) - shares) * case.slopes
    # As for the closed form; and the gradient of the logits, and its product with the slopes, are stored on the way back
    # through a classifier that works in the storage format.
    reach, roundings = 1 + 2 * np.abs(case.logits).max(axis=1, keepdims=True), classes + 8
    size = np.abs(case.slopes) * (_chosen(case) + shares.high) * reach
    return (Expected(value, size + np.abs(value.high) * 2 * case.stored_between_calls / roundings, roundings),)


def _gradient(case: Case, logits: Array, chosen: Array | None = None) -> Array:
    above = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = above / above.sum(axis=1, keepdims=True)
    return np.asarray(((_chosen(case) if chosen is None else chosen) - shares) * case.slopes)


def _with(change: Callable[[Case], Array]) -> Callable[[Case], Outputs]:
    return lambda case: (change(case),)


def _log_softmax_stored(case: Case) -> Array:
    """The logarithm rounded to the storage format before it is differentiated."""
    above = case.logits - case.logits.max(axis=1, keepdims=True)
    stored = case.claim.storing.round(above - np.log(np.exp(above).sum(axis=1, keepdims=True)))
    return np.asarray((_chosen(case) - np.exp(stored)) * case.slopes)


DIFFERENTIATED = Law(
    id="guidance/classifier_gradient",
    needs="classifier_gradient",
    statement=r"\nabla_x\log\mathrm{softmax}(z + g\odot x)_y = g\odot(e_y - p)\quad\text{at } x = 0",
    source="dhariwal2021, section 4",
    cases=_cases,
    call=_asked,
    expect=_expected,
    mistakes=(
        Mistake("logit_without_normalisation", _with(lambda c: _chosen(c) * c.slopes)),
        Mistake("gradient_of_the_loss", _with(lambda c: -_gradient(c, c.logits)), "E69"),
        Mistake("mean_over_the_batch", _with(lambda c: _gradient(c, c.logits) / len(c.label))),
        Mistake(
            "most_probable_class",
            _with(lambda c: _gradient(c, c.logits, 1.0 * (c.logits == c.logits.max(1, keepdims=True)))),
        ),
        Mistake("logarithm_in_half_precision", _with(_log_softmax_stored), claims=("bf16", "fp16"), rounding=True),
    ),
    kind="reduction",
)

LAWS = (CLOSED_FORM, DIFFERENTIATED)
