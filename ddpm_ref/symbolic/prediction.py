"""What a network says and what follows from it, derived."""

from __future__ import annotations

from ddpm_ref.symbolic.derivation import Derive

DERIVATIONS: tuple[Derive, ...] = ()
