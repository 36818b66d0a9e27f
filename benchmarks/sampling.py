"""What a step of `sample()` costs beside the network: against diffusers' schedulers, and against the bare network.

    python benchmarks/sampling.py [--shape 4,3,32,32] [--steps 50] [--rounds 40] [--device cpu|cuda] [--json out.json]

Interleaved: every round runs every chain once, A B A B, so that both meet the same load. Times are per step of a whole
chain, setting up included; a ratio is the median over rounds of the quotient within the round. Three questions:

    overhead   a network that returns its input, so that all the time is the sampler's
    network    the U-Net of the demo: `sample()` against as many bare forward passes
    batches    how much the samples of the demo's U-Net change when the same noise is split into batches
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from q_sample_and_step import BETAS, SCHEDULE, T, facts, synchronize

from ddpm_ref.nn import UNet
from ddpm_ref.reference import plan as plans
from ddpm_ref.sampling import Denoiser, GeneratorNoise, PhiloxNoise, sample
from ddpm_ref.training import Config

Chain = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line: microseconds per step, and the ratio to the baseline of its group."""

    group: str
    chain: str
    median: float
    percentile_20: float
    percentile_80: float
    baseline: str
    ratio: float


def overhead(shape: tuple[int, ...], steps: int, device: torch.device) -> tuple[dict[str, Chain], dict[str, str]]:
    """Chains with a network of negligible cost, and what each is compared with."""
    trajectory = SCHEDULE.trajectory(steps, "leading")
    identity = Denoiser(lambda x, time: x)
    clip = (-1.0, 1.0)
    chains: dict[str, Chain] = {}
    against: dict[str, str] = {}

    def add(name: str, plan: plans.Plan, noise: Any, baseline: str) -> None:
        chains[name] = lambda: sample(identity, shape, plan, noise, device=device)
        against[name] = baseline

    try:
        diffusers: Any = importlib.import_module("diffusers")
    except ImportError:
        print("diffusers is not installed, nothing to compare with; pip install diffusers==0.42.1", file=sys.stderr)
        diffusers = None
    if diffusers is not None:
        common = {"num_train_timesteps": T, "trained_betas": BETAS.tolist()}
        for name, kind in {"DDIMScheduler": diffusers.DDIMScheduler, "DDPMScheduler": diffusers.DDPMScheduler}.items():
            for clipped in (False, True):
                scheduler = kind(clip_sample=clipped, **common)
                scheduler.set_timesteps(steps)
                label = f"diffusers {name}{', clipped' if clipped else ''}"
                chains[label] = foreign(scheduler, shape, device, draws=name == "DDPMScheduler")
                against[label] = label
    add("ddim", plans.ddim(SCHEDULE, trajectory), None, "diffusers DDIMScheduler")
    add("ddim, clipped", plans.ddim(SCHEDULE, trajectory, clip=clip), None, "diffusers DDIMScheduler, clipped")
    for source in (GeneratorNoise(1), PhiloxNoise(1)):
        name = f"ancestral, {'generator' if isinstance(source, GeneratorNoise) else 'philox'}"
        add(name, plans.ancestral(SCHEDULE, trajectory), source, "diffusers DDPMScheduler")
    clipped_plan = plans.ancestral(SCHEDULE, trajectory, clip=clip)
    add("ancestral, generator, clipped", clipped_plan, GeneratorNoise(1), "diffusers DDPMScheduler, clipped")
    return chains, against


def foreign(scheduler: Any, shape: tuple[int, ...], device: torch.device, *, draws: bool) -> Chain:
    """The loop that diffusers documents, with the same network; timesteps as Python ints, which is its fast way."""
    generator = torch.Generator(device).manual_seed(1)
    timesteps = scheduler.timesteps.tolist()
    more = {"generator": generator} if draws else {}

    @torch.no_grad()
    def chain() -> object:
        x = torch.randn(shape, generator=generator, device=device)
        for timestep in timesteps:
            x = scheduler.step(x, timestep, x, return_dict=False, **more)[0]
        return x

    return chain


def demo_network(device: torch.device) -> Denoiser:
    """The demo's U-Net with the weights it starts from; its output is not the zero that some layers start with."""
    torch.manual_seed(0)
    network = UNet(Config().network).to(device).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return Denoiser(network)


def with_network(steps: int, batch: int, device: torch.device) -> tuple[dict[str, Chain], dict[str, str]]:
    """`sample()` with the demo's U-Net on 8x8 digits, beside as many bare forward passes."""
    denoiser, shape = demo_network(device), (batch, 1, 8, 8)
    plan = plans.ancestral(SCHEDULE, SCHEDULE.trajectory(steps), clip=(-1.0, 1.0))
    x, time_ = torch.randn(shape, device=device), torch.full((batch,), 500, device=device)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(steps):
            denoiser.network(x, time_)

    baseline = f"bare forward, U-Net, batch {batch}"
    named = {
        baseline: bare,
        f"sample(), U-Net, batch {batch}": lambda: sample(denoiser, shape, plan, GeneratorNoise(1), device=device),
    }
    return named, dict.fromkeys(named, baseline)


def measure(
    group: str, chains: dict[str, Chain], against: dict[str, str], steps: int, rounds: int, device: torch.device
) -> list[Row]:
    """Microseconds per step, round by round."""

    def once(chain: Chain) -> float:
        synchronize(device)
        start = time.perf_counter()
        chain()
        synchronize(device)
        return (time.perf_counter() - start) / steps * 1e6

    for chain in chains.values():
        chain()
    times = {name: np.empty(rounds) for name in chains}
    for k in range(rounds):
        for name, chain in chains.items():
            times[name][k] = once(chain)
    rows = []
    for name, samples in times.items():
        low, median, high = (float(p) for p in np.percentile(samples, [20, 50, 80]))
        baseline = against[name] if against[name] in times else name
        rows.append(Row(group, name, median, low, high, baseline, float(np.median(samples / times[baseline]))))
    return rows


def largest_difference_between_splits(steps: int, device: torch.device) -> dict[str, float]:
    """Largest difference of a sample of the demo's U-Net between one batch of 16 and smaller ones, noise by Philox."""
    denoiser = demo_network(device)
    plan = plans.ddim(SCHEDULE, SCHEDULE.trajectory(steps), clip=(-1.0, 1.0))
    whole = sample(denoiser, (16, 1, 8, 8), plan, PhiloxNoise(1), device=device)
    largest = {}
    for size in (1, 4, 8):
        parts = [sample(denoiser, (size, 1, 8, 8), plan, PhiloxNoise(1, k), device=device) for k in range(0, 16, size)]
        largest[f"16 against {16 // size} x {size}"] = float((torch.cat(parts) - whole).abs().max())
    return largest


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="4,3,32,32", help="batch first, for the overhead")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="also write facts and rows to this file")
    options = parser.parse_args()
    device, shape = torch.device(options.device), tuple(int(size) for size in options.shape.split(","))
    torch.set_num_threads(options.threads)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("--device cuda was given and PyTorch sees no CUDA device; write --device cpu", file=sys.stderr)
        return 2
    machine = facts(device, shape) | {"steps": options.steps, "rounds": options.rounds}
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    rows = measure("overhead", *overhead(shape, options.steps, device), options.steps, options.rounds, device)
    for batch in (1, 64):
        chains, against = with_network(options.steps, batch, device)
        rows += measure("network", chains, against, options.steps, max(options.rounds // 4, 5), device)
    print(f"{'chain':<42}{'us/step':>10}{'20 %':>10}{'80 %':>10}{'ratio':>8}  to")
    for row in rows:
        times = f"{row.median:>10.1f}{row.percentile_20:>10.1f}{row.percentile_80:>10.1f}"
        print(f"{row.chain:<42}{times}{row.ratio:>8.3f}  {row.baseline}")
    splits = largest_difference_between_splits(options.steps, device)
    print("\nlargest difference of the same samples in other batches, U-Net, values in [-1, 1]:")
    for name, value in splits.items():
        print(f"  {name:<20}{value:.2g}")
    if options.json:
        content = {"machine": machine, "rows": [asdict(row) for row in rows], "splits": splits}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
