r"""Nats of an image in bits per dimension, and the term of the bound that belongs to the level of an example."""

from __future__ import annotations

import sympy as sp

from ddpm_ref.symbolic.bound.decoder import LEVEL, level_index, levels
from ddpm_ref.symbolic.bound.jensen import POINT
from ddpm_ref.symbolic.bound.telescoping import NO_POSTERIOR
from ddpm_ref.symbolic.bound.terms import loss_denoising, loss_reconstruction
from ddpm_ref.symbolic.derivation import Proof, derives
from ddpm_ref.symbolic.induction import last, peeled
from ddpm_ref.symbolic.posterior.chain import NO_STEP
from ddpm_ref.symbolic.symbols import T, beta_bar_s, beta_bar_t, letter, variance

i = letter("i", "i", integer=True, positive=True)
j = letter("j", "j", integer=True, nonnegative=True)
n = letter("n", "n", integer=True, nonnegative=True)
dimension = letter("dimension", "d", integer=True, positive=True)
nats = letter("nats", "L", real=True)
bits = letter("bits", "b", real=True)
terms = sp.IndexedBase(letter("terms", "L", real=True))
in_components = sp.IndexedBase(letter("in_components", r"\ell", real=True))


@derives(
    r"b = \frac{L}{d\log2},\qquad b_{\mathrm{grid}} = b_{\mathrm{density}} + \log_2\frac{K-1}2",
    source="ho2020, section 4",
)
def bits_per_dim(proof: Proof) -> None:
    r"""A code of $c$ bits belongs to a probability of $2^{-c}$, and a cost of $L$ nats to one of $e^{-L}$; the rest is sharing out
    among components. A density of continuous data in $[-1, 1]$ is compared with probabilities on a grid by the change of
    variables that makes neighbouring levels 1 apart.
    """
    code = letter("code_length", "c", real=True)
    proof.assume(r"$L$ is a negative log-likelihood (or a bound on one) of a whole image of $d$ components, in nats.")
    # 2^-c = e^-L, solved for c: both are positive, and logarithms are one-to-one.
    (length,) = sp.solve(sp.expand_log(sp.log(2**-code) - sp.log(sp.exp(-nats)), force=True), code)
    proof.equal(r"$2^{-c} = e^{-L}$, solved for the length of the code,", length, nats / sp.log(2))
    result = nats / (dimension * sp.log(2))
    proof.equal("shared out among the components:", length / dimension, result)
    each = sp.Sum(in_components[i], (i, 1, dimension))
    proof.equal(
        r"If the nats are known per component, that is their mean over $\log 2$,",
        result.subs(nats, each),
        sp.Sum(in_components[i], (i, 1, dimension)) / dimension / sp.log(2),
        shown=r"b = \frac1{\log2}\cdot\frac1d\sum_i\ell_i",
    )
    other = sp.Dummy("other", real=True)
    proof.equal(
        "and linear: terms may be converted one by one.",
        result.subs(nats, nats + other),
        result + result.subs(nats, other),
        shown=r"b(L + L') = b(L) + b(L')",
    )
    (back,) = sp.solve(sp.Eq(bits, result), nats)
    proof.equal("The way back:", back, bits * dimension * sp.log(2))
    uniform = sp.log(levels) / sp.log(2)
    proof.equal(
        r"A decoder for which all $K$ levels are equally likely needs",
        result.subs({nats: dimension * -sp.log(1 / levels)}),
        uniform,
    )
    proof.equal("bits, with 256 levels", uniform.subs(levels, 256), sp.Integer(8), shown="8")
    step = sp.diff(LEVEL, level_index)
    proof.say(
        r"A density $p(x)$ on $[-1, 1]$ becomes, in units of the grid $x_k = -1 + \tfrac{2k}{K-1}$, the density $p(x)\,dx/dk$,"
        " which is what the probability of a level is to be compared with,",
        rf"\frac{{dx}}{{dk}} = {sp.latex(2 / (levels - 1), symbol_names={levels: 'K'})}",
    )
    shift = sp.log((levels - 1) / 2) / sp.log(2)
    more = {levels: n + 2}
    proof.equal(
        r"which adds to the bits of a component ($K = n + 2$, $n \ge 0$)",
        -sp.log(step.subs(more)) / sp.log(2),
        shift.subs(more),
        shown=r"-\log_2\frac{dx}{dk} = \log_2\frac{K-1}2",
    )
    proof.equal(
        "With 256 levels the density that is constant on the interval, one half, needs",
        (sp.log(2) / sp.log(2) + shift).subs(levels, 256),
        sp.log(255) / sp.log(2),
    )
    proof.only_where(levels - 1, "a grid needs at least 2 levels")
    proof.conclude(bits=result, nats=back, uniform=uniform, continuous=result + shift)


@derives(
    r"v_i = \frac{[i = 1]\,L_0 + [i > 1]\,L_{i-1}}{d\log2},\qquad"
    r" \sum_{i=1}^Tv_i + \frac{L_T}{d\log2} = \frac{1}{d\log2}\left(L_T + \sum_{t=2}^TL_{t-1} + L_0\right)",
    source="ho2020, code; nichol2021, eq. (4)",
)
def vlb_term_selector(proof: Proof) -> None:
    r"""What a program evaluates for an example at its level: the reconstruction term on the first, a denoising term on any other,
    never the term of the prior. Summed over the levels it is the bound without the prior; at a random level, times their number,
    it is so on average.
    """
    proof.assume(r"$i$ counts the steps of the trajectory from the data on: $i = 1$ is the step to level 0.")
    selected = sp.Piecewise((terms[0], sp.Eq(i, 1)), (terms[i - 1], True))
    proof.say("The selector,", selected)
    proof.equal("is the reconstruction term on the first step", selected.subs(i, 1), terms[0], shown="L_0")
    proof.equal(
        "and the denoising term of the same step on any other.",
        selected.subs(i, n + 2),
        terms[n + 1],
        shown=r"v_i = L_{i-1}\quad (i = n + 2,\ n \ge 0)",
    )
    whole = sp.Sum(selected, (i, 1, T))
    claimed = terms[0] + sp.Sum(terms[i - 1], (i, 2, T))
    proof.equal(
        "Summed over the steps it gives every term once. One step:",
        whole.subs(T, 1).doit(),
        claimed.subs(T, 1).doit(),
        shown="v_1 = L_0",
    )
    proof.equal(
        r"One more, $T + 1 = n + 2$:",
        (claimed + last(whole.subs(T, T + 1))).subs(T, n + 1),
        (terms[0] + peeled(sp.Sum(terms[i - 1], (i, 2, T + 1)))).subs(T, n + 1),
        shown=r"\sum_{i=1}^{T+1}v_i = L_0 + \sum_{i=2}^{T+1}L_{i-1}",
    )
    proof.equal(
        r"At a step drawn with probability $1/T$ each, $T$ times the term has the sum as its mean.",
        sp.Sum(T * terms[j] / T, (j, 0, T - 1)),
        sp.Sum(terms[j], (j, 0, T - 1)),
        shown=r"\sum_{i=1}^T\frac1T\cdot Tv_i = \sum_{i=1}^Tv_i",
    )
    per_bit = bits_per_dim().results["bits"].subs(dimension, 1)
    denoising, reconstruction = (
        per_bit.subs(nats, derived().results[name])
        for derived, name in ((loss_denoising, "from_log_variance"), (loss_reconstruction, "density"))
    )
    proof.say("In bits, for one component, the term of a step between noisy states is", denoising)
    proof.say("and that of the step to level 0, for data with a density,", reconstruction)
    proof.only_where(beta_bar_t, NO_STEP)
    proof.only_where(beta_bar_s, NO_POSTERIOR)
    proof.only_where(variance, POINT)
    proof.conclude(denoising=denoising, reconstruction=reconstruction)
