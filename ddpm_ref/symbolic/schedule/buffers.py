"""The coefficients that samplers keep at hand, and how they are looked up for a batch."""

from __future__ import annotations

import itertools

import sympy as sp

from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.gaussian import complete_square
from ddpm_ref.symbolic.marginal import Normal
from ddpm_ref.symbolic.symbols import (
    T,
    alpha,
    alpha_bar_s,
    alpha_bar_t,
    beta,
    beta_bar_s,
    beta_bar_t,
    eps,
    letter,
    x0,
    xs,
    xt,
)

ENTRIES = tuple(letter(f"entry_{n}", f"a_{n}", real=True) for n in range(4))
table = sp.Function("a", real=True)
index = letter("index", "i", integer=True)
place = letter("place", "k", integer=True)


@derives(
    r"x_0 = \sqrt{1/\bar\alpha_t}\,x_t - \sqrt{1/\bar\alpha_t - 1}\;\varepsilon,\qquad \mathbb E[x_s\mid x_t, x_0] = "
    r"\frac{1}{\sqrt{\alpha}}\,x_t - \frac{\beta}{\sqrt{\alpha}\sqrt{\bar\beta_t}}\,\varepsilon",
    source="ho2020, code",
)
def schedule_tables(proof: Proof) -> None:
    r"""The tables that code keeps are coefficients of two linear maps: from $x_t$ and noise to the data, and from the same to the
    mean of the step back. Both maps are derived and their coefficients read off.
    """
    proof.assume(
        r"$x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon$, and the kernels of `forward_marginal`."
    )
    draw = sp.sqrt(alpha_bar_t) * x0 + sp.sqrt(beta_bar_t) * eps
    root, noise_root = draw.diff(x0), draw.diff(eps)
    proof.equal(
        "The squares of the two coefficients of the draw sum to 1.",
        root**2 + noise_root**2,
        sp.Integer(1),
        shown=r"\left(\sqrt{\bar\alpha_t}\right)^2 + \left(\sqrt{\bar\beta_t}\right)^2 = 1",
    )
    data = sp.expand(sp.solve(xt - draw, x0)[0])
    of_xt = proof.equal(r"Solved for the data, the coefficient of $x_t$ is", data.diff(xt), 1 / sp.sqrt(alpha_bar_t))
    of_eps = proof.equal("and that of the noise, with a minus,", -data.diff(eps), sp.sqrt(1 / alpha_bar_t - 1))
    proof.equal(
        "Their squares differ by 1.",
        of_xt**2 - of_eps**2,
        sp.Integer(1),
        shown=r"\left(\sqrt{1/\bar\alpha_t}\right)^2 - \left(\sqrt{1/\bar\alpha_t - 1}\right)^2 = 1",
    )
    joint = Normal(xt, sp.sqrt(alpha) * xs, beta).exponent + Normal(xs, sp.sqrt(alpha_bar_s) * x0, beta_bar_s).exponent
    mean = complete_square(joint, xs).mean
    proof.say(
        r"Completing the square in $x_s$ in the joint density of $x_s$ and $x_t$ given the data, the mean of $x_s$ is",
        mean,
    )
    by_noise = sp.expand(mean.subs(x0, data))
    step_xt = proof.equal(
        r"With the data eliminated, the coefficient of $x_t$ is", by_noise.diff(xt), 1 / sp.sqrt(alpha)
    )
    step_eps = proof.equal(
        "and that of the noise, with a minus,", -by_noise.diff(eps), beta / (sp.sqrt(alpha) * sp.sqrt(beta_bar_t))
    )
    proof.only_where(
        alpha_bar_t, "where alpha_bar is 0 nothing of the data is left, and x_0 does not follow from x_t and noise"
    )
    proof.only_where(
        beta_bar_t, "at t = 0 there is no noise: its logarithm and the step back are not defined; ask for t >= 1"
    )
    proof.conclude(
        sqrt_alpha_bar=root,
        sqrt_beta_bar=noise_root,
        log_beta_bar=sp.log(beta_bar_t),
        sqrt_recip_alpha_bar=of_xt,
        sqrt_recipm1_alpha_bar=of_eps,
        recip_sqrt_alpha=step_xt,
        eps_weight=step_eps,
    )


@derives(r"\mathrm{extract}(a, i)_b = a_{i_b} = \sum_{k=0}^{T-1}\delta_{k i_b}\,a_k", source="ho2020, code")
def extract_coefficients(proof: Proof) -> None:
    r"""Looking up is multiplying with a one-hot matrix: linear in the table, with symbolic entries and a symbolic index. What lies
    outside the table is selected by no row, so it must be refused and not wrapped around. A column of one coefficient per example
    scales each example alone, whatever the order of the batch.
    """
    proof.assume(r"A table $a_0, \dots, a_{T-1}$, indices $i_b$, data of shape $(B, d)$; $\delta$ is Kronecker's.")
    pick = sp.KroneckerDelta(place, index)
    chosen = sp.Sum(pick * table(place), (place, 0, T - 1)).doit()
    inside = {index: sp.Symbol("i", integer=True, nonnegative=True)}
    inside[T] = inside[index] + 1 + sp.Symbol("m", integer=True, nonnegative=True)
    proof.equal(
        r"The row of an index inside the table ($T = i + 1 + m$ with $i, m \ge 0$) selects its entry,",
        chosen.subs(inside, simultaneous=True),
        table(index).subs(inside),
        shown=r"\sum_{k=0}^{T-1}\delta_{ki}\,a_k = a_i\quad(0 \le i \le T-1)",
    )
    for outside, wrong in (("the one before the first", sp.Integer(-1)), ("the one after the last", T)):
        proof.equal(
            f"and an index outside, {outside}, selects nothing:",
            chosen.subs(index, wrong),
            sp.Integer(0),
            shown=rf"\sum_{{k=0}}^{{T-1}}\delta_{{k,{sp.latex(wrong)}}}\,a_k = 0",
        )
    proof.equal(
        "Each row sums to 1.",
        sp.Sum(pick, (place, 0, T - 1)).doit().subs(inside, simultaneous=True),
        sp.Integer(1),
        shown=r"\sum_{k=0}^{T-1}\delta_{ki} = 1",
    )

    batch = [sp.Symbol(f"i_{n}", integer=True) for n in range(3)]
    column = sp.Matrix(3, 1, lambda a, _: table(batch[a]))
    data = sp.Matrix(3, 2, lambda a, b: letter(f"x_{a}{b}", f"x_{{{a}{b}}}", real=True))
    broadcast = (column * sp.ones(1, 2)).multiply_elementwise(data)
    proof.all_vanish(
        "As a column, repeated along the other axes, the coefficients multiply each example by its own one,",
        broadcast - sp.diag(*column) * data,
        shown=r"\left(\mathrm{extract}(a, i)\,\mathbf 1^\top\right)\odot x = \mathrm{diag}(a_{i_1}, \dots, a_{i_B})\,x",
    )
    orders = list(itertools.permutations(range(3)))
    matrices = [sp.Matrix(3, 3, lambda a, b, order=order: int(order[a] == b)) for order in orders]
    proof.all_vanish(
        "and reordering the batch before or after makes no difference (all orders of three examples).",
        [
            entry
            for order, matrix in zip(orders, matrices, strict=True)
            for entry in sp.Matrix(3, 1, lambda a, _, order=order: table(batch[order[a]])) - matrix * column
        ],
        shown=r"\mathrm{extract}(a, P\,i) = P\,\mathrm{extract}(a, i)",
    )
    proof.only_where(index + 1, "an index below 0 lies outside the table; levels are not counted from the end")
    proof.only_where(len(ENTRIES) - index, f"the table has {len(ENTRIES)} entries, 0 to {len(ENTRIES) - 1}")
    proof.conclude(entry=sp.Add(*(sp.KroneckerDelta(sp.Integer(n), index) * entry for n, entry in enumerate(ENTRIES))))
