"""The variational bound: the reference against its derivations, and these against quadrature and whole chains."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp

from ddpm_ref.arithmetic import Claim, ulp_distance
from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.laws.divergence import VARIANCE_FORM
from ddpm_ref.reference import bound as reference
from ddpm_ref.reference.decoder import discretized_gaussian_log_likelihood
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.symbolic import ExactSchedule, Proof, bound, derive
from ddpm_ref.symbolic.bound.decoder import LOWER, UPPER, level_index
from ddpm_ref.symbolic.divergence import SPREAD, ratio
from ddpm_ref.symbolic.posterior.chain import VARIANCE
from ddpm_ref.symbolic.symbols import beta_bar_T, variance

SCHEDULE = ExactSchedule([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
LINEAR = linear_schedule()
U = Claim("fp64").computing.u
TRUSTED = mpmath.mpf(10) ** -15  # quadrature carried to 30 digits
EXACT = mpmath.mpf(10) ** -50  # numbers of 60 digits after some dozen operations


def test_every_formula_of_the_subject_is_derived():
    assert [made.__name__ for made in bound.DERIVATIONS] == [
        "elbo_jensen", "elbo_telescoping", "elbo_decomposition", "loss_prior", "loss_denoising", "loss_reconstruction",
        "discretized_gaussian_decoder", "bits_per_dim", "vlb_term_selector",
    ]  # fmt: skip
    assert {made().subject for made in bound.DERIVATIONS} == {"bound"}


def _function(name: str, result: str, module: str = "numpy"):
    """A result as a function of arrays, or of numbers of mpmath, by name of its letters."""
    expression = derive(name).results[result]
    letters = sorted(expression.free_symbols, key=str)
    compiled = sp.lambdify(letters, expression, module)
    return lambda **values: compiled(*(values[letter.name] for letter in letters))


# --- the reference ----------------------------------------------------------------------------------------------------


def test_prior_term(agree):
    """As `terminal_kl`, of which the law has the scale: the value, and what one rounding of alpha_bar does to it."""

    def size(v):
        value = (v["alpha_bar_T"] * v["x0"] ** 2 - v["alpha_bar_T"] - mpmath.log(v["beta_bar_T"])) / 2
        return abs(value) + v["alpha_bar_T"] ** 2 / (2 * v["beta_bar_T"])

    agree.functions(
        "loss_prior",
        "component",
        lambda c: reference.prior_term(c.schedule, c.x0),
        data=("x0",),
        roundings=8,
        step=False,
        scale_of=size,
    )


MEAN = 3  # of two products with rounded weights: sampling's rule for an affine combination
TERM = 2 * (MEAN + 1) + 6  # a difference from it, squared; exponential and its argument, product, half, two sums
CONVERSION = 3  # the logarithm of 2, its product with the number of components, the quotient


def _distance(v):
    weights = mpmath.sqrt(v["alpha_bar_s"]) * v["beta"], mpmath.sqrt(v["alpha"]) * v["beta_bar_s"]
    return (weights[0] * abs(v["x0"]) + weights[1] * abs(v["xt"])) / v["beta_bar_t"] + abs(v["mean"])


def _term_scale(v):
    """As of the law divergence/kl_normal_logvar; the logarithm of the posterior variance is rounded before it is subtracted."""
    tilde = v["beta"] * v["beta_bar_s"] / v["beta_bar_t"]
    logs = abs(mpmath.log(tilde)) + abs(v["log_variance"])
    inverse = mpmath.exp(-v["log_variance"])
    return ((1 + logs) * tilde * inverse + 1 + logs + (1 + abs(v["log_variance"])) * _distance(v) ** 2 * inverse) / 2


DRAWN = ("x0", "xt", "mean", "log_variance")


def test_denoising_term(agree):
    agree.functions(
        "loss_denoising",
        "from_log_variance",
        lambda c: reference.denoising_term(c.schedule, c.x0, c.xt, c.t, c.s, c.mean, c.log_variance),
        data=DRAWN,
        roundings=TERM,
        lowest=1,
        scale_of=_term_scale,
    )


def test_variance_term(agree):
    def size(v):
        r = v["beta_bar_s"] / v["beta_bar_t"]
        return (r + 1 + abs(mpmath.log(r))) / 2

    agree.functions(
        "loss_denoising",
        "fixed_large",
        lambda c: reference.variance_term(c.schedule, c.t, c.s, "beta"),
        data=(),
        roundings=VARIANCE_FORM,
        lowest=1,
        scale_of=size,
    )


def _density_scale(v):
    inverse = mpmath.exp(-v["log_variance"])
    square = (abs(v["x0"]) + abs(v["mean"])) ** 2 * inverse * (1 + abs(v["log_variance"]))
    return (mpmath.log(2 * mpmath.pi) + abs(v["log_variance"]) + square) / 2


def test_the_step_to_the_data(agree):
    """The derivation has a variance; e to the power of a float, taken to 60 digits, is one. In nats and, selected, in bits."""
    in_nats = _function("loss_reconstruction", "density", "mpmath")
    in_bits = _function("vlb_term_selector", "reconstruction", "mpmath")
    for c in agree.cases(*DRAWN):
        with mpmath.workdps(60):
            at = {"x0": mpmath.mpf(c.x0), "mean": mpmath.mpf(c.mean), "log_variance": mpmath.mpf(c.log_variance)}
            exact = at | {"variance": mpmath.exp(c.log_variance)}
            nats, bits, size = in_nats(**exact), in_bits(**exact), _density_scale(at)
        got = float(reference.reconstruction_term(c.x0, c.mean, c.log_variance, levels=None))
        assert abs(got - nats) <= float(gamma(TERM, U)) * size
        if c.s == 0:
            got = float(reference.bound_term(c.schedule, c.x0, c.xt, c.t, 0, c.mean, c.log_variance, levels=None))
            assert abs(got - bits) <= float(gamma(TERM + CONVERSION, U)) * size / mpmath.log(2)


def test_the_term_of_a_level_in_bits(agree):
    agree.functions(
        "vlb_term_selector",
        "denoising",
        lambda c: reference.bound_term(c.schedule, c.x0, c.xt, c.t, c.s, c.mean, c.log_variance, levels=None),
        data=DRAWN,
        roundings=TERM + CONVERSION,
        lowest=1,
        scale_of=lambda v: _term_scale(v) / mpmath.log(2),
    )


def test_units(agree):
    agree.arguments(
        "bits_per_dim",
        "bits",
        lambda draw: {"nats": draw.randint(-(2**30), 2**30) / 2**14, "dimension": draw.randint(1, 3 * 2**16)},
        lambda v: reference.bits_per_dim(v["nats"], v["dimension"]),
        roundings=CONVERSION,
    )
    agree.arguments(
        "bits_per_dim",
        "nats",
        lambda draw: {"bits": draw.randint(-(2**30), 2**30) / 2**26, "dimension": draw.randint(1, 3 * 2**16)},
        lambda v: reference.nats_per_image(v["bits"], v["dimension"]),
        roundings=CONVERSION,
    )
    agree.arguments(
        "bits_per_dim",
        "continuous",
        lambda draw: {
            "nats": draw.randint(-(2**30), 2**30) / 2**14,
            "dimension": draw.randint(1, 3 * 2**16),
            "levels": draw.choice((2, 3, 17, 256, 1000, 65536)),
        },
        lambda v: reference.continuous_bits_per_dim(v["nats"], v["dimension"], v["levels"]),
        roundings=CONVERSION + 3,  # the other logarithm, its quotient, the sum
        scale_of=lambda v: (
            abs(v["nats"]) / (v["dimension"] * mpmath.log(2)) + abs(mpmath.log((v["levels"] - 1) / 2, 2))
        ),
    )
    assert derive("bits_per_dim").value("uniform", levels=256) == 8


# What the reference promises for exact arguments.
DECODER_ULPS = 8


def _bin(draw: random.Random) -> tuple[int, float, float, int]:
    """A level with a lower edge, and a mean from 14 deviations below that to 9 above it: 60 digits leave 15 of what is rare."""
    levels = draw.choice((2, 3, 17, 256, 256, 1000))
    k, std = draw.randint(1, levels - 1), draw.randint(1, 2**12) / 2 ** draw.choice((10, 14, 18))
    away = draw.randint(-14 * 2**10, 9 * 2**10) / 2**10
    return k, round((-1 + (2 * k - 1) / (levels - 1) + away * std) * 2**30) / 2**30, std, levels


def test_decoder(agree):
    """Levels and their mirror images: the derivation evaluates upper tails, of which the lower ones are images."""
    derivation, draw, seen = derive("discretized_gaussian_decoder"), random.Random(5), set()
    for _ in range(agree.points):
        k, mean, std, levels = _bin(draw)
        result = "last" if k == levels - 1 else "inner"
        given = {"mean": mean, "std": std, "levels": levels}
        with mpmath.workdps(60):
            probability = derivation.value(result, level_index=k, **given)
            want = float(mpmath.log(probability))
            if result == "last":
                image = derivation.value("first", level_index=0, **(given | {"mean": -mean}))
                assert abs(image - probability) < EXACT
        for at, centre in ((k, mean), (levels - 1 - k, -mean)):
            got = float(discretized_gaussian_log_likelihood(at, centre, std, levels))
            assert ulp_distance(got, want) <= DECODER_ULPS, (at, centre, std, levels, got, want)
        seen.add(result)
    assert seen == {"inner", "last"}


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="loss_denoising"):  # E27: for a fixed variance, r upside down
        agree.functions(
            "loss_denoising",
            "fixed_large",
            lambda c: (lambda r: (1 / r - 1 + math.log(r)) / 2)(c.schedule.beta_bar[c.s] / c.schedule.beta_bar[c.t]),
            data=(),
            roundings=VARIANCE_FORM,
            lowest=1,
        )
    with pytest.raises(AssertionError, match="loss_prior"):
        agree.functions(
            "loss_prior",
            "component",
            lambda c: -reference.prior_term(c.schedule, c.x0),
            data=("x0",),
            roundings=8,
            step=False,
        )


# --- whole chains -----------------------------------------------------------------------------------------------------


TERMS = ("prior", "denoising", "reconstruction")


def _random_chains(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(24)
    alpha, alpha_bar_s = rng.uniform(0.05, 0.98, (2, count))
    levels = {"alpha": alpha, "beta": 1 - alpha, "alpha_bar_s": alpha_bar_s, "beta_bar_s": 1 - alpha_bar_s}
    levels |= {"alpha_bar_t": alpha * alpha_bar_s, "beta_bar_t": 1 - alpha * alpha_bar_s}
    levels |= {name: rng.uniform(-1.5, 1.5, count) for name in ("gain", "gain_0")}
    levels |= {name: np.exp(rng.uniform(-4, 1.5, count)) for name in ("variance", "variance_0")}
    return levels | {"x0": rng.normal(0, 1.5, count)}


def test_the_bound_is_never_violated_and_with_a_wrong_sign_it_is():
    """20 000 linear models of two steps; E24: with the last term the other way round most are below the truth."""
    chains = _random_chains(20_000)
    total, nll = (_function("elbo_decomposition", name)(**chains) for name in ("bound", "nll"))
    assert np.min(total - nll) > 0
    terms = [_function("elbo_decomposition", name)(**chains) for name in TERMS]
    assert sp.expand(sum(derive("elbo_decomposition").results[name] for name in TERMS)) == sp.expand(
        derive("elbo_decomposition").results["bound"]
    )
    assert min(term.min() for term in terms[:2]) >= 0
    assert np.mean(terms[0] + terms[1] - terms[2] < nll) > 0.5


def test_the_gap_vanishes_for_the_chain_read_backwards():
    jensen, parts = derive("elbo_jensen"), derive("elbo_decomposition")
    levels = {"alpha_bar_t": Fraction(9, 25), "beta_bar_t": Fraction(16, 25), "x0": Fraction(7, 3)}
    assert abs(jensen.value("gap", **levels, gain=Fraction(3, 5), variance=Fraction(16, 25))) < EXACT
    assert jensen.value("gap", **levels, gain=Fraction(3, 5), variance=Fraction(1, 2)) > 0
    both = levels | {"alpha": Fraction(9, 16), "beta": Fraction(7, 16), "alpha_bar_s": Fraction(16, 25)}
    model = {
        "gain": Fraction(3, 4),
        "variance": Fraction(7, 16),
        "gain_0": Fraction(4, 5),
        "variance_0": Fraction(9, 25),
    }
    values = {name: parts.value(name, **both, **model, beta_bar_s=Fraction(9, 25)) for name in parts.results}
    assert abs(values["bound"] - values["nll"]) < EXACT
    assert min(values["prior"], values["denoising"], values["reconstruction"]) > mpmath.mpf("0.001")


@pytest.mark.parametrize(("gain", "variance"), [(0.25, 0.5), (-1.5, 0.125)])
def test_bound_and_likelihood_by_quadrature(gain, variance):
    letters = {"alpha_bar_t": Fraction(1, 4), "beta_bar_t": Fraction(3, 4), "x0": Fraction(3, 2), "gain": gain}
    jensen, letters = derive("elbo_jensen"), letters | {"variance": variance}
    with mpmath.workdps(30):
        x0, signal, noise = mpmath.mpf(3) / 2, mpmath.mpf(1) / 2, mpmath.sqrt(mpmath.mpf(3) / 4)

        def joint(x):
            return mpmath.npdf(x) * mpmath.npdf(x0, gain * x, mpmath.sqrt(variance))

        def weighed(x):
            q = mpmath.npdf(x, signal * x0, noise)
            return -q * (mpmath.log(joint(x)) - mpmath.log(q))

        grid = mpmath.linspace(-13, 13, 27)
        assert abs(mpmath.quad(weighed, grid) - jensen.value("bound", **letters)) < TRUSTED
        assert abs(-mpmath.log(mpmath.quad(joint, grid)) - jensen.value("nll", **letters)) < TRUSTED


def test_a_step_of_the_chain_turned_around():
    """The density of a step, computed as it is, and by the posterior and two marginals."""
    data = {"x0": Fraction(1, 3), "xs": Fraction(-2, 5), "xt": Fraction(3, 4)}
    for t, s in ((3, 2), (3, 1), (2, 1)):
        letters = SCHEDULE.letters(t, s)
        with mpmath.workdps(60):
            alpha, beta = (mpmath.mpf(int(letters[k].p)) / int(letters[k].q) for k in ("alpha", "beta"))
            xs, xt = mpmath.mpf(-2) / 5, mpmath.mpf(3) / 4
            want = -(mpmath.log(2 * mpmath.pi * beta) + (xt - mpmath.sqrt(alpha) * xs) ** 2 / beta) / 2
        assert abs(derive("elbo_telescoping").at(SCHEDULE, t, s, **data)["log_step"] - want) < EXACT


def test_decoder_by_quadrature_and_its_sum():
    derivation, at = (
        derive("discretized_gaussian_decoder"),
        {"mean": Fraction(3, 16), "std": Fraction(1, 4), "levels": 5},
    )
    with mpmath.workdps(30):
        edges = [-mpmath.inf, *(mpmath.mpf(k) / 4 for k in (-3, -1, 1, 3)), mpmath.inf]
        probabilities = []
        for k, (low, high) in enumerate(itertools.pairwise(edges)):
            result = "first" if k == 0 else "last" if k == 4 else "inner"
            probabilities.append(derivation.value(result, level_index=k, **at))
            integral = mpmath.quad(lambda x: mpmath.npdf(x, mpmath.mpf(3) / 16, mpmath.mpf(1) / 4), [low, 0, high])
            assert abs(probabilities[-1] - integral) < TRUSTED
        assert abs(mpmath.fsum(probabilities) - 1) < mpmath.mpf(10) ** -28  # carried to 30 digits
        wide = at | {"std": 50, "levels": 256, "level_index": 100}
        z = (mpmath.mpf(200) / 255 - 1 - mpmath.mpf(3) / 16) / 50
        ratio_to_density = derivation.value("inner", **wide) / (mpmath.npdf(z) / 50 * 2 / 255)
        next_term = (mpmath.mpf(2) / 255 / 50) ** 2 * (z**2 - 1) / 24
        assert abs(ratio_to_density - 1 - next_term) < next_term**2  # of which the fourth power is the size


def test_the_formula_with_tanh_is_off_by_what_is_known():
    z = np.linspace(-6, 6, 24_001)
    normal = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in z])
    tanh = (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2
    assert f"{np.max(np.abs(tanh - normal)):.2e}" == "1.79e-04"


# --- figures that are known, on the linear schedule of 1000 levels ----------------------------------------------------


def _steps() -> dict[str, np.ndarray]:
    """Level letters of the steps from t = 2, ..., 1000 to the level before."""
    pair = LINEAR.between(np.arange(2, 1001), np.arange(1, 1000))
    tables = {"alpha": pair.alpha, "beta": pair.beta}
    for name, at in (("t", slice(2, None)), ("s", slice(1, -1))):
        tables |= {f"alpha_bar_{name}": LINEAR.alpha_bar[at], f"beta_bar_{name}": LINEAR.beta_bar[at]}
    return tables


def test_what_the_prior_term_costs():
    derivation = derive("loss_prior")
    letters = ExactSchedule(np.linspace(1e-4, 0.02, 1000).tolist()).letters(1000)
    for norm, bits in ((12, "2.911e-05"), (4, "9.70e-06")):
        value = derivation.value("vector", **letters, squared_norm=norm, dimension=12)
        if norm == 12:
            assert f"{float(value) / 12:.3e}" == "2.018e-05"
        units = derive("bits_per_dim")
        per_dimension = units.value("bits", nats=Fraction(str(mpmath.nstr(value, 25))), dimension=12)
        assert f"{float(per_dimension):.{len(bits) - 6}e}" == bits


def test_what_a_fixed_variance_costs_and_the_wrong_order_of_the_arguments():
    levels = _steps()
    costs = _function("loss_denoising", "fixed_large")(**levels)
    assert f"{costs[0]:.4f}" == "0.1214"
    assert f"{costs.sum() / math.log(2):.4f}" == "0.4864"
    compiled = sp.lambdify(ratio, SPREAD / 2, "numpy")
    swapped = compiled(levels["beta_bar_t"] / levels["beta_bar_s"])
    assert f"{swapped[0]:.4f}" == "0.2055"
    assert f"{swapped.sum() / math.log(2):.4f}" == "0.6707"


def test_what_no_model_can_avoid():
    """Unit data, of whose steps the variance is beta: half the logarithm of its ratio to the posterior variance."""
    derivation, data = (
        derive("loss_denoising"),
        {"x0": 1, "xt": 1, "x0_hat": 1, "mean": 1, "variance": 1, "log_variance": 0},
    )
    for t, s in ((3, 2), (3, 1), (2, 1)):
        noise = {level: SCHEDULE.letters(level)["beta_bar_t"] for level in (t, s)}
        found = derivation.at(SCHEDULE, t, s, x0_variance=noise[t], **data)["unavoidable"]
        with mpmath.workdps(60):
            ratio_of_noise = noise[t] / noise[s]
            want = mpmath.log(mpmath.mpf(int(ratio_of_noise.p)) / int(ratio_of_noise.q)) / 2
            assert abs(found - want) < EXACT


@pytest.mark.parametrize(
    ("missed", "variance", "bits"),
    [
        (0.01, LINEAR.beta_tilde[2], "2.51"), (0.01, LINEAR.beta[1], "2.40"), (0.01, 1e-20, "27.7"),
        (0.005, LINEAR.beta_tilde[2], "1.61"), (0.005, LINEAR.beta[1], "1.88"), (0.005, 1e-20, "17.3"),
    ],
)  # fmt: skip
def test_what_the_variance_of_the_last_step_costs(missed, variance, bits):
    """E36: a mean that is off by a normal error, decoded with probabilities floored at 1e-12, in bits per dimension."""
    z = np.linspace(-8, 8, 40_001)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    nats = discretized_gaussian_log_likelihood(np.full(z.shape, 128), 1 / 255 + missed * z, math.sqrt(variance))
    cost = -np.sum(weights * np.maximum(nats, math.log(1e-12))) / math.log(2)
    assert f"{cost:.{len(bits.partition('.')[2])}f}" == bits


# --- where nothing is answered ----------------------------------------------------------------------------------------


def test_forbidden_points():
    model = {"x0": 1, "gain": 1, "variance": 1, "gain_0": 1, "variance_0": 1, "xt": 1, "xs": 1, "mean": 1, "x0_hat": 1}
    model |= {"log_variance": 0, "x0_variance": 1}
    for name in ("elbo_telescoping", "elbo_decomposition", "loss_denoising", "vlb_term_selector"):
        with pytest.raises(LevelError, match=r"the posterior is the point x_0.*\(asked at t = 2, s = 0\)"):
            derive(name).at(SCHEDULE, 2, 0, **model)
    for name in ("elbo_jensen", "elbo_decomposition", "loss_denoising"):
        with pytest.raises(RangeError, match="a point and has no density"):
            derive(name).at(SCHEDULE, 2, 1, **(model | {"variance": 0}))
    with pytest.raises(RangeError, match=r"e\.g\. that of the step before"):
        derive("loss_reconstruction").value("density", x0=1, mean=1, variance=0)
    with pytest.raises(LevelError, match="made no step"):
        derive("elbo_jensen").at(SCHEDULE, 0, x0=1, gain=1, variance=1)
    with pytest.raises(RangeError, match="T >= 1"):
        derive("loss_prior").value("component", alpha_bar_T=1, beta_bar_T=0, x0=1)
    decoder, at = derive("discretized_gaussian_decoder"), {"mean": 0, "std": 1, "levels": 4, "level_index": 1}
    for wrong, words in (
        ({"std": 0}, "levels are certain or impossible"),
        ({"levels": 1}, "at least 2 levels"),
        ({"level_index": 4}, "numbered from 0 to K - 1"),
        ({"level_index": -1}, "it is 0 or greater"),
        ({"level_index": 0.5}, "a whole number"),
    ):
        with pytest.raises(RangeError, match=words):
            decoder.value("inner", **(at | wrong))
    with pytest.raises(RangeError, match="at least 2 levels"):
        derive("bits_per_dim").value("continuous", nats=1, dimension=1, levels=1)


# --- steps that do not follow -----------------------------------------------------------------------------------------


def test_a_wrong_step_is_not_written():
    parts, terms = derive("elbo_decomposition").results, derive("loss_denoising").results
    prior, decoder = derive("loss_prior").results, derive("discretized_gaussian_decoder").results
    wrong = {
        "E24, the term of the data with a plus": (parts["bound"], parts["prior"] + parts["denoising"] - parts["reconstruction"]),
        "E25, the whole the other way round": (parts["bound"], -parts["bound"]),
        "E27, arguments exchanged": (terms["fixed_large"], terms["fixed_large"].subs(variance, VARIANCE) * 2),
        "a bound that is no bound": (parts["bound"], parts["nll"]),
        "the signal in the place of the noise": (prior["component"], prior["component"].subs(beta_bar_T, 1 - beta_bar_T)),
        "a bin that is too wide": (decoder["inner"], (sp.erfc(LOWER / 2) - sp.erfc(UPPER / 2)) / 2),
        "levels counted from 1": (decoder["inner"], decoder["inner"].subs(level_index, level_index - 1)),
        "nats for bits": (derive("bits_per_dim").results["bits"], derive("bits_per_dim").results["bits"] * sp.log(2)),
    }  # fmt: skip
    for says, (left, right) in wrong.items():
        with pytest.raises(ProofError, match="it is false"):
            Proof("wrong").equal(says, left, right)
