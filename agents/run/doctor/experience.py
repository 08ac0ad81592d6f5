"""Rules of what a training learns from: rewards, observations, actions, episodes and evaluations."""

from __future__ import annotations

from collections.abc import Iterator

from agents.run.doctor.diagnosis import Diagnosis
from agents.run.doctor.history import History

FEW_LOOKS = 5  # at observations, over as many thousands of steps: what is rare has been seen by then
FEW_STEPS = 1_000  # of each environment, in which an episode should end somewhere
LARGE_INPUT, LARGE_REWARD, SMALL_REWARD = 1e3, 1e3, 1e-3
FEWEST_EVALUATIONS = 3  # one after the other, that are worse than training


def reward_scale(h: History) -> Iterator[Diagnosis]:
    """Rewards far from 1, where nothing scales them."""
    if any(h.facts.get(name) not in (None, False, "none") for name in ("norm_reward", "clip_reward", "norm_value")):
        return
    size = h.now("doctor/reward_size", 1)
    if size is None:
        return_, length = h.now("rollout/ep_rew_mean"), h.now("rollout/ep_len_mean")
        size = None if return_ is None or not length else abs(return_) / max(length, 1.0)
        if size is not None and size < SMALL_REWARD:  # perhaps they are rare
            return
    if size and (size > LARGE_REWARD or size < SMALL_REWARD):
        yield Diagnosis(
            "reward scale far from 1",
            max(size, 1 / size),
            f"a reward that is not 0 has a size of {size:.3g}",
            "--norm-reward, or rewards scaled in the environment",
            h.step,
        )


def input_scale(h: History) -> Iterator[Diagnosis]:
    """Numbers that reach the network far larger than 1."""
    size = h.now("doctor/input_size", 1)
    if size is not None and size > LARGE_INPUT:
        name = h.words.get("doctor/input_size", "a number")
        yield Diagnosis(
            "observations never normalised",
            size,
            f"{name} has a size of {size:.3g} where it reaches the network",
            "--norm-obs, or observations scaled in the environment",
            h.step,
        )


def constant_features(h: History) -> Iterator[Diagnosis]:
    """Numbers of observations that have never changed."""
    looks = h.points("doctor/constant_features")
    count = looks[-1].value if looks else 0.0
    if count and len(looks) >= FEW_LOOKS and h.step >= FEW_LOOKS * FEW_STEPS:
        yield Diagnosis(
            "constant features",
            count,
            f"{count:.0f} number{'' if count == 1 else 's'} of the observation did not change in {len(looks)} looks: "
            f"{h.words.get('doctor/constant_features', 'the same ones')}",
            "leave them out of the observation, or look for why the environment never changes them",
            h.step,
        )


def action_bounds(h: History) -> Iterator[Diagnosis]:
    """Actions that are nearly all beyond the bounds, or never come near them."""
    hit, reach = h.now("doctor/actions_at_bounds", 1), h.now("doctor/action_reach", 1)
    if hit is not None and hit > 0.95 and not h.learnt():
        yield Diagnosis(
            "action bounds always hit",
            1 / max(1 - hit, 1e-3),
            f"{hit:.0%} of the actions' numbers are at a bound or beyond",
            "--rescale-action, a smaller --log-std-init, a smaller --learning-rate",
            h.step,
        )
    if reach is not None and reach < 0.1 and not h.learnt():
        yield Diagnosis(
            "action bounds never reached",
            0.1 / max(reach, 1e-6),
            f"the largest action comes to {reach:.1%} of the way from the middle to a bound",
            "--rescale-action, a larger --log-std-init",
            h.step,
        )


def endless_episodes(h: History) -> Iterator[Diagnosis]:
    """An environment in which no episode ever ends."""
    each = h.step / max(h.number("n_envs", 1), 1)
    known = "time_limit" in h.facts
    if h.facts.get("time_limit") or h.points("rollout/ep_len_mean") or each < (FEW_STEPS if known else 10_000):
        return
    yield Diagnosis(
        "episodes never end",
        each,
        f"no episode has ended in {each:,.0f} steps of each environment",
        "a time limit: --env-kwargs max_episode_steps=1000, or terminated where the task is over"
        + ("" if known else "; or a Monitor around the environment, which notes episodes"),
        h.step,
    )


def instant_episodes(h: History) -> Iterator[Diagnosis]:
    """An environment whose episodes end with their first step, of which nothing is learnt; a bandit's do by nature."""
    points = h.points("rollout/ep_len_mean")
    if len(points) >= 1 and h.step >= 100 and all(point.value <= 1.0 for point in points) and not h.learnt():
        yield Diagnosis(
            "episodes end at once",
            1.0,
            f"all episodes up to step {h.step:,} had one step (rollout/ep_len_mean)",
            "a look at what sets terminated in the environment's step()",
            h.step,
        )


def evaluation_gap(h: History) -> Iterator[Diagnosis]:
    """Evaluations far below what training earns at the same time."""
    means, spreads = h.points("eval/mean_reward"), dict(h.points("eval/std_reward"))
    trained = h.points("rollout/ep_rew_mean")
    exploring = h.now("rollout/exploration_rate", 1) or 0.0
    if len(means) < FEWEST_EVALUATIONS or not trained or exploring > 0.1 or h.progress < 0.2:
        return  # at first, what is greedy may well be worse than what is random
    if h.now("eval/cut_episodes", 1):
        return  # evaluations are shorter than training's episodes
    if abs(trained[-1].value) < max((point.value for point in h.points("doctor/reward_size")), default=0.0):
        return  # less than one reward an episode: chance decides
    gaps, lately = [], means[-FEWEST_EVALUATIONS:]
    for step, mean in lately:
        before = [point.value for point in trained if point.step <= step] or [trained[0].value]
        gaps.append((before[-1] - mean) / max(3 * spreads.get(step, 0.0), 0.5 * abs(before[-1]), 1e-6))
    if min(gaps) > 1:
        yield Diagnosis(
            "evaluation far from training",
            min(gaps),
            f"the last {FEWEST_EVALUATIONS} evaluations came to {', '.join(f'{gap.value:.4g}' for gap in lately)}, and "
            f"training earns {trained[-1].value:.4g}",
            "a look at what differs: greedy actions, wrappers, normalised observations, the environment's arguments",
            h.step,
        )
