"""Sites: the expressions of the mirror that are mathematics, and what each operator makes of them."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import ddpm_ref
from tests.mutants.expressions import called
from tests.mutants.operators import OPERATORS

MIRROR = Path(ddpm_ref.__file__).parent / "torch"

MODULES = (
    "analytic", "ancestral", "arguments", "bound", "ddim", "decoder", "divergence", "forward", "guidance", "labels", "lincomb",
    "objectives", "plan", "posterior", "prediction", "reverse", "scaling", "schedule", "series", "tables",
)  # fmt: skip
"""Not the oracles, which are no part of what the laws judge."""

TABLES_OF_FORMULAS = ("ROWS", "FLOOR")
"""Constants of modules that are mathematics."""

OUTSIDE = {
    # functions that only look at arguments, move tables between formats, run in compiled code alone, or carry the second word of a
    # number, which is for the last bits; and the peer that is wrong on purpose
    "arguments": (
        "readable", "broadcast_shapes", "level", "_whole_number", "_hint", "_level_tensor", "pair", "same_kind", "common_shape",
        "operands", "parameters", "first_tensor", "finite", "positive", "non_negative", "within", "one_of", "_every", "_seen",
        "Leveled",
    ),
    "analytic": ("_as_statistic",),
    "ddim": ("_admissible", "_with_noise"),
    "decoder": (
        "checked_level_count", "_arguments", "renormalised", "product_error", "_times", "_head", "_words", "_tanh_cdf",
        "discretized_gaussian_log_likelihood_tanh",
    ),
    "divergence": ("_cholesky", "_vectors"),
    "forward": ("_one_level", "refuse_dead_level"),
    "guidance": ("one_weight",),
    "labels": ("checked_labels",),
    "lincomb": ("lincomb", "_check_terms", "_checked_coefficient", "_names"),
    "objectives": ("_of_one_shape",),
    "scaling": ("_refuse_off_grid",),
    "schedule": ("_checked", "_refuse_underflow"),
    "series": ("expm1",),
    "tables": ("Tables", "tables", "_refuse_format", "_shortened"),
}  # fmt: skip

CHECKS = (
    "one_of", "pair", "level", "operands", "finite", "positive", "non_negative", "within", "same_kind", "common_shape",
    "parameters", "first_tensor", "refuse_dead_level", "readable", "isinstance", "len", "checked_labels", "_with_noise",
    "_statistic", "_as_statistic", "_admissible", "_one_level", "_checked", "one_weight", "_vectors", "_cholesky",
)  # fmt: skip
QUESTIONS = ("divides_by_noise", "divides_by_signal")
"""Local names that hold answers about the arguments."""
LAYOUT = ("shape", "ndim", "device", "dtype", "numel", "is_inference", "zero_terminal_snr")
SHAPING = ("expand", "flatten", "new_empty", "full", "ones", "zeros", "eye", "arange", "new_full")


@dataclass(frozen=True)
class Mutant:
    """One wrong expression in one place of one module."""

    module: str
    function: str
    line: int
    operator: str
    before: str
    after: str
    occurrence: int
    node: int
    choice: int

    @property
    def id(self) -> str:
        """A name that does not change when lines move: module, function, operator and a digest of the two expressions."""
        text = "\n".join((self.before, self.after, str(self.occurrence)))
        return f"{self.module}.{self.function}/{self.operator}/{hashlib.sha256(text.encode()).hexdigest()[:6]}"

    @property
    def tree(self) -> ast.Module:
        """The module with the error in it."""
        return _replaced(self.module, self.node, self.operator, self.choice)


@cache
def source(module: str) -> str:
    """The text of a module of the mirror."""
    return (MIRROR / f"{module}.py").read_text(encoding="utf-8")


def digest(module: str) -> str:
    """Of the expressions of a module, without its comments, messages and line numbers."""
    parts = [ast.unparse(node) for _, _, node in _expressions(ast.parse(source(module)), module)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def mutants_of(module: str) -> tuple[Mutant, ...]:
    """Everything the operators can do to a module, in the order of its text; each wrong module once."""
    tree = ast.parse(source(module))
    places = {id(node): n for n, node in enumerate(ast.walk(tree))}
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found: list[Mutant] = []
    seen: set[tuple[object, ...]] = set()
    times: dict[tuple[str, str, str, str], int] = {}
    for function, names, node in _expressions(tree, module):
        for name, operator in OPERATORS.items():
            for choice, wrong in enumerate(operator(node, names)):
                shown, before, after = _in_context(node, wrong, parents)
                if (key := (shown.lineno, shown.col_offset, shown.end_col_offset, after)) in seen or before == after:
                    continue
                seen.add(key)
                same = (function, name, before, after)
                times[same] = times.get(same, -1) + 1
                found.append(
                    Mutant(module, function, node.lineno, name, before, after, times[same], places[id(node)], choice)
                )
    return tuple(found)


def _replaced(module: str, place: int, operator: str, choice: int) -> ast.Module:
    tree = ast.parse(source(module))
    target = list(ast.walk(tree))[place]
    names = next(names for _, names, node in _expressions(tree, module) if node is target)
    wrong = list(OPERATORS[operator](target, names))[choice]  # type: ignore[arg-type]
    return _with(tree, target, wrong)


def _with(tree: ast.AST, target: ast.AST, wrong: ast.expr) -> ast.Module:
    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return ast.copy_location(wrong, node) if node is target else self.generic_visit(node)

    return ast.fix_missing_locations(Replace().visit(tree))


SHOWN = 90


STATEMENTS = (ast.Assign, ast.AugAssign, ast.Return)


def _in_context(node: ast.expr, wrong: ast.expr, parents: dict[int, ast.AST]) -> tuple[ast.expr | ast.stmt, str, str]:
    """The largest expression or statement around the wrong one that still fits on a line, before and after."""
    shown: ast.expr | ast.stmt = node
    while isinstance(parent := parents[id(shown)], (ast.expr, ast.keyword, *STATEMENTS)):
        outer = parents[id(parent)] if isinstance(parent, ast.keyword) else parent
        if not isinstance(outer, (ast.expr, *STATEMENTS)) or len(ast.unparse(outer)) > SHOWN:
            break
        shown = outer
    return shown, ast.unparse(shown), _unparsed_with(shown, node, wrong)


def _unparsed_with(shown: ast.expr | ast.stmt, node: ast.expr, wrong: ast.expr) -> str:
    """The text of something with one of its parts replaced, the tree left as it is."""
    if shown is node:
        return ast.unparse(wrong)
    for parent in ast.walk(shown):
        for field, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, field, wrong)
                text = ast.unparse(shown)
                setattr(parent, field, node)
                return text
            if isinstance(value, list) and any(item is node for item in value):
                place = next(i for i, item in enumerate(value) if item is node)
                value[place] = wrong
                text = ast.unparse(shown)
                value[place] = node
                return text
    raise ValueError("the expression is no part of the one that is shown")


# --- which expressions are mathematics --------------------------------------------------------------------------------


def _expressions(tree: ast.Module, module: str) -> Iterator[tuple[str, frozenset[str], ast.expr]]:
    """Function, names in reach, and expression, for every expression that may be mutated."""
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            yield from _of_definition(statement, "", module)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            name = ast.unparse(targets[0])
            if name in TABLES_OF_FORMULAS:
                yield from ((name, frozenset(), node) for node in _parts(statement.value))


def _of_definition(
    definition: ast.FunctionDef | ast.ClassDef, prefix: str, module: str
) -> Iterator[tuple[str, frozenset[str], ast.expr]]:
    name = prefix + definition.name
    if name in OUTSIDE.get(module, ()):
        return
    if isinstance(definition, ast.ClassDef):
        for part in definition.body:
            if isinstance(part, ast.FunctionDef):
                yield from _of_definition(part, f"{name}.", module)
        return
    arguments = [*definition.args.args, *definition.args.kwonlyargs]
    names = frozenset(argument.arg for argument in arguments)
    for statement in definition.body:
        yield from ((name, names, node) for node in _of_statement(statement))


def _of_statement(statement: ast.stmt) -> Iterator[ast.expr]:
    if isinstance(statement, (ast.Raise, ast.Assert)) or _only_raises(statement) or _is_text(statement):
        return
    if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) in QUESTIONS:
        return
    for _, value in ast.iter_fields(statement):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, ast.stmt):
                yield from _of_statement(part)
            elif isinstance(part, ast.withitem):
                continue
            elif isinstance(part, ast.expr) and not _is_target(statement, part):
                yield from _parts(part)


def _only_raises(statement: ast.stmt) -> bool:
    """Whether a statement does nothing but look at the arguments."""
    if isinstance(statement, ast.For):
        return all(_only_raises(part) for part in statement.body)
    if not isinstance(statement, ast.If) or statement.orelse:
        return False
    last = statement.body[-1]
    return isinstance(last, ast.Raise) or (isinstance(last, ast.Expr) and called(last.value) in CHECKS)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_target(statement: ast.stmt, part: ast.expr) -> bool:
    targets = [
        *getattr(statement, "targets", []),
        getattr(statement, "target", None),
        getattr(statement, "annotation", None),
    ]
    return any(part is target for target in targets)


def _parts(node: ast.expr) -> Iterator[ast.expr]:
    """An expression and those in it, without argument checking and the shapes of arrays."""
    if called(node) in CHECKS or _of_layout(node):
        return
    if isinstance(node, ast.IfExp) and (called(node.test) in CHECKS or _of_layout(node.test)):
        yield from _parts(node.body)
        return
    if isinstance(node, (ast.JoinedStr, ast.Starred)) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        return
    yield node
    if called(node) in ("reshape", *SHAPING):
        # the sizes are layout; what is laid out is not
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from _parts(node.func.value)
        return
    children = _children(node)
    if called(node) == "expand_right":
        children = iter(node.args[:1])
    elif called(node) == "to":
        # where to is layout, unless it is the choice of the compute format
        children = iter([node.func.value, *(a for a in node.args if called(a) == "compute_dtype")])
    for child in children:
        yield from _parts(child)


def _of_layout(node: ast.expr) -> bool:
    """Whether an expression is about shapes, dtypes and devices: ``x.ndim``, ``x.shape[1:]``, ``x.ndim == 0``."""
    if isinstance(node, ast.Attribute):
        return node.attr in LAYOUT
    if isinstance(node, ast.Subscript):
        return _of_layout(node.value)
    if isinstance(node, ast.Compare):
        return called(node.left) == "len" or _of_layout(node.left)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LAYOUT


def _children(node: ast.expr) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.keyword):
            if child.arg not in ("device",):
                yield child.value
        elif isinstance(child, ast.comprehension):
            yield child.iter
        elif isinstance(child, ast.expr):
            yield child
