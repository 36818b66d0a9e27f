"""Laws of losses per example, and of their weighted sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Source, draw_shape, draw_tensor
from ddpm_ref.laws.registry import AFFINE, Law, Mistake, Outputs, affine
from ddpm_ref.laws.running import Running, depth, running
from ddpm_ref.typing import Array

EXAMPLES: list[tuple[int, ...]] = [(1, 2), (3,), (2, 3), (4, 1, 2), (2, 3, 2), (0, 3)]


def draw_examples(source: Source) -> tuple[int, ...]:
    """A batch of examples with components."""
    return (64, 256) if source.bulk else source.choice(EXAMPLES)


def of_examples(errors: Running, root: bool = False) -> Running:
    """The mean over the components of each example."""
    rows = errors.error.shape[0], int(np.prod(errors.error.shape[1:]))
    flat = Running(errors.value.reshape(rows), errors.error.reshape(rows), errors.u).sum(depth(rows[1]))
    return Running(flat.value / float(rows[1]), flat.error / rows[1], flat.u).through(2)


def absolute(error: Running) -> Running:
    """Rounds nothing."""
    return Running(abs(error.value), error.error, error.u)


def _pairs(source: Source, claim: Claim) -> Case:
    shape = draw_examples(source)
    return Case(claim, None, {name: draw_tensor(source, shape, claim) for name in ("target", "prediction")})


def _difference(case: Case) -> Running:
    return running(case, case.target) - running(case, case.prediction)


def _per_example(case: Case, of: Callable[[Array], Array]) -> Array:
    """Of the rows of differences."""
    rows = case.target.shape[0], int(np.prod(case.target.shape[1:]))
    return of((case.target - case.prediction).reshape(rows))


def _outputs(of: Callable[[Array], Array]) -> Callable[[Case], Outputs]:
    return lambda case: (_per_example(case, of),)


L2 = Law(
    id="objectives/simple_l2",
    needs="simple_l2",
    statement=r"\frac1d\lVert y - \hat y\rVert^2,\ \text{one number per example}",
    source="ho2020, eq. (14)",
    cases=_pairs,
    call=lambda impl, c: impl.simple_l2(c.target, c.prediction),
    expect=lambda c: (of_examples(_difference(c).square).expected(),),
    mistakes=(
        Mistake("sum_for_mean", _outputs(lambda d: (d**2).sum(axis=1))),
        Mistake("absolute_errors", _outputs(lambda d: np.abs(d).mean(axis=1))),
        Mistake("half_of_the_square", _outputs(lambda d: (d**2).mean(axis=1) / 2)),
        Mistake("root_of_the_mean_square", _outputs(lambda d: np.sqrt((d**2).mean(axis=1)))),
        Mistake("square_of_the_mean", _outputs(lambda d: d.mean(axis=1) ** 2)),
        Mistake("mean_over_the_batch_too", _outputs(lambda d: np.full(len(d), (d**2).mean() if d.size else 0.0))),
    ),
    kind="reduction",
)

L1 = Law(
    id="objectives/simple_l1",
    needs="simple_l1",
    statement=r"\frac1d\lVert y - \hat y\rVert_1,\ \text{one number per example}",
    source="ho2020, eq. (14), with another norm",
    cases=_pairs,
    call=lambda impl, c: impl.simple_l1(c.target, c.prediction),
    expect=lambda c: (of_examples(absolute(_difference(c))).expected(),),
    mistakes=(
        Mistake("sum_for_mean", _outputs(lambda d: np.abs(d).sum(axis=1))),
        Mistake("squared_errors", _outputs(lambda d: (d**2).mean(axis=1))),
        Mistake("errors_that_cancel", _outputs(lambda d: np.abs(d.mean(axis=1)))),
        Mistake("mean_over_the_batch_too", _outputs(lambda d: np.full(len(d), np.abs(d).mean() if d.size else 0.0))),
    ),
    kind="reduction",
)


def _reduced(impl: Any, c: Any) -> tuple[object, object]:
    """The squared norm of each example, and all examples as if they were one."""
    count = int(np.prod(c.target.shape[1:]))
    whole = impl.simple_l2(c.target.reshape(1, -1), c.prediction.reshape(1, -1))
    return count * impl.simple_l2(c.target, c.prediction), whole


def _some(source: Source, claim: Claim) -> Case:
    """At least one example."""
    shape = (64, 8) if source.bulk else source.choice([shape for shape in EXAMPLES if shape[0]])
    return Case(claim, None, {name: draw_tensor(source, shape, claim) for name in ("target", "prediction")})


def _reduced_expected(case: Case) -> tuple[Expected, ...]:
    squares, count = _difference(case).square, int(np.prod(case.target.shape[1:]))
    each = of_examples(squares).stored(case)
    size = squares.error.size
    flat = Running(squares.value.reshape((1, size)), squares.error.reshape((1, size)), squares.u)
    norms = Running(each.value * float(count), each.error * count, each.u).through(1)
    return norms.expected(), of_examples(flat).expected()


def _wrong_norms(of: Callable[[Array], Array], whole: Callable[[Array], Array]) -> Callable[[Case], Outputs]:
    return lambda case: (_per_example(case, of), np.reshape(whole(case.target - case.prediction), (1,)))


REDUCTION = Law(
    id="objectives/loss_reduction",
    needs="simple_l2",
    statement=r"d\,L = \lVert y-\hat y\rVert^2;\quad \text{the loss of all examples as one is the mean of their losses}",
    source="elementary",
    cases=_some,
    call=_reduced,
    expect=_reduced_expected,
    mistakes=(
        Mistake("sum_for_mean", _wrong_norms(lambda d: d.shape[1] * (d**2).sum(axis=1), lambda d: (d**2).sum())),
        Mistake(
            "mean_over_the_batch_too",
            _wrong_norms(lambda d: np.full(len(d), d.shape[1] * (d**2).mean()), lambda d: (d**2).mean()),
        ),
        Mistake(
            "norm_for_its_square",
            _wrong_norms(lambda d: np.sqrt(d.shape[1] * (d**2).sum(axis=1)), lambda d: np.sqrt((d**2).mean())),
        ),
    ),
    kind="metamorphic",
)

# --- the hybrid -------------------------------------------------------------------------------------------------------

DEFAULT = 0.001


def _two_losses(source: Source, claim: Claim) -> Case:
    shape = draw_shape(source)[:1] or (1,)
    weight = source.choice([1.0, 0.0, 0.25, None])
    drawn = np.asarray(source.numbers((), 2.0**-10, 2.0) if weight is None else weight)
    losses = {name: draw_tensor(source, shape, claim) for name in ("simple", "vlb")}
    return Case(claim, None, {**losses, "vlb_weight": claim.storing.round(drawn)})


def _sum_of_both(case: Case, weight: DoubleDouble) -> Expected:
    return affine((DoubleDouble.of(1.0), case.simple), (weight, case.vlb), roundings=AFFINE)


def _hybrids(impl: Any, c: Any) -> tuple[object, object]:
    return impl.hybrid(c.simple, c.vlb), impl.hybrid(c.simple, c.vlb, float(c.vlb_weight))


def _hybrid_of(change: Callable[[Case, float], Array]) -> Callable[[Case], Outputs]:
    return lambda case: (change(case, DEFAULT), change(case, float(case.vlb_weight)))


HYBRID = Law(
    id="objectives/hybrid",
    needs="hybrid",
    statement=r"L_\text{hybrid} = L_\text{simple} + \lambda L_\text{vlb},\quad \lambda = 0.001\ \text{unless given}",
    source="nichol2021, eq. (16)",
    cases=_two_losses,
    call=_hybrids,
    expect=lambda c: (
        _sum_of_both(c, DoubleDouble.of(DEFAULT)), _sum_of_both(c, DoubleDouble.of(float(c.vlb_weight))),
    ),
    mistakes=(
        Mistake("other_part_weighted", _hybrid_of(lambda c, weight: weight * c.simple + c.vlb)),
        Mistake("weights_that_sum_to_one", _hybrid_of(lambda c, weight: (1 - weight) * c.simple + weight * c.vlb)),
        Mistake("weight_divided_by", _hybrid_of(lambda c, weight: c.simple + c.vlb / max(weight, 1e-3))),
        Mistake("bound_left_away", _hybrid_of(lambda c, weight: c.simple)),
        Mistake("default_of_a_thousandth_forgotten", lambda c: (c.simple + c.vlb, c.simple + c.vlb_weight * c.vlb)),
    ),
)  # fmt: skip

LAWS = (L2, L1, REDUCTION, HYBRID)
