"""What a pass over the terms of the bound costs beside its bare forward passes.

    python benchmarks/evaluate.py [--count 256] [--steps 16] [--batch 256] [--rounds 7] [--device cpu|cuda] [--json out.json]

Interleaved as `beside_the_network.py` says: `evaluate()` whole, with noise, noising, conversion, clipping, divergences, decoder,
averages and digests of the data, once with and once without a file, and with a learned range, against as many bare forward passes
of the demo's U-Net on 8x8 digits. On a busy machine the network's own time varies by more than the difference; so the last lines
say, of the processor's time of one evaluation, what is spent outside the network as a share of what is spent inside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from beside_the_network import Work, compare
from q_sample_and_step import SCHEDULE, synchronize
from sampling import demo_network

from ddpm_ref.evaluation import evaluate
from ddpm_ref.sampling import Denoiser
from ddpm_ref.training.data import load

SIZES = {"count": (256, "images, a multiple of the batch"), "steps": (16, ""), "batch": (256, ""), "rounds": (7, "")}


def evaluated(
    denoiser: Denoiser,
    options: argparse.Namespace,
    device: torch.device,
    variance: str = "posterior",
    output: Path | None = None,
) -> object:
    """The work."""
    images = load("digits")
    return evaluate(
        denoiser,
        SCHEDULE,
        images.train[: options.count],
        SCHEDULE.trajectory(options.steps),
        variance=variance,
        levels=images.levels,
        batch_size=options.batch,
        device=device,
        output=output,
    )


def says_a_range(denoiser: Denoiser) -> Denoiser:
    """The same network with channels for a learned range, which cost it nothing."""
    return Denoiser(lambda x, clock: torch.cat([denoiser.network(x, clock), x], dim=1), variance="learned_range")


def works(options: argparse.Namespace, folder: Path, device: torch.device) -> dict[str, Work]:
    """What is compared; the first is the bare network."""
    denoiser, data = demo_network(device), load("digits").train[: options.count]
    learned, levels = says_a_range(denoiser), SCHEDULE.trajectory(options.steps).levels[:-1]
    batches = [part.to(device) for part in data.split(options.batch)]
    times = {t: [torch.full((len(part),), t - 1, device=device) for part in batches] for t in levels}

    @torch.no_grad()
    def bare() -> None:
        for clocks in times.values():
            for part, clock in zip(batches, clocks, strict=True):
                denoiser.network(part, clock)

    def to_a_file() -> object:
        path = folder / "evaluation.safetensors"
        path.unlink(missing_ok=True)
        return evaluated(denoiser, options, device, output=path)

    return {
        "bare forward": bare,
        "evaluate()": lambda: evaluated(denoiser, options, device),
        "evaluate(), learned range": lambda: evaluated(learned, options, device, "learned_range"),
        "evaluate(), to a file": to_a_file,
    }


def outside(options: argparse.Namespace, device: torch.device, variance: str) -> float:
    """Processor time outside the network by that inside it, the median over rounds."""
    denoiser, inside, shares = demo_network(device), list[float](), []

    def network(x: torch.Tensor, clock: torch.Tensor) -> torch.Tensor:
        start = time.process_time()
        answer = denoiser.network(x, clock)
        synchronize(device)
        inside.append(time.process_time() - start)
        return answer

    timed = Denoiser(network)
    for _ in range(options.rounds):
        inside.clear()
        start = time.process_time()
        evaluated(says_a_range(timed) if variance == "learned_range" else timed, options, device, variance)
        shares.append((time.process_time() - start) / sum(inside) - 1)
    return float(np.median(shares))


def outside_the_network(options: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """Said for both kinds of variances."""
    found = {}
    for variance in ("posterior", "learned_range"):
        found[f"outside, {variance}"] = share = outside(options, device, variance)
        print(f"outside the network, {variance}: {100 * share:.1f} % of the time inside it")
    return found


if __name__ == "__main__":
    sys.exit(compare(__doc__, SIZES, works, outside_the_network))
