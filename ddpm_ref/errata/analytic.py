"""What is commonly written about Analytic-DPM, and what is right."""

from __future__ import annotations

from ddpm_ref.errata.demonstrations import analytic as damage
from ddpm_ref.errata.record import Erratum

ERRATA: tuple[Erratum, ...] = (
    Erratum(
        id="E54",
        name="analytic_factor_not_complemented",
        severity="A",
        subject="analytic",
        title="The energy of the prediction is used where one minus it belongs",
        written=r"\sigma_t^{*2} = \sigma_t^2 + (C^0)^2\,\frac{\bar\beta_t}{\bar\alpha_t}\,\Gamma_t,\quad"
        r" \Gamma_t = \tfrac1d\mathbb E\|\hat\varepsilon\|^2",
        right=r"\sigma_t^{*2} = \sigma_t^2 + (C^0)^2\,\frac{\bar\beta_t}{\bar\alpha_t}\,(1 - \Gamma_t)",
        why=r"The noise has the mean square 1; of it the best prediction knows $\Gamma_t$ and leaves $1 - \Gamma_t$"
        r" open. What is added"
        r" to a step is what is left open. The two are confused in both directions: too much is added at high levels,"
        r" too little at"
        r" low ones, and at $\Gamma_t = \tfrac12$ there is no difference to be seen.",
        damage="samples of unit data end with deviation 2.483 instead of 0.947 in 10 steps, and with 1.293 instead of"
        " 0.997 in 50",
        formulas=("sigma_hat_squared", "analytic_reverse_variance", "analytic_sampler"),
        demonstration=damage.analytic_factor_not_complemented,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E55",
        name="plug_in_left_hand_side",
        severity="C",
        subject="analytic",
        title="What is approximated is written with the data in its condition",
        written=r"q(x_{t-1}\mid x_t, x_0) \approx q\left(x_{t-1}\mid x_t, x_0 = \hat x_0(\varepsilon)\right)",
        right=r"q(x_{t-1}\mid x_t) \approx q\left(x_{t-1}\mid x_t, x_0 = \hat x_0(\hat\varepsilon)\right)",
        why=r"With the true noise, $\hat x_0(\varepsilon)$ is $x_0$, and there is nothing to approximate: both sides"
        r" are one law. The"
        r" approximation is that of the kernel without the data, by a predicted noise.",
        damage="none: with the true noise the two means differ by 0.000000000",
        formulas=("plug_in_reverse_approximation", "x0_gaussian_approximation"),
        demonstration=damage.plug_in_left_hand_side,
        killed_by=("demonstration",),
    ),
    Erratum(
        id="E56",
        name="covariance_equated_with_its_average",
        severity="B",
        subject="analytic",
        title="A covariance given the noisy data is equated with its average over them",
        written=r"\Sigma(x_t) = \mathbb E_{q(x_t)}[\Sigma(x_t)],\quad \Sigma(x_t) = \mathrm{Cov}(x_0\mid x_t)",
        right=r"\bar\Sigma_t = \mathbb E_{q(x_t)}[\Sigma(x_t)]",
        why=r"The left side depends on $x_t$, the right side does not: they need two names. They are the same for"
        r" normal data only. A"
        r" sampler that adds the average everywhere is best among those with one variance per level; it is not the"
        r" law of the data"
        r" given $x_t$, which between two modes is much wider and near one much narrower.",
        damage=r"for data $\pm1$ at t = 250 the variance is 1.000 between the points and 0.0477 far out, on average 0.419",
        formulas=("x0_posterior_covariance", "x0_posterior_covariance_averaged"),
        demonstration=damage.covariance_equated_with_its_average,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E57",
        name="sigma_t_versus_sigma_hat",
        severity="C",
        subject="analytic",
        title="Two variances are called by one letter",
        written=r"\tfrac1d\,\mathrm{tr}\,\bar\Sigma_t\ \text{estimates}\ \sigma_t",
        right=r"\tfrac1d\,\mathrm{tr}\,\bar\Sigma_t = \hat\sigma_t^2",
        why=r"$\sigma_t$ is the free deviation of a DDIM step, at one's choice; $\hat\sigma_t^2$ is a variance, of"
        r" the data given"
        r" $x_t$, and there is nothing to choose. The second enters the step multiplied by $(C^0)^2$.",
        damage="at t = 500 the two are 0.9214 and 0.01003, a factor 91.9 apart",
        formulas=("sigma_hat_squared", "ddim_sigma_eta"),
        demonstration=damage.sigma_t_versus_sigma_hat,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E58",
        name="l1_training_breaks_the_identity",
        severity="A",
        subject="analytic",
        title="The variance formula is used with a network that was trained with an L1 loss",
        written=r"\hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}(1 - \Gamma_t),\quad"
        r" \hat\varepsilon = \arg\min\,\mathbb E\|\varepsilon - \hat\varepsilon\|_1",
        right=r"\hat\sigma_t^2 = \frac{\bar\beta_t}{\bar\alpha_t}(1 - \Gamma_t),\quad"
        r" \hat\varepsilon = \arg\min\,\mathbb E\|\varepsilon - \hat\varepsilon\|_2^2",
        why="An L1 loss is least at the median. It is the mean that the identity needs, and that every step of a"
        " sampler needs: with the"
        " median the likelier of two modes is preferred throughout, and the other one loses samples. For laws that"
        " are symmetric"
        " given the noisy data, normal data among them, median and mean are the same and the mistake does not show.",
        damage=r"for data that are 1 with probability 0.8 the variance becomes -0.547 instead of 0.605 at t = 500,"
        r" and of the samples"
        r" 0.951 end at 1 by DDIM",
        formulas=("sigma_hat_squared", "x0_posterior_covariance", "x0_posterior_mean"),
        demonstration=damage.l1_training_breaks_the_identity,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E59",
        name="comment_recipm1",
        severity="C",
        subject="analytic",
        title="A comment turns a radicand over",
        written=r"\sqrt{\frac{1}{\bar\alpha_t - 1}}",
        right=r"\sqrt{\frac{1}{\bar\alpha_t} - 1}",
        why=r"$\bar\alpha_t < 1$, so that the first has a negative number under its root. The code beside the comment"
        r" is right.",
        damage="the radicand would be -1.085 instead of 11.725 at t = 500",
        formulas=("schedule_tables", "x0_from_eps"),
        demonstration=damage.comment_recipm1,
        killed_by=("refutation", "demonstration"),
    ),
    Erratum(
        id="E60",
        name="comment_predict_start",
        severity="C",
        subject="analytic",
        title="A comment multiplies the noise by another root",
        written=r"\hat x_0 = \frac{x_t}{\sqrt{\bar\alpha_t}} - \sqrt{\frac{1}{1 - \bar\alpha_t}}\,\hat\varepsilon",
        right=r"\hat x_0 = \frac{x_t}{\sqrt{\bar\alpha_t}} - \sqrt{\frac{1}{\bar\alpha_t} - 1}\,\hat\varepsilon",
        why=r"Solved for $x_0$ the equation of the noisy data has $\sqrt{\bar\beta_t/\bar\alpha_t}$ before the noise."
        r" The code beside"
        " the comment is right.",
        damage="a factor of 9999 at t = 1, of 9.20 at t = 100 and of 0.00635 at t = 1000",
        formulas=("x0_from_eps",),
        demonstration=damage.comment_predict_start,
        killed_by=("refutation", "demonstration"),
    ),
    Erratum(
        id="E61",
        name="comment_posterior_variance",
        severity="C",
        subject="analytic",
        title="A comment calls a variance a deviation",
        written=r"\sigma_t = \frac{\bar\beta_{t-1}}{\bar\beta_t}\,\beta_t",
        right=r"\sigma_t^2 = \tilde\beta_t = \frac{\bar\beta_{t-1}}{\bar\beta_t}\,\beta_t",
        why=r"The table holds $\tilde\beta_t$, which is the square of the deviation at $\eta = 1$. Whoever multiplies"
        r" noise by it makes"
        " the mistake E40.",
        damage="at t = 500 the table has 0.01003 and the deviation is 0.1002; believed, samples of unit data end with"
        " 0.0747 instead"
        " of 0.9955",
        formulas=("posterior_variance", "ddim_sigma_eta"),
        demonstration=damage.comment_posterior_variance,
        killed_by=("refutation", "demonstration"),
    ),
    Erratum(
        id="E62",
        name="estimate_not_clipped",
        severity="A",
        subject="analytic",
        title="The estimate is put under a root without being clipped",
        written=r"\sigma_t^* = \sqrt{\sigma_t^2 + (C^0)^2\,\frac{\bar\beta_t}{\bar\alpha_t}(1 - \Gamma_t)}",
        right=r"\sigma_t^* = \sqrt{\sigma_t^2 + (C^0)^2\,\frac{\bar\beta_t}{\bar\alpha_t}\,"
        r"\mathrm{clip}\left(1 - \Gamma_t,\ 0,\ \min\left(1, \tfrac{\bar\alpha_t}{\bar\beta_t}\left(\tfrac{b -"
        r" a}{2}\right)^2\right)\right)}",
        why=r"For the best prediction $\Gamma_t \le 1$. A network is not the best one and an estimate has an error:"
        r" the mean square can"
        r" come out above 1, most easily at high levels where it is nearly 1, and the root of a negative number is no"
        r" number. The"
        " bounds of theorem 2 hold for any data, so an estimate outside of them is known to be wrong.",
        damage="answers a tenth too large give one minus a mean square of -0.115 at t = 500, and with a deterministic"
        " step a root of"
        " -3.2e-06",
        formulas=("analytic_variance_bounds", "sigma_hat_squared", "analytic_mc_estimator"),
        demonstration=damage.estimate_not_clipped,
        killed_by=("law", "refutation", "demonstration"),
        remark="once the factor of E54 is complemented",
    ),
    Erratum(
        id="E63",
        name="noise_argument",
        severity="C",
        subject="analytic",
        title="Functions accept a noise and do not use it, or need one and do not say so",
        written=r"L(x_0, t, \varepsilon = \text{None}):\ \varepsilon \leftarrow \text{new draw}",
        right=r"L(x_0, t, \varepsilon = \text{None}):\ \varepsilon \leftarrow \text{new draw if } \varepsilon \text{ is None}",
        why="The loss draws a new noise whether or not one was given; the function that makes noisy data has no"
        " default and fails"
        " without one. Tests with a prescribed noise are impossible.",
        damage="two prescribed noises give losses that differ by 0.000",
        formulas=("q_sample", "training_algorithm"),
        demonstration=damage.noise_argument,
        killed_by=("demonstration",),
    ),
    Erratum(
        id="E64",
        name="reduce_without_effect",
        severity="C",
        subject="analytic",
        title="A mean over dimensions keeps every dimension",
        written=r"\text{reduce}(\ell,\ b\ \dots \to b\ (\dots),\ \text{mean})",
        right=r"\text{reduce}(\ell,\ b\ \dots \to b,\ \text{mean})",
        why="The pattern names every axis on both sides, so that there is nothing to take a mean of: the array is"
        " flattened. The mean"
        " over everything in the next line makes up for it.",
        damage="75 entries per example are left, with values changed by 0.000",
        formulas=("loss_reduction",),
        demonstration=damage.reduce_without_effect,
        killed_by=("demonstration",),
    ),
    Erratum(
        id="E65",
        name="moments_recomputed_for_every_index",
        severity="C",
        subject="analytic",
        title="The moments are estimated anew in every call of the sampler, at every level",
        written=r"\text{sample}():\ \Gamma_1, \dots, \Gamma_T \leftarrow \text{estimate},\ \dots",
        right=r"\Gamma_t \leftarrow \text{estimate, once per network, at the levels of the trajectory}",
        why="The moments are a property of network and data. They are estimated once, at the levels that a trajectory"
        " visits, and kept.",
        damage="1050 calls of the network instead of 50 for 50 steps",
        formulas=("analytic_mc_estimator",),
        demonstration=damage.moments_recomputed_for_every_index,
        killed_by=("demonstration",),
    ),
    Erratum(
        id="E66",
        name="optimality_assumed_silently",
        severity="B",
        subject="analytic",
        title="The covariance identity is stated for any network",
        written=r"\mathrm{Cov}(x_0\mid x_t) = \frac{1}{\bar\alpha_t}\mathbb E[\nu\nu^\top\mid x_t]"
        r" - \frac{\bar\beta_t}{\bar\alpha_t}\,\epsilon_\theta\epsilon_\theta^\top",
        right=r"\mathrm{Cov}(x_0\mid x_t) = \frac{1}{\bar\alpha_t}\mathbb E[\nu\nu^\top\mid x_t]"
        r" - \frac{\bar\beta_t}{\bar\alpha_t}\,\hat\varepsilon^*\hat\varepsilon^{*\top},\quad"
        r" \hat\varepsilon^* = \mathbb E[\varepsilon\mid x_t]",
        why=r"The cross term of the square is taken with $\mathbb E[\varepsilon\mid x_t]$, and only if this is what"
        r" the network says do"
        r" the terms combine. For another network the right side is neither the covariance of the data nor the error"
        r" of what the"
        r" network implies for them; the latter is $\frac{\bar\beta_t}{\bar\alpha_t}$ times the mean square of the residual"
        r" $\varepsilon - \epsilon_\theta$, whatever the network.",
        damage="for answers a tenth too large the variance comes out as -1.347 instead of 0.921 at t = 500; their"
        " residual gives 1.029",
        formulas=("x0_posterior_covariance", "x0_posterior_covariance_averaged", "sigma_hat_squared"),
        demonstration=damage.optimality_assumed_silently,
        killed_by=("law", "refutation", "demonstration"),
    ),
)
