"""Times q_sample and one ancestral step in every way this machine has, with the error of each beside its time.

    python benchmarks/q_sample_and_step.py [--shape 64,3,32,32] [--device cpu|cuda] [--threads N] [--json out.json]

Both operations are linear combinations (Ho et al. 2020, eq. (4), and eq. (11) with the noise of Algorithm 2):

    q_sample   x_t = sqrt(alpha_bar_t) x_0 + sqrt(beta_bar_t) noise                      one level t per sample
    step       x_s = x_t / sqrt(alpha_t) - eps_weight_t eps + sqrt(beta_tilde_t) noise   s = t - 1, one t for all

A variant is a function that prepares whatever it needs and returns the closure to be timed; the decorator registers it:

    @variant("out of place", "q_sample", "step")
    def out_of_place(problem: Problem) -> Call:
        return lambda: sum(problem.expand(c) * v for c, v in zip(problem.coefficients(), problem.tensors))

Raise `UnavailableError("why; what to do")` where it cannot run. The closure's first result is compared with float64.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ddpm_ref.torch
from ddpm_ref.arithmetic import Claim, DoubleDouble, Expected
from ddpm_ref.kernels import HAS_TRITON
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.lincomb import eager_lincomb
from ddpm_ref.torch.reverse import model_mean_from_eps, reverse_step, reverse_variance

Call = Callable[[], Tensor]
T = 1000
OPERATIONS = ("q_sample", "step")
NOISE_SEED = 2020
SAMPLE_SECONDS = 5e-3
"""Each sample repeats a call for about this long, so that the clock's resolution does not matter."""

# Betas that float32 holds exactly: then every library starts from the same schedule, diffusers' float32 betas included.
BETAS = np.linspace(1e-4, 0.02, T, dtype=np.float32)
SCHEDULE = NoiseSchedule.from_betas(BETAS.astype(np.float64))


class UnavailableError(Exception):
    """A variant cannot run here; the message says why, and what to do."""


@dataclass(frozen=True)
class Problem:
    """One operation on one set of inputs: what every variant is given, and what its result is compared with."""

    operation: str
    device: torch.device
    t: Tensor
    """Levels: one per sample (q_sample) or 0-dim (step)."""
    rows: Tensor
    """Coefficient tables, float32, ``(terms, T + 1)``."""
    tensors: tuple[Tensor, ...]
    tables: ddpm_ref.torch.Tables
    expected: Expected

    def coefficients(self) -> list[Tensor]:
        """Those of the levels ``t``, read from the tables: part of what is timed."""
        return gather(self.rows, self.t)

    def expand(self, coefficient: Tensor) -> Tensor:
        """A coefficient with trailing axes of length 1."""
        return coefficient.reshape(coefficient.shape + (1,) * (self.tensors[0].ndim - coefficient.ndim))

    def worst(self, result: Tensor) -> float:
        """Worst error over the fp32 bound with k = m + 1 roundings and S = sum |c v|."""
        return float(self.expected.error_over_bound(result.double().cpu().numpy(), Claim("fp32")).max())


def gather(rows: Tensor, t: Tensor) -> list[Tensor]:
    """One coefficient per row, of the shape of ``t``. Plain indexing with a 0-dim ``t`` would wait for the device."""
    return list(rows.index_select(1, t.flatten()).reshape(-1, *t.shape).unbind())


def make_problem(operation: str, shape: Sequence[int], device: torch.device, level: int = T // 2) -> Problem:
    """Gaussian inputs; levels spread over 1..T for q_sample, ``level`` for the step."""
    generator = torch.Generator(device).manual_seed(1)
    first, second = (torch.randn(*shape, generator=generator, device=device) for _ in range(2))
    noise = torch.randn(*shape, generator=noise_generator(device), device=device)
    tables = [SCHEDULE.sqrt_alpha_bar, SCHEDULE.sqrt_beta_bar]
    t = torch.linspace(1, T, shape[0]).round().long()
    tensors: tuple[Tensor, ...] = (first, noise)
    if operation == "step":
        tables = [SCHEDULE.recip_sqrt_alpha, -SCHEDULE.eps_weight, np.sqrt(SCHEDULE.beta_tilde)]
        t, tensors = torch.tensor(level), (first, second, noise)
    master = torch.tensor(np.stack(tables))
    terms = [
        c.reshape(c.shape + (1,) * (len(shape) - c.ndim)).numpy() * v.double().cpu().numpy()
        for c, v in zip(master[:, t], tensors, strict=True)
    ]
    return Problem(
        operation,
        device,
        t.to(device),
        master.to(device, torch.float32),
        tensors,
        ddpm_ref.torch.tables(SCHEDULE).to(device),
        Expected(DoubleDouble.of(np.sum(terms, axis=0)), np.sum(np.abs(terms), axis=0), len(terms) + 1),
    )


def noise_generator(device: torch.device) -> torch.Generator:
    """A generator whose first draw is the noise of every problem, for variants that draw it themselves."""
    return torch.Generator(device).manual_seed(NOISE_SEED)


Builder = Callable[[Problem], Call]
VARIANTS: dict[tuple[str, str], Builder] = {}


def variant(name: str, *operations: str) -> Callable[[Builder], Builder]:
    """Register a way to compute ``operations``."""

    def register(builder: Builder) -> Builder:
        VARIANTS.update({(operation, name): builder for operation in operations})
        return builder

    return register


def gathered(rows: Tensor, t: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Coefficients read from the tables, and the combination: what a training or sampling loop does per call."""
    return eager_lincomb(gather(rows, t), tensors)


compiled_gathered = torch.compile(gathered, fullgraph=True)


@variant("mirror, inputs checked", "q_sample")
def mirror_q_sample(problem: Problem) -> Call:
    x0, noise = problem.tensors
    return lambda: q_sample(problem.tables, x0, problem.t, noise)


@variant("mirror, inputs checked", "step")
def mirror_step(problem: Problem) -> Call:
    xt, eps, noise = problem.tensors
    tables, t = problem.tables, int(problem.t)

    def call() -> Tensor:
        variance = reverse_variance(tables, t, t - 1).to(xt.dtype)
        return reverse_step(model_mean_from_eps(tables, xt, t, t - 1, eps), variance, noise)

    return call


@variant("lincomb, eager", *OPERATIONS)
def eager(problem: Problem) -> Call:
    return lambda: gathered(problem.rows, problem.t, problem.tensors)


@variant("lincomb, in place", *OPERATIONS)
def in_place(problem: Problem) -> Call:
    out = torch.empty_like(problem.tensors[0])

    def call() -> Tensor:
        c = [problem.expand(each) for each in problem.coefficients()]
        torch.mul(problem.tensors[0], c[0], out=out)
        for each, tensor in zip(c[1:], problem.tensors[1:], strict=True):
            out.addcmul_(each, tensor)
        return out

    return call


@variant("lincomb, compiled", *OPERATIONS)
def compiled(problem: Problem) -> Call:
    return lambda: compiled_gathered(problem.rows, problem.t, problem.tensors)


@variant("lincomb, Triton", *OPERATIONS)
def triton_kernel(problem: Problem) -> Call:
    if not HAS_TRITON:
        raise UnavailableError("not measured: triton is not installed; pip install 'ddpm-ref[triton]'")
    from ddpm_ref.kernels.lincomb import INTERPRETED, lincomb_op

    if problem.device.type != "cuda" and not INTERPRETED:
        raise UnavailableError(f"not measured: no CUDA device; run python {sys.argv[0]} --device cuda")
    return lambda: lincomb_op(problem.coefficients(), list(problem.tensors))


@variant("lincomb, eager, draws noise", "step")
def eager_with_noise(problem: Problem) -> Call:
    """What diffusers' step has to be compared with: it cannot be given its noise."""
    xt, eps, noise = problem.tensors
    generator, drawn = noise_generator(problem.device), torch.empty_like(noise)
    return lambda: gathered(problem.rows, problem.t, (xt, eps, drawn.normal_(generator=generator)))


@variant("diffusers add_noise", "q_sample")
def diffusers_add_noise(problem: Problem) -> Call:
    scheduler, timesteps = diffusers_scheduler(), problem.t - 1
    x0, noise = problem.tensors
    return lambda: scheduler.add_noise(x0, noise, timesteps)


@variant("diffusers step, draws noise", "step")
def diffusers_step(problem: Problem) -> Call:
    scheduler, timestep = diffusers_scheduler(), int(problem.t) - 1
    xt, eps, _ = problem.tensors
    generator = noise_generator(problem.device)
    return lambda: scheduler.step(eps, timestep, xt, generator=generator, return_dict=False)[0]


def diffusers_scheduler() -> Any:
    """Diffusers' DDPM with the same betas, without clipping."""
    try:
        diffusers: Any = importlib.import_module("diffusers")
    except ImportError:
        raise UnavailableError("not measured: diffusers is not installed; pip install diffusers==0.42.1") from None
    return diffusers.DDPMScheduler(num_train_timesteps=T, trained_betas=BETAS.tolist(), clip_sample=False)


@dataclass(frozen=True)
class Row:
    """One line of the table; times in microseconds."""

    operation: str
    variant: str
    note: str = ""
    median: float | None = None
    percentile_20: float | None = None
    percentile_80: float | None = None
    gigabytes_per_second: float | None = None
    share_of_copy: float | None = None
    worst_error_over_bound: float | None = None


def measure(calls: dict[str, Call], device: torch.device, rounds: int) -> dict[str, np.ndarray]:
    """Seconds per call, interleaved: every round runs every variant once, so that drifts hit all alike."""

    def seconds(call: Call, repeats: int) -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        synchronize(device)
        return (time.perf_counter() - start) / repeats

    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, round(SAMPLE_SECONDS / seconds(call, 3)))
    samples = [[seconds(call, repeats[name]) for name, call in calls.items()] for _ in range(rounds)]
    return dict(zip(calls, np.array(samples).T, strict=True))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def benchmark(operation: str, shape: Sequence[int], device: torch.device, rounds: int) -> list[Row]:
    """All variants of one operation, beside a plain copy of one tensor of the same shape."""
    problem = make_problem(operation, shape, device)
    others = [make_problem(operation, shape, device, level) for level in (2, T)] if operation == "step" else []
    source, target = problem.tensors[0], torch.empty_like(problem.tensors[0])
    calls: dict[str, Call] = {"copy": lambda: target.copy_(source)}
    worst: dict[str, float] = {}
    notes: dict[str, str] = {}
    for (its_operation, name), builder in VARIANTS.items():
        if its_operation == operation:
            try:
                worst[name] = max(each.worst(builder(each)()) for each in (problem, *others))
                calls[name] = builder(problem)
            except UnavailableError as reason:
                notes[name] = str(reason)
    times = measure(calls, device, rounds)
    size = source.numel() * source.element_size()
    rows = []
    for name, samples in times.items():
        low, median, high = (float(p) for p in np.percentile(samples, [20, 50, 80]))
        moved = 2 if name == "copy" else len(problem.tensors) + 1
        rate = moved * size / median / 1e9
        share = float(np.median(times["copy"] / samples)) * moved / 2  # round by round: both met the same load
        rows.append(Row(operation, name, "", median * 1e6, low * 1e6, high * 1e6, rate, share, worst.get(name)))
    return rows + [Row(operation, name, note) for name, note in notes.items()]


def interpreted_rows(operation: str) -> list[Row]:
    """The Triton kernel in Triton's interpreter, in a process of its own: its error, and no time."""
    shape = (6, 3, 8, 9)
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, __file__, "--interpreted", operation, "--shape", ",".join(map(str, shape))]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    note = f"correctness only: Triton's interpreter on a CPU, shape {'x'.join(map(str, shape))}"
    return [Row(operation, "lincomb, Triton", note, worst_error_over_bound=float(run.stdout))]


def facts(device: torch.device, shape: Sequence[int]) -> dict[str, object]:
    """What has to be known to read the figures."""

    def version(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    cpuinfo = Path("/proc/cpuinfo")
    models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "cpu": models[0].partition(":")[2].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": f"{os.getloadavg()[0]:.2f} (one-minute average at the start)",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "triton", "diffusers", "numpy")},
        "shape": list(shape),
        "dtype": "float32",
    }


def print_table(rows: list[Row]) -> None:
    heads = ("operation", "variant", "median us", "20 %", "80 %", "GB/s", "of copy", "error/bound")
    print("{:<10}{:<30}{:>10}{:>10}{:>10}{:>9}{:>9}{:>13}".format(*heads))
    for row in rows:
        worst = "-" if row.worst_error_over_bound is None else f"{row.worst_error_over_bound:.3g}"
        start = f"{row.operation:<10}{row.variant:<30}"
        if row.median is None:
            print(f"{start}{row.note}" + ("" if worst == "-" else f": error/bound {worst}"))
        else:
            times = f"{row.median:>10.1f}{row.percentile_20:>10.1f}{row.percentile_80:>10.1f}"
            print(f"{start}{times}{row.gigabytes_per_second:>9.2f}{row.share_of_copy:>9.0%}{worst:>13}")


LEGEND = """
GB/s counts the least traffic, (terms + 1) tensors; "of copy" is the median over rounds of its share of the copy's rate.
error/bound is the worst error against float64 over the fp32 bound (k = terms + 1, S = sum |c v|): above 1, a result has
lost digits that float32 could keep. It covers levels 1..T for q_sample, and t = 2, T/2, T for the step, timed at T/2.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", default="64,3,32,32", help="batch first, e.g. 64,3,32,32")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=40, help="samples per variant")
    parser.add_argument("--threads", type=int, help="CPU threads; by default PyTorch's own choice")
    parser.add_argument("--json", type=Path, help="also write facts and rows to this file")
    parser.add_argument("--interpreted", choices=OPERATIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape, device = [int(size) for size in options.shape.split(",")], torch.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.interpreted:
        problem = make_problem(options.interpreted, shape, device)
        print(problem.worst(triton_kernel(problem)()))
        return 0
    if device.type == "cuda" and not torch.cuda.is_available():
        print("--device cuda was given and PyTorch sees no CUDA device; write --device cpu", file=sys.stderr)
        return 2
    machine = facts(device, shape)
    print("\n".join(f"{name}: {value}" for name, value in machine.items()), end="\n\n")
    rows: list[Row] = []
    for operation in OPERATIONS:
        rows += benchmark(operation, shape, device, options.rounds)
        if device.type == "cpu" and HAS_TRITON:
            rows += interpreted_rows(operation)
    print_table(rows)
    print(LEGEND)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=2) + "\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
