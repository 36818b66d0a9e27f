"""Times works that ask a network beside as many of its bare forward passes: what `estimation.py` and `evaluate.py` share.

Interleaved: every round runs each work once, the last first in every second round, so that all meet the same load. A ratio is the
median over rounds of the quotient within the round; once of the wall clock, and once of the processor's time, which on one thread
is what the clock would show were nobody else there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from q_sample_and_step import facts, synchronize

Work = Callable[[], object]
Makes = Callable[[argparse.Namespace, Path, torch.device], dict[str, Work]]
"""From the options, a folder and a device: what is compared, the bare network first."""

# glibc gives freed memory back to the system and asks for it again: some ten thousand page faults in a forward pass of the demo's
# network, or few, as chance lays out the heap; a quarter of its time, for whichever work meets them.
HEAP = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**30)}


def keep_the_heap() -> None:
    """Begin this program again, once, with an allocator that keeps what it has; without effect where it is not glibc's."""
    if not HEAP.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | HEAP)


def measure(named: Mapping[str, Work], rounds: int, device: torch.device) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each, round by round: of the clock, and of the processor."""
    for work in named.values():
        work()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in named}
    for k in range(rounds):
        for name in list(named)[:: 1 if k % 2 == 0 else -1]:
            synchronize(device)
            start, spent = time.perf_counter(), time.process_time()
            named[name]()
            synchronize(device)
            seconds[name].append((time.perf_counter() - start, time.process_time() - spent))
    return seconds


def compare(
    doc: str | None,
    sizes: Mapping[str, tuple[int, str]],
    makes: Makes,
    afterwards: Callable[[argparse.Namespace, torch.device], dict[str, float]] | None = None,
) -> int:
    """The command: its first line of help, its counts with their defaults, its works, and what else it finds out and prints."""
    keep_the_heap()
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    for name, (default, meaning) in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=meaning)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="also write facts and times to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("--device cuda was given and PyTorch sees no CUDA device; write --device cpu", file=sys.stderr)
        return 2
    machine = facts(device, (options.batch, 1, 8, 8)) | {name: getattr(options, name) for name in sizes}
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(makes(options, Path(folder), device), options.rounds, device)
    found = {"machine": machine, "seconds": seconds, "ratios": _table(seconds)}
    if afterwards is not None:
        found |= afterwards(options, device)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _table(seconds: dict[str, list[tuple[float, float]]]) -> dict[str, list[float]]:
    """Printed: milliseconds and ratios to the first work, with two percentiles of the latter; returned: the ratios."""
    print(f"{'work':<26}{'ms':>9}{'ratio':>8}{'20 %':>8}{'80 %':>8}{'CPU ms':>10}{'ratio':>8}{'20 %':>8}{'80 %':>8}")
    baseline, ratios = np.array(next(iter(seconds.values()))), {}
    for name, found in seconds.items():
        low, middle, high = np.percentile(np.array(found) / baseline, [20, 50, 80], axis=0)
        columns = zip(np.median(found, axis=0) * 1e3, middle, low, high, strict=True)
        (ms, *clock), (cpu_ms, *processor) = columns
        print(f"{name:<26}{ms:>9.1f}" + "".join(f"{x:>8.3f}" for x in clock), end="")
        print(f"{cpu_ms:>10.1f}" + "".join(f"{x:>8.3f}" for x in processor))
        ratios[name] = [float(ratio) for ratio in middle]
    return ratios
