"""Refutations: what they claim is decided, a right statement cannot be refuted, and the reference agrees at the witness."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy as sp

from ddpm_ref.errors import ProofError, RangeError
from ddpm_ref.reference.posterior import posterior_variance, posterior_weights
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.symbolic.refutations import REFUTATIONS, Case, refute
from ddpm_ref.symbolic.refutations.refutation import FROM, SHORT, TO, WITNESS, refutes
from ddpm_ref.symbolic.symbols import RELATIONS, alpha, alpha_bar_s, beta, x0

EACH = pytest.mark.parametrize("erratum", REFUTATIONS)


@EACH
def test_each_is_made_once_and_says_what_it_is_about(erratum: str) -> None:
    refutation = refute(erratum)
    assert refutation is refute(erratum)
    assert refutation.erratum == erratum
    assert refutation.contrasts
    assert refutation.introduction.endswith(".")


@EACH
def test_both_sides_are_other_numbers_at_the_witness(erratum: str) -> None:
    """Evaluated here once more, in another way: numerically, after the level letters are reduced to two."""
    for contrast in refute(erratum).contrasts:
        values = {name: value for name, value in WITNESS.letters(FROM, TO).items() if name in ("alpha", "alpha_bar_s")}
        values |= {"alpha_bar_T": WITNESS.alpha_bar(2), **contrast.data}
        sides = []
        for side, exact in ((contrast.right, contrast.right_there), (contrast.wrong, contrast.wrong_there)):
            reduced = side.subs(SHORT).subs(RELATIONS)
            there = sp.N(reduced.subs({letter: values[letter.name] for letter in reduced.free_symbols}), 50)
            assert abs(there - sp.N(exact, 50)) < sp.Float("1e-40")
            sides.append(there)
        right, wrong = sides
        assert abs(wrong - right) > sp.Rational(1, 1000)
        stated = contrast.discrepancy.subs(SHORT).subs(RELATIONS)
        stated = sp.N(stated.subs({letter: values[letter.name] for letter in stated.free_symbols}), 50)
        found = wrong / right if contrast.measure == "ratio" else wrong - right
        assert abs(found - stated) < sp.Float("1e-40")


@EACH
def test_the_right_form_is_not_refuted(erratum: str) -> None:
    """The same machinery, with the right form in the place of the common one."""
    for contrast in refute(erratum).contrasts:
        case = Case(erratum)
        with pytest.raises(ProofError, match=r"is not refuted; at .* both sides are equal"):
            case.contrast(
                contrast.about,
                derived=contrast.derived,
                right=contrast.right,
                wrong=contrast.right,
                difference=sp.Integer(0),
                **{name: Fraction(int(value.p), int(value.q)) for name, value in contrast.data.items()},
            )
        with pytest.raises(ProofError, match="a refutation needs a contrast"):
            case.refutation("test", "Nothing was refuted.")


@EACH
def test_the_common_form_does_not_pass_for_the_derived_one(erratum: str) -> None:
    for contrast in refute(erratum).contrasts:
        with pytest.raises(ProofError, match="it is false"):
            Case(erratum).contrast(
                contrast.about,
                derived=contrast.derived,
                right=contrast.wrong,
                wrong=contrast.right,
                difference=sp.Integer(0),
            )


def test_a_wrong_discrepancy_is_found_out() -> None:
    with pytest.raises(ProofError, match="the ratio stated for the noise is not beta"):
        Case("E01").contrast("the noise", derived=sp.sqrt(beta), right=sp.sqrt(beta), wrong=beta, ratio=beta)
    with pytest.raises(ProofError, match="the difference stated for the noise is not beta"):
        Case("E01").contrast("the noise", derived=sp.sqrt(beta), right=sp.sqrt(beta), wrong=beta, difference=beta)


def test_two_ways_to_write_the_same_are_not_refuted() -> None:
    with pytest.raises(ProofError, match="is not refuted"):
        Case("E01").contrast("what is kept", derived=1 - beta, right=alpha, wrong=1 - beta, difference=sp.Integer(0))


def test_the_witness_must_give_every_letter_a_value() -> None:
    with pytest.raises(ProofError, match="give every letter a value"):
        Case("E02").contrast("the mean", derived=x0, right=x0, wrong=2 * x0, ratio=sp.Integer(2))


def test_a_refutation_that_refutes_nothing_is_none() -> None:
    empty = refutes("E99")(lambda case: case.assume("nothing"))
    with pytest.raises(ProofError, match="E99: a refutation needs a contrast"):
        empty()
    with pytest.raises(RangeError, match="nothing refutes 'E99' symbolically; there are E01"):
        refute("E99")


def test_the_reference_has_the_right_value_at_the_witness() -> None:
    """The roots of the witness are rational and its betas are rounded to float64: six digits are those of the fractions."""
    schedule = NoiseSchedule.from_betas([float(value) for value in WITNESS.betas])
    weight, consistency = refute("E13").contrasts
    assert f"{float(posterior_weights(schedule, 2, 1)[1]):.6f}" == f"{float(weight.right_there):.6f}" == "0.421875"
    assert f"{float(posterior_variance(schedule, 2, 1)):.6f}" == f"{float(refute('E23').contrasts[0].right_there):.6f}"
    assert consistency.wrong_there != consistency.right_there == sp.sqrt(WITNESS.alpha_bar(1))
    assert weight.discrepancy == sp.sqrt(alpha_bar_s)
