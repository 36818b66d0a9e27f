"""The command ``ddpm-ref``: exit status 0 only when everything held, 1 for a violated law, 2 for wrong usage.

Whatever the user can mend is said in one line, never with a traceback.
"""

from __future__ import annotations

import os
import sys

from ddpm_ref.errors import DdpmRefError
from ddpm_ref.exit_status import INTERRUPTED, USAGE
from ddpm_ref.extras import require

DESCRIPTION = "Hold diffusion code against the mathematics: laws, exact tables, a demo on real digits."


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        tyro = require("tyro", "conformance")
        from ddpm_ref.commands import COMMANDS

        status = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="ddpm-ref", description=DESCRIPTION, args=arguments
        )
        sys.stdout.flush()
    except DdpmRefError as error:
        print(f"ddpm-ref: {' '.join(str(error).split())}", file=sys.stderr)
        status = USAGE
    except KeyboardInterrupt as stopped:
        print("ddpm-ref: interrupted" + (f"; {stopped}" if stopped.args else ""), file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (ddpm-ref table ... | head); Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
