"""Words in, exit code out. The only place that builds adapters, and the only one that catches broadly."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from upswitch.cli.commands.options import group
from upswitch.cli.exit_codes import EXIT
from upswitch.cli.open import Wiring
from upswitch.cli.program import Program, flush, let_go
from upswitch.hosts import signals
from upswitch.switch.outcome import USAGE
from upswitch.switch.words import Outcome

_WIRING = Wiring()


def main(argv: Sequence[str] | None = None, wiring: Wiring = _WIRING) -> NoReturn:
    """`upswitch`. Ends the process with the command's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    try:
        code = group.main(args=arguments, prog_name="upswitch", standalone_mode=False, obj=Program(wiring))
    except click.UsageError as exc:
        with suppress(OSError):
            exc.show()
        sys.exit(USAGE)
    except OSError:  # --help into a full disk
        let_go()
        sys.exit(0)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(EXIT[Outcome.INTERRUPTED])
    signals.ignore()  # a late Ctrl-C must not cost the exit code
    flush()
    sys.exit(code or 0)


def _open_closed_streams() -> None:
    """`>&-` leaves no stream at all; nothing below should have to know."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (for the life of the process)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def switch_main() -> NoReturn:
    """`switch` is exactly `upswitch switch`."""
    main(["switch", *sys.argv[1:]])
