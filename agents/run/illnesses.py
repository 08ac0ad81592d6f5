"""What ails a training, found in its history: each rule is a pure function of named numbers.

A rule yields a `Diagnosis` or nothing. Bounds are far from what trainings that learn well show, as a false alarm costs
more than one that comes late; `docs/watching.md` has the list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

from agents.run.history import History, Point

DEAD, SATURATED = 0.9, 0.9  # of a layer's units
FEW_LOOKS = 5  # at observations, over as many thousands of steps: what is rare has been seen by then
FEW_ROWS = 5  # that say how an algorithm's updates go
FEW_STEPS = 1_000  # of each environment, in which an episode should end somewhere
GROWTH = 30.0  # of gradients since the beginning
HARD_KL, PINNED = 2.0, 0.6
LARGE_INPUT, LARGE_REWARD, SMALL_REWARD = 1e3, 1e3, 1e-3
FEWEST_EVALUATIONS = 3  # one after the other, that are worse than training
LOST = 0.02  # of the first entropy, or of the first deviation


class Diagnosis(NamedTuple):
    """What is wrong.

    Attributes:
        illness: its name.
        badness: > 0; five times as much is worse, and is said again.
        evidence: the numbers it is seen by, in words.
        fix: what to change.
        step: at which it was seen.
    """

    illness: str
    badness: float
    evidence: str
    fix: str
    step: int

    def __str__(self) -> str:
        return f"{self.illness} at step {self.step:,}: {self.evidence}. Try: {self.fix}"


Rule = Callable[[History], Iterator[Diagnosis]]


def diagnose(history: History) -> list[Diagnosis]:
    """Return what is wrong, by all rules."""
    return [found for rule in RULES for found in rule(history)]


def diagnose_all(history: History, looks: int = 20) -> list[Diagnosis]:
    """Return what was wrong at some time in a history that is whole: of each illness the worst, in order of steps."""
    worst: dict[str, Diagnosis] = {}
    for look in range(1, looks + 1):
        for found in diagnose(history.until(history.step * look // looks)):
            if found.badness > worst.get(found.illness, found._replace(badness=0.0)).badness:
                worst[found.illness] = found
    return sorted(worst.values(), key=lambda found: found.step)


def not_finite(h: History) -> Iterator[Diagnosis]:
    """NaN or infinity in a loss or another number of updates."""
    bad: list[tuple[Point, str]] = []
    for tag in h.tags():
        if tag.startswith("train/") and "variance" not in tag:  # explained variance has none where returns are all one
            found = next((point for point in h.all(tag) if not math.isfinite(point.value)), None)
            bad += [] if found is None else [(found, tag)]
    if bad:
        point, tag = min(bad)
        yield Diagnosis(
            "not finite",
            1.0,
            f"{tag} is {point.value:g} from step {point.step:,} on",
            "a smaller --learning-rate, a smaller --max-grad-norm, and a look at the size of rewards and observations",
            h.step,
        )


def collapsed_entropy(h: History) -> Iterator[Diagnosis]:
    """A policy that has become certain without having learnt anything."""
    tag, of = ("train/std", "deviation") if h.points("train/std") else ("train/entropy_loss", "entropy")
    first, now = h.first(tag), h.now(tag)
    if first is None or now is None or abs(first) < 1e-6 or abs(now) >= LOST * abs(first) or h.learnt():
        return
    yield Diagnosis(
        "collapsed entropy",
        LOST * abs(first) / max(abs(now), 1e-9),
        f"the policy's {of} fell from {abs(first):.3g} to {abs(now):.3g} ({tag}), and returns have not risen",
        "a larger --ent-coef, a smaller --learning-rate",
        h.step,
    )


def growing_deviation(h: History) -> Iterator[Diagnosis]:
    """Continuous actions that become more and more random."""
    first, now = h.first("train/std"), h.now("train/std")
    if first and now is not None and now > 10 * first and not h.learnt():
        yield Diagnosis(
            "actions ever more random",
            now / first,
            f"the policy's deviation grew from {first:.3g} to {now:.3g} (train/std), and returns have not risen",
            "a smaller --ent-coef",
            h.step,
        )


def exploding_gradients(h: History) -> Iterator[Diagnosis]:
    """Gradients that grow without end; where they are not logged, a loss that does."""
    tag = next((tag for tag in ("train/grad_norm", "train/value_loss", "train/loss") if h.points(tag)), "")
    values, now = [abs(point.value) for point in h.points(tag)], h.now(tag)
    if now is None or len(values) < 3:
        return
    early, least = median(values[:3]), 1e3 * max(h.number("max_grad_norm", 1.0) or 1.0, 1.0)
    if tag != "train/grad_norm":
        least = 1e6
    growth = abs(now) / max(early, 1e-6)
    if abs(now) > least and growth > GROWTH:
        yield Diagnosis(
            "exploding gradients",
            growth,
            f"{tag} grew from {early:.3g} to {abs(now):.3g}",
            "a smaller --learning-rate, a smaller --max-grad-norm, or targets that move more slowly",
            h.step,
        )


def vanishing_gradients(h: History) -> Iterator[Diagnosis]:
    """Gradients too small to move anything, by Adam's own measure."""
    now = h.now("train/grad_norm")
    if now is not None and now < 1e-7:
        yield Diagnosis(
            "vanishing gradients",
            1e-7 / max(now, 1e-12),
            f"the gradient's norm is {now:.3g} (train/grad_norm)",
            "rewards or observations of a size near 1, fewer layers in --net-arch, --activation relu",
            h.step,
        )


def kl_spikes(h: History) -> Iterator[Diagnosis]:
    """Policies that moved too far in one of the last updates, and to no good."""
    values = h.recent("train/approx_kl", FEW_ROWS)
    if values and max(values) > HARD_KL and not h.learnt():
        yield Diagnosis(
            "KL spikes",
            max(values) / HARD_KL,
            f"one update moved the policy by a divergence of {max(values):.3g} (train/approx_kl)",
            "a smaller --learning-rate, fewer --n-epochs, --target-kl 0.02",
            h.step,
        )


def pinned_clipping(h: History) -> Iterator[Diagnosis]:
    """PPO whose ratios are nearly all outside the clip range."""
    now = h.now("train/clip_fraction")
    if now is not None and now > PINNED and len(h.points("train/clip_fraction")) >= FEW_ROWS and not h.learnt():
        yield Diagnosis(
            "clip fraction pinned",
            1 / max(1 - now, 1e-3),
            f"{now:.0%} of the ratios are clipped (train/clip_fraction)",
            "a smaller --learning-rate, fewer --n-epochs, a larger --batch-size",
            h.step,
        )


def useless_value_function(h: History) -> Iterator[Diagnosis]:
    """A value function that says nothing of returns."""
    share, losses = h.now("train/explained_variance", FEW_ROWS), h.now("train/value_loss")
    late = h.progress >= 0.3 and len(h.points("train/explained_variance")) >= 4 * FEW_ROWS
    returns = [point.value for point in h.points("rollout/ep_rew_mean")]
    varied = len(returns) > 1 and max(returns) > min(returns)
    if share is None or share >= 0.01 or losses is None or losses <= 1e-4:
        return
    if late and varied and not h.learnt():
        yield Diagnosis(
            "a value function that explains nothing",
            1 + max(0.0, -share),
            f"it explains {share:.2g} of the variance of returns (train/explained_variance)",
            "--norm-reward, a larger --vf-coef, observations that say what returns depend on, or a --memory",
            h.step,
        )


def dead_units(h: History) -> Iterator[Diagnosis]:
    """Rectified units that are 0 whatever is observed."""
    now = h.now("doctor/dead_units", 1)
    if now is not None and now > DEAD:
        yield Diagnosis(
            "dead units",
            1 / max(1 - now, 1e-3),
            f"{now:.0%} of a layer's units are 0 on all observations looked at",
            "a smaller --learning-rate, --activation elu or --layer-norm",
            h.step,
        )


def saturated_units(h: History) -> Iterator[Diagnosis]:
    """Units of tanh that are at their ends, where no gradient comes through."""
    now = h.now("doctor/saturated_units", 1)
    if now is not None and now > SATURATED:
        yield Diagnosis(
            "saturated tanh",
            1 / max(1 - now, 1e-3),
            f"{now:.0%} of a layer's outputs are beyond 0.99 in size",
            "--norm-obs, a smaller --learning-rate",
            h.step,
        )


def short_exploration(h: History) -> Iterator[Diagnosis]:
    """An epsilon that has come to its end before anything can have been learnt."""
    points = h.points("rollout/exploration_rate")
    if not points:
        return
    first, last = h.number("exploration_initial_eps", 1.0), points[-1].value
    starts = h.number("learning_starts", 0)
    end, of_settings = next(point.step for point in points if point.value <= last + 1e-6), False
    if (fraction := h.number("exploration_fraction")) is not None:
        last, of_settings = h.number("exploration_final_eps", last), True
        end = int(fraction * (h.number("schedule_total") or h.total))
    if last >= first or (not of_settings and h.progress < 1) or h.step < end:
        return
    before_all = not of_settings and end == points[0].step < 0.05 * h.total  # by how much, no row says
    if before_all or end <= starts < 0.5 * h.total or end < 0.01 * h.total:
        yield Diagnosis(
            "epsilon ends too early",
            1.0,
            f"the share of random actions is down at {last:g} from step {end:,} on, of {h.total:,}; "
            f"learning begins at step {starts:,}",
            "a larger --exploration-fraction",
            h.step,
        )


def small_replay(h: History) -> Iterator[Diagnosis]:
    """A replay buffer that forgets at once."""
    size, batch = h.number("buffer_size"), h.number("batch_size", 1)
    length = h.now("rollout/ep_len_mean", 1) or 0.0
    if size is None or h.step < 2 * size:
        return
    if size < (least := max(20 * batch, 2 * length)):
        yield Diagnosis(
            "replay buffer too small",
            least / size,
            f"it holds {size:,} transitions, {size / batch:.1f} minibatches"
            + (f" and {size / length:.1f} episodes" if length else ""),
            "a larger --buffer-size",
            h.step,
        )


def idle_replay(h: History) -> Iterator[Diagnosis]:
    """Memory for transitions that will never come."""
    size, taken = h.number("buffer_size"), h.number("replay_bytes", 0)
    if size is not None and taken > 2e9 and size >= 4 * h.total:
        yield Diagnosis(
            "replay buffer never full",
            size / h.total,
            f"it has room for {size:,} transitions ({taken / 1e9:.1f} GB), and the run takes {h.total:,} steps",
            f"--buffer-size {h.total}",
            h.step,
        )


def late_learning(h: History) -> Iterator[Diagnosis]:
    """A run that is on its way and has not begun to learn."""
    starts, updates = h.number("learning_starts"), h.now("train/n_updates", 1)
    if starts is not None and h.progress >= 0.5 and not updates and h.step < starts:
        yield Diagnosis(
            "nothing is learnt yet",
            1.0,
            f"{h.progress:.0%} of the run is over, and learning begins at step {starts:,}",
            "a smaller --learning-starts",
            h.step,
        )


def stale_target(h: History) -> Iterator[Diagnosis]:
    """A target network that is still the one that the run began with."""
    interval, starts = h.number("target_update_interval"), h.number("learning_starts", 0)
    if interval is None or h.facts.get("algo") not in (None, "dqn") or not h.now("train/n_updates", 1):
        return
    if h.step < interval and h.step >= max(0.2 * h.total, 2 * starts):
        yield Diagnosis(
            "target network never synced",
            interval / h.step,
            f"after {h.step:,} steps it is the first one; target_update_interval is {interval:,}",
            "a smaller --target-update-interval",
            h.step,
        )


def impossible_values(h: History) -> Iterator[Diagnosis]:
    """Action values that no sum of such rewards can reach."""
    values, reward, gamma = h.now("train/q_mean"), h.now("doctor/reward_most", 1), h.number("gamma")
    if values is None or not reward or gamma is None or gamma >= 1 or h.facts.get("rescale_values"):
        return
    most = max(point.value for point in h.points("doctor/reward_most")) / (1 - gamma)
    if abs(values) > 3 * most:
        yield Diagnosis(
            "impossible values",
            abs(values) / most,
            f"the mean action value is {values:.3g}, and rewards allow {most:.3g} at most (train/q_mean)",
            "a smaller --learning-rate, a larger --target-update-interval or a smaller --tau, --double-q",
            h.step,
        )


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
    """An environment whose episodes end with their first step."""
    points = h.points("rollout/ep_len_mean")
    if len(points) >= 1 and h.step >= 100 and all(point.value <= 1.0 for point in points):
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


def spent_learning_rate(h: History) -> Iterator[Diagnosis]:
    """A plateau because the learning rate has been 0 for a while."""
    points, returns = h.points("train/learning_rate"), h.points("rollout/ep_rew_mean")
    if not points:
        return
    most = max(point.value for point in points)
    since = next((point.step for point in points if point.value <= 1e-3 * most), None)
    if since is None or h.step - since < 0.1 * h.total or points[-1].value > 1e-3 * most:
        return
    later, every = ([point.value for point in returns if point.step >= start] for start in (since, 0))
    if later and later[-1] - later[0] > 0.1 * (max(every) - min(every)):
        return
    yield Diagnosis(
        "a plateau at a learning rate of 0",
        (h.step - since) / h.total,
        f"train/learning_rate is {points[-1].value:.3g} since step {since:,}, and returns do not rise",
        "a --learning-rate that falls to 0 at the end alone, or more steps in --schedule-total",
        h.step,
    )


RULES: list[Rule] = [
    *(not_finite, collapsed_entropy, growing_deviation, exploding_gradients, vanishing_gradients, kl_spikes),
    *(pinned_clipping, useless_value_function, dead_units, saturated_units, short_exploration, small_replay),
    *(idle_replay, late_learning, stale_target, impossible_values, reward_scale, input_scale, constant_features),
    *(action_bounds, endless_episodes, instant_episodes, evaluation_gap, spent_learning_rate),
]
