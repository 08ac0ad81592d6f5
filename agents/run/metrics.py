"""Numbers that a function of the user's own makes of each episode, for the curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.core.types import Episodes
from agents.core.user_code import user_function
from envs.errors import UserError


class UserMetrics:
    """Calls `log(info, progress)` for each episode of the training that ended.

    `info` is what the environment's own said of the episode's last step, and `info["episode"]` the return "r" and the
    length "l", under the names of Gymnasium's RecordEpisodeStatistics. `progress` goes from 0 to 1 over the run. The
    function returns numbers by name, as TensorBoard tags: {"goals/left": 1.0}; or {} or None for nothing.

    Args:
        name: "file.py:function" or "module:function".

    Raises:
        UserError: there is no such function, or it does not take two arguments.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._log = user_function(name, "metrics", "log(info, progress)")

    def rows(self, episodes: Sequence[Episodes], progress: float) -> Iterator[dict[str, float]]:
        """Yield what the function returns for each episode, oldest first.

        Raises:
            UserError: it raised, or returned something else than numbers by name.
        """
        for part in episodes:
            returns, lengths = part.read()
            infos = part.infos or [{}] * len(returns)
            for info, return_, length in zip(infos, returns.tolist(), lengths.tolist(), strict=True):
                yield self._row({"episode": {"r": return_, "l": length}} | info, progress)

    def _row(self, info: dict, progress: float) -> dict[str, float]:
        try:
            found = self._log(info, progress)
        except (Exception, SystemExit) as error:
            raise UserError(f"metrics {self.name} raised {type(error).__name__}: {error}") from error
        if found is None:
            return {}
        if isinstance(found, dict) and "step" in found:
            raise UserError(f'metrics {self.name} returned a number called "step", as the steps are: call it otherwise')
        try:
            if isinstance(found, dict) and all(isinstance(tag, str) and tag for tag in found):
                return {tag: float(value) for tag, value in found.items()}
        except (TypeError, ValueError, OverflowError, RuntimeError):
            pass
        shown = repr(found)
        raise UserError(
            f"metrics {self.name} returned {shown if len(shown) <= 80 else f'{shown[:77]}...'}; numbers by name "
            'expected, such as {"goals/left": 1.0}'
        )
