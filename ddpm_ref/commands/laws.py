"""``ddpm-ref laws`` and ``show``: what implementations are held against."""

import tyro

from ddpm_ref.arithmetic import Claim
from ddpm_ref.exit_status import OK

SHOWN = (Claim("fp32"), Claim("fp64"), Claim("bf16", "fp32"))


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
