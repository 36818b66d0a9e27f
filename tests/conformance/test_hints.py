"""What an author may have overlooked is said beside what went wrong; what says nothing is left out of the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance import NumpyAdapter, ReferenceAdapter, Report, TorchAdapter, TorchMirror, Violation, check
from ddpm_ref.conformance.hints import AXES, FROM_ONE, PER_ROW, near_misses

LAW = "forward/q_sample"


class Own(NumpyAdapter):
    """A scheduler with tables from t = 1 on, in ``dtype``, and what it does with them."""

    dtype: Any = np.float64

    def schedule(self, betas: np.ndarray) -> np.ndarray:
        return np.cumprod(1 - betas.astype(self.dtype), dtype=self.dtype)

    def q_sample(self, a: np.ndarray, x0: np.ndarray, t: Any, noise: np.ndarray) -> Any:
        return np.sqrt(a[t - 1]) * x0 + np.sqrt(1 - a[t - 1]) * noise


class PerRow(Own):
    def q_sample(self, a: np.ndarray, x0: np.ndarray, t: Any, noise: np.ndarray) -> Any:
        shape = np.shape(t) + (1,) * (x0.ndim - np.ndim(t))
        return self.asked(a[self.index(t)].reshape(shape), x0, noise)

    def index(self, t: Any) -> Any:
        return t - 1

    def asked(self, a: np.ndarray, x0: np.ndarray, noise: np.ndarray) -> Any:
        return np.sqrt(a) * x0 + np.sqrt(1 - a) * noise


class CountsFromZero(PerRow):
    def index(self, t: Any) -> Any:
        return t


class WantsImages(PerRow):
    def asked(self, a: np.ndarray, x0: np.ndarray, noise: np.ndarray) -> Any:
        return x0[..., None, None] * 1.0


class ThreeArguments(Own):
    def q_sample(self, a: Any, x0: Any, noise: Any) -> Any:  # type: ignore[override]
        return x0


class AnswersInFloat32(PerRow):
    def asked(self, a: np.ndarray, x0: np.ndarray, noise: np.ndarray) -> Any:
        return super().asked(a, x0, noise).astype(np.float32)


class TablesInFloat32(PerRow):
    dtype = np.float32


class Tripled(PerRow):
    def asked(self, a: np.ndarray, x0: np.ndarray, noise: np.ndarray) -> Any:
        return 3 * x0


class TripledInFloat32(Tripled):
    claims = (Claim("fp32"),)


def violation(report: Report) -> Violation:
    (finding,) = report.findings
    assert finding.violation is not None
    return finding.violation


@pytest.mark.parametrize(
    ("adapter", "kind", "hint"),
    [
        (Own, "raised", f"{PER_ROW}; {AXES}"),
        (CountsFromZero, "raised", FROM_ONE),
        (WantsImages, "form", AXES),
        (ThreeArguments, "raised", f"ddpm-ref show {LAW} says which arguments a method is asked with"),
        (
            AnswersInFloat32,
            "conduct",
            'the answer is fp32, the claim is fp64/fp64; where that is meant, set claims = (Claim("fp32"),)',
        ),
        (
            TablesInFloat32,
            "rounding",
            "the answer keeps what float32 keeps (tables or a step in float32?), the claim is fp64/fp64; where that is "
            'meant, set claims = (Claim("fp32"),)',
        ),
        (Tripled, "logic", ""),
        (
            TripledInFloat32,
            "logic",
            "under fp32/fp32 alone lost digits may look like a wrong formula; if the code runs in float64 too, set "
            'claims = (Claim("fp64"), Claim("fp32"))',
        ),
    ],
)
def test_a_hint_is_beside_what_went_wrong(adapter: type, kind: str, hint: str) -> None:
    report = check(adapter(), LAW, 5)
    found = violation(report)
    assert (found.kind, found.hint) == (kind, hint)
    for text in (str(report), report.as_markdown(), report.as_html().replace("&quot;", '"')):
        assert hint in text
    if hint:
        with pytest.raises(AssertionError, match="  hint    "):
            report.raise_for_violation()


def test_float32_tables_lose_digits_and_the_mistake_in_them_is_named() -> None:
    found = violation(check(TablesInFloat32(), LAW, 5))
    assert [mistake.name for mistake in found.mistakes] == ["one_minus_rounded_product"]
    assert found.summary.endswith("of 53 bits")


class FewLevels(Own):
    """Right for neighbouring levels and the posterior variance."""

    def posterior_variance(self, a: np.ndarray, t: Any, s: Any) -> Any:
        before = np.append(1.0, a)
        return (1 - before[t] / before[t - 1]) * (1 - before[t - 1]) / (1 - before[t])


def test_a_step_that_knows_neighbours_only_is_told_what_to_do() -> None:
    found = violation(check(FewLevels(), "posterior/variance", 10))
    assert found.kind == "logic"
    assert "answer NotImplemented for what is not served, or see ddpm_ref.conformance.neighbours" in found.hint


def test_cases_that_left_no_numbers_are_small() -> None:
    for adapter in (Own, WantsImages, ThreeArguments):
        report = check(adapter(), LAW, 5)
        assert "array(64" not in violation(report).case
        assert "  VIOLATED" in str(report)
    assert report.findings[0].worst == {}
    assert " 0.000 " not in str(report)


class Misspelt(NumpyAdapter):
    def schedule(self, betas: np.ndarray) -> np.ndarray:
        return betas

    def qsample(self, *_: Any) -> Any:
        return None

    def forward_steps(self, *_: Any) -> Any:
        return None

    def helper(self) -> None:
        """Nobody's business."""


def test_near_misses_of_names_are_warnings() -> None:
    report = check(Misspelt(), "forward/*", 1)
    assert report.warnings == [
        "Misspelt.forward_steps is asked by no law; is forward_step meant?",
        "Misspelt.qsample is asked by no law; is q_sample meant?",
    ]
    for text in (str(report), report.as_markdown(), report.as_html()):
        assert "is q_sample meant?" in text
    assert report.as_json()["warnings"] == report.warnings


def test_no_shipped_adapter_has_a_near_miss() -> None:
    from ddpm_ref.conformance.diffusers_adapter import DiffusersDDIM, DiffusersDDPM

    for adapter in (ReferenceAdapter(), TorchMirror(), DiffusersDDPM(), DiffusersDDIM()):
        assert near_misses(adapter) == []


def test_laws_that_do_not_apply_are_one_line() -> None:
    report = check(PerRow(), "*", 1)
    lines = str(report).splitlines()
    (omitted,) = [line for line in lines if "laws are not applicable" in line]
    assert "the adapter has no alpha_bar, beta_bar, " in omitted
    assert omitted.endswith("more; ddpm-ref laws says what each needs")
    assert sum("not applicable" in line for line in lines) == 2  # this one and the headline
    page = report.as_markdown()
    assert page.count("| not applicable") == 0
    assert "terminal_kl" in page  # there all that is missing is named


class Warns(PerRow):
    def asked(self, a: np.ndarray, x0: np.ndarray, noise: np.ndarray) -> Any:
        return np.sqrt(a - 2) * x0 / np.zeros(())


def test_what_numpy_says_of_a_nan_is_kept_out_of_the_table() -> None:
    assert violation(check(Warns(), LAW, 3)).kind == "not finite"  # a warning would be an error here


class Widens(TorchAdapter):
    claims = (Claim("bf16", "fp32"),)

    def schedule(self, betas: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.append(1.0, np.cumprod(1 - betas)))

    def q_sample(self, a: torch.Tensor, x0: torch.Tensor, t: Any, noise: torch.Tensor) -> torch.Tensor:
        return x0.double() * 3


def test_a_wrong_number_in_a_wrong_format_is_wrong() -> None:
    found = violation(check(Widens(), LAW, 3))
    assert found.kind == "logic"
    assert found.hint.startswith("the answer is fp64, the claim is bf16/fp32")
