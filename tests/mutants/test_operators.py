"""Each operator does what its name says, to what it is meant for, and to nothing else."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.expressions import called
from tests.mutants.operators import OPERATORS
from tests.mutants.sites import CHECKS, digest, mutants_of, source

NAMES = frozenset({"tables", "t", "s"})
EXAMPLES = {
    "shifted_by_one": ("at(tables.beta, t)", ["at(tables.beta, t - 1)", "at(tables.beta, t + 1)"]),
    "s_for_t": ("at(tables.beta_bar, t)", ["at(tables.beta_bar, s)"]),
    "strided_step_taken_for_a_single_one": ("step.beta", ["tables.beta[t]"]),
    "wrong_table": ("tables.alpha_bar", ["tables.alpha", "tables.beta_bar"]),
    "root_forgotten": ("tables.sqrt_beta_bar", ["tables.beta_bar"]),
    "root_added": ("step.beta_tilde", ["step.std_tilde"]),
    "square_forgotten": ("eta * eta", ["eta"]),
    "reciprocal": ("1 / row.b", ["row.b"]),
    "sign_flipped": ("a - b", ["a + b"]),
    "term_forgotten": ("a - b", ["a", "-b"]),
    "factor_forgotten": ("a * b", ["a", "b"]),
    "plus_for_times": ("a * b", ["a + b"]),
    "divided_instead_of_multiplied": ("a / b", ["a * b"]),
    "constant_changed": ("0.5", ["1.0", "0.25"]),
    "scaled": ("lincomb([a], [x])", ["lincomb([2 * a], [x])", "lincomb([a / 2], [x])"]),
    "slightly_off": ("lincomb([one, b], [x, y])", ["lincomb([one, (1 + 2 ** (-23)) * b], [x, y])"]),
    "noise_forgotten": ("lincomb([a, b], [x, z])", ["lincomb([a, 0 * b], [x, z])"]),
    "special_case_removed": ("torch.where(s == 0, one, w)", ["w"]),
    "special_case_everywhere": ("torch.where(s == 0, one, w)", ["one"]),
    "branches_swapped": ("torch.where(c, a, b)", ["torch.where(c, b, a)"]),
    "comparison_off_by_one": ("s == 0", ["s == 1"]),
    "comparison_turned": ("x > 0.5", ["x < 0.5"]),
    "min_max_swapped": ("x.clamp(min=0)", ["x.clamp(max=0)"]),
    "clip_bound_forgotten": ("x.clamp(low, high)", ["x", "x.clamp(low)", "x.clamp(max=high)"]),
    "arguments_swapped": ("mean(tables, x0, xt, t, s)", ["mean(tables, xt, x0, t, s)", "mean(tables, x0, xt, s, t)"]),
    "outputs_swapped": ("(mean, variance)", ["(variance, mean)"]),
    "along_the_wrong_axis": ("expand_right(c, x.ndim)", ["c"]),
    "mean_for_sum": ("x.sum(0)", ["x.mean(0)"]),
    "digits_lost": ("torch.expm1(x)", ["x.exp() - 1"]),
    "wrong_function": ("x.log()", ["x.log2()"]),
    "computed_in_the_storage_format": ("compute_dtype(x.dtype)", ["x.dtype"]),
    "coefficient_rounded": (
        "lincomb([a], [x])",
        ["lincomb([a.bfloat16().to(a.dtype)], [x])", "lincomb([a.float().to(a.dtype)], [x])"],
    ),
}  # fmt: skip


def test_every_operator_has_an_example() -> None:
    assert set(EXAMPLES) == set(OPERATORS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_operator_writes_what_people_write(name: str) -> None:
    text, wrong = EXAMPLES[name]
    node = ast.parse(text, mode="eval").body
    assert [ast.unparse(found) for found in OPERATORS[name](node, NAMES)] == wrong
    assert ast.unparse(node) == text  # the expression itself stays as it was


def _checks(tree: ast.Module) -> list[str]:
    """What raises, and what looks at arguments."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Raise) or called(node) in CHECKS or isinstance(node, (ast.arguments, ast.JoinedStr))
    ]


@pytest.mark.parametrize("module", ["ancestral", "labels"])
def test_argument_checking_messages_and_signatures_are_not_touched(module: str) -> None:
    right = _checks(ast.parse(source(module)))
    assert right
    for mutant in mutants_of(module):
        assert _checks(mutant.tree) == right, mutant.id


def test_a_mutant_differs_from_its_module_in_one_expression() -> None:
    for mutant in mutants_of("ancestral"):
        right, wrong = ast.unparse(ast.parse(source("ancestral"))), ast.unparse(mutant.tree)
        lines = [(a, b) for a, b in zip(right.splitlines(), wrong.splitlines(), strict=True) if a != b]
        assert len(lines) == 1, mutant.id


def test_comments_do_not_change_the_digest_and_expressions_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.mutants import sites

    text, before = source("ancestral"), digest("ancestral")
    monkeypatch.setattr(
        sites, "source", lambda module: text.replace('"""The state at level s', '"""What stands at level s')
    )
    assert digest("ancestral") == before
    monkeypatch.setattr(sites, "source", lambda module: text.replace("-step.eps_weight", "step.eps_weight"))
    assert digest("ancestral") != before
