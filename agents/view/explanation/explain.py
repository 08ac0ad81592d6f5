"""Why a policy acts as it does: what counts for it, what that is worth, and the decisions of one episode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from agents.acting.evaluation import Evaluation, evaluate
from agents.lab.statistics import Difference, difference
from agents.run.evaluator import most_steps_of
from agents.run.models import LoadedPolicy
from agents.run.play import PARALLEL, policy_env
from agents.view.explanation.attribution import gradients, integrated, occluded, refuse_without_captum
from agents.view.explanation.decisions import DECIDING
from agents.view.explanation.effects import Effect, Importance, Subject, importances
from agents.view.explanation.features import features_of, picture_leaves
from agents.view.explanation.states import Sample, Shown, States, greedy, replacing
from agents.view.explanation.timeline import Rewards, Timeline, record, render_frames
from envs.errors import UserError
from envs.names import Names
from envs.seeding import derive_seed

NEIGHBOURS = 256  # other states whose values a feature takes at one moment
Key = TypeVar("Key")
Working = Callable[[str, str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class Reason:
    """What one decision came from.

    Attributes:
        at: its place in the timeline, from 0.
        parts: each feature's name and what it adds to the score over that of the mean observation, the one that adds
            most first: of a choice with its sign (for or against it), of several numbers its mean size. Those without
            a gradient are left out.
        most, least: the first and the last of the features, and how far the action changes where it is that of other
            states.
        heat: method and path of a picture -> what each place is worth to the score, `[*shape]`.
    """

    at: int
    parts: Sequence[tuple[str, float]]
    most: tuple[str, float]
    least: tuple[str, float]
    heat: dict[tuple[str, str], NDArray[np.float64]]


@dataclass(frozen=True)
class Explanation:
    """All that is said of a policy.

    Attributes:
        returns: of episodes that it played unhindered.
        states: how many states the importances are measured in.
        effects: of the feature that counts most and of the one that counts least; one where there is only one.
        frames: place in the timeline -> what was drawn then, `[H, W, 3]`.
        reasons: kind of moment -> the most striking ones.
        notes: sentences on what could not be done.
    """

    loaded: LoadedPolicy
    names: Names
    returns: NDArray[np.float64]
    states: int
    importances: Sequence[Importance]
    effects: Sequence[Effect]
    timeline: Timeline
    frames: dict[int, NDArray[np.uint8]]
    reasons: dict[str, list[Reason]]
    notes: Sequence[str]

    def loss(self, effect: Effect) -> Difference:
        """Return what replacing a feature does to the mean return."""
        return difference(effect.returns, self.returns)


def explain(
    loaded: LoadedPolicy, *, episodes: int, states: int, seed: int, deterministic: bool, working: Working
) -> Explanation:
    """Explain a policy; see `docs/watching.md` for what is measured how.

    Args:
        episodes: so many are played for each mean return.
        states: at most so many of those that it comes to are looked at.
        deterministic: whether the episode of the timeline is played with the most likely actions, as all others are.
        working: shows that work goes on; `agents.run.sinks.Working` without its console.

    Raises:
        UserError: Captum is missing, or the environment cannot be made.
    """
    refuse_without_captum()
    axes, notes = loaded.config.params.network.picture_axes, list[str]()
    timeline, frames, names = _timeline(loaded, derive_seed(seed, "timeline"), deterministic, working, notes)
    if not DECIDING & timeline.moments[0].outputs.keys():
        raise UserError(
            f"{loaded.path}: this policy says neither probabilities nor action values nor means of its actions "
            "(`describe` of `agents.acting.policies`), so that its decisions cannot be explained"
        )
    features = features_of(loaded.observation_space, names, axes)
    with closing(policy_env(loaded, min(PARALLEL, episodes), vec="auto")) as env:

        def played(policy: Any, what: str) -> Evaluation:
            limit = most_steps_of(loaded.config, loaded.env, loaded.env_kwargs)
            with working(what, "episodes") as report:
                return evaluate(env, policy, episodes, derive_seed(seed, "explain"), step_limit=limit, report=report)

        sample = Sample(states, derive_seed(seed, "states"))
        returns = played(Shown(loaded.policy, sample.see), "playing").returns
        kept = sample.states()
        subject = Subject(
            loaded.policy, loaded.observation_space, loaded.action_space, kept, greedy(loaded.policy, kept)
        )
        found = importances(subject, features, derive_seed(seed, "shuffle"))
        effects = []
        for one in dict.fromkeys((0, len(found) - 1)):
            see = replacing(found[one].feature, kept, derive_seed(seed, "replaced"))
            name = found[one].feature.name
            effects.append(Effect(found[one], played(Shown(loaded.policy, see), f"without {name}").returns))
    places = timeline.places()
    reasons = dict(zip(places, _reasons(subject, found, timeline, places, axes), strict=True))
    return Explanation(
        loaded=loaded,
        names=names,
        returns=returns,
        states=len(kept),
        importances=found,
        effects=effects,
        timeline=timeline,
        frames=frames,
        reasons={kind: [reasons[at] for at in kinds] for kind, kinds in timeline.striking().items()},
        notes=notes,
    )


def _timeline(
    loaded: LoadedPolicy, seed: int, deterministic: bool, working: Working, notes: list[str]
) -> tuple[Timeline, dict[int, NDArray[np.uint8]], Names]:
    """Play one episode; return it, its pictures, and the environment's names, which only one that can be drawn has."""
    params: Any = loaded.config.params
    scales = bool(getattr(params, "norm_reward", False))
    rewards = Rewards(params.gamma, clips=params.clip_reward, scales=scales)
    try:
        env, render = policy_env(loaded, render=True), True
    except UserError as error:
        notes.append(f"There are no pictures: {error}.")
        env, render = policy_env(loaded), False
    with closing(env):
        timeline = record(env, loaded.policy, seed, rewards, deterministic=deterministic)
        if scales:
            notes.append(
                "Rewards were scaled for learning, by a number that the model does not hold: values are put into "
                f"units of rewards by an estimate of it from this episode, {timeline.scale:.3g}."
            )
        places = timeline.places() if render else ()
        with working("drawing", "pictures") as report:
            frames = render_frames(env, timeline, places, report)
        if len(frames) < len(places):
            notes.append("Some pictures are missing: played again with the same actions the episode was another one.")
        return timeline, frames, env.names


def _reasons(
    subject: Subject, found: Sequence[Importance], timeline: Timeline, places: Sequence[int], axes: str
) -> list[Reason]:
    """Return what each of these decisions of an episode came from."""
    if not places:
        return []
    states = timeline.states.rows(np.array(places))
    actions = greedy(subject.policy, states)
    question, mean = subject.ask(states, actions), subject.states.mean()
    leaves, heat = integrated(question, mean), dict[tuple[str, str], NDArray[Any]]()
    if layouts := picture_leaves(subject.obs_space, axes):
        found_by = {"occlusion": occluded(question, mean, axes), "integrated gradients": leaves}
        found_by["gradient"] = gradients(question)
        heat = {
            (method, path): found_by[method][path]
            for method in found_by
            for path in layouts
            if path in found_by[method]
        }
    return [
        _reason(subject, found, states.rows(slice(row, row + 1)), at, _of_row(leaves, row), _of_row(heat, row))
        for row, at in enumerate(places)
    ]


def _of_row(leaves: dict[Key, NDArray[Any]], row: int) -> dict[Key, NDArray[np.float64]]:
    """Return one state's numbers, `[*shape]`: with their sign if there is one score, else their mean size."""
    return {key: leaf[0, row] if len(leaf) == 1 else np.abs(leaf[:, row]).mean(axis=0) for key, leaf in leaves.items()}


def _reason(
    subject: Subject,
    found: Sequence[Importance],
    state: States,
    at: int,
    leaves: dict[str, NDArray[np.float64]],
    heat: dict[tuple[str, str], NDArray[np.float64]],
) -> Reason:
    known = [(one.feature, one.feature.summed(leaves)) for one in found]
    parts = {feature: float(part) for feature, part in known if part is not None}
    order = sorted(parts, key=lambda feature: -abs(parts[feature])) or [one.feature for one in found]
    count = min(NEIGHBOURS, len(subject.states))
    same, others = state.rows(np.zeros(count, np.int64)), subject.states.rows(slice(count))
    before = greedy(subject.policy, same)
    most, least = (
        (feature.name, subject.changed(before, States(feature.replaced(same.obs, others.obs), same.carry)))
        for feature in (order[0], order[-1])
    )
    return Reason(at, [(feature.name, parts[feature]) for feature in order if feature in parts], most, least, heat)
