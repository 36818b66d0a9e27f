"""The reverse model, derived."""

from __future__ import annotations

from ddpm_ref.symbolic.derivation import Derive

DERIVATIONS: tuple[Derive, ...] = ()
