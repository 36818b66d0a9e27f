"""Bad input of samplers and plans: each row a call and what its error says. In a process without run-time type checks."""

from __future__ import annotations

import subprocess
import sys

import pytest

SETTING = """
import math, sys, torch
from ddpm_ref.errors import DdpmRefError
from ddpm_ref.reference import ddim, plan
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.sampling import Denoiser, sample, states, step
H = linear_schedule(10)
walk = plan.ancestral(H, H.trajectory(3), form="x0")
quiet = Denoiser(lambda x, time: torch.zeros_like(x), prediction="x0")
nan, ones = float("nan"), torch.ones(1, 2)
for line in sys.stdin.read().splitlines():
    try:
        eval(line)
        print("accepted")
    except DdpmRefError as error:
        print(type(error).__name__, " ".join(str(error).split()))
    except Exception as error:
        print("NOT NAMED:", type(error).__name__, error)
"""

ROWS = {
    # states
    "sample(quiet, (1, 2), walk, dtype=torch.int64)": "PrecisionError states cannot be torch.int64; write one of",
    "sample(quiet, (1, 2), walk, dtype=torch.complex64)": "PrecisionError states cannot be torch.complex64",
    "sample(quiet, (1, 2), walk, dtype='float32')": "PrecisionError states cannot be float32; write one of torch.float32",
    "step(quiet, torch.zeros(1, 2, dtype=torch.int64), walk, 0)": "PrecisionError states cannot be torch.int64",
    "sample(quiet, (1, 2), walk, device='abacus')": "RangeError device 'abacus' cannot be used here",
    "sample(quiet, 4, walk)": "ShapeError shape is 4; write (batch, ...)",
    "sample(quiet, 'ab', walk)": "ShapeError shape is 'ab'",
    "sample(quiet, (None, 2), walk)": "ShapeError shape is (None, 2)",
    "sample(lambda x, time: x, (1, 2), walk)": "RangeError denoiser is a function; write Denoiser(network",
    "step(torch.nn.Identity(), ones, walk, 0)": "RangeError denoiser is a Identity; write Denoiser(network",
    # noise and start
    "sample(quiet, (1, 2), walk, 7)": "RangeError noise is a int; write GeneratorNoise(seed)",
    "sample(quiet, (1, 2), walk, torch.Generator())": "RangeError noise is a Generator; write GeneratorNoise(seed)",
    "sample(quiet, (1, 2), walk, start=[[0.0, 0.0]])": "PrecisionError start is a list; write a tensor",
    "sample(quiet, (1, 2), walk, start=nan * ones)": "RangeError start holds nan at index (0, 0); it must be finite",
    "step(quiet, math.inf * ones, walk, 0, ones)": "RangeError x holds inf at index (0, 0)",
    "step(quiet, ones, walk, 0, nan * ones)": "RangeError noise holds nan at index (0, 0)",
    # plans
    "plan.ddim(H, [5, 0], threshold=99.5)": "RangeError threshold = 99.5; write Threshold(99.5)",
    "plan.ddim(H, [5, 0], clip=1.0)": "RangeError clip = 1.0; clipping needs low < high",
    "plan.ddim(H, [5, 0], clip='ab')": "RangeError clip = 'ab'",
    "plan.ddim(H, [5, 0], clip=(None, 1))": "RangeError clip = (None, 1)",
    "plan.ddim(H, None)": "ScheduleError trajectory is None; write schedule.trajectory(steps)",
    "plan.ancestral(H, 5)": "ScheduleError trajectory is 5",
    "plan.ancestral(H, [5, 0], last_noise=None)": "RangeError last_noise = None; a standard deviation is a finite number",
    "plan.ancestral(H, [5, 0], last_noise=[1])": "RangeError last_noise = [1]",
    "ddim.ddim_posterior(H, [0.0], [0.0], 2, 1, eta=False)": "RangeError eta = False",
    "ddim.ddim_posterior(H, [0.0], [0.0], 2, 1, eta='')": "RangeError eta = ''",
}


@pytest.fixture(scope="module")
def answers():
    done = subprocess.run(
        [sys.executable, "-c", SETTING], input="\n".join(ROWS), capture_output=True, text=True, timeout=120, check=True
    )
    return dict(zip(ROWS, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("call", ROWS)
def test_it_is_refused_by_name(call, answers):
    assert answers[call].startswith(ROWS[call])
