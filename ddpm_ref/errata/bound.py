"""What is commonly written about the variational bound and the losses, and what is right."""

from __future__ import annotations

from ddpm_ref.errata.demonstrations import bound as damage
from ddpm_ref.errata.record import Erratum, Witness

EVERYTHING: tuple[Witness, ...] = ("law", "refutation", "demonstration")

ERRATA: tuple[Erratum, ...] = (
    Erratum(
        id="E24",
        name="l0_sign",
        severity="A",
        subject="bound",
        title="The term of the data enters the upper bound with a plus before its logarithm",
        written=r"L_0 = +\mathbb E\log p_\theta(x_0\mid x_1)",
        right=r"L_0 = -\mathbb E\log p_\theta(x_0\mid x_1)",
        why=r"The bound is on $-\log p_\theta(x_0)$, and each of its terms is a cost: two kinds of divergences and the"
        r" length of a code"
        " for the data. With the other sign the sum bounds nothing, and whoever minimises it makes the data as improbable as"
        " possible, given the first noisy state.",
        damage="likelihoods of 83.6 % of short chains violate the bound; for unit data it is 7.7914 nats instead of 1.4189",
        formulas=("elbo_decomposition", "loss_reconstruction"),
        demonstration=damage.l0_sign,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E25",
        name="elbo_overall_sign",
        severity="A",
        subject="bound",
        title="The expected log ratio is equated with the sum of the terms instead of its negative",
        written=r"\mathbb E_q\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}"
        r" = L_T + \sum_{t\ge2}L_{t-1} + \mathbb E\log p_\theta(x_0\mid x_1)",
        right=r"\mathbb E_q\log\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}"
        r" = -L_T - \sum_{t\ge2}L_{t-1} + \mathbb E\log p_\theta(x_0\mid x_1)",
        why=r"In the ratio the model stands above and the chain below; a divergence $D(q\Vert p)$ is the mean of the"
        r" inverse ratio's"
        " logarithm. Commonly the divergences change their sign between two lines while the last term keeps its own, so"
        " that what is"
        " called a lower bound of the likelihood grows with every error of the model.",
        damage="expected log ratio of unit data 7.7914 nats instead of -1.4189",
        formulas=("elbo_jensen", "elbo_decomposition"),
        demonstration=damage.elbo_overall_sign,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E26",
        name="product_index",
        severity="C",
        subject="bound",
        title="The product runs over an index that its factors do not have",
        written=r"\prod_{i=2}^{T}\frac{q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)}",
        right=r"\prod_{t=2}^{T}\frac{q(x_{t-1}\mid x_0)}{q(x_t\mid x_0)} = \frac{q(x_1\mid x_0)}{q(x_T\mid x_0)}",
        why="Read literally it is the power of a single factor, and nothing cancels. Meant is one index, with which neighbouring"
        " densities cancel and only the first and the last are left.",
        damage="decimal logarithm of the product 170.9 instead of 2.000 at the origin",
        formulas=("elbo_telescoping",),
        demonstration=damage.product_index,
        killed_by=("refutation", "demonstration"),
    ),
    Erratum(
        id="E27",
        name="kl_arguments_swapped",
        severity="A",
        remark="if the variances differ",
        subject="bound",
        title="The divergence of the posterior from the model is written out as that of the model from the posterior",
        written=r"D(q\Vert p_\theta) = \tfrac12\left[\log\frac{|\Sigma_q|}{|\Sigma_\theta|} - d"
        r" + \mathrm{tr}(\Sigma_q^{-1}\Sigma_\theta) + (\mu_q-\mu_\theta)^\top\Sigma_q^{-1}(\mu_q-\mu_\theta)\right]",
        right=r"D(q\Vert p_\theta) = \tfrac12\left[\log\frac{|\Sigma_\theta|}{|\Sigma_q|} - d"
        r" + \mathrm{tr}(\Sigma_\theta^{-1}\Sigma_q) + (\mu_q-\mu_\theta)^\top\Sigma_\theta^{-1}(\mu_q-\mu_\theta)\right]",
        why="The mean is taken under the first law; what is inverted is the covariance of the *second*. With equal variances nobody"
        r" sees the difference. With $\sigma_t^2 = \beta_t$ the model is wider than the posterior, and both the price of"
        r" that and the"
        " weight of the squared error come out too large, most of all at small levels.",
        damage="variances cost 0.2055 nats instead of 0.1214 at t = 2 and 0.6707 bits instead of 0.4864 over the chain;"
        " means cost 2.199 times too much at t = 2",
        formulas=("kl_gaussian_full", "loss_denoising"),
        demonstration=damage.kl_arguments_swapped,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E28",
        name="loss_index_and_arguments",
        severity="C",
        subject="bound",
        title="One and the same term is numbered by either end of its step",
        written=r"L_t = D\left(q(x_{t-1}\mid x_t, x_0)\,\Vert\,p_\theta(x_{t-1}\mid x_t)\right),\quad \tilde\mu_t(x_t, t)",
        right=r"L_{t-1} = D\left(q(x_{t-1}\mid x_t, x_0)\,\Vert\,p_\theta(x_{t-1}\mid x_t)\right),\quad \tilde\mu_t(x_t, x_0)",
        why=r"$L_0$ is the term of the data, and $L_T$ that of the prior. If terms of divergences are numbered from 2 to"
        r" T, one of them"
        r" takes the place of another in a table. The posterior mean is a function of the state and the data; its level"
        r" is an index.",
        damage="bound of unit data 4.6052 nats instead of 1.4189 if the term of the data is overwritten",
        formulas=("loss_denoising", "vlb_term_selector"),
        demonstration=damage.loss_index_and_arguments,
        killed_by=("law", "demonstration"),
    ),
    Erratum(
        id="E29",
        name="eps_weight_not_squared",
        severity="A",
        subject="bound",
        title="The weight of the squared error of the noise lacks its square",
        written=r"\frac1{2\sigma_t^2}\,\frac{1-\alpha_t}{\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}}"
        r"\,\Vert\varepsilon-\hat\varepsilon\Vert^2",
        right=r"\frac1{2\sigma_t^2}\,\frac{(1-\alpha_t)^2}{\alpha_t(1-\bar\alpha_t)}\,\Vert\varepsilon-\hat\varepsilon\Vert^2",
        why="The noise enters the mean with a coefficient, and the mean enters the term squared: the coefficient is"
        " squared with it."
        r" As $1-\alpha_t$ is small, the weight that is written is too large by a factor of a hundred, and not by the same at all"
        " levels.",
        damage="weight too large by 123.7, 154.7, 95.1 and 49.5 at t = 2, 100, 500 and 1000",
        formulas=("loss_weight_eps", "loss_weight_mu"),
        demonstration=damage.eps_weight_not_squared,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E30",
        name="t_dependent_weight_called_constant",
        severity="B",
        subject="bound",
        title="The weight of a level is dropped because constants do not change a minimum",
        written=r"\arg\min_\theta\sum_t w_t\Vert\varepsilon-\hat\varepsilon_\theta\Vert^2"
        r" = \arg\min_\theta\sum_t\Vert\varepsilon-\hat\varepsilon_\theta\Vert^2",
        right=r"L_\text{simple} = \sum_t\Vert\varepsilon-\hat\varepsilon_\theta\Vert^2 \ne \sum_t"
        r" w_t\Vert\varepsilon-\hat\varepsilon_\theta\Vert^2",
        why="The weight is constant for one level, and differs from level to level. A network that could answer at every level as"
        " if it were alone would not mind; one that shares parameters between levels trades errors at one for errors at"
        " another, and"
        " the weights are the terms of that trade. The simple loss is a good objective of its own, not the bound.",
        damage="weights differ by a factor 120; the first nine levels carry 18.4 % of the bound and 0.9 % of the simple"
        " loss; the best"
        " common gain on unit data is 0.571 for the one and 0.807 for the other",
        formulas=("loss_simple_l2", "loss_weight_eps"),
        demonstration=damage.t_dependent_weight_called_constant,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E31",
        name="expectation_missing",
        severity="C",
        subject="bound",
        title="The loss of one draw is minimised instead of the expected one",
        written=r"\arg\min_\theta\Vert\varepsilon-\hat\varepsilon_\theta(x_t, t)\Vert^2",
        right=r"\arg\min_\theta\mathbb E_{t, x_0, \varepsilon}\Vert\varepsilon-\hat\varepsilon_\theta(x_t, t)\Vert^2",
        why="For a single draw the minimum is 0, reached by the noise of this very draw. The network sees only the noisy"
        " state, which"
        " many pairs of data and noise share; what is best for all of them together is the conditional mean, and its loss"
        " is not 0.",
        damage="least loss 0.0000 instead of 0.0786 for unit data at t = 500",
        formulas=("loss_simple_l2", "mmse_optimality", "loss_weight_mu"),
        demonstration=damage.expectation_missing,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E32",
        name="x0_objective_called_useless",
        severity="D",
        subject="bound",
        title="Predicting the data is said to be worthless, and predicting the noise another thing altogether",
        written=r"\Vert x_0-\hat x_0\Vert^2\ \text{has nothing to do with}\ \Vert\varepsilon-\hat\varepsilon\Vert^2",
        right=r"\Vert x_0-\hat x_0\Vert^2 = \frac{1-\bar\alpha_t}{\bar\alpha_t}\Vert\varepsilon-\hat\varepsilon\Vert^2",
        why="Given the noisy state, data and noise determine each other, and an error of the one is a known multiple of"
        " the error of"
        " the other. With the weights of the bound both objectives are the same number. What differs in practice is how a loss"
        " without weights treats the levels, and how large the numbers are that the network has to return.",
        damage="both sums are 5.0700 nats; the factor between the errors runs from 1e-04 to 24777",
        formulas=("x0_eps_error_relation", "loss_weight_relation", "loss_weight_x0"),
        demonstration=damage.x0_objective_called_useless,
        killed_by=("law", "demonstration"),
    ),
    Erratum(
        id="E33",
        name="target_noise_differs_from_input_noise",
        severity="A",
        subject="bound",
        title="The noise to be found is not the one in the input",
        written=r"\left\Vert\bar\varepsilon_t - \hat\varepsilon_\theta(\sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}"
        r"\,\bar\varepsilon_0, t)\right\Vert^2",
        right=r"\left\Vert\varepsilon - \hat\varepsilon_\theta(\sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}"
        r"\,\varepsilon, t)\right\Vert^2",
        why="A network can find in its input only what is there. If the target is another noise, independent of the input, the best"
        " answer is its mean, 0, whatever the state, and the loss stays at the variance of the target.",
        damage="gain 0.0000 instead of 0.9599 and loss 1.0000 instead of 0.0786 for unit data at t = 500",
        formulas=("loss_simple_l2", "training_algorithm"),
        demonstration=damage.target_noise_differs_from_input_noise,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E34",
        name="t_noises_per_sample",
        severity="B",
        subject="bound",
        title="After the level is drawn, as many noises are drawn as there are steps",
        written=r"\varepsilon_1, \dots, \varepsilon_t\sim\mathcal N(0, I)\ \text{for an example at level}\ t",
        right=r"\varepsilon\sim\mathcal N(0, I),\quad x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon",
        why=r"The closed form of $q(x_t\mid x_0)$ is there so that one draw leads to any level. Noises of the single"
        r" steps give the same"
        " law of the state if each is scaled by what the later steps leave of it; the loss has no place for them, its target being"
        " the one noise that they add up to.",
        damage="500.5 noises per example instead of 1.0",
        formulas=("training_algorithm", "q_sample"),
        demonstration=damage.t_noises_per_sample,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E35",
        name="decoder_called_encoder",
        severity="C",
        subject="bound",
        title="The law of the data given the first state is called an encoder",
        written=r"\text{a discrete encoder for}\ L_0",
        right=r"\text{a discrete decoder}\ p_\theta(x_0\mid x_1)",
        why="An encoder says what is probable of a code, given the data; here that is the forward chain. What the last"
        " term needs is"
        " how probable each grey level is, given the first noisy state: these probabilities add up over the levels, and not over"
        " the states.",
        damage="the sum over the levels is 1.00000, the integral over the states 0.00784",
        formulas=("discretized_gaussian_decoder",),
        demonstration=damage.decoder_called_encoder,
        killed_by=("demonstration",),
    ),
    Erratum(
        id="E36",
        name="zero_variance_at_t1",
        severity="A",
        remark="for likelihoods",
        subject="bound",
        title="The step to the data gets the posterior variance, which is 0 there",
        written=r"p_\theta(x_0\mid x_1) = \mathcal N(\mu_\theta, \tilde\beta_1),\quad \tilde\beta_1 = 0",
        right=r"p_\theta(x_0\mid x_1) = \mathcal N(\mu_\theta, \sigma_1^2),\quad \sigma_1^2 = \tilde\beta_2\ \text{or}\ \beta_1",
        why="The posterior is conditioned on the data, the model is not: after the last step something is still unknown, and a law"
        r" of variance 0 gives everything but its mean the probability 0. A floor such as $10^{-20}$ under the variance helps the"
        " logarithm, not the likelihood. Samples are not affected, as the last step adds no noise.",
        damage="27.7 bits per dimension instead of 2.51, if the mean is missed by 0.01, and 17.3 instead of 1.61 for 0.005",
        formulas=("loss_reconstruction", "discretized_gaussian_decoder", "vlb_term_selector"),
        demonstration=damage.zero_variance_at_t1,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E37",
        name="weights_singular_at_t1",
        severity="C",
        subject="bound",
        title="The weights of the losses are given without the levels they belong to",
        written=r"\frac{\beta_t^2}{2\tilde\beta_t\,\alpha_t(1-\bar\alpha_t)},\quad t = 1, \dots, T",
        right=r"\frac{\beta_t^2}{2\tilde\beta_t\,\alpha_t(1-\bar\alpha_t)},\quad t = 2, \dots, T",
        why=r"With the posterior variance both weights are infinite at $t = 1$, where training draws its levels from. The"
        r" term of that"
        r" step is no divergence, but a likelihood. With $\sigma_1^2 = \beta_1$ the weight is finite, $1/(2\alpha_1)$.",
        damage="1 entry is infinite; with the variance beta it is 0.50005",
        formulas=("loss_weight_eps", "loss_weight_x0"),
        demonstration=damage.weights_singular_at_t1,
        killed_by=("law", "demonstration"),
    ),
    Erratum(
        id="E38",
        name="uniform_step_written_as_interval",
        severity="C",
        subject="bound",
        title="The level is drawn from an interval",
        written=r"t\sim U(1, T)",
        right=r"t\sim\mathrm{Uniform}\{1, \dots, T\}",
        why="A level is a whole number. Rounded from the interval, the first and the last get half of the mass of the"
        " others; cut off,"
        " the last is never drawn.",
        damage="probability 0.0005005 of the first level instead of 0.0010000",
        formulas=("timestep_sampling", "training_algorithm"),
        demonstration=damage.uniform_step_written_as_interval,
        killed_by=EVERYTHING,
    ),
    Erratum(
        id="E39",
        name="code_listing_broken",
        severity="C",
        subject="bound",
        title="The second line of a comment has lost its mark",
        written=r"\texttt{\# divergence of the posterior from}\quad \texttt{the step of the model}",
        right=r"\texttt{\# divergence of the posterior from}\quad \texttt{\# the step of the model}",
        why="What is left stands in the program as a statement, and is none. The mathematics of the listing is right: the"
        " order of the"
        " arguments of the divergence, half of the log-variance for the logarithm of the deviation, the choice at the first index.",
        damage="0 of 1 listings compile",
        formulas=("vlb_term_selector",),
        demonstration=damage.code_listing_broken,
        killed_by=("demonstration",),
    ),
)
