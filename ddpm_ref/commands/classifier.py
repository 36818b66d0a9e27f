"""``ddpm-ref train-classifier``."""

from pathlib import Path
from typing import Annotated

import tyro

from ddpm_ref.commands.surroundings import require_extras
from ddpm_ref.commands.training import run_training
from ddpm_ref.commands.training_flags import NO_SCHEDULE, ProcessFlags, RunFlags


def train_classifier(
    output: Path,
    config: Annotated[RunFlags, tyro.conf.arg(name="")],
    schedule: tyro.conf.DisallowNone[ProcessFlags] = NO_SCHEDULE,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    threads: int = 1,
) -> int:
    """Train a classifier of noisy images, p(y | x_t, t), to guide samples with: sample RUN --classifier OUTPUT.

    Its schedule must be that of the run that it is to guide. How often it is right at which level is printed in the
    end, and by ddpm-ref report.

    Args:
        output: folder for checkpoints and log.
        config: how to train it. The network is the U-Net's way down.
        schedule: the forward process.
        resume: go on with the run in --output; of the flags of the run only --max-steps, --max-seconds,
            --checkpoint-seconds and --log-every may then say something new.
        overwrite: replace the run in --output, if there is one.
        device: where to compute, e.g. cpu or cuda.
        threads: on a CPU.
    """
    require_extras()
    from ddpm_ref.nn import UNetConfig
    from ddpm_ref.training import Config
    from ddpm_ref.training.data import load
    from ddpm_ref.training.objective import CROSS_ENTROPY, LABEL

    classes = load(config.get("dataset", Config().dataset)).classes
    fresh = Config(network=UNetConfig(classes=classes), prediction=LABEL, loss=CROSS_ENTROPY)
    return run_training("train-classifier", fresh, output, config, schedule, resume, overwrite, device, threads)
