"""Divergences of Gaussians, derived by integration."""

from __future__ import annotations

from ddpm_ref.symbolic.derivation import Derive

DERIVATIONS: tuple[Derive, ...] = ()
