"""From what is asked of a search to its plan, and to the trials that it begins with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.lab.tuning.options import Options
from agents.lab.tuning.plan import Plan
from agents.lab.tuning.space import Space, extremes, find_space, parameters, read_space
from agents.lab.tuning.study import JOURNAL, SETTINGS, Study, study_names
from agents.run import registry
from agents.run.build import build
from agents.run.config import FLAGS, Layer, config_layer, resolve
from agents.run.flags import parse_env_kwargs
from agents.run.training import restore
from envs.errors import UserError
from envs.locate import env_label
from envs.single import reward_threshold

POPULATION = 8  # members where nothing else is said
WARM = 3  # trials of each earlier search that are tried first


def make_plan(options: Options) -> tuple[Plan, Path]:
    """Return the plan, and the folder of its study.

    Raises:
        UserError: the environment, the algorithm, a setting or the space cannot be used.
    """
    layers = [] if options.config is None else [config_layer(options.config, options.trust)]
    asked: dict[str, Any] = {"env": options.env, "algo": options.algo, "target_reward": None, "eval_freq": 0}
    asked |= {"total_timesteps": options.total_timesteps} if options.total_timesteps else {}
    asked |= {"preset": options.preset} if options.preset else {}
    asked |= {"env_kwargs": parse_env_kwargs(options.env_kwargs)} if options.env_kwargs else {}
    config = resolve([*layers, Layer(FLAGS, asked)])
    if options.retrain and config.wrappers:
        raise UserError(
            f"{options.env} has wrappers of its own, and the comparison on fresh seeds takes none: give --env a "
            "function that returns it with its wrappers, as in --env my.py:make_env, or --retrain 0"
        )
    if config.one_instance and (options.retrain or (options.workers or 1) > 1):
        raise UserError(
            f"only one copy of {options.env} may run at a time (one_instance), so trials run one after the other and "
            "none are trained on fresh seeds: --workers 1 --retrain 0"
        )
    with closing(build(config).env):
        pass  # an environment or a setting that does not fit is told now, not by every trial
    base = {name: value for name, value in config.model_dump(mode="json").items() if name != "seed"}
    spec = registry.find(config.algo)
    threshold = None
    if options.objective == "time":
        threshold = reward_threshold(config.env) if options.threshold is None else options.threshold
        if threshold is None:
            raise UserError(f"{config.env} has no threshold of its own: give the return to reach as --threshold")
    elif options.threshold is not None:
        raise UserError(f"--threshold goes with --objective time; it is {options.objective}")
    is_pbt = options.sampler == "pbt"
    plan = Plan(
        base=base,
        space=read_space(find_space(options.space, spec), spec, base),
        objective=options.objective,
        threshold=threshold,
        seeds=1 if is_pbt else options.seeds,
        evaluations=options.evaluations,
        eval_episodes=options.eval_episodes,
        sampling=options.sampler,
        pruning="none" if is_pbt else options.pruner,
        population=(options.population or POPULATION) if is_pbt else 0,
    )
    plan.config({}, 0)  # what the settings beneath exclude, every trial would
    if is_pbt:
        plan = replace(plan, space=changeable(plan))
    out = options.out or Path("runs", "tune", f"{env_label(config.env)}__{registry.label(config.algo)}")
    return plan, out


def changeable(plan: Plan) -> Space:
    """Return that part of a plan's space which a network in training can change: its state fits all values.

    Raises:
        UserError: nothing is left.
    """
    kept: Space = {}
    with closing((training := build(plan.config({}, 0))).env):
        state = {"training": training.state_dict()}
    for name, dimension in plan.space.items():
        if all(_takes(plan, {name: value}, state) for value in extremes(dimension)):
            kept[name] = dimension
    if not kept:
        raise UserError(f"a network in training can change none of {', '.join(plan.space)}: give another --space")
    return kept


def _takes(plan: Plan, values: dict[str, Any], state: dict[str, Any]) -> bool:
    try:
        config = plan.config(values, 0)
    except UserError:
        return True  # it does not go with the other settings, which changes with them
    with closing((training := build(config)).env), suppress(UserError):
        restore(training, state)
        return True
    return False


def warm_start(study: Study, folders: Sequence[Path]) -> None:
    """Let a new study begin with the settings that trials change, and with the best of earlier searches.

    Raises:
        UserError: a folder holds no search with this algorithm.
    """
    if study.trials:
        return
    plan = study.plan
    study.enqueue(parameters(plan.space, plan.base))
    for folder in folders:
        if not (folder / JOURNAL).is_file():
            raise UserError(f"--warm-start: {folder} holds no search")
        earlier = [Study(folder, None, name=name) for name in study_names(folder)]
        fitting = [one for one in earlier if one.plan.algo == plan.algo]
        if not fitting:
            raise UserError(f"--warm-start: {folder} is of another algorithm than {plan.algo}")
        for one in fitting:
            for trial in one.best(WARM):
                study.enqueue(parameters(plan.space, trial.user_attrs.get(SETTINGS) or {}))
