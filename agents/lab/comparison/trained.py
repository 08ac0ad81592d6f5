"""What is trained already, compared as it is: run folders of ours and models that SB3 saved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.lab.comparison.analysis import Findings, analyse
from agents.lab.comparison.curves import RunKey, RunResult, read_results
from agents.lab.comparison.entries import Entry, read_entries, sides_of, without_path
from agents.lab.comparison.job import digest
from agents.lab.comparison.options import Options
from agents.lab.comparison.report import settings_table, write_report
from agents.lab.comparison.results import Reference, Results, StoredComparison, keys_of
from agents.lab.comparison.verdict import print_verdict
from agents.lab.document import Document
from agents.lab.words import plural
from agents.run.doctor.sink import read_diagnoses
from agents.run.registry import title_of
from agents.run.terminal import typed
from envs.errors import UserError, listed
from envs.locate import env_label
from envs.seeding import derive_seed
from envs.single import has_native, reward_threshold

if TYPE_CHECKING:
    from rich.console import Console

    from agents.core.types import Policy
    from envs.api import VecEnv

OUT = Path("runs", "compared")


def compare_trained(options: Options, command: str, console: Console) -> dict[str, Any]:
    """Compare what `options.runs` names, in each environment, and print what is found.

    Returns:
        `reports`, for each environment its verdict, sides and files, and what was `left_out`, path -> why.

    Raises:
        UserError: fewer than two can be compared, or a file cannot be used.
    """
    entries, left_out = read_entries(options)
    read = {file: read_results(file) for file in options.files}
    curves = [curve for found in read.values() for curve in found]
    keys_of(curves, ", ".join(map(str, read)))
    places = dict.fromkeys(entry.place for entry in entries)
    out = options.out or OUT
    todo = []
    for place in places:
        here = [entry for entry in entries if entry.place == place]
        own = [curve for curve in curves if curve.key.env == place]
        if len(here) + len(own) > 1 and not all(_known(here)):
            here = _played(here, left_out, options, console)
        if here and len(here) + len(own) > 1:
            todo.append((here, own))
        else:
            left_out |= {entry.path: f"nothing else is on {place}" for entry in here}
    for file, found in read.items():
        if others := dict.fromkeys(curve.key.env for curve in found if curve.key.env not in places):
            left_out[file] = f"no run is on {listed(list(others), 'or')}, but on {', '.join(places) or 'nothing'}"
    for path, why in left_out.items():
        console.print(f"left out: {path}: {why}", style="dim")
    if not todo:
        reasons = "; ".join(f"{path}: {why}" for path, why in left_out.items())
        raise UserError(f"nothing to compare: at least two runs on one environment expected. {reasons}")
    reports, names = [], [env_label(here[0].place) for here, _ in todo]
    for (here, own), name in zip(todo, names, strict=True):
        place = name if names.count(name) == 1 else f"{name}__{digest(here[0].place)}"
        folder = out / place if len(todo) > 1 else out
        reports.append(_compare_here(here, own, folder, options, command, console))
    return {"reports": reports, "left_out": {str(path): why for path, why in left_out.items()}}


def _compare_here(
    entries: Sequence[Entry],
    curves: Sequence[RunResult],
    out: Path,
    options: Options,
    command: str,
    console: Console,
) -> dict[str, Any]:
    """Compare runs of one environment, write the report into `out` and print what is found."""
    sides, first = sides_of(entries), entries[0]
    algos = dict.fromkeys([*(entry.algo for entry in entries), *(curve.key.algo for curve in curves)])
    algo = first.algo if len(algos) == 1 else "/".join(map(title_of, algos))
    runs = [_result(entry, RunKey(first.place, algo, label, entry.seed)) for label in sides for entry in sides[label]]
    for curve in curves:
        label = curve.key.label if len(algos) == 1 else f"{curve.key.label}, {title_of(curve.key.algo)}"
        if label in sides:
            raise UserError(f"{sides[label][0].path} is called {label}, as imported curves are; rename one of them.")
        runs.append(replace(curve, key=curve.key._replace(algo=algo, label=label)))
    references = {first.place: Reference(threshold=reward_threshold(first.env))}
    imported = list(dict.fromkeys(run.key.label for run in runs if run.key.label not in sides))
    notes = list(_notes(sides))
    results = Results(out, StoredComparison(references=references), runs, [], [], imported, notes)
    findings = analyse(results, episodes=True)
    settings = {label: group[0].settings for label, group in sides.items()}
    differing = settings_table(settings, differing=True)
    console.print(f"{first.place}: {listed(list(sides))}", style="bold")
    for name, *values in differing.rows:
        told = "; ".join(f"{label} {value or '-'}" for label, value in zip(sides, values, strict=True))
        console.print(f"  {name}: {told}")
    video = None if options.no_video else _video(sides, out, options, console)

    def origin(document: Document, findings: Findings) -> None:
        document.heading("Settings that differ", "settings")
        if differing.rows:
            document.table(differing)
        else:
            document.text("None that are known.")
        document.heading("How it was measured", "method")
        document.text(_method(first))
        paths = [f"{label}, seed {entry.seed}: {entry.path}" for label in sides for entry in sides[label]]
        document.bullets(paths)
        if video is not None:
            document.text(f"The best models side by side, each in the same episode: {video.name}, beside this page.")
        document.heading("Repeat it", "repeat")
        document.code(command)

    page, verdict = write_report(findings, out, origin)
    print_verdict(console, verdict, page)
    if video is not None:
        console.print(f"side by side: {video}")
    scores = {run.key.label: [one.score for one in runs if one.key.label == run.key.label] for run in runs}
    return {
        "env": first.place,
        "sides": {label: [str(entry.path) for entry in group] for label, group in sides.items()},
        "scores": scores,
        "differing": {name: dict(zip(sides, values, strict=True)) for name, *values in differing.rows},
        "report": str(page),
        "video": None if video is None else str(video),
        **asdict(verdict),
    }


def _result(entry: Entry, key: RunKey) -> RunResult:
    said = [] if entry.sb3 else read_diagnoses(entry.path)
    return RunResult(key, *entry.curve, entry.final, entry.figures, _evaluation(entry), said)


def _evaluation(entry: Entry) -> str:
    more = ["--env", entry.env, "--trust"] if entry.sb3 else ["--checkpoint", "latest"]
    return typed("python", "-m", "agents.evaluate", entry.path, *more)


def _known(entries: Sequence[Entry]) -> Iterator[bool]:
    """Yield for each run whether it has a final evaluation of its own, of as many episodes as the others."""
    for entry in entries:
        yield entry.final.size == entries[0].final.size > 0


def _method(one: Entry) -> str:
    from agents.run.evaluator import most_steps_of

    episodes = f"{one.final.size:,} episodes"
    limit = most_steps_of(None, one.env, one.env_kwargs) if one.fresh else None
    cut = "" if limit is None else f"; one is cut after {limit:,} steps"
    played = (
        "Not all of them have a final evaluation of their own of as many episodes, so the final policies were played "
        f"afresh: {episodes}, the same for all, with the most likely actions{cut}."
        if one.fresh
        else f"Scores are those of each run's own final evaluation: {episodes} of the final policy."
    )
    return (
        f"Nothing was trained for this report. Runs of the same settings are one side, whatever their seeds. {played} "
        "Speeds are each run's own, perhaps on different machines."
    )


def _notes(sides: dict[str, list[Entry]]) -> Iterator[str]:
    """Say where sides were not trained alike."""
    steps = {label: {int(entry.figures.get("steps", 0)) for entry in group} for label, group in sides.items()}
    if len({min(own) for own in steps.values()} | {max(own) for own in steps.values()}) > 1:
        told = [
            f"{label} {' to '.join(f'{n:,}' for n in sorted({min(own), max(own)}))}" for label, own in steps.items()
        ]
        yield f"they trained for different numbers of steps: {listed(told)}"
    for label, group in sides.items():
        for entry in group:
            if entry.first_step:
                yield (
                    f"{label}, seed {entry.seed}, went on at step {entry.first_step:,} with a model that had learnt "
                    "before: how long all its steps took is not known"
                )


def _open(
    entry: Entry, num_envs: int, *, vec: str, checkpoint: str, render: bool, options: Options
) -> tuple[VecEnv, Policy]:
    """Return environments and the policy that is to play in them."""
    if not entry.sb3:
        from agents.run.models import load_policy
        from agents.run.play import policy_env

        loaded = load_policy(entry.path, checkpoint, trust=options.trust)
        return policy_env(loaded, num_envs, vec=vec, render=render), loaded.policy
    from agents.lab.sb3_policy import sb3_in_env

    how: dict[str, Any] = {"trust": options.trust, "vec_normalize": options.vec_normalize, "vec": vec, "render": render}
    model, env = sb3_in_env(entry.path, entry.env, num_envs, env_kwargs=entry.env_kwargs, **how)
    return env, model


def _played(entries: Sequence[Entry], left_out: dict[Path, str], options: Options, console: Console) -> list[Entry]:
    """Return the runs with the returns of their final policies in fresh episodes, the same for all.

    Whose model cannot play is left out.
    """
    from agents.acting.evaluation import evaluate
    from agents.run.evaluator import PARALLEL, most_steps_of

    episodes, seed = options.final_eval_episodes, derive_seed(0, "compare")
    first = entries[0]
    vec = "native" if has_native(first.env) and not first.settings.get("wrappers") else "sync"
    limit = most_steps_of(None, first.env, first.env_kwargs)
    console.print(f"playing {episodes:,} episodes with each of {plural(len(entries), 'run')}", style="dim")
    found = []
    for entry in entries:
        count = min(PARALLEL[vec], episodes)
        try:
            env, policy = _open(entry, count, vec=vec, checkpoint="latest", render=False, options=options)
        except UserError as error:
            left_out[entry.path] = without_path(error, entry.path)
            continue
        with closing(env):
            returns = evaluate(env, policy, episodes, seed, step_limit=limit).returns
            found.append(replace(entry, final=returns, fresh=True))
    return found


def _video(sides: dict[str, list[Entry]], out: Path, options: Options, console: Console) -> Path | None:
    """Write the video of each side's best model and return it; where there can be none, say why."""
    from agents.lab.side_by_side import MOST, frames
    from agents.run.play import frames_per_second, play
    from agents.run.video import write_video

    shown, seed = list(sides)[:MOST], derive_seed(0, "compare", "video")
    path, fps = out / "side-by-side.mp4", 30.0
    try:
        with ExitStack() as stack:
            shows = []
            for label in shown:
                best = max(sides[label], key=lambda entry: (entry.best, entry.final.mean()))
                env, policy = _open(best, 1, vec="sync", checkpoint="best", render=True, options=options)
                stack.callback(env.close)
                shows.append((label, play(env, policy, seed)))
                fps = frames_per_second(best.env)
            write_video(path, frames(shows, fps), fps)
    except UserError as error:
        console.print(f"no video: {error}", style="dim")
        return None
    if len(sides) > MOST:
        console.print(f"the video shows the first {MOST} of {len(sides)} sides", style="dim")
    return path
