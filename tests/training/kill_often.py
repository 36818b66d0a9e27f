"""Trains in children that are killed (-9) at random moments, each going on from what the last one left.

Usage: python kill_often.py FOLDER KILLS SEED CONFIG(JSON). PyTorch is imported once: children are forked.
Prints which steps each child reported, how many were killed, and how the last one ended.
"""

import json
import os
import random
import select
import signal
import struct
import sys
import time
from pathlib import Path

import sklearn.datasets  # noqa: F401 - as below
import torch
import torch._dynamo  # which Adam imports at its first step: no child is to spend its life importing

from ddpm_ref.training import Config, fit
from ddpm_ref.training.folder import CHECKPOINT_NAME

STEPS_AT_MOST = 7  # in the life of a child that is to be killed


def live(folder: Path, config: Config, pipe: int) -> None:
    """A child: makes steps, says which, exits when the run is complete."""
    report = lambda progress: os.write(pipe, struct.pack("i", progress.step))  # noqa: E731
    try:
        fit(config, folder, report, resume=(folder / CHECKPOINT_NAME).exists())
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def listen(pipe: int, steps: int, seconds: float) -> list[int]:
    """The steps a child reports, until there are so many or the time is over."""
    heard: list[int] = []
    end = time.monotonic() + seconds
    while len(heard) < steps and select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
        word = os.read(pipe, 4)
        if not word:
            break
        heard += struct.unpack("i", word)
    return heard


def main(folder: Path, kills: int, seed: int, config: Config) -> None:
    """Kill so many children, and let the next one finish."""
    torch.set_num_threads(1)
    chance, lives, killed = random.Random(seed), [], 0
    while True:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            live(folder, config, theirs)
        os.close(theirs)
        if killed == kills:
            lives.append(listen(ours, sys.maxsize, 60.0))
        else:
            # Some die while they still read the checkpoint, some in a step, some while they write.
            alive = chance.randrange(STEPS_AT_MOST - 2)
            lives.append(listen(ours, alive, 60.0))
            lives[-1] += listen(ours, STEPS_AT_MOST - alive, chance.uniform(0.0, 0.02 if alive else 0.15))
            os.kill(child, signal.SIGKILL)
            lives[-1] += listen(ours, sys.maxsize, 1.0)  # what was said before the end
        os.close(ours)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(json.dumps({"lives": lives, "killed": killed, "status": os.waitstatus_to_exitcode(status)}))
            return
        killed += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Config.from_dict(json.loads(sys.argv[4])))
