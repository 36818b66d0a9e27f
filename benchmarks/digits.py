"""Samplers on a trained network, by Frechet distance, beside what the exact oracles say of the same samplers.

    ddpm-ref demo && ddpm-ref analyze runs/demo          # a network, and what it leaves unknown (for analytic)
    python benchmarks/digits.py [--run runs/demo] [--steps 10 25 50 100] [--samplers posterior beta analytic ddim-0]

Every sampler starts from the same numbers. Distances are those of the demo: features of a small classifier trained on
the same digits, 450 samples against all training images; the median over some seeds of the noise, beside the least and
the greatest, because one seed alone can be off by a factor of two. The oracles know the best network for their data, so that
their figures, in nats, are free of Monte-Carlo error and of what the network has not learned: the two judge different
things, and the last lines say how far they rank the samplers alike.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

from scipy.stats import spearmanr

from ddpm_ref import study
from ddpm_ref.demo.quality import COUNT, frechet_distance
from ddpm_ref.estimation.moments import MOMENTS_NAME, Moments, network_digest
from ddpm_ref.estimation.unknown import unknown_by_level
from ddpm_ref.reference.plan import Plan, analytic, ancestral, ddim
from ddpm_ref.sampling import PhiloxNoise, sample
from ddpm_ref.training.checkpoint import Checkpoint
from ddpm_ref.training.classifier import fit_classifier
from ddpm_ref.training.data import load

ORACLES = ("digits", "digits-gaussian")
CLIP = (-1.0, 1.0)


def planned(run: Path, checkpoint: Checkpoint, sampler: str, steps: int, spacing: str) -> Plan:
    """The plan of a sampler by its name in `ddpm_ref.study`, with x0 clipped as images are."""
    schedule = checkpoint.schedule
    walk = schedule.trajectory(steps, spacing)
    if sampler.startswith("ddim-"):
        return ddim(schedule, walk, float(sampler.removeprefix("ddim-")), clip=CLIP)
    if sampler == "analytic":
        moments = Moments.load(run / MOMENTS_NAME)
        moments.must_belong_to(schedule, network_digest(checkpoint, None))
        unknown, clipping = unknown_by_level(schedule, moments, only=walk.levels[:-2])
        print(f"analytic: {moments.count} images, {clipping}")
        return analytic(schedule, walk, unknown, clip=CLIP)
    return ancestral(schedule, walk, sampler, clip=CLIP)


def main() -> None:
    """Sample, judge, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 25, 50, 100])
    parser.add_argument("--samplers", nargs="+", default=["posterior", "beta", "analytic", "ddim-0"])
    parser.add_argument("--spacing", default="even")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()

    checkpoint = Checkpoint.load(asked.run / "checkpoint.safetensors")
    schedule, denoiser = checkpoint.schedule, checkpoint.denoiser()
    images = load(checkpoint.config.dataset)
    classifier = fit_classifier(images, 0)
    subjects = [study.load(name) for name in ORACLES]
    rows = []
    print(f"held-out digits {frechet_distance(classifier, images.train, images.held_out[:COUNT]):.1f}")
    print(
        f"{'sampler':12} {'steps':>5} {'Frechet':>8} {'from, to':>16} "
        + " ".join(f"{'KL ' + name:>20}" for name in ORACLES)
    )
    for sampler in asked.samplers:
        for steps in asked.steps:
            begun = time.monotonic()
            plan = planned(asked.run, checkpoint, sampler, steps, asked.spacing)
            distances = []
            for seed in range(asked.seeds):
                made = sample(denoiser, (COUNT, *images.shape), plan, PhiloxNoise(seed))
                distances.append(frechet_distance(classifier, images.train, made.clamp(*CLIP)))
            distance = median(distances)
            verdicts = [
                next(study.run(study.grid(schedule, [sampler], [steps], [asked.spacing], subject), subject)).kl
                for subject in subjects
            ]
            rows.append(
                {"sampler": sampler, "steps": steps, "frechet": distance, "all": distances}
                | dict(zip(ORACLES, verdicts, strict=True))
            )
            figures = " ".join(f"{kl:20.6g}" for kl in verdicts)
            spread = f"{min(distances):.1f} to {max(distances):.1f}"
            seconds = time.monotonic() - begun
            print(f"{sampler:12} {steps:5} {distance:8.1f} {spread:>16} {figures}   {seconds:.0f} s", flush=True)
    for name in ORACLES:
        of_rank = spearmanr([row["frechet"] for row in rows], [row[name] for row in rows]).statistic
        print(f"rank correlation of the distances with the oracle {name}: {of_rank:.2f}")
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
