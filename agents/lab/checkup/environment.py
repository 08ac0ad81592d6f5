"""The check-up of an environment before training: Gymnasium's checker and probes of our own, a verdict for each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from time import perf_counter
from typing import Any, Literal

import gymnasium
import numpy as np

from agents.lab.checkup.play import Choose, Played, constant, copied, fingerprint, in_turn, legal, play
from agents.run.doctor.experience import LARGE_INPUT, LARGE_REWARD, SMALL_REWARD
from agents.run.play import prepare_drawing
from agents.run.remarks import of_actions
from envs.actions import ActionCodec
from envs.adapters import mujoco
from envs.adapters.carried import GLOBAL_STREAMS, checksums
from envs.adapters.checks import closed, picture, reset_result, silenced, step_result
from envs.adapters.masks import ACTION_MASK, Source, mask_source
from envs.errors import EnvError, UserError, words_of
from envs.locate import Wrappers, locate
from envs.single import has_time_limit, make_single, reward_threshold
from envs.spaces import ObservationCodec

SAME_STEPS = 200  # of an episode that is played twice
FEW = 3  # episodes that tell something together
LONG = 10  # steps; shorter episodes may well be all as long
RARE = 0.01  # of the steps have a reward
BEYOND = 0.1  # of a range
SLOW = 50.0  # steps a second
LIKED = (  # what Gymnasium's checker warns of and trainings do not mind
    *("infinity", "symmetric", "normalized", "not within the obs range", "render_fps", "spec is None"),
    "different from the unwrapped version",
)
AROUND = ("gymnasium.wrappers.common", "envs.adapters.")  # modules of wrappers that nobody chose for the environment


@dataclass(frozen=True)
class CheckResult:
    """What was found of one thing.

    Attributes:
        name: of what was looked at.
        level: a fault spoils what is learnt, a warning may.
        evidence: what was seen.
        fix: what to do about it; "" where all is well.
    """

    name: str
    level: Literal["ok", "warning", "fault"]
    evidence: str
    fix: str = ""


class CheckUp:
    """Looks at an environment, one thing after the other.

    Args:
        env_id, env_kwargs, wrappers: as `envs.single.make_single` takes them.
        seed: of the first episode.
        steps: that the random policy plays.
    """

    def __init__(
        self,
        env_id: str,
        env_kwargs: dict[str, Any] | None = None,
        wrappers: Wrappers = (),
        seed: int = 0,
        steps: int = 3_000,
    ) -> None:
        self.env_id, self.seed, self.steps = env_id, seed, steps
        self.kwargs = dict(env_kwargs or {})
        self._make = partial(make_single, env_id, env_kwargs=self.kwargs, wrappers=wrappers)
        self._masks: Source | None = None  # where the environment says which actions are legal, but for an array
        self._masked = False  # whether it does

    def verdicts(self) -> Iterator[CheckResult]:
        """Yield a verdict for each thing that can be looked at.

        Raises:
            UserError: there is no such environment, or it cannot be built.
        """
        prepare_drawing(self.env_id)
        with mujoco.quiet(locate(self.env_id)):
            masks = self.masks()
            yield self.by_gymnasium()
        yield from masks
        yield self.repeats()
        played = self.guarded("random play", self.random_play)
        if isinstance(played, CheckResult):
            yield played
            return
        for probe in (self.spaces, self.numbers, self.buffers, self.ends, self.rewards, self.observations):
            yield from probe(played)
        yield from self.actions()
        yield self.guarded("policies", partial(self.policies, played))
        yield self.speed(played)
        yield self.guarded("rendering", self.rendering)

    def guarded(self, name: str, probe: Callable[[], Any]) -> Any:
        """Return what a probe returns, or the fault that the environment raised in it."""
        try:
            with silenced(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return probe()
        except EnvError as error:
            return CheckResult(name, "fault", str(error), "mend the environment's reset() or step() there")

    def masks(self) -> list[CheckResult]:
        """Where masks of legal actions come from, by which all that is played here is drawn; nothing without any."""
        with closed(self._made()) as env:
            try:
                self._masks = mask_source(env)
            except UserError as error:
                return [
                    CheckResult("action masks", "fault", str(error), "an entry for each choice, 1 where it is legal")
                ]
            own = env.observation_space
            self._masked = self._masks is not None or (
                isinstance(own, gymnasium.spaces.Dict) and ACTION_MASK in own.spaces
            )
        told = f"from {self._masks or 'observation'}"
        return [CheckResult("action masks", "ok", told)] if self._masked else []

    def by_gymnasium(self) -> CheckResult:
        """What `gymnasium.utils.env_checker.check_env` says."""
        from gymnasium.utils.env_checker import check_env

        name = "Gymnasium's checker"
        told: list[str] = []
        try:
            with closed(_as_written(self._make())) as env, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                # which builds and closes another one by the specification of what is not wrapped
                alone = env is not env.unwrapped or not self._another_runs()
                check_env(env, skip_render_check=True, skip_close_check=alone)
            told = [str(one.message) for one in caught]
        except (Exception, SystemExit) as error:
            first = words_of(error).strip().partition("\n")[0]
            said = f"{type(error).__name__}: {first:.300}"
            if self._masked:
                return CheckResult(name, "warning", said, "it plays any action, those that masks forbid too")
            return CheckResult(name, "fault", said, "do what the checker asks for")
        told = [text.replace("\x1b[33m", "").replace("\x1b[0m", "").removeprefix("WARN: ") for text in told]
        told = [text for text in told if not any(word in text for word in LIKED)]
        if told:
            return CheckResult(name, "warning", told[0][:300], "do what the checker asks for")
        return CheckResult(name, "ok", "it finds nothing")

    def _another_runs(self) -> bool:
        """Whether a second environment can be made while there is a first."""
        try:
            with closed(self._make()):
                return True
        except (Exception, SystemExit):
            return False

    def random_play(self) -> Played:
        with closed(self._made()) as env:
            return play(env, legal(env, self._masks), self.seed, self.steps)

    def _made(self) -> gymnasium.Env:
        env = self._make()
        env.action_space.seed(self.seed)
        return env

    def repeats(self) -> CheckResult:
        """Whether an episode follows from its seed and actions."""
        name = "same seed, same episode"
        return self.guarded(name, partial(self._compared, name))

    def _compared(self, name: str) -> CheckResult:
        actions: list[Any] = []
        with closed(self._made()) as env:
            before = checksums(env)
            first = _trace(env, self.seed, legal(env, self._masks), SAME_STEPS, actions)
            used = [stream for stream in GLOBAL_STREAMS if checksums(env)[stream] != before[stream]]
            again = _trace(env, self.seed, in_turn(actions), len(actions))
        with closed(self._made()) as fresh:  # now, as of some simulators only one may run
            anew = _trace(fresh, self.seed, in_turn(actions), len(actions))
        for who, other in (("the same environment", again), ("a fresh one", anew)):
            differs = next((i for i, (a, b) in enumerate(zip(first, other, strict=False)) if a != b), None)
            if differs is None and len(first) == len(other):
                continue
            where = "in reset" if not differs else f"in step {differs}"
            more = f"; it draws from {' and '.join(used)}" if used else ""
            return CheckResult(
                name,
                "fault",
                f"seed {self.seed} and the same actions give another episode in {who}, {where}{more}",
                "call super().reset(seed=seed), draw from self.np_random alone, and set everything anew in reset()",
            )
        if used:
            return CheckResult(
                name, "warning", f"it draws from the global {' and '.join(used)}", "draw from self.np_random alone"
            )
        return CheckResult(name, "ok", f"{len(first) - 1} steps, three times alike")

    def spaces(self, played: Played) -> Iterator[CheckResult]:
        """Whether there are networks for the spaces, and observations are what theirs says."""
        with closed(self._made()) as env:
            try:
                ObservationCodec(env.observation_space)
                ActionCodec(env.action_space)
            except UserError as error:
                yield CheckResult("spaces", "fault", str(error), "make it of those, or add --wrappers that do")
                return
        if played.outside is None:
            yield CheckResult(
                "spaces", "ok", f"all observations of {played.steps:,} steps are in the observation space"
            )
            return
        why, beyond = played.outside
        level: Any = "fault" if beyond > BEYOND else "warning"
        fix = "correct the bounds, the shape or the dtype of observation_space, or the observation"
        yield CheckResult("spaces", level, why, fix)

    def numbers(self, played: Played) -> Iterator[CheckResult]:
        """NaN and infinity."""
        if played.not_finite:
            yield CheckResult(
                "numbers", "fault", played.not_finite, "look for a division by 0, a root or a logarithm there"
            )
        else:
            yield CheckResult("numbers", "ok", "no NaN and no infinity")

    def buffers(self, played: Played) -> Iterator[CheckResult]:
        """Whether what is handed out or in is changed later."""
        if played.reused is not None:
            yield CheckResult(
                "buffers",
                "fault",
                f"step {played.reused} changed the observation that was given out before",
                "return a copy: self.state.copy()",
            )
        if played.action_changed is not None:
            yield CheckResult(
                "buffers",
                "fault",
                f"step {played.action_changed} changed the action that it was given",
                "work on a copy: np.clip(action, low, high) without out=, action = action.copy()",
            )
        if played.reused is None and played.action_changed is None:
            yield CheckResult("buffers", "ok", "observations and actions stay as they were given")

    def ends(self, played: Played) -> Iterator[CheckResult]:
        """Whether episodes end, and whether they say truly how."""
        name, whole = "ends of episodes", played.whole
        kinds = {kind: sum(episode.ended == kind for episode in whole) for kind in ("terminated", "truncated", "both")}
        lengths = [episode.length for episode in whole]
        limited = has_time_limit(self.env_id, self.kwargs)
        if not whole:
            level: Any = "ok" if limited else "fault"
            told = f"no episode ended in {played.steps:,} random steps"
            yield CheckResult(
                name, level, told, "" if limited else "terminated where the task is over, or max_episode_steps"
            )
            return
        told = f"{len(whole):,} episodes of {min(lengths):,} to {max(lengths):,} steps: " + ", ".join(
            f"{count:,} {kind}" for kind, count in kinds.items() if count
        )
        if any(episode.time_limit_told for episode in whole):
            fix = "return truncated=True, terminated=False where the time is over"
            yield CheckResult(name, "fault", f"{told}; info says TimeLimit.truncated, and truncated is False", fix)
        elif max(lengths) == 1:
            yield CheckResult(name, "warning", f"{told}: all end at once", "look at what sets terminated")
        elif len(whole) >= FEW and kinds["terminated"] == len(whole) and len({*lengths}) == 1 and lengths[0] >= LONG:
            fix = "if that is a time limit, return truncated=True, terminated=False: else values there are learnt as 0"
            yield CheckResult(name, "warning", f"{told}: all terminated after as many steps, whatever was done", fix)
        elif not limited and kinds["truncated"] == len(whole) >= FEW and len({*lengths}) > 1:
            fix = "if the task is over there, return terminated=True: truncated is for time limits alone"
            yield CheckResult(name, "warning", f"{told}: all truncated, and not after as many steps", fix)
        else:
            yield CheckResult(name, "ok", told)

    def rewards(self, played: Played) -> Iterator[CheckResult]:
        """The size of rewards, and how rare they are."""
        rewards = np.concatenate([np.array(episode.rewards, np.float64) for episode in played.episodes])
        rewards = rewards[np.isfinite(rewards)]
        if not rewards.size:  # what is not finite has been told
            return
        paid, name = rewards[rewards != 0], "rewards"
        if not paid.size:
            fix = "expect that random actions find nothing to learn from: reward progress, or --curiosity rnd"
            yield CheckResult(name, "warning", f"all {rewards.size:,} are 0", fix)
            return
        share, size = paid.size / rewards.size, float(np.abs(paid).mean())
        told = f"{rewards.min():.4g} to {rewards.max():.4g}; {share:.1%} are not 0, of a size of {size:.3g}"
        if not SMALL_REWARD <= size <= LARGE_REWARD:
            yield CheckResult(name, "warning", told, "scale them to about 1, or train with --norm-reward")
        elif share < RARE:
            yield CheckResult(name, "warning", f"{told}: rare", "reward progress more often, or --curiosity rnd")
        elif paid.size == rewards.size and np.ptp(paid) == 0 and len({e.length for e in played.whole}) <= 1:
            yield CheckResult(
                name, "warning", f"all are {paid[0]:g}: they tell no action from another", "look at step()"
            )
        else:
            yield CheckResult(name, "ok", told)

    def observations(self, played: Played) -> Iterator[CheckResult]:
        """Numbers that never change, or are large."""
        name = "observations"
        masks = f"observation['{ACTION_MASK}']"  # of which some may well be the same for long
        vectors = {key: low for key, low in played.low.items() if low.ndim == 1 and low.size and key != masks}
        still = [f"{key}[{i}]" for key, low in vectors.items() for i in np.flatnonzero(low == played.high[key])]
        sizes = {key: max(np.abs(low).max(), np.abs(played.high[key]).max()) for key, low in vectors.items()}
        large = max(sizes, key=lambda key: sizes[key], default="")
        if still:
            more = f" and {len(still) - 4} more" if len(still) > 4 else ""
            told = f"never changed in {played.steps:,} random steps: {', '.join(still[:4])}{more}"
            yield CheckResult(name, "warning", told, "leave them out, unless they change later")
        if large and sizes[large] > LARGE_INPUT:
            yield CheckResult(name, "warning", f"{large} goes up to {sizes[large]:.3g}", "--norm-obs, or scale it")
        if not still and not (large and sizes[large] > LARGE_INPUT):
            yield CheckResult(
                name, "ok", "all numbers change, and none is large" if vectors else "no vectors of numbers"
            )

    def actions(self) -> Iterator[CheckResult]:
        """The action space."""
        with closed(self._made()) as env:
            space = env.action_space
        told = list(of_actions(space, rescaled=False))
        if isinstance(space, gymnasium.spaces.Box) and not space.is_bounded():
            told.append("it has no bounds")
        yield CheckResult("actions", "warning" if told else "ok", "; ".join(told) or str(space)[:120])

    def policies(self, played: Played) -> CheckResult:
        """What random and constant policies earn."""
        limit = max(self.steps // 6, 100)
        with closed(self._made()) as env:
            returns = {"random": [episode.total for episode in played.whole or played.episodes]}
            for name, action in ({} if self._masked else constant(env.action_space)).items():
                done = play(env, in_turn(repeat(action)), self.seed, limit, episodes=FEW)
                returns[name] = [episode.total for episode in done.whole or done.episodes]
        means = {name: float(np.mean(values)) for name, values in returns.items()}
        told = "mean return: " + ", ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        every, threshold = [value for values in returns.values() for value in values], reward_threshold(self.env_id)
        if len(returns) > 1 and len(every) > FEW and np.ptp(every) == 0:
            return CheckResult(
                "policies", "warning", f"{told}: all the same", "no reward tells them apart: see rewards"
            )
        best = max(means, key=lambda name: means[name])
        if threshold is not None and means[best] >= threshold:
            fix = "look at whether the task is what it should be"
            return CheckResult("policies", "warning", f"{told}: '{best}' reaches the threshold {threshold:g}", fix)
        return CheckResult("policies", "ok", told)

    def speed(self, played: Played) -> CheckResult:
        """Steps a second, and where the time goes, without the longest reset: the first, or one that was held up."""
        resets, stepping = sorted(played.seconds["reset"]), sum(played.seconds["step"])
        each = float(np.mean(resets[:-1] or resets))
        resetting = each * len(resets)
        spent = max(resetting + stepping, 1e-9)
        rate, share = played.steps / spent, resetting / spent
        told = (
            f"{rate:,.0f} steps/s: {1 - share:.0%} of the time in step, {share:.0%} in reset ({each * 1e3:.3g} ms each)"
        )
        if rate < SLOW:
            return CheckResult("speed", "warning", told, "profile step(); --vec async takes a process for each core")
        if share > 0.5:
            return CheckResult("speed", "warning", told, "do in __init__ what need not be done anew in each reset()")
        return CheckResult("speed", "ok", told)

    def rendering(self) -> CheckResult:
        """Whether pictures can be had."""
        name = "rendering"
        try:
            env = self._make(render_mode="rgb_array")
        except UserError as error:
            fix = "to watch it: 'rgb_array' in metadata['render_modes'], and a render() that returns a picture"
            return CheckResult(name, "warning", words_of(error)[:300], fix)
        with closed(env):
            try:
                env.action_space.seed(self.seed)
                reset_result(env.reset(seed=self.seed))
                began = perf_counter()
                frame: Any = env.render()
                seconds = perf_counter() - began
                image = picture(frame[-1] if isinstance(frame, list) and frame else frame)
            except (Exception, SystemExit) as error:
                told = str(error) if isinstance(error, EnvError) else f"{type(error).__name__}: {words_of(error)}"
                return CheckResult(name, "fault", told[:300], "mend render()")
        height, width, _ = image.shape
        if np.ptp(image) == 0:
            return CheckResult(name, "warning", f"{width} x {height}, all of one colour", "look at what render() draws")
        return CheckResult(name, "ok", f"{width} x {height}, {seconds * 1e3:.3g} ms for the first")


def _as_written(env: gymnasium.Env) -> gymnasium.Env:
    """Return the environment with the wrappers that its author or the user chose, and no others around it."""
    while isinstance(env, gymnasium.Wrapper) and type(env).__module__.startswith(AROUND):
        env = env.env
    return env


def _trace(env: gymnasium.Env, seed: int, choose: Choose, steps: int, actions: list[Any] | None = None) -> list[bytes]:
    """Return what an episode of so many steps at most gave, step after step, and put its actions into `actions`."""
    try:
        obs, info = reset_result(env.reset(seed=seed))
        found = [fingerprint(obs)]
        for _ in range(steps):
            action = choose(obs, info)
            if actions is not None:
                actions.append(action)
            obs, reward, terminated, truncated, info = step_result(env.step(copied(action)))
            found.append(fingerprint((obs, float(reward), bool(terminated), bool(truncated))))
            if terminated or truncated:
                break
    except (Exception, SystemExit) as error:
        raise EnvError(f"{type(error).__name__}: {words_of(error)}") from error
    return found
