"""``ddpm-ref demo``: train on real digits and sample."""

from pathlib import Path

from ddpm_ref.commands.status import OK
from ddpm_ref.extras import require


def demo(
    output: Path = Path("runs/demo"), seconds: float = 60.0, seed: int = 0, samples: int = 64, steps: int = 100
) -> int:
    """Train a small U-Net on real digits, save a checkpoint, sample from it.

    Args:
        output: folder for checkpoint and picture.
        seconds: training time.
        seed: of training and sampling.
        samples: how many digits to sample.
        steps: reverse steps of the strided ancestral sampler.
    """
    for module in ("torch", "safetensors", "sklearn", "PIL"):
        require(module, "train")
    from ddpm_ref.training import demo

    result = demo.run(output, seconds=seconds, seed=seed, samples=samples, steps=steps)
    print(
        f"{result.steps} training steps in {result.train_seconds:.0f} s, held-out loss {result.held_out_loss:.4f}; "
        f"{samples} digits sampled in {result.sample_seconds:.1f} s\n{result.checkpoint}\n{result.picture}"
    )
    return OK
