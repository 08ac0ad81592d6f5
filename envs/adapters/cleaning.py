"""What becomes of numbers that are none: refused, or made good by a rule that is part of the model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from envs.adapters.around import Around
from envs.adapters.checks import env_error
from envs.adapters.masks import ACTION_MASK
from envs.api import Obs, Step, VecEnv
from envs.errors import EnvError, UserError
from envs.spaces import BadData, Codec, ObservationCodec, leaf_spaces


@dataclass(frozen=True, slots=True)
class Cleaning:
    """A rule for each fault of an observation's floats.

    "refuse" ends the run, "keep" leaves a number as it is, "clip" takes the nearest within the declared bounds, and
    "fill" the last one of the same episode, at its start the middle of the bounds, or 0 where they are infinite.

    Attributes:
        on_nan: NaN.
        on_inf: infinity.
        on_bounds: outside of the declared bounds.
        on_missing: a leaf of a Dict that is not there, or holds nothing but NaN.
        on_constant: the same in all environments for `CONSTANT` steps of each.
    """

    on_nan: str = "refuse"
    on_inf: str = "refuse"
    on_bounds: str = "keep"
    on_missing: str = "refuse"
    on_constant: str = "keep"


def reader(rules: Cleaning) -> Codec:
    """Return what reads observations that are to be cleaned by these rules, or, without any, are to be refused."""
    if rules == Cleaning():
        return ObservationCodec
    return partial(ObservationCodec, unclean=True, missing=rules.on_missing != "refuse")


CONSTANT = 1_000
FAULTS = {"on_nan": "NaN", "on_inf": "infinite", "on_bounds": "outside its bounds", "on_missing": "missing"}


class Cleaner:
    """Cleans canonical observations: pure functions of them and of the last ones.

    Args:
        space: canonical.
        rules: what to do.

    Raises:
        UserError: infinite numbers are to be clipped, and a bound is infinite.
    """

    def __init__(self, space: Space, rules: Cleaning) -> None:
        self.rules = rules
        self._plain = not isinstance(space, spaces.Dict)
        self.leaves: dict[str, spaces.Box] = {
            name: leaf
            for name, leaf in leaf_spaces(space).items()
            if isinstance(leaf, spaces.Box) and leaf.dtype == np.float32 and name != ACTION_MASK
        }
        self._starts = {}
        for name, leaf in self.leaves.items():
            low, high = leaf.low.astype(np.float64), leaf.high.astype(np.float64)
            bounded = np.isfinite(low) & np.isfinite(high)
            if rules.on_inf == "clip" and not bounded.all():
                raise UserError(
                    f"on_inf clip takes the nearest number within the bounds, and those of {name or 'the observation'} "
                    "are infinite: declare finite ones, or use fill"
                )
            middle = np.clip(0.0, low, high)
            middle[bounded] = low[bounded] / 2 + high[bounded] / 2
            self._starts[name] = middle.astype(np.float32)

    def starts(self, rows: int) -> dict[str, np.ndarray]:
        """Return what an episode's first observation is filled with, `[N, ...]` by leaf."""
        return {name: np.repeat(start[None], rows, axis=0) for name, start in self._starts.items()}

    def of(self, obs: Obs) -> dict[str, np.ndarray]:
        """Return those leaves of an observation that are cleaned."""
        return {name: obs if self._plain else obs[name] for name in self.leaves}

    def clean(self, obs: Obs, last: Mapping[str, np.ndarray]) -> tuple[Obs, Counter[str]]:
        """Return `obs` cleaned, and how many numbers (of `missing`: leaves) had which fault.

        Args:
            obs: `[N, ...]`, which stays as it is.
            last: the observations before, or `starts`, by leaf.

        Raises:
            BadData: it has a fault that is to be refused; `row` says whose.
        """
        counts: Counter[str] = Counter()
        cleaned = {
            name: self._leaf(name, self.leaves[name], array, last[name], counts) for name, array in self.of(obs).items()
        }
        if self._plain:
            return cleaned.get("", obs), counts
        return {**obs, **cleaned}, counts

    def _leaf(self, name: str, leaf: spaces.Box, x: np.ndarray, last: np.ndarray, counts: Counter[str]) -> np.ndarray:
        rules = self.rules
        found = x
        if not (math.isfinite(np.vdot(x, x)) or np.isfinite(x).all()):
            nan = np.isnan(x)
            if rules.on_missing != "refuse":
                gone = nan.reshape(len(x), -1).all(1)
                counts["missing"] += int(np.count_nonzero(gone))
                found = np.where(gone.reshape(-1, *[1] * (x.ndim - 1)), last, found)
                nan = np.isnan(found)
            found = self._mend(name, "on_nan", nan, found, last, leaf, counts)
            found = self._mend(name, "on_inf", np.isinf(found), found, last, leaf, counts)
        if rules.on_bounds != "keep":
            found = self._mend(name, "on_bounds", (found < leaf.low) | (found > leaf.high), found, last, leaf, counts)
        return found

    def _mend(
        self,
        name: str,
        fault: str,
        where: np.ndarray,
        x: np.ndarray,
        last: np.ndarray,
        leaf: spaces.Box,
        counts: Counter[str],
    ) -> np.ndarray:
        if not (count := int(np.count_nonzero(where))):
            return x
        rule = getattr(self.rules, fault)
        if rule == "refuse":
            row, *place = (int(index[0]) for index in where.nonzero())
            what = f"observation {name!r}" if name else "observation"
            raise BadData(row, f"{what}{place} is {x[(row, *place)]}: {FAULTS[fault]} (--{fault.replace('_', '-')})")
        counts[fault.removeprefix("on_")] += count
        return np.where(where, np.clip(x, leaf.low, leaf.high) if rule == "clip" else last, x)


def filled_anew(cleaner: Cleaner, last: Mapping[str, np.ndarray], start: np.ndarray) -> dict[str, np.ndarray]:
    """Return what to fill with, `last` but where an episode starts, bool `[N]`."""
    fresh = cleaner.starts(1)
    return {
        name: np.where(start.reshape(-1, *[1] * (array.ndim - 1)), fresh[name], array) for name, array in last.items()
    }


class CleanVecEnv(Around):
    """Shows cleaned observations. See `envs.api.VecEnv`.

    Attributes:
        counts: how many numbers had which fault since the training began.
    """

    def __init__(self, env: VecEnv, rules: Cleaning) -> None:
        super().__init__(env, env.observation_space)
        self._cleaner = Cleaner(env.observation_space, rules)
        self._kept = self._cleaner.starts(env.num_envs)
        self.counts: Counter[str] = Counter()
        self._since: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # by leaf: numbers, and for how many steps they stay

    def _first(self, obs: Obs) -> Obs:
        return self._cleaned(obs, self._cleaner.starts(self.num_envs), "at a reset")

    def _cleaned(self, obs: Obs, last: Mapping[str, np.ndarray], where: str) -> Obs:
        try:
            obs, counts = self._cleaner.clean(obs, last)
            self._kept = self._cleaner.of(obs)
        except BadData as error:
            raise env_error(error.row, error, where) from error
        self.counts += counts
        return obs

    def _next(self, step: Step) -> Step:
        starts = step.starts
        obs = next_obs = self._cleaned(step.next_obs, self._kept, "in a step")
        if self._cleaner.rules.on_constant == "refuse":
            self._refuse_constant()
        if starts.any():
            kept = filled_anew(self._cleaner, self._kept, starts)
            counted = self.counts.copy()
            obs = self._cleaned(step.obs, kept, "at a reset")
            self.counts = counted  # the same observations have been counted as successors
            if step.obs is not step.next_obs:
                self.counts = counted + self._only(step.obs, kept, starts)
        return Step(obs, step.reward, step.terminated, step.truncated, next_obs, step.valid, step.infos)

    def _only(self, obs: Obs, last: Mapping[str, np.ndarray], rows: np.ndarray) -> Counter[str]:
        """Return the faults of some rows: the others have been counted as successors."""
        part = {name: leaf[rows] for name, leaf in obs.items()} if isinstance(obs, dict) else obs[rows]
        return self._cleaner.clean(part, {name: leaf[rows] for name, leaf in last.items()})[1]

    def _refuse_constant(self) -> None:
        for name, now in self._kept.items():
            value, steps = self._since.get(name, (now[0], np.zeros(now.shape[1:], np.int64)))
            steps = np.where((now == value).all(0), steps + 1, 0)
            if (steps > CONSTANT).any():
                place = [int(index[0]) for index in (steps > CONSTANT).nonzero()]
                what = f"observation {name!r}" if name else "observation"
                raise EnvError(
                    f"{what}{place} has not changed for {CONSTANT:,} steps in any environment (--on-constant)"
                )
            self._since[name] = now[0], steps

    def _shapes(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        return {name: (leaf.shape, np.dtype(np.float32)) for name, leaf in self._cleaner.leaves.items()}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "counts": {name: int(count) for name, count in self.counts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        said = super().load_state_dict(state)
        counts = state.get("counts")
        known = {fault.name.removeprefix("on_") for fault in fields(Cleaning)}
        if not isinstance(counts, dict) or not all(
            name in known and type(count) is int and count >= 0 for name, count in counts.items()
        ):
            raise UserError("the saved environment position is damaged: 'counts' are no faults' counts")
        self.counts = Counter(counts)
        return said
