"""What ails a training, found in its history: each rule is a pure function of named numbers.

A rule yields a `Diagnosis` or nothing. Bounds are far from what trainings that learn well show, as a false alarm costs
more than one that comes late; `docs/watching.md` has the list.
"""

from __future__ import annotations

from agents.run.doctor import experience, updates
from agents.run.doctor.diagnosis import Diagnosis, Rule
from agents.run.doctor.history import History

LOOKS = 20  # at a whole history

RULES: list[Rule] = [
    updates.not_finite,
    updates.collapsed_entropy,
    updates.growing_deviation,
    updates.exploding_gradients,
    updates.vanishing_gradients,
    updates.kl_spikes,
    updates.pinned_clipping,
    updates.useless_value_function,
    updates.dead_units,
    updates.saturated_units,
    updates.short_exploration,
    updates.small_replay,
    updates.idle_replay,
    updates.late_learning,
    updates.stale_target,
    updates.impossible_values,
    experience.reward_scale,
    experience.input_scale,
    experience.constant_features,
    experience.action_bounds,
    experience.endless_episodes,
    experience.instant_episodes,
    experience.evaluation_gap,
    updates.spent_learning_rate,
]


def diagnose(history: History) -> list[Diagnosis]:
    """Return what is wrong, by all rules."""
    return [found for rule in RULES for found in rule(history)]


def diagnose_all(history: History) -> list[Diagnosis]:
    """Return what was wrong at some time in a history that is whole: of each illness the worst, in order of steps."""
    worst: dict[str, Diagnosis] = {}
    for look in range(1, LOOKS + 1):
        for found in diagnose(history.until(history.step * look // LOOKS)):
            if found.badness > worst.get(found.illness, found._replace(badness=0.0)).badness:
                worst[found.illness] = found
    return sorted(worst.values(), key=lambda found: found.step)
