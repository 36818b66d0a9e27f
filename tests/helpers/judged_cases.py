"""Small cases of a law, judged: whether an adapter breaks it, by more than digits, and which mistake explains that."""

from __future__ import annotations

import contextlib
from functools import lru_cache

import numpy as np

from ddpm_ref.arithmetic import Claim
from ddpm_ref.conformance.judge import Court
from ddpm_ref.conformance.serving import Declined
from ddpm_ref.laws import REGISTRY, NumpySource, cases

LONGEST = 50  # levels: stand-ins make exact tables of every chain
# A mistake is the answer where that is so much closer to it than to the law (rule of the diagnosis: CLOSER).
CLOSER = 0.01
# In bounds, each of which is one unit roundoff of S or more: beyond it half of the digits of float64 are wrong.
HALF_OF_THE_DIGITS = 2.0**26


SHORT = {name: [make for make in getattr(cases, name) if make().T <= LONGEST] for name in ("_POOL", "_ZERO_SNR_POOL")}


def shorten(monkeypatch):
    """Leave only short schedules among those that cases draw from."""
    for name, makers in SHORT.items():
        monkeypatch.setattr(cases, name, makers)
    monkeypatch.setattr(cases, "_pooled", pooled)


@lru_cache(maxsize=64)
def pooled(index):
    return [*SHORT["_POOL"], *SHORT["_ZERO_SNR_POOL"]][index]()


court_of = lru_cache(maxsize=2)(Court)


def broken(adapter, law, claim="fp64", tries=6):
    """Those of some small cases that break a law."""
    court, source = court_of(adapter), NumpySource(np.random.default_rng(5), pooled=True)
    judged = []
    for _ in range(tries):
        with contextlib.suppress(Declined):  # nothing of this case is served
            judged.append(court.judge(REGISTRY[law], REGISTRY[law].cases(source, Claim(claim))))
    return [j for j in judged if j.worst > 1]


def wrong(adapter, law, tries=10):
    """Those that break it by more than half of the digits."""
    return [j for j in broken(adapter, law, tries=tries) if j.worst > HALF_OF_THE_DIGITS]


def names(adapter, law, tries=10):
    """The mistakes that explain all wrong numbers of all broken cases."""
    judged = wrong(adapter, law, tries)
    assert judged, f"{law} holds"
    return {m.name for m in REGISTRY[law].mistakes if all(explains(m, j) for j in judged)}


def explains(mistake, judged):
    """Whether every wrong number is what the mistake would have given."""
    with np.errstate(all="ignore"):
        values = mistake.value(judged.case)
        pairs = zip(values, judged.got, judged.expected, judged.ratios, strict=True)
        return all(
            bool(np.all((np.abs(g - v) <= CLOSER * np.abs(g - e.value.high)) | (r <= HALF_OF_THE_DIGITS)))
            for v, g, e, r in pairs
        )
