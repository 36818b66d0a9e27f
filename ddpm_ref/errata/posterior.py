"""What is commonly written about the posterior and the step back, and what is right."""

from __future__ import annotations

from ddpm_ref.errata.demonstrations import posterior as damage
from ddpm_ref.errata.record import Erratum, Witness

EVERYTHING: tuple[Witness, ...] = ("law", "refutation", "demonstration")

ERRATA: tuple[Erratum, ...] = (
    Erratum(
        id="E10",
        name="bayes_denominator_inverted",
        severity="B",
        subject="posterior",
        title="The joint density in Bayes' rule gets the wrong conditional",
        written=r"q(x_0, x_t) = q(x_0)\,q(x_0\mid x_t)",
        right=r"q(x_0, x_t) = q(x_0)\,q(x_t\mid x_0)",
        why="A joint density is a marginal one times the conditional density of the *other* variable. The product that is"
        r" written has $x_0$ in both factors; it is off by $q(x_0)/q(x_t)$ and is no density: its second factor, integrated"
        r" over $x_t$, gives $1/\sqrt{\bar\alpha_t}$ for unit data, and infinity for data that are $\pm1$.",
        damage="off by the factor 1.2214 at the data point 0.3 and the state 0.7 of unit data",
        formulas=("posterior_bayes",),
        demonstration=damage.bayes_denominator_inverted,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E11",
        name="exponent_uses_sqrt_alpha_bar",
        severity="A",
        subject="posterior",
        title="The exponent of the one-step kernel is written with the cumulative product",
        written=r"\exp\left(-\tfrac12\left[\frac{(x_t - \sqrt{\bar\alpha_t}\,x_{t-1})^2}{\beta_t} + \dots\right]\right)",
        right=r"\exp\left(-\tfrac12\left[\frac{(x_t - \sqrt{\alpha_t}\,x_{t-1})^2}{\beta_t} + \dots\right]\right)",
        why=r"The first density of Bayes' rule is that of *one* step, which keeps $\sqrt{\alpha_t}$ of the state;"
        r" $\sqrt{\bar\alpha_t}$ is what all steps together keep of the data. Completing the square with the wrong factor gives"
        " a posterior that is far too wide, because the precision that the step contributes has all but vanished.",
        damage="posterior variance 11.2 times too large at t = 500 and 49.9 times at t = 1000",
        formulas=("posterior_bayes", "posterior_completing_square"),
        demonstration=damage.exponent_uses_sqrt_alpha_bar,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E12",
        name="exponent_third_denominator",
        severity="B",
        subject="posterior",
        title="The last quadratic of Bayes' rule is divided by the signal instead of the noise",
        written=r"\frac{(x_t - \sqrt{\bar\alpha_t}\,x_0)^2}{\bar\alpha_t}",
        right=r"\frac{(x_t - \sqrt{\bar\alpha_t}\,x_0)^2}{1 - \bar\alpha_t}",
        why=r"The variance of $q(x_t\mid x_0)$ is $1 - \bar\alpha_t$. The quadratic does not contain $x_{t-1}$, so that mean and"
        " variance of the posterior come out right all the same; the density does not integrate to 1 any more, because this"
        " very term is what cancels the constant left over by completing the square.",
        damage="density off by the factor 0.642 at t = 100 and 213 at t = 500, one deviation from the mean",
        formulas=("posterior_bayes",),
        demonstration=damage.exponent_third_denominator,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E13",
        name="posterior_mean_sqrt_alpha_bar",
        severity="A",
        subject="posterior",
        title="The weight of the noisy state in the posterior mean is written with alpha bar",
        written=r"\tilde\mu_t = \frac{\sqrt{\bar\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t + \dots",
        right=r"\tilde\mu_t = \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t"
        r" + \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0",
        why=r"The weight is $\sqrt{\alpha_t}$ times a quotient of noise levels. With $\sqrt{\bar\alpha_t}$ it is too small by"
        r" the factor $\sqrt{\bar\alpha_{t-1}}$, and the means no longer fit together: averaged over $q(x_t\mid x_0)$ the posterior"
        r" mean must be $\sqrt{\bar\alpha_{t-1}}\,x_0$, which only the right weight achieves. At $t = 1$ both agree,"
        " so that a test there sees nothing.",
        damage="weight 71.8 % too small at t = 500; the sampler gives unit data a deviation of 0.198 instead of 0.9955",
        formulas=("posterior_mean_from_x0", "posterior_mean_coefficients"),
        demonstration=damage.posterior_mean_sqrt_alpha_bar,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E14",
        name="sigma_equals_variance_in_appendix",
        severity="A",
        subject="posterior",
        title="The posterior variance is introduced as a standard deviation",
        written=r"\sigma = \frac{\sigma_1\sigma_2}{\sigma_3} = \frac{\beta_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}",
        right=r"\sigma^2 = \left(\frac{\sigma_1\sigma_2}{\sigma_3}\right)^2 = \frac{\beta_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}",
        why=r"The three normalisers contain the deviations $\sqrt{\beta_t}$, $\sqrt{1-\bar\alpha_{t-1}}$ and"
        r" $\sqrt{1-\bar\alpha_t}$; the fraction in question is made of their squares. Whoever multiplies noise by it adds the"
        " variance where the deviation belongs.",
        damage="deviation 135 times too small at t = 2 and 7.07 times at t = 1000",
        formulas=("posterior_variance", "posterior_completing_square"),
        demonstration=damage.sigma_equals_variance_in_appendix,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E15",
        name="vertex_formula_inverted",
        severity="A",
        subject="posterior",
        title="The vertex of the quadratic is turned upside down",
        written=r"\mu = \frac{2a}{b} \quad\text{for}\quad a x^2 - b x + C",
        right=r"\mu = \frac{b}{2a} \quad\text{for}\quad a x^2 - b x + C",
        why=r"The derivative $2ax - b$ vanishes at $b/(2a)$. The formula that is written is the reciprocal of the posterior mean,"
        " although the right mean commonly follows in the next line; it is not even linear in the data.",
        damage="mean 1.4351 instead of 0.6968 at t = 500 for the data point 0.3 and the state 0.7",
        formulas=("posterior_completing_square",),
        demonstration=damage.vertex_formula_inverted,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E16",
        name="final_exponent_sign",
        severity="B",
        subject="posterior",
        title="Half of the mean slips out of the subtraction",
        written=r"(x - c^x_t x_t + c^0_t x_0)^2",
        right=r"\left(x - (c^x_t x_t + c^0_t x_0)\right)^2",
        why="The centre of a square is where its bracket vanishes. Without the inner brackets the data point enters with the"
        r" wrong sign, and the centre is displaced by $2c^0_t x_0$: towards the end of sampling, where the posterior is narrow"
        " and the data point has nearly all the weight, by many deviations.",
        damage="centre displaced by 148 posterior deviations at t = 2 and 0.0613 at t = 500 for the data point 1",
        formulas=("posterior_completing_square", "posterior_mean_from_x0"),
        demonstration=damage.final_exponent_sign,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E17",
        name="final_exponent_variance_squared",
        severity="B",
        subject="posterior",
        title="The variance is squared once more in the final exponent",
        written=r"\exp\left(-\frac{(x_{t-1}-\tilde\mu_t)^2}{2\tilde\beta_t^2}\right)",
        right=r"\exp\left(-\frac{(x_{t-1}-\tilde\mu_t)^2}{2\tilde\beta_t}\right)",
        why=r"$\tilde\beta_t$ is a variance already; it is the $\sigma^2$ of $\exp(-(x-\mu)^2/(2\sigma^2))$. One deviation from the"
        r" mean the exponent is $-\tfrac12$, whatever the law; with the square it is $-1/(2\tilde\beta_t)$.",
        damage="log density one deviation from the mean too low by 9168 nats at t = 2 and 49.3 at t = 500",
        formulas=("posterior_completing_square", "gaussian_density"),
        demonstration=damage.final_exponent_variance_squared,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E18",
        name="one_symbol_for_three_arguments",
        severity="C",
        remark="A if literal",
        subject="posterior",
        title="The three densities of Bayes' rule carry the same variable",
        written=r"\frac{\mathcal N(x; \mu_1, \sigma_1^2)\,\mathcal N(x; \mu_2, \sigma_2^2)}{\mathcal N(x; \mu_3, \sigma_3^2)}",
        right=r"\frac{\mathcal N(x_t; \sqrt{\alpha_t}\,x_{t-1}, \beta_t)"
        r"\,\mathcal N(x_{t-1}; \sqrt{\bar\alpha_{t-1}}\,x_0, 1-\bar\alpha_{t-1})}"
        r"{\mathcal N(x_t; \sqrt{\bar\alpha_t}\,x_0, 1-\bar\alpha_t)}",
        why=r"The densities are of $x_t$, $x_{t-1}$ and $x_t$, and the first depends on $x_{t-1}$ through its mean, with the factor"
        r" $\sqrt{\alpha_t}$. As functions of one variable their precisions would add to $1/\beta_t + 1/(1-\bar\alpha_{t-1}) -"
        r" 1/(1-\bar\alpha_t)$, which falls short of $1/\tilde\beta_t$ by exactly the signal-to-noise ratio.",
        damage="precision off by -24.8 % at t = 2 and -0.09 % at t = 500",
        formulas=("posterior_bayes", "posterior_completing_square"),
        demonstration=damage.one_symbol_for_three_arguments,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E19",
        name="false_conditional_independence",
        severity="B",
        subject="posterior",
        title="The earlier state is said to be independent of the data, given the later one",
        written=r"q(x_{t-1}\mid x_t) = q(x_{t-1}\mid x_t, x_0)",
        right=r"q(x_t\mid x_{t-1}) = q(x_t\mid x_{t-1}, x_0)",
        why=r"The Markov property makes $x_t$ and $x_0$ independent given the state *between* them. Given $x_t$ instead, the data"
        r" still say something about $x_{t-1}$, and close to the data a good deal. The posterior is conditioned on $x_0$ because"
        r" that makes it tractable; no independence is needed for that, and none holds.",
        damage="correlation 0.738 instead of 0 at t = 2 for unit data",
        formulas=("posterior_bayes", "true_reverse_kernel"),
        demonstration=damage.false_conditional_independence,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E20",
        name="conditioning_dropped",
        severity="B",
        subject="posterior",
        title="The posterior loses its condition on the data on the way",
        written=r"q(x_{t-1}\mid x_t) = \mathcal N(\tilde\mu_t(x_t, \varepsilon), \tilde\beta_t I)",
        right=r"\mathrm{Cov}(x_{t-1}\mid x_t) = \tilde\beta_t I + (c^0_t)^2\,\mathrm{Cov}(x_0\mid x_t)",
        why=r"To write $x_0$ in terms of $x_t$ and the noise does not remove the condition: given $x_t$, the noise is the data in"
        r" other words. With a *predicted* noise the formula is the model $p_\theta$. The true step back is wider, by what $x_t$"
        " leaves open about the data.",
        damage="true variance 2.199 times the stated one at t = 2 for unit data; 0.671 bits per dimension over the chain",
        formulas=("true_reverse_kernel", "plug_in_reverse_approximation"),
        demonstration=damage.conditioning_dropped,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E21",
        name="deterministic_reverse_kernel",
        severity="A",
        subject="posterior",
        title="The step back is taken for the inversion of the step forward",
        written=r"x_{t-1} = \frac{x_t - \sqrt{\beta_t}\,\hat\varepsilon}{\sqrt{1-\beta_t}}",
        right=r"x_{t-1} = \mathbb E[x_{t-1}\mid x_t] + \text{fresh noise of variance } \mathrm{Var}(x_{t-1}\mid x_t)",
        why="The inversion is an identity for the very noise that the step has used. Given only the state after it, that noise is"
        " random; with its conditional mean the formula gives exactly the mean of the step back, and the spread around it has to"
        r" be added. Without it every step loses variance, and on unit data the losses multiply to $\sqrt{\bar\alpha_T}$.",
        damage="samples of unit data collapse to a deviation of 0.00635282",
        formulas=("stepwise_inversion", "true_reverse_kernel"),
        demonstration=damage.deterministic_reverse_kernel,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E22",
        name="gaussian_argument_convention",
        severity="C",
        subject="posterior",
        title="The second slot of the normal law is a deviation here and a variance there",
        written=r"\mathcal N(\mu, \sigma):\ \frac{1}{\sqrt{2\pi}\,\sigma}\exp\left(-\frac{(x-\mu)^2}{2\sigma^2}\right)",
        right=r"\mathcal N(\mu, \sigma^2 I):\ (2\pi\sigma^2)^{-d/2}\exp\left(-\frac{\lVert x-\mu\rVert^2}{2\sigma^2}\right)",
        why=r"Where all other formulas put a variance or covariance into the second slot, $\mathcal N(\mu, \tilde\beta_t)$ read by"
        " this definition has a deviation that is a variance. The data have many components, too: the normaliser is that of one"
        r" component to the power $d$.",
        damage="read literally, a deviation 135 times too small at t = 2 and 7.07 times at t = 1000",
        formulas=("gaussian_density",),
        demonstration=damage.gaussian_argument_convention,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E23",
        name="sigma_symbol_sometimes_squared",
        severity="C",
        remark="A if literal",
        subject="posterior",
        title="One symbol is the variance and its square is the variance too",
        written=r"q(x_{t-1}\mid x_t) = \mathcal N(\mu_\theta, \Sigma_\theta) \quad\text{and}\quad \Sigma_\theta^2 = \tilde\beta_t",
        right=r"\Sigma_\theta = \tilde\beta_t I",
        why=r"If $\Sigma_\theta$ stands in the slot of the covariance, it is the covariance, and its square is not. Solving"
        r" the literal equation puts $\sqrt{\tilde\beta_t}$ where the variance belongs. One symbol with one meaning, and the"
        " name *variance* or *std* in code, prevents it.",
        damage="variance 135 times too large at t = 2 and 7.07 times at t = 1000",
        formulas=("posterior_variance", "reverse_step_gaussian"),
        demonstration=damage.sigma_symbol_sometimes_squared,
        killed_by=EVERYTHING,
    ),
)
