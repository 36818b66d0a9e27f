"""The demo: train on real digits, sample, judge the samples, and leave a page that shows all of it."""

from __future__ import annotations

from ddpm_ref import extras

try:
    from ddpm_ref.demo.main import run
    from ddpm_ref.demo.quality import COUNT, Quality
    from ddpm_ref.demo.summary import Summary
except ModuleNotFoundError as error:
    raise extras.missing(error, "train") from error

__all__ = ["COUNT", "Quality", "Summary", "run"]
