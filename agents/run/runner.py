"""One run from start to last screen: train, log, evaluate, checkpoint, stop cleanly, resume."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import torch

from agents.run import code
from agents.run.breaking import save_on_error, stop_signals
from agents.run.build import build
from agents.run.concluding import conclude
from agents.run.config import RECORD_STEPS, RunConfig
from agents.run.evaluator import settled
from agents.run.folder import RunFolder
from agents.run.lock import Lock
from agents.run.metrics import UserMetrics
from agents.run.monitor import Monitor
from agents.run.resuming import load_latest, refuse_finished
from agents.run.run import TAKING_TURNS, Run, Track
from agents.run.storage import remove_folder, return_to, within
from agents.run.summary import Summary, resume_command
from agents.run.training import Training
from agents.run.transfer import begin, changed


def train(
    config: RunConfig,
    *,
    runs_dir: Path,
    replays_dir: Path,
    folder_name: str | None = None,
    resume: Path | None = None,
    quiet: bool = False,
    record_steps: int = RECORD_STEPS,
    doctor: bool = True,
    film: bool = False,
    track: Track | None = None,
    training: Training | None = None,
    on_start: Callable[[Run], None] | None = None,
) -> Summary:
    """Train as `config` says, in a new folder in `runs_dir` (`folder_name` or its own), or going on in `resume`.

    A `training` that is there already goes on, and its environments stay open.

    Args:
        replays_dir: where an episode of the best policy is recorded at the end.
        record_steps: the most steps of it that are recorded; 0 records none.
        on_start: called with the run before the training begins.
        doctor: whether the training is watched for what keeps it from learning.
        film: whether models are kept for the learning film.
        track: makes a sink that scalars go to, too, of the run folder and the configuration.

    Raises:
        UserError: anything the user can mend; what was learnt until then is saved in the run folder.
    """
    if config.metrics is not None:
        UserMetrics(config.metrics)  # a mistake in its name is told before anything is built
    replays = replays_dir.absolute(), replays_dir
    here = Path.cwd()
    with ExitStack() as stack:
        stack.callback(return_to, here)  # environments may lead this process elsewhere
        given, folder = training is not None, None
        unless_begun = stack.enter_context(ExitStack())  # does its work once the lock is given back
        if resume is not None:
            folder = RunFolder.open(resume).fixed()
            lock = stack.enter_context(closing(Lock(folder.path)))
        if training is None:
            training = build(config)
            stack.enter_context(closing(training.env))
            if folder is None:
                begin(training)
            with within(here):
                place = runs_dir if folder is None else folder.path
                training.refuse_too_large_on_disk(place, resumed=folder is not None)
        training.config = settled(training.config, training.step)
        monitor = Monitor(training.step)
        notes: list[str] = []
        if folder is None:
            with within(here):
                folder = RunFolder.create(
                    runs_dir, training.config, folder_name=folder_name, threads=torch.get_num_threads()
                ).fixed()
            if folder_name is None:
                unless_begun.callback(remove_folder, folder.path)
            lock = stack.enter_context(closing(Lock(folder.path)))
            notes = [*changed(training), *code.keep(folder.path, training.config.model_dump(mode="json"))]
            if training.origin is not None:
                folder.write_origin(training.origin)
            training.keep_files_in(folder.path)
        else:
            folder.tidy()
            training.keep_files_in(folder.path)
            notes = load_latest(training, monitor, folder)
            refuse_finished(training, monitor, folder)
            notes += training.schedules_since(folder.budget(training.config.params))
        if lock.note:
            notes.append(lock.note)
        if config.one_instance:
            notes.append(TAKING_TURNS)
        with closing(
            Run(
                training,
                folder,
                monitor,
                resumed=resume is not None,
                quiet=quiet,
                doctor=doctor,
                film=film,
                track=track,
            )
        ) as run:
            unless_begun.pop_all()
            if resume is not None:  # not before: the run that is there stays whole where this one cannot begin
                folder.resume(training.config)
                code.sign(folder.path, training.config.model_dump(mode="json"))
            run.keeps_env = given
            if on_start is not None:
                on_start(run)
            return carry_out(run, notes, replays, record_steps if training.algorithm.acts else 0)


def train_out(training: Training, runs_dir: Path, quiet: bool) -> Summary:
    """Train what is there already in a run folder of its own, without doctor and recording; close its environments.

    Raises:
        UserError: as `train`.
    """
    with closing(training.env):
        return train(
            training.config,
            runs_dir=runs_dir,
            replays_dir=runs_dir,
            quiet=quiet,
            record_steps=0,
            doctor=False,
            training=training,
        )


def carry_out(run: Run, notes: list[str], replays: tuple[Path, Path], record_steps: int) -> Summary:
    """Train, save and conclude; whatever breaks off, the error notes what was saved and how to go on."""
    with stop_signals() as stop:
        try:
            run.print_header(notes)
            run.loop(stop)
            with run.monitor.paused("saving"):
                run.checkpoint()
            run.save_latest()
        except BaseException as error:
            save_on_error(run, error)
            raise
        interrupted = stop.is_set()
        stop.set()  # all is saved: from here on a signal interrupts at once
        try:
            return conclude(run, interrupted, replays, record_steps)
        except BaseException as error:
            if run.folder.there:
                do = resume_command(run.folder.shown)
                error.add_note(f"The training is saved, but not yet brought to its end. To do that: {do}")
            else:
                save_on_error(run, error)
            raise
