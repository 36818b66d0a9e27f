"""Whatever an implementation does, it is one clear line of the report, and the other laws are still tried."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance import NumpyAdapter, Report, TorchAdapter, check
from ddpm_ref.errors import AdapterError, ClaimError

LAWS = ["forward/q_sample", "schedule/alpha_bar"]


class Good(NumpyAdapter):
    """Right in both laws; what it does besides is up to its children."""

    name = "somebody"

    def schedule(self, betas: np.ndarray) -> np.ndarray:
        return np.concatenate([[1.0], np.cumprod(1 - betas)])

    def alpha_bar(self, a: np.ndarray) -> np.ndarray:
        return a

    def q_sample(self, a: np.ndarray, x0: np.ndarray, t: Any, noise: np.ndarray) -> Any:
        from ddpm_ref.reference.forward import q_sample
        from ddpm_ref.reference.schedule import NoiseSchedule

        return q_sample(NoiseSchedule.from_alpha_bars(a[1:]), x0, t, noise)


class Raises(Good):
    def q_sample(self, *_: Any) -> Any:
        raise ZeroDivisionError("by design")


class Hangs(Good):
    def q_sample(self, *_: Any) -> Any:
        time.sleep(60)


class WrongType(Good):
    def q_sample(self, *_: Any) -> Any:
        return {"sample": 1}


class WrongShape(Good):
    def q_sample(self, a: Any, x0: np.ndarray, *_: Any) -> Any:
        return np.zeros((3, *x0.shape))


class WrongNumber(Good):
    def q_sample(self, a: Any, x0: np.ndarray, *_: Any) -> Any:
        return x0, x0


class Nan(Good):
    def q_sample(self, a: Any, x0: np.ndarray, *_: Any) -> Any:
        return np.full_like(x0, np.nan)


class WritesIntoItsInputs(Good):
    def q_sample(self, a: Any, x0: np.ndarray, *_: Any) -> Any:
        x0 += 1.0
        return x0


class Dices(Good):
    def q_sample(self, a: Any, x0: np.ndarray, t: Any, noise: np.ndarray) -> Any:
        return x0 + np.random.default_rng().standard_normal(x0.shape)


class BeginsWithLevel1(Good):
    """Its tables are those of a 0-based library."""

    def alpha_bar(self, a: np.ndarray) -> np.ndarray:
        return a[1:]


class HasNoSchedule(Good):
    def schedule(self, betas: np.ndarray) -> Any:
        raise AttributeError("linear_start")


def held(report: Report) -> dict[str, str]:
    return {f.law.id: f.verdict for f in report.findings}


@pytest.mark.parametrize(
    ("adapter", "kind", "words"),
    [
        (Raises, "raised", "raised ZeroDivisionError: by design (test_conduct.py:"),
        (Hangs, "conduct", "gave no answer within 0.5 s"),
        (WrongType, "raised", "somebody returned builtins.dict, not an array of real numbers"),
        (WrongShape, "form", "law has"),
        (WrongNumber, "form", "2 outputs, law has 1"),
        (Nan, "not finite", "got nan"),
        (WritesIntoItsInputs, "conduct", "writes into its argument x0; work on a copy"),
        (Dices, "conduct", "answers the same question in two ways"),
    ],
)
def test_one_law_is_broken_and_the_others_are_tried(adapter: type, kind: str, words: str) -> None:
    start = time.perf_counter()
    report = check(adapter(), LAWS, max_examples=3, time_limit=0.5 if adapter is Hangs else 30)
    assert held(report) == {"schedule/alpha_bar": "holds", "forward/q_sample": "VIOLATED"}
    (finding,) = report.violations
    assert finding.violation is not None
    assert finding.violation.kind == kind
    assert words in str(report)
    assert not report.ok
    assert time.perf_counter() - start < 30


def test_a_misstated_first_level_is_named() -> None:
    report = check(BeginsWithLevel1(), "schedule/alpha_bar", max_examples=2)
    assert "tables begin with level 0, clean data (prepend it)" in str(report)


def test_inputs_that_were_written_into_are_put_right_again() -> None:
    """Otherwise the next law, or the shrinking of this case, would be tried on damaged data."""
    from ddpm_ref.conformance.conduct import Misconduct
    from ddpm_ref.conformance.judge import Court
    from ddpm_ref.laws import REGISTRY, NumpySource

    law = REGISTRY["forward/q_sample"]
    case = law.cases(NumpySource(np.random.default_rng(1), bulk=True), Claim("fp64"))
    before = case.x0.copy()
    with pytest.raises(Misconduct, match="x0"):
        Court(WritesIntoItsInputs()).judge(law, case)
    np.testing.assert_array_equal(case.x0, before)


def test_one_cause_is_said_once() -> None:
    report = check(HasNoSchedule(), LAWS, max_examples=3)
    (cause,) = report.causes
    assert set(cause.laws) == set(LAWS)
    assert str(report).count("raised AttributeError: linear_start") == 1


class Widens(TorchAdapter):
    """Answers bfloat16 data in float64."""

    name = "widens"
    claims = (Claim("bf16", "fp32"),)

    def schedule(self, betas: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([[1.0], np.cumprod(1 - betas)]))

    def q_sample(self, a: torch.Tensor, x0: torch.Tensor, t: Any, noise: torch.Tensor) -> torch.Tensor:
        a = a[t].reshape((-1,) + (1,) * (x0.ndim - 1)) if torch.is_tensor(t) else a[t]
        return a.sqrt() * x0.double() + (1 - a).sqrt() * noise.double()


class ReturnsNumpy(Widens):
    name = "returns numpy"

    def q_sample(self, a: torch.Tensor, x0: torch.Tensor, t: Any, noise: torch.Tensor) -> Any:
        return x0.float().numpy()


def test_a_result_in_a_format_that_was_not_claimed() -> None:
    report = check(Widens(), "forward/q_sample", max_examples=3)
    assert "returns fp64 for bf16 data, where bf16/fp32 is claimed" in str(report)


def test_an_array_of_another_library() -> None:
    report = check(ReturnsNumpy(), "forward/q_sample", max_examples=3)
    assert "returned numpy.ndarray of float32, not a real torch.Tensor" in str(report)


def test_wrong_usage_is_an_error() -> None:
    with pytest.raises(ClaimError, match="time_limit"):
        check(Good(), time_limit=0)
    with pytest.raises(ClaimError, match="max_examples"):
        check(Good(), max_examples=0)
    with pytest.raises(AdapterError, match="NumPy has no bf16"):
        check(Good(), claims=[Claim("bf16", "fp32")])
    with pytest.raises(ClaimError, match="has no reason"):
        check(Good(), expected_failures={"forward/q_sample": " "})
    with pytest.raises(ClaimError, match="no law matches"):
        check(Good(), expected_failures={"forward/nothing": "why"})
