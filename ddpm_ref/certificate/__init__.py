"""Certificates: Arb proves every entry of a schedule's tables, and the proof can be done again. Needs the extra `certify`."""

from __future__ import annotations

from ddpm_ref import extras

try:
    import flint as _flint  # noqa: F401 - asked for first, so that its absence is named here
except ModuleNotFoundError as error:
    raise extras.missing(error, "certify") from error

from ddpm_ref.certificate.file import Certificate
from ddpm_ref.certificate.proof import MAX_BITS, certify, certify_again

__all__ = ["MAX_BITS", "Certificate", "certify", "certify_again"]
