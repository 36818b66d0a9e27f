"""The terms of the bound beside those of OpenAI's guided-diffusion: what its approximate distribution function is worth.

    python benchmarks/openai_bound.py CHECKOUT [--T 1000] [--batch 8]

A U-Net with random weights and learned range is asked once per level; its answer goes to ``_vb_terms_bpd`` of the checkout and
to ``ddpm_ref.torch.bound.bound_term``, on the same 8-bit images and the same noise. Nothing of the checkout is changed but one
function at a time, so that each row says what the difference to the row above is made of.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import ddpm_ref
from ddpm_ref.conformance.interception import kept_in_float64
from ddpm_ref.nn import UNet, UNetConfig
from ddpm_ref.torch import tables as tables_of
from ddpm_ref.torch.bound import bits_per_dim, bound_term, prior_term
from ddpm_ref.torch.decoder import discretized_gaussian_log_likelihood, discretized_gaussian_log_likelihood_tanh
from ddpm_ref.torch.forward import q_sample
from ddpm_ref.torch.prediction import x0_from_eps
from ddpm_ref.torch.reverse import learned_log_variance, model_mean_from_x0
from ddpm_ref.torch.scaling import from_level_index, to_level_index

SIZE = 16
WIDE = 62  # of the names of the rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="folder of a checkout of openai/guided-diffusion")
    parser.add_argument("--T", type=int, default=1000, help="levels of the linear schedule")
    parser.add_argument("--batch", type=int, default=8, help="images")
    chosen = parser.parse_args()
    sys.path.insert(0, str(chosen.checkout))
    theirs = import_module("guided_diffusion.gaussian_diffusion")

    torch.manual_seed(0)
    schedule = ddpm_ref.linear_schedule(chosen.T, 0.1 / chosen.T, 20 / chosen.T)
    pixels = torch.randint(0, 256, (chosen.batch, 1, SIZE, SIZE))
    x0 = from_level_index(pixels)
    noise = torch.randn(chosen.T, *x0.shape, dtype=torch.float64)
    network = random_network().double()
    heard: dict[int, Tensor] = {}

    def model(x: Tensor, time: Tensor) -> Tensor:
        """The same answer for both, asked in float64."""
        t = int(time[0]) + 1
        if t not in heard:
            with torch.no_grad():
                heard[t] = network(x.double(), time)
        return heard[t].to(x.dtype)

    ours = Ours(schedule, model)
    with kept_in_float64():
        their = Theirs(theirs, schedule, model)
    levels = range(1, chosen.T + 1)

    def run(terms: Callable[[Tensor, Tensor, int], Tensor], dtype: torch.dtype) -> Tensor:
        rows = []
        for t in levels:
            xt = q_sample(ours.tables, x0, t, noise[t - 1])
            rows.append(terms(x0.to(dtype), xt.to(dtype), t).double())
        return torch.stack(rows).mean(dim=1)

    exact = run(ours.terms, torch.float64)
    prior = float(bits_per_dim(prior_term(ours.tables, x0).double(), 1).mean())
    print(f"linear schedule, T = {chosen.T}; {chosen.batch} random images of {SIZE}x{SIZE}; bits per dimension")
    print(f"{'':{WIDE}}{'t = 1':>10}{'difference':>12}{'worst, t > 1':>14}{'total':>10}")
    show("ours, float64, exact", exact, exact, prior)
    show("theirs, as it is (float32)", run(their.terms, torch.float32), exact, prior)
    with kept_in_float64():
        show("theirs, kept in float64", run(their.terms, torch.float64), exact, prior)
        with patch.object(theirs, "discretized_gaussian_log_likelihood", exact_likelihood):
            show(
                "theirs in float64, with our decoder in place of theirs", run(their.terms, torch.float64), exact, prior
            )
        with exact_distribution_function():
            show(
                "theirs in float64, with the exact function in their decoder",
                run(their.terms, torch.float64),
                exact,
                prior,
            )
    with patch("ddpm_ref.torch.bound.discretized_gaussian_log_likelihood", discretized_gaussian_log_likelihood_tanh):
        show("ours in float64, with their function in our decoder", run(ours.terms, torch.float64), exact, prior)


def random_network() -> UNet:
    """A U-Net whose zeroed layers are random, too, with a channel for the variance."""
    network = UNet(UNetConfig(outputs_per_channel=2))
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return network.eval()


class Ours:
    """``bound_term`` with the mean and variance of the network."""

    def __init__(self, schedule: ddpm_ref.NoiseSchedule, model: Any) -> None:
        self.tables, self.model = tables_of(schedule), model

    def terms(self, x0: Tensor, xt: Tensor, t: int) -> Tensor:
        """Of a level, per example, bits per dimension."""
        answer, extra = self.model(xt, torch.full((len(xt),), t - 1)).chunk(2, dim=1)
        predicted = x0_from_eps(self.tables, xt, t, answer).clamp(-1, 1)
        mean = model_mean_from_x0(self.tables, xt, t, t - 1, predicted)
        log_variance = learned_log_variance(self.tables, t, t - 1, extra, "learned_range")
        each = torch.full((len(x0),), t)
        return bound_term(self.tables, x0, xt, each, each - 1, mean, log_variance)


class Theirs:
    """``_vb_terms_bpd`` of the checkout."""

    def __init__(self, module: Any, schedule: ddpm_ref.NoiseSchedule, model: Any) -> None:
        self.diffusion = module.GaussianDiffusion(
            betas=schedule.beta[1:],
            model_mean_type=module.ModelMeanType.EPSILON,
            model_var_type=module.ModelVarType.LEARNED_RANGE,
            loss_type=module.LossType.RESCALED_KL,
        )
        self.model = model

    def terms(self, x0: Tensor, xt: Tensor, t: int) -> Tensor:
        """Of a level, per example, bits per dimension."""
        return self.diffusion._vb_terms_bpd(self.model, x0, xt, torch.full((len(x0),), t - 1))["output"]


def exact_likelihood(x: Tensor, *, means: Tensor, log_scales: Tensor) -> Tensor:
    return discretized_gaussian_log_likelihood(to_level_index(x), means, log_scales.exp())


@contextmanager
def exact_distribution_function() -> Iterator[None]:
    """Their decoder, floor and difference as they are, around the normal distribution function itself."""
    with patch("guided_diffusion.losses.approx_standard_normal_cdf", torch.special.ndtr):
        yield


def show(name: str, terms: Tensor, exact: Tensor, prior: float) -> None:
    first, later = float(terms[0] - exact[0]), float(((terms[1:] - exact[1:]).abs() / exact[1:]).max())
    print(f"{name:{WIDE}}{terms[0]:10.5f}{first:12.2e}{later:14.2e}{terms.sum() + prior:10.5f}")


if __name__ == "__main__":
    main()
