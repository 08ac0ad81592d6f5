"""A run tried out: its network as a table, what it takes, and how long it would last; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from gymnasium import Space
from rich.table import Table

from agents.core.config import AlgoConfig, OffPolicyConfig
from agents.networks.encoders import Counted, counted
from agents.networks.parts import parts
from agents.run.build import build, looked_at
from agents.run.config import RunConfig
from agents.run.header import understood
from agents.run.memory import COPIES
from agents.run.sinks import duration
from agents.run.terminal import console, say
from agents.run.training import Training
from agents.run.transfer import begin, changed

SECONDS = 5.0  # that a run is tried for, once it learns
LONGEST = 30.0  # seconds in all, where two rounds take no longer
LEAST, MOST = 3, 200  # rounds that are timed


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What a run would take.

    Attributes:
        parameters: of the network that is trained.
        multiply_adds: of one observation, in all networks that an update calls.
        network_bytes: weights, their gradient and the optimiser's moments.
        data_bytes: of the replay buffer or of a rollout.
        steps_per_s: environment steps, while it learns.
        seconds: of the whole training, without evaluations, checkpoints and recordings.
    """

    parameters: int
    multiply_adds: int
    network_bytes: int
    data_bytes: int
    steps_per_s: float
    seconds: float


def dry_run(config: RunConfig, runs_dir: Path, quiet: bool = False) -> dict[str, Any]:
    """Build what `config` says, train it for some seconds, and say what a run of it would be.

    Returns:
        `RunEstimate` as a dict.

    Raises:
        UserError: as `agents.run.runner.train` would before its first step.
    """
    with closing((training := build(config)).env):
        training.refuse_too_large_on_disk(runs_dir, resumed=False)
        begin(training)
        rows = list(layers(training.algorithm.model, training.env.observation_space))
        data_bytes = training.data_bytes
        if not quiet:  # before it is timed, which takes a while
            say(*understood(training), *changed(training))
            console().print(table(rows))
            say(f"parts for --freeze, --reset and --lr-scale, or what is in them: {', '.join(tops(training))}")
    with closing((tried := build(shortened(config))).env):
        rate, seconds = timed(tried, config.params)
    parameters = sum(parameter.numel() for parameter in training.algorithm.model.parameters())
    found = RunEstimate(
        parameters=parameters,
        multiply_adds=sum(layer.multiply_adds for layer in rows),
        network_bytes=4 * parameters * COPIES.get(config.params.optimizer, 4),
        data_bytes=data_bytes,
        steps_per_s=round(rate, 1),
        seconds=round(seconds, 1),
    )
    if not quiet:
        say(*sentences(found, config.params))
    return asdict(found)


def layers(model: Any, observation_space: Space) -> Iterator[Counted]:
    """Yield the network's layers that have weights, in the order in which they act, with what each of them takes."""
    found: dict[str, Counted] = {}
    seen = looked_at(model, observation_space)
    for layer in counted(model, *seen, call=getattr(model, "judge", None)):
        before = found.get(layer.name)  # it may be called several times, as a cell over a text
        more = layer.multiply_adds + (0 if before is None else before.multiply_adds)
        found[layer.name] = layer._replace(multiply_adds=more)
    yield from found.values()
    for name, module in model.named_modules():
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        if own and name not in found:
            yield Counted(name or "(itself)", type(module).__name__, (), own, 0)


def tops(training: Training) -> list[str]:
    """Return the names of the network's largest parts."""
    return [name for name in parts(training.algorithm.model) if "." not in name]


def table(rows: list[Counted]) -> Table:
    """Return the network as a table."""
    found = Table(title="the network", title_justify="left")
    for head, side in (("layer", "left"), ("kind", "left"), ("output", "left"), ("parameters", "right")):
        found.add_column(head, justify=side, overflow="fold")  # type: ignore[arg-type]
    found.add_column("multiply-adds", justify="right")
    for row in rows:
        shape = " x ".join(map(str, row.output)) or "-"
        found.add_row(
            row.name, row.kind, shape, f"{row.parameters:,}", f"{row.multiply_adds:,}" if row.multiply_adds else "-"
        )
    return found


def sentences(found: RunEstimate, params: AlgoConfig) -> Iterator[str]:
    """Yield the estimate in words."""
    what = "replay buffer" if isinstance(params, OffPolicyConfig) else "rollout"
    yield (
        f"one observation takes {found.multiply_adds:,} multiply-adds; network and optimiser take "
        f"{found.network_bytes / 1e6:,.1f} MB, the {what} {found.data_bytes / 1e6:,.1f} MB"
    )
    yield (
        f"{params.total_timesteps:,} steps would take {duration(found.seconds)} at {found.steps_per_s:,.0f} steps/s, "
        "evaluations and recordings aside"
    )
    yield "nothing was written (--dry-run)"


def shortened(config: RunConfig) -> RunConfig:
    """Return a configuration that learns as soon as it can, and keeps nothing on the disk."""
    params = config.params
    if not isinstance(params, OffPolicyConfig):
        return config
    replay, n = params.replay, params.n_envs
    whole = (replay.burn_in + replay.sequence_length) * n if params.network.recurrence.memory else 0
    starts = min(replay.learning_starts, max(params.batch_size, whole, 2 * n))
    storage = "memory" if replay.replay_storage == "disk" else replay.replay_storage
    replay = replay.model_copy(update={"learning_starts": starts, "replay_storage": storage})
    return config.model_copy(update={"params": params.model_copy(update={"replay": replay})})


def timed(training: Training, params: AlgoConfig) -> tuple[float, float]:
    """Train for some seconds; return the steps a second while it learns, and the seconds that all of it would take."""
    marks: list[tuple[int, float]] = []
    began = perf_counter()
    acting: tuple[int, float] = (0, began)
    for iteration in training.iterations():
        now = perf_counter()
        if not iteration.metrics:
            acting = iteration.step, now  # nothing is learnt yet
            continue
        marks.append((iteration.step, now))
        enough = len(marks) > LEAST and now - marks[0][1] > SECONDS
        if enough or len(marks) > MOST or (len(marks) > 1 and now - began > LONGEST):
            break
    if len(marks) < 2:  # one round is all there is, the first, which takes longest
        marks = [(acting[0], acting[1]), *(marks or [(training.step, perf_counter())])]
    (first, start), (last, end) = marks[0], marks[-1]
    rate = (last - first) / max(end - start, 1e-9)
    starts = params.replay.learning_starts if isinstance(params, OffPolicyConfig) else 0
    acts = acting[0] / max(acting[1] - began, 1e-9) if acting[0] else rate
    rate = rate or acts  # nothing is learnt in so few steps
    total = params.total_timesteps
    return rate, min(starts, total) / acts + max(total - starts, 0) / rate
