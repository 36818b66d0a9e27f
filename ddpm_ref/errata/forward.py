"""What is commonly written about the forward process, and what is right."""

from __future__ import annotations

from ddpm_ref.errata.demonstrations import forward as damage
from ddpm_ref.errata.record import Erratum

ERRATA: tuple[Erratum, ...] = (
    Erratum(
        id="E01",
        name="forward_noise_beta_not_sqrt",
        severity="A",
        subject="forward",
        title="The noise of a step is multiplied by its variance",
        written=r"x_t = \sqrt{\alpha_t}\,x_{t-1} + \beta_t\,\varepsilon_t",
        right=r"x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t",
        why=r"The kernel of a step has *variance* $\beta_t$, and a standard normal number times $c$ has variance $c^2$. With"
        r" $c = \beta_t$ a step removes the share $\beta_t$ of the variance and puts back only $\beta_t^2$, so that the"
        " chain fades out instead of turning into unit noise.",
        damage="unit data end with deviation 0.13786 instead of 1; the signal-to-noise ratio is 122 times too high"
        " at t = 500",
        formulas=("forward_step",),
        demonstration=damage.forward_noise_beta_not_sqrt,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E02",
        name="marginal_equated_with_conditional",
        severity="B",
        remark="A if used",
        subject="forward",
        title="The marginal law of the noisy data is equated with the conditional one",
        written=r"q(x_t) = q(x_t\mid x_0) = \mathcal N(x_t; \sqrt{\bar\alpha_t}\,x_0, \bar\beta_t I)",
        right=r"q(x_t) = \int q(x_t\mid x_0)\,q(x_0)\,dx_0",
        why="The normal law on the right-hand side knows the data point; the marginal one averages over all of them and is"
        r" normal only if the data are. Its variance is that of the conditional law plus $\bar\alpha_t\mathrm{Var}(x_0)$,"
        " the share that a random data point contributes.",
        damage="variance 0.10298 instead of 1 at t = 100 for unit data; total variation distance 0.498 at t = 100 for data"
        " that are plus or minus one",
        formulas=("data_marginal", "forward_marginal"),
        demonstration=damage.marginal_equated_with_conditional,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E03",
        name="pathwise_sum_of_squares",
        severity="B",
        subject="forward",
        title="An identity of expectations is stated for every path",
        written=r"x_t^2 = \left(\sqrt{\alpha_t}\,x_{t-1}\right)^2 + \left(\sqrt{\beta_t}\,\varepsilon_t\right)^2",
        right=r"\mathbb E\,x_t^2 = \alpha_t\,\mathbb E\,x_{t-1}^2 + \beta_t",
        why=r"Along a path the square contains the cross term $2\sqrt{\alpha_t\beta_t}\,x_{t-1}\varepsilon_t$. Its mean is 0,"
        " because the noise is fresh, so that it drops out of the expectation and only there.",
        damage="the missing term has deviation 0.0909, 0.1994 and 0.2800 at t = 100, 500 and 1000 for unit data",
        formulas=("second_moment_recursion",),
        demonstration=damage.pathwise_sum_of_squares,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E04",
        name="product_of_gaussians_claim",
        severity="D",
        subject="forward",
        title="Normal variables are said to stay normal when multiplied, and closure to be theirs alone",
        written=r"X, Y \text{ normal} \implies X + Y \text{ and } XY \text{ normal, a privilege of the normal law}",
        right=r"X, Y \text{ normal and independent} \implies X + Y \text{ normal}",
        why="The product of two normal *densities* is again normal up to its normaliser, which is what Bayes' rule needs; the"
        " product of two *variables* is not, its tails are far heavier. Sums of independent variables stay in the family for"
        " every stable law, the Cauchy law for one.",
        damage="kurtosis 9 instead of 3; values beyond 3 are 7.3 times as frequent",
        formulas=("gaussian_sum_rule",),
        demonstration=damage.product_of_gaussians_claim,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E05",
        name="noise_symbol_conflation",
        severity="A",
        remark="if taken literally",
        subject="forward",
        title="One symbol for the noise of a step and for the noise of the state",
        written=r"\varepsilon_t = \varepsilon,\ \text{where}\ "
        r" x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{\beta_t}\,\varepsilon_t"
        r" = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_t}\,\varepsilon",
        right=r"\mathrm{Corr}(\varepsilon_t, \varepsilon) = \sqrt{\beta_t/\bar\beta_t}",
        why=r"The aggregate noise $\varepsilon$ is a weighted sum of the noises of all steps up to $t$; that of the last one is,"
        " but for the first few levels, a small part of it. The target of the usual loss and the update of ho2020, eq. (11),"
        " take the aggregate noise; the inversion of a single step takes the noise of that step. Either fails with the"
        " noise of the other.",
        damage="correlation 0.104 at t = 500; with the noise of the step in the DDPM update samples of unit data end with"
        " deviation 71.8",
        formulas=("aggregate_noise", "stepwise_inversion"),
        demonstration=damage.noise_symbol_conflation,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E06",
        name="scalar_noise_for_vector",
        severity="C",
        subject="forward",
        title="The noise of a vector is drawn from a scalar law",
        written=r"\varepsilon_t \sim \mathcal N(0, 1)",
        right=r"\varepsilon_t \sim \mathcal N(0, I)",
        why=r"Every component has a noise of its own. Read literally, one number would be added to all of them, with covariance"
        r" $\beta_t\mathbf 1\mathbf 1^\top$ instead of $\beta_t I$: images would change their brightness and nothing else.",
        damage="all correlations between components are 1 instead of 0",
        formulas=("forward_step",),
        demonstration=damage.scalar_noise_for_vector,
        killed_by=("refutation", "demonstration"),
    ),
    Erratum(
        id="E07",
        name="terminal_law_stated_as_exact",
        severity="C",
        subject="forward",
        title="The last state is said to be exactly standard normal",
        written=r"x_T \sim \mathcal N(0, I)",
        right=r"x_T \sim \mathcal N(\sqrt{\bar\alpha_T}\,x_0, \bar\beta_T I) \to \mathcal N(0, I)"
        r" \quad\text{as}\quad \bar\alpha_T \to 0",
        why=r"The chain reaches the prior only in the limit, or with a schedule made to have $\bar\alpha_T = 0$. What remains is"
        " small for the usual schedules, but it is the prior term of the bound, and a bound that sets it to 0 is not a bound.",
        damage="2.018e-05 nats per dimension for a data point 1, total variation distance 2.53e-03",
        formulas=("terminal_distribution", "loss_prior"),
        demonstration=damage.terminal_law_stated_as_exact,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E08",
        name="alpha_bar_index_and_estimate",
        severity="C",
        subject="forward",
        title="A bound on the last alpha_bar is used as its value, under the index t",
        written=r"\log\bar\alpha_t = \sum_{i=1}^{T}\log(1-\beta_i) < -10.05"
        r" \implies \bar\alpha_T \approx e^{-10}",
        right=r"\log\bar\alpha_T = \sum_{i=1}^{T}\log(1-\beta_i) = -10.11771354",
        why=r"A sum over all levels is the logarithm of $\bar\alpha_T$, not of $\bar\alpha_t$. That $\log(1-\beta) < -\beta$ is"
        " right, and so is the bound; but a bound is no estimate, and the exponential turns the gap into a factor. The"
        " conclusion, that next to nothing of the data is left, stands.",
        damage="estimates of the last alpha_bar 12.5 % and 7.0 % too large",
        formulas=("alpha_bar_terminal_bound",),
        demonstration=damage.alpha_bar_index_and_estimate,
        killed_by=("demonstration",),
    ),
    Erratum(
        id="E09",
        name="beta_much_smaller_than_alpha_required",
        severity="D",
        subject="forward",
        title="Small betas are said to be required",
        written=r"\beta_t \ll \alpha_t \text{ for every } t",
        right=r"0 < \beta_t < 1",
        why="No identity of the forward process or of its posterior needs more than betas between 0 and 1. Small ones are what"
        " makes a *normal* reverse kernel a good model for data that are not normal, which is a matter of quality. ho2020"
        r" starts from $\beta_t$ and defines $\alpha_t = 1 - \beta_t$, not the other way round.",
        damage="a check built on the claim would reject the cosine schedule, where beta reaches 0.75 and 0.999 at the last"
        " two levels",
        formulas=("beta_schedule",),
        demonstration=damage.beta_much_smaller_than_alpha_required,
        killed_by=("demonstration",),
    ),
)
