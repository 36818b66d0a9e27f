"""Training objectives: the reference against its derivations, these against quadrature, and the figures that are known."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sympy as sp

from ddpm_ref.arithmetic import Claim
from ddpm_ref.arithmetic.bounds import gamma
from ddpm_ref.errors import LevelError, ProofError, RangeError
from ddpm_ref.reference import bound, scaling
from ddpm_ref.reference import objectives as reference
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.reference.oracle import Gaussian
from ddpm_ref.reference.prediction import eps_from_x0, x0_from_eps
from ddpm_ref.symbolic import ExactSchedule, Proof, derive, objectives
from ddpm_ref.symbolic.objectives.training import rate
from ddpm_ref.symbolic.symbols import alpha, beta, beta_bar_t, data_variance, eps, eps_hat, gain, variance

SCHEDULE = ExactSchedule([Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)])
ZERO_SNR = ExactSchedule([Fraction(1, 4), 1])
LINEAR = linear_schedule()
U = Claim("fp64").computing.u
TRUSTED = mpmath.mpf(10) ** -15  # quadrature carried to 30 digits
EXACT = mpmath.mpf(10) ** -50  # numbers of 60 digits after some dozen operations


def test_every_formula_of_the_subject_is_derived():
    assert [made.__name__ for made in objectives.DERIVATIONS] == [
        "loss_weight_mu", "loss_weight_x0", "loss_weight_eps", "loss_weight_v", "loss_weight_relation",
        "x0_eps_error_relation", "loss_simple_l2", "loss_simple_l1", "hybrid_objective", "mmse_optimality",
        "training_algorithm", "timestep_sampling", "loss_reduction", "data_scaling", "time_embedding",
    ]  # fmt: skip
    assert {made().subject for made in objectives.DERIVATIONS} == {"objectives"}


def _compiled(name: str, result: str, module: str = "numpy"):
    """A result as a function of arrays, or of numbers of mpmath, by name of its letters."""
    expression = derive(name).results[result]
    letters = sorted(expression.free_symbols, key=str)
    compiled = sp.lambdify(letters, expression, module)
    return lambda **values: compiled(*(values[letter.name] for letter in letters))


# --- the reference: weights -------------------------------------------------------------------------------------------

# Entries of tables are rounded once each, and every product and quotient of them once more; nothing is added.
WEIGHTS = [
    ("loss_weight_mu", bound.loss_weight_mean, {"posterior": 5, "beta": 2}),
    ("loss_weight_x0", bound.loss_weight_x0, {"posterior": 7, "beta": 7}),
    ("loss_weight_eps", bound.loss_weight_eps, {"posterior": 5, "beta": 5}),
    ("loss_weight_v", bound.loss_weight_v, {"posterior": 5, "beta": 5}),
]


@pytest.mark.parametrize(("name", "function", "roundings"), WEIGHTS, ids=[name for name, _, _ in WEIGHTS])
@pytest.mark.parametrize("kind", ["posterior", "beta"])
def test_weights(agree, name, function, roundings, kind):
    positive = _compiled(name, kind, "mpmath")  # the scale of a product of positive numbers is its value
    agree.functions(
        name,
        kind,
        lambda c: function(c.schedule, c.t, c.s, kind),
        data=(),
        roundings=roundings[kind],
        lowest=1,
        scale_of=lambda v: positive(**v),
    )


@pytest.mark.parametrize(("name", "function", "roundings"), WEIGHTS, ids=[name for name, _, _ in WEIGHTS])
def test_weights_of_the_step_to_the_data(agree, name, function, roundings):
    """With the variance beta; its letters alone are given, because the other weights are infinite there."""
    derivation = derive(name)
    seen = 0
    for c in agree.cases():
        if c.s == 0:
            levels = {letter: c.levels[letter] for letter in derivation.letters("beta")}
            want, got = derivation.value("beta", **levels), float(function(c.schedule, c.t, 0, "beta"))
            assert abs(got - want) <= float(gamma(roundings["beta"], U)) * want
            with pytest.raises(LevelError, match="s >= 1"):
                function(c.schedule, c.t, 0, "posterior")
            seen += 1
    assert seen > 10


def test_a_wrong_reference_disagrees(agree):
    with pytest.raises(AssertionError, match="loss_weight_eps"):  # E29
        agree.functions(
            "loss_weight_eps",
            "beta",
            lambda c: np.sqrt(bound.loss_weight_eps(c.schedule, c.t, c.s, "beta") / (2 * c.schedule.beta[c.t])),
            data=(),
            roundings=5,
            lowest=1,
        )
    with pytest.raises(AssertionError, match="data_scaling"):
        agree.arguments("data_scaling", "from_unit", lambda draw: {"unit": draw.random()}, lambda v: v["unit"])


# --- the reference: errors, losses, scales ----------------------------------------------------------------------------


def test_errors_of_data_and_noise(agree):
    agree.tables(
        "x0_eps_error_relation", "root", lambda c: c.schedule.sqrt_recipm1_alpha_bar[c.t], step=False, lowest=0
    )
    # A squared difference of two predictions, each of which has 5 roundings of its terms.
    agree.functions(
        "x0_eps_error_relation",
        "x0_error",
        lambda c: (x0_from_eps(c.schedule, c.xt, c.t, c.eps) - x0_from_eps(c.schedule, c.xt, c.t, c.eps_hat)) ** 2,
        data=("xt", "eps", "eps_hat"),
        roundings=2 * (5 + 1) + 1,
        step=False,
        scale_of=lambda v: (
            (2 * abs(v["xt"]) + mpmath.sqrt(v["beta_bar_t"]) * (abs(v["eps"]) + abs(v["eps_hat"]))) ** 2
            / v["alpha_bar_t"]
        ),
    )


def test_losses_of_one_component(agree):
    draw = random.Random(6)
    for _ in range(agree.points):
        target, answer = (draw.randint(-(2**20), 2**20) / 2**18 for _ in range(2))
        norm = (Fraction(target) - Fraction(answer)) ** 2
        want = derive("loss_reduction").value("mean", squared_norm_of_error=norm, dimension=1)
        (got,) = reference.simple_l2([[target]], [[answer]])
        assert abs(got - want) <= float(gamma(2, U)) * want
        (got,) = reference.simple_l1([[target]], [[answer]])
        assert got == abs(target - answer)


def test_a_mean_is_the_norm_over_the_number_of_components(agree):
    rng = np.random.default_rng(7)
    target, answer = rng.integers(-(2**20), 2**20, (2, agree.points, 12)) / 2**18
    losses = reference.simple_l2(target, answer)
    for k in range(agree.points):
        norm = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(target[k], answer[k], strict=True))
        want = derive("loss_reduction").value("mean", squared_norm_of_error=norm, dimension=12)
        # Difference, square, and a sum of twelve in any order (11), the quotient: all terms are positive.
        assert abs(losses[k] - want) <= float(gamma(2 + 11 + 1, U)) * want


def test_normal_data(agree):
    best, floor = derive("mmse_optimality"), derive("loss_simple_l2")
    for c in agree.cases("fraction", "xt"):
        tau2 = c.fraction + 2.0**-20
        at_t = {name: value for name, value in c.levels.items() if name.endswith(("_t", "_T"))}
        letters = at_t | {"data_variance": tau2}
        oracle = Gaussian([0.0], [[tau2]])
        want = floor.value("floor", **letters)
        with mpmath.workdps(60):
            assert abs(want - best.value("normal_floor", **letters)) < EXACT
            noise = best.value("normal_eps", **letters, xt=c.xt)
            assert abs(noise - floor.value("gain", **letters) * mpmath.mpf(c.xt)) < EXACT * (1 + abs(noise))
        # Of products and sums of positive terms: a product and a sum below, a product above, the quotient, entries rounded.
        assert abs(float(oracle.loss_floor(c.schedule, c.t).squeeze()) - want) <= float(gamma(8, U)) * want
        got = float(np.squeeze(oracle.eps(c.schedule, [c.xt], c.t)))
        assert abs(got - noise) <= float(gamma(12, U)) * abs(noise)


def test_the_noise_that_belongs_to_a_mean(agree):
    agree.functions(
        "mmse_optimality",
        "eps",
        lambda c: eps_from_x0(c.schedule, c.xt, c.t, c.x0_mean),
        data=("xt", "x0_mean"),
        roundings=5,  # of the law prediction/eps_from_x0
        step=False,
    )


def test_scales(agree):
    """Multiplied by 2 nothing is rounded, so that one rounding is left; levels are promised to be rounded once."""
    agree.arguments(
        "data_scaling", "from_unit", lambda draw: {"unit": draw.random()}, lambda v: scaling.from_unit(v["unit"])
    )
    agree.arguments(
        "data_scaling", "to_unit", lambda draw: {"x": draw.uniform(-1, 1)}, lambda v: scaling.to_unit(v["x"])
    )
    derivation = derive("data_scaling")
    for levels in (2, 3, 256, 1000):
        index = np.arange(levels)
        values = scaling.from_level_index(index, levels)
        assert values.tolist() == [
            float(derivation.value("from_level_index", level_index=k, levels=levels)) for k in range(levels)
        ]
        assert np.array_equal(scaling.to_level_index(values, levels), index)
    exact = Fraction(2 * 37, 255) - 1
    assert abs(derivation.value("to_level_index", x=exact, levels=256) - 37) < EXACT


def test_levels_from_one_number(agree):
    """Every one of them is the floor that the derivation shifts; with as many as there are levels each comes once."""
    draw = random.Random(8)
    for _ in range(agree.points):
        T, count = draw.randint(1, 40), draw.randint(1, 40)
        u = draw.randint(0, 2**30 - 1) / 2**30
        want = [1 + math.floor(T * ((Fraction(u) + Fraction(i, count)) % 1)) for i in range(count)]
        assert reference.antithetic_levels(u, count, T).tolist() == want
        assert sorted(reference.antithetic_levels(u, T, T).tolist()) == list(range(1, T + 1))


def test_importance_sampling(agree):
    derivation, draw = derive("timestep_sampling"), random.Random(9)
    for _ in range(agree.points // 4):
        roots, share = [draw.randint(1, 2**8) for _ in range(draw.randint(1, 12))], draw.randint(1, 2**10) / 2**10
        T, moments = len(roots), [float(root**2) for root in roots]
        found = reference.importance_probabilities(moments, share)
        weights = reference.importance_weights(found)
        for k, root in enumerate(roots):
            letters = {"probability": Fraction(root, sum(roots)), "uniform_share": share, "T": T}
            want = derivation.value("mixed", **letters)
            # Root (exact here), sum, quotient, complement, product, the uniform part, the sum: positive terms; perhaps normalised.
            assert abs(found[k] - want) <= float(gamma(8 + T, U)) * want
            weight = derivation.value("mixed_weight", **letters)
            assert abs(weights[k] - weight) <= float(gamma(10 + T, U)) * weight
            assert weight <= 1 / mpmath.mpf(share) + EXACT
        losses = [draw.random() for _ in roots]
        mean = math.fsum(p * w * loss for p, w, loss in zip(found, weights, losses, strict=True))
        assert abs(mean - math.fsum(losses) / T) <= float(gamma(24 + 2 * T, U)) * math.fsum(losses) / T


def test_the_best_probabilities_are_the_best():
    """Second moments 1, 4, 9 on a grid of laws: none does better than the derived one."""
    moments = np.array([1.0, 4.0, 9.0])
    cost = {}
    for a, b in itertools.product(range(1, 12), repeat=2):
        if a + b < 12:
            p = np.array([a, b, 12 - a - b]) / 12
            cost[a, b] = np.sum(moments / p)
    assert min(cost, key=cost.get) == (2, 4)
    least = np.sqrt(moments).sum() ** 2
    assert abs(cost[2, 4] - least) <= float(gamma(4, U)) * least  # probabilities, quotients, two sums


def test_hybrid_is_the_sum():
    assert reference.hybrid(2.0, 5.0, 0.125) == 2.625


# --- independent ways ----------------------------------------------------------------------------------------------------


def _steps() -> dict[str, np.ndarray]:
    """Level letters of the steps from t = 2, ..., 1000 to the level before, on the linear schedule."""
    pair = LINEAR.between(np.arange(2, 1001), np.arange(1, 1000))
    tables = {"alpha": pair.alpha, "beta": pair.beta}
    for name, at in (("t", slice(2, None)), ("s", slice(1, -1))):
        tables |= {f"alpha_bar_{name}": LINEAR.alpha_bar[at], f"beta_bar_{name}": LINEAR.beta_bar[at]}
    return tables


def _weights(name: str, result: str) -> np.ndarray:
    return _compiled(name, result)(**_steps())


def test_weights_of_the_linear_schedule():
    of_x0, of_eps = _weights("loss_weight_x0", "posterior"), _weights("loss_weight_eps", "posterior")
    assert [f"{of_x0[t - 2]:.4g}" for t in (2, 500, 1000)] == ["2726", "0.0004698", "4.119e-07"]
    assert f"{of_x0[0]:.1f}" == "2726.3"
    assert f"{of_x0.sum():.6g}" == f"{(9999 - LINEAR.snr[1000]) / 2:.6g}"
    assert [f"{of_eps[t - 2]:.5f}" for t in (2, 1000)] == ["0.59967", "0.01020"]
    assert (of_eps.argmin() + 2, f"{of_eps.min():.6f}") == (350, "0.004982")
    assert f"{0.5 / LINEAR.alpha[1]:.5f}" == "0.50005"


def test_the_weight_without_its_square():
    """E29: at any variance it is too large by the inverse of what the noise is multiplied by."""
    levels = _steps()
    wrong = np.sqrt(levels["alpha"] * levels["beta_bar_t"]) / levels["beta"]
    assert [f"{wrong[t - 2]:.1f}" for t in (2, 100, 500, 1000)] == ["123.7", "154.7", "95.1", "49.5"]
    assert (wrong.argmax() + 2, f"{wrong.max():.1f}") == (27, "158.9")
    assert (wrong.argmin() + 2, f"{wrong.min():.1f}") == (1000, "49.5")


def test_weights_are_not_constant():
    """E30: how far they are apart, and what leaving them away does to a network with one gain for all levels of unit data."""
    weights = _weights("loss_weight_eps", "posterior")
    assert f"{weights.max() / weights.min():.0f}" == "120"
    assert f"{100 * weights[:9].sum() / weights.sum():.1f}" == "18.4"
    assert f"{100 * 9 / 1000:.1f}" == "0.9"
    # One gain for all levels: the means of the best gains, which are the roots of beta_bar; both over t >= 2.
    gains = _compiled("loss_simple_l2", "gain")(
        alpha_bar_t=LINEAR.alpha_bar[2:], beta_bar_t=LINEAR.beta_bar[2:], data_variance=1.0
    )
    assert f"{np.average(gains, weights=weights):.3f}" == "0.571"
    assert f"{gains.mean():.3f}" == "0.807"


def test_the_factor_between_the_errors():
    factor = _compiled("x0_eps_error_relation", "ratio")(
        alpha_bar_t=LINEAR.alpha_bar[1:], beta_bar_t=LINEAR.beta_bar[1:]
    )
    assert (f"{factor[0]:.1e}", f"{factor[-1]:.0f}") == ("1.0e-04", "24777")


def test_what_another_noise_as_target_leaves():
    """E33, t = 500 of unit data."""
    letters = {"alpha_bar_t": LINEAR.alpha_bar[500], "beta_bar_t": LINEAR.beta_bar[500], "data_variance": 1.0}
    assert f"{_compiled('loss_simple_l2', 'gain')(**letters):.4f}" == "0.9599"
    assert f"{_compiled('loss_simple_l2', 'floor')(**letters):.4f}" == "0.0786"


def test_levels_rounded_from_an_interval():
    """E38: the ends of a rounded interval have half the share; E34: t noises for level t are 500.5 on average."""
    assert (f"{0.5 / 999:.7f}", f"{1 / 999:.6f}") == ("0.0005005", "0.001001")
    mean = sum(range(1, 1001)) * derive("timestep_sampling").value("uniform", T=1000)
    assert abs(mean - mpmath.mpf("500.5")) < EXACT


def test_absolute_errors_by_quadrature():
    derivation = derive("loss_simple_l1")
    with mpmath.workdps(30):
        for z in (Fraction(0), Fraction(3, 4), Fraction(-2)):
            at = mpmath.mpf(z.numerator) / z.denominator
            found = mpmath.quad(
                lambda u, at=at: abs(u - at) * mpmath.npdf(u), [-14, *sorted((at, mpmath.mpf(0.125))), 14]
            )
            assert abs(found - derivation.value("normal", z_score=z)) < TRUSTED
        letters = {"alpha_bar_t": Fraction(1, 4), "beta_bar_t": Fraction(3, 4), "data_variance": 3}
        # The noise given x_t is normal; its variance is the floor of the squared error.
        spread = mpmath.sqrt(derive("loss_simple_l2").value("floor", **letters))
        found = 2 * mpmath.quad(lambda u: u * mpmath.npdf(u, 0, spread), [0, 2, 14])
        assert abs(found - derivation.value("floor", **letters)) < TRUSTED


def test_the_median_and_not_the_mean():
    """Two values, three quarters of the noise at the first: the absolute error is least there, the squared one at the mean."""
    answers = np.arange(-128, 129) / 128
    absolute = 0.75 * np.abs(answers + 1) + 0.25 * np.abs(answers - 1)
    squared = 0.75 * (answers + 1) ** 2 + 0.25 * (answers - 1) ** 2
    assert answers[absolute.argmin()] == -1
    assert answers[squared.argmin()] == -0.5


def test_gradient_descent_finds_the_gain():
    """The mean of the iterates, by the derived closed form and by the recursion."""
    derivation = derive("training_algorithm")
    letters = {"alpha_bar_t": Fraction(9, 25), "beta_bar_t": Fraction(16, 25), "data_variance": 3}
    values = letters | {"learning_rate": Fraction(1, 10), "start_gain": -1}
    g, total = Fraction(-1), Fraction(9, 25) * 3 + Fraction(16, 25)
    for n in range(20):
        want = derivation.value("after", **values, n=n)
        assert abs(want - mpmath.mpf(g.numerator) / g.denominator) < TRUSTED
        g -= Fraction(1, 10) * 2 * (total * g - Fraction(4, 5))
    assert abs(derivation.value("after", **values, n=400) - derivation.value("gain", **letters)) < TRUSTED
    assert abs(derivation.value("factor", **letters, learning_rate=1 / (2 * total))) < EXACT


def test_a_drawn_gradient_is_unbiased():
    """A million draws of the gradient of a linear network, within the quantile of 1e-9 of the mean that was integrated."""
    rng = np.random.default_rng(10)
    x0, noise = rng.normal(0, 2, 1_000_000), rng.normal(size=1_000_000)
    xt = 0.6 * x0 + 0.8 * noise
    drawn = -2 * xt * (noise - 0.3 * xt)
    loss = derive("loss_simple_l2").results["loss"]
    values = {"alpha_bar_t": 0.36, "beta_bar_t": 0.64, "data_variance": 4, "gain": 0.3}
    exact = float(sp.diff(loss, gain).subs({letter: values[letter.name] for letter in loss.free_symbols}))
    assert abs(drawn.mean() - exact) < 6.11 * drawn.std() / 1000


def test_the_embedding_of_the_training_network():
    torch = pytest.importorskip("torch")
    from ddpm_ref.nn import sinusoidal_embedding

    times, pairs = torch.tensor([0.0, 3.0, 500.0, 999.0], dtype=torch.float64), 4
    found = sinusoidal_embedding(times, 2 * pairs, dtype=torch.float64).numpy()
    derivation = derive("time_embedding")
    assert derivation.value("squared_norm", pairs=pairs) == pairs
    # An angle is a product with a rounded power (3), cosine and sine are rounded (1), and so are products and sums of all.
    allowed = 2 * pairs * (2 * float(gamma(3, U)) * 999 + float(gamma(2 + 2 * pairs, U)))
    products = found @ found.T
    for (i, a), (j, b) in itertools.product(enumerate(times.tolist()), repeat=2):
        frequencies = [Fraction(10000 ** (-k / pairs)) for k in range(pairs)]
        cosines = (derivation.value("inner_product_of_a_pair", frequency=f, time_shift=b - a) for f in frequencies)
        assert abs(products[i, j] - mpmath.fsum(cosines)) <= allowed


def test_what_learned_variances_settle_at():
    """The best variance minimises the term of the step, by its own derivation."""
    best, term = derive("hybrid_objective"), derive("loss_denoising").results["from_x0"]
    given = {"eps": 1, "eps_hat": Fraction(1, 3), "variance": Fraction(1, 10), "vlb_weight": Fraction(1, 1000)}
    with mpmath.workdps(60):
        found, letters = best.at(SCHEDULE, 3, 1, **given), SCHEDULE.letters(3, 1)
        root = sp.sqrt(letters["beta_bar_t"] / letters["alpha_bar_t"])
        values = {**letters, "x0": root * sp.Rational(2, 3), "x0_hat": 0}
        term = term.subs({letter: values[letter.name] for letter in term.free_symbols if letter != variance})
        costs = [term.subs(variance, sp.Float(found["best_variance"] * k, 40)) for k in (0.9, 1, 1.1)]
        assert costs[0] > costs[1] < costs[2]
        weight = derive("loss_weight_eps").value("weight", **letters, variance=Fraction(1, 10))
        assert abs(found["pull"] - weight / 1000) < EXACT


# --- where nothing is answered ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["loss_weight_mu", "loss_weight_x0", "loss_weight_eps", "loss_weight_v"])
def test_no_posterior_weight_on_the_step_to_the_data(name):
    with pytest.raises(LevelError, match=r"it belongs to s >= 1.*\(asked at t = 2, s = 0\)"):
        derive(name).at(SCHEDULE, 2, 0, variance=1)
    with pytest.raises(RangeError, match="weighs every error infinitely"):
        derive(name).at(SCHEDULE, 2, 1, variance=0)


def test_other_forbidden_points():
    with pytest.raises(LevelError, match="use loss_weight_v"):
        derive("loss_weight_eps").at(ZERO_SNR, 2, 1, variance=1)
    assert derive("loss_weight_v").at(ZERO_SNR, 2, 1, variance=1)["posterior"] == mpmath.mpf(3) / 2
    for name in ("loss_weight_relation", "x0_eps_error_relation"):
        with pytest.raises(LevelError, match="zero terminal SNR"):
            derive(name).at(ZERO_SNR, 2, eps=1, eps_hat=0, v=1, v_hat=0)
    data = {"data_variance": 1, "gain": 1, "z_score": 0, "learning_rate": 1, "start_gain": 0, "n": 1}
    for name in ("loss_simple_l2", "loss_simple_l1", "training_algorithm"):
        with pytest.raises(LevelError, match="no noise to predict"):
            derive(name).at(SCHEDULE, 0, **data)
    sampling = derive("timestep_sampling")
    with pytest.raises(RangeError, match="lies between 0 and 1"):
        sampling.value("mixed", T=4, probability=Fraction(1, 4), uniform_share=2)
    with pytest.raises(RangeError, match="cannot be weighed"):
        sampling.value("mixed_weight", T=4, probability=0, uniform_share=0)
    with pytest.raises(RangeError, match="a whole number"):
        sampling.value("uniform", T=2.5)
    with pytest.raises(RangeError, match="at least 2 levels"):
        derive("data_scaling").value("from_level_index", level_index=0, levels=1)
    with pytest.raises(LevelError, match="there is no posterior variance"):
        derive("hybrid_objective").at(SCHEDULE, 1, 0, eps=1, eps_hat=0, variance=1, vlb_weight=1)


# --- steps that do not follow -----------------------------------------------------------------------------------------


def test_a_wrong_step_is_not_written():
    of_eps, of_x0, simple = (derive(n).results for n in ("loss_weight_eps", "loss_weight_x0", "loss_simple_l2"))
    unsquared = beta / (2 * variance * sp.sqrt(alpha) * sp.sqrt(beta_bar_t))
    wrong = {
        "E29, a weight without its square": (of_eps["weight"], unsquared),
        "E30, a weight called constant": (of_eps["weight"], sp.Rational(1, 2)),
        "E33, nothing learned": (simple["gain"], sp.S.Zero),
        "half forgotten": (of_x0["posterior"], 2 * of_x0["posterior"]),
        "weights that are one another": (of_x0["posterior"], of_eps["posterior"]),
        "errors that are one another": (derive("x0_eps_error_relation").results["x0_error"], (eps - eps_hat) ** 2),
        "a floor of 0": (simple["floor"], sp.S.Zero),
        "a deviation for a variance": (simple["floor"], simple["floor"].subs(data_variance, sp.sqrt(data_variance))),
        "a step in the other direction": (
            derive("training_algorithm").results["factor"], derive("training_algorithm").results["factor"].subs(rate, -rate)
        ),
    }  # fmt: skip
    for says, (left, right) in wrong.items():
        with pytest.raises(ProofError, match="it is false"):
            Proof("wrong").equal(says, left, right)
