"""The demo's pictures, as PNG: samples beside real digits, a digit under noise, and one step back with its spread."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_ref.extras import require
from ddpm_ref.images import grid
from ddpm_ref.reference.forward import q_sample
from ddpm_ref.reference.posterior import q_posterior
from ddpm_ref.reference.schedule import NoiseSchedule
from ddpm_ref.sampling import Denoiser
from ddpm_ref.sampling.noise import Stream, keyed_seed
from ddpm_ref.torch import prediction
from ddpm_ref.torch.tables import tables
from ddpm_ref.typing import Array

NOISY_SHARES = (0.0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)
"""The levels of the forward picture, as shares of T. At T itself a noise prediction says next to nothing of the data."""

_START_SHARE, _BETWEEN_SHARES = 0.6, (0.9, 0.75, 0.5, 0.25)
_DOTS_PER_INCH = 110


def _new_figure(width: float, height: float) -> Any:
    # The object interface: pyplot would keep the figure, and look for a screen.
    return require("matplotlib.figure", "train").Figure(figsize=(width, height), layout="constrained")


def _png(figure: Any) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH)
    return picture.getvalue()


def samples_beside_real(real: Tensor, samples: Tensor) -> bytes:
    """Two pages of digits: on the left real ones held out from training, on the right samples.

    Args:
        real, samples: ``(n, 1, height, width)`` in [-1, 1].
    """
    figure = _new_figure(9.0, 5.0)
    for axes, images, title in zip(
        figure.subplots(1, 2), (real, samples), ("real digits, held out from training", "samples"), strict=True
    ):
        axes.imshow(grid(images.numpy(), scale=8, gap=2), cmap="gray", vmin=0, vmax=255)
        axes.set_title(title)
        axes.set_axis_off()
    return _png(figure)


def under_noise(schedule: NoiseSchedule, x0: Tensor, denoiser: Denoiser, seed: int = 0) -> bytes:
    """One digit at rising levels, with one noise throughout; below, what the network takes for the digit at each.

    Args:
        schedule: the noise schedule.
        x0: ``(1, height, width)`` in [-1, 1].
        denoiser: the trained network.
        seed: of the noise.
    """
    levels = [max(1, round(share * schedule.T)) if share else 0 for share in NOISY_SHARES]
    clean = x0.double().numpy()
    noise = np.random.default_rng(keyed_seed(Stream.DEMO, seed, 1)).standard_normal(clean.shape)
    figure = _new_figure(1.35 * len(levels), 3.6)
    for (above, below), t in zip(figure.subplots(2, len(levels)).T, levels, strict=True):
        xt = q_sample(schedule, clean, t, noise) if t else clean
        _show(above, xt, f"t = {t}\nSNR {schedule.snr[t]:.2g}" if t else "t = 0\nclean")
        if t:
            _show(below, _predicted(schedule, denoiser, xt, t))
        else:
            below.set_axis_off()
    return _png(figure)


def _predicted(schedule: NoiseSchedule, denoiser: Denoiser, xt: Array, t: int) -> Array:
    x, level = torch.from_numpy(xt)[None].float(), torch.tensor([t])
    with torch.no_grad(), denoiser.evaluating():
        answer = denoiser(x, level)
        x0 = prediction.convert(tables(schedule), x, level, answer, denoiser.prediction, "x0")
    return np.asarray(x0[0].clamp(-1.0, 1.0).double().numpy())


def three_points(schedule: NoiseSchedule, x0: Tensor, seed: int = 0) -> bytes:
    r"""Where x_t and x_0 leave the states between them: means and spreads of :math:`q(x_s\mid x_t,x_0)`.

    On the left two pixels of a digit as a plane: the way of the posterior's mean from x_t to x_0, with circles of one
    standard deviation. On the right the same as images.

    Args:
        schedule: the noise schedule.
        x0: ``(1, height, width)`` in [-1, 1].
        seed: of the noise.
    """
    draw = np.random.default_rng(keyed_seed(Stream.DEMO, seed, 2))
    clean, t = x0.double().numpy(), round(_START_SHARE * schedule.T)
    xt = q_sample(schedule, clean, t, draw.standard_normal(clean.shape))
    between = [round(share * t) for share in _BETWEEN_SHARES]
    figure = _new_figure(10.0, 4.2)
    axes = figure.subplot_mosaic("PPPABC;PPPDEF")
    _plane(axes.pop("P"), schedule, clean, xt, t, between)
    _show(axes["A"], xt, f"x_t, t = {t}")
    _show(axes["D"], clean, "x₀")
    for s, above, below in zip(between[1::2], "BC", "EF", strict=True):
        mean, variance = q_posterior(schedule, clean, xt, t, s)
        _show(axes[above], mean, f"mean, s = {s}")
        _show(axes[below], mean + np.sqrt(variance) * draw.standard_normal(clean.shape), f"a draw, s = {s}")
    return _png(figure)


def _show(axes: Any, image: Array, title: str = "") -> None:
    axes.imshow(image[0], cmap="gray", vmin=-1.0, vmax=1.0, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _plane(axes: Any, schedule: NoiseSchedule, clean: Array, xt: Array, t: int, between: list[int]) -> None:
    # The two pixels in which x_t and x_0 are furthest apart make the clearest picture.
    across, up = np.argsort(np.abs(xt - clean).ravel())[-2:]
    pick = np.array([across, up])
    x0, x = clean.ravel()[pick], xt.ravel()[pick]
    path = np.array([q_posterior(schedule, x0, x, t, s)[0] for s in range(t)] + [x])
    axes.plot(*path.T, color="0.7", linewidth=1, label="posterior mean, all s < t")
    for s in between:
        mean, variance = q_posterior(schedule, x0, x, t, s)
        std = float(np.sqrt(variance[0]))
        axes.add_patch(require("matplotlib.patches", "train").Circle(mean, std, fill=False, color="C0"))
        axes.annotate(f"s = {s}", mean, fontsize=8, textcoords="offset points", xytext=(3, 3))
        axes.plot(*mean, "o", color="C0", markersize=4)
    axes.plot(*x0, "o", color="C2", label="x₀")
    axes.plot(*x, "o", color="C3", label=f"x_t, t = {t}")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set(xlabel=f"pixel {across}", ylabel=f"pixel {up}", title="q(x_s | x_t, x₀): mean ± one standard deviation")
    axes.legend(fontsize=8)
