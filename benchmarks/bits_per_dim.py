"""Bits per dimension of held-out digits, by the variance of the reverse steps and the number of steps.

    python benchmarks/bits_per_dim.py FOLDER [--training-steps 10000] [--steps 10 25 50 100 1000]
        [--measured 1347] [--count 450] [--threads 1]

Two networks are trained on the same batches, one with the simple loss and one with the hybrid, which learns a range; what is
unknown of the data is measured over the training images; then every bound is evaluated on held-out images, with the same noise.
All of it by the commands that a user would write. What is in FOLDER already is not computed again, and Ctrl-C loses nothing.

The differences are paired, image by image, which makes them far more certain than the figures themselves.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from ddpm_ref.cli import main as ddpm_ref
from ddpm_ref.evaluation import Evaluation

ROWS = {
    "posterior": ("simple", ["--variance", "posterior"]),
    "beta": ("simple", ["--variance", "beta"]),
    "learned range": ("hybrid", ["--variance", "learned-range"]),
    "analytic": ("simple", ["--variance", "analytic"]),
    "analytic, optimal trajectory": ("simple", ["--variance", "analytic", "--spacing", "optimal"]),
}
TRAINING = {"simple": [], "hybrid": ["--loss", "hybrid", "--variance", "learned-range"]}
T = 1000
TRAINED_ON, HELD_OUT = 1347, 450


def run(*words: str | int | Path) -> None:
    """A command, or the end."""
    print("$ ddpm-ref", *words, flush=True)
    try:
        ddpm_ref([str(word) for word in words])
    except SystemExit as end:
        if end.code:
            raise


def evaluations(
    folder: Path, training_steps: int, steps: list[int], measured: int, count: int, threads: int
) -> dict[str, dict[int, Evaluation]]:
    """By row and number of steps."""
    for name, flags in TRAINING.items():
        done = folder / name / "done"
        if not done.exists():
            again = ["--resume"] if (folder / name / "checkpoint.safetensors").exists() else []
            run("train", "--output", folder / name, "--max-steps", training_steps, "--threads", threads, *flags, *again)
            done.write_text(f"{training_steps}\n")
        elif done.read_text().strip() != str(training_steps):
            made = done.read_text().strip() or "an unknown number of"
            raise SystemExit(
                f"{folder / name} was trained for {made} steps, and --training-steps is {training_steps}; name another FOLDER, or "
                "give that number (an empty file done is of an older version of this script: write the number into it)"
            )
    run("analyze", folder / "simple", "--count", measured, "--threads", threads)
    found: dict[str, dict[int, Evaluation]] = {}
    for row, (network, flags) in ROWS.items():
        for K in steps:
            if K == T and "optimal" in flags:
                continue  # there is one trajectory of all levels
            output = folder / f"{row.replace(', ', ' ').replace(' ', '-')}-{K}.safetensors"
            asked = ["--steps", K, "--count", count, "--output", output, "--threads", threads]
            run("evaluate", folder / network, *flags, *asked)
            found.setdefault(row, {})[K] = Evaluation.load(output)
    return found


def show(found: dict[str, dict[int, Evaluation]], steps: list[int]) -> None:
    """The table, and what is to be compared in it."""
    print("\n| bits per dimension | " + " | ".join(f"K = {K}" for K in steps) + " |\n|" + "---|" * (len(steps) + 1))
    for row, by_steps in found.items():
        cells = (
            f"{by_steps[K].total.estimate:.3f} ± {by_steps[K].total.standard_error:.3f}" if K in by_steps else ""
            for K in steps
        )
        print(f"| {row} | " + " | ".join(cells) + " |")
    print()
    pairs = [("posterior", "analytic"), ("beta", "analytic"), ("learned range", "analytic")]
    for more, less in [*pairs, ("analytic, optimal trajectory", "analytic")]:
        for K in steps:
            if K in found[more] and K in found[less]:
                apart = np.asarray(found[more][K].totals) - np.asarray(found[less][K].totals)
                error = apart.std(ddof=1) / math.sqrt(len(apart))
                print(f"K = {K}: {more} - {less} = {apart.mean():+.4f} ± {error:.4f}")


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--training-steps", type=int, default=10_000)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 25, 50, 100, T])
    parser.add_argument(
        "--measured", type=int, default=TRAINED_ON, help="training images that the optimal variance is from"
    )
    parser.add_argument("--count", type=int, default=HELD_OUT, help="held-out images")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    sizes = asked.measured, asked.count, asked.threads
    show(evaluations(asked.folder, asked.training_steps, asked.steps, *sizes), asked.steps)


if __name__ == "__main__":
    main()
