"""The report of one run: what it reached, how it got there, and what it is made of, on one page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.lab.comparison.report import settings_table
from agents.lab.document import Document, Table
from agents.lab.drawing import Picture, logarithmic, make_picture, shorten
from agents.lab.foretold import show_foretold
from agents.lab.statistics import estimate, mean
from agents.lab.stored import StoredRun, read_stored
from agents.lab.words import interval, number, plural, thousands
from agents.run import code
from agents.run.config import FLAGS, Layer, resolve
from agents.run.curves import Curve, read_curves
from agents.run.doctor.sink import read_diagnoses
from agents.run.dry import layers
from agents.run.folder import RunFolder
from agents.run.models import load_policy
from agents.run.recording import videos_of
from agents.run.registry import title_of
from agents.run.storage import disk, read_bytes, write_text
from agents.run.summary import resume_command
from agents.run.terminal import typed
from envs.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIRST = ("eval/mean_reward", "rollout/ep_rew_mean", "eval/success_rate", "rollout/success_rate")
MOST_CURVES = 40
MOST_VIDEO = 16 * 2**20  # bytes
OWN = ("env", "env_kwargs", "algo", "seed", "name", "device", "trust")  # settings that are a run's own


def write_page(path: Path, out: Path, replays: Path, trust: code.Trust = False) -> tuple[Path, dict[str, Any]]:
    """Write the report of a run; return where it is, and what is in it for programs.

    Args:
        path: of the run.
        out: folder of the report.
        replays: where recorded episodes lie.
        trust: which code outside the package that the run names may be imported (`code.refuse`).

    Raises:
        UserError: there is no run, it is damaged, or nothing can be written.
    """
    run = read_stored(path)
    curves = read_curves(path / "evaluations.csv") | read_curves(path / "progress.csv")
    document = Document(f"{title_of(run.algo)} on {run.env}, seed {run.seed}")
    found = _reached(document, run)
    show_foretold(document, path)
    _illnesses(document, path)
    _curves(document, curves)
    _evaluations(document, run, curves)
    found["video"] = _video(document, path, run, replays)
    _made_of(document, path, trust)
    _commands(document, path)
    with disk("write", out):
        out.mkdir(parents=True, exist_ok=True)
    page = out / "index.html"
    write_text(page, document.html())
    return page, found


def _reached(document: Document, run: StoredRun) -> dict[str, Any]:
    returns = run.final_returns()
    found: dict[str, Any] = {"run": str(run.path), "state": run.state, "steps": run.steps, "best": run.best}
    lines = [f"{run.state}, {run.steps:,} steps"]
    if returns.size:
        value, low, high = estimate(mean, [returns])
        found |= {"mean": value, "low": low, "high": high, "episodes": len(returns)}
        between = f" (95% interval {interval(low, high)})" if not math.isnan(low) else ""
        lines.append(f"final policy: {number(value)}{between} over {plural(len(returns), 'fresh episode')}")
        worst, best = int(returns.argmin()), int(returns.argmax())
        lines.append(
            f"best episode: {number(returns[best])} (number {best + 1}); worst: {number(returns[worst])} "
            f"(number {worst + 1})"
        )
    if run.top is not None:
        steps, values, _ = run.curve
        lines.append(f"best evaluation: {number(values[run.top])} at step {int(steps[run.top]):,}")
    document.heading("What it reached", "reached")
    document.lead(lines)
    return found


def _illnesses(document: Document, path: Path) -> None:
    if not (diagnoses := read_diagnoses(path)):
        return
    document.heading("What the training doctor said", "doctor")
    document.bullets([str(one) for one in diagnoses])


def _curves(document: Document, curves: Mapping[str, Curve]) -> None:
    shown = {tag: curve for tag, curve in curves.items() if len(curve.steps) > 1}
    if not shown:
        return
    document.heading("Curves", "curves")
    first = [tag for tag in FIRST if tag in shown]
    document.show_pictures([_curve(i, tag, shown[tag]) for i, tag in enumerate(first)])
    rest = [tag for tag in shown if tag not in first][:MOST_CURVES]
    if rest:
        with document.folded(f"All others ({len(rest)})"):
            document.show_pictures([_curve(i, tag, shown[tag]) for i, tag in enumerate(rest, len(first))])


def _curve(count: int, tag: str, curve: Curve) -> Picture:
    def paint(axes: Axes) -> None:
        axes.plot(curve.steps, curve.values)
        axes.set_title(shorten(tag, 44))
        axes.set_xlabel("environment steps")
        axes.margins(y=0.1)
        axes.xaxis.set_major_formatter(lambda value, _: thousands(value))

    return make_picture(f"curve-{count:02}", f"{tag}: {number(curve.values[-1])} at the end", 2.2, paint)


def _evaluations(document: Document, run: StoredRun, curves: Mapping[str, Curve]) -> None:
    steps, values, _ = run.curve
    if not steps.size:
        return
    from scipy.stats import t

    deviation = dict(zip(*curves.get("eval/std_reward", Curve([], [])), strict=True))
    length = dict(zip(*curves.get("eval/mean_ep_length", Curve([], [])), strict=True))
    episodes, rows = run.settings.get("eval_episodes"), []
    deviations = math.nan  # of the population, on either side
    if isinstance(episodes, int) and episodes > 1:
        deviations = t.ppf(0.975, episodes - 1) / math.sqrt(episodes - 1)
    for step, value in zip(steps.astype(int).tolist(), values.tolist(), strict=True):
        std = deviation.get(step, math.nan)
        error = deviations * std
        of_it = number(length[step]) if step in length else ""
        rows.append([f"{step:,}", number(value), interval(value - error, value + error), number(std), of_it])
    document.heading("Evaluations", "evaluations")
    document.table(Table(["step", "mean return", "95% interval", "deviation", "mean length"], rows, texts=0))
    document.text(
        "Each is over fresh greedy episodes; intervals are Student's t intervals over an evaluation's episodes.",
        note=True,
    )


def _video(document: Document, path: Path, run: StoredRun, replays: Path) -> str | None:
    """Show the newest recorded episode, or else the newest video of the training; return which."""
    for file in videos_of(path, run.env, replays):
        try:
            content = read_bytes(file, MOST_VIDEO)
        except UserError:
            continue
        if content[4:8] == b"ftyp":
            document.heading("A recorded episode", "video")
            document.video("episode.mp4", content, file.name)
            return str(file)
    return None


def _made_of(document: Document, path: Path, trust: code.Trust) -> None:
    """Show the network and the settings, as far as the code that they name may run."""
    folder = RunFolder(path)
    try:
        config = folder.config(trust)
        loaded = load_policy(path, "best", trust=trust)
        rows = list(layers(loaded.policy.model, loaded.observation_space))
    except UserError as error:
        document.heading("Network and settings", "network")
        document.text(f"They cannot be shown: {error}")
        return
    document.heading("The network", "network")
    document.show_pictures([_network(rows)])
    cells = [
        [row.name, row.kind, " x ".join(map(str, row.output)) or "-", f"{row.parameters:,}", f"{row.multiply_adds:,}"]
        for row in rows
    ]
    document.table(Table(["layer", "kind", "output", "parameters", "multiply-adds"], cells, texts=3))
    document.heading("Settings", "settings")
    own = config.model_dump(mode="json")
    packaged = resolve([Layer(FLAGS, {"env": config.env, "algo": config.algo})]).model_dump(mode="json")
    chosen = [name for name, value in own.items() if name not in OWN and packaged.get(name) != "auto"]
    sides = {"this run": {name: own[name] for name in chosen}}
    sides["packaged"] = {name: packaged[name] for name in chosen if name in packaged}
    differing = settings_table(sides, differing=True)
    if differing.rows:
        document.text("Where they differ from the packaged ones:")
        document.table(differing)
    else:
        document.text("They are the packaged ones.")
    with document.folded("All of them"):
        document.table(settings_table({"this run": own}))


def _network(rows: list[Any]) -> Picture:
    """Draw each layer as a bar as long as its share of the parameters, in the order in which they act."""
    shown = rows[:24]

    sizes = [max(row.parameters, 0.5) for row in shown]

    def paint(axes: Axes) -> None:
        places = range(len(shown))
        axes.barh(places, sizes, color="#0072B2", height=0.6)
        names = [f"{shorten(row.name, 26)} ({' x '.join(map(str, row.output)) or '-'})" for row in shown]
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        logarithmic(axes, min(sizes), max(sizes))
        axes.set_xlabel("parameters")
        axes.set_title("its layers in order")
        axes.grid(False, axis="y")

    count = sum(row.parameters for row in rows)
    alt = f"The network's layers in order, {count:,} parameters in all"
    return make_picture("network", alt, 0.9 + 0.22 * len(shown), paint)


def _commands(document: Document, path: Path) -> None:
    document.heading("To go on", "commands")
    document.code("\n".join(_lines(path)))


def _lines(path: Path) -> Iterator[str]:
    yield typed("python", "-m", "agents.watch", path)
    yield typed("python", "-m", "agents.evaluate", path)
    yield typed("python", "-m", "agents.explain", path)
    yield resume_command(path)
