"""Schedules and their tables, derived: the betas of the papers, and what follows from any betas."""

from __future__ import annotations

from ddpm_ref.symbolic.derivation import Derive
from ddpm_ref.symbolic.schedule.buffers import extract_coefficients, schedule_tables
from ddpm_ref.symbolic.schedule.named import (
    alpha_bar_terminal_bound,
    beta_schedule,
    cosine_alpha_bar_schedule,
    linear_beta_schedule,
)
from ddpm_ref.symbolic.schedule.tables import alpha_and_alpha_bar, alpha_bar_prev, one_minus_alpha_bar, snr

DERIVATIONS: tuple[Derive, ...] = (
    beta_schedule,
    linear_beta_schedule,
    cosine_alpha_bar_schedule,
    alpha_and_alpha_bar,
    alpha_bar_prev,
    one_minus_alpha_bar,
    alpha_bar_terminal_bound,
    snr,
    schedule_tables,
    extract_coefficients,
)
