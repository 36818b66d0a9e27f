"""Laws of the loss of a network: one noise in input and target, and nothing below what the conditional mean leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.laws.cases import Case, Source, at, draw_schedule, draw_tensor
from ddpm_ref.laws.objectives.losses import of_examples
from ddpm_ref.laws.registry import AFFINE, Law, Mistake, Outputs, affine
from ddpm_ref.laws.running import Running, depth, running
from ddpm_ref.typing import AnyArray, Array

# --- the loss of a network that is linear, with a gain for every level ------------------------------------------------


SHAPES: list[tuple[int, ...]] = [(1, 2), (3, 1), (2, 3), (4, 1, 2), (2, 3, 2), (0, 3)]


def _batches(source: Source, claim: Claim) -> Case:
    schedule, shape = draw_schedule(source), (64, 256) if source.bulk else source.choice(SHAPES)
    t = np.array([source.integer(1, schedule.T) for _ in range(shape[0])], dtype=np.int64)
    gains = claim.storing.round(source.numbers((schedule.T + 1,), -1.5, 1.5))
    tensors = {name: draw_tensor(source, shape, claim) for name in ("x0", "noise")}
    return Case(claim, schedule, {"t": t, **tensors, "gains": gains})


def _network(c: Any) -> Callable[[Any, Any], Any]:
    def network(x: Any, t: Any) -> Any:
        return c.gains[t].reshape((-1,) + (1,) * (x.ndim - 1)) * x

    return network


def _gain(case: Case, shift: int = 0) -> AnyArray:
    gains = case.gains[np.maximum(case.t + shift, 0)]
    return np.asarray(gains.reshape((-1,) + (1,) * (case.x0.ndim - 1)))


def _errors(case: Case) -> Running:
    """Of the network, squared; everything on the way is stored."""
    like = case.x0
    terms = (case.level("sqrt_alpha_bar", like), case.x0), (case.level("sqrt_beta_bar", like), case.noise)
    noisy = affine(*terms, roundings=AFFINE)
    state = Running(noisy.value, AFFINE * noisy.scale, case.claim.computing.u).stored(case)
    answer = (running(case, np.broadcast_to(_gain(case), like.shape)) * state).stored(case)
    return (running(case, case.noise) - answer).stored(case).square.stored(case)


def _loss(
    case: Case,
    *,
    noise_in: Array | None = None,
    target: Array | None = None,
    noise_root: str = "sqrt_beta_bar",
    shift: int = 0,
    asked: int = 0,
    of: Callable[[Array], Array] = np.square,
) -> Outputs:
    noise_in = case.noise if noise_in is None else noise_in
    state = at(case, "sqrt_alpha_bar", shift) * case.x0 + at(case, noise_root, shift) * noise_in
    error = (case.noise if target is None else target) - _gain(case, asked) * state
    rows = error.shape[0], int(np.prod(error.shape[1:]))
    return (of(error).reshape(rows).mean(axis=1),)


def _another(noise: Array) -> Array:
    """As good as another noise: the same numbers elsewhere."""
    return np.asarray(noise.ravel()[::-1].reshape(noise.shape))


def _of_every_step(case: Case) -> Array:
    """As many noises as steps, added up as if each were the whole."""
    return np.asarray(np.asarray(case.t, dtype=np.float64).reshape((-1,) + (1,) * (case.x0.ndim - 1)) * case.noise)


SIMPLE_LOSS = Law(
    id="objectives/training_loss",
    needs="simple_loss",
    statement=r"\frac1d\lVert\varepsilon - \epsilon_\theta(\sqrt{\bar\alpha_t}x_0 + \sqrt{\bar\beta_t}\varepsilon, t)\rVert^2,"
    r"\ \text{the same}\ \varepsilon\ \text{in both places}",
    source="ho2020, algorithm 1 and eq. (14)",
    cases=_batches,
    call=lambda impl, c: impl.simple_loss(c.schedule, c.x0, c.t, c.noise, _network(c)),
    expect=lambda c: (of_examples(_errors(c)).expected(),),
    mistakes=(
        Mistake("target_noise_is_not_in_the_input", lambda c: _loss(c, noise_in=_another(c.noise)), "E33"),
        Mistake("noises_of_every_step_added_up", lambda c: _loss(c, noise_in=_of_every_step(c)), "E34"),
        Mistake("x0_for_the_noise", lambda c: _loss(c, target=c.x0)),
        Mistake("variance_for_the_standard_deviation", lambda c: _loss(c, noise_root="beta_bar")),
        Mistake("noise_of_one_step", lambda c: _loss(c, noise_root="sqrt_beta"), "E05"),
        Mistake("shifted_by_one", lambda c: _loss(c, shift=-1)),
        Mistake("network_asked_at_the_level_below", lambda c: _loss(c, asked=-1)),
        Mistake("absolute_errors", lambda c: _loss(c, of=np.abs)),
    ),
    kind="reduction",
)

# --- what is left of it ------------------------------------------------------------------------------------------------

BOTH_SIGNS = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])


def _four_points(source: Source, claim: Claim) -> Case:
    """Data and noise of either sign, all four in a row for some levels and deviations: two moments like normal ones."""
    schedule, count = draw_schedule(source), 64 if source.bulk else source.integer(1, 3)
    deviation = claim.storing.round(np.exp(source.numbers((count,), -3.0, 2.0)))
    t = np.repeat([source.integer(1, schedule.T) for _ in range(count)], 4)
    signs = np.tile(BOTH_SIGNS, (count, 1))
    gains = claim.storing.round(source.numbers((schedule.T + 1,), -1.5, 1.5))
    x0, noise = signs[:, :1] * np.repeat(deviation, 4)[:, None], signs[:, 1:]
    return Case(claim, schedule, {"t": t, "x0": x0, "noise": noise, "gains": gains})


def _ask_four(impl: Any, c: Any) -> object:
    return impl.simple_loss(c.schedule, c.x0, c.t, c.noise, _network(c)).reshape(-1, 4).mean(-1)


def _left_expected(case: Case) -> tuple[Expected, ...]:
    """The floor and the square above it; the charge is that of the four losses."""
    words, t, x0 = case.noise_schedule.words, case.t[::4], case.x0[::4, 0]
    signal = words("alpha_bar", t) * (DoubleDouble.of(x0) * x0)
    total = signal + words("beta_bar", t)
    away = DoubleDouble.of(case.gains[t]) - words("sqrt_beta_bar", t) / total
    value = signal / total + total * away * away
    each = of_examples(_errors(case)).stored(case)
    rows = Running(each.value.reshape((-1, 4)), each.error.reshape((-1, 4)), each.u).sum(depth(4) + 1)
    return (Running(value, rows.error / 4, each.u).through(1).expected(),)


def _left(case: Case, *, floor: float = 1.0, best: float = 1.0) -> Outputs:
    """With the floor left away, or another gain as the best."""
    schedule, t, x0 = case.noise_schedule, case.t[::4], case.x0[::4, 0]
    signal, noise = schedule.alpha_bar[t] * x0**2, schedule.beta_bar[t]
    total = signal + noise
    return (floor * signal / total + total * (case.gains[t] - best * np.sqrt(noise) / total) ** 2,)


def _independent(case: Case) -> Outputs:
    schedule, t, x0 = case.noise_schedule, case.t[::4], case.x0[::4, 0]
    return (1 + case.gains[t] ** 2 * (schedule.alpha_bar[t] * x0**2 + schedule.beta_bar[t]),)


def _mean_of(outputs: Outputs) -> Outputs:
    return (outputs[0].reshape(-1, 4).mean(axis=1),)


OPTIMALITY = Law(
    id="objectives/mmse_optimality",
    needs="simple_loss",
    statement=r"\mathbb E(\varepsilon - kx_t)^2 = \frac{\bar\alpha_tv}{V_t} + V_t\left(k - \frac{\sqrt{\bar\beta_t}}{V_t}\right)^2,"
    r"\quad V_t = \bar\alpha_tv + \bar\beta_t,\ v = \mathbb E x_0^2",
    source="bao2022, section 3; elementary",
    cases=_four_points,
    call=_ask_four,
    expect=_left_expected,
    mistakes=(
        Mistake("loss_of_one_draw", lambda c: _left(c, floor=0.0), "E31"),
        Mistake("target_noise_is_not_in_the_input", _independent, "E33"),
        Mistake("noises_of_every_step_added_up", lambda c: _mean_of(_loss(c, noise_in=_of_every_step(c))), "E34"),
        Mistake("absolute_errors", lambda c: _mean_of(_loss(c, of=np.abs))),
        Mistake("half_of_the_best_gain", lambda c: _left(c, best=0.5)),
    ),
    kind="metamorphic",
)

LAWS = (SIMPLE_LOSS, OPTIMALITY)
