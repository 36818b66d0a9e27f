"""Laws of batches: noise and samples belong to a sample's index and do not depend on who is drawn beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Source
from ddpm_ref.laws.family import levels_of, walks
from ddpm_ref.laws.registry import Law, Mistake, Outputs
from ddpm_ref.typing import Array

EVENTS: list[tuple[int, ...]] = [(), (1,), (3,), (2, 3), (5, 1, 2)]
Stream: TypeAlias = Callable[
    [Case, int, int, int], Array
]  # noise of a step for (first, count) samples, if drawn wrongly


def _batches(source: Source) -> dict[str, Array]:
    """A seed, a step, a batch of samples and where it is cut."""
    count = 200 if source.bulk else source.integer(2, 6)
    numbers = {
        "seed": source.choice([0, 1, 2**31, 2**32 - 1]),
        "k": source.integer(0, 5),
        "first": source.choice([0, 1, 1000]),
        "cut": source.integer(1, count - 1),
        "count": count,
        "event": np.array(source.choice(EVENTS), dtype=np.int64),
    }
    return {name: np.asarray(value, dtype=np.int64) for name, value in numbers.items()}


def _split(drawn: Callable[[int, tuple[int, ...]], Any], c: Any) -> tuple[Any, Any]:
    """What a batch gives at once, less what its two parts give."""
    first, cut, count, event = int(c.first), int(c.cut), int(c.count), tuple(int(size) for size in c.event)
    whole = drawn(first, (count, *event))
    return (
        whole[:cut] - drawn(first, (cut, *event)),
        whole[cut:] - drawn(first + cut, (count - cut, *event)),
    )


def _nothing(case: Case) -> tuple[Expected, ...]:
    """No difference, not even of a rounding."""
    event, cut, count = tuple(case.event.tolist()), int(case.cut), int(case.count)
    return tuple(
        Expected(DoubleDouble.of(np.zeros((part, *event))), np.zeros((part, *event)), 0) for part in (cut, count - cut)
    )


# --- how streams are drawn wrongly: each gives the noise of samples first, first + 1, ... at a step --------------------


def _restarted(case: Case, step: int, first: int, count: int) -> Array:
    """A generator seeded anew for every batch: all batches begin alike."""
    return _drawn((int(case.seed), step), count, case)


def _one_after_the_other(case: Case, step: int, first: int, count: int) -> Array:
    """One stream from which the steps take their numbers in turn: what a step gets depends on the size of the batch."""
    rng = np.random.default_rng((int(case.seed), first))
    drawn = [rng.standard_normal((count, *case.event.tolist())) for _ in range(step + 1)]
    return np.asarray(drawn[-1])


def _batch_statistics(case: Case, step: int, first: int, count: int) -> Array:
    """The right numbers, made to have zero mean and unit variance over the batch."""
    right = np.stack([_drawn((int(case.seed), step, first + i), 1, case)[0] for i in range(count)])
    return np.asarray((right - right.mean()) / (right.std() + 1e-3))


def _drawn(key: tuple[int, ...], count: int, case: Case) -> Array:
    return np.asarray(np.random.default_rng(key).standard_normal((count, *case.event.tolist())))


def _mistake(name: str, stream: Stream, use: Callable[[Case, Stream], Callable[[int, int], Array]]) -> Mistake:
    def value(case: Case) -> Outputs:
        drawn = use(case, stream)
        return _split(lambda first, shape: drawn(first, shape[0]), case)

    return Mistake(name, value)


def _mistakes(use: Callable[[Case, Stream], Callable[[int, int], Array]]) -> tuple[Mistake, ...]:
    return (
        _mistake("stream_restarted_with_every_batch", _restarted, use),
        _mistake("one_stream_for_all_steps_of_a_batch", _one_after_the_other, use),
        _mistake("normalised_over_the_batch", _batch_statistics, use),
    )


# --- the laws ---------------------------------------------------------------------------------------------------------

NOISE = Law(
    id="sampling/noise_split",
    needs="keyed_noise",
    statement=r"z_k^{(i)} = z(\text{seed}, k, i):\quad z_k^{(a..c)} = (z_k^{(a..b)}, z_k^{(b..c)})\ \text{bit for bit}",
    source="salmon2011, section 2: numbers as a function of a counter",
    cases=lambda source, claim: Case(claim, None, _batches(source)),
    call=lambda impl, c: _split(lambda first, shape: impl.keyed_noise(int(c.seed), int(c.k), first, shape), c),
    expect=_nothing,
    mistakes=_mistakes(lambda case, stream: lambda first, count: stream(case, int(case.k) + 1, first, count)),
    kind="exact",
)


def _sampler_cases(source: Source, claim: Claim) -> Case:
    case = walks(zero_snr=False)(source, claim)
    return Case(claim, case.schedule, {**case.values, **_batches(source)})


def _half(x: Any, t: int) -> Any:
    """A network that looks at every element by itself."""
    return 0.5 * x


def _walked(case: Case, stream: Stream) -> Callable[[int, int], Array]:
    """Ancestral sampling with `_half` and the noise of a stream."""
    transition = case.transition
    rows = list(zip(transition.recip_sqrt_alpha, transition.eps_weight, transition.std_tilde, strict=True))

    def sampled(first: int, count: int) -> Array:
        x = stream(case, 0, first, count)
        for k, (a, b, c) in enumerate(rows, start=1):
            x = (a - b / 2) * x + c * stream(case, k, first, count)
        return x

    return sampled


SAMPLES = Law(
    id="sampling/batch_split",
    needs="sample_from_seed",
    statement=r"\hat x_0^{(a..c)} = (\hat x_0^{(a..b)}, \hat x_0^{(b..c)})\ \text{bit for bit, for a network of elements}",
    source="elementary: samples are independent",
    cases=_sampler_cases,
    call=lambda impl, c: _split(
        lambda first, shape: impl.sample_from_seed(c.schedule, levels_of(c), _half, int(c.seed), first, shape), c
    ),
    expect=_nothing,
    mistakes=_mistakes(_walked),
    kind="exact",
)

LAWS = (NOISE, SAMPLES)
