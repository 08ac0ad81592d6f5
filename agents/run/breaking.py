"""How a run breaks off: the signals that ask for it, and what is saved when an error does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import torch

from agents.core.signals import ENDING, handling
from agents.learning.results import Diverged
from agents.run import code
from agents.run.doctor.diverged import explain
from agents.run.folder import RunFolder
from agents.run.summary import resume_command
from envs.errors import UserError

if TYPE_CHECKING:
    from agents.run.run import Run
    from agents.run.summary import Summary


class Stop(threading.Event):
    """Set when a run is to stop; `take_again` takes the signals from an environment that has put handlers in place."""

    take_again: Callable[[], None]


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Turn the first Ctrl-C, `kill` or closed terminal into an event; once that is set, another interrupts at once."""
    stop = Stop()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        with suppress(OSError):  # its terminal is gone
            os.write(2, b"\nStopping after this round, to save it whole. Again to stop at once.\n")  # print may be busy

    with handling(handle, signal.SIGINT, *ENDING) as stop.take_again:
        yield stop


def interrupt_too(summary: Summary) -> Summary:
    """Return a run's summary to a program that goes on after it, unless a signal stopped the run.

    Raises:
        KeyboardInterrupt: one did. All of the run is saved.
    """
    if not summary.interrupted:
        return summary
    stop = KeyboardInterrupt()
    stop.add_note(f"What was learnt is saved in {summary.run}.")
    raise stop


def save_on_error(run: Run, error: BaseException) -> None:
    """Save what was learnt when training breaks, and note on the error what became of it."""
    if not run.training.step:
        return
    if isinstance(error, Diverged) and run.doctor is not None:
        explain(error, run.doctor, run.training, run.folder)
    model = run.training.algorithm.model
    if not all(parameter.isfinite().all() for parameter in model.parameters()):
        good = None if run.doctor is None else run.doctor.bring_back(model)
        if good is None:
            error.add_note(f"The network is not saved, as its weights are not finite any more; see {run.folder.shown}.")
            return
        run.save_model_of(good)
        error.add_note(f"The model of step {good:,}, the last good one there is, is saved in {run.folder.shown}.")
        return
    what = "What was learnt"
    try:
        if not run.folder.there:
            begin_elsewhere(run)
        run.save_latest()
        what = "The model is saved, but the state of its training"
        kept = None if run.between_ticks else run.folder.resumable()
        if kept is not None and (isinstance(error, KeyboardInterrupt) or kept[0] == run.training.step):
            # from in between two rounds it goes on as if it had never stopped, which this one could not
            error.add_note(
                f"The model is saved as it was. To go on from the checkpoint at step {kept[0]:,}: "
                f"{resume_command(run.folder.shown)}"
            )
            return
        run.checkpoint()
        error.add_note(f"What was learnt is saved. To go on: {resume_command(run.folder.shown)}")
    except UserError as second:
        reason = ", for the same reason" if str(second) == str(error) else f": {second}"
        error.add_note(f"{what} could not be saved{reason}.")
        if saved := run.folder.resumable():
            error.add_note(f"To go on from the checkpoint at step {saved[0]:,}: {resume_command(run.folder.shown)}")


def begin_elsewhere(run: Run) -> None:
    """Go on in a new run folder, beside the place of the one that is gone.

    Raises:
        UserError: nothing can be written there.
    """
    made = RunFolder.create(run.folder.path.parent, run.config, threads=torch.get_num_threads())
    code.keep(made.path, run.config.model_dump(mode="json"))
    run.folder = RunFolder(made.path, run.folder.shown.parent / made.path.name)
