"""Nothing is compiled again from step to step; in a fresh interpreter, because runtime type checks would be compiled along."""

import subprocess
import sys

import pytest

PROGRAM = """
import torch
from torch._dynamo.testing import CompileCounter
from ddpm_ref.reference import plan as plans
from ddpm_ref.reference.named_schedules import linear_schedule
from ddpm_ref.sampling import Denoiser, PhiloxNoise, sample
from ddpm_ref.sampling.rows import advance, rows

schedule = linear_schedule(100)
trajectory = schedule.trajectory(12)
source, shape, cpu = PhiloxNoise(1), (2, 3, 4), torch.device("cpu")
made = {
    "ancestral": (plans.ancestral(schedule, trajectory), 2),  # the last step has no noise: another graph
    "ddim": (plans.ddim(schedule, trajectory, threshold=plans.Threshold(90), rederive_eps=False), 1),
}
for name, (plan, graphs) in made.items():
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(advance, fullgraph=True, backend=counter)
    x = source.normal(0, shape, torch.float32, cpu)
    for k, row in enumerate(rows(plan, "eps", torch.float32, cpu)):
        z = None if row.noise is None else source.normal(k + 1, shape, torch.float32, cpu)
        answer = x.sin()
        want = advance(row, x, answer, z, plan.clip, plan.threshold)
        x = compiled(row, x, answer, z, plan.clip, plan.threshold)
        assert torch.equal(x, want), name
    assert counter.frame_count == graphs, (name, counter.frame_count)

torch._dynamo.reset()
counter = CompileCounter()
network = torch.compile(lambda x, time: x.sin() + time[:, None, None], fullgraph=True, backend=counter)
sample(Denoiser(network), shape, plan)
assert counter.frame_count == 1, counter.frame_count

# The count itself can tell: numbers instead of tensors are compiled anew, at the latest when they change.
torch._dynamo.reset()
counter = CompileCounter()
numbers = torch.compile(lambda x, c: x * c, backend=counter, dynamic=False)
for row in plans.ddim(schedule, trajectory).x.tolist()[:4]:
    numbers(torch.ones(3), row)
assert counter.frame_count > 1
"""


@pytest.mark.full
def test_steps_and_networks_are_compiled_once():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
