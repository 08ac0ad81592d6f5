"""Measure how well a trained policy does, over many fresh episodes, or by what recorded ones tell of it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from agents.core.config import MOST_EPISODES
from agents.run.cli import print_json, run_command
from agents.run.flags import (
    Checkpoint,
    Debug,
    EnvId,
    EnvKwargs,
    Flag,
    Json,
    RunOrZip,
    RunsDir,
    Trust,
    VecNormalizeFile,
    is_sb3,
    parse_env_kwargs,
    parse_flags,
    refuse_idle,
    refuse_outside,
)
from envs.errors import UserError

if TYPE_CHECKING:
    from agents.core.types import Policy
    from envs.api import VecEnv

EXAMPLES = """\
examples:
  python -m agents.evaluate
  python -m agents.evaluate runs/CartPole-v1__ppo__s0__20260101-120000 --episodes 200 --stochastic
  python -m agents.evaluate runs/CartPole-v1__ppo__s0__20260101-120000 --checkpoint latest --seed 7 --json
  python -m agents.evaluate ppo_cartpole.zip --env CartPole-v1 --trust
  python -m agents.evaluate runs/CartPole-v1__ppo__s0__20260101-120000 --data datasets/cartpole
"""
MOST_UPDATES = 10_000_000


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags."""

    run: RunOrZip = None
    checkpoint: Checkpoint = "best"
    episodes: Annotated[int, tyro.conf.arg(help="how many to play")] = 100
    seed: Annotated[int, tyro.conf.arg(help="the same seed plays the same episodes")] = 0
    stochastic: Annotated[Flag, tyro.conf.arg(help="sample actions instead of taking the most likely")] = False
    env: EnvId = None
    env_kwargs: EnvKwargs = ()
    max_steps: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="N",
            help_behavior_hint="",
            help="steps after which an episode is cut; if not given, only where the environment has no time limit",
        ),
    ] = None
    data: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FOLDER|FILE",
            help_behavior_hint="",
            help="recorded episodes of others, by which the policy is judged without playing",
        ),
    ] = None
    gamma: Annotated[
        float | None,
        tyro.conf.arg(
            metavar="FLOAT", help_behavior_hint="", help="discount, with --data; if not given, the training's"
        ),
    ] = None
    updates: Annotated[int, tyro.conf.arg(help="with --data: how many updates fitted Q evaluation makes")] = 10_000
    one_instance: Annotated[Flag, tyro.conf.arg(help="only one environment may run at a time")] = False
    vec_normalize: VecNormalizeFile = None
    trust: Trust = False
    device: Annotated[Literal["cpu", "cuda", "mps"], tyro.conf.arg(help="where the network computes")] = "cpu"
    runs_dir: RunsDir = Path("runs")
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, evaluate, print; return the exit code."""
    return run_command(_evaluate, argv)


def _evaluate(argv: list[str]) -> int:
    options = parse_flags(Options, argv, command="python -m agents.evaluate", about=__doc__, examples=EXAMPLES)
    refuse_outside(options, episodes=(1, MOST_EPISODES), seed=0, max_steps=1)
    env_kwargs = parse_env_kwargs(options.env_kwargs)
    if not is_sb3(options.run):
        refuse_idle(options, "it goes with a MODEL.zip of stable-baselines3", "vec_normalize")
    if options.data is not None:
        refuse_idle(options, "with --data nothing is played", "episodes", "max_steps", "one_instance", "device")
        return _judge(options, env_kwargs)
    refuse_idle(options, "it goes with --data", "gamma", "updates")

    from agents.acting.evaluation import evaluate
    from agents.core.types import successes
    from agents.lab.statistics import summarise
    from agents.run.sinks import Working
    from agents.run.terminal import console
    from envs.seeding import derive_seed

    prepare = _model_of_sb3 if is_sb3(options.run) else _model_of_ours
    env, policy, about = prepare(options, env_kwargs)
    try:
        seed = derive_seed(options.seed, "evaluate")  # never the episodes that the best policy was chosen by
        with Working("evaluation", "episodes", console(stderr=True)) as report:
            result = evaluate(
                env,
                policy,
                options.episodes,
                seed,
                deterministic=not options.stochastic,
                step_limit=about["max_steps"],
                report=report,
            )
    finally:
        env.close()
    reported = successes(result.infos)
    summary = {
        **about,
        "seed": options.seed,
        "deterministic": not options.stochastic,
        "episodes": options.episodes,
        **summarise(result.returns, result.lengths),
        "length_min": int(result.lengths.min()),
        "length_max": int(result.lengths.max()),
        "cut": result.cut,
        "success_rate": sum(reported) / len(reported) if reported else None,
    }
    _print(summary, options)
    if options.json:
        print_json(summary)
    return 0


def _judge(options: Options, env_kwargs: dict[str, Any]) -> int:
    """Say what recorded episodes tell of a policy."""
    from agents.lab.off_policy import off_policy
    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy
    from agents.run.terminal import say

    refuse_outside(options, updates=(1, MOST_UPDATES), gamma=(0, 1))
    if is_sb3(options.run):
        raise UserError("--data: a model of stable-baselines3 can only be measured by playing; leave --data out")
    assert options.data is not None
    run = options.run or find_latest_run(options.runs_dir)
    loaded = load_policy(run, options.checkpoint, trust=options.trust, env=options.env, env_kwargs=env_kwargs)
    say(*loaded.notes)
    about = {"run": str(run), "checkpoint": loaded.name, "step": loaded.step, "env": loaded.env, "algo": loaded.algo}
    found = off_policy(
        loaded,
        options.data,
        gamma=options.gamma,
        stochastic=options.stochastic,
        updates=options.updates,
        seed=options.seed,
    )
    summary = {**about, "seed": options.seed, "deterministic": not options.stochastic, **found}
    _print_judged(summary)
    if options.json:
        print_json(summary)
    return 0


def _print_judged(summary: dict[str, Any]) -> None:
    from rich.text import Text

    from agents.run.registry import title_of
    from agents.run.terminal import console

    rows = []
    for name, key, of in (
        ("behaviour", "behaviour", "what the data's own policy earned"),
        ("fitted Q", "fitted_q", "over first observations; not how wrong the fit is"),
        ("weighted sampling", "weighted", "importance sampling, weights divided by their sum"),
        ("per decision", "per_decision", "importance sampling"),
    ):
        if key in summary:
            value, low, high = summary[key]
            rows.append((name, f"{value:,.5g}  ({low:,.5g} to {high:,.5g}: {of})"))
    if "weighted" in summary:
        rows.append(("effective episodes", "{effective_episodes:,.1f} of {episodes:,}".format(**summary)))
    rows.append(("data", "{episodes:,} episodes, {transitions:,} transitions: {data}".format(**summary)))
    rows.append(("checkpoint", "{checkpoint}, after {step:,} steps".format(**summary)))
    acting = "most likely actions" if summary["deterministic"] else "sampled actions"
    title = f" · {title_of(summary['algo'])} · discounted return (gamma {summary['gamma']:g}), {acting}\n"
    screen = console()
    screen.print(Text.assemble("\n", (summary["env"], "bold"), title))
    screen.print(_table(rows, bold="fitted Q"))
    screen.print()
    for doubt in summary["warnings"]:
        screen.print(f"note: {doubt}")


def _model_of_ours(options: Options, env_kwargs: dict[str, Any]) -> tuple[VecEnv, Policy, dict[str, Any]]:
    """Return environments, the policy that is to play in them, and what the summary says of it."""
    from agents.core.device import choose_device, use_threads
    from agents.core.precision import use_products
    from agents.run.build import flops
    from agents.run.evaluator import most_steps_of
    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy
    from agents.run.play import PARALLEL, policy_env
    from agents.run.terminal import say

    run = options.run or find_latest_run(options.runs_dir)
    device, _ = choose_device(options.device, env_on_gpu=False, flops=0, batch_size=1)
    loaded = load_policy(
        run, options.checkpoint, str(device), trust=options.trust, env=options.env, env_kwargs=env_kwargs
    )
    say(*loaded.notes)
    copies = 1 if options.one_instance else min(PARALLEL, options.episodes)
    env = policy_env(loaded, copies, vec="auto")
    weight = flops(loaded.policy.model, loaded.observation_space)
    use_threads(device, flops=weight, batch_size=env.num_envs)
    use_products(loaded.config.precision)
    limit = options.max_steps or most_steps_of(loaded.config, loaded.env, loaded.env_kwargs)
    about = {"run": str(run), "checkpoint": loaded.name, "step": loaded.step}
    return env, loaded.policy, about | {"env": loaded.env, "algo": loaded.algo, "max_steps": limit}


def _model_of_sb3(options: Options, env_kwargs: dict[str, Any]) -> tuple[VecEnv, Policy, dict[str, Any]]:
    """Do the same for a model that stable-baselines3 saved."""
    from agents.lab.sb3_policy import sb3_in_env
    from agents.run.evaluator import most_steps_of
    from agents.run.play import PARALLEL

    assert options.run is not None
    model, env = sb3_in_env(
        options.run,
        options.env,
        1 if options.one_instance else min(PARALLEL, options.episodes),
        trust=options.trust,
        vec_normalize=options.vec_normalize,
        env_kwargs=env_kwargs,
    )
    assert options.env is not None
    limit = options.max_steps or most_steps_of(None, options.env, env_kwargs)
    about = {"run": str(options.run), "checkpoint": "model", "step": model.step}
    return env, model, about | {"env": options.env, "algo": model.algo, "max_steps": limit}


def _print(summary: dict[str, Any], options: Options) -> None:
    from rich.text import Text

    from agents.run.play import watch_fault
    from agents.run.registry import title_of
    from agents.run.terminal import console, typed

    acting = "most likely actions" if summary["deterministic"] else "sampled actions"
    rows = [
        ("return", "{mean:.2f} ± {std:.2f}  (mean ± standard deviation)"),
        ("95% interval", "{ci_low:.2f} to {ci_high:.2f}  (of the mean, bootstrap)"),
        ("median", "{median:.2f}"),
        ("interquartile mean", "{iqm:.2f}"),
        ("episode length", "{length_mean:.1f} steps  ({length_min:,} to {length_max:,})"),
        ("episodes", "{episodes:,}, seed {seed}, " + acting),
        ("checkpoint", "{checkpoint}, after {step:,} steps"),
    ]
    if summary["success_rate"] is not None:
        rows.insert(1, ("success rate", "{success_rate:.1%}  (of the episodes that reported it)"))
    if summary["cut"]:
        rows.append(("cut", "{cut:,} of the episodes after {max_steps:,} steps (--max-steps)"))
    screen = console()
    if options.run is None:
        screen.print(f"The run begun last: {summary['run']}", style="dim")
    screen.print(Text.assemble("\n", (summary["env"], "bold"), f" · {title_of(summary['algo'])}\n"))
    screen.print(_table([(name, value.format(**summary)) for name, value in rows], bold="return"))
    if not is_sb3(Path(summary["run"])) and watch_fault(summary["env"]) is None:
        words = [summary["run"], "--checkpoint", summary["checkpoint"]]
        words += [] if options.env is None else ["--env", options.env]
        words += ["--env-kwargs", *options.env_kwargs] if options.env_kwargs else []
        words += ["--seed", options.seed] if options.seed else []
        words += [f"--{name}" for name in ("stochastic", "trust") if getattr(options, name)]
        screen.print(f"\nWatch it:  {typed('python', '-m', 'agents.watch', *words)}")


def _table(rows: list[tuple[str, str]], bold: str) -> Any:
    """Return rows of a name and what is said of it, one of them bold."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows:
        table.add_row(name, value, style="bold" if name == bold else None)
    return table


if __name__ == "__main__":
    sys.exit(main())
