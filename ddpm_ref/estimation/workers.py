"""Values computed here, or by several processes: the same numbers, since a value depends on nothing but its job.

Each process has a pipe of its own, which ends with whoever holds the other end: neither outlives the other unnoticed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
from collections.abc import Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeAlias

import torch

from ddpm_ref.errors import MomentsError, RangeError
from ddpm_ref.estimation.values import Job
from ddpm_ref.typing import Array

Task: TypeAlias = tuple[int, int]
"""Batch and level."""

_PATIENCE = 5.0


def computed(job: Job, tasks: Iterable[Task], processes: int = 1) -> Generator[tuple[Task, Array]]:
    """Every task with its values, ``(data, 2)``: in the order of the tasks for one process, as they come for several.

    Args:
        job: what is computed.
        tasks: (batch, level).
        processes: how many, >= 1; each with as many threads as this one, on which the last bits depend.

    Raises:
        RangeError: a network that cannot be sent to another process.
        MomentsError: a process died.

    What a task raises is raised here. Closing the iterator ends the processes.
    """
    if processes > 1:
        return _by_others(_packed(job), iter(tasks), processes)
    ready = job.ready()
    return ((task, ready.values(*task)) for task in tasks)


def _packed(job: Job) -> bytes:
    # The bytes go to this process's own children and nowhere else. Tensors are copied: shared memory may be small.
    try:
        return pickle.dumps(job)
    except Exception as error:  # whatever somebody else's object raises when it is to be packed
        raise RangeError(
            f"the network cannot be sent to another process ({error}); write processes=1, or make it of classes and "
            "functions that stand at the top of a module"
        ) from error


def _by_others(packed: bytes, tasks: Iterator[Task], processes: int) -> Generator[tuple[Task, Array]]:
    with contextlib.ExitStack() as stack:
        free = [_Worker() for _ in range(processes)]
        for worker in free:
            stack.callback(worker.end)
        for worker in free:  # after all were started, so that they import side by side
            worker.send_bytes(packed)
        busy: dict[Connection, tuple[_Worker, Task]] = {}
        while True:
            while free and (task := next(tasks, None)) is not None:
                worker = free.pop()
                worker.send(task)
                busy[worker.connection] = worker, task
            if not busy:
                return
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker, task = busy.pop(connection)
                yield task, worker.answer()
                free.append(worker)


class _Worker:
    """A process that answers tasks."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of torch's threads
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, torch.get_num_threads()), daemon=True)
        with _unheard_by_children():
            self.process.start()
        theirs.close()  # so that the child's death is the end of the pipe

    def send(self, task: Task) -> None:
        with self._alive():
            self.connection.send(task)

    def send_bytes(self, packed: bytes) -> None:
        with self._alive():
            self.connection.send_bytes(packed)

    def answer(self) -> Array:
        with self._alive():
            found: Any = self.connection.recv()
        if isinstance(found, Exception):
            raise found
        values: Array = found
        return values

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(_PATIENCE)

    @contextlib.contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            self.process.join(_PATIENCE)
            raise MomentsError(
                f"a process that was computing moments ended with exit code {self.process.exitcode} (out of memory?); "
                "what was finished is kept, begin again with fewer processes to go on"
            ) from error


@contextlib.contextmanager
def _unheard_by_children() -> Iterator[None]:
    # Ctrl-C and a closed terminal reach every process of a group; only this one shall decide what they mean.
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, threads: int) -> None:
    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, BrokenPipeError):  # the one who asked is gone
        ready = None
        packed = connection.recv_bytes()
        while True:
            task = connection.recv()
            try:
                ready = pickle.loads(packed).ready() if ready is None else ready
                connection.send(ready.values(*task))
            except (EOFError, BrokenPipeError):
                return
            except Exception as error:  # the network may raise anything; it belongs to the one who asked
                connection.send(_portable(error))


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error that cannot travel
        return MomentsError(f"in a process that was computing moments: {error!r}")
    return error
