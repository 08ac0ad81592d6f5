"""A study on disk: its trials, who works on which, and what becomes of those whose worker was killed.

Optuna keeps the trials, by default in a journal in the study's folder. Each trial is worked on by one process, which
holds a lock for as long as it lives: what a dead one left is given to another, with the same settings, and counts once.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import sleep
from typing import Annotated, Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from agents.lab.tuning.plan import Plan
from agents.lab.tuning.population import ENDED, INTERVAL, STATES, needed, next_interval, unfinished
from agents.run.lock import taken
from agents.run.storage import disk, refuse_links
from envs.errors import UserError

optuna.logging.set_verbosity(optuna.logging.ERROR)

MOST_JOURNAL, MOST_LINE = 2**30, 2**20  # bytes of a journal, and of one of its lines
JOURNAL, CLAIM, WORKERS = "journal.log", "claim.lock", "workers"
PLAN, WORKER, WHY, SETTINGS, RETRY = "plan", "worker", "why", "settings", "retry of"
ABANDONED = "its worker ended before it did"  # and so it counts as not begun
UNFIT = "its settings exclude one another"  # and so it is no try
POLL = 0.02  # seconds between two tries to take a lock
MOST_UNFIT = 20  # of such trials for each that is asked for


@contextmanager
def held(file: Path) -> Iterator[int]:
    """Wait for a lock, and have it until the block ends; a process that is killed gives it back."""
    with disk("write", file):
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        while not taken(descriptor, alone=True):
            sleep(POLL)
        yield descriptor
    finally:
        os.close(descriptor)


class _JournalLock(JournalFileOpenLock):
    """Keeps the journal whole: a line that a killed process, or a full disk, left torn is cut off before the next."""

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal, self._stack = journal, ExitStack()

    def acquire(self) -> bool:
        self._stack.enter_context(held(self._journal.with_suffix(".lock")))
        with self._journal.open("r+b") as stream:
            end = stream.seek(0, os.SEEK_END)
            if end > MOST_JOURNAL:
                raise UserError(f"{self._journal} is foreign: it has {end:,} bytes, and ours at most {MOST_JOURNAL:,}")
            whole = _end_of_lines(stream, end)
            if end - whole > MOST_LINE:
                raise UserError(f"{self._journal} is damaged: its last line is {end - whole:,} bytes long")
            if whole < end:
                stream.truncate(whole)
        return True

    def release(self) -> None:
        self._stack.close()


def _end_of_lines(stream: Any, end: int) -> int:
    """Return where the last whole line ends, but look no further back than a line of ours is long."""
    first = max(end - MOST_LINE - 1, 0)
    stream.seek(first)
    return first + stream.read(end - first).rfind(b"\n") + 1


def open_storage(folder: Path, url: str | None) -> BaseStorage:
    """Return where a study's trials are: the folder's journal, or a database.

    Raises:
        UserError: it cannot be opened, is damaged, or something in the folder leads elsewhere.
    """
    with disk("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    refuse_links(folder)  # states of trials are removed with all that lies in them
    with disk("write", folder):
        (folder / WORKERS).mkdir(exist_ok=True)
    try:
        if url is not None:
            return optuna.storages.get_storage(url)
        journal = folder / JOURNAL
        with disk("write", journal):
            journal.touch()
            lock = _JournalLock(journal)
            lock.acquire()  # which cuts a torn end off before anything is read
            lock.release()
        return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
    except UserError:
        raise
    except Exception as error:  # of whatever database
        what = url or str(folder / JOURNAL)
        raise UserError(f"{what} cannot be used as a study: {' '.join(str(error).split())[:200]}") from error


def study_names(folder: Path) -> list[str]:
    """Return the studies in a folder's journal.

    Raises:
        UserError: it is damaged.
    """
    with _whole(str(folder / JOURNAL)):
        return optuna.get_all_study_names(open_storage(folder, None))


def _task(name: str) -> str:
    """Return the environment and the algorithm of the study of this name; beside them it says how it samples."""
    return name.rpartition("__")[0]


@contextmanager
def _whole(what: str) -> Iterator[None]:
    """Turn whatever Optuna raises of a study that is not as Optuna wrote it into one sentence.

    Raises:
        UserError: it is damaged.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UserError(f"{what} is damaged: {type(error).__name__}: {said}") from error


_Whole = Annotated[int, Field(ge=0)]
_Number = Annotated[list[FiniteFloat], Field(min_length=3, max_length=3)]  # of an evaluation


class _Told(BaseModel):
    """What is said of a trial by those that carry it out."""

    model_config = ConfigDict(strict=True)

    settings: dict[str, Any] | None = None
    seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    curves: list[list[_Number]] = []
    why: str = ""
    worker: str | None = None
    member: _Whole | None = None
    interval: _Whole | None = None
    parent: _Whole | None = None


def _refuse_altered(study: Study, where: str) -> None:
    """Refuse a study whose trials hold what none of ours do.

    Raises:
        UserError: the message names the trial.
    """
    plan = study.plan
    if len(study.optuna.directions) != len(plan.goals) or not isinstance(study.optuna.user_attrs.get("trials", 0), int):
        raise UserError(f"{where} was altered: its goals, or the number of its trials, are not those of its plan")
    for trial in study.trials:
        try:
            told = _Told.model_validate(trial.user_attrs)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise UserError(f"{where} was altered: trial {trial.number}: {place[:80]}: {first['msg']}") from error
        for name, value in (told.settings or {}).items():
            if name not in plan.space or not plan.space[name].parameters(name, value):
                raise UserError(f"{where} was altered: trial {trial.number}: {name} {value!r:.80} is not of its space")
        if trial.state is TrialState.COMPLETE and len(trial.values or ()) != len(plan.goals):
            raise UserError(f"{where} was altered: trial {trial.number} has not one value for each goal")
        if plan.population and (told.member is None or told.member >= plan.population or told.interval is None):
            raise UserError(f"{where} was altered: trial {trial.number} is of no member of the population")
        if told.parent is not None and told.parent >= trial.number:
            raise UserError(f"{where} was altered: trial {trial.number} goes on from a later one")


class Study:
    """The trials of one search.

    Attributes:
        plan: what is searched for, and how.
        optuna: the study of Optuna's beneath.
    """

    def __init__(self, folder: Path, url: str | None, plan: Plan | None = None, name: str | None = None) -> None:
        """Open the study of that name, or of a plan; the latter begins it where there is none yet.

        Raises:
            UserError: there is none, or it is damaged, or another search's; the message names what differs.
        """
        self.folder = folder
        self._storage = storage = open_storage(folder, url)
        name = name if plan is None else plan.name
        with held(folder / CLAIM), _whole(url or str(folder / JOURNAL)):
            if name not in (others := optuna.get_all_study_names(storage)):
                if plan is None:
                    raise UserError(f"{url or folder} holds no study {name or ''}".rstrip())
                if url is None and (other := next((one for one in others if _task(one) != _task(plan.name)), None)):
                    raise UserError(f"{folder} holds another search: {other}. Choose another --out for this one.")
                made = optuna.create_study(study_name=name, storage=storage, directions=plan.directions)  # type: ignore[arg-type]
                made.set_user_attr(PLAN, plan.to_plain())
            self.optuna = optuna.load_study(study_name=name, storage=storage)
            try:
                self.plan = Plan.from_plain(self.optuna.user_attrs[PLAN])
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                raise UserError(f"the study {name} of {url or folder} is none of this suite's") from error
            if plan is not None:
                plan.refuse_other(self.plan, folder)
            _refuse_altered(self, str(url or folder / JOURNAL))
        self.optuna.sampler, self.optuna.pruner = self.plan.sampler(), self.plan.pruner()

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, whatever became of them."""
        return self.optuna.get_trials(deepcopy=False)

    def counted(self) -> list[FrozenTrial]:
        """Return the trials that are tries: without those abandoned, which came again, and those that were unfit."""
        return [trial for trial in self.trials if trial.user_attrs.get(WHY) not in (ABANDONED, UNFIT)]

    def done(self) -> list[FrozenTrial]:
        """Return the counted trials that have ended."""
        return [trial for trial in self.counted() if trial.state in ENDED]

    @property
    def unfit(self) -> int:
        """How many trials had settings that exclude one another, so that nothing was tried."""
        return sum(trial.user_attrs.get(WHY) == UNFIT for trial in self.trials)

    @property
    def exhausted(self) -> bool:
        """Whether so many were unfit that no more are proposed."""
        return self.unfit > MOST_UNFIT * self.plan_trials

    def best(self, most: int) -> list[FrozenTrial]:
        """Return the best finished trials, settings that differ, best first; with two goals, the front first."""
        finished = [trial for trial in self.counted() if trial.state is TrialState.COMPLETE]
        whole = [trial for trial in finished if trial.user_attrs.get(INTERVAL) == self.plan.evaluations - 1]
        finished = whole or finished  # of a population its members at their end
        signs = [1 if way is StudyDirection.MINIMIZE else -1 for way in self.optuna.directions]
        costs = {t.number: tuple(s * v for s, v in zip(signs, t.values, strict=True)) for t in finished}

        def rank(trial: FrozenTrial) -> Any:
            mine = costs[trial.number]
            beaten = sum(
                other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in costs.values()
            )
            return (beaten, mine, trial.user_attrs.get("seconds", 0.0), trial.number)

        found: list[FrozenTrial] = []
        for trial in sorted(finished, key=rank):
            if all(trial.params != other.params for other in found):
                found.append(trial)
        return found[:most]

    def enqueue(self, params: dict[str, Any]) -> None:
        """Let a trial with these parameters be the next, unless there is one."""
        if params and all(trial.params != params and _fixed(trial) != params for trial in self.trials):
            self.optuna.enqueue_trial(params)

    def claim(self, worker: str) -> Trial | None:
        """Return a trial for a worker to carry out; None where as many are done, or under way, as are wanted."""
        with held(self.folder / CLAIM):
            self._give_up_abandoned()
            taken = sum(trial.state is not TrialState.WAITING for trial in self.counted())
            if taken >= self.plan_trials or self.exhausted:
                if self.plan.population:
                    self._let_states_go()
                return None
            if self.plan.population and not self._enqueued_interval(self.unfit):
                return None  # all that is left is under way
            trial = self.optuna.ask()
            trial.set_user_attr(WORKER, worker)
            return trial

    def _enqueued_interval(self, unfit: int) -> bool:
        """Let the interval that comes next be the next trial; return whether there is one."""
        counted = self.counted()
        if any(trial.state is TrialState.WAITING for trial in counted):
            return True  # of a worker that was killed in between
        if (found := next_interval(self.plan, counted, unfit)) is None:
            return False
        self.optuna.enqueue_trial(found[0], user_attrs=found[1])
        self._let_states_go()
        return True

    def _let_states_go(self) -> None:
        """Remove what trials ended with that no other goes on from."""
        kept = needed(self.plan, self.counted())
        for folder in (self.folder / STATES).glob("*"):
            if folder.name.isdecimal() and int(folder.name) not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def standing(self) -> tuple[int, ...]:
        """Return what changes whenever there may be something to claim that there was not before."""
        trials = self.trials
        running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        dead = sum(self.is_dead(trial.user_attrs.get(WORKER)) for trial in running)
        return (self.plan_trials, len(trials), len(running), len(self.done()), dead)

    def workers(self, most: int) -> int:
        """Return how many of so many workers have something to do."""
        members = self.plan.population
        return min(most, unfinished(self.plan, self.counted()) if members else self.plan_trials - len(self.done()))

    @property
    def plan_trials(self) -> int:
        """How many trials are wanted by now: more may be asked for of a study that is done."""
        return int(self.optuna.user_attrs.get("trials", 0))

    def progress(self) -> str:
        """Say how far it has come, and how it goes on."""
        return f"{len(self.done())} of {self.plan_trials} trials are done and kept: the same command goes on"

    def want(self, trials: int) -> None:
        """Say how many trials are wanted."""
        self.optuna.set_user_attr("trials", trials)

    def abandon(self, trial: Trial | FrozenTrial) -> None:
        """Give a trial up that was not carried out to its end; one with the same parameters takes its place."""
        if not self.plan.population:  # whose next interval is this one again
            frozen = self.optuna.get_trials(deepcopy=False)[trial.number]
            self.optuna.enqueue_trial(_fixed(frozen) | frozen.params, user_attrs={RETRY: trial.number})
        self.close(trial, TrialState.FAIL, ABANDONED)

    def close(self, trial: Trial | FrozenTrial, state: TrialState, why: str) -> None:
        """End a trial without a result, and say why."""
        self._storage.set_trial_user_attr(trial._trial_id, WHY, why[:500])
        self.optuna.tell(trial.number, state=state)

    def _give_up_abandoned(self) -> None:
        for trial in self.trials:
            if trial.state is TrialState.RUNNING and self.is_dead(trial.user_attrs.get(WORKER)):
                self.abandon(trial)

    def is_dead(self, worker: str | None) -> bool:
        """Whether a worker has ended; of one on another machine, whose lock is not here, that is not known."""
        if worker is None:
            return True  # trials are claimed under a lock: whoever began it was killed before it could sign it
        file = self.folder / WORKERS / worker
        with suppress(OSError):
            descriptor = os.open(file, os.O_RDWR)
            try:
                return taken(descriptor, alone=True)
            finally:
                os.close(descriptor)
        return False


def _fixed(trial: FrozenTrial) -> dict[str, Any]:
    return dict(trial.system_attrs.get("fixed_params", {}))


@contextmanager
def at_work(folder: Path) -> Iterator[str]:
    """Be a worker of a study until the block ends, or this process does; yield its name."""
    name = uuid.uuid4().hex
    with held(folder / WORKERS / name):
        yield name
    with suppress(OSError):
        (folder / WORKERS / name).unlink()
