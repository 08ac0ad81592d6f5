"""What is trained already, compared as it is: run folders of ours and models that SB3 saved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agents.lab.comparison.analysis import Findings, analyse
from agents.lab.comparison.curves import RunKey, RunResult, read_results
from agents.lab.comparison.options import Options
from agents.lab.comparison.report import settings_table, write_report
from agents.lab.comparison.results import Reference, Results, StoredComparison
from agents.lab.comparison.verdict import print_verdict
from agents.lab.document import Document
from agents.lab.stored import read_stored
from agents.lab.words import plural, printable
from agents.run import code
from agents.run.config import RunConfig
from agents.run.doctor.sink import read_diagnoses
from agents.run.flags import is_sb3, parse_env_kwargs
from agents.run.registry import find, title_of
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
APART = (  # settings that tell no sides apart: they do not change what is learnt
    *("seed", "name", "device", "compile", "eval_freq", "eval_episodes", "final_eval_episodes", "save_freq"),
    *(
        "eval_share",
        "video_freq",
        "record_every",
        "histogram_freq",
        "one_instance",
        "metrics",
        "action_names",
        "observation_names",
    ),
)
ROUNDING = ("auto", "float32", "tf32")  # of `precision`, which is the device's choice but for bfloat16
SHORT = 60  # letters of a side's name, where there is a choice
NONE = np.empty(0)


@dataclass(frozen=True)
class Entry:
    """A run folder of ours, or a model of SB3's.

    Attributes:
        name: what it was called, or "".
        settings: what tells sides apart, as far as it is known without running code.
        curve: steps, mean returns and seconds of its evaluations; empty for a model of SB3's.
        best: the highest of them.
        final: returns of its own final evaluation; empty where there is none.
        fresh: these were played for this comparison instead.
        figures: as `RunResult` has them.
    """

    path: Path
    env: str
    env_kwargs: dict[str, Any]
    algo: str
    seed: int
    name: str
    settings: dict[str, Any]
    curve: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] = (NONE, NONE, NONE)
    best: float = -np.inf
    final: NDArray[np.float64] = field(default_factory=lambda: NONE)
    fresh: bool = False
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def sb3(self) -> bool:
        return is_sb3(self.path)

    @property
    def place(self) -> str:
        """The environment with its arguments and its wrappers."""
        around = self.settings.get("wrappers") or ()
        given = ", ".join([*(f"{key}={value}" for key, value in sorted(self.env_kwargs.items())), *map(str, around)])
        return f"{self.env} ({given})" if given else self.env


def compare_trained(options: Options, command: str, console: Console) -> dict[str, Any]:
    """Compare what `options.runs` names, in each environment, and print what is found.

    Returns:
        `reports`, for each environment its verdict, sides and files, and what was `left_out`, path -> why.

    Raises:
        UserError: fewer than two can be compared, or a file cannot be used.
    """
    entries, left_out = read_entries(options)
    curves = [curve for file in options.files for curve in read_results(file)]
    places = dict.fromkeys(entry.place for entry in entries)
    out = options.out or OUT
    todo = []
    for place in places:
        here = [entry for entry in entries if entry.place == place]
        own = [curve for curve in curves if curve.key.env in (place, here[0].env)]
        if len(here) > 1 and not all(_known(here)):
            here = _played(here, left_out, options, console)
        if len(here) + len(own) > 1:
            todo.append((here, own))
        else:
            left_out |= {entry.path: f"nothing else is on {place}" for entry in here}
    for path, why in left_out.items():
        console.print(f"left out: {path}: {why}", style="dim")
    if not todo:
        reasons = "; ".join(f"{path}: {why}" for path, why in left_out.items())
        raise UserError(f"nothing to compare: at least two runs on one environment expected. {reasons}")
    reports = []
    for here, own in todo:
        folder = out / env_label(here[0].place) if len(todo) > 1 else out
        reports.append(_compare_here(here, own, folder, options, command, console))
    return {"reports": reports, "left_out": {str(path): why for path, why in left_out.items()}}


def read_entries(options: Options) -> tuple[list[Entry], dict[Path, str]]:
    """Return what can be compared, each once, and why the rest cannot.

    Raises:
        UserError: a path does not exist, or a model of SB3's is not trusted or lacks its environment.
    """
    paths = {path.resolve(): path for given in options.runs for path in _expanded(given)}
    entries, left_out = dict[Path, Entry](), dict[Path, str]()
    for path in paths.values():
        if not path.exists():
            raise UserError(f"{path} does not exist. Run folders and models of stable-baselines3 (.zip) are compared.")
        if not is_sb3(path):
            try:
                entries[path] = _our_entry(path, options.trust)
            except UserError as error:
                left_out[path] = _without_path(error, path)
    models = [path for path in paths.values() if is_sb3(path)]
    if options.env and not models:
        raise UserError("--env: it says what a MODEL.zip learnt; run folders know it themselves")
    envs = {entry.place: (entry.env, entry.env_kwargs) for entry in entries.values()}
    entries |= {path: _sb3_entry(path, options, list(envs.values())) for path in models}
    return [entries[path] for path in paths.values() if path in entries], left_out


def _without_path(error: UserError, path: Path) -> str:
    """Return what an error says of a path, in short."""
    said = str(error).partition(" A run holds")[0]
    return printable(said.removeprefix(str(path)).lstrip(" :/"))


def _expanded(path: Path) -> list[Path]:
    """Return what a pattern such as runs/* means where the shell has left it as it is."""
    if "*" not in path.name or path.exists():
        return [path]
    return sorted(path.parent.glob(path.name)) or [path]


def _our_entry(path: Path, trust: bool) -> Entry:
    run = read_stored(path)
    settings, _ = code.find(run.settings, path, str(path / "config.yaml"), trust)
    with suppress(UserError):  # with the defaults of settings that are newer than the run
        settings = RunConfig.from_dict(settings, str(path / "config.yaml")).model_dump(mode="json")
    figures = {"steps": float(run.steps)}
    if run.train_seconds > 0:
        figures |= {"train_seconds": run.train_seconds, "steps_per_s": run.steps / run.train_seconds}
    best = -np.inf if run.best is None else run.best
    return Entry(
        path=path,
        env=settings["env"],
        env_kwargs=run.env_kwargs,
        algo=settings["algo"],
        seed=run.seed,
        name=run.name,
        settings={name: value for name, value in settings.items() if _tells(name, value)},
        curve=run.curve,
        best=best,
        final=run.final_returns(),
        figures=figures,
    )


def _tells(name: str, value: Any) -> bool:
    """Whether a setting tells sides apart."""
    return name not in APART and not (name == "precision" and value in ROUNDING)


def _sb3_entry(path: Path, options: Options, envs: Sequence[tuple[str, dict[str, Any]]]) -> Entry:
    """Describe a model that learnt in the environment that `options` says, or else in the one of the runs."""
    from agents.lab.sb3_policy import refuse_untrusted, sb3_algo, sb3_data

    refuse_untrusted(path, options.trust)
    if len(options.env or envs) != 1:
        raise UserError(f"{path} does not say which environment it learnt: add --env, as in --env CartPole-v1")
    env, kwargs = (options.env[0], {}) if options.env else envs[0]
    data, algo = sb3_data(path), sb3_algo(path)
    if algo is None:
        raise UserError(f"{path} does not say which algorithm it is of")
    steps, seed = data.get("num_timesteps"), data.get("seed")
    plain = {name: data[name] for name in find(algo).config.flat_fields() if isinstance(data.get(name), int | float)}
    settings = {"algo": algo, **plain}  # of the same names as ours
    kwargs = kwargs | parse_env_kwargs(options.env_kwargs)
    seed = seed if isinstance(seed, int) else 0
    figures = {"steps": float(steps)} if isinstance(steps, int) else {}
    name = f"{path.stem} (SB3 {title_of(algo)})"
    return Entry(path, env, kwargs, algo, seed, name, settings, figures=figures)


def sides_of(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return label -> its runs: those of the same settings, whose seeds differ.

    A seed that is there again is another side: the same training, done twice.
    """
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        settings = json.dumps(entry.settings, sort_keys=True, default=str)
        key: tuple[Any, ...] = (entry.path,) if entry.sb3 else (settings,)
        again = 0
        while any(other.seed == entry.seed for other in groups.get((*key, again), ())):
            again += 1
        groups.setdefault((*key, again), []).append(entry)
    return dict(zip(_labels(list(groups.values())), groups.values(), strict=True))


def _labels(groups: Sequence[Sequence[Entry]]) -> list[str]:
    """Name sides by the first of these that tells them apart: given names or algorithms, settings, folders, paths."""
    differing = settings_table({str(i): group[0].settings for i, group in enumerate(groups)}, differing=True).rows
    named = [(group[0].name, title_of(group[0].algo), group) for group in groups]
    ways: list[list[str]] = [
        [(name if len({entry.name for entry in group}) == 1 else "") or algorithm for name, algorithm, group in named],
        [", ".join(f"{row[0]}={row[i + 1]}" for row in differing) for i in range(len(groups))],
        [group[0].path.name for group in groups],
    ]
    for way in ways:
        if all(way) and len(set(way)) == len(way) and max(map(len, way)) <= SHORT:
            return [printable(label) for label in way]
    return [printable(f"{i}: {group[0].path}")[:200] for i, group in enumerate(groups, 1)]


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
    algos = "/".join(dict.fromkeys(title_of(entry.algo) for entry in entries))
    algo = first.algo if len({entry.algo for entry in entries}) == 1 else algos
    runs = [_result(entry, RunKey(first.place, algo, label, entry.seed)) for label in sides for entry in sides[label]]
    runs += [replace(curve, key=curve.key._replace(env=first.place, algo=algo)) for curve in curves]
    references = {first.place: Reference(threshold=reward_threshold(first.env))}
    imported = list(dict.fromkeys(curve.key.label for curve in curves))
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
    episodes = f"{one.final.size:,} episodes"
    played = (
        "Not all of them have a final evaluation of their own of as many episodes, so the final policies were played "
        f"afresh: {episodes}, the same for all, with the most likely actions."
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
    from agents.run.evaluator import PARALLEL

    episodes, seed = options.final_eval_episodes, derive_seed(0, "compare")
    first = entries[0]
    vec = "native" if has_native(first.env) and not first.settings.get("wrappers") else "sync"
    console.print(f"playing {episodes:,} episodes with each of {plural(len(entries), 'run')}", style="dim")
    found = []
    for entry in entries:
        count = min(PARALLEL[vec], episodes)
        try:
            env, policy = _open(entry, count, vec=vec, checkpoint="latest", render=False, options=options)
        except UserError as error:
            left_out[entry.path] = _without_path(error, entry.path)
            continue
        with closing(env):
            found.append(replace(entry, final=evaluate(env, policy, episodes, seed).returns, fresh=True))
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
