"""What measuring a network costs beside its bare forward passes.

    python benchmarks/estimation.py [--count 512] [--levels 4] [--batch 256] [--rounds 15] [--device cpu|cuda] [--json out.json]

Interleaved: every round runs `estimate()` once and as many bare forward passes of the demo's U-Net on 8x8 digits, the
other first in every second round, so that both meet the same load. The ratio is the median over rounds of the quotient
within the round; once of the wall clock, and once of the processor's time, which on one thread is what the clock would
show were nobody else there. `estimate()` is timed whole: noise, noising, conversion, sums, digests of the data, and with a file the
writing of state and result too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from q_sample_and_step import SCHEDULE, T, facts, synchronize
from sampling import demo_network

from ddpm_ref.estimation import estimate
from ddpm_ref.training.data import load

Work = Callable[[], object]


def works(count: int, levels: int, batch: int, folder: Path, device: torch.device) -> dict[str, Work]:
    """What is compared; the first is the bare network."""
    denoiser, data = demo_network(device), load("digits").train[:count]
    visited = np.linspace(1, T, levels).round().astype(int).tolist()
    batches = [part.to(device) for part in data.split(batch)]
    times = {t: [torch.full((len(part),), t - 1, device=device) for part in batches] for t in visited}

    @torch.no_grad()
    def bare() -> None:
        for t in visited:
            for part, clock in zip(batches, times[t], strict=True):
                denoiser.network(part, clock)

    def measured(output: Path | None) -> object:
        return estimate(
            denoiser, SCHEDULE, data, visited, batch_size=batch, device=device, output=output, overwrite=True
        )

    def to_a_file() -> object:
        path = folder / "moments.safetensors"
        path.unlink(missing_ok=True)
        return measured(path)

    return {"bare forward": bare, "estimate()": lambda: measured(None), "estimate(), to a file": to_a_file}


def measure(named: dict[str, Work], rounds: int, device: torch.device) -> dict[str, list[tuple[float, float]]]:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=512, help="data")
    parser.add_argument("--levels", type=int, default=4, help="of 1000")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="also write facts and times to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("--device cuda was given and PyTorch sees no CUDA device; write --device cpu", file=sys.stderr)
        return 2
    sizes = {name: getattr(options, name) for name in ("count", "levels", "batch", "rounds")}
    machine = facts(device, (options.batch, 1, 8, 8)) | sizes
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(
            works(options.count, options.levels, options.batch, Path(folder), device), options.rounds, device
        )
    baseline = np.array(seconds["bare forward"])
    print(f"{'work':<24}{'ms':>9}{'20 %':>9}{'80 %':>9}{'ratio':>8}{'CPU ms':>10}{'ratio':>8}")
    ratios = {}
    for name, found in seconds.items():
        low, median, high = np.percentile(found, [20, 50, 80], axis=0) * 1e3
        ratios[name] = [float(ratio) for ratio in np.median(np.array(found) / baseline, axis=0)]
        clock, processor = ratios[name]
        print(
            f"{name:<24}{median[0]:>9.1f}{low[0]:>9.1f}{high[0]:>9.1f}{clock:>8.3f}{median[1]:>10.1f}{processor:>8.3f}"
        )
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "seconds": seconds, "ratios": ratios}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
