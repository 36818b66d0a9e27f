r"""Data on a grid of levels: how probable each of them is, given a normal law of the value before it was rounded."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import density
from ddpm_ref.symbolic.induction import last
from ddpm_ref.symbolic.symbols import equation, letter, mean, x

levels = letter("levels", "K", integer=True, positive=True)
level_index = letter("level_index", "k", integer=True, nonnegative=True)
std = letter("std", r"\sigma", positive=True)
i = letter("i", "i", integer=True, positive=True)
n = letter("n", "n", integer=True, nonnegative=True)
u = letter("u", "u", real=True)
z = letter("z_score", r"\zeta", real=True)
width = letter("width", r"\delta", positive=True)
cubic = letter("cubic", "c", positive=True)

LEVEL = -1 + 2 * level_index / (levels - 1)
"""The value of a level: K of them, evenly from -1 to 1."""
HALF = 1 / (levels - 1)
LOWER, UPPER = (LEVEL - HALF - mean) / std, (LEVEL + HALF - mean) / std
"""The edges of a bin, in deviations from the mean."""


def below(at: sp.Expr) -> sp.Expr:
    r"""Standard normal probability of less, :math:`\Phi`, by the complementary error function of the other tail."""
    return sp.erfc(-at / sp.sqrt(2)) / 2


def above(at: sp.Expr) -> sp.Expr:
    r"""Standard normal probability of more, :math:`1 - \Phi`; small numbers come out as they are, without a difference."""
    return sp.erfc(at / sp.sqrt(2)) / 2


@derives(
    r"p(x_k\mid x_1) = \Phi\left(\frac{\delta_+(x_k)-\mu}{\sigma}\right) - \Phi\left(\frac{\delta_-(x_k)-\mu}{\sigma}\right),\quad"
    r" x_k = -1 + \frac{2k}{K-1},\quad \delta_\pm(x) = x \pm \frac1{K-1},\quad \delta_+(1) = \infty,\ \delta_-(-1) = -\infty",
    source="ho2020, eq. (13)",
)
def discretized_gaussian_decoder(proof: Proof) -> None:
    r"""The normal law is cut into bins half-way between neighbouring levels; the outermost bins take the tails. The probabilities
    add up to 1 because every edge is the upper one of a bin and the lower one of the next. Where the law is wide a bin has
    density times width, where it is narrow all or nothing; there the tails decide what can be computed.
    """
    proof.assume(r"$K \ge 2$ levels $x_0, \dots, x_{K-1}$, evenly spaced from $-1$ to 1; $\sigma > 0$; one component.")
    following = LEVEL.subs(level_index, level_index + 1)
    proof.equal(
        r"The edge between two neighbours is half-way,",
        (LEVEL + following) / 2,
        LEVEL + HALF,
        shown=r"x_k + \frac1{K-1}",
    )
    proof.equal(
        "the upper edge of one bin and the lower one of the next.",
        LEVEL + HALF,
        following - HALF,
        shown=r"\delta_+(x_k) = \delta_-(x_{k+1})",
    )
    tail = sp.integrate(density(u, 0, 1), (u, -sp.oo, z))
    proof.equal(
        r"The standard normal density, integrated up to a point, with the complementary error function,",
        tail.rewrite(sp.erf),
        below(z).rewrite(sp.erf),
        shown=equation(r"\Phi(\zeta)", below(z)),
    )
    proof.holds(
        "rises from 0 to 1,",
        [sp.Eq(sp.limit(below(z), z, -sp.oo), 0), sp.Eq(sp.limit(below(z), z, sp.oo), 1), sp.diff(below(z), z) > 0],
        shown=r"\Phi(-\infty) = 0,\quad \Phi(\infty) = 1,\quad \Phi' > 0",
    )
    proof.equal(
        "and is the other tail of the mirrored point.",
        (1 - below(z)).rewrite(sp.erf),
        above(z).rewrite(sp.erf),
        shown=r"1 - \Phi(\zeta) = \Phi(-\zeta)",
    )
    low, high = letter("low", "a", real=True), letter("high", "b", real=True)
    bin_ = sp.integrate(density(u, 0, 1), (u, low, high)).rewrite(sp.erf)
    proof.equal(
        r"With $x = \mu + \sigma u$ a bin has the probability",
        bin_,
        (below(high) - below(low)).rewrite(sp.erf),
        shown=r"\int_{\delta_-}^{\delta_+}\mathcal N(x; \mu, \sigma^2)\,dx"
        r" = \Phi\left(\frac{\delta_+-\mu}\sigma\right) - \Phi\left(\frac{\delta_--\mu}\sigma\right)",
    )
    _adds_up(proof)
    proof.equal(
        "The same from the upper tails, for bins above the mean, where both are small:",
        bin_,
        (above(low) - above(high)).rewrite(sp.erf),
        shown=r"\Phi(b) - \Phi(a) = \Phi(-a) - \Phi(-b)",
    )
    mirrored = {level_index: levels - 1 - level_index, mean: -mean}
    proof.all_vanish(
        r"Mirrored, $k \to K - 1 - k$ and $\mu \to -\mu$, the edges change places and signs, and the probabilities stay.",
        [LOWER.subs(mirrored, simultaneous=True) + UPPER, UPPER.subs(mirrored, simultaneous=True) + LOWER],
        shown=r"p_{K-1-k}(-\mu) = p_k(\mu)",
    )
    _wide_and_narrow(proof)
    proof.only_where(std, "a law of deviation 0 is a point, and levels are certain or impossible; give std > 0")
    proof.only_where(levels - 1, "a grid needs at least 2 levels")
    # 1 - sign(x) is positive where x <= 0: the last level belongs to the domain.
    proof.only_where(1 - sp.sign(level_index - levels + 1), "levels are numbered from 0 to K - 1")
    first, final = below(UPPER).subs(level_index, 0), above(LOWER).subs(level_index, levels - 1)
    proof.conclude(inner=above(LOWER) - above(UPPER), first=first, last=final)


def _adds_up(proof: Proof) -> None:
    at_edges = sp.IndexedBase(letter("at_edges", r"\Phi", real=True))
    proof.say(
        r"Let $\Phi_i$ be $\Phi$ at the edge below level $i$, for $i = 1, \dots, K - 1$. The outermost bins have $\Phi_1$ and"
        r" $1 - \Phi_{K-1}$, because their outer edges are infinite. The bins between them have the sum",
        r"\sum_{i=1}^{K-2}(\Phi_{i+1} - \Phi_i) = \Phi_{K-1} - \Phi_1",
    )
    between = sp.Sum(at_edges[i + 1] - at_edges[i], (i, 1, n))
    claimed = at_edges[n + 1] - at_edges[1]
    proof.equal("by induction: no bin,", between.subs(n, 0).doit(), claimed.subs(n, 0), shown="0")
    longer = between.subs(n, n + 1)
    proof.equal(
        "and one more.",
        claimed + last(longer),
        claimed.subs(n, n + 1),
        shown=r"(\Phi_{n+1} - \Phi_1) + (\Phi_{n+2} - \Phi_{n+1}) = \Phi_{n+2} - \Phi_1",
    )
    proof.equal(
        r"With both ends ($n = K - 2$) that is everything.",
        at_edges[1] + claimed + (1 - at_edges[n + 1]),
        sp.S.One,
        shown=r"\sum_{k=0}^{K-1}p_k = 1",
    )


def _wide_and_narrow(proof: Proof) -> None:
    bin_ = below((x + width / 2 - mean) / std) - below((x - width / 2 - mean) / std)
    at = sp.exp(-((x - mean) ** 2) / (2 * std**2)) / (sp.sqrt(2 * sp.pi) * std)
    offset = sp.Dummy("offset", real=True)
    series = sp.series(bin_.subs(x, mean + offset), width, 0, 5).removeO().subs(offset, x - mean)
    proof.equal(
        r"A wide law, $\sigma \gg \delta$ with $\delta = 2/(K-1)$: in powers of $\delta$ a bin has the density times its width,"
        r" and the next term is smaller by $\delta^2/\sigma^2$,",
        series,
        width * at * (1 + width**2 / (24 * std**2) * ((x - mean) ** 2 / std**2 - 1)),
        shown=r"p_k = \delta\,\mathcal N(x_k; \mu, \sigma^2)\left[1 + \frac{\delta^2}{24\sigma^2}"
        r"\left(\frac{(x_k-\mu)^2}{\sigma^2} - 1\right)\right] + O(\delta^5)",
    )
    up, down = letter("to_upper", "b", positive=True), letter("to_lower", "a", positive=True)
    proof.equal(
        r"A narrow law gives everything to the bin that its mean lies in, at distances $a$ and $b$ from the edges,",
        sp.limit(below(up / std) - below(-down / std), std, 0, "+"),
        sp.S.One,
        shown=r"\lim_{\sigma\to0}\left[\Phi(b/\sigma) - \Phi(-a/\sigma)\right] = 1",
    )
    proof.equal(
        "and nothing to any other: its cost in nats is infinite, which a floor under the probability hides.",
        sp.limit(above(up / std) - above((up + down) / std), std, 0, "+"),
        sp.S.Zero,
        shown=r"\lim_{\sigma\to0}\left[\Phi(-b/\sigma) - \Phi(-(b + a)/\sigma)\right] = 0",
    )
    approximate = (1 + sp.tanh(sp.sqrt(2 / sp.pi) * (z + cubic * z**3))) / 2
    proof.equal(
        r"Widely used code has $\Phi(\zeta) \approx \tfrac12[1 + \tanh(\sqrt{2/\pi}\,(\zeta + c\,\zeta^3))]$ with $c ="
        r" 0.044715$ instead. At 0 it has the right value and slope;",
        sp.series(approximate - below(z), z, 0, 3).removeO(),
        sp.S.Zero,
        shown=r"\tfrac12\left[1 + \tanh(\dots)\right] - \Phi(\zeta) = O(\zeta^3)",
    )
    third = sp.diff(approximate - below(z), z, 3).subs(z, 0)
    (matched,) = sp.solve(third, cubic)
    proof.equal("the third derivative would take another", matched, (4 - sp.pi) / (6 * sp.pi), equation("c", matched))
    proof.holds(
        "by little: the code has chosen a small error everywhere instead.",
        [matched - sp.Rational("0.0447") > 0, matched - sp.Rational("0.0460") < 0],
        shown=r"0.0447 < \frac{4 - \pi}{6\pi} < 0.0460",
    )
