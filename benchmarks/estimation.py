"""What measuring a network costs beside its bare forward passes.

    python benchmarks/estimation.py [--count 512] [--levels 4] [--batch 256] [--rounds 15] [--device cpu|cuda] [--json out.json]

Interleaved as `beside_the_network.py` says: `estimate()` whole, with noise, noising, conversion, sums, digests of the data, and
with a file the writing of state and result too, against as many bare forward passes of the demo's U-Net on 8x8 digits.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from beside_the_network import Work, compare
from q_sample_and_step import SCHEDULE, T
from sampling import demo_network

from ddpm_ref.estimation import estimate
from ddpm_ref.training.data import load

SIZES = {"count": (512, "data"), "levels": (4, "of 1000"), "batch": (256, ""), "rounds": (15, "")}


def works(options: argparse.Namespace, folder: Path, device: torch.device) -> dict[str, Work]:
    """What is compared; the first is the bare network."""
    denoiser, data = demo_network(device), load("digits").train[: options.count]
    visited = np.linspace(1, T, options.levels).round().astype(int).tolist()
    batches = [part.to(device) for part in data.split(options.batch)]
    times = {t: [torch.full((len(part),), t - 1, device=device) for part in batches] for t in visited}

    @torch.no_grad()
    def bare() -> None:
        for t in visited:
            for part, clock in zip(batches, times[t], strict=True):
                denoiser.network(part, clock)

    def measured(output: Path | None) -> object:
        return estimate(
            denoiser, SCHEDULE, data, visited, batch_size=options.batch, device=device, output=output, overwrite=True
        )

    def to_a_file() -> object:
        path = folder / "moments.safetensors"
        path.unlink(missing_ok=True)
        return measured(path)

    return {"bare forward": bare, "estimate()": lambda: measured(None), "estimate(), to a file": to_a_file}


if __name__ == "__main__":
    sys.exit(compare(__doc__, SIZES, works))
