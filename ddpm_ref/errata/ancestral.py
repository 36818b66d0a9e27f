"""What is commonly written about ancestral sampling, and what is right."""

from __future__ import annotations

from ddpm_ref.errata.demonstrations import ancestral as damage
from ddpm_ref.errata.record import Erratum

ERRATA: tuple[Erratum, ...] = (
    Erratum(
        id="E40",
        name="variance_used_as_standard_deviation",
        severity="A",
        subject="ancestral",
        title="Fresh noise is multiplied by the variance of the step",
        written=r"x_{t-1} = \mu_\theta(x_t, t) + \tilde\beta_t\,z",
        right=r"x_{t-1} = \mu_\theta(x_t, t) + \sqrt{\tilde\beta_t}\,z",
        why=r"The kernel has variance $\tilde\beta_t$, and a standard normal number times $c$ has variance $c^2$. As the variances"
        " are small, their squares are next to nothing: what is left is the inversion of the forward steps without fresh noise,"
        " whose samples collapse towards the mean of the data, or on the likeliest modes. Data that are $\\pm1$ with equal odds do"
        " not show it: both samplers end on them.",
        damage="samples of unit data end with deviation 0.0747 instead of 0.9955; of four points with the weights 0.1, 0.4, 0.2"
        " and 0.3 only two are reached, with 0.828 and 0.172",
        formulas=("ancestral_step", "reverse_step_gaussian"),
        demonstration=damage.variance_used_as_standard_deviation,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E41",
        name="alpha_without_subscript",
        severity="C",
        subject="ancestral",
        title="The factor of the noise has an alpha without its level",
        written=r"\frac{(1-\alpha)(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}",
        right=r"\frac{(1-\alpha_t)(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}",
        why=r"Every level has its own $\alpha_t$. Nothing says which one is meant if the index is missing, and any fixed choice is"
        " wrong at all other levels.",
        damage="a factor 1.99 at t = 500 if the last alpha is taken",
        formulas=("posterior_variance", "ancestral_step"),
        demonstration=damage.alpha_without_subscript,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E42",
        name="text_fixed_small_code_fixed_large",
        severity="B",
        subject="ancestral",
        title="The text has one variance of the step, the code another",
        written=r"\sigma_t^2 = \tilde\beta_t\ \text{(text)},\qquad"
        r" \sigma_t^2 = (\tilde\beta_2, \beta_2, \dots, \beta_T)_t\ \text{(code)}",
        right=r"\sigma_t^2 = \tilde\beta_t\ \textbf{or}\ \sigma_t^2 = \beta_t",
        why="Both are legitimate: one is best for data in a single point, the other for unit normal data. But they are two"
        " samplers with different samples, which has to be said. That the table of the code begins with the posterior variance"
        " of the second level is not the difference; no sample depends on this entry.",
        damage="variances apart by the factor 2.199 at t = 2; samples of unit data end with deviation 0.99552 or 0.99995",
        formulas=("variance_fixed_small", "variance_fixed_large", "variance_fixed_large_first_entry"),
        demonstration=damage.text_fixed_small_code_fixed_large,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E43",
        name="stale_comment_on_log_variance",
        severity="C",
        subject="ancestral",
        title="A comment speaks of a log variance where the code has a variance",
        written=r"\texttt{var}:\ \log\sigma_t^2,\ \text{for a KL divergence}",
        right=r"\texttt{var}:\ \sigma_t^2,\ \text{for a draw}",
        why="The function returns the plain variance, and nothing there computes a divergence. The replaced first entry is a"
        " remnant of code that took logarithms, where it is needed; a sampler never uses it, because its last step is"
        " without noise.",
        damage="an exponential of the table would be 1.01009 instead of 0.01004 at t = 500",
        formulas=("variance_fixed_large_first_entry", "final_step_without_noise"),
        demonstration=damage.stale_comment_on_log_variance,
        killed_by=("demonstration",),
    ),
    Erratum(
        id="E44",
        name="sampling_noise_called_source_of_diversity",
        severity="D",
        subject="ancestral",
        title="The fresh noise of the steps is said to be what makes samples diverse",
        written=r"\mathrm{Var}(x_0) > 0 \text{ because of the noises } z_T, \dots, z_2",
        right=r"\mathrm{Var}(x_0) > 0 \text{ because of } x_T;\ \text{with } \eta = 0 \text{ there is no } z_t",
        why=r"All the spread can come from the first state. The deterministic member of the DDIM family draws nothing after"
        r" $x_T$ and keeps nearly all of the spread of the data. Nor is a step guided by the true $x_{t-1}$: in sampling there"
        " is none.",
        damage="without fresh noise samples of unit data keep a deviation of 0.998124, more than the 0.995524 with it",
        formulas=("sampling_algorithm", "ddim_deterministic_step"),
        demonstration=damage.sampling_noise_called_source_of_diversity,
        killed_by=("refutation", "demonstration"),
    ),
    Erratum(
        id="E45",
        name="one_step_jump_never_used",
        severity="D",
        subject="ancestral",
        title="The jump to the data is said to be used by nobody",
        written=r"\hat x_0 = \frac{x_t - \sqrt{\bar\beta_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}}\ \text{ is of no use}",
        right=r"x_{t-1} = \sqrt{\bar\alpha_{t-1}}\,\hat x_0 + \dots\ \text{ in every step of DDIM}",
        why=r"The same prediction is made in every step of DDIM and of Analytic-DPM, and for clipping. What is true is that it is"
        r" no sample: $\hat x_0$ is a conditional mean, and for $x_T$ nearly the mean of all data.",
        damage="a jump from pure noise has the deviation 0.00635 for unit data; made in each of 50 steps it leads to 0.9636",
        formulas=("one_step_x0_jump", "x0_from_eps", "ddim_step"),
        demonstration=damage.one_step_jump_never_used,
        killed_by=("refutation", "demonstration"),
    ),
    Erratum(
        id="E46",
        name="reverse_adds_negated_noise",
        severity="D",
        subject="ancestral",
        title="The reverse process is said to take off the noise of each forward step",
        written=r"x_0 = x_T - \sum_t\sqrt{\beta_t}\,\varepsilon_t",
        right=r"x_{t-1} = \frac{x_t - \sqrt{\beta_t}\,\varepsilon_t}{\sqrt{\alpha_t}}",
        why=r"A forward step also shrinks the state, so that undoing it also divides by $\sqrt{\alpha_t}$. And the noises are not"
        " known: what a network can give is their mean given the state.",
        damage="the data come back with the factor 0.00635, beside noise of deviation 2.66",
        formulas=("stepwise_inversion", "reverse_step_gaussian"),
        demonstration=damage.reverse_adds_negated_noise,
        killed_by=("refutation", "demonstration"),
    ),
)
