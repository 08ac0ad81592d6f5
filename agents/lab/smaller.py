"""A policy beside what was made of it: how large both are, and what they reach on the same episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from agents.lab.statistics import summarise
from agents.lab.words import interval, number
from agents.run.build import flops
from agents.run.models import LoadedPolicy
from agents.run.play import measure
from agents.run.terminal import console
from envs.seeding import derive_seed


@dataclass(frozen=True, slots=True)
class Measured:
    """One policy.

    Attributes:
        parameters, nonzero: of the network; those that are not 0.
        multiply_adds: of one observation, in what acts.
        mean, low, high: return of greedy episodes: its mean, and the 95% interval of that.
    """

    parameters: int
    nonzero: int
    multiply_adds: int
    mean: float
    low: float
    high: float


def measured(loaded: LoadedPolicy, episodes: int, seed: int) -> Measured:
    """Play fresh episodes greedily, the same for all that are measured with one seed.

    Raises:
        UserError: the environment cannot be made.
    """
    result = measure(loaded, episodes, derive_seed(seed, "evaluate"))
    found, model = summarise(result.returns, result.lengths), loaded.policy.model
    each = [parameter.detach() for parameter in model.parameters()]
    return Measured(
        parameters=sum(parameter.numel() for parameter in each),
        nonzero=sum(int(parameter.count_nonzero()) for parameter in each),
        multiply_adds=flops(model, loaded.observation_space),
        mean=float(found["mean"]),
        low=float(found["ci_low"]),
        high=float(found["ci_high"]),
    )


def side_by_side(policies: Mapping[str, LoadedPolicy], episodes: int, seed: int, quiet: bool) -> dict[str, Any]:
    """Measure policies, print them as a table, and return the same by name."""
    rows = [(name, measured(one, episodes, seed)) for name, one in policies.items()]
    console(quiet=quiet).print(table(rows))
    return {name: asdict(one) for name, one in rows}


def table(rows: Sequence[tuple[str, Measured]]) -> Table:
    """Return them as a table."""
    found = Table(box=None, pad_edge=False)
    found.add_column("")
    for head in ("parameters", "not 0", "multiply-adds", "return", "95% interval"):
        found.add_column(head, justify="right")
    for name, one in rows:
        counts = (one.parameters, one.nonzero, one.multiply_adds)
        found.add_row(name, *(f"{count:,}" for count in counts), number(one.mean), interval(one.low, one.high))
    return found
