"""The Python API: train, ask, evaluate, record, save and load from a script or a notebook.

`from agents import PPO, DQN, SAC, load`. Every packaged algorithm is a class here, named as in the literature; PyTorch
is imported when the first one needs it.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from agents.api import arguments
from agents.api.model import Model
from agents.api.shown import Progress, Video
from agents.run import code, registry, spellings
from agents.run.config import RUN_FIELDS, moved_to
from envs.errors import UserError, did_you_mean, listed, not_one_of

__all__ = ["Model", "Progress", "Video", "algorithm", "load"]


def load(
    path: str | os.PathLike[str] = "latest",
    checkpoint: str = "best",
    *,
    device: str | None = None,
    trust: code.Trust = False,
) -> Model:
    """Load a model that `Model.save` or a training wrote.

    Args:
        path: a run folder, a folder with a model in it, or "latest": the run in `runs/` that was begun last.
        checkpoint: of a run: "best" by its own evaluations, "latest", or a step. Training it further goes on exactly
            from a checkpoint whose training state is still there, as "latest" is; from weights alone, the optimiser
            begins anew.
        device: where it computes, and is trained further; by default it computes on the CPU, and is trained where it
            was, if this machine has such a device.
        trust: run code outside the package that its files name, though it was not made by you on this machine; or
            the names of the code that may be run.

    Raises:
        UserError: there is no such model, its files are torn, altered or foreign, or they name code that is not to
            be run.
    """
    from agents.core.device import choose_device
    from agents.core.precision import use_products
    from agents.run.folder import find_latest_run
    from agents.run.models import load_policy, runs_here

    run = arguments.place("path", path)
    if run == Path("latest") and not run.exists():
        run = find_latest_run(Path("runs"))
    allowed = get_args(RUN_FIELDS["device"].annotation)
    where = "cpu" if device is None else arguments.one_of("device", device, allowed)
    chosen, _ = choose_device(where, env_on_gpu=False, flops=0, batch_size=1)
    loaded = load_policy(run, str(checkpoint), str(chosen), trust=arguments.trusted(trust))
    use_products(loaded.config.precision)
    config = loaded.config
    moved = runs_here(config) if device is None else config.model_copy(update=moved_to(config, str(chosen)))
    loaded = replace(loaded, config=moved)
    return algorithm(loaded.config.algo)._of(loaded)


def algorithm(name: str) -> type[Model]:
    """Return the class of an algorithm: "ppo", or one of your own as "my_file.py:Class".

    Raises:
        UserError: there is none of this name.
    """
    if not isinstance(name, str):
        raise UserError(f"algorithm: {not_one_of(name, registry.names())} Your own: {registry.FORMS}")
    spec = registry.find(name)
    title = registry.title_of(spec.name)
    if title not in _classes or _classes[title].algo != spec.name:
        doc = f"{title} on an environment.\n{(Model.__doc__ or '').partition(chr(10))[2]}"
        _classes[title] = type(title, (Model,), {"algo": spec.name, "__doc__": doc, "__module__": "agents"})
    return _classes[title]


_classes: dict[str, type[Model]] = {}


def names() -> list[str]:
    """Return what `from agents import ...` finds."""
    return [*__all__, *map(registry.title_of, registry.names())]


def find(name: str) -> Any:
    """Return what `from agents import name` means.

    Raises:
        AttributeError: nothing.
    """
    if name in __all__:
        return globals()[name]
    titles = {registry.title_of(one): one for one in registry.names()}
    if name in titles:
        return algorithm(titles[name])
    hint = spellings.algorithm(name, _call) or did_you_mean(name, names())
    said = f"agents has no {name!r}.{hint} There are {listed(names())}."
    raise AttributeError(said, name=name, obj=None)  # None: Python adds no guess of its own


def _call(algo: str, **settings: str) -> str:
    """Write how a model of an algorithm is made."""
    return f"{registry.title_of(algo)}({', '.join(['env', *(f'{key}={value!r}' for key, value in settings.items())])})"
