"""Train ours and stable-baselines3 under the same conditions, and report who is better, and how surely."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from agents.run.cli import print_json, run_command
from agents.run.flags import Count, CurveFiles, Flag, parse_env_kwargs, parse_flags
from envs.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from agents.lab.comparison.plan import Request

EXAMPLES = """\
examples:
  python -m agents.compare --quick
  python -m agents.compare --env CartPole-v1 LunarLander-v3 --algos ppo dqn --against sb3 --seeds 5
  python -m agents.compare --env CartPole-v1 --hyper same --seeds 10 --workers 2 --out runs/same-settings
"""
QUICK: dict[str, Any] = {
    "env": ("CartPole-v1",),
    "algos": ("ppo",),
    "seeds": 3,
    "total_timesteps": 50_000,
    "workers": 2,
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    env: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ID ...", help_behavior_hint="", help="environments")] = ()
    algos: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="ppo|dqn ...", help_behavior_hint="", help="algorithms (default: ppo)")
    ] = ()
    against: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="sb3|FILE.yaml|RUN|MODEL.zip ...",
            help="stable-baselines3 (SB3), other settings of ours, a trained run of ours, a saved model of SB3's",
        ),
    ] = ("sb3",)
    hyper: Annotated[Literal["tuned", "same"], tyro.conf.arg(help="each side's best settings, or ours for both")] = (
        "tuned"
    )
    seeds: Annotated[Count, tyro.conf.arg(help="runs of each: seeds 0, 1, ... (default: 5)")] = None
    workers: Annotated[Count, tyro.conf.arg(help="runs at a time (default: as many as cores)")] = None
    total_timesteps: Annotated[
        Count, tyro.conf.arg(aliases=["-n"], help="environment steps of each run (default: as tuned)")
    ] = None
    eval_freq: Annotated[Count, tyro.conf.arg(help="steps between evaluations (default: 20 in a run)")] = None
    eval_episodes: Annotated[int, tyro.conf.arg(metavar="INTEGER", help="episodes of each evaluation")] = 20
    final_eval_episodes: Annotated[
        int, tyro.conf.arg(metavar="INTEGER", help="episodes that the final policy is judged by")
    ] = 100
    env_kwargs: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="KEY=VALUE ...", help_behavior_hint="", help="environment arguments"),
    ] = ()
    files: CurveFiles = ()
    trust: Annotated[Flag, tyro.conf.arg(help="load MODEL.zip, which runs code from that file")] = False
    vec_normalize: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help_behavior_hint="", help="VecNormalize's statistics for MODEL.zip"),
    ] = None
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER", help="where all of it lies, and goes on")] = Path(
        "runs/comparison"
    )
    quick: Annotated[Flag, tyro.conf.arg(help="a first answer in under five minutes: PPO on CartPole-v1")] = False
    list: Annotated[Flag, tyro.conf.arg(help="show the runs and which are done, and train nothing")] = False
    json: Annotated[Flag, tyro.conf.arg(help="print the result as a last line")] = False
    debug: Annotated[Flag, tyro.conf.arg(help="show tracebacks")] = False


def main(argv: list[str] | None = None) -> int:
    """Parse, train, report; return the exit code: 1 where a run failed."""
    return run_command(_compare, argv)


def _compare(argv: list[str]) -> int:
    options = _parse(argv)
    from rich.console import Console

    from agents.lab.comparison.conduct import conduct, plan_lines
    from agents.lab.comparison.plan import make_pairs
    from agents.lab.processes import terminated_as_interrupted
    from envs.adapters.workers import cores

    console = Console(highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        console.print(line, markup=False)

    pairs, impossible = make_pairs(_request(options))
    for line in [*impossible, *plan_lines(pairs, options.out)]:
        say(line)
    if options.list:
        return 0
    workers, command = options.workers or cores(), shlex.join(["python", "-m", "agents.compare", *argv])
    with terminated_as_interrupted():
        found = conduct(pairs, options.out, workers=workers, trust=options.trust, command=command, say=say)
        verdict = _report(options, console)
    say(f"curves: tensorboard --logdir {shlex.quote(str(options.out / 'runs'))}")
    if options.json:
        print_json(found | verdict)
    return int(found["failed"] > 0)


def _parse(argv: list[str]) -> Options:
    """Return the options with what `--quick` sets, if nothing unusable was given."""
    given = argv or ["--help"]
    options = parse_flags(Options, given, command="python -m agents.compare", about=__doc__, examples=EXAMPLES)
    if options.quick:
        options = dataclasses.replace(options, **{name: getattr(options, name) or QUICK[name] for name in QUICK})
    for name in ("seeds", "workers", "total_timesteps", "eval_freq", "eval_episodes", "final_eval_episodes"):
        count = getattr(options, name)
        if count is not None and count < 1:
            raise UserError(f"--{name.replace('_', '-')}: {count} given, at least 1 expected.")
    if not options.env:
        raise UserError("which environments? Give some, for example: --env CartPole-v1 LunarLander-v3, or --quick")
    if os.name != "posix":
        raise UserError("a comparison runs processes as Linux and macOS do; on Windows run it in WSL.")
    if options.files:
        from agents.lab.comparison.imported import read_curves

        for file in options.files:
            read_curves(file)  # a mistake is told now, not after the trainings
    return options


def _request(options: Options) -> Request:
    from agents.lab.comparison.plan import Request

    return Request(
        envs=options.env,
        algos=options.algos or ("ppo",),
        against=options.against,
        hyper=options.hyper,
        seeds=options.seeds or 5,
        total_timesteps=options.total_timesteps,
        eval_freq=options.eval_freq,
        eval_episodes=options.eval_episodes,
        final_eval_episodes=options.final_eval_episodes,
        env_kwargs=parse_env_kwargs(options.env_kwargs),
        trust=options.trust,
        vec_normalize=options.vec_normalize,
    )


def _report(options: Options, console: Console) -> dict[str, Any]:
    """Write the report, print its verdict, and return both."""
    from agents.lab.comparison.findings import find
    from agents.lab.comparison.imported import import_files
    from agents.lab.comparison.page import write_findings
    from agents.lab.comparison.results import load_comparison
    from agents.lab.comparison.verdict import judge, show

    import_files(options.out, options.files)
    findings = find(load_comparison(options.out))
    verdict, page = judge(findings), write_findings(findings, options.out / "report")
    show(console, verdict, page)
    return {"report": str(page), **dataclasses.asdict(verdict)}


if __name__ == "__main__":
    sys.exit(main())
