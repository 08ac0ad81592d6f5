"""What comparisons show, and in which words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from agents.lab.comparison.analysis import Outcome, analyse, typical_ratio
from agents.lab.comparison.report import write_report
from agents.lab.comparison.results import load_results
from agents.lab.comparison.verdict import make_verdict
from tests.lab.comparison.synthetic import CURVES, document, result, write_comparison, write_run

SPREAD = [-6.0, -3.0, 0.0, 3.0, 6.0]


def stored(out, means, *, envs=("A-v0",), seeds=5, references=None, **changed):
    """Write a comparison of runs that end at `means[label][env]` plus each seed's share of the spread."""
    for label, levels in means.items():
        for env, level in zip(envs, levels, strict=True):
            for seed in range(seeds if isinstance(seeds, int) else seeds[label]):
                curve = [(step, level * step / 400, step / 100) for step in (100, 200, 300, 400)]
                write_run(out, result(env, "ppo", label, seed, returns=[level + SPREAD[seed]], **changed), curve)
    content = document([(env, "ppo") for env in envs], list(means), 5)
    content["references"] = references or {env: {"random": 0.0, "threshold": 100.0} for env in envs}
    (out / "comparison.json").write_text(json.dumps(content))
    return analyse(load_results(out))


def test_better_worse_and_none_shown(tmp_path):
    envs = ("A-v0", "B-v0", "C-v0", "D-v0")
    means = {"ours": (90.0, 80.0, 50.0, 50.0), "sb3": (50.0, 50.0, 80.0, 49.0)}
    findings = stored(tmp_path, means, envs=envs)
    comparisons = findings.scores
    outcomes = [Outcome.BETTER, Outcome.BETTER, Outcome.WORSE, Outcome.SAME]
    assert [comparison.outcome for comparison in comparisons] == outcomes
    assert [comparison.found.value for comparison in comparisons] == pytest.approx([40, 30, -30, 1])
    verdict = make_verdict(findings)
    least = comparisons[3].found.detectable
    assert verdict.headlines == [
        "Ours is better than SB3 on 2 of 4; SB3 is better than ours on 1; no difference between ours and SB3 is shown "
        f"on 1. 5 seeds cannot show differences under {least:.2f} points there."
    ]
    assert verdict.details[0].startswith("A-v0, PPO: ours is better than SB3, 90.0 against 50.0 (difference 40.0, 95%")
    assert verdict.details[2].startswith("C-v0, PPO: SB3 is better than ours, 80.0 against 50.0")
    assert "no difference shown does not mean equal" in " ".join(verdict.caveats).lower()


def test_one_pair_is_named(tmp_path):
    verdict = make_verdict(stored(tmp_path, {"ours": (90.0,), "sb3": (50.0,)}))
    assert verdict.headlines == ["Ours is better than SB3 on A-v0, PPO."]
    assert verdict.caveats == ["SB3 went without shared_torso on A-v0, PPO."]


def test_several_without_a_difference_tell_how_large_one_would_have_to_be(tmp_path):
    references = {"A-v0": {"random": 0.0, "threshold": 100.0}, "B-v0": {"random": 0.0, "threshold": 1_000.0}}
    findings = stored(
        tmp_path, {"ours": (50.0, 50.0), "sb3": (51.0, 50.0)}, envs=("A-v0", "B-v0"), references=references
    )
    (headline,) = make_verdict(findings).headlines
    least = findings.scores[0].found.detectable
    assert headline == (
        "No difference between ours and SB3 is shown on 2 of 2. 5 seeds cannot show differences under "
        f"{least / 1_000:.0%} to {least / 100:.0%} of the way from random play to the goal there."
    )


def test_holm_counts_the_tasks(tmp_path):
    """A difference that may be claimed alone may not be among many."""
    level = 58.5
    alone = stored(tmp_path / "one", {"ours": (level,), "sb3": (50.0,)})
    envs = [f"E{i}-v0" for i in range(10)]
    many = stored(tmp_path / "many", {"ours": [level] + [50.0] * 9, "sb3": [50.0] * 10}, envs=envs)
    first, among = alone.scores[0], many.scores[0]
    assert first.found.p == among.found.p < 0.05
    assert (first.outcome, among.outcome) == (Outcome.BETTER, Outcome.SAME)
    assert among.adjusted == pytest.approx(10 * among.found.p)
    told = f", but too little among so many comparisons: Holm's p {among.adjusted:.3f})."
    assert told in make_verdict(many).details[0]
    assert not any("Holm" in line for line in make_verdict(alone).details + make_verdict(many).details[1:])


def test_all_tasks_together_tell_how_often_a_run_of_ours_wins(tmp_path):
    """On A-v0 each of 5 runs beats each of 5; on B-v0 runs are 3 apart and 10 pairs of 25 are won, 5 are ties."""
    findings = stored(tmp_path, {"ours": (90.0, 50.0), "sb3": (50.0, 50.0)}, envs=("A-v0", "B-v0"))
    _, low, high = findings.sections[0].improvement["sb3"]
    assert 0.5 < low < 0.75 < high < 1
    assert make_verdict(findings).together[0] == (
        "Over all 2 comparisons, a run of ours beats a run of SB3 in 75% of cases "
        f"(95% interval {low:.0%} to {high:.0%}; 50% is a tie)."
    )


def test_one_seed_tells_nothing(tmp_path):
    findings = stored(tmp_path, {"ours": (90.0,), "sb3": (50.0,)}, seeds=1)
    verdict = make_verdict(findings)
    assert verdict.headlines == ["Too few seeds to tell ours from SB3 on A-v0, PPO."]
    assert verdict.details == ["A-v0, PPO: too few seeds to tell ours from SB3, 84.0 against 44.0 (1 seed and 1 seed)."]
    assert verdict.caveats[0] == "1 seed a side: results of fewer than 5 often turn over when repeated."
    assert math.isnan(findings.sections[0].metrics["ours"]["IQM"].low)


def test_unfinished_and_crashed_runs_are_caveats(tmp_path):
    failure = {"env": "CartPole-v1", "algo": "ppo", "label": "sb3", "seed": 4, "error": "out of memory"}
    write_comparison(tmp_path, failures=[failure])
    (tmp_path / "runs/sb3/CartPole-v1__ppo__s4/result.json").unlink()
    verdict = make_verdict(analyse(load_results(tmp_path)))
    assert verdict.headlines == ["Ours is better than SB3 on CartPole-v1, PPO."]
    assert [line.split(":")[0].split(";")[0] for line in verdict.caveats] == [
        "As few as 4 seeds on a side",
        "1 run of those asked for not finished",
        "1 run crashed",
        "SB3 went without shared_torso on CartPole-v1, PPO.",
    ]


def test_nothing_finished_yet(tmp_path):
    (tmp_path / "comparison.json").write_text(json.dumps(document([("A-v0", "ppo")], ["ours", "sb3"], 2)))
    findings = analyse(load_results(tmp_path))
    assert make_verdict(findings).headlines == [
        "Nothing can be compared yet: on no task have two sides finished a run."
    ]
    assert make_verdict(findings).caveats == [
        "4 runs of those asked for not finished: what is said may change.",
        "SB3 went without shared_torso on A-v0, PPO.",
    ]


def test_what_sb3_went_without_on_several_tasks_is_summed_up(tmp_path):
    write_comparison(tmp_path, [("CartPole-v1", "dqn"), ("CartPole-v1", "ppo"), ("Acrobot-v1", "ppo")])
    assert make_verdict(analyse(load_results(tmp_path))).caveats[0] == (
        "SB3 went without something on 2 of 3 tasks (How it was measured lists it), such as shared_torso on "
        "CartPole-v1, PPO."
    )


def test_each_other_label_against_ours(tmp_path):
    findings = stored(tmp_path, {"sb3": (50.0,), "ours": (90.0,), "no_norm": (90.0,)})
    assert findings.labels == ["ours", "sb3", "no_norm"]
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "x.csv").write_text(CURVES.replace("CartPole-v1", "A-v0"))
    findings = analyse(load_results(tmp_path))
    assert findings.labels == ["ours", "sb3", "no_norm", "rllib (imported)"]
    verdict = make_verdict(findings)
    assert [line.split(". ")[0] for line in verdict.headlines] == [
        "Ours is better than SB3 on A-v0, PPO.",
        "No difference between ours and no_norm is shown on A-v0, PPO",
        "Rllib (imported) is better than ours on A-v0, PPO.",
    ]
    assert "measured elsewhere" in " ".join(verdict.caveats)


def test_a_model_played_several_times_is_no_sample_of_trainings(tmp_path):
    write_comparison(tmp_path, seeds=3)
    for seed in range(3):
        write_run(tmp_path, result("CartPole-v1", "ppo", "mine", seed, train_seconds=0.0, steps_per_s=0.0))
    content = document([("CartPole-v1", "ppo")], ["ours", "sb3", "mine"], 3)
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    findings = analyse(load_results(tmp_path))
    caveats = make_verdict(findings).caveats
    assert caveats[0].startswith("As few as 3 seeds on a side")
    assert caveats[1].startswith("Mine is one trained model, played once for each seed: its spread is that of episodes")
    write_report(findings, tmp_path / "report")
    assert "All sides but mine train on the same environments" in (tmp_path / "report" / "report.md").read_text()


def test_normalised_scores(tmp_path):
    """0 is random play; 1 is the threshold, or the best side's mean in the environment, whatever the algorithm."""
    references = {"A-v0": {"random": 20.0, "threshold": 120.0}, "B-v0": {"random": 20.0, "threshold": None}}
    means = {"ours": (70.0, 60.0, 0.0), "sb3": (120.0, 40.0, 0.0)}
    findings = stored(tmp_path, means, envs=("A-v0", "B-v0", "C-v0"), references=references)
    write_run(tmp_path, result("B-v0", "dqn", "ours", 0, returns=[100.0]))
    a, b, dqn, c = analyse(load_results(tmp_path)).tasks
    assert a.normalised["ours"].mean() == pytest.approx(0.5)
    assert (b.scale, dqn.scale) == ((20, 100), (20, 100))
    assert b.normalised["sb3"].mean() == pytest.approx(0.25)
    assert (a.goal, b.goal) == (120, pytest.approx(92))
    assert (c.scale, c.goal, c.normalised) == (None, None, {})
    assert "C-v0, PPO" in " ".join(make_verdict(findings).caveats)


def test_an_environments_algorithms_stand_together(tmp_path):
    """Whenever they were asked for."""
    write_comparison(tmp_path, [("CartPole-v1", "dqn"), ("Acrobot-v1", "ppo"), ("CartPole-v1", "ppo")], seeds=2)
    names = [task.name for task in analyse(load_results(tmp_path)).tasks]
    assert names == ["CartPole-v1, DQN", "CartPole-v1, PPO", "Acrobot-v1, PPO"]


def test_sections_hold_what_labels_share(tmp_path):
    tasks = [("CartPole-v1", "ppo"), ("CartPole-v1", "dqn"), ("Acrobot-v1", "ppo")]
    write_comparison(tmp_path, tasks, seeds=2)
    findings = analyse(load_results(tmp_path))
    assert [section.title for section in findings.sections] == [
        "all 3 comparisons",
        "PPO, 2 environments",
        "DQN, 1 environment",
    ]
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "x.csv").write_text(CURVES)
    sections = analyse(load_results(tmp_path)).sections
    assert sections[-1].title == "CartPole-v1, PPO"
    assert sections[-1].labels == ["ours", "rllib (imported)"]
    everything = sections[0]
    pooled = [task.normalised["ours"].mean() for task in everything.tasks]
    assert everything.metrics["ours"]["mean"].value == pytest.approx(np.mean(pooled))


def test_time_to_the_goal(tmp_path):
    references = {"A-v0": {"random": 0.0, "threshold": 60.0}}
    findings = stored(tmp_path, {"ours": (90.0,), "sb3": (50.0,)}, references=references)
    (task,) = findings.tasks
    assert task.reached("ours").tolist() == [300] * 5  # 90 * 300 / 400 = 67.5
    assert task.reached("ours", seconds=True).tolist() == [3] * 5
    assert task.reached("sb3").tolist() == [math.inf] * 5
    assert (
        make_verdict(findings).together[-1] == "In less training time ours reaches the goal on 1 of 1 task, SB3 on 0."
    )


def test_curves_are_compared_over_what_they_share(tmp_path):
    """Sides that end alike may learn at different times."""
    for seed, late in enumerate(SPREAD):
        early = [(100, 40.0, 1.0), (200, 80.0, 2.0), (300, 90.0, 3.0)]
        late_curve = [(100, 0.0, 1.0), (200, 10.0 + late / 10, 2.0), (300, 90.0, 3.0), (400, 500.0, 4.0)]
        write_run(tmp_path, result("A-v0", "ppo", "ours", seed, returns=[90.0 + late]), early)
        write_run(tmp_path, result("A-v0", "ppo", "sb3", seed, returns=[90.0 - late]), late_curve)
        write_run(tmp_path, result("B-v0", "ppo", "ours", seed, returns=[90.0 + late]), early)
        write_run(tmp_path, result("B-v0", "ppo", "sb3", seed, returns=[90.0 + late]), early if seed else [])
        write_run(tmp_path, result("C-v0", "ppo", "ours", seed), early[:2])
        write_run(tmp_path, result("C-v0", "ppo", "sb3", seed), late_curve[2:])
    content = document([(env, "ppo") for env in ("A-v0", "B-v0", "C-v0")], ["ours", "sb3"], 5)
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    findings = analyse(load_results(tmp_path))
    (met,) = findings.learning
    assert met.ours.tolist() == pytest.approx([72.5] * 5)  # 60 and 85, each for half the time
    assert met.theirs.mean() == pytest.approx(27.5)  # 5 and 50: what only one side has does not count
    assert (met.outcome, findings.scores[0].outcome) == (Outcome.BETTER, Outcome.SAME)
    assert met.task.env == "A-v0"  # on B-v0 there is a run without a curve, on C-v0 no shared step
    assert make_verdict(findings).together[1] == (
        "Over the whole of training, by the mean return of the curve, ours is better than SB3 on A-v0, PPO."
    )


def test_costs_are_ratios_of_medians(tmp_path):
    for seed, (fast, slow) in enumerate([(3_000.0, 1_000.0), (9_000.0, 1_500.0), (4_000.0, 2_000.0)]):
        write_run(tmp_path, result("A-v0", "ppo", "ours", seed, steps_per_s=fast))
        write_run(tmp_path, result("A-v0", "ppo", "sb3", seed, steps_per_s=slow, total_seconds=90.0))
        write_run(tmp_path, result("B-v0", "ppo", "ours", seed, steps_per_s=6_000.0))
        write_run(tmp_path, result("B-v0", "ppo", "sb3", seed, steps_per_s=1_000.0, total_seconds=90.0))
    content = document([("A-v0", "ppo"), ("B-v0", "ppo")], ["ours", "sb3"], 3)
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    findings = analyse(load_results(tmp_path))
    ratio = typical_ratio(findings, "sb3", "steps_per_s")
    assert ratio == pytest.approx((4, 4_000 / 1_500, 6))  # geometric mean of 8/3 and 6
    assert typical_ratio(findings, "sb3", "unknown") is None
    assert make_verdict(findings).together == [
        "Over all 2 comparisons, a run of ours beats a run of SB3 in 50% of cases "
        "(95% interval 50% to 50%; 50% is a tie).",
        "In steps per second without evaluations, ours trains 4.00 times (2.67 to 6.00 times) as fast as SB3.",
        "A whole run of SB3, from process start to end, takes 10.0 times as long as one of ours.",
        "At its peak SB3 takes 1.40 times as much memory as ours.",
    ]
