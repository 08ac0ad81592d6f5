"""From what is asked of a comparison to its tasks, the sides of each, and the runs that they need."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.lab.comparison.job import Job, Side, Task
from agents.lab.comparison.options import Options
from agents.lab.sb3_settings import COUNTERPARTS, Unfit, counterpart, translate_settings, tuned_settings
from agents.lab.words import task_name
from agents.run.config import FLAGS, Layer, RunConfig, config_layer, resolve
from agents.run.flags import is_sb3, parse_env_kwargs
from agents.run.registry import label
from agents.run.storage import opened
from envs.actions import Hybrid
from envs.api import VecEnv
from envs.errors import UserError, did_you_mean
from envs.make import make
from envs.single import has_native

EVALUATIONS, CHECKPOINTS = 20, 10  # of each training


@dataclass(frozen=True)
class PlannedTask(Task):
    """A task with all that is compared on it, and what SB3 lacks: of our settings, or of its own."""

    hyper: str
    seeds: list[int]
    sides: list[Side]
    left_out: list[str]

    def jobs(self, seed: int) -> list[Job]:
        """Return the runs of a seed; which side comes first changes from seed to seed."""
        first = seed % len(self.sides)
        task = {name: getattr(self, name) for name in Task.__dataclass_fields__}
        return [Job(**task, **vars(side), seed=seed) for side in (*self.sides[first:], *self.sides[:first])]

    def to_json(self) -> dict[str, Any]:
        """Return what `comparison.json` says of it."""
        values = dataclasses.asdict(self)
        sides = values.pop("sides")
        settings = {side["label"]: side["settings"] for side in sides}
        return values | {"labels": list(settings), "settings": settings}


def all_jobs(tasks: Sequence[PlannedTask]) -> list[Job]:
    """Return every run: seed by seed, so that a comparison that is stopped has all of the first ones, side by side."""
    seeds = sorted({seed for task in tasks for seed in task.seeds})
    return [job for seed in seeds for task in tasks if seed in task.seeds for job in task.jobs(seed)]


def plan_tasks(options: Options) -> tuple[list[PlannedTask], list[str]]:
    """Return the tasks, and a sentence for each that cannot be.

    Raises:
        UserError: an environment, an algorithm or a setting is not known, or nothing can be compared.
    """
    tasks, impossible = [], []
    for env in dict.fromkeys(options.env):
        for algo in dict.fromkeys(options.algos):
            try:
                tasks.append(_plan_task(env, algo, options))
            except Unfit as error:
                impossible.append(f"{task_name(env, algo)}: {error}")
    if not tasks:
        raise UserError(f"nothing to compare: {'; '.join(impossible)}.")
    for name in options.against:
        label = label_of(Path(name))
        if not _is_sb3(name) and all(side.label != label for task in tasks for side in task.sides):
            raise UserError(f"--against: {name} fits none of the tasks: it is of another environment or algorithm.")
    return tasks, impossible


def _is_sb3(name: str) -> bool:
    """Whether it means a training of SB3's: "sb3" (the algorithm of the same name as ours) or "sb3:ALGO"."""
    return name.partition(":")[0] == "sb3"


def _plan_task(env: str, algo: str, options: Options) -> PlannedTask:
    asked: dict[str, Any] = {"env": env, "algo": algo}
    if options.env_kwargs:
        asked["env_kwargs"] = parse_env_kwargs(options.env_kwargs)
    packaged = resolve([Layer(FLAGS, asked)])
    vec = "native" if has_native(env) else "sync"  # as SB3 steps them, and what goes on bit for bit
    actions = _refuse_misfit(packaged, vec)
    tuned = tuned_settings(algo, env) if algo in COUNTERPARTS and options.hyper == "tuned" else None
    budget = options.total_timesteps or (packaged.params.total_timesteps if tuned is None else tuned[1])
    if options.eval_freq is not None and options.eval_freq > budget:
        raise UserError(
            f"--eval-freq: {options.eval_freq:,} given, but {label(algo)} trains on {env} for {budget:,} steps: "
            "at most that."
        )
    task = Task(
        env=env,
        env_kwargs=packaged.env_kwargs,
        algo=algo,
        vec=vec,
        budget=budget,
        eval_freq=options.eval_freq or max(budget // EVALUATIONS, 1),
        eval_episodes=options.eval_episodes,
        final_eval_episodes=options.final_eval_episodes,
    )
    same = {name: value for name, value in vars(task).items() if name != "budget"}
    same |= {"total_timesteps": budget, "save_freq": max(budget // CHECKPOINTS, 1)}
    same |= {"device": "cpu", "target_reward": None, "eval_max_steps": "auto"}
    sides, left_out = _sides(options, same, actions)
    return PlannedTask(
        **vars(task), hyper=options.hyper, seeds=list(range(options.seeds or 0)), sides=sides, left_out=left_out
    )


def _one_env(task: RunConfig, vec: str, shown: RunConfig) -> VecEnv:
    """Make one copy of a task's environment, with observations and actions as `shown` has them."""
    how: dict[str, Any] = {"rescale_action": shown.params.rescales_action, **shown.params.observations.arguments}
    return make(task.env, 1, vec=vec, env_kwargs=task.env_kwargs, **how)


def _refuse_misfit(config: RunConfig, vec: str) -> str:
    """Build the environment and its algorithm, which may not fit one another; return the kind of action space."""
    from agents.run.build import make_algorithm

    with closing(_one_env(config, vec, config)) as env:
        try:
            make_algorithm(config.algo, env.observation_space, env.action_space, config.params, seed=0)
        except UserError as error:
            raise Unfit(str(error)) from error
        return type(env.action_space).__name__


def _sides(options: Options, same: dict[str, Any], actions: str) -> tuple[list[Side], list[str]]:
    """Return who is compared, and what SB3 lacks.

    Args:
        same: settings that are the same for all: environment, algorithm, budget, protocol, device.
        actions: the kind of action space, such as "Discrete".
    """
    ours = resolve([Layer(FLAGS, same)])
    sides, left_out = [our_side(ours, "ours")], list[str]()
    for name in dict.fromkeys(options.against):
        if name == "sb3" and ours.algo not in COUNTERPARTS and len(options.against) > 1:
            left_out.append("an algorithm of this name")
            continue
        if _is_sb3(name):
            side, without = sb3_side(name, ours, options.hyper, actions)
            left_out += without
        elif name.endswith((".yaml", ".yml")):
            side = other_side(Path(name), same, options.trust)
        elif found := model_side(Path(name), ours, trust=options.trust, vec_normalize=options.vec_normalize):
            side = found
        else:
            continue
        if side.label in [other.label for other in sides]:
            raise UserError(f"--against: {name} would be called {side.label!r}, as another is; rename it.")
        sides.append(side)
    return sides, left_out


def our_side(config: RunConfig, label: str) -> Side:
    """Return our training with these settings; the seed is not one of them.

    Raises:
        UserError: they have wrappers, which the others lack, or only one copy of the environment may run at a time.
    """
    _refuse_own(config, label)
    settings = {name: value for name, value in config.model_dump(mode="json").items() if name != "seed"}
    return Side(label, "ours", "ours", settings)


def sb3_side(name: str, ours: RunConfig, hyper: str, actions: str) -> tuple[Side, list[str]]:
    """Return SB3's training, and what it lacks: of our settings, or of what its own are tuned for.

    "sb3" may have our settings; with "sb3:ALGO" SB3 has its own.
    """
    algo = name.partition(":")[2] or ours.algo
    there = counterpart(algo)
    if actions == Hybrid.__name__:
        raise Unfit("stable-baselines3 takes no Dict or Tuple actions")
    if there.actions not in (actions, None):
        raise Unfit(f"{algo.upper()} of stable-baselines3 needs {there.actions} actions")
    left_out = list[str]()
    if name == "sb3" and hyper == "same":
        settings, left_out = translate_settings(algo, ours.params)
    elif tuned := tuned_settings(algo, ours.env):
        settings, steps = tuned
        if (cut := steps - ours.params.total_timesteps) > 0:
            left_out = [f"{cut:,} of the {steps:,} steps that its settings are tuned for"]
    else:
        settings = {"algo": algo, "n_envs": 1, "hyperparameters": {}, "normalize": None}
        left_out = ["tuned settings (it has its defaults)"]
    return Side(name.replace(":", "-"), "sb3", "sb3", settings), left_out


def other_side(file: Path, same: dict[str, Any], trust: bool) -> Side:
    """Return our training with the settings of a YAML file over those packaged for the environment.

    Raises:
        UserError: the file cannot be used, or is for something else than what is the `same` for all sides.
    """
    layer = config_layer(file, trust)
    for name in ("env", "algo"):
        if (values := layer.values).get(name, same[name]) != same[name]:
            raise UserError(f"{file}: {name} is {values[name]!r}, but it is to be compared on {same[name]!r}")
    return our_side(resolve([layer, Layer(FLAGS, same)]), label_of(file))


def model_side(path: Path, ours: RunConfig, *, trust: bool, vec_normalize: Path | None) -> Side | None:
    """Return a model that was trained before: a run folder of ours, or SB3's `.zip`; None if of another task.

    SB3's models do not say what environment they learnt. Where SB3 has no algorithm like ours, any of its models will
    do.

    Raises:
        UserError: there is no such model, it is not trusted, or one of ours does not fit the environment.
    """
    if is_sb3(path):
        from agents.lab.sb3_policy import refuse_untrusted, sb3_algo

        refuse_untrusted(path, trust)
        if ours.algo in COUNTERPARTS and sb3_algo(path) != ours.algo:
            return None
        settings = {"model": str(path.resolve()), "sha256": _sha256(path)}
        if vec_normalize is not None:
            settings |= {"vec_normalize": str(vec_normalize.resolve()), "vec_normalize_sha256": _sha256(vec_normalize)}
        return Side(label_of(path), "model", "sb3", settings)
    if not path.exists():
        near = did_you_mean(str(path), ["sb3", *(f"sb3:{algo}" for algo in COUNTERPARTS)])
        raise UserError(
            f"--against: {str(path)!r} given; 'sb3', 'sb3:ALGO', a YAML file of settings, a run folder, or a .zip of "
            f"stable-baselines3 expected.{near}"
        )
    from agents.run.models import load_policy
    from agents.run.play import refuse_unfit

    loaded = load_policy(path, "latest", trust=trust)
    if (loaded.env, loaded.algo) != (ours.env, ours.algo):
        return None
    _refuse_own(loaded.config, str(path))
    with closing(_one_env(ours, ours.vec, loaded.config)) as env:
        refuse_unfit(loaded, env, ours.env)
    settings = {"model": str(loaded.path.resolve()), "sha256": _sha256(loaded.path / "model.safetensors")}
    return Side(label_of(path), "model", "ours", settings)


def _refuse_own(config: RunConfig, what: str) -> None:
    if config.one_instance:
        raise UserError(
            f"{what} has one_instance, but all that is compared is trained and evaluated in copies of {config.env}, "
            "several at a time; train each with agents.train, and compare the runs: agents.compare RUN RUN"
        )
    if config.wrappers:
        raise UserError(
            f"{what} has wrappers of its own, and all that is compared must have the same environment: give --env "
            "a function that returns it with its wrappers, as in --env my.py:make_env"
        )


def label_of(path: Path) -> str:
    """Return what a file or folder is called in a comparison: its name, safe in paths."""
    name = path.resolve()
    return re.sub(r"[^\w.-]+", "-", name.name if name.is_dir() else name.stem).strip("-.") or "other"


def _sha256(file: Path) -> str:
    with opened(file, None, follow=True) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
