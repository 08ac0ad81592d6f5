"""A model's folder, as `Model.save` writes it: what it may replace, and what goes into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.run import code
from agents.run.folder import run_of
from agents.run.models import LoadedPolicy, copy_training_state, save_model, state_folder
from agents.run.storage import atomic_folder, read_json, refuse_foreign
from agents.run.trees import FORMAT, VERSION, is_file_of, write_tree
from envs.errors import UserError


def refuse_other(path: Path) -> None:
    """Refuse a place at which something lies that `save` did not write.

    Raises:
        UserError: the message says what lies there.
    """
    if not path.exists() and not path.is_symlink():
        return
    if found := _other(path):
        raise UserError(f"{path} is there already, and {found}: give another path")


def _other(path: Path) -> str:
    """Say why what lies at a path is no model that `save` wrote; "" where it is one."""
    if path.is_symlink():
        return "is a symbolic link"
    if not path.is_dir():
        return "is no folder"
    if (path / "config.yaml").exists():
        return "holds a run, which would be lost"
    if (run := run_of(path)) != path.resolve():
        return f"is part of the run {run}"
    names = sorted(entry.name for entry in path.iterdir())
    if "model.json" not in names:
        return "holds no model"
    strange = [name for name in names if not _written(path / name)]
    if strange:
        return f"holds {', '.join(strange[:3])}{' and more' * (len(strange) > 3)} beside a model, which would be lost"
    try:
        refuse_foreign(path / "model.json", read_json(path / "model.json"), FORMAT, VERSION)
    except UserError as error:
        return f"holds no model of ours ({error})"
    return ""


def _written(entry: Path) -> bool:
    """Whether `save` writes something of this name and kind."""
    if entry.name == code.FOLDER:
        return entry.is_dir() and not entry.is_symlink() and code.is_kept(entry)
    return not entry.is_dir() and any(is_file_of(entry.name, name) for name in ("model", "state"))


def is_place_of(path: Path, loaded: LoadedPolicy) -> bool:
    """Whether at a path lies the training state that goes with a loaded model."""
    folder = state_folder(loaded)
    return folder is not None and folder.resolve() == path.resolve()


def save(path: Path, now: LoadedPolicy, state: dict[str, Any] | None, training: bool) -> None:
    """Write a model, with its training's `state`, or if there is none with that from where it was loaded.

    Raises:
        UserError: it cannot be written.
    """
    with atomic_folder(path) as folder:
        save_model(folder, now.policy.model, now.config, now.own_spaces, now.step)
        code.keep(folder, now.config.model_dump(mode="json"))
        if training and state is not None:
            write_tree(folder, "state", {"training": state}, {"step": now.step})
        elif training:
            copy_training_state(now, folder)
