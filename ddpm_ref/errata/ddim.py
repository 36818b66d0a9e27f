"""What is commonly written about DDIM and about leaving levels out, and what is right."""

from __future__ import annotations

from ddpm_ref.errata.demonstrations import ddim as damage
from ddpm_ref.errata.record import Erratum

ERRATA: tuple[Erratum, ...] = (
    Erratum(
        id="E47",
        name="ddim_signal_coefficient",
        severity="A",
        subject="ddim",
        title="The earlier state is given the signal of the later one",
        written=r"x_{t-1} = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{\bar\beta_{t-1} - \sigma_t^2}\,\varepsilon + \sigma_tz",
        right=r"x_{t-1} = \sqrt{\bar\alpha_{t-1}}\,x_0 + \sqrt{\bar\beta_{t-1} - \sigma_t^2}\,\varepsilon + \sigma_tz",
        why=r"The marginal law at $t - 1$ has mean $\sqrt{\bar\alpha_{t-1}}\,x_0$. With the signal of level $t$ every step loses"
        r" the factor $\sqrt{\alpha_t}$ of the mean, and the network is asked about states that are no noisy data. In the"
        r" direction $(x_t - \sqrt{\bar\alpha_t}\,x_0)/\sqrt{\bar\beta_t}$ the level $t$ is right.",
        damage="samples of unit data end with deviation 0.6057 instead of 0.9981",
        formulas=("ddim_noise_split", "ddim_posterior", "ddim_marginal_invariance"),
        demonstration=damage.ddim_signal_coefficient,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E48",
        name="ddim_sigma_squared_times_noise",
        severity="A",
        subject="ddim",
        title="The fresh noise of a DDIM step is multiplied by its variance",
        written=r"x_{t-1} = \dots + \sigma_t^2\,z",
        right=r"x_{t-1} = \dots + \sigma_t\,z",
        why=r"The noise that is kept, $\bar\beta_{t-1} - \sigma_t^2$, and the noise that is drawn have to add up to"
        r" $\bar\beta_{t-1}$. Multiplied by $\sigma_t^2$ the drawn part has the variance $\sigma_t^4$ and the marginals are lost."
        r" With $\eta = 0$ there is no such term, and no error.",
        damage="samples of unit data end with deviation 0.0747 instead of 0.9955, and in 50 steps with 0.297 instead of 0.926",
        formulas=("ddim_noise_split", "ddim_step", "ddim_marginal_invariance"),
        demonstration=damage.ddim_sigma_squared_times_noise,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E49",
        name="eta_scales_the_variance",
        severity="B",
        subject="ddim",
        title="Eta is taken for a factor of the variance",
        written=r"\sigma_t^2 = \eta\,\tilde\beta_t",
        right=r"\sigma_t = \eta\,\sqrt{\tilde\beta_t}",
        why=r"In song2020ddim, eq. (16), $\eta$ multiplies the standard deviation. Both agree at $\eta = 0$ and $\eta = 1$, and"
        r" both keep the marginals, so that neither is wrong as a sampler; but what is called $\eta = 0.5$ is then"
        r" $\eta = 0.71$ for everybody else.",
        damage="deviations too large by the factor 2.24 for the eta 0.2 and by 1.41 for 0.5",
        formulas=("ddim_sigma_eta",),
        demonstration=damage.eta_scales_the_variance,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E50",
        name="subsequence_indices",
        severity="A",
        subject="ddim",
        title="States are indexed by the visited levels, coefficients by neighbouring ones",
        written=r"x_{\tau_{i-1}} = \sqrt{\bar\alpha_{t-1}}\,\hat x_0 + \sqrt{\bar\beta_{t-1} - \sigma_t^2}\,\hat\varepsilon"
        r" + \sigma_tz,\quad t = \tau_i",
        right=r"x_{\tau_{i-1}} = \sqrt{\bar\alpha_{\tau_{i-1}}}\,\hat x_0 + \sqrt{\bar\beta_{\tau_{i-1}} - \sigma_{\tau_i}^2}\,"
        r"\hat\varepsilon + \sigma_{\tau_i}z,\quad \tau_0 = 0",
        why="A step has to land at the level where the next one starts. With the coefficients of the neighbouring level it"
        " hardly moves, and the network is then asked at a level to which the state does not belong. It also has to be said"
        r" that $\tau_0 = 0$, with $\bar\alpha_0 = 1$. Unit data, whose law is the same at all levels, hide the mistake.",
        damage="in 50 steps samples of data of deviation 0.5 end with 0.947 instead of 0.471, those of deviation 0.1 with 0.576"
        " instead of 0.0742; unit data show 0.997",
        formulas=("ddim_subsequence", "ddim_step", "strided_schedule"),
        demonstration=damage.subsequence_indices,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E51",
        name="improved_ddpm_label",
        severity="D",
        subject="ddim",
        title="The DDIM family on a subsequence is called Improved DDPM",
        written=r"\text{Improved DDPM}:\ q_\sigma(x_{\tau_{i-1}}\mid x_{\tau_i}, x_0)\ \text{ for any } \sigma",
        right=r"\text{Improved DDPM}:\ \sigma^2 \in \{\beta', \tilde\beta', \text{learned}\},\quad"
        r" \beta' = 1 - \bar\alpha_{\tau_i}/\bar\alpha_{\tau_{i-1}}",
        why=r"The family with a free $\sigma$ on a subsequence is that of song2020ddim, section 4.2. nichol2021 leaves levels out"
        r" of the Markov chain, with betas of the visited levels. The two meet at $\eta = 1$ and nowhere else; the fixed-large"
        " variance of the one need not be in the family of the other.",
        damage="the variances are apart by the factor 0.25 for the eta 0.5; at t = 2 the fixed-large variance 1.199e-04 is above"
        " the 1.000e-04 that the family allows",
        formulas=("strided_schedule", "ddim_sigma_eta", "ddim_eta1_is_ddpm"),
        demonstration=damage.improved_ddpm_label,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E52",
        name="strided_sigma_from_full_chain",
        severity="B",
        subject="ddim",
        title="A long step is given the noise of a single one",
        written=r"\sigma_{\tau_i}^2 = \eta^2\,\frac{\bar\beta_{\tau_i-1}}{\bar\beta_{\tau_i}}\,\beta_{\tau_i}",
        right=r"\sigma_{\tau_i}^2 = \eta^2\,\frac{\bar\beta_{\tau_{i-1}}}{\bar\beta_{\tau_i}}"
        r"\left(1 - \frac{\bar\alpha_{\tau_i}}{\bar\alpha_{\tau_{i-1}}}\right)",
        why=r"The posterior variance of a pair of levels is that of *their* step. Any admissible $\sigma$ keeps the marginals, so"
        r" that samples stay sensible; but $\eta = 1$ is not ancestral sampling any more, it is close to the deterministic"
        " sampler.",
        damage="an eta that is meant to be 1 acts like 0.239 with 50 steps and like 0.139 with 10, at t = 500",
        formulas=("ddim_sigma_eta", "ddim_subsequence"),
        demonstration=damage.strided_sigma_from_full_chain,
        killed_by=("law", "refutation", "demonstration"),
    ),
    Erratum(
        id="E53",
        name="equality_sign_missing",
        severity="C",
        subject="ddim",
        title="Left and right side of the step follow each other without a sign",
        written=r"x_{\tau_{i-1}}\ \ \sqrt{\bar\alpha_{\tau_{i-1}}}\,\hat x_0 + \sqrt{\bar\beta_{\tau_{i-1}}}\,\hat\varepsilon",
        right=r"x_{\tau_{i-1}} = \sqrt{\bar\alpha_{\tau_{i-1}}}\,\hat x_0 + \sqrt{\bar\beta_{\tau_{i-1}}}\,\hat\varepsilon",
        why="It is an equality that is meant: both sides are the same number. Nothing follows from the omission.",
        damage="none: the difference of the two sides is 0",
        formulas=("ddim_step", "ddim_deterministic_step"),
        demonstration=damage.equality_sign_missing,
        killed_by=("demonstration",),
    ),
)
