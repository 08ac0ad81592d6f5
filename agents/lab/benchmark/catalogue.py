"""The cases of the benchmark, with all their settings."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from agents.lab.benchmark.case import BATCHES, BYTES, SECONDS, SPEED, Case, Measure, Plan, Program
from agents.lab.benchmark.ours import read_summary, read_training, train_command
from agents.lab.benchmark.settings import (
    ATARI,
    ATARI_DQN,
    ATARI_PPO,
    CARTPOLE,
    DQN_ON_GPU,
    MANY_ENVS,
    MODES,
    MOST_ENVS,
    ON_GPU,
    PIXELS_ON_GPU,
    SAME_DQN,
    SAME_PPO,
    SAME_RECURRENT,
    SAME_SAC,
    SOLVED,
    TRAINING_ALONE,
    WHOLE,
)
from agents.lab.processes import last_json, run_process
from agents.lab.sb3_settings import translate_settings, tuned_settings
from agents.run.config import FLAGS, Layer, packaged_config, resolve
from agents.run.yaml_files import load_config_file
from envs.errors import UserError, did_you_mean

LONGER = 4  # times as many steps


def worker(task: str, **arguments: Any) -> tuple[str, ...]:
    """Return the words that run a function of `workers` in a process of its own."""
    return (sys.executable, "-m", "agents.lab.benchmark.workers", task, json.dumps(arguments))


def sb3(plan: Plan, name: str, arguments: Mapping[str, Any]) -> list[Program]:
    """Return SB3, with arguments of `workers.sb3` and each number of threads that the plan asks for."""
    command = worker("sb3", **arguments, seed="{seed}")
    found = []
    if plan.threads != "own":
        found.append(Program(f"{name}, 1 thread", command, baseline=True, variables={"OMP_NUM_THREADS": "1"}))
    if plan.threads == "own" or (plan.threads == "both" and not plan.quick and os.cpu_count() != 1):
        found.append(Program(f"{name}, own threads", command, baseline=True))
    return found


def ours(plan: Plan, algo: str, env: str, settings: Mapping[str, Any], steps: int, device: str) -> list[Program]:
    """Return our training alone: no evaluation, no checkpoint but the last; as it comes, and otherwise run.

    What is compiled for a CPU trains for longer, as such trainings do: else its rows of scalars, of which a training
    writes as many whatever its length, would take much of the time.
    """
    names, found = {"auto": "ours"} | ({} if plan.quick else MODES[device]), []
    for mode, name in names.items():
        longer = LONGER if mode == "on" and device == "cpu" else 1
        values = {**settings, **TRAINING_ALONE, "total_timesteps": steps * longer}
        command = train_command(algo, env, values, "--device", device, "--quiet", "--compile", mode)
        found.append(Program(name, command, read=read_training))
    return found


def same(
    plan: Plan,
    algo: str,
    settings: Mapping[str, Any],
    steps: int,
    env: str = CARTPOLE,
    device: str = "cpu",
    peer: str | None = None,
) -> list[Program]:
    """Training speed of ours and SB3 with the same settings.

    Args:
        device: where both learn.
        peer: SB3's algorithm where it has another name; "" for ours alone, as where environments live on a GPU.
    """
    steps, path = plan.scaled(steps), packaged_config(algo, env)
    params = resolve([Layer(FLAGS, {"env": env, "algo": algo, **settings})], packaged=False).params
    replaced = {*settings, *(load_config_file(path) if path else ())}  # so that nothing packaged is left in force
    values = {name: value for name, value in params.model_dump(mode="json").items() if name in replaced}
    found = ours(plan, algo, env, values, steps, device)
    if peer != "":
        arguments, missing = translate_settings(peer or algo, params)
        assert not missing, f"{missing} would make it other work than SB3's"
        found += sb3(plan, "SB3", {"env_id": env, **arguments, "total_timesteps": steps, "device": device})
    return found


def as_they_come(plan: Plan, algo: str, steps: int, sb3_steps: int) -> list[Program]:
    """Training speed of ours with the packaged settings, and of SB3 with those it has by itself."""
    defaults = {"algo": algo, "env_id": CARTPOLE, "n_envs": 1, "total_timesteps": plan.scaled(sb3_steps)}
    return ours(plan, algo, CARTPOLE, {}, plan.scaled(steps), "cpu") + sb3(plan, "SB3", defaults)


def solve(plan: Plan, algo: str, budgets: tuple[int, ...]) -> list[Program]:
    """Train, then measure over 100 greedy episodes: ours stops at its target, SB3, as tuned, at the end of a budget."""
    found = [Program("ours", train_command(algo, CARTPOLE, {}), read=read_summary)]
    tuned = tuned_settings(algo, CARTPOLE)
    assert tuned is not None
    settings, _ = tuned
    for budget in budgets[-1:] if plan.quick else budgets:
        arguments = {"env_id": CARTPOLE, **settings, "total_timesteps": budget, "eval_episodes": 100}
        found += sb3(plan, f"SB3 {budget // 1_000}k", arguments)
    return found


def whole(plan: Plan, settings: Mapping[str, Any], steps: int, device: str, modes: Mapping[str, bool]) -> list[Program]:
    """Train PPO on CartPole-v1 from the start of the process to its end, by what is captured or compiled.

    Args:
        modes: of `--compile`, and whether what is compiled is kept: then each is run with empty caches, and with those
            that this has filled.
    """
    values, found = {**settings, **TRAINING_ALONE, "total_timesteps": plan.scaled(steps)}, []
    for mode, keeps in modes.items():
        command = train_command("ppo", CARTPOLE, values, "--device", device, "--quiet", "--compile", mode)
        cache = f"{{folder}}/cache-{mode}-{{seed}}"
        kept = {"TORCHINDUCTOR_CACHE_DIR": cache, "TRITON_CACHE_DIR": f"{cache}/triton", "XDG_CACHE_HOME": cache}
        for state in ("cold", "warm") if keeps else ("",):
            name = f"ours, {mode}{f', {state}' if state else ''}"
            found.append(Program(name, command, variables=kept if keeps else {}, read=read_summary))
    return found


def stepping(plan: Plan) -> list[Program]:
    """Environments alone, with random actions."""
    size = {"num_envs": 4_096, "ticks": plan.scaled(4_000)}
    return [
        Program("ours, native", worker("step_native", **size)),
        Program("Gymnasium's NumPy", worker("step_gymnasium", **size), baseline=True),
    ]


def importing(plan: Plan) -> list[Program]:
    """Python's start, and imports."""
    modules = {
        "ours, to parse flags": "agents.train",
        "ours, to train": "agents.run.runner",
        "torch, gymnasium": "torch, gymnasium",
        "SB3": "stable_baselines3",
    }
    return [
        Program(name, (sys.executable, "-c", f"import {module}; print('{{}}')"), baseline=name == "SB3")
        for name, module in modules.items()
    ]


def replay(plan: Plan, observation: str) -> list[Program]:
    """Memory that a replay buffer takes for each transition."""
    return [
        Program("ours", worker("replay_ours", observation=observation)),
        Program("SB3", worker("replay_sb3", observation=observation), baseline=True),
        Program(
            "SB3, optimize_memory_usage",
            worker("replay_sb3", observation=observation, optimized=True),
        ),
    ]


def sampling(plan: Plan) -> list[Program]:
    """Minibatches of 256 from a million transitions."""
    return [
        Program("uniform", worker("sampling", prioritized=False), baseline=True),
        Program("prioritised", worker("sampling", prioritized=True)),
    ]


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A case of the catalogue.

    Attributes:
        programs: makes the case's programs for a plan.
        quick: whether a quick benchmark has it.
        needs: module that has to be installed, and the extra of ours that brings it.
    """

    title: str
    programs: Callable[[Plan], list[Program]]
    measure: Measure = SPEED
    quick: bool = False
    needs: tuple[str, str] | None = None
    cuda: bool = False
    target: float | None = None

    def repeats(self, plan: Plan) -> int:
        """Return how often each program runs; what hardly varies, once."""
        if self.measure is BYTES or (plan.quick and self.target is None and self.measure is SECONDS):
            return 1
        return plan.rounds if self.target is None else plan.seeds

    def missing(self, plan: Plan) -> str | None:
        """Return what it takes to measure this, if it is not here."""
        if self.cuda and not plan.cuda:
            return "needs a CUDA GPU"
        if self.needs and importlib.util.find_spec(self.needs[0]) is None:
            return f'needs pip install -e ".[{self.needs[1]}]"'
        return None


def _training(title: str, algo: str, settings: Mapping[str, Any], steps: int, **options: Any) -> CatalogueEntry:
    """Return a case of `same`; `options` are of `CatalogueEntry`, or `env`, `device` and `peer`."""
    where = {name: options.pop(name) for name in ("env", "device", "peer") if name in options}
    return CatalogueEntry(title, partial(same, algo=algo, settings=settings, steps=steps, **where), **options)


ON_ATARI: dict[str, Any] = {"env": ATARI, "needs": ("ale_py", "atari")}
ON_CUDA: dict[str, Any] = {"device": "cuda", "cuda": True}
CATALOGUE: dict[str, CatalogueEntry] = {
    "ppo-same": _training("PPO CartPole-v1, 8 environments, same settings", "ppo", SAME_PPO, 60_000, quick=True),
    "ppo-64": _training("PPO CartPole-v1, 64 environments, same settings", "ppo", MANY_ENVS, 200_000),
    "ppo-256": _training("PPO CartPole-v1, 256 environments, same settings", "ppo", MOST_ENVS, 300_000),
    "ppo-default": CatalogueEntry(
        "PPO CartPole-v1, each as it comes", partial(as_they_come, algo="ppo", steps=60_000, sb3_steps=8_192)
    ),
    "ppo-lunarlander": _training(
        "PPO LunarLander-v3, 8 environments, same settings",
        *("ppo", SAME_PPO, 30_000),
        env="LunarLander-v3",
        needs=("Box2D", "box2d"),
    ),
    "ppo-halfcheetah": _training(
        "PPO HalfCheetah-v5, 8 environments, same settings",
        *("ppo", SAME_PPO, 30_000),
        env="HalfCheetah-v5",
        needs=("mujoco", "mujoco"),
    ),
    "recurrent": _training(
        "PPO with an LSTM, CartPoleNoVel-v1, 8 environments, same settings",
        *("ppo", SAME_RECURRENT, 30_000),
        env="CartPoleNoVel-v1",
        peer="recurrentppo",
        needs=("sb3_contrib", "contrib"),
    ),
    "ppo-atari": _training("PPO Breakout, 8 environments, SB3's settings", "ppo", ATARI_PPO, 4_096, **ON_ATARI),
    "ppo-atari-cuda": _training(
        "PPO Breakout, 8 environments, SB3's settings, learning on the GPU",
        "ppo",
        ATARI_PPO,
        100_000,
        **ON_ATARI,
        **ON_CUDA,
    ),
    "ppo-cuda": _training(
        "PPO CartPole-v1 on the GPU, 4,096 environments", "ppo", ON_GPU, 8_000_000, peer="", **ON_CUDA
    ),
    "ppo-cuda-whole": CatalogueEntry(
        "PPO CartPole-v1 on the GPU, 13.1 million steps, process start to end",
        partial(
            whole,
            settings=ON_GPU,
            steps=WHOLE,
            device="cuda",
            modes={"graphs": False, "kernels": True, "on": True},
        ),
        SECONDS,
        cuda=True,
    ),
    "ppo-cuda-pixels": _training(
        "PPO Bricks-v0 on the GPU, 1,024 environments, CNN",
        *("ppo", PIXELS_ON_GPU, 2_000_000),
        env="Bricks-v0",
        peer="",
        **ON_CUDA,
    ),
    "ppo-start": CatalogueEntry(
        "PPO CartPole-v1, 8 environments, 20,000 steps, process start to end",
        partial(whole, settings=SAME_PPO, steps=20_000, device="cpu", modes={"off": False, "on": True}),
        SECONDS,
    ),
    "dqn-same": _training("DQN CartPole-v1, 1 environment, same settings", "dqn", SAME_DQN, 30_000, quick=True),
    "dqn-atari": _training("DQN Breakout, SB3's settings", "dqn", ATARI_DQN, 6_000, **ON_ATARI),
    "dqn-atari-cuda": _training(
        "DQN Breakout, SB3's settings, learning on the GPU",
        "dqn",
        ATARI_DQN,
        30_000,
        **ON_ATARI,
        **ON_CUDA,
    ),
    "dqn-cuda": _training(
        "DQN CartPole-v1 on the GPU, 1,024 environments", "dqn", DQN_ON_GPU, 4_000_000, peer="", **ON_CUDA
    ),
    "dqn-default": CatalogueEntry(
        "DQN CartPole-v1, each as it comes", partial(as_they_come, algo="dqn", steps=40_000, sb3_steps=20_000)
    ),
    "sac-same": _training("SAC Pendulum-v1, 1 environment, same settings", "sac", SAME_SAC, 2_000, env="Pendulum-v1"),
    "env-cartpole": CatalogueEntry("CartPole-v1 alone, 4,096 environments", stepping, quick=True),
    "solve-ppo": CatalogueEntry(
        "PPO CartPole-v1, process start to solved",
        partial(solve, algo="ppo", budgets=(25_000, 50_000)),
        SECONDS,
        quick=True,
        target=SOLVED,
    ),
    "solve-dqn": CatalogueEntry(
        "DQN CartPole-v1, process start to solved",
        partial(solve, algo="dqn", budgets=(50_000,)),
        SECONDS,
        target=SOLVED,
    ),
    "imports": CatalogueEntry("Starting Python and importing", importing, SECONDS, quick=True),
    "sampling": CatalogueEntry("Drawing 256 of 1,000,000 transitions", sampling, BATCHES),
    "replay-cartpole": CatalogueEntry(
        "Replay buffer, one transition of CartPole-v1", partial(replay, observation="cartpole"), BYTES, quick=True
    ),
    "replay-pixels": CatalogueEntry(
        "Replay buffer, one transition of 84x84x4 pixels", partial(replay, observation="pixels"), BYTES, quick=True
    ),
}


def named(words: Sequence[str]) -> list[str]:
    """Return the cases that are meant: by name, or all in whose names such words are ("atari", "atari-cuda").

    Raises:
        UserError: there is none.
    """
    found: list[str] = []
    for word in words:
        parts = set(word.split("-"))
        cases = [word] if word in CATALOGUE else [name for name in CATALOGUE if parts <= set(name.split("-"))]
        if not cases:
            near = did_you_mean(word, CATALOGUE)
            raise UserError(f"--cases: there is no case {word!r}.{near} There are {', '.join(CATALOGUE)}.")
        found += cases
    return list(dict.fromkeys(found))


def build_cases(plan: Plan, listed: bool = False) -> tuple[list[Case], list[str]]:
    """Return the cases that `plan` asks for, and a phrase for each thing that is left out.

    Args:
        listed: whether they are to be shown alone: those that cannot be measured here are among them then.

    Raises:
        UserError: there is no case of a name that was asked for.
    """
    cases, left_out = [], []
    for name in named(plan.names) or CATALOGUE:
        entry = CATALOGUE[name]
        missing = entry.missing(plan)
        if missing and not listed:
            left_out.append(f"{name} ({missing})")
        elif plan.quick and not entry.quick and not plan.names:
            left_out.append(name)
        else:
            programs = tuple(entry.programs(plan))
            cases.append(Case(name, entry.title, entry.measure, programs, entry.repeats(plan), entry.target, missing))
    if plan.quick:
        left_out += ["compiled training", "SB3's shorter budgets"]
        if plan.threads == "both":
            left_out.append("SB3 with its own threads")
    return cases, left_out


def find_gpu(required: bool) -> str | None:
    """Return the name of the CUDA GPU that PyTorch finds, or None.

    The process that looks imports all that will be measured, so that it lies in the system's cache from then on.

    Raises:
        UserError: there is none, and it is required.
    """
    gpu: str | None = last_json(run_process(worker("warm"), {}).output)["gpu"]
    if gpu is None and required:
        raise UserError(
            "--device cuda: PyTorch finds no CUDA GPU here. Use --device cpu, or auto to take what there is."
        )
    return gpu
