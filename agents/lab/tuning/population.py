"""Population-based training (Jaderberg et al. 2017, arXiv:1711.09846): settings change while networks are trained.

A trial is one interval of one member. It goes on from the state that another trial ended in: the member's own last one
or, where that is among the worst, one of the best, with settings that are changed a little. So all that a study
promises of trials holds of intervals. Here is what comes next; pure functions of the trials there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from agents.lab.tuning.plan import Plan
from agents.lab.tuning.space import Choices, Range, Space, parameters
from envs.seeding import derive_seed

MEMBER, INTERVAL, PARENT = "member", "interval", "parent"
STATES = "members"  # the folder of what trials ended with
SHARE = 0.25  # of the members: the worst go on from the best
FACTORS = (0.8, 1.2)  # by one of which a number changes (sec. 4.1)
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def state_of(folder: Path, trial: int) -> Path:
    """Return the folder with what a trial ended with: its model, and the state of its training."""
    return folder / STATES / str(trial)


def unfinished(plan: Plan, trials: Sequence[FrozenTrial]) -> int:
    """Return how many members have intervals left, of which each can be trained by one worker at a time."""
    done = [t.user_attrs.get(MEMBER) for t in trials if t.state in ENDED]
    return sum(done.count(member) < plan.evaluations for member in range(plan.population))


def next_interval(
    plan: Plan, trials: Sequence[FrozenTrial], tries: int
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return Optuna's parameters and the attributes of the interval to begin next; None where there is none now.

    The member that is furthest behind comes first. Parameters that are left out are to be drawn.

    Args:
        trials: those that count, in the order of their numbers.
        tries: how many were drawn that excluded one another, lest the same be drawn again.
    """
    members: dict[int, list[FrozenTrial]] = {member: [] for member in range(plan.population)}
    for trial in trials:
        members[trial.user_attrs[MEMBER]].append(trial)
    free = [
        member
        for member, own in members.items()
        if len(own) < plan.evaluations and all(trial.state in ENDED for trial in own)
    ]
    if not free:
        return None
    member = min(free, key=lambda one: len(members[one]))
    interval = len(members[member])
    found: dict[str, Any] = {MEMBER: member, INTERVAL: interval}
    if not interval:
        return (parameters(plan.space, plan.base) if not member else {}), found
    random = Random(derive_seed(member, "population", interval, tries))
    before = [
        own[interval - 1] for own in members.values() if len(own) >= interval and own[interval - 1].state in ENDED
    ]
    parent, changes = goes_on_from(before, members[member][-1], random)
    if parent is None:
        return {}, found  # nothing has ended well yet: a new beginning
    params = explored(plan.space, parent.params, random) if changes else dict(parent.params)
    return params, {**found, PARENT: parent.number}


def goes_on_from(before: Sequence[FrozenTrial], mine: FrozenTrial, random: Random) -> tuple[FrozenTrial | None, bool]:
    """Return the trial that a member goes on from, and whether with changed settings; None where all failed.

    Truncation selection (sec. 4.1): the worst `SHARE` of the members go on from one of the best `SHARE`.

    Args:
        before: the intervals of all members, as far as they have ended, of which the member's last, `mine`, is one.
    """
    ranked, some = sorted(before, key=worth, reverse=True), max(int(len(before) * SHARE), 1)
    best = [trial for trial in ranked[:some] if worth(trial) > -math.inf]
    is_bad = mine in ranked[-some:] and mine not in best
    if worth(mine) > -math.inf and not is_bad:
        return mine, False
    return (random.choice(best), True) if best else (None, False)


def worth(trial: FrozenTrial) -> float:
    """Return what a trial came to; minus infinity where it did not end well."""
    return float(trial.values[0]) if trial.state is TrialState.COMPLETE and trial.values else -math.inf


def explored(space: Space, params: Mapping[str, Any], random: Random) -> dict[str, Any]:
    """Return parameters that are changed a little: numbers by a factor, choices to one of their neighbours."""
    return {name: _neighbour(space[name], value, random) if name in space else value for name, value in params.items()}


def _neighbour(dimension: Range | Choices, value: Any, random: Random) -> Any:
    if isinstance(dimension, Choices):
        at = dimension.texts.index(value) + random.choice((-1, 1))
        return dimension.texts[min(max(at, 0), len(dimension.texts) - 1)]
    found = value * (factor := random.choice(FACTORS))
    if dimension.whole:  # by one at the least, or a small number would always stay
        found = max(round(found), value + 1) if factor > 1 else min(round(found), value - 1)
    found = min(max(found, dimension.low), dimension.high)
    return round(found) if dimension.whole else found


def lineage(trials: Sequence[FrozenTrial], last: FrozenTrial) -> list[FrozenTrial]:
    """Return the trials that led to one, the first first."""
    found = [last]
    while (parent := found[-1].user_attrs.get(PARENT)) is not None:
        found.append(trials[parent])
    return found[::-1]


def needed(plan: Plan, trials: Sequence[FrozenTrial]) -> set[int]:
    """Return the numbers of the trials whose states others may yet go on from, and of each member's last."""
    ended = [trial.user_attrs[MEMBER] for trial in trials if trial.state in ENDED]
    behind = min(ended.count(member) for member in range(plan.population))
    whole = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return {trial.number for trial in whole if trial.user_attrs[INTERVAL] >= behind - 1}
