"""What is commonly written about guidance, and what is right."""

from __future__ import annotations

from ddpm_ref.errata.demonstrations import guidance as damage
from ddpm_ref.errata.record import Erratum

ERRATA: tuple[Erratum, ...] = (
    Erratum(
        id="E67",
        name="guidance_shift_coefficient",
        severity="A",
        subject="guidance",
        title="The gradient moves the mean of the step with the root of the noise instead of beta",
        written=r"x_{t-1} = \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{\bar\beta_t}}\hat\varepsilon"
        r" + \sqrt{\bar\beta_t}\,\omega\nabla\log f\right) + \sigma_tz",
        right=r"x_{t-1} = \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{\bar\beta_t}}\hat\varepsilon"
        r" + \beta_t\,\omega\nabla\log f\right) + \sigma_tz",
        why=r"$\sqrt{\bar\beta_t}\,\omega\nabla\log f$ is what is taken off the *noise*, and the mean has"
        r" $\beta_t/\sqrt{\bar\beta_t}$"
        r" before the noise: the roots cancel. The line before, with $\bar\varepsilon$, is right. With the root the"
        r" gradient is some"
        " hundred times too strong, and samples collapse onto what the classifier likes best.",
        damage="the shift is too large by 155 at t = 100 and by 95.6 at t = 500; with an observation at 1 samples end"
        " at 1.000 with"
        " deviation 0.029 instead of 0.447",
        formulas=("classifier_guided_ddpm_step",),
        demonstration=damage.guidance_shift_coefficient,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E68",
        name="guidance_underbraces",
        severity="C",
        subject="guidance",
        title="Braces call the bracket the mean and the deviation a variance",
        written=r"\frac{1}{\sqrt{\alpha_t}}\bigl(\underbrace{x_t -"
        r" \tfrac{\beta_t}{\sqrt{\bar\beta_t}}\hat\varepsilon}_{\mu_t} +"
        r" \dots\bigr) + \underbrace{\sigma_t}_{\Sigma_t}z",
        right=r"\underbrace{\frac{1}{\sqrt{\alpha_t}}\bigl(x_t -"
        r" \tfrac{\beta_t}{\sqrt{\bar\beta_t}}\hat\varepsilon\bigr)}_{\mu_t}"
        r" + \dots + \underbrace{\sigma_t}_{\sqrt{\Sigma_t}}z",
        why=r"The mean contains the factor before the bracket, and what multiplies noise is the root of a variance (E40).",
        damage="0.5 per cent of the mean at t = 500 and 1.0 at t = 1000",
        formulas=("classifier_guided_ddpm_step", "model_mean_from_eps"),
        demonstration=damage.guidance_underbraces,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E69",
        name="condition_mean_comments",
        severity="C",
        subject="guidance",
        title="Comments take mean and variance of a step for noise and its factor",
        written=r"\texttt{mean} = \hat\varepsilon,\ \texttt{variance} = \sqrt{\bar\beta_t}:\quad"
        r" \bar\varepsilon = \hat\varepsilon + \sqrt{\bar\beta_t}\,\nabla\log f",
        right=r"\texttt{mean} = \mu_\theta,\ \texttt{variance} = \Sigma_\theta:\quad \mu_\theta + \Sigma_\theta\nabla\log f",
        why=r"The code is the mean shift and right as such. Read as the comments read it, it would be guided noise"
        r" with the wrong sign:"
        r" the noise takes a *minus*, because $\hat\varepsilon$ points away from the data. With a plus guidance"
        r" repels from the class.",
        damage="read so, samples with an observation at 1 end at -3.97 by DDPM and at -2.20 by DDIM instead of 0.80",
        formulas=("classifier_guided_mean_shift", "classifier_guided_eps"),
        demonstration=damage.condition_mean_comments,
        killed_by=("law", "refutation", "demonstration"),
        remark="A if believed",
    ),
    Erratum(
        id="E70",
        name="condition_mean_unbound_label",
        severity="A",
        subject="guidance",
        title="The label is used under a name that nothing binds",
        written=r"\texttt{condition\_mean}(\dots, x, t, \texttt{kwargs}):\quad g = \nabla_x\log f(y\mid x),\ y\ \text{unbound}",
        right=r"\texttt{condition\_mean}(\dots, x, t, \texttt{kwargs}):\quad g = \nabla_x\log f(y\mid x),\ y ="
        r" \texttt{kwargs}[y]",
        why="The function has no argument of this name and does not take it from the keywords it is given. It fails"
        " when called; or,"
        " worse, it runs where a variable of the name exists, and guides to the class that this happens to hold.",
        damage="1 of 1 calls fails; with a variable of the name the mean moves by -0.25 instead of 0.25",
        formulas=("classifier_guided_mean_shift", "classifier_gradient"),
        demonstration=damage.condition_mean_unbound_label,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E71",
        name="condition_mean_gradient_point",
        severity="B",
        subject="guidance",
        title="The gradient for the mean shift is taken at the noisier state",
        written=r"\mu_\theta + \Sigma\left.\nabla_x\log f_t(y\mid x)\right|_{x = x_t}",
        right=r"\mu_\theta + \Sigma\left.\nabla_x\log f_{t-1}(y\mid x)\right|_{x = \mu_\theta}",
        why=r"The shift comes from expanding $\log f(y\mid x_{t-1})$ around the mean of $x_{t-1}$, where the gradient"
        r" therefore belongs,"
        r" with the classifier of level $t - 1$. At $x_t$ it is a second approximation, which saves nothing; its"
        r" error has the other"
        " sign. With many steps both are close; with few, guided noise is the form to take, which is exact for an"
        " exact classifier.",
        damage="with an observation samples have the mean 0.76976 or 0.85072 in 25 steps and 0.71743 or 0.93234 in"
        " 10, where it should"
        " be 0.8; guided noise gives 0.79999",
        formulas=("classifier_guided_mean_shift",),
        demonstration=damage.condition_mean_gradient_point,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E72",
        name="two_guidance_forms_presented_as_one",
        severity="B",
        subject="guidance",
        title="The mean shift is presented as an implementation of guided noise",
        written=r"\hat\varepsilon - \omega\sqrt{\bar\beta_t}\,g \iff \mu_\theta + \omega\,\Sigma\,g",
        right=r"\hat\varepsilon - \omega\sqrt{\bar\beta_t}\,g \iff \mu_\theta + \omega\,\frac{\beta_t}{\sqrt{\alpha_t}}\,g",
        why=r"Guided noise moves the mean by $\frac{\beta_t}{\sqrt{\alpha_t}}\,\omega g$, the other form by"
        r" $\Sigma\,\omega g$. With the"
        r" fixed-large variance they differ by $1/\sqrt{\alpha_t}$, with the fixed-small one by"
        r" $\bar\beta_t/\bar\beta_{t-1}$ besides,"
        " which is a factor of two at the end of sampling. A deterministic step has no variance and is not moved at all.",
        damage="the ratio of the shifts is 1.005 for the fixed-large variance at t = 500, and 2.199 for the"
        " fixed-small one at t = 2",
        formulas=("classifier_guided_mean_shift", "classifier_guided_ddpm_step", "classifier_guided_ddim_step"),
        demonstration=damage.two_guidance_forms_presented_as_one,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E73",
        name="one_letter_for_two_scales",
        severity="C",
        subject="guidance",
        title="One letter stands for the scales of two methods",
        written=r"\hat\varepsilon - \omega\sqrt{\bar\beta_t}\,\nabla\log f,\qquad (1 + \omega)\,\hat\varepsilon_y -"
        r" \omega\,\hat\varepsilon",
        right=r"\hat\varepsilon - \omega\sqrt{\bar\beta_t}\,\nabla\log f,\qquad (1 + w)\,\hat\varepsilon_y -"
        r" w\,\hat\varepsilon,\qquad"
        r" \omega = 1 + w",
        why=r"Classifier guidance starts from the unconditional prediction, for which the conditional one is $\omega = 1$;"
        r" classifier-free guidance starts from the conditional one, $w = 0$. Many programs have a third convention, the"
        r" guidance scale $\gamma = 1 + w$.",
        damage="the value 1 stands for a deviation of 0.447 in one and of 0.333 in the other",
        formulas=("guidance_scale_conventions", "cfg_combination", "classifier_guided_eps"),
        demonstration=damage.one_letter_for_two_scales,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E74",
        name="softmax_comment",
        severity="C",
        subject="guidance",
        title="A comment says probability where the code has its logarithm",
        written=r"\texttt{log\_softmax}(z)_y:\ \text{the probability } p_y",
        right=r"\texttt{log\_softmax}(z)_y = \log p_y",
        why=r"The gradient is that of the logarithm, by Bayes' rule. That of the probability is $p_y$ times it: next"
        r" to nothing for a class"
        " that is still unlikely, which is when guidance is needed.",
        damage="for a class of probability 0.01 the gradient would be too small by that factor",
        formulas=("classifier_gradient", "conditional_score_decomposition"),
        demonstration=damage.softmax_comment,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E75",
        name="guided_predictor_arguments",
        severity="C",
        subject="guidance",
        title="The guided prediction is written without the label it depends on",
        written=r"\bar\epsilon_\theta(x, t)",
        right=r"\bar\epsilon_\theta(x_t, t, y)",
        why=r"It contains $\nabla\log f(y\mid x_t)$, and is another number for another label.",
        damage="none in the formulas that follow; for two labels the guided noises are 0.302 and 0.762",
        formulas=("classifier_guided_eps",),
        demonstration=damage.guided_predictor_arguments,
        killed_by=("demonstration",),
    ),
    Erratum(
        id="E76",
        name="condition_dropout_periodic",
        severity="C",
        subject="guidance",
        title="The label is said to be dropped periodically",
        written=r"y \leftarrow \varnothing\ \text{ periodically at random}",
        right=r"y \leftarrow \varnothing\ \text{ with probability } p, \text{ independently for each example}",
        why=r"A rule with a period meets an order of the data: of examples by turns it drops the labels of one class"
        r" and no others, and"
        " what the network learns to say without a label is the mean of that class. Independent of everything, dropping leaves"
        " behind examples with the law of all data.",
        damage="every second label of two classes by turns: of one class a share of 1.00 is dropped, of the other"
        " 0.00, instead of 0.50",
        formulas=("cfg_condition_dropout",),
        demonstration=damage.condition_dropout_periodic,
        killed_by=("law", "refutation", "demonstration"),
    ),
)
