"""The machinery of derivations: what is false cannot be written, what is not defined is not answered."""

from __future__ import annotations

import subprocess
import sys

import mpmath
import numpy as np
import pytest
import sympy as sp

from ddpm_ref.cli import main
from ddpm_ref.errors import LevelError, ProofError, RangeError, ScheduleError
from ddpm_ref.symbolic import DERIVATIONS, SUBJECTS, ExactSchedule, Proof, derive
from ddpm_ref.symbolic.identity import refuted_at, vanishes
from ddpm_ref.symbolic.symbols import alpha, alpha_bar_s, alpha_bar_t, beta, beta_bar_s, beta_bar_t, latex, letter, xt

a, b = sp.symbols("a b", positive=True)
x = sp.Symbol("x", real=True)
below = sp.Symbol("below", negative=True)
i, n = sp.symbols("i n", integer=True, positive=True)
whole = sp.Symbol("whole", integer=True)
entries, f = sp.IndexedBase("B", real=True), sp.Function("f")

TRUE = [
    sp.sqrt(a) * sp.sqrt(b) - sp.sqrt(a * b),
    1 / (1 + sp.sqrt(a)) - (1 - sp.sqrt(a)) / (1 - a),
    sp.sqrt(1 / a - 1) * sp.sqrt(a) - sp.sqrt(1 - a),
    1 / (sp.sqrt(1 - a) + sp.sqrt(b)) - (sp.sqrt(1 - a) - sp.sqrt(b)) / (1 - a - b),
    a ** sp.Rational(3, 2) / sp.sqrt(a) - a,
    sp.log(a * b) - sp.log(a) - sp.log(b),
    sp.exp(a + b) - sp.exp(a) * sp.exp(b),
    sp.Sum(i, (i, 1, n)).doit() - n * (n + 1) / 2,
    sp.log((1 - alpha) ** 2) - 2 * sp.log(1 - alpha),  # a level letter lies below 1
    sp.log(a**2) - 2 * sp.log(a),
    sp.sqrt(below**2) + below,
]
FALSE = [
    sp.sqrt(a) - a,
    sp.sqrt(1 - a) - (1 - a),
    sp.sqrt(a + b) - sp.sqrt(a) - sp.sqrt(b),
    sp.log(a + b) - sp.log(a) * sp.log(b),
    x**2 - x,
    n * (n + 1) / 2 - n**2 / 2,
    sp.Integer(1),
    # what holds for one sign alone
    sp.sqrt(whole**2) - whole,
    sp.sqrt(entries[n] ** 2) - entries[n],
    sp.log((1 - a) ** 2) - 2 * sp.log(1 - a),
    sp.log(whole**2) - 2 * sp.log(whole),
    sp.log(f(x) * f(a)) - sp.log(f(x)) - sp.log(f(a)),
    sp.sqrt((1 - a) ** 2) - (1 - a),
    sp.sqrt((1 - a) * (1 - b)) - sp.sqrt(1 - a) * sp.sqrt(1 - b),
    sp.log((1 - a) * (1 - b)) - sp.log(1 - a) - sp.log(1 - b),
    sp.sqrt(x**2) - x,
    sp.sqrt(f(x) ** 2) - f(x),
    sp.sqrt(below**2) - below,
    sp.Sum(sp.sqrt(entries[i] ** 2), (i, 1, 3)) - sp.Sum(entries[i], (i, 1, 3)),
    entries[n] - entries[n + 1],
]


@pytest.mark.parametrize("expression", TRUE, ids=str)
def test_identities_are_decided(expression: sp.Expr) -> None:
    assert vanishes(expression)


@pytest.mark.parametrize("expression", FALSE, ids=str)
def test_what_is_no_identity_is_not_taken_for_one(expression: sp.Expr) -> None:
    assert not vanishes(expression)


def test_a_refutation_names_a_point_where_the_sides_differ() -> None:
    difference = sp.sqrt(a) - a
    point = refuted_at(difference)
    assert point is not None
    assert difference.subs(point) != 0
    assert refuted_at(sp.Integer(0) * a) is None


def test_a_false_step_cannot_be_written() -> None:
    proof = Proof("example")
    with pytest.raises(ProofError, match=r"example: 'squares' claims .* it is false, e\.g\. at"):
        proof.equal("squares", (a + b) ** 2, a**2 + b**2)
    with pytest.raises(ProofError, match="comes out as"):
        proof.holds("order", sp.Lt(a, a - 1))
    with pytest.raises(ProofError, match="it is false"):
        proof.equal("functions", sp.Function("f")(a), sp.Function("g")(a))
    matrix = sp.Symbol("M", commutative=False)
    with pytest.raises(ProofError, match="could not be decided"):
        proof.equal("what does not commute", matrix * sp.Symbol("N", commutative=False), matrix)


def test_statements_are_given_to_be_decided_not_as_decided() -> None:
    proof = Proof("example")
    for claim in (True, [a > 0, True], [a.is_positive]):
        with pytest.raises(ProofError, match="True, which is no relation of sympy"):
            proof.holds("said by Python", claim, shown="a > 0")
    with pytest.raises(ProofError, match="comes out as"):
        proof.holds("one of two", [a > 0, a > 1], shown="a > 0")
    with pytest.raises(ProofError, match="claims nothing that can be shown"):
        proof.holds("nothing", [], shown="a > 0")
    with pytest.raises(ProofError, match="claims that a - b vanishes"):
        proof.all_vanish("one of two", [a - a, a - b], shown="0")
    with pytest.raises(ProofError, match="claims nothing that can be shown"):
        proof.all_vanish("nothing", [], shown="0")
    proof.holds("both", [a > 0, a + b >= 0], shown="a > 0")
    proof.all_vanish("both", [a - a, beta - (1 - alpha)], shown="0")


def test_equations_may_use_how_the_level_letters_hang_together() -> None:
    proof = Proof("example")
    assert proof.equal("merge", alpha * beta_bar_s + beta, beta_bar_t) == beta_bar_t
    with pytest.raises(ProofError, match="false"):
        proof.equal("merge with the wrong factor", alpha_bar_t * beta_bar_s + beta, beta_bar_t)
    proof.equal("ratio", sp.sqrt(alpha_bar_t / alpha_bar_s), sp.sqrt(alpha))


def test_a_derivation_needs_steps_and_a_conclusion() -> None:
    proof = Proof("example")
    proof.say("A line that claims nothing.")
    with pytest.raises(ProofError, match="needs steps and a conclusion"):
        proof.derivation("subject", "1 = 1", "standard", "")


def test_values_are_exact_to_sixty_digits() -> None:
    third = sp.Rational(1, 3)
    value = derive("posterior_variance").value("variance", beta=third, beta_bar_s=third, beta_bar_t=5 * third / 3)
    with mpmath.workdps(60):
        assert abs(value - mpmath.mpf(1) / 5) < mpmath.mpf(10) ** -59


def test_wrong_questions_are_named() -> None:
    variance = derive("posterior_variance")
    with pytest.raises(RangeError, match="no derivation is called 'posterior_varianse'; there are"):
        derive("posterior_varianse")
    with pytest.raises(RangeError, match="give a value to beta_bar_s too"):
        variance.value("variance", beta=0.5, beta_bar_t=0.5)
    with pytest.raises(RangeError, match="no result 'mean'"):
        variance.value("mean", beta=0.5)
    with pytest.raises(RangeError, match="posterior_variance: "):
        variance.value("variance", beta=0.5, beta_bar_s=0.0, beta_bar_t=0.0)
    schedule = ExactSchedule([0.25, 0.5])
    with pytest.raises(LevelError, match="t = 2, s = 2; a step goes from a level to a lower one"):
        variance.at(schedule, 2, 2)
    with pytest.raises(RangeError, match="beta is given by the schedule"):
        variance.at(schedule, 2, 1, beta=0.5)
    for level in (-1, 3, 1.5, True):
        with pytest.raises(LevelError, match="levels are whole numbers from 0 to T = 2"):
            schedule.alpha_bar(level)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "x", "1/3", None, 1j, True], ids=repr)
def test_what_is_no_number_is_named(wrong: object) -> None:
    with pytest.raises(RangeError, match=r"beta is .*; give a finite real number"):
        derive("posterior_variance").value("variance", beta=wrong, beta_bar_s=0.5, beta_bar_t=0.625)
    with pytest.raises(ScheduleError, match=r"beta_2 is .*; give a finite real number"):
        ExactSchedule([0.5, wrong])


def test_a_float_of_numpy_is_the_rational_it_is() -> None:
    assert ExactSchedule([np.float32(0.1)]).betas == (sp.Rational(13421773, 2**27),)


def test_values_that_no_schedule_has_are_refused() -> None:
    variance = derive("posterior_variance")
    with pytest.raises(RangeError, match=r"is not alpha \* alpha_bar_s"):
        variance.value("variance", beta=0.25, beta_bar_s=0.5, beta_bar_t=0.9)
    with pytest.raises(RangeError, match="alpha = 1/2 and beta = 1/4 do not sum to 1"):
        variance.value("variance", alpha=0.5, beta=0.25, beta_bar_s=0.5, beta_bar_t=0.625)
    with pytest.raises(RangeError, match="beta is -1/4; it lies between 0 and 1"):
        variance.value("variance", beta=-0.25, beta_bar_s=0.5, beta_bar_t=0.625)
    with pytest.raises(RangeError, match=r"alpha_bar_t = 1/2 is not alpha \* alpha_bar_s = 3/16"):
        variance.value("variance", beta=0.25, beta_bar_s=0.75, beta_bar_t=0.5, alpha_bar_t=0.5)
    learned = derive("learned_variance_interpolation")
    levels = {"beta": 0.25, "beta_bar_s": 0.5, "beta_bar_t": 0.625}
    with pytest.raises(RangeError, match="fraction nu lies between 0 and 1"):
        learned.value("variance", fraction=2, **levels)
    with pytest.raises(RangeError, match="fraction is -1; it is 0 or greater"):
        learned.value("variance", fraction=-1, **levels)
    assert learned.value("variance", fraction=1, **levels) == 0.25


def test_exact_schedules_refuse_what_defines_none() -> None:
    with pytest.raises(ScheduleError, match="at least one beta"):
        ExactSchedule([])
    with pytest.raises(ScheduleError, match="beta_1 is 1"):
        ExactSchedule([1, 0.5])
    with pytest.raises(ScheduleError, match="beta_2 is -1/2"):
        ExactSchedule([0.5, -0.5])
    assert ExactSchedule([0.5, 1]).alpha_bar(2) == 0


def test_one_letter_has_one_meaning() -> None:
    assert latex(xt) == "x_t"
    with pytest.raises(ValueError, match="already written x_t"):
        letter("xt", "y_t", real=True)


def test_every_derivation_stands_under_its_subject() -> None:
    names = [made.__name__ for subject in SUBJECTS for made in subject.DERIVATIONS]
    assert sorted(names) == sorted(set(names)) == sorted(DERIVATIONS)
    for subject in SUBJECTS:
        for made in subject.DERIVATIONS:
            derived = made()
            assert derived.subject == subject.__name__.rpartition(".")[2]
            assert derived.id == made.__name__
            assert derived.introduction
            assert any(step.formula for step in derived.steps)


def test_a_missing_sympy_names_the_extra() -> None:
    code = "import sys; sys.modules['sympy'] = None\nimport ddpm_ref.symbolic"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: sympy is not installed; write: pip install 'ddpm-ref[symbolic]'" in run.stderr


def test_one_proof_has_no_page(tmp_path, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["derive", "posterior_variance", "--pages", str(tmp_path)])
    assert not list(tmp_path.iterdir())
    assert "leave out one of the two" in capsys.readouterr().err
