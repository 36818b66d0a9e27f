"""Optional dependencies: where one is missing, the error says which extra brings it."""

from __future__ import annotations

import importlib
from typing import Any

from ddpm_ref.errors import MissingExtraError


def missing(error: ModuleNotFoundError, extra: str) -> ImportError:
    """What to raise when an import failed in a part of this package that needs an extra.

    Args:
        error: what the import raised.
        extra: e.g. ``"train"``.

    Returns:
        a MissingExtraError that names the extra; ``error`` itself if the missing module is this package's own.
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "ddpm_ref"):
        return error
    return MissingExtraError(f"{package} is not installed; write: pip install 'ddpm-ref[{extra}]'")


def require(module: str, extra: str) -> Any:
    """Import a module that only an extra of this package installs.

    Args:
        module: its name, e.g. ``"sklearn.datasets"``.
        extra: e.g. ``"train"``.

    Returns:
        the module.

    Raises:
        MissingExtraError: it, or something it needs, is not installed.

    >>> require("no_such_module", "train")
    Traceback (most recent call last):
    ddpm_ref.errors.MissingExtraError: no_such_module is not installed; write: pip install 'ddpm-ref[train]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing(error, extra) from error
