"""Write a trained policy as a file that needs neither this suite nor PyTorch."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Checkpoint, Debug, Flag, Json, Run, RunsDir, Trust, parse_flags, refuse_outside
from envs.errors import UserError

EXAMPLES = """\
examples:
  python -m agents.export
  python -m agents.export runs/CartPole-v1__ppo__s0__20260101-120000 --to c --out cartpole.h
  python -m agents.export runs/CartPole-v1__ppo__s0__20260101-120000 --checkpoint latest --check 1000000
"""
ENDINGS = {"onnx": ".onnx", "c": ".h", "web": ".html"}
NEEDS = {"c": "C compiler (cc, gcc or clang)", "web": "JavaScript outside of a browser (node)"}
ROWS = 64  # environments that the file and the policy are compared in


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: Run = None
    to: Annotated[
        Literal["onnx", "c", "web"],
        tyro.conf.arg(help="onnx: for any ONNX runtime; c: one header; web: a page in which the policy plays"),
    ] = "onnx"
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE", help_behavior_hint="", help="by default policy.onnx, .h or .html in the run folder"
        ),
    ] = None
    int8: Annotated[
        Flag, tyro.conf.arg(help="with c and web: weights of layers as bytes, with one factor for each output")
    ] = False
    checkpoint: Checkpoint = "best"
    check: Annotated[
        int, tyro.conf.arg(metavar="N", help="compare the file with the policy on N observations of episodes; 0: not")
    ] = 10_000
    trust: Trust = False
    runs_dir: RunsDir = Path("runs")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, export, check, print; return the exit code."""
    return run_command(_export, argv)


def _export(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.export", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, check=0)
    if options.int8 and options.to == "onnx":
        raise UserError("--int8 is for --to c and --to web; ONNX runtimes have quantisation of their own")

    from agents.lab.export.c import c_runner, write_c
    from agents.lab.export.check import check
    from agents.lab.export.int8 import in_bytes
    from agents.lab.export.module import Exported
    from agents.lab.export.onnx import onnx_runner, write_onnx
    from agents.lab.export.web import web_runner, write_web
    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy
    from agents.run.sinks import Working
    from agents.run.terminal import console, say, visible

    run = options.run or find_latest_run(options.runs_dir)
    loaded = load_policy(run, options.checkpoint, trust=options.trust)
    say(*loaded.notes)
    out = options.out or (run if run.is_dir() else run.parent) / f"policy{ENDINGS[options.to]}"
    exported = Exported(loaded)
    if options.int8:
        rounded, count, total = in_bytes(loaded)
        exported = Exported(rounded)
        say(f"in bytes: {count:,} of the network's {total:,} parameters")
    about = {"algo": loaded.algo, "env": loaded.env, "step": loaded.step}
    if options.to == "web":
        write_web(exported, about, out, loaded)
    else:
        (write_onnx if options.to == "onnx" else write_c)(exported, about, out)
    size = out.stat().st_size
    say(f"{visible(str(out))}: {loaded.algo.upper()} on {loaded.env}, step {loaded.step:,}; {size:,} bytes")
    inputs = (f"{name} {list(shape)}" if shape else name for name, (shape, _) in exported.inputs.items())
    say(f"takes {', '.join(inputs)}; gives {', '.join(exported.outputs)}")
    summary = {"file": str(out), "to": options.to, "bytes": size, **about}
    if options.check:
        runners = {"onnx": onnx_runner, "c": c_runner, "web": web_runner}
        runner = runners[options.to](exported, out)
        if runner is None:
            say(f"not checked: there is no {NEEDS[options.to]} here")
        else:
            with Working("check", "observations", console(stderr=True)) as report:
                found = check(exported, runner, loaded, options.check, ROWS, report)
            say(
                f"compared with the policy{' before rounding' * options.int8} on {found.states:,} observations: "
                f"{found.differing:,} other actions, "
                f"largest difference of continuous ones {found.largest:.2g}"
            )
            summary |= dataclasses.asdict(found)
    if options.json:
        print_json(summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
