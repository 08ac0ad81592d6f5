"""Train an agent on any Gymnasium environment."""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from agents.core import cycles
from agents.core.settings import idle
from agents.core.user_code import is_user_code
from agents.run import code, registry
from agents.run.cli import print_json, run_command
from agents.run.config import (
    FLAGS,
    RECORD_STEPS,
    RUN_FIELDS,
    Layer,
    RunConfig,
    config_layer,
    merge,
    moved_to,
    of_others,
    resolve,
)
from agents.run.flags import (
    Count,
    Debug,
    Flag,
    Json,
    Quiet,
    Trust,
    parse_env_kwargs,
    refuse_idle,
    refuse_outside,
    without,
)
from agents.run.setting_flags import flag_group, flag_groups
from agents.run.spellings import suggestion
from agents.run.terminal import say
from envs.errors import UserError
from envs.processes import APART

EXAMPLES = """\
examples:
  python -m agents.train --env CartPole-v1
  python -m agents.train --env CartPole-v1 --algo dqn --seed 1 -n 50000 --learning-rate lin_3e-2
  python -m agents.train --env CartPole-v1 --learning-rate 1e-4 --name lr-1e-4 --seeds 3
  python -m agents.train --env LunarLander-v3 --watch
  python -m agents.train --resume runs/CartPole-v1__ppo__s0__20260101-120000 -n 200000 --target-reward none
"""
RESUMABLE = (
    *("total_timesteps", "schedule_total", "target_reward", "eval_freq", "eval_share", "eval_max_steps"),
    *("eval_episodes", "final_eval_episodes", "save_freq", "video_freq", "record_every", "histogram_freq"),
    *("device", "compile", "metrics"),
    *("one_instance", "action_names", "observation_names"),
)
MOST_SEEDS = 10_000


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command does with the run."""

    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help="YAML file of settings; flags override it")] = (
        None
    )
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help="run folder to go on with, exactly")] = None
    runs_dir: Annotated[Path, tyro.conf.arg(help="where the run's folder is made")] = Path("runs")
    replays_dir: Annotated[Path, tyro.conf.arg(help="where the recorded episode goes")] = Path("replays")
    record: Annotated[bool, tyro.conf.arg(help="record an episode of the best policy at the end")] = True
    record_steps: Annotated[int, tyro.conf.arg(help="steps after which the recorded episode is cut")] = RECORD_STEPS
    seeds: Annotated[Count, tyro.conf.arg(help="so many runs: seeds seed, seed + 1, ...")] = None
    workers: Annotated[
        Count,
        tyro.conf.arg(
            help="with --seeds, how many runs train at a time, each in a process of its own; by default one for each "
            "core if a run takes only one core"
        ),
    ] = None
    dry_run: Annotated[
        Flag,
        tyro.conf.arg(help="say what the network is, what the run takes and how long it would last; write nothing"),
    ] = False
    doctor: Annotated[bool, tyro.conf.arg(help="look for what keeps the training from learning, and say so")] = True
    trust: Trust = False
    watch: Annotated[
        Flag,
        tyro.conf.arg(help="let a window beside it play the newest policy; without a display, a page on 127.0.0.1"),
    ] = False
    film: Annotated[
        Flag,
        tyro.conf.arg(help="keep policies from all of the training, and make the learning film of them at its end"),
    ] = False
    track: Annotated[
        Flag,
        tyro.conf.arg(help="send settings and scalars to an experiment tracker, too"),
    ] = False
    tracker: Annotated[Literal["wandb", "trackio"], tyro.conf.arg(help="which tracker, with --track")] = "wandb"
    wandb_project_name: Annotated[
        str, tyro.conf.arg(help="name of the project under which the tracker shows the run")
    ] = "deep-rl-suite"
    quiet: Quiet = False
    json: Json = False
    debug: Debug = False


def main(argv: list[str] | None = None) -> int:
    """Parse, train, print; return the exit code."""
    if argv is None:
        cycles.seldom()  # until there is something to train
    return run_command(_train, argv)


def _train(argv: list[str]) -> int:
    config, options, notes, beside = _read(argv)
    _refuse_together(options, config)

    from agents.run.dry import dry_run
    from agents.run.runner import train
    from agents.run.seeds import train_seeds

    if not options.quiet:
        say(*notes)
    if options.dry_run:
        estimate = dry_run(config, options.runs_dir, options.quiet)
        if options.json:
            print_json(estimate)
        return 0
    how, failure = _how(options), None
    if options.seeds is None:
        summaries = [train(config, resume=options.resume, **how)]
    else:
        summaries, failure = train_seeds(config, options.seeds, argv, workers=options.workers, beside=beside, **how)
    if options.film and not summaries[0].interrupted:
        make_film(Path(summaries[0].run), options.quiet)
    if options.json:
        found = [dataclasses.asdict(summary) for summary in summaries]
        print_json(found[0] if options.seeds is None else found)
    if failure is not None:
        raise failure
    return 130 if any(summary.interrupted for summary in summaries) else 0


def _read(argv: list[str]) -> tuple[RunConfig, Options, list[str], Path | None]:
    """Return the settings of a run, what becomes of it, what to say of files, and where seeds are shared."""
    how: dict[str, Any] = {"prog": "python -m agents.train", "usage": argparse.SUPPRESS}  # which are said of mistakes
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, **how)
    for name in ("--env", "--algo", "--preset", "--config", "--resume"):
        first.add_argument(name, nargs="?")
    first.add_argument("--trust", action="store_true")
    first.add_argument("--beside", type=Path)  # where another process of ours shares its seeds: no flag for users
    early, _ = first.parse_known_args(argv)
    argv = without(argv, "--beside")
    for name in ("config", "resume"):
        if getattr(early, name) == "":
            raise UserError(f"--{name}: '' given, a path expected.")
    if early.config and early.resume:
        raise UserError("--config and --resume exclude one another: a run goes on with its own config.yaml")
    beneath, notes = _beneath(early.config, early.resume, early.trust or code.typed_in(argv))
    # what chooses defaults, all of it: a switch that says what is the default is not told from one that was not given
    typed = () if early.resume else ("env", "algo", "preset")
    chosen = {name: None if value == "none" else value for name in typed if (value := getattr(early, name))}
    defaults = merge([*beneath, Layer(FLAGS, chosen)], packaged=not early.resume)
    words = [word for word in argv if word not in ("-h", "--help")]
    if len(words) < len(argv) or not argv:  # help is on what the other flags choose
        given, _ = parse(words, _values(defaults))
        parse(["--help"], _values(merge([*beneath, Layer(FLAGS, given)], packaged=not early.resume)), helping=True)
    given, options = parse(argv, _values(defaults))
    if early.resume:
        before = resolve(beneath, packaged=False)
        refuse_changes(before, given)
        given = moved_to(before, given.get("device", before.device)) | given
        if "eval_freq" in given:
            given.setdefault("eval_share", "auto")  # it goes with the frequency
    config = resolve([*beneath, Layer(FLAGS, given)], packaged=not early.resume)
    values, label = config.model_dump(mode="json"), Layer(FLAGS, {}).label
    for name, part in idle(type(config.params), values).items():
        if name in given:
            value = "none" if values[part] is None else str(values[part]).lower()
            notes.append(f"{label(name)} changes nothing here, as {label(part)} is {value}")
    return config, options, notes, early.beside


def _refuse_together(options: Options, config: RunConfig) -> None:
    """Refuse flags that are no numbers of anything, or exclude one another."""
    refuse_outside(options, record_steps=1)
    if options.resume:
        refuse_idle(options, "on --resume a run stays in its folder", "runs_dir")
    if not options.record:
        refuse_idle(options, "with --no-record nothing is recorded", "record_steps")
    if not options.track:
        refuse_idle(options, "it goes with --track", "tracker", "wandb_project_name")
    if options.seeds is not None and (not 1 <= options.seeds <= MOST_SEEDS or options.resume):
        what = "on --resume there is one run" if options.resume else f"from 1 to {MOST_SEEDS} expected"
        raise UserError(f"--seeds: {options.seeds} given, {what}.")
    if options.seeds is not None and config.seed + options.seeds > 2**64:
        first, most = config.seed, 2**64 - config.seed
        raise UserError(f"--seeds: {options.seeds} given, but from --seed {first} on there are {most} below 2^64.")
    if options.workers is not None and (options.workers < 1 or (options.workers > 1 and options.seeds is None)):
        what = "at least 1 expected" if options.workers < 1 else "which is for --seeds"
        raise UserError(f"--workers: {options.workers} given, {what}.")
    if options.dry_run and (options.resume or options.seeds is not None):
        raise UserError("--dry-run is of one run that begins: leave --resume and --seeds out")
    for name in ("watch", "film"):
        if not getattr(options, name):
            continue
        if options.dry_run or options.seeds is not None:
            raise UserError(f"--{name} is of one run that trains: leave --dry-run and --seeds out")
        if not registry.find(config.algo).load().acts:
            raise UserError(f"--{name}: {config.algo} learns no policy: leave it out")

        from agents.run.play import watch_fault

        if fault := watch_fault(config.env):
            raise UserError(f"--{name}: {fault}")


def _how(options: Options) -> dict[str, Any]:
    """Return how `runner.train` is to train."""
    how: dict[str, Any] = {
        "runs_dir": options.runs_dir,
        "replays_dir": options.replays_dir,
        "quiet": options.quiet,
        "record_steps": options.record_steps if options.record else 0,
        "doctor": options.doctor,
        "film": options.film,
    }
    if options.track:
        from agents.run.tracking import tracker

        how["track"] = tracker(options.tracker, options.wandb_project_name)
    if options.watch:
        from agents.run.play import has_display

        how["on_start"] = lambda run: open_viewer(run.folder.path, quiet=options.quiet or has_display())
    return how


def open_viewer(run: Path, quiet: bool) -> None:
    """Begin to watch a run in a process of its own, which outlives the training; its end does not end the training."""
    command = [sys.executable, "-m", "agents.watch", "--follow", str(run)]
    # in a session of its own, where Ctrl-C reaches the training alone; and whoever reads what the training prints
    # need not wait for the viewer, which writes where errors go
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL if quiet else 2, **APART)


def make_film(run: Path, quiet: bool) -> None:
    """Let the command of that name make the learning film of a run.

    Raises:
        UserError: it could not; it has said why.
    """
    command = [sys.executable, "-m", "agents.film", str(run)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL if quiet else 2, check=False)
    if done.returncode:
        raise UserError(f"no film was made of {run}; the training is whole")


def _values(merged: Mapping[str, tuple[Any, Layer]]) -> dict[str, Any]:
    return {name: value for name, (value, _) in merged.items()}


def _beneath(config: str | None, resume: str | None, trust: code.Trust) -> tuple[list[Layer], list[str]]:
    """Return the layer beneath the flags, if there is one, and what is to be said of it."""
    from agents.run.folder import RunFolder

    if resume:
        run = RunFolder.open(Path(resume))
        values, notes = run.settings(trust)
        return [Layer(str(run.config_file), values)], notes
    return ([config_layer(Path(config), trust)] if config else []), []


def refuse_changes(before: RunConfig, given: dict[str, Any]) -> None:
    """Allow a run that goes on only those flags that leave what it has learnt so far true.

    Raises:
        UserError: a flag differs from the run's own setting.
    """
    flag = Layer(FLAGS, {}).label
    was = before.model_dump(mode="json")
    for name in given.keys() - set(RESUMABLE):
        value = code.absolute(name, was[name] | given[name] if name == "env_kwargs" else given[name])
        if value != was[name] and (value, was[name]) != (None, "none"):
            raise UserError(
                f"{flag(name)}: the run has {was[name]!r}; with {value!r} it would be another run. "
                f"On --resume these may change: {', '.join(map(flag, RESUMABLE))}."
            )


def parse(argv: list[str], defaults: Mapping[str, Any], helping: bool = False) -> tuple[dict[str, Any], Options]:
    """Return the settings that `argv` gives, raw, and the command's options.

    Args:
        argv: the arguments.
        defaults: name -> value of what the layers beneath the flags set; `--help` shows them.
        helping: leave out the flags of parts that are not in use.

    Raises:
        UserError: a flag is unknown.
        SystemExit: after `--help` (0), or where a flag lacks its value (2).
    """
    spec = registry.find(defaults.get("algo", RUN_FIELDS["algo"].default), "--algo")
    groups = {"run": flag_group("Run", "What is trained on what.", RUN_FIELDS, defaults)}
    resolved = {name: field.default for name, field in spec.config.flat_fields().items()} | dict(defaults)
    hidden = idle(spec.config, resolved) if helping else {}
    groups |= dict(flag_groups("algorithm" if is_user_code(spec.name) else spec.name, spec.config, defaults, hidden))
    kinds = [(title, type(group)) for title, group in groups.items()]
    command: Any = dataclasses.make_dataclass("Flags", [*kinds, ("command", Options)])
    try:
        parsed, unknown = tyro.cli(
            command,
            prog="python -m agents.train",
            description=__doc__,
            args=argv,
            default=command(**groups, command=Options()),
            return_unknown_args=True,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),  # reading sources takes long
        )
    except SystemExit as stop:
        if stop.code == 0:
            print(EXAMPLES)
        raise
    if unknown:
        raise UserError(_unknown_flag(unknown[0], spec))
    given: dict[str, Any] = {}
    for title, before in groups.items():
        found = vars(getattr(parsed, title))
        given |= {name: value for name, value in found.items() if value is not getattr(before, name)}
    if "env_kwargs" in given:
        given["env_kwargs"] = parse_env_kwargs(given["env_kwargs"])
    return given, parsed.command


def _unknown_flag(word: str, spec: registry.AlgorithmSpec) -> str:
    name = word.partition("=")[0].lstrip("-").replace("-", "_")
    if not word.startswith("-"):
        return f"unexpected argument {word!r}: every value follows its flag, as in --env CartPole-v1"
    if said := of_others(name, spec):
        return f"{word}: {said}"
    near = suggestion(name, [*RUN_FIELDS, *spec.config.flat_fields(), *vars(Options())], Layer(FLAGS, {}).label)
    return f"{word}: unknown flag.{near} 'python -m agents.train --algo {spec.name} --help' lists all."


if __name__ == "__main__":
    sys.exit(main())
