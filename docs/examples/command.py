"""Say how large a trained model is.

Put into agents/size.py, this is the command `python -m agents.size RUN`.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Flag, parse_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN", help="run folder, or folder with a model")]
    json: Annotated[Flag, tyro.conf.arg(help="print the result as a last line")] = False


def main(argv: list[str] | None = None) -> int:
    """Parse, count, print; return the exit code."""
    return run_command(_size, argv)


def _size(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.size", about=__doc__, examples="")
    from agents.run.models import load_policy  # PyTorch comes with it: `--help` stays quick

    loaded = load_policy(options.run)
    count = sum(parameter.numel() for parameter in loaded.policy.model.parameters())
    print(f"{loaded.algo.upper()} on {loaded.env}: {count:,} parameters")
    if options.json:
        print_json({"parameters": count})
    return 0


if __name__ == "__main__":
    sys.exit(main())
