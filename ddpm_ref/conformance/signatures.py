"""How an adapter's methods are written: read off the questions that laws ask."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.judge import Court
from ddpm_ref.conformance.reference_adapter import ReferenceAdapter
from ddpm_ref.laws import Law, NumpySource


def signatures(law: Law) -> list[str]:
    """The first line of each method that a law asks, with the arguments that it hands over; ``own`` is the adapter's schedule.

    >>> from ddpm_ref.laws import REGISTRY
    >>> signatures(REGISTRY["ancestral/step"])
    ['def ancestral_step(self, own, xt, t, s, eps, noise, variance)']
    """
    recording = _Recording(set(law.needs.split()))
    Court(recording).ask(law, law.cases(NumpySource(np.random.default_rng(0)), Claim("fp64")))
    return [f"def {name}({', '.join(recording.asked[name])})" for name in law.needs.split()]


class _Recording:
    """The reference, with a record of the arguments that some of its methods are asked with."""

    def __init__(self, methods: set[str]):
        self._adapter, self._methods = ReferenceAdapter(), methods
        self.asked: dict[str, list[str]] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._adapter, name)
        return self._recorded(name, found) if name in self._methods else found

    def _recorded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*arguments: Any, **options: Any) -> Any:
            given = [*list(inspect.signature(function).parameters)[: len(arguments)], *options]
            self.asked[name] = ["self", *("own" if word == "schedule" else word for word in given)]
            return function(*arguments, **options)

        return ask
