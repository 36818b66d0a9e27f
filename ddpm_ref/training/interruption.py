"""Ctrl-C, SIGTERM and SIGHUP in a long task: the first asks it to end well, the second aborts."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
if hasattr(signal, "SIGHUP"):  # the terminal was closed; Windows has no such signal
    _DEFAULTS[signal.SIGHUP] = signal.SIG_DFL


@contextlib.contextmanager
def postponed() -> Iterator[Callable[[], bool]]:
    """Inside, the first interrupt or termination is only noted, to be asked for; a second one raises KeyboardInterrupt.

    In the middle of an optimiser step an exception would leave some weights new and some old.

    Limits: handlers that somebody else installed, and threads other than the main one, are let be.
    """
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    on_main_thread = threading.current_thread() is threading.main_thread()
    mine = {number: old for number, old in _DEFAULTS.items() if on_main_thread and signal.getsignal(number) is old}
    for number in mine:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        for number, old in mine.items():
            signal.signal(number, old)
