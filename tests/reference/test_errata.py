"""The damage figures of ERRATA sections 1 and 2, to the digits printed there: the wrong form beside the reference's right one."""

import numpy as np
import pytest
from scipy import integrate

from ddpm_ref.reference.divergence import kl_normal
from ddpm_ref.reference.forward import (
    aggregate_noise_correlation,
    data_marginal,
    q_mean_variance,
    second_moment,
    stepwise_inversion,
    terminal_kl,
)
from ddpm_ref.reference.named_schedules import cosine_schedule
from ddpm_ref.reference.posterior import (
    completing_square,
    log_q_posterior,
    posterior_variance,
    posterior_weights,
    q_posterior,
    true_reverse_kernel,
)
from ddpm_ref.reference.reverse import model_mean_from_eps, reverse_chain_variance, reverse_variance


def figures(values, *forms):
    return [format(float(v), f) for v, f in zip(values, forms, strict=True)]


def std(variance):
    return np.sqrt(variance)


def pairs(*levels):
    return [(t, t - 1) for t in levels]


def wrong_forward_variance(H, start):
    """v <- alpha v + beta^2: the recursion of E01."""
    chain = [start]
    for alpha, beta in zip(H.alpha[1:], H.beta[1:], strict=True):
        chain.append(alpha * chain[-1] + beta**2)
    return np.array(chain)


def test_e01_forward_noise_beta_not_sqrt(lin1000):
    unit, given = wrong_forward_variance(lin1000, 1.0), wrong_forward_variance(lin1000, 0.0)
    assert figures(std(unit[[1000, 500]]), ".5f", ".5f") == ["0.13786", "0.29345"]
    assert data_marginal(lin1000, 0.0, 1.0, 1000)[1] == pytest.approx(1.0, abs=2**-51)  # rule: NUMERICS 1, k = 3
    right = q_mean_variance(lin1000, 1.0, 500)[1]
    assert figures(std([given[500], right]), ".5f", ".5f") == ["0.08673", "0.95990"]
    snr = [lin1000.beta_bar[t] / given[t] for t in (500, 1000)]
    assert figures(snr, ".0f", ".1f") == ["122", "52.7"]
    assert figures(1 / lin1000.sqrt_beta[[1, 1000]], ".0f", ".2f") == ["100", "7.07"]


def total_variation(density, other):
    return integrate.quad(lambda x: abs(density(x) - other(x)), -12, 12, limit=400, points=[-1, 0, 1])[0] / 2


def normal(mean, variance):
    return lambda x: np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def test_e02_marginal_equated_with_conditional(lin1000):
    variances = [data_marginal(lin1000, 0.0, 1.0, 100)[1], q_mean_variance(lin1000, 0.0, 100)[1]]
    assert figures(variances, ".5f", ".5f") == ["1.00000", "0.10298"]
    distances = []
    for t in (100, 250, 500, 750):
        (up, variance), (down, _) = q_mean_variance(lin1000, 1.0, t), q_mean_variance(lin1000, -1.0, t)
        plus, minus = normal(float(up), float(variance)), normal(float(down), float(variance))
        distances.append(total_variation(lambda x, p=plus, m=minus: (p(x) + m(x)) / 2, plus))
    assert figures(distances, ".3f", ".3f", ".3f", ".4f") == ["0.498", "0.353", "0.115", "0.0231"]


def test_e03_pathwise_sum_of_squares(lin1000):
    """The variance of x_t^2 - (alpha x^2 + beta eps^2) for unit data is that of the cross term, 4 alpha beta."""
    cross = [2 * lin1000.sqrt_alpha[t] * lin1000.sqrt_beta[t] for t in (100, 500, 1000)]
    assert figures(cross, ".4f", ".4f", ".4f") == ["0.0909", "0.1994", "0.2800"]
    # in expectation nothing is missing
    assert second_moment(lin1000, 1.0, 500, 499) == pytest.approx(1.0, abs=2**-51)  # rule: NUMERICS 1, k = 3


def test_e05_noise_symbol_conflation(lin1000):
    correlation = [aggregate_noise_correlation(lin1000, t) for t in (2, 100, 500, 1000)]
    assert figures(correlation, ".3f", ".3f", ".3f", ".3f") == ["0.738", "0.142", "0.104", "0.141"]
    t = np.arange(1000, 0, -1)
    variance = reverse_variance(lin1000, t, t - 1).copy()
    variance[-1] = 0.0
    # E[eps_t | x_t] = correlation E[eps | x_t], used in the DDPM update
    for s2, final in ((1.0, "71.8"), (0.25, "60.4")):
        eps = lin1000.sqrt_beta_bar[t] / data_marginal(lin1000, np.zeros(1000), np.full(1000, s2), t)[1]
        per_step = aggregate_noise_correlation(lin1000, t) * eps
        gains = model_mean_from_eps(lin1000, np.ones(1000), t, t - 1, per_step)
        assert f"{std(reverse_chain_variance(gains, variance)[-1]):.1f}" == final
    # the aggregate noise in the inversion of a step
    gains = stepwise_inversion(lin1000, np.ones(1000), t, lin1000.sqrt_beta_bar[t])
    assert f"{np.log10(np.abs(gains)).sum():.1f}" == "-36.7"


def test_e07_terminal_law_stated_as_exact(lin1000):
    assert f"{terminal_kl(lin1000, 1.0):.3e}" == "2.018e-05"
    mean, variance = q_mean_variance(lin1000, 1.0, 1000)
    assert f"{total_variation(normal(float(mean), float(variance)), normal(0.0, 1.0)):.2e}" == "2.53e-03"


def test_e08_alpha_bar_index_and_estimate(lin1000):
    assert f"{lin1000.log_alpha_bar[-1]:.8f}" == "-10.11771354"
    excess = [100 * (np.exp(-e) / lin1000.alpha_bar[-1] - 1) for e in (10, 10.05)]
    assert figures(excess, ".1f", ".1f") == ["12.5", "7.0"]


def test_e09_beta_much_smaller_than_alpha_required():
    H = cosine_schedule(1000)
    assert figures(H.beta[[999, 1000]], ".2f", ".3f") == ["0.75", "0.999"]
    assert int(np.flatnonzero(H.beta > H.alpha)[0]) == 998


def test_e10_bayes_denominator_inverted(lin1000):
    density = [normal(0.0, float(data_marginal(lin1000, 0.0, 1.0, t)[1])) for t in (0, 500)]
    assert f"{density[0](0.3) / density[1](0.7):.4f}" == "1.2214"


def test_e11_exponent_uses_sqrt_alpha_bar(lin1000):
    excess = []
    for t, s in pairs(100, 250, 500, 750, 1000):
        a, _ = completing_square(lin1000, 0.0, 0.0, t, s)
        wrong = a - lin1000.alpha[t] / lin1000.beta[t] + lin1000.alpha_bar[t] / lin1000.beta[t]
        excess.append(a / wrong)
    assert figures(excess, ".2f", ".2f", ".1f", ".1f", ".1f") == ["1.11", "1.88", "11.2", "54.3", "49.9"]
    right = posterior_weights(lin1000, 500, 499)[1]
    wrong = right * excess[2] * np.sqrt(lin1000.alpha_bar[500] / lin1000.alpha[500])
    assert figures([wrong, right], ".2f", ".3f") == ["3.13", "0.994"]


def test_e12_exponent_third_denominator(lin1000):
    """One deviation off: exp(-1/2) becomes exp(-beta_bar / (2 alpha_bar)) in the normaliser."""
    factor = [np.exp(lin1000.beta_bar[t] / lin1000.alpha_bar[t] / 2 - 0.5) for t in (100, 500)]
    assert figures(factor, ".3f", ".0f") == ["0.642", "213"]


def test_e13_posterior_mean_sqrt_alpha_bar(lin1000):
    error = [100 * (1 - np.sqrt(lin1000.alpha_bar[t] / lin1000.alpha[t])) for t in (100, 250, 500, 750, 1000)]
    assert figures(error, ".1f", ".1f", ".1f", ".1f", ".1f") == ["5.2", "27.4", "71.8", "94.2", "99.4"]
    c0, cx = posterior_weights(lin1000, 500, 499)
    wrong = cx * np.sqrt(lin1000.alpha_bar[500] / lin1000.alpha[500])
    assert f"{(wrong * lin1000.sqrt_alpha_bar[500] + c0) / lin1000.sqrt_alpha_bar[499]:.4f}" == "0.2896"
    t = np.arange(1000, 0, -1)
    c0, cx = posterior_weights(lin1000, t, t - 1)
    variance = reverse_variance(lin1000, t, t - 1).copy()
    variance[-1] = 0.0
    gains = cx * np.sqrt(lin1000.alpha_bar[t] / lin1000.alpha[t]) + c0 * lin1000.sqrt_alpha_bar[t]
    chain = std(reverse_chain_variance(gains, variance))
    assert figures(chain[[1000, 500]], ".3f", ".3f") == ["0.198", "0.104"]


def test_e14_sigma_equals_variance_in_appendix(lin1000):
    small = [1 / std(posterior_variance(lin1000, t, s)) for t, s in pairs(2, 100, 500, 1000)]
    assert figures(small, ".0f", ".1f", ".2f", ".2f") == ["135", "22.2", "9.98", "7.07"]


def test_e15_vertex_formula_inverted(lin1000):
    got = []
    for t, s in pairs(500, 2):
        a, b = completing_square(lin1000, 0.3, 0.7, t, s)
        got += [2 * a / b, b / (2 * a)]
    assert figures(got, ".4f", ".4f", ".4f", ".4f") == ["1.4351", "0.6968", "2.0752", "0.4819"]


def test_e16_final_exponent_sign(lin1000):
    shift = [
        2 * posterior_weights(lin1000, t, s)[0] / std(posterior_variance(lin1000, t, s))
        for t, s in pairs(2, 10, 100, 500)
    ]
    assert figures(shift, ".0f", ".1f", ".3f", ".4f") == ["148", "19.1", "0.846", "0.0613"]


def test_e17_final_exponent_variance_squared(lin1000):
    errors = []
    for t, s in pairs(2, 100, 500):
        mean, variance = q_posterior(lin1000, 0.3, 0.7, t, s)
        x = mean + std(variance)
        right = log_q_posterior(lin1000, x, 0.3, 0.7, t, s)
        errors.append(right - (-np.log(2 * np.pi * variance) / 2 - (x - mean) ** 2 / (2 * variance**2)))
    assert figures(errors, ".0f", ".0f", ".1f") == ["9168", "245", "49.3"]


def test_e18_one_symbol_for_three_arguments(lin1000):
    errors = []
    for t, s in pairs(2, 10, 100, 500):
        literal = 1 / lin1000.beta[t] + 1 / lin1000.beta_bar[s] - 1 / lin1000.beta_bar[t]
        errors.append(100 * (literal * posterior_variance(lin1000, t, s) - 1))
    assert figures(errors, ".1f", ".1f", ".1f", ".2f") == ["-24.8", "-12.5", "-1.8", "-0.09"]


def test_e19_false_conditional_independence(lin1000):
    """Of x_0 and x_{t-1} given x_t on G(1), from the posterior weight of x_0 and the two conditional variances."""
    partial = []
    for t, s in pairs(2, 100, 500, 1000):
        spread = lin1000.beta_bar[t]  # Var(x_0 | x_t) for unit data
        _, variance = true_reverse_kernel(lin1000, 0.0, t, s, 0.0, spread)
        partial.append(posterior_weights(lin1000, t, s)[0] * std(spread / variance))
    assert figures(partial, ".3f", ".3f", ".4f", ".5f") == ["0.738", "0.134", "0.0294", "0.00091"]


def test_e20_conditioning_dropped(lin1000):
    """True over stated variance on G(1), and the divergence of the true steps from the stated ones in bits."""
    ratios = []
    for t, s in pairs(2, 10, 100, 500):
        _, true = true_reverse_kernel(lin1000, 0.0, t, s, 0.0, lin1000.beta_bar[t])
        ratios.append(true / posterior_variance(lin1000, t, s))
    assert figures(ratios, ".3f", ".3f", ".3f", ".4f") == ["2.199", "1.173", "1.018", "1.0009"]
    t = np.arange(2, 1001)
    _, true = true_reverse_kernel(lin1000, np.zeros(999), t, t - 1, 0.0, lin1000.beta_bar[t])
    stated = posterior_variance(lin1000, t, t - 1)
    assert f"{kl_normal(0.0, true, 0.0, stated).sum() / np.log(2):.3f}" == "0.671"


def test_e21_deterministic_reverse_kernel(lin1000):
    """The mean alone, iterated without noise: exactly sqrt(alpha_bar_T) s^2 / V_T."""
    t = np.arange(1000, 0, -1)
    finals = []
    for s2 in (1.0, 0.25, 0.01):
        eps = lin1000.sqrt_beta_bar[t] / (lin1000.alpha_bar[t] * s2 + lin1000.beta_bar[t])
        per_step = aggregate_noise_correlation(lin1000, t) * eps
        gains = stepwise_inversion(lin1000, np.ones(1000), t, per_step)
        finals.append(std(reverse_chain_variance(gains, np.zeros(1000))[-1]))
    assert figures(finals, ".8f", ".8f", ".2e") == ["0.00635282", "0.00158825", "6.35e-05"]


def test_e23_sigma_symbol_sometimes_squared(lin1000):
    large = [std(v) / v for v in (posterior_variance(lin1000, t, s) for t, s in pairs(2, 500, 1000))]
    assert figures(large, ".0f", ".2f", ".2f") == ["135", "9.98", "7.07"]
