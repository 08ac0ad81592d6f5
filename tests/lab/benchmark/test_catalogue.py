"""The cases: ours and SB3 get the same, and what is left out is said."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest

from agents.lab.benchmark import catalogue
from agents.lab.benchmark.case import Case, Plan
from agents.lab.benchmark.catalogue import CATALOGUE, build_cases
from agents.lab.benchmark.settings import (
    ATARI_DQN,
    ATARI_PPO,
    MANY_ENVS,
    MOST_ENVS,
    SAME_DQN,
    SAME_PPO,
    SAME_RECURRENT,
    SAME_SAC,
)
from agents.lab.sb3_settings import translate_settings
from agents.run.config import CONFIGS, FLAGS, Layer, RunConfig, merge, resolve
from agents.run.yaml_files import load_config_file
from agents.train import parse
from envs.errors import UserError

DOCS = Path(__file__).resolve().parents[3] / "docs" / "performance.md"
SAME = {"ppo-same": SAME_PPO, "ppo-64": MANY_ENVS, "ppo-256": MOST_ENVS, "dqn-same": SAME_DQN, "sac-same": SAME_SAC}
SAME |= {"recurrent": SAME_RECURRENT, "ppo-lunarlander": SAME_PPO, "ppo-halfcheetah": SAME_PPO}
SAME |= {"ppo-atari": ATARI_PPO, "dqn-atari": ATARI_DQN}
NEED_MORE = {"ppo-lunarlander", "ppo-halfcheetah", "ppo-atari", "dqn-atari"}  # than is always installed


def build(name: str, **plan) -> Case:
    (case,), _ = build_cases(Plan((name,), **plan))
    return case


def config(case: Case, index: int = 0) -> RunConfig:
    """Return what our command of a case resolves to."""
    words = [word.replace("{seed}", "0") for word in case.programs[index].command[3:]]
    chosen = {name: words[words.index(f"--{name}") + 1] for name in ("env", "algo")}
    given, options = parse(words, {name: value for name, (value, _) in merge([Layer(FLAGS, chosen)]).items()})
    assert options.json
    assert not options.record
    return resolve([Layer(FLAGS, given)])


def told(case: Case, index: int = -1) -> dict:
    """Return what SB3's worker is told."""
    command = case.programs[index].command
    assert command[-2] == "sb3"
    return json.loads(command[-1])


@pytest.mark.parametrize("name", SAME)
def test_same_settings_are_the_same(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: object())  # whatever is installed, nothing is run
    case = build(name)
    ours, algo = config(case), "ppo" if name == "recurrent" else name[:3]
    steps = ours.params.total_timesteps
    alone = {"eval_freq": 0, "save_freq": 0, "target_reward": None, "final_eval_episodes": 0}
    wanted = {"env": ours.env, "algo": algo, **SAME[name], **alone, "total_timesteps": steps}
    assert ours.params == resolve([Layer(FLAGS, wanted)], packaged=False).params  # nothing packaged is in force
    arguments, missing = translate_settings("recurrentppo" if name == "recurrent" else algo, ours.params)
    assert not missing
    assert told(case) == {
        **{**arguments, "env_id": ours.env, "total_timesteps": steps, "seed": "{seed}"},
        "device": "cpu",
    }
    assert ours.device == "cpu"


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_as_they_come_they_have_their_own_settings(algo):
    case = build(f"{algo}-default")
    packaged = resolve([Layer(FLAGS, {"env": "CartPole-v1", "algo": algo})]).params
    changed = {"total_timesteps", "eval_freq", "save_freq", "target_reward", "final_eval_episodes"}
    assert config(case).params.model_dump(exclude=changed) == packaged.model_dump(exclude=changed)
    assert "hyperparameters" not in told(case)


@pytest.mark.parametrize(("algo", "budgets"), [("ppo", [25_000, 50_000]), ("dqn", [50_000])])
def test_solving_is_ours_as_it_comes_and_sb3_as_rl_zoo3_tuned_it(algo, budgets):
    case = build(f"solve-{algo}", threads="1", seeds=5)
    assert (case.repeats, case.target) == (5, 475.0)
    assert config(case) == resolve([Layer(FLAGS, {"env": "CartPole-v1", "algo": algo})])
    arguments = [told(case, index) for index in range(1, len(case.programs))]
    assert [found["total_timesteps"] for found in arguments] == budgets
    assert {found["eval_episodes"] for found in arguments} == {100}
    tuned = load_config_file(CONFIGS / "sb3" / algo / "CartPole-v1.yaml")
    for name in ("learning_rate", "gamma", "batch_size"):
        assert arguments[0]["hyperparameters"][name] == tuned[name]


def test_names_in_a_case_are_unique_and_one_is_the_baseline():
    cases, _ = build_cases(Plan(cuda=True))
    assert {case.name for case in cases} >= {"ppo-cuda", "imports", *SAME} - NEED_MORE
    for case in cases:
        names = [program.name for program in case.programs]
        assert len(set(names)) == len(names)
        alone = {"ppo-cuda", "ppo-cuda-whole", "ppo-cuda-pixels", "dqn-cuda", "ppo-start"}
        assert any(program.baseline for program in case.programs) != (case.name in alone)


def test_a_quick_benchmark_is_smaller_and_says_what_it_leaves_out():
    whole, _ = build_cases(Plan())
    quick, left_out = build_cases(Plan(quick=True))
    assert {case.name for case in quick} < {case.name for case in whole}
    assert {"ppo-64", "solve-dqn", "compiled training"} <= set(left_out)
    assert (
        config(build("ppo-same", quick=True)).params.total_timesteps < config(build("ppo-same")).params.total_timesteps
    )
    assert [case.name for case in build_cases(Plan(("solve-dqn",), quick=True))[0]] == ["solve-dqn"]


def test_what_is_noisy_is_repeated_and_what_is_not_is_not():
    def repeats(**plan) -> dict[str, int]:
        return {case.name: case.repeats for case in build_cases(Plan(rounds=4, seeds=6, **plan))[0]}

    whole, quick = repeats(), repeats(quick=True)
    assert (whole["ppo-same"], whole["imports"], whole["solve-ppo"], whole["replay-pixels"]) == (4, 4, 6, 1)
    assert (quick["ppo-same"], quick["imports"], quick["solve-ppo"], quick["replay-pixels"]) == (4, 1, 6, 1)


def test_sb3_runs_with_the_threads_asked_for(monkeypatch):
    monkeypatch.setattr(catalogue.os, "cpu_count", lambda: 4)
    one, own = {"OMP_NUM_THREADS": "1"}, {}
    for threads, expected in (("1", [one]), ("own", [own]), ("both", [one, own])):
        baselines = [program for program in build("ppo-same", threads=threads).programs if program.baseline]
        assert [program.variables for program in baselines] == expected


def test_compiled_training_is_a_program_of_its_own():
    plain, compiled = build("ppo-same").programs[:2]
    assert (plain.name, compiled.name) == ("ours", "ours, compiled")
    for program, switch in ((plain, "auto"), (compiled, "on")):
        at = program.command.index("--compile")
        assert program.command[at + 1] == switch


def test_on_a_gpu_each_way_of_running_has_a_row():
    for name in ("ppo-cuda", "dqn-cuda", "ppo-cuda-pixels"):
        programs = build(name, cuda=True).programs
        modes = [program.command[program.command.index("--compile") + 1] for program in programs]
        assert modes == ["auto", "graphs", "on", "kernels"]
        assert {program.command[program.command.index("--device") + 1] for program in programs} == {"cuda"}
        assert [program.name for program in build(name, cuda=True, quick=True).programs] == ["ours"]


def test_on_a_gpu_with_sb3_both_learn_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: object())  # as if all were installed
    case = build("ppo-atari-cuda", cuda=True)
    assert (config(case).device, told(case)["device"]) == ("cuda", "cuda")


def test_a_warm_start_finds_what_the_cold_one_before_it_kept():
    programs = {program.name: program for program in build("ppo-cuda-whole", cuda=True).programs}
    assert list(programs) == [
        *("ours, graphs", "ours, kernels, cold", "ours, kernels, warm", "ours, on, cold", "ours, on, warm")
    ]
    caches = {name: program.variables.get("TORCHINDUCTOR_CACHE_DIR") for name, program in programs.items()}
    assert caches["ours, on, cold"] == caches["ours, on, warm"] == "{folder}/cache-on-{seed}", "each round its own"
    assert len(set(caches.values())) == 3
    assert config(build("ppo-cuda-whole", cuda=True)).params.total_timesteps == 100 * 4_096 * 32


def test_what_cannot_be_measured_here_is_listed_with_the_reason(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    cases, left_out = build_cases(Plan(), listed=True)
    assert [case.name for case in cases] == list(CATALOGUE)
    lacks = {case.name: case.missing for case in cases}
    assert (lacks["ppo-same"], lacks["ppo-cuda"]) == (None, "needs a CUDA GPU")
    assert lacks["ppo-atari"] == 'needs pip install -e ".[atari]"'
    assert not left_out


def test_words_stand_for_all_cases_that_have_them():
    names = [case.name for case in build_cases(Plan(("atari-cuda", "dqn-atari", "atari")), listed=True)[0]]
    assert names == ["ppo-atari-cuda", "dqn-atari-cuda", "dqn-atari", "ppo-atari"]


def test_what_is_not_installed_is_left_out_with_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    cases, left_out = build_cases(Plan(("ppo-same", "ppo-lunarlander", "ppo-halfcheetah", "ppo-cuda")))
    assert [case.name for case in cases] == ["ppo-same"]
    assert 'ppo-lunarlander (needs pip install -e ".[box2d]")' in left_out
    assert 'ppo-halfcheetah (needs pip install -e ".[mujoco]")' in left_out
    assert "ppo-cuda (needs a CUDA GPU)" in left_out


def test_an_unknown_case_is_told():
    with pytest.raises(UserError, match=r"no case 'ppo-sam'\. Did you mean ppo-same"):
        build_cases(Plan(("ppo-sam",)))


def test_the_page_on_performance_has_every_case_and_no_other():
    text = DOCS.read_text(encoding="utf-8")
    lines = [shlex.split(line) for line in re.findall(r"`(python -m agents\.bench --cases [^`]*)`", text)]
    named = {word for line in lines for word in line if word in CATALOGUE}
    assert named == set(CATALOGUE)
    for line in lines:
        names = line[line.index("--cases") + 1 :]
        names = names[: next((at for at, word in enumerate(names) if word.startswith("--")), None)]
        assert set(names) <= set(CATALOGUE)
