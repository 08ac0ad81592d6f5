"""Experiment trackers as sinks of scalars: Weights & Biases, and trackio, which takes the same calls."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from agents.run.config import RunConfig
from agents.run.sinks import Scalars
from envs.errors import UserError, words_of


def tracker(library: str, project: str) -> Callable[[Path, RunConfig], Tracker]:
    """Return what makes the tracker of a run, of its folder and configuration.

    Args:
        library: "wandb" or "trackio".
        project: under which it shows the run.

    Raises:
        UserError: its package is missing.
    """
    try:
        module = import_module(library)
    except ImportError as error:
        raise UserError(f'--track needs the package {library}: pip install -e ".[{library}]"') from error
    return partial(Tracker, module, project)


class Tracker:
    """Sends a run's settings and scalars, as they are written, to an experiment tracker.

    What else that needs (an account, where to, offline or not) it takes from environment variables of its own, such as
    WANDB_MODE=offline. A run that is resumed goes on under the name of its folder. Where sending fails, that is said,
    nothing more is sent, and the run goes on.

    Args:
        module: the tracker's package.
        project: under which it shows the run.
        folder: of the run.

    Raises:
        UserError: it does not begin.
    """

    def __init__(self, module: Any, project: str, folder: Path, config: RunConfig) -> None:
        name, settings = module.__name__, config.model_dump(mode="json")
        self.name = name
        self.say: Callable[[str], None] = print
        where = {"id": folder.name} if name == "wandb" else {}  # trackio knows runs by their names
        try:
            with redirect_stdout(sys.stderr):  # what the command prints may be read by a program
                self._run = module.init(project=project, name=folder.name, config=settings, resume="allow", **where)
        except Exception as error:  # each has errors of its own
            raise UserError(f"--track: {name} does not begin: {' '.join(str(error).split())}") from error

    def write(self, step: int, scalars: Scalars) -> None:
        """Send one row of scalars."""
        if self._run is not None:
            with self._sending():
                self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """Send what is left, and end the tracker's run."""
        if self._run is not None:
            with self._sending():
                self._run.finish()

    @contextmanager
    def _sending(self) -> Iterator[None]:
        try:
            with redirect_stdout(sys.stderr):
                yield
        except (Exception, SystemExit) as error:  # each has errors of its own
            self._run = None
            why = f"{type(error).__name__}: {' '.join(words_of(error).split())}"
            self.say(f"--track: nothing more is sent to {self.name}: {why}")
