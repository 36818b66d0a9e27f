"""Holding implementations against the laws: right ones pass, broken ones are named, nothing a foreign code does escapes."""

from __future__ import annotations

import json
import types
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance import (
    Adapter,
    Finding,
    NumpyAdapter,
    ReferenceAdapter,
    Report,
    TorchAdapter,
    TorchMirror,
    check,
    load,
)
from ddpm_ref.errors import AdapterError, ClaimError, LawViolation

FEW = 10


def only(report: Report) -> Finding:
    """The one finding of a report about one law."""
    assert len(report.findings) == 1
    return report.findings[0]


def mistakes(report: Report) -> set[str]:
    """The names of all mistakes that a report names."""
    return {m.name for f in report.violations if f.violation for m in f.violation.mistakes}


def test_the_reference_keeps_every_law_and_lacks_no_capability() -> None:
    report = check(ReferenceAdapter(), max_examples=2)
    assert report.ok, str(report)
    assert all(f.applicable for f in report.findings)


@pytest.mark.full  # in short: the sharpness of its bounds, and the quick tests of each law
def test_the_mirror_keeps_every_law_under_every_claim() -> None:
    report = check(TorchMirror(), max_examples=2)
    assert report.ok, str(report)
    assert all(f.applicable for f in report.findings)
    assert {c for f in report.findings for c in f.worst} == {"fp32/fp32", "fp64/fp64", "bf16/fp32"}


class VarianceAsStd(TorchMirror):
    """The noise is multiplied by a variance."""

    def q_sample(self, tables: Any, x0: Any, t: Any, noise: Any) -> Any:
        shape = (-1,) + (1,) * (x0.ndim - 1) if torch.is_tensor(t) else ()
        a, v = (table[t].to(torch.float32).reshape(shape) for table in (tables.sqrt_alpha_bar, tables.beta_bar))
        return (a * x0.float() + v * noise.float()).to(x0.dtype)


class ShiftedByOne(TorchMirror):
    """Level t reads row t - 1."""

    def q_sample(self, tables: Any, x0: Any, t: Any, noise: Any) -> Any:
        from ddpm_ref.torch.forward import q_sample

        return q_sample(tables, x0, t.sub(1).clamp(min=0) if torch.is_tensor(t) else max(t - 1, 0), noise)


class LogVariance(TorchMirror):
    """The logarithm of a variance comes where the variance should."""

    def reverse_variance(self, tables: Any, t: Any, s: Any, kind: str) -> Any:
        from ddpm_ref.torch.reverse import reverse_variance

        return reverse_variance(tables, t, s, kind).log()


class CastBeforeComplement(TorchAdapter):
    """alpha_bar goes to bfloat16 first, as in the leading library: no noise at the first levels."""

    name = "casts first"
    claims = (Claim("bf16", "fp32"),)

    def schedule(self, betas: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([[1.0], np.cumprod(1 - betas)]))

    def q_sample(self, alpha_bar: torch.Tensor, x0: torch.Tensor, t: Any, noise: torch.Tensor) -> torch.Tensor:
        a = alpha_bar[t].to(torch.bfloat16)
        a = a.reshape((-1,) + (1,) * (x0.ndim - 1)) if torch.is_tensor(t) else a
        return (a.float().sqrt() * x0.float() + (1 - a).float().sqrt() * noise.float()).to(torch.bfloat16)


class StepForMarginal(NumpyAdapter):
    """The alpha and beta of a single step, where the cumulative ones belong."""

    def schedule(self, betas: np.ndarray) -> Any:
        from ddpm_ref.reference.schedule import NoiseSchedule

        return NoiseSchedule.from_betas(betas)

    def q_sample(self, own: Any, x0: np.ndarray, t: Any, noise: np.ndarray) -> np.ndarray:
        a, b = (self.wide(table[t], x0) for table in (own.sqrt_alpha, own.sqrt_beta))
        return a * x0 + b * noise

    @staticmethod
    def wide(weight: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.reshape(weight, np.shape(weight) + (1,) * (x.ndim - np.ndim(weight)))


class RootMissing(StepForMarginal):
    """alpha_bar_s in the weight of x0."""

    def weights(self, own: Any, t: Any, s: Any) -> tuple[np.ndarray, np.ndarray]:
        step = own.between(t, s)
        return own.alpha_bar[s] * step.beta / own.beta_bar[t], step.xt_weight

    def q_posterior(self, own: Any, x0: np.ndarray, xt: np.ndarray, t: Any, s: Any) -> Any:
        of_x0, of_xt = (self.wide(weight, x0) for weight in self.weights(own, t, s))
        return of_x0 * x0 + of_xt * xt, of_x0


class SameAlphaBar(RootMissing):
    """``alpha_bar_prev`` is ``alpha_bar``."""

    def weights(self, own: Any, t: Any, s: Any) -> tuple[np.ndarray, np.ndarray]:
        step = own.between(t, s)
        return own.sqrt_alpha_bar[t] * step.beta / own.beta_bar[t], step.sqrt_alpha


@pytest.mark.parametrize(
    ("broken", "law", "name", "grave"),
    [
        (VarianceAsStd, "forward/q_sample", "variance_used_as_standard_deviation", "WRONG"),
        (ShiftedByOne, "forward/q_sample", "shifted_by_one", "WRONG"),
        (LogVariance, "reverse/variance", "log_variance_returned_as_variance", "WRONG"),
        (CastBeforeComplement, "forward/q_sample", "complement_after_cast_to_storage", "LOST DIGITS"),
        (StepForMarginal, "forward/q_sample", "step_instead_of_marginal", "WRONG"),
        (RootMissing, "posterior/mean", "root_missing_in_the_weight_of_x0", "WRONG"),
        (SameAlphaBar, "posterior/mean", "alpha_bar_of_t_for_that_of_s", "WRONG"),
    ],
)
def test_a_broken_implementation_is_rejected_and_its_mistake_named(
    broken: type, law: str, name: str, grave: str
) -> None:
    report = check(broken(), law, max_examples=FEW)
    finding = only(report)
    assert finding.verdict == "VIOLATED"
    assert mistakes(report) == {name}
    assert finding.violation is not None
    assert finding.violation.error_over_bound > 1
    assert f"{grave}: {name.replace('_', ' ')}" in str(report)
    assert (finding.violation.kind == "rounding") == (grave == "LOST DIGITS")
    with pytest.raises(LawViolation, match=law):
        report.raise_for_violation()


def test_a_right_implementation_raises_nothing() -> None:
    check(ReferenceAdapter(), "forward/q_sample", max_examples=FEW).raise_for_violation()


class Naive(NumpyAdapter):
    """Fifteen lines of somebody's own scheduler, with the cancellation everybody has."""

    name = "naive"
    claims = (Claim("fp64"),)

    def schedule(self, betas: np.ndarray) -> np.ndarray:
        return np.concatenate([[1.0], np.cumprod(1 - betas)])

    def alpha_bar(self, alpha_bar: np.ndarray) -> np.ndarray:
        return alpha_bar

    def beta_bar(self, alpha_bar: np.ndarray) -> np.ndarray:
        return 1 - alpha_bar

    def q_sample(self, alpha_bar: np.ndarray, x0: np.ndarray, t: Any, noise: np.ndarray) -> np.ndarray:
        a = alpha_bar[t].reshape(np.shape(t) + (1,) * (x0.ndim - np.ndim(t)))
        return np.sqrt(a) * x0 + np.sqrt(1 - a) * noise


def test_float64_is_not_exact_and_the_kit_says_why() -> None:
    report = check(Naive(), max_examples=FEW)
    verdicts = {f.law.id: f.verdict for f in report.findings}
    assert verdicts["schedule/alpha_bar"] == "holds"
    assert verdicts["schedule/beta_bar"] == "VIOLATED"
    assert "one_minus_rounded_product" in mistakes(report)
    assert verdicts["posterior/mean"] == "not applicable"
    assert not report.ok


class Unruly(NumpyAdapter):
    """Answers in ways no array library should."""

    name = "unruly"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def schedule(self, betas: np.ndarray) -> np.ndarray:
        return betas

    def q_sample(self, schedule: Any, x0: np.ndarray, t: Any, noise: np.ndarray) -> Any:
        return self.answer(x0)


def _raise(_: Any) -> Any:
    raise ZeroDivisionError("by design")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_raise, "ZeroDivisionError: by design"),
        (lambda x: np.full(x.shape, np.nan), "WRONG: not finite"),
        (lambda x: np.full(x.shape, np.nan), "got nan"),
        (lambda x: np.zeros((7, 7, 7)), "shape (7, 7, 7), law has"),
        (lambda x: (x, x), "2 outputs, law has 1"),
        (lambda x: "words", "returned builtins.str, not an array of real numbers"),
    ],
)
def test_an_unruly_implementation_is_a_verdict_not_a_crash(answer: Any, words: str) -> None:
    report = check(Unruly(answer), ["forward/q_sample", "forward/step"], max_examples=FEW)
    assert [f.verdict for f in report.findings] == ["not applicable", "VIOLATED"]
    assert words in str(report)


class Fickle(NumpyAdapter):
    """Wrong every other time, and unable to answer for two levels."""

    name = "fickle"

    def __init__(self) -> None:
        self.calls = 0

    def schedule(self, betas: np.ndarray) -> np.ndarray:
        if len(betas) == 2:
            raise ZeroDivisionError("not for two levels")
        return np.concatenate([[1.0], np.cumprod(1 - betas)])

    def q_sample(self, alpha_bar: Any, x0: np.ndarray, t: Any, noise: np.ndarray) -> np.ndarray:
        self.calls += 1
        return x0 + self.calls % 2


def test_answers_that_change_or_fail_now_and_then_are_a_verdict() -> None:
    finding = only(check(Fickle(), "forward/q_sample", max_examples=FEW))
    assert finding.verdict == "VIOLATED"


def test_the_report_names_the_device() -> None:
    assert "device cpu" in str(check(TorchMirror("cpu"), "forward/step", max_examples=1))
    with pytest.raises(AdapterError, match="device 'nonsense' cannot be used here"):
        TorchMirror("nonsense")


def test_an_implementation_that_answers_nothing_is_not_ok() -> None:
    report = check(Unruly(_raise), "divergence/*", max_examples=FEW)
    assert not report.ok
    assert "0 of 0 laws" in report.headline()


def test_patterns_choose_laws_and_unknown_ones_are_refused() -> None:
    assert {
        f.law.subject for f in check(ReferenceAdapter(), "posterior/m*,divergence/kl_normal", max_examples=2).findings
    } == {
        "posterior",
        "divergence",
    }
    with pytest.raises(ClaimError, match="no law matches 'nope/"):
        check(ReferenceAdapter(), "nope/*")


def test_cases_are_the_same_every_time_and_others_with_a_seed() -> None:
    def worst(seed: int | None) -> float:
        return only(check(ReferenceAdapter(), "forward/q_sample", max_examples=FEW, seed=seed)).worst["fp64/fp64"]

    assert worst(None) == worst(None)
    assert worst(1) == worst(1) != worst(2)


def test_a_report_is_plain_data_too() -> None:
    report = check(VarianceAsStd(), "forward/q_sample", max_examples=FEW)
    data = json.loads(json.dumps(report.as_json()))
    assert data["ok"] is False
    (violation,) = data["laws"][0]["violations"]
    assert [mistake["name"] for mistake in violation["agrees_with"]] == ["variance_used_as_standard_deviation"]
    assert {"ddpm_ref", "python", "numpy"} <= set(data["versions"])


def test_adapters_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("somebodys_adapters")
    module.mine, module.Mine, module.make, module.wrong = Naive(), Naive, lambda: Naive(), 3  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "somebodys_adapters", module)
    for name in ("mine", "Mine", "make"):
        adapter = load(f"somebodys_adapters:{name}")
        assert isinstance(adapter, Adapter)
        assert adapter.name == "naive"
    for path, words in {
        "nocolon": "package.module:attribute",
        "no.such.module:x": "cannot be imported",
        "somebodys_adapters:nothing": "has no 'nothing'",
        "somebodys_adapters:wrong": "lacks one of name, claims",
    }.items():
        with pytest.raises(AdapterError, match=words):
            load(path)


def test_numpy_has_no_bfloat16() -> None:
    with pytest.raises(AdapterError, match="NumPy has no bf16"):
        Naive().array(np.zeros(2), Claim("bf16", "fp32"))
    with pytest.raises(AdapterError, match="NumPy has no bf16"):  # wrong usage, not a verdict about the code
        check(Naive(), "forward/q_sample", max_examples=1, claims=[Claim("bf16", "fp32")])
