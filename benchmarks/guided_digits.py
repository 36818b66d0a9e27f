"""Guided digits: how often a sample is what it was asked to be, and what that costs.

Trains a conditional network and a classifier of noisy digits (or takes runs that are there), samples digits with the
labels of the held-out ones, and prints for every strength of guidance the share that the demo's classifier of clean
digits takes for their label, beside the Frechet distance to the training digits in that classifier's features. Both
mean something only beside the row of the real, held-out digits: that classifier errs, too.

    python benchmarks/guided_digits.py                                    # about ten minutes on one core
    python benchmarks/guided_digits.py --output runs/guided               # and a picture for every row; goes on where
                                                                          # it was interrupted
    python benchmarks/guided_digits.py --weights 0 1 --scales 2 --training-steps 500 --steps 20
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import Tensor

from ddpm_ref.demo.quality import frechet_distance, nearest_distance
from ddpm_ref.images import write_grid
from ddpm_ref.nn import Classifier, UNetConfig
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.plan import Plan
from ddpm_ref.training import Checkpoint, Config, fit
from ddpm_ref.training.classifier import fit_classifier
from ddpm_ref.training.data import Images, load
from ddpm_ref.training.folder import CHECKPOINT_NAME
from ddpm_ref.training.guided import Guidance
from ddpm_ref.training.progress import console
from ddpm_ref.training.samples import draw

SHOWN = 10
"""Images of each class in a picture."""


@dataclass(frozen=True)
class Row:
    """What a strength of guidance comes to."""

    name: str
    right: float
    """Share of the images taken for their label."""
    low: float
    high: float
    """The exact 95 % interval of that share."""
    frechet: float
    nearest: float
    """Median distance to the nearest training image, root mean square per pixel."""
    seconds: float

    def __str__(self) -> str:
        interval = f"[{self.low:6.1%}, {self.high:6.1%}]"
        return (
            f"{self.name:<52}{self.right:>7.1%}  {interval}{self.frechet:>9.1f}{self.nearest:>9.3f}{self.seconds:>7.0f}"
        )


HEADER = f"{'':<52}{'right':>7}  {'95 % interval':^16}{'Frechet':>9}{'nearest':>9}{'s':>7}"


def trained(folder: Path, config: Config) -> Checkpoint:
    """The run in this folder, begun, gone on with or simply read."""
    with console() as report:
        run = fit(config, folder, report, resume=(folder / CHECKPOINT_NAME).exists())
    if run.stopped == "interrupted":
        raise KeyboardInterrupt
    print(
        f"{folder.name}: {run.checkpoint.steps} steps in {run.checkpoint.seconds:.0f} s, held-out loss {run.held_out_loss:.4f}"
    )
    if run.accuracy is not None:
        print("right by level:", ", ".join(f"{share:.1%} at {t}" for t, share in run.accuracy.items()))
    return run.checkpoint


def judged(name: str, judge: Classifier, images: Images, x: Tensor, labels: Tensor, seconds: float = 0.0) -> Row:
    """The row of these images."""
    with torch.no_grad():
        right = int((judge(x).argmax(dim=1) == labels).sum())
    interval = binomtest(right, len(x)).proportion_ci(0.95, "exact")
    distance = frechet_distance(judge, images.train, x)
    return Row(name, right / len(x), interval.low, interval.high, distance, nearest_distance(x, images.train), seconds)


def guidances(
    options: argparse.Namespace, labels: tuple[int, ...], classifier: Checkpoint
) -> Iterator[tuple[str, Guidance]]:
    """By name, in the order of the table."""
    for weight in options.weights:
        yield f"classifier-free, weight {weight:g} (scale {1 + weight:g})", Guidance(labels, weight)
    largest = max(options.weights, default=0.0)
    if largest > 0 and options.rescale > 0:
        name = f"classifier-free, weight {largest:g}, rescale {options.rescale:g}"
        yield name, Guidance(labels, largest, rescale=options.rescale)
    yield "unconditional network, no guidance", Guidance(labels, -1.0)
    for scale in options.scales:
        yield f"classifier, scale {scale:g}", Guidance(labels, classifier=classifier, classifier_scale=scale)
    for point in ("xt", "mean") if options.scales else ():
        scale = max(options.scales)
        guidance = Guidance(labels, classifier=classifier, classifier_scale=scale, gradient_at=point)
        yield f"classifier, scale {scale:g}, mean shifted by that at {point}", guidance


def draw_judged(
    name: str,
    guidance: Guidance,
    run: Checkpoint,
    plan: Plan,
    judge: Classifier,
    images: Images,
    options: argparse.Namespace,
) -> Row:
    """Sample with the labels of the held-out digits, judge, and leave a picture sorted by label."""
    labels = torch.tensor(guidance.labels)
    begun = time.monotonic()
    x = draw(run, len(labels), plan, options.seed, noise="philox", guidance=guidance).images.clamp(-1.0, 1.0)
    row = judged(name, judge, images, x, labels, time.monotonic() - begun)
    if options.output is not None:
        shown = torch.cat([x[labels == label][:SHOWN] for label in range(images.classes)])
        safe = name.replace(" ", "_").replace(",", "").replace("(", "").replace(")", "")
        write_grid(options.output / f"{safe}.png", shown, columns=SHOWN)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=float, nargs="*", default=[0.0, 0.5, 1.0, 2.0, 4.0])
    parser.add_argument("--scales", type=float, nargs="*", default=[1.0, 2.0, 4.0, 8.0], help="of the classifier")
    parser.add_argument("--rescale", type=float, default=0.7, help="of the row with the largest weight; 0: no such row")
    parser.add_argument("--label-dropout", type=float, default=0.1)
    parser.add_argument("--training-steps", type=int, default=1500, help="of the network")
    parser.add_argument("--classifier-steps", type=int, default=1000, help="of its training")
    parser.add_argument("--steps", type=int, default=50, help="of ancestral sampling")
    parser.add_argument("--count", type=int, default=450, help="images of each row, at most those held out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--output", type=Path, help="folder of the runs and pictures; kept, and gone on with")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = load("digits")
    network = UNetConfig(classes=images.classes)
    conditional = Config(
        network=network,
        label_dropout=options.label_dropout,
        max_steps=options.training_steps,
        max_seconds=None,
        seed=options.seed,
    )
    noisy = Config(
        network=network,
        prediction="label",
        loss="cross_entropy",
        max_steps=options.classifier_steps,
        max_seconds=None,
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory() as scratch:
        if options.output is not None:
            options.output.mkdir(parents=True, exist_ok=True)
        folder = Path(scratch) if options.output is None else options.output
        run = trained(folder / "conditional", conditional)
        classifier = trained(folder / "classifier", noisy)
    plan = plans.ancestral(run.schedule, run.schedule.trajectory(options.steps), clip=(-1.0, 1.0))
    judge = fit_classifier(images, options.seed)
    held_out, labels = images.held_out[: options.count], images.held_out_labels[: options.count]
    print(
        f"\n{len(labels)} images a row, {options.steps} steps of ancestral sampling, posterior variance, x0 clipped\n{HEADER}"
    )
    rows = [judged("real digits, held out", judge, images, held_out, labels)]
    print(rows[0], flush=True)
    for name, guidance in guidances(options, tuple(labels.tolist()), classifier):
        rows.append(draw_judged(name, guidance, run, plan, judge, images, options))
        print(rows[-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
