"""What a pass over the terms of the bound costs beside its bare forward passes.

    python benchmarks/evaluate.py [--count 256] [--steps 16] [--batch 256] [--rounds 7] [--device cpu|cuda] [--json out.json]

Interleaved as in `estimation.py`, A B A B and the other first in every second round: `evaluate()` whole, with noise, noising,
conversion, clipping, divergences, decoder, averages and digests of the data, once with and once without a file, against as many
bare forward passes of the demo's U-Net on 8x8 digits. The ratio is the median over rounds of the quotient within the round; that
of the processor's time is what the clock would show on one thread were nobody else there. On a busy machine the network's own
time varies by more than the difference; so the last line says, of the processor's time of one evaluation, what is spent outside the
network as a share of what is spent inside it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from estimation import Work, measure
from q_sample_and_step import SCHEDULE, facts, synchronize
from sampling import demo_network

from ddpm_ref.evaluation import evaluate
from ddpm_ref.sampling import Denoiser
from ddpm_ref.training.data import load


def works(count: int, steps: int, batch: int, folder: Path, device: torch.device) -> dict[str, Work]:
    """What is compared; the first is the bare network."""
    denoiser, images = demo_network(device), load("digits")
    data, walk = images.train[:count], SCHEDULE.trajectory(steps)
    batches = [part.to(device) for part in data.split(batch)]
    times = {t: [torch.full((len(part),), t - 1, device=device) for part in batches] for t in walk.levels[:-1]}

    @torch.no_grad()
    def bare() -> None:
        for clocks in times.values():
            for part, clock in zip(batches, clocks, strict=True):
                denoiser.network(part, clock)

    def evaluated(variance: str, output: Path | None = None) -> object:
        return evaluate(
            denoiser,
            SCHEDULE,
            data,
            walk,
            variance=variance,
            levels=images.levels,
            batch_size=batch,
            device=device,
            output=output,
        )

    def to_a_file() -> object:
        path = folder / "evaluation.safetensors"
        path.unlink(missing_ok=True)
        return evaluated("posterior", path)

    return {
        "bare forward": bare,
        "evaluate()": lambda: evaluated("posterior"),
        "evaluate(), beta": lambda: evaluated("beta"),
        "evaluate(), to a file": to_a_file,
    }


def outside(count: int, steps: int, batch: int, rounds: int, device: torch.device) -> float:
    """Processor time outside the network by that inside it, the median over rounds."""
    inside: list[float] = []
    denoiser = demo_network(device)

    def network(x: torch.Tensor, clock: torch.Tensor) -> torch.Tensor:
        start = time.process_time()
        answer = denoiser.network(x, clock)
        synchronize(device)
        inside.append(time.process_time() - start)
        return answer

    images, shares = load("digits"), []
    for _ in range(rounds):
        inside.clear()
        start = time.process_time()
        evaluate(
            Denoiser(network),
            SCHEDULE,
            images.train[:count],
            SCHEDULE.trajectory(steps),
            levels=images.levels,
            batch_size=batch,
            device=device,
        )
        shares.append((time.process_time() - start) / sum(inside) - 1)
    return float(np.median(shares))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=256, help="images, a multiple of the batch")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="also write facts and times to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(options.threads)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("--device cuda was given and PyTorch sees no CUDA device; write --device cpu", file=sys.stderr)
        return 2
    sizes = {name: getattr(options, name) for name in ("count", "steps", "batch", "rounds")}
    machine = facts(device, (options.batch, 1, 8, 8)) | sizes
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        named = works(options.count, options.steps, options.batch, Path(folder), device)
        seconds = measure(named, options.rounds, device)
    baseline = np.array(seconds["bare forward"])
    print(f"{'work':<24}{'ms':>9}{'ratio':>8}{'CPU ms':>10}{'ratio':>8}{'20 %':>8}{'80 %':>8}")
    for name, found in seconds.items():
        clock, processor = np.median(found, axis=0) * 1e3
        ratios = np.array(found) / baseline
        low, high = np.percentile(ratios[:, 1], [20, 80])
        print(
            f"{name:<24}{clock:>9.1f}{np.median(ratios[:, 0]):>8.3f}{processor:>10.1f}{np.median(ratios[:, 1]):>8.3f}"
            f"{low:>8.3f}{high:>8.3f}"
        )
    share = outside(options.count, options.steps, options.batch, options.rounds, device)
    print(f"\noutside the network: {100 * share:.1f} % of the time inside it")
    if options.json:
        found = {"machine": machine, "seconds": seconds, "outside": share}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
