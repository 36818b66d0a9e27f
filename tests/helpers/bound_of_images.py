"""What an evaluation must come to, in two words, and how far its roundings may have led: by running error analysis.

Nothing of `ddpm_ref.evaluation` or `ddpm_ref.torch` computes here; the noise, the noised images and the answers of the network
are given as float64 numbers. Arrays are ``(n, d)``: images, and their components.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ddpm_ref.arithmetic import Claim, DoubleDouble
from ddpm_ref.arithmetic.double_double import LN2, TWO_PI, log, where
from ddpm_ref.laws import REGISTRY, Case
from ddpm_ref.laws.bound.reconstruction import minus_log_probability
from ddpm_ref.laws.bound.terms import divergence, posterior_log_variance, posterior_mean
from ddpm_ref.laws.registry import PAIR_COEFFICIENT
from ddpm_ref.laws.running import FUNCTION, Running, depth, running, total
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.typing import Array

FP64 = Claim("fp64")
U = FP64.computing.u


def mean(numbers: Running) -> Running:
    """Over the last axis."""
    count = numbers.error.shape[-1]
    summed = numbers.sum(depth(count))
    return Running(summed.value / DoubleDouble.of(float(count)), summed.error / count, U).through(1)


def rounding(numbers: Running) -> Array:
    """How far from ``numbers.value.high`` a result may be."""
    return np.asarray(U * (numbers.error + np.abs(numbers.value.high)))


def logarithm_of(coefficient: DoubleDouble) -> Running:
    """Of a coefficient of a step, which passes through the roundings that the laws grant it."""
    value = log(coefficient)
    return Running(value, PAIR_COEFFICIENT + FUNCTION * np.abs(value.high), U)


@dataclass(frozen=True, eq=False)
class Step:
    """What is kept of each image at one step: the numbers of `ddpm_ref.evaluation.terms.COLUMNS`, ``(n,)``."""

    bits_per_dim: Running
    mse_eps: Running
    mse_x0: Running

    @classmethod
    def of(
        cls,
        schedule: NoiseSchedule,
        pair: tuple[int, int],
        x0: Array,
        noise: Array,
        xt: Array,
        answer: Array,
        log_variance: Running,
        levels: int | None,
        *,
        clip: bool = True,
    ) -> Self:
        """Of a network that predicts the noise."""
        t, s = (np.asarray(level) for level in pair)
        case = Case(FP64, schedule, {"x0": x0, "xt": xt, "value": answer, "t": t, "s": s})
        (solved,) = REGISTRY["prediction/x0_from_eps"].expect(case)
        value, sign = solved.value, DoubleDouble.of(np.sign(solved.value.high))
        if clip:  # takes two numbers apart never further than they are
            value = where(np.abs(value.high) > 1, sign, value)
        predicted = Running(value, np.broadcast_to(solved.roundings * solved.scale, x0.shape), U)
        log_variance = Running(
            log_variance.value + DoubleDouble.of(np.zeros(x0.shape)),
            np.broadcast_to(log_variance.error, x0.shape),
            U,
        )
        if pair[1]:
            weights = (running(case, case.step(name, x0), PAIR_COEFFICIENT) for name in ("x0_weight", "xt_weight"))
            of_model = total(*(w * v for w, v in zip(weights, (predicted, running(case, xt)), strict=True)))
            nats = divergence(posterior_mean(case), posterior_log_variance(case), of_model, log_variance)
        elif levels is None:
            nats = minus_log_density(running(case, x0), predicted, log_variance)
        else:
            nats = minus_log_of_level(case, predicted, log_variance, levels)
        bits = mean(nats)
        bits = Running(bits.value / LN2, bits.error / LN2.high, U).through(2)  # the constant, the quotient
        return cls(
            bits,
            mean((running(case, noise) - running(case, answer)).square),
            mean((running(case, x0) - predicted).square),
        )


def minus_log_density(x0: Running, predicted: Running, log_variance: Running) -> Running:
    """Of continuous data, whose mean in the step to level 0 is the prediction."""
    distance = ((x0 - predicted) * log_variance.times(-0.5).exp()).square
    constant = log(TWO_PI) + DoubleDouble.of(np.zeros(x0.error.shape))
    return total(Running(constant, np.abs(constant.high), U), log_variance, distance).times(0.5)


def minus_log_of_level(case: Case, predicted: Running, log_variance: Running, levels: int) -> Running:
    r"""The law of the decoder, and what the errors of mean and variance do to it.

    With z the distance of the further finite edge of the bin from the mean, in standard deviations,

    .. math:: \left|\frac{\partial\log p}{\partial\mu}\right| = \frac{|\mathrm E\,z|}{\sigma} \le \frac{|z| + 1}{\sigma}, \qquad
              \left|\frac{\partial\log p}{\partial\log\sigma^2}\right| = \frac{|\mathrm E\,z^2 - 1|}{2} \le \frac{(|z| + 1)^2}{2}

    for means over the bin, also an open one, beyond whose edge z exceeds it by less than 1 on average (Mills' ratio). Of first
    order: the errors are units of roundoff, and their squares are below the last digit of the bound.
    """
    values = {"x0": case.x0, "mean": predicted.value.high, "log_variance": log_variance.value.high}
    law = minus_log_probability(Case(FP64, None, values | {"levels": np.asarray(float(levels))}))
    std = np.exp(log_variance.value.high / 2)
    z = (np.abs(case.x0 - predicted.value.high) + 1 / (levels - 1)) / std
    led = (z + 1) / std * (predicted.error + np.abs(predicted.value.high))
    led = led + (z + 1) ** 2 / 2 * (log_variance.error + np.abs(log_variance.value.high))
    return Running(law.value, law.error + led, U)


def prior(schedule: NoiseSchedule, x0: Array) -> Running:
    """The prior term of each image, bits per dimension."""
    (nats,) = REGISTRY["bound/prior_term"].expect(Case(FP64, schedule, {"x0": x0}))
    bits = mean(Running(nats.value, np.broadcast_to(nats.roundings * nats.scale, x0.shape), U))
    return Running(bits.value / LN2, bits.error / LN2.high, U).through(2)
