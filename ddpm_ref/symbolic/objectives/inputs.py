r"""What a network is given besides the state: data on a fixed scale, and the time in cosines and sines."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.bound.decoder import LEVEL, level_index, levels
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.symbols import equation, letter, x

j = letter("j", "j", integer=True, nonnegative=True)
unit = letter("unit", "u", real=True)
pairs = letter("pairs", "h", integer=True, positive=True)
time, shift = letter("time", "t", real=True), letter("time_shift", r"\delta", real=True)
frequency = letter("frequency", r"\omega", positive=True)
slowest = letter("slowest", r"\Omega", positive=True)


@derives(
    r"x = 2u - 1,\quad u = \frac{x + 1}2;\qquad x_k = -1 + \frac{2k}{K-1},\quad k = \frac{(x_k + 1)(K - 1)}2",
    source="ho2020, section 3.3",
)
def data_scaling(proof: Proof) -> None:
    r"""The affine map that takes $[0, 1]$ to $[-1, 1]$ is found from its ends and inverted; grey levels are a grid on the first.
    The energy of the grid shows what the scale is for: levels that are equally frequent have a mean of 0 and an energy near
    $\tfrac13$.
    """
    slope, offset = sp.symbols("slope offset", real=True)
    proof.assume(r"Pixels are $u \in [0, 1]$, or one of $K \ge 2$ levels $k = 0, \dots, K - 1$, with $u = k/(K - 1)$.")
    ends = sp.solve([offset + 1, slope + offset - 1], [slope, offset])
    result = 2 * unit - 1
    proof.equal(
        r"The affine map with $0 \to -1$ and $1 \to 1$ is",
        (slope * unit + offset).subs(ends),
        result,
        shown=equation("x", result),
    )
    (back,) = sp.solve(sp.Eq(x, result), unit)
    inverse = proof.equal("Solved for the pixel,", back, (x + 1) / 2, equation("u", (x + 1) / 2))
    proof.equal("which undoes it.", inverse.subs(x, result), unit, shown="u(x(u)) = u")
    of_level = result.subs(unit, level_index / (levels - 1))
    proof.equal("Levels are mapped to", of_level, LEVEL, shown=equation("x_k", LEVEL))
    (back,) = sp.solve(sp.Eq(x, LEVEL), level_index)
    to_level = proof.equal("and back by", back, (x + 1) * (levels - 1) / 2, equation("k", (x + 1) * (levels - 1) / 2))
    proof.equal("without loss.", to_level.subs(x, LEVEL), level_index, shown="k(x_k) = k")
    proof.equal(
        "With 256 levels, as programs write it:",
        LEVEL.subs(levels, 256),
        level_index / sp.Rational("127.5") - 1,
        shown=r"x_k = \frac{k}{127.5} - 1",
    )
    proof.equal(
        "The grid is symmetric about 0,",
        LEVEL.subs(level_index, levels - 1 - level_index),
        -LEVEL,
        shown="x_{K-1-k} = -x_k",
    )
    second = sp.Sum(sp.expand(LEVEL**2), (level_index, 0, levels - 1)).doit() / levels
    proof.equal(
        "and its energy, all levels alike, is",
        second,
        (levels + 1) / (3 * (levels - 1)),
        equation(r"\tfrac1K\sum_kx_k^2", (levels + 1) / (3 * (levels - 1))),
    )
    proof.only_where(levels - 1, "a grid needs at least 2 levels")
    proof.conclude(from_unit=result, to_unit=inverse, from_level_index=LEVEL, to_level_index=to_level)


@derives(
    r"\mathrm{emb}(t) = (\cos\omega_jt,\ \sin\omega_jt)_{j<h},\quad \omega_j = 10000^{-j/h}\ \text{or}\ 10000^{-j/(h-1)};\quad"
    r" \lVert\mathrm{emb}(t)\rVert^2 = h",
    source="vaswani2017; ho2020, appendix B",
)
def time_embedding(proof: Proof) -> None:
    r"""Every frequency turns a point on a circle: the length is the same at all times, the inner product of two times knows their
    difference only, and a shift of time is a rotation, the same for all times, that a linear layer can learn.
    """
    proof.assume(
        r"$D = 2h$ components in $h$ pairs; the order of cosines and sines is a convention and changes nothing here."
    )
    here = sp.Matrix([sp.cos(frequency * time), sp.sin(frequency * time)])
    there = here.subs(time, time + shift)
    one = proof.equal(
        "One pair has the length", sp.trigsimp(here.dot(here)), sp.S.One, shown=r"\cos^2\omega_jt + \sin^2\omega_jt = 1"
    )
    norm = sp.Sum(one, (j, 0, pairs - 1))
    proof.equal(
        "and all of them", norm, pairs, shown=r"\lVert\mathrm{emb}(t)\rVert^2 = \sum_{j=0}^{h-1}1 = h = \frac D2"
    )
    product = sp.cos(frequency * shift)
    proof.equal(
        r"The inner product of two times is, pair by pair,",
        sp.trigsimp(sp.expand(sp.expand_trig(here.dot(there)))),
        product,
        shown=r"\cos\omega_jt\cos\omega_j(t+\delta) + \sin\omega_jt\sin\omega_j(t+\delta) = \cos\omega_j\delta",
    )
    turned = sp.Matrix(
        [
            [sp.cos(frequency * shift), -sp.sin(frequency * shift)],
            [sp.sin(frequency * shift), sp.cos(frequency * shift)],
        ]
    )
    proof.all_vanish(
        "A shift of time turns each pair by an angle that does not depend on the time.",
        [sp.expand(sp.expand_trig(each)) for each in there - turned * here],
        shown=r"\begin{pmatrix}\cos\omega_j(t+\delta)\\ \sin\omega_j(t+\delta)\end{pmatrix} ="
        r" \begin{pmatrix}\cos\omega_j\delta & -\sin\omega_j\delta\\ \sin\omega_j\delta & \cos\omega_j\delta\end{pmatrix}"
        r"\begin{pmatrix}\cos\omega_jt\\ \sin\omega_jt\end{pmatrix}",
    )
    open_end, closed_end = slowest ** (-j / pairs), slowest ** (-j / (pairs - 1))
    for of, says in ((open_end, r"$\Omega^{-j/h}$"), (closed_end, r"$\Omega^{-j/(h-1)}$")):
        proof.equal(f"The frequencies {says} begin with", of.subs(j, 0), sp.S.One, shown=r"\omega_0 = 1")
        proof.equal(
            "and fall by one ratio,",
            sp.powsimp(of.subs(j, j + 1) / of),
            of.subs(j, 1),
            shown=r"\frac{\omega_{j+1}}{\omega_j} = \omega_1",
        )
    proof.equal(
        r"The second kind ends with $1/\Omega$, $\Omega = 10000$; the first one stops a ratio before it.",
        closed_end.subs(j, pairs - 1),
        1 / slowest,
        shown=r"\omega_{h-1} = \frac1\Omega",
    )
    proof.conclude(squared_norm=pairs, inner_product_of_a_pair=product)
