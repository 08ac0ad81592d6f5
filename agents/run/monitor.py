"""What a run knows of itself: recent episodes, mean metrics, evaluations, speed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import fmean
from time import perf_counter
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from agents.core.saved import MOST
from agents.core.types import Episodes, Iteration, successes

MOST_UNREAD = 1_000  # parts of episodes gathered before they are read
LOG_ROWS = 200  # about how many rows of scalars a whole run writes at most
WINDOW = 100  # episodes that rollout/ep_rew_mean, ep_len_mean and success_rate average over, as in SB3


class Monitor:
    """Gathers `Iteration` and turns it into TensorBoard scalars.

    Attributes:
        best: (mean return, step) of the best evaluation so far, or None.
        reached: mean return that confirmed the target at the latest evaluation, or None where nothing did.
        first: step at which the run began; later than 0 where it goes on with a model that had learnt before.
        handled: step up to which all that fell due (evaluations, rows, checkpoints) has been done.
        evaluated: steps that evaluations have taken, without those that confirm a target.
        last_video: step of the last video.
        spent: "evaluation", "recording" or "saving" -> seconds.
    """

    def __init__(self, first: int = 0) -> None:
        self.first = self.handled = first
        self.returns: deque[float] = deque(maxlen=WINDOW)
        self.lengths: deque[int] = deque(maxlen=WINDOW)
        self.successes: deque[float] = deque(maxlen=WINDOW)
        self.best: tuple[float, int] | None = None
        self.reached: float | None = None
        self.evaluated, self.last_video = 0, first
        self.spent: dict[str, float] = {}
        self._metrics: dict[str, list[Any]] = {}
        self._latest: dict[str, float] = {}
        self._episodes: list[Episodes] = []  # read when a row is written: until then a GPU need not be waited for
        self._seconds: dict[str, float] = {}
        self._earlier = 0.0  # seconds that the run took before it was resumed
        self._paused = 0.0  # seconds of all that were no training
        self._paused_since: float | None = None
        self._rest_since: float | None = None  # while it is not the training's turn
        self._began = perf_counter()

    def start(self) -> None:
        """Begin to measure time."""
        self._began = perf_counter()

    def add(self, iteration: Iteration) -> None:
        """Take in the next one; until `trains_on`, time counts as the phase "rest"."""
        self._rest_since = perf_counter()
        self._episodes += iteration.episodes
        if len(self._episodes) > MOST_UNREAD:
            self._read_episodes()
        self._latest = dict(iteration.latest)
        self.add_metrics(iteration.metrics)
        for phase, seconds in iteration.seconds.items():
            self._seconds[phase] = self._seconds.get(phase, 0.0) + seconds

    def trains_on(self) -> None:
        """Note that the training goes on."""
        self._count_rest()
        self._rest_since = None

    def _count_rest(self) -> None:
        if self._rest_since is not None:
            now = perf_counter()
            self._seconds["rest"] = self._seconds.get("rest", 0.0) + now - self._rest_since
            self._rest_since = now

    def add_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Take in values by tag, of which the next row of scalars has the mean."""
        for tag, value in metrics.items():
            self._metrics.setdefault(tag, []).append(value)

    def elapsed(self) -> float:
        """Return the seconds that the run has taken, those before it was resumed included."""
        return self._earlier + perf_counter() - self._began

    @contextmanager
    def paused(self, kind: str) -> Iterator[None]:
        """Let what happens within count as no training, but as `kind`: "evaluation", "recording" or "saving"."""
        self._paused_since = perf_counter()
        try:
            yield
        finally:
            seconds = perf_counter() - self._paused_since
            self._paused += seconds
            self.spent[kind] = self.spent.get(kind, 0.0) + seconds
            self._paused_since = None

    def training_seconds(self) -> float:
        """Return `elapsed` without the time paused."""
        now = perf_counter() if self._paused_since is None else self._paused_since
        return self._earlier + now - self._began - self._paused

    def fps(self, step: int) -> float:
        """Return the mean environment steps per second of the whole run."""
        return (step - self.first) / max(self.elapsed(), 1e-9)

    def may_evaluate(self, step: int, share: float | None) -> bool:
        """Whether evaluations have taken at most `share` times the steps trained; None sets no bound."""
        return share is None or self.evaluated <= share * (step - self.first)

    def target_reached(self, target: float | None) -> bool:
        """Whether the latest evaluation confirmed `target`."""
        return target is not None and self.reached is not None and self.reached >= target

    def scalars(self, step: int) -> dict[str, float]:
        """Return tag -> value of everything since the last row, means where there were several."""
        self._read_episodes()
        found: dict[str, float] = {}
        if self.returns:
            found["rollout/ep_rew_mean"] = fmean(self.returns)
            found["rollout/ep_len_mean"] = fmean(self.lengths)
        if self.successes:
            found["rollout/success_rate"] = fmean(self.successes)
        found["time/fps"] = self.fps(step)
        self._count_rest()
        found |= {f"time/{phase}": seconds for phase, seconds in self._seconds.items()}
        found |= {tag: fmean(map(float, values)) for tag, values in self._metrics.items()}
        return found | self._latest

    def begin_row(self) -> None:
        """Forget what the row of scalars that is written now had the means of."""
        for gathered in (self._metrics, self._seconds, self._latest):
            gathered.clear()

    def _read_episodes(self) -> None:
        for episodes in self._episodes:
            returns, lengths = episodes.read()
            self.returns.extend(returns.tolist())
            self.lengths.extend(lengths.tolist())
            self.successes.extend(successes(episodes.infos))
        self._episodes.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes back."""
        self._read_episodes()
        return {
            "returns": list(self.returns),
            "lengths": list(self.lengths),
            "successes": list(self.successes),
            "best": None if self.best is None else list(self.best),
            "reached": self.reached,
            "first": self.first,
            "handled": self.handled,
            "evaluated": self.evaluated,
            "last_video": self.last_video,
            "spent": self.spent,
            "metrics": {tag: list(map(float, values)) for tag, values in self._metrics.items()},
            "seconds": self._seconds,
            "latest": self._latest,
            "elapsed": self.elapsed(),
            "training_seconds": self.training_seconds(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: it is the state of something else.
        """
        try:
            saved = _State.model_validate(state)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'episodes'}: {first['msg']}") from error
        self.returns, self.lengths = deque(saved.returns, WINDOW), deque(saved.lengths, WINDOW)
        self.successes = deque(saved.successes, WINDOW)
        self.best, self.reached, self.handled = saved.best, saved.reached, saved.handled
        self.evaluated, self.last_video, self.first = saved.evaluated, saved.last_video, saved.first
        self.spent, self._metrics, self._seconds, self._latest = saved.spent, saved.metrics, saved.seconds, saved.latest
        self._earlier = saved.elapsed
        self._paused = self._earlier - (saved.elapsed if saved.training_seconds is None else saved.training_seconds)


_Count = Annotated[int, Field(ge=0, le=MOST)]
_Seconds = Annotated[FiniteFloat, Field(ge=0)]


class _State(BaseModel):
    """What a checkpoint holds of a monitor."""

    model_config = ConfigDict(strict=True)

    returns: list[float]
    lengths: list[_Count]
    successes: list[float] = []
    best: Annotated[tuple[float, _Count] | None, Field(strict=False)]
    reached: float | None
    first: _Count = 0
    handled: _Count
    evaluated: _Count = 0
    last_video: _Count = 0
    spent: dict[str, _Seconds] = {}
    metrics: dict[str, list[float]]
    seconds: dict[str, _Seconds]
    latest: dict[str, float]
    elapsed: _Seconds
    training_seconds: FiniteFloat | None = None

    @model_validator(mode="after")
    def _of_the_same_episodes(self) -> _State:
        if len(self.returns) != len(self.lengths):
            raise ValueError(f"returns of {len(self.returns)} episodes, and lengths of {len(self.lengths)}")
        return self
