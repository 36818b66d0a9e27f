"""`torch.compile(fullgraph=True)`, in a fresh interpreter, because runtime type checks would be compiled along."""

import subprocess
import sys

import pytest

PROGRAM = """
import torch
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.torch import forward, posterior, tables
torch.manual_seed(0)
H = tables(NoiseSchedule.from_betas([0.0001, 0.02, 0.3, 0.5])).to(dtype=torch.float32)
x, y, t = torch.randn(16, 3), torch.randn(16, 3), torch.arange(16) % 4 + 1
u = 2.0**-24
def check(got, want, scale, k):
    assert bool(((got - want).abs() <= 2 * k * u * scale).all()), float(((got - want).abs() / scale).max() / u)
"""
Q_SAMPLE = """
call = torch.compile(forward.q_sample, fullgraph=True, backend={backend!r})
check(call(H, x, t, y), forward.q_sample(H, x, t, y), x.abs() + y.abs(), 3)
grad = torch.autograd.grad(call(H, x.requires_grad_(), t, y).sum(), x)[0]
check(grad, H.sqrt_alpha_bar[t][:, None].expand_as(x), 1, 3)
"""
Q_POSTERIOR = """
call = torch.compile(posterior.q_posterior, fullgraph=True, backend={backend!r})
for s in (t - 1, 0):
    got, want = call(H, x, y, t, s), posterior.q_posterior(H, x, y, t, s)
    check(got[0], want[0], posterior.q_posterior(H, x.abs(), y.abs(), t, s)[0], 8)
    check(got[1], want[1], want[1], 8)
"""


def run(program):
    done = subprocess.run([sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_q_sample_and_q_posterior_trace_into_one_graph_each():
    run(Q_SAMPLE.format(backend="aot_eager") + Q_POSTERIOR.format(backend="aot_eager"))


@pytest.mark.full
def test_they_compile():
    run(Q_SAMPLE.format(backend="inductor") + Q_POSTERIOR.format(backend="inductor"))
