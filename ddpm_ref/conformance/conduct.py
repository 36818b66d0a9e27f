"""How an implementation behaves when asked: in time, the same each time, in the right type, with its hands off its inputs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.capabilities import Native
from ddpm_ref.typing import AnyArray, Array


class Misconduct(Exception):
    """An implementation that cannot be judged on its numbers: what it did, on one line."""


class Overtime(Misconduct):
    """No answer within the time limit."""


class Worker:
    """Runs calls in a thread of its own and gives up on one that does not come back in time.

    A call cannot be stopped from outside: the thread is left behind, as a daemon, so that it never keeps the process
    alive, and the next call gets a new one.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._tasks: queue.SimpleQueue[Callable[[], object]] | None = None
        self._answers: queue.SimpleQueue[tuple[bool, Any]]

    def call(self, function: Callable[[], Any]) -> Any:
        """What the function returns or raises; `Misconduct` if it takes longer than ``seconds``."""
        if self._tasks is None:
            self._tasks, self._answers = queue.SimpleQueue(), queue.SimpleQueue()
            threading.Thread(target=_serve, args=(self._tasks, self._answers), daemon=True).start()
        self._tasks.put(function)
        try:
            good, answer = self._answers.get(timeout=self.seconds)
        except queue.Empty:
            self._tasks = None
            raise Overtime(f"gave no answer within {self.seconds:g} s") from None
        if good:
            return answer
        raise answer


def _serve(tasks: queue.SimpleQueue[Callable[[], object]], answers: queue.SimpleQueue[tuple[bool, Any]]) -> None:
    while True:
        function = tasks.get()
        try:
            answers.put((True, function()))
        except BaseException as error:
            answers.put((False, error))


def hands_off(before: Mapping[str, AnyArray], after: Mapping[str, AnyArray], given: Mapping[str, AnyArray]) -> None:
    """Raise `Misconduct` if an argument was written into; ``given``, which it may share memory with, is put right again."""
    for name, value in before.items():
        if not np.array_equal(value, after[name]):
            if given[name].flags.writeable:
                given[name][...] = value
            raise Misconduct(f"writes into its argument {name}; work on a copy")


def same_twice(first: tuple[Array | None, ...], second: tuple[Array | None, ...]) -> None:
    """Raise `Misconduct` if the same question was answered in two ways."""
    if len(first) != len(second) or not all(
        a is b if a is None or b is None else np.array_equal(a, b, equal_nan=True)
        for a, b in zip(first, second, strict=True)
    ):
        raise Misconduct(
            "answers the same question in two ways; noise is an argument here: let the adapter hand the given noise to "
            "code that draws its own (ddpm_ref.conformance.given_noise)"
        )


def unclaimed_format(adapter: Any, result: Native, claim: Claim) -> str:
    """What to say of a result in a format that the claim does not name (where the adapter can tell); empty if it does."""
    found = adapter.format_of(result) if hasattr(adapter, "format_of") else ""
    if found in ("", claim.store, claim.compute):
        return ""
    return f"returns {found} for {claim.store} data, where {claim} is claimed"
