"""What every test needs before anything is imported."""

from __future__ import annotations

import os
import signal

# Kernels run in Triton's interpreter; it must be chosen before Triton is first imported.
os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis

# A shell that starts a job in the background may have it ignore Ctrl-C, and the tests of interruption with it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same cases every time: a red test stays red until its cause is found.
hypothesis.settings.register_profile("ddpm_ref", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("ddpm_ref")
