"""Rules of how a training updates: gradients, policies, values, replay and schedules."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from agents.run.doctor.diagnosis import Diagnosis
from agents.run.doctor.history import History, Point

DEAD, SATURATED = 0.9, 0.9  # of a layer's units
FEW_ROWS = 5  # that say how an algorithm's updates go
GROWTH = 30.0  # of gradients since the beginning
HARD_KL, PINNED = 2.0, 0.6
LOST = 0.02  # of the first entropy, or of the first deviation
NORMAL = 0.5 * math.log(2 * math.pi * math.e)  # nats: the entropy of a normal distribution of deviation 1


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
    if first is None or now is None or abs(first) < 1e-6 or h.learnt():
        return
    if of == "entropy":
        first, now = -first, -now
    if of == "entropy" and _is_of_numbers(h):
        severity = (first - now) / (math.log(1 / LOST) * _count_of_numbers(h, first))
    else:
        severity = LOST * abs(first) / max(abs(now), 1e-9)
    if severity > 1:
        yield Diagnosis(
            "collapsed entropy",
            severity,
            f"the policy's {of} fell from {first:.3g} to {now:.3g} ({tag}), and returns have not risen",
            "a larger --ent-coef, a smaller --learning-rate",
            h.step,
        )


def _is_of_numbers(h: History) -> bool:
    """Whether the entropy is that of continuous actions, which falls through 0 as their deviations get smaller."""
    known = h.facts.get("continuous_actions") or h.facts.get("state_dependent_std")
    return bool(known) or any(point.value > 0 for point in h.points("train/entropy_loss"))


def _count_of_numbers(h: History, first: float) -> float:
    """Return how many numbers a continuous action has, by the first entropy in nats; inf where that does not tell."""
    each = NORMAL + h.number("log_std_init", 0.0)
    return max(first / each, 1) if min(first, each) > 0 else math.inf


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
            ("" if h.facts.get("norm_reward") else "--norm-reward, ")
            + "a larger --vf-coef, or observations that say what returns depend on"
            + ("" if h.facts.get("memory") not in (None, "none") else ", or a --memory"),
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
        end = int(min(fraction, 1.0) * (h.number("schedule_total") or h.total))
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
    if size is None or size <= 0 or batch <= 0 or h.step < 2 * size:
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
    updates = h.now("train/n_updates", 1)
    if interval is None or not updates:
        return
    if max(h.step, updates) < interval and h.step >= max(0.2 * h.total, 2 * starts):
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
