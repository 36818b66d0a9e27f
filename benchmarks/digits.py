"""Samplers on a trained network, by Frechet distance, beside what the exact oracles say of the same samplers.

    python benchmarks/digits.py [--run runs/demo] [--steps 10 25 100] [--samplers posterior beta ddim-0] [--json out.json]

Every sampler starts from the same numbers. Distances are those of the demo: features of a small classifier trained on
the same digits, 450 samples against all training images. The oracles know the best network for their data, so that
their figures, in nats, are free of Monte-Carlo error and of what the network has not learned: the two judge different
things, and the last lines say how far they rank the samplers alike.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from scipy.stats import spearmanr

from ddpm_ref import study
from ddpm_ref.demo.quality import COUNT, frechet_distance
from ddpm_ref.reference.plan import Plan, ancestral, ddim
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling import PhiloxNoise, sample
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.classifier import fit_classifier
from ddpm_ref.training.data import load

ORACLES = ("digits", "digits-gaussian")
CLIP = (-1.0, 1.0)


def clipped(schedule: NoiseSchedule, sampler: str, steps: int, spacing: str) -> Plan:
    """The plan of a sampler by its name in `ddpm_ref.study`, with x0 clipped as images are."""
    walk = schedule.trajectory(steps, spacing)
    if sampler.startswith("ddim-"):
        return ddim(schedule, walk, float(sampler.removeprefix("ddim-")), clip=CLIP)
    return ancestral(schedule, walk, sampler, clip=CLIP)


def main() -> None:
    """Sample, judge, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 25, 100])
    parser.add_argument("--samplers", nargs="+", default=["posterior", "beta", "ddim-0"])
    parser.add_argument("--spacing", default="even")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()

    checkpoint = Checkpoint.load(asked.run / "checkpoint.safetensors")
    schedule, denoiser = checkpoint.config.schedule.build(), checkpoint.denoiser()
    images = load(checkpoint.config.dataset)
    classifier = fit_classifier(images, asked.seed)
    subjects = [study.load(name) for name in ORACLES]
    rows = []
    print(f"held-out digits {frechet_distance(classifier, images.train, images.held_out[:COUNT]):.1f}")
    print(f"{'sampler':12} {'steps':>5} {'Frechet':>8} " + " ".join(f"{'KL ' + name:>20}" for name in ORACLES))
    for sampler in asked.samplers:
        for steps in asked.steps:
            begun = time.monotonic()
            plan = clipped(schedule, sampler, steps, asked.spacing)
            with torch.no_grad():
                made = sample(denoiser, (COUNT, *images.shape), plan, PhiloxNoise(asked.seed))
            distance = frechet_distance(classifier, images.train, made.clamp(*CLIP))
            cells = study.grid(schedule, [sampler], [steps], [asked.spacing])
            verdicts = [next(study.run(cells, subject)).kl for subject in subjects]
            rows.append(
                {"sampler": sampler, "steps": steps, "frechet": distance} | dict(zip(ORACLES, verdicts, strict=True))
            )
            figures = " ".join(f"{kl:20.6g}" for kl in verdicts)
            print(f"{sampler:12} {steps:5} {distance:8.1f} {figures}   {time.monotonic() - begun:.0f} s", flush=True)
    for name in ORACLES:
        of_rank = spearmanr([row["frechet"] for row in rows], [row[name] for row in rows]).statistic
        print(f"rank correlation of the distances with the oracle {name}: {of_rank:.2f}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
