r"""Guidance, derived: what a label adds to the score, and what is made of it by a classifier or without one.

From Bayes' rule for scores (`score`) to guidance by a classifier (`classifier`), without one (`free`), and to the scales in use
(`scales`). That a score is a noise, `score_eps_relation`, is derived with the predictions.
"""

from __future__ import annotations

from ddpm_ref.symbolic.derivation import Derive
from ddpm_ref.symbolic.guidance.classifier import (
    classifier_guided_ddim_step,
    classifier_guided_ddpm_step,
    classifier_guided_eps,
    classifier_guided_mean_shift,
)
from ddpm_ref.symbolic.guidance.free import cfg_combination, cfg_condition_dropout
from ddpm_ref.symbolic.guidance.scales import adm_names, guidance_scale_conventions
from ddpm_ref.symbolic.guidance.score import (
    classifier_gradient,
    conditional_score_decomposition,
    implicit_classifier_score,
)

DERIVATIONS: tuple[Derive, ...] = (
    conditional_score_decomposition,
    classifier_guided_eps,
    classifier_guided_ddpm_step,
    classifier_guided_mean_shift,
    classifier_guided_ddim_step,
    classifier_gradient,
    implicit_classifier_score,
    cfg_combination,
    cfg_condition_dropout,
    guidance_scale_conventions,
    adm_names,
)
