"""Samplers compared in nats, without sampling: exact divergences of a grid of samplers, steps and spacings.

>>> import ddpm_ref
>>> from ddpm_ref import study
>>> plans = study.grid(ddpm_ref.linear_schedule(1000), ["posterior", "ddim-0"], [10], ["even"])
>>> for cell in study.run(plans, study.load("gaussian")):
...     print(f"{cell.sampler:<10}{cell.spacing:<6}{cell.steps:>4}{cell.kl:>10.6f}")
posterior even    10  0.145911
ddim-0    even    10  0.085564
"""

from ddpm_ref.study.data import ORACLES, Subject, load
from ddpm_ref.study.grid import OPTIMAL, SAMPLERS, Cell, Planned, grid, run
from ddpm_ref.study.picture import figure
from ddpm_ref.study.text import table

__all__ = ["OPTIMAL", "ORACLES", "SAMPLERS", "Cell", "Planned", "Subject", "figure", "grid", "load", "run", "table"]
