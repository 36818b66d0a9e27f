r"""The tables of a schedule as formulas on balls, written from their definitions; nothing here comes from `ddpm_ref.reference`.

An entry is exact as soon as the products it is made of are: sums, products, quotients and square roots of Arb have radius
zero where their result fits the working precision, and each formula takes its root of a dyadic number. So a tie, which no
ball of positive radius decides, is decided once the precision holds the products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from math import inf
from operator import mul

from flint import arb


@dataclass(frozen=True, eq=False)
class Step:
    r"""What entries of a pair ``t > s`` are made of: :math:`\alpha_{t|s}, \beta_{t|s}`, and both products at both levels."""

    a: arb
    b: arb
    at: arb
    bt: arb
    as_: arb
    bs: arb


def steps(betas: list[arb], pairs: Iterable[tuple[int, int]]) -> Iterator[Step]:
    """The factors of some pairs of levels, at the precision in force; ``betas[t - 1]`` is beta of level t."""
    pairs = list(pairs)
    one = arb(1)
    wanted, alpha_bar = {level for pair in pairs for level in pair}, {0: one}
    product = one
    for t in range(1, max(wanted, default=0) + 1):
        product = product * (one - betas[t - 1])
        if t in wanted:
            alpha_bar[t] = product
    for t, s in pairs:
        # The product over the step itself, not a quotient of long ones: few bits, so that ties come out exactly.
        a = reduce(mul, (one - beta for beta in betas[s:t]))
        at, as_ = alpha_bar[t], alpha_bar[s]
        yield Step(a, betas[s] if t == s + 1 else one - a, at, one - at, as_, one - as_)


def over(x: arb, y: arb) -> arb:
    """A quotient; infinite for a positive number over zero (zero terminal SNR)."""
    return arb.pos_inf() if y.is_zero() else x / y


def log(x: arb) -> arb:
    """The natural logarithm; minus infinity at zero."""
    return arb.neg_inf() if x.is_zero() else x.log()


Formula = Callable[[Step], arb]

PAIRS: dict[str, Formula] = {
    "alpha": lambda k: k.a,
    "beta": lambda k: k.b,
    "beta_tilde": lambda k: k.b * k.bs / k.bt,
    "sqrt_alpha": lambda k: k.a.sqrt(),
    "sqrt_beta": lambda k: k.b.sqrt(),
    "std_tilde": lambda k: (k.b * k.bs / k.bt).sqrt(),
    "recip_sqrt_alpha": lambda k: over(arb(1), k.a.sqrt()),
    "x0_weight": lambda k: k.as_.sqrt() * k.b / k.bt,
    "xt_weight": lambda k: k.a.sqrt() * k.bs / k.bt,
    "eps_weight": lambda k: over(k.b, (k.a * k.bt).sqrt()),
    "reverse_variance_bound": lambda k: over(k.b, k.a),
}
"""Entries of `NoiseSchedule.between`, each the float64 nearest to its exact value."""

LEVELS: dict[str, Formula] = {
    "beta": PAIRS["beta"],
    "alpha": PAIRS["alpha"],
    "alpha_bar": lambda k: k.at,
    "beta_bar": lambda k: k.bt,
    "beta_tilde": PAIRS["beta_tilde"],
    "sqrt_alpha_bar": lambda k: k.at.sqrt(),
    "sqrt_beta_bar": lambda k: k.bt.sqrt(),
    "snr": lambda k: k.at / k.bt,
    "sqrt_recip_alpha_bar": lambda k: over(arb(1), k.at.sqrt()),
    "sqrt_recipm1_alpha_bar": lambda k: over(k.bt, k.at).sqrt(),
    "sqrt_alpha": PAIRS["sqrt_alpha"],
    "sqrt_beta": PAIRS["sqrt_beta"],
    "recip_sqrt_alpha": PAIRS["recip_sqrt_alpha"],
    "eps_weight": PAIRS["eps_weight"],
    "posterior_x0_weight": PAIRS["x0_weight"],
    "posterior_xt_weight": PAIRS["xt_weight"],
    "noise_share": lambda k: (k.b / k.bt).sqrt(),
}
"""Tables of `NoiseSchedule` at levels ``t >= 1``, each entry the float64 nearest to its exact value."""

LOGARITHMS: dict[str, Formula] = {
    "log_snr": lambda k: log(k.at / k.bt),
    "log_beta_bar": lambda k: log(k.bt),
    "log_alpha_bar": lambda k: log(k.at),
}
"""Tables of `NoiseSchedule` at levels ``t >= 1``, each entry within one unit in the last place."""

LEVEL_0: dict[str, float] = {
    **dict.fromkeys(("alpha", "alpha_bar", "sqrt_alpha_bar", "sqrt_recip_alpha_bar", "sqrt_alpha"), 1.0),
    **dict.fromkeys(("recip_sqrt_alpha", "posterior_x0_weight", "noise_share"), 1.0),
    **dict.fromkeys(("beta", "beta_bar", "beta_tilde", "sqrt_beta_bar", "sqrt_recipm1_alpha_bar", "sqrt_beta"), 0.0),
    **dict.fromkeys(("eps_weight", "posterior_xt_weight", "log_alpha_bar"), 0.0),
    **dict.fromkeys(("snr", "log_snr"), inf),
    "log_beta_bar": -inf,
}
"""Level 0 is clean data: limits where the formula has one, and what the documentation states where no step ends."""
