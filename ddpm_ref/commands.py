"""The commands of ``ddpm-ref``: each a function whose signature and docstring are its command line.

What a command needs beyond NumPy is imported when it runs.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ddpm_ref.arithmetic import Claim
from ddpm_ref.errors import AdapterError, OutputError, RangeError, ScheduleError
from ddpm_ref.extras import require

OK, VIOLATED = 0, 1
ScheduleKind = Literal["linear", "scaled_linear", "cosine", "sigmoid", "sigmoid_alpha_bar", "constant"]
SHOWN = (Claim("fp32"), Claim("fp64"), Claim("bf16", "fp32"))
COLUMNS = ("beta", "alpha_bar", "beta_bar", "beta_tilde", "snr", "log_snr")


def verify(
    adapter: tyro.conf.Positional[str] = "",
    laws: str = "*",
    max_examples: int = 100,
    device: str = "cpu",
    report: Path | None = None,
) -> int:
    """Hold an implementation against the laws; exit 1 if one is violated.

    Args:
        adapter: package.module:attribute of the adapter; the package's own PyTorch mirror if left out.
        laws: which laws, as shell patterns of their ids joined by commas, e.g. "forward/*,divergence/*".
        max_examples: cases per law and claim.
        device: where the mirror runs, e.g. cpu or cuda.
        report: write the report there as JSON (a name ending in .json).
    """
    from ddpm_ref import conformance
    from ddpm_ref.conformance.report import describe, footer, header, line

    if max_examples < 1:
        raise RangeError(f"--max-examples {max_examples}: try at least one case per law (100 is usual)")
    if report is not None and report.suffix != ".json":
        raise OutputError(f"--report {report}: reports are written as JSON; give a name ending in .json")
    if report is not None and not report.parent.is_dir():
        raise OutputError(f"--report {report}: the folder {report.parent} does not exist; make it first")
    if report is not None and not os.access(report.parent, os.W_OK):
        raise OutputError(f"--report {report}: {report.parent} cannot be written; name a folder you may write to")
    # A console script does not look for modules where the user stands, and that is where adapters are written.
    sys.path.insert(0, os.getcwd())
    subject: conformance.Adapter = conformance.load(adapter) if adapter else conformance.TorchMirror(device)
    print(header(subject.claims), flush=True)
    result = conformance.check(
        subject, laws, max_examples, progress=lambda finding: print(line(finding, subject.claims), flush=True)
    )
    if not any(finding.applicable for finding in result.findings):
        raise AdapterError(
            f"{subject.name} answers none of the laws chosen by --laws {laws}; see ddpm-ref laws for what they need"
        )
    for finding in result.violations:
        print("", *describe(finding), sep="\n")
    print("", *footer(result), sep="\n")
    if report is not None:
        from ddpm_ref.files import write_atomically

        write_atomically(report, (json.dumps(_finite(result.as_json()), indent=1) + "\n").encode())
    return OK if result.ok else VIOLATED


def laws() -> int:
    """List the laws: id, what an implementation needs, how many mistakes each rejects."""
    from ddpm_ref.laws import REGISTRY

    print(f"{'law':<40}{'needs':<30}{'kind':<13}mistakes")
    for law in REGISTRY:
        print(f"{law.id:<40}{law.needs:<30}{law.kind:<13}{len(law.mistakes)}")
    print(
        f"\n{len(REGISTRY)} laws, {sum(len(law.mistakes) for law in REGISTRY)} mistakes; ddpm-ref show LAW tells more"
    )
    return OK


def show(law: tyro.conf.Positional[str], smallest: bool = False) -> int:
    """Show one law: statement, source, mistakes.

    Args:
        law: its id, e.g. forward/q_sample, or a pattern, e.g. "forward/*".
        smallest: also the smallest case in which each mistake breaks the law (takes a second or two for each).
    """
    from ddpm_ref.conformance.smallest import smallest_case
    from ddpm_ref.laws import REGISTRY

    for found in REGISTRY.select(law):
        print(f"{found.id}\n  states    {found.statement}\n  source    {found.source}")
        print(f"  needs     {found.needs}\n  kind      {found.kind}\n  rejects")
        for mistake in found.mistakes:
            print(f"            {mistake}", flush=True)
            if smallest:
                claim = next(c for c in SHOWN if mistake.concerns(c))
                case = smallest_case(found, mistake, claim)
                print(f"              {claim}: {case.describe() if case else 'not told from the law'}", flush=True)
    return OK


def table(
    kind: tyro.conf.Positional[ScheduleKind],
    T: int = 1000,
    beta_1: float | None = None,
    beta_T: float | None = None,
    scale_ends: bool = False,
    zero_terminal_snr: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> int:
    """Print the exact tables of a named schedule.

    Args:
        kind: the schedule.
        T: how many levels.
        beta_1: first beta (linear, scaled_linear, sigmoid; the only one of constant).
        beta_T: last beta (linear, scaled_linear, sigmoid).
        scale_ends: multiply both ends by 1000 / T (linear).
        zero_terminal_snr: shift and scale so that alpha_bar_T is 0.
        as_json: print JSON instead of columns.
    """
    import ddpm_ref

    if beta_T is not None and kind not in ("linear", "scaled_linear", "sigmoid"):
        raise ScheduleError(f"--beta-T is not an argument of the {kind} schedule; leave it out")
    if beta_1 is not None and kind.startswith(("cosine", "sigmoid_alpha")):
        raise ScheduleError(f"--beta-1 is not an argument of the {kind} schedule; leave it out")
    if scale_ends and kind != "linear":
        raise ScheduleError(f"--scale-ends is not an argument of the {kind} schedule; leave it out")
    given: dict[str, Any] = {"T": T} | ({"scale_ends": True} if scale_ends else {})
    given |= {} if beta_1 is None else {"beta" if kind == "constant" else "beta_1": beta_1}
    given |= {} if beta_T is None else {"beta_T": beta_T}
    schedule = getattr(ddpm_ref, f"{kind}_schedule")(**given)
    if zero_terminal_snr:
        schedule = ddpm_ref.zero_terminal_snr(schedule)
    columns = {name: getattr(schedule, name).tolist() for name in COLUMNS}
    if as_json:
        print(json.dumps(_finite({"schedule": kind, "T": schedule.T, "digest": schedule.digest, "tables": columns})))
        return OK
    print(f"{'t':>6}" + "".join(f"{name:>25}" for name in COLUMNS))
    for t, row in enumerate(zip(*columns.values(), strict=True)):
        print(f"{t:>6}" + "".join(f"{value!r:>25}" for value in row))
    return OK


def demo(
    output: Path = Path("runs/demo"), seconds: float = 60.0, seed: int = 0, samples: int = 64, steps: int = 100
) -> int:
    """Train a small U-Net on real digits, save a checkpoint, sample from it.

    Args:
        output: folder for checkpoint and picture.
        seconds: training time.
        seed: of training and sampling.
        samples: how many digits to sample.
        steps: reverse steps of the strided ancestral sampler.
    """
    for module in ("torch", "safetensors", "sklearn", "PIL"):
        require(module, "train")
    from ddpm_ref.training import demo

    result = demo.run(output, seconds=seconds, seed=seed, samples=samples, steps=steps)
    print(
        f"{result.steps} training steps in {result.train_seconds:.0f} s, held-out loss {result.held_out_loss:.4f}; "
        f"{samples} digits sampled in {result.sample_seconds:.1f} s\n{result.checkpoint}\n{result.picture}"
    )
    return OK


def _finite(value: Any) -> Any:
    """JSON has no infinity: written as the strings "inf" and "-inf"."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


COMMANDS = {"verify": verify, "laws": laws, "show": show, "table": table, "demo": demo}
