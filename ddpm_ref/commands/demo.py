"""``ddpm-ref demo``: from real digits to a page of samples, judged."""

from pathlib import Path

from ddpm_ref.exit_status import OK
from ddpm_ref.extras import require


def demo(
    output: Path = Path("runs/demo"),
    seconds: float = 90.0,
    seed: int = 0,
    samples: int = 450,
    steps: int = 100,
    threads: int = 1,
) -> int:
    """Train a small U-Net on real digits, sample from it, judge the samples, and leave a page with pictures.

    Args:
        output: folder for the checkpoint, the pictures, summary.json and index.html.
        seconds: training time.
        seed: of training, sampling and judging.
        samples: how many digits to sample; from 450 on they are judged.
        steps: reverse steps of the strided ancestral sampler.
        threads: of the processor. Two are faster only where nobody else wants the second.
    """
    for module in ("torch", "safetensors", "sklearn", "PIL", "matplotlib", "torchmetrics"):
        require(module, "train")
    from ddpm_ref import demo

    summary = demo.run(output, seconds=seconds, seed=seed, samples=samples, steps=steps, threads=threads)
    print(
        f"{summary.training_steps} training steps in {summary.training_seconds:.0f} s, held-out loss "
        f"{summary.held_out_loss:.4f}; {samples} digits sampled in {summary.sampling_seconds:.0f} s"
    )
    if summary.quality is not None:
        print(summary.quality)
    print(*(output / name for name in summary.files), sep="\n")
    return OK
