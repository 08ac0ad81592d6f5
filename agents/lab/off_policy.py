"""What recorded episodes say of a policy that did not play them: importance sampling and fitted Q evaluation.

Dimensions: M transitions, E episodes, T steps of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from agents.acting.playback import Playback, RecordedState
from agents.acting.policies import ActorCriticPolicy, EpsilonGreedyPolicy
from agents.acting.state import EpisodeTracker
from agents.algos.bc.config import BCConfig
from agents.core.config import SoftActorCriticConfig
from agents.core.recorded_config import RecordedConfig
from agents.core.runtime import Runtime
from agents.core.tree import tree_map
from agents.data.dataset import Dataset
from agents.data.inspection import reward_edges, reward_shift
from agents.lab.statistics import MOST_VALUES, Estimate, estimate, mean
from agents.learning.learner import Learner
from agents.networks.curiosity import ActionCode
from agents.networks.soft import Critics
from agents.networks.target import follow, make_target, tensors
from agents.ops.probes import to_go
from agents.run import loops
from agents.run.build import make_algorithm
from agents.run.imitation import HeldOut, as_seen
from agents.run.models import LoadedPolicy
from envs.errors import UserError
from envs.seeding import derive_seed

Numbers = NDArray[np.float64]
ROWS = 4_096  # transitions that a policy is asked about at once
RESAMPLES = 1_000
MOST_CELLS = 50_000_000  # episodes times steps of the longest, of which weights are kept
FEW_EPISODES = 10  # that weights come to: with fewer, what they say is chance
UNLIKELY, MUCH = 0.01, 0.05  # of the likelihood of an action in the data, and of the steps at which that is so
HELD_OUT = 0.2  # of the episodes, by which the behaviour's learning ends
BEHAVIOUR = {"net_arch": (64, 64), "n_steps": 32, "batch_size": 256, "vf_coef": 0.0, "ent_coef": 0.0, "patience": 5}
LEARNT_FROM = 400_000  # transitions, each time that one is, by the behaviour
FITTED_ARCH, BATCH, TAU, DRAWS = (128, 128), 256, 0.05, 8


class Weighed(NamedTuple):
    """What importance sampling makes of episodes.

    Attributes:
        per_decision, weighted: estimates of the discounted return.
        effective: how many episodes the weights of whole episodes come to.
        seen: steps up to which any episode still does what the policy might.
    """

    per_decision: Estimate
    weighted: Estimate
    effective: float
    seen: int


def discounted(data: Dataset, gamma: float) -> Numbers:
    """Return the discounted return of each episode, `[E]`."""
    step = np.arange(len(data)) - np.repeat(data.starts, data.lengths)
    return np.add.reduceat(data.reward * gamma**step, data.starts, dtype=np.float64)


def laid_out(data: Dataset, numbers: Numbers) -> Numbers:
    """Return numbers of transitions `[M]` by episode and step, `[E, T]`, 0 after an episode's end."""
    found = np.zeros((data.episodes, int(data.lengths.max())))
    found[data.episode, np.arange(len(data)) - np.repeat(data.starts, data.lengths)] = numbers
    return found


def weighed(data: Dataset, log_ratio: Numbers, gamma: float, seed: int = 0) -> Weighed:
    """Estimate a policy's discounted return from episodes of another (Precup et al. 2000, "Eligibility traces for
    off-policy policy evaluation").

    Per decision, each reward is weighed by how much likelier what was done up to it is under the policy, and episodes
    are averaged; weighted, the weights of each step are divided by their sum over the episodes. An episode that has
    ended keeps its weight.

    Args:
        log_ratio: log of the policy's probability of each action minus that of the behaviour's, `[M]`.
    """
    log_weight = laid_out(data, log_ratio).cumsum(axis=1)
    reward = laid_out(data, data.reward.astype(np.float64)) * gamma ** np.arange(log_weight.shape[1])
    each = (np.exp(np.minimum(log_weight, 300.0)) * reward).sum(axis=1)
    most = log_weight.max(axis=0)
    seen = int(np.isfinite(most).sum())
    weight = np.exp(log_weight[:, :seen] - most[:seen])  # of each step, the largest is 1
    earned = weight * reward[:, :seen]
    draws, ratios, at_once = np.random.default_rng(seed), [], max(MOST_VALUES // max(log_weight.shape), 1)
    for first in range(0, RESAMPLES, at_once):
        count = min(at_once, RESAMPLES - first)
        resampled = draws.multinomial(data.episodes, [1 / data.episodes] * data.episodes, count)
        ratios.append(_ratios(resampled @ earned, resampled @ weight))
    spread = np.percentile(np.concatenate(ratios), (2.5, 97.5))
    value = float(_ratios(earned.sum(axis=0), weight.sum(axis=0)))
    whole = np.exp(log_weight[:, -1] - most[-1]) if np.isfinite(most[-1]) else np.zeros(data.episodes)
    effective = float(whole.sum() ** 2 / np.square(whole).sum()) if whole.any() else 0.0
    return Weighed(
        estimate(mean, [each], RESAMPLES, seed),
        Estimate(value, float(spread[0]), float(spread[1])),
        effective,
        seen,
    )


def _ratios(earned: Numbers, weight: Numbers) -> Any:
    return np.divide(earned, weight, out=np.zeros_like(earned), where=weight > 0).sum(axis=-1)


class Asked:
    """A policy, asked about recorded transitions.

    Args:
        loaded: without a memory.
        data: as the policy sees them.
        stochastic: whether its actions are drawn, or the most likely ones.
    """

    def __init__(self, loaded: LoadedPolicy, data: Dataset, stochastic: bool) -> None:
        self.policy: Any = loaded.policy
        self.data, self.stochastic = data, stochastic
        self._space = loaded.action_space
        self.chosen = not isinstance(loaded.action_space, spaces.Box) and loaded.action_space.dtype != np.float32

    def acts(self, rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        """Return what the policy does at observations, by their rows, `[B, ...]`, within the actions' bounds."""
        act, found = self.policy.actor(), []
        for part in np.array_split(rows, -(-len(rows) // ROWS)):
            noise = self.policy.draw_noise((len(part),), 1.0, generator) if self.stochastic else None
            found.append(torch.as_tensor(act(self.data.at(part), (), noise).env_action))
        bounds = (self._space.low, self._space.high) if isinstance(self._space, spaces.Box) else ()
        return torch.cat(found).clamp(*map(torch.as_tensor, bounds)) if bounds else torch.cat(found)

    def log_prob(self) -> Numbers | None:
        """Return the log-probability of each recorded action, `[M]`; None where the policy has none."""
        action = torch.from_numpy(self.data.action)
        if not self.stochastic:
            if not self.chosen:
                return None  # of all numbers there are, one is certain: nobody else does exactly that
            same = self.acts(self.data.rows, torch.Generator()) == action
            return _log(same.view(len(action), -1).all(dim=1).double())
        found = []
        for part in np.array_split(np.arange(len(action)), -(-len(action) // ROWS)):
            each = self._log_prob(tree_map(torch.from_numpy, self.data.at(self.data.rows[part])), action[part])
            if each is None:
                return None
            found.append(each)
        return np.concatenate(found)

    @torch.no_grad()
    def _log_prob(self, obs: Any, action: Tensor) -> Numbers | None:
        if isinstance(self.policy, ActorCriticPolicy):
            model = self.policy.model
            return model(obs).distribution.log_prob(model.stored(action)).double().numpy()
        if not isinstance(self.policy, EpsilonGreedyPolicy) or self.policy.model.noise_size:
            return None
        q = self.policy.describe(obs, ())["q_values"]
        legal = ~q.isnan()  # of those, some may be left out as unlikely, which exploration takes nevertheless
        epsilon = float(self.policy.epsilon(1.0))
        greedy = q.nan_to_num(-torch.inf).argmax(1) == action
        return _log((1 - epsilon) * greedy.double() + epsilon / legal.sum(1))


def _log(probability: Tensor) -> Numbers:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probability.numpy()))


class Behaviour:
    """The policy that the data came from, as far as cloning tells it.

    Args:
        loaded: whose spaces the data have.
        data: as that policy sees them.
    """

    def __init__(self, loaded: LoadedPolicy, data: Dataset, seed: int) -> None:
        config = BCConfig.model_validate({**BEHAVIOUR, "total_timesteps": LEARNT_FROM, "norm_obs": True})
        algorithm: Any = make_algorithm("bc", loaded.observation_space, loaded.action_space, config, seed)
        learnt, held = data.split(HELD_OUT, derive_seed(seed, "held out"))
        state = RecordedState(0, None, None, (), EpisodeTracker(1), torch.Generator(), "", learnt)
        self.held_out = HeldOut(algorithm, held)
        measure = self.held_out.scalars if len(held) else dict[str, float]
        learner = Learner(algorithm, Runtime(), seed)
        for _ in loops.recorded(Playback(algorithm.policy, state, seed), learner, config, measure):
            pass
        self._model = algorithm.model

    @torch.no_grad()
    def log_prob(self, data: Dataset, rows: NDArray[np.int64], action: Tensor) -> Numbers:
        """Return the log-probability of actions at observations, by their rows, `[B]`."""
        found = []
        for part in np.array_split(np.arange(len(rows)), -(-len(rows) // ROWS)):
            obs = tree_map(torch.from_numpy, data.at(rows[part]))
            found.append(self._model(obs).distribution.log_prob(action[part]).double().numpy())
        return np.concatenate(found)


class Fitted(NamedTuple):
    """What fitted Q evaluation says.

    Attributes:
        value: the mean over first observations; its interval is that of the mean, not of what was learnt.
        least, most: of the values of recorded transitions, in discounted rewards.
        bound: no value can be further from 0.
    """

    value: Estimate
    least: float
    most: float
    bound: float


def fitted(asked: Asked, loaded: LoadedPolicy, gamma: float, updates: int, seed: int) -> Fitted:
    """Learn a policy's action values from recorded transitions alone (Le et al. 2019, arXiv:1903.08738).

    Q(s, a) is moved towards r + gamma * Q_target(s', what the policy does there), in units of the deviation of the
    data's own discounted rewards to come, and beginning at their mean.
    """
    data, generator = asked.data, torch.Generator().manual_seed(derive_seed(seed, "fitted"))
    to_come = to_go(data.reward.astype(np.float64), data.lengths, gamma)
    usual, unit = float(to_come.mean()), max(float(to_come.std()), 1e-6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "network"))
        code = ActionCode(loaded.action_space)
        shape = SoftActorCriticConfig(net_arch=FITTED_ARCH, n_critics=1, norm_obs=True)
        critics = Critics(loaded.observation_space, code.features, shape)
    obs = tree_map(torch.from_numpy, data.obs)
    for part in np.array_split(data.rows, -(-len(data) // ROWS)):
        critics.update_statistics(tree_map(torch.from_numpy, data.at(part)))
    target = make_target(critics)
    numbers, rows = code(torch.from_numpy(data.action)), torch.from_numpy(data.rows)
    goes_on = gamma * ~torch.from_numpy(data.terminated)
    reward = (torch.from_numpy(data.reward) + (goes_on - 1) * usual) / unit
    later = torch.stack([code(asked.acts(data.rows + 1, generator)) for _ in range(DRAWS if asked.stochastic else 1)])
    optimizer = torch.optim.Adam(critics.parameters(), 1e-3)
    parts = tensors(target), tensors(critics)
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - update / updates)
        place = torch.randint(len(data), (min(BATCH, len(data)),), generator=generator)
        at = rows[place]
        with torch.no_grad():
            drawn = later[update % len(later), place]
            goal = reward[place] + goes_on[place] * target(tree_map(lambda x, at=at: x[at + 1], obs), drawn)[0, :, 0]
        taken = critics(tree_map(lambda x, at=at: x[at], obs), numbers[place])[0, :, 0]
        optimizer.zero_grad()
        (taken - goal).square().mean().backward()
        optimizer.step()
        follow(*parts, TAU)
    return _said(lambda obs, action: usual + unit * critics(obs, code(action))[0, :, 0], asked, gamma, generator)


@torch.no_grad()
def _said(q: Callable[[Any, Tensor], Tensor], asked: Asked, gamma: float, generator: torch.Generator) -> Fitted:
    data = asked.data
    first = data.rows[data.starts]
    begins = tree_map(torch.from_numpy, data.at(first))
    draws = DRAWS if asked.stochastic else 1
    values = torch.stack([q(begins, asked.acts(first, generator)) for _ in range(draws)]).double().mean(0).numpy()
    some = np.random.default_rng(0).permutation(len(data))[:ROWS]
    all_obs = tree_map(torch.from_numpy, data.at(data.rows[some]))
    spread = q(all_obs, torch.from_numpy(data.action[some]))
    largest = float(np.abs(data.reward).max())
    bound = largest / (1 - gamma) if gamma < 1 else largest * float(data.lengths.max())
    return Fitted(estimate(mean, [values], RESAMPLES), float(spread.min()), float(spread.max()), bound)


def off_policy(
    loaded: LoadedPolicy, path: Path, *, gamma: float | None, stochastic: bool, updates: int, seed: int
) -> dict[str, Any]:
    """Estimate a policy's discounted return from recorded episodes, without any step of an environment.

    Args:
        gamma: the discount; None for the training's.
        updates: of fitted Q evaluation.

    Returns:
        Names, numbers and lists for a summary; estimates as `[value, low, high]`, and `warnings` in words.

    Raises:
        UserError: the data do not fit the policy, or it has a memory.
    """
    if loaded.policy.recurrent:
        raise UserError("--data: this policy has a memory, and is not evaluated by what others did")
    params = loaded.config.params
    data, said = as_seen(path, RecordedConfig().rules, loaded.own_spaces, params)
    gamma = params.gamma if gamma is None else gamma
    asked, behaviour = Asked(loaded, data, stochastic), Behaviour(loaded, data, seed)
    theirs = behaviour.log_prob(data, data.rows, torch.from_numpy(data.action))
    own = asked.log_prob()
    q = fitted(asked, loaded, gamma, updates, seed)
    acts = asked.acts(data.rows, torch.Generator().manual_seed(derive_seed(seed, "support")))
    limit = np.log(UNLIKELY) if asked.chosen else np.quantile(theirs, UNLIKELY)
    outside = float((behaviour.log_prob(data, data.rows, acts) < limit).mean())
    found: dict[str, Any] = {
        "data": str(path),
        "gamma": gamma,
        "episodes": data.episodes,
        "transitions": len(data),
        "behaviour": list(estimate(mean, [discounted(data, gamma)], RESAMPLES)),
        "fitted_q": list(q.value),
        "outside_support": outside,
    }
    found |= {f"behaviour_{name}": value for name, value in behaviour.held_out.measure().items() if name == "loss"}
    weights = None
    if own is not None and data.episodes * int(data.lengths.max()) <= MOST_CELLS:
        weights = weighed(data, own - theirs, gamma, seed)
        found |= {"per_decision": list(weights.per_decision), "weighted": list(weights.weighted)}
        found |= {"effective_episodes": weights.effective, "steps_seen": weights.seen}
    return found | {"warnings": [*said, *_doubts(data, asked, q, weights, outside)]}


def _doubts(data: Dataset, asked: Asked, q: Fitted, weights: Weighed | None, outside: float) -> Iterator[str]:
    """Yield a sentence for each reason not to trust the numbers."""
    yield "how likely each action was in the data is not recorded: it is estimated by cloning"
    if shift := reward_shift(data) or reward_edges(data):
        late = "late" if shift > 0 else "early"
        yield f"the rewards look {late} by one step (python -m agents.check --data ... says more): move them first"
    if outside > MUCH:
        yield (
            f"at {outside:.0%} of the steps the policy does what the data hardly have: of what that leads to nothing "
            "is known, and fitted Q evaluation makes it up"
        )
    if max(abs(q.least), abs(q.most)) > 1.05 * q.bound:
        yield f"fitted values reach from {q.least:,.4g} to {q.most:,.4g}, but none can be beyond {q.bound:,.4g}"
    if weights is None:
        if not asked.stochastic and not asked.chosen:
            yield "importance sampling needs a policy that draws its actions (--stochastic): nobody does just the same"
        else:
            yield "importance sampling is left out: this policy has no probabilities, or there are too many steps"
        return
    if weights.seen < int(data.lengths.max()):
        yield (
            f"after {weights.seen} steps no recorded episode has done all that the policy would: of what comes later "
            "importance sampling sees nothing"
        )
    if weights.effective < min(FEW_EPISODES, data.episodes / 2):
        yield (
            f"the weights of {data.episodes:,} episodes come to {weights.effective:.1f}: what importance sampling says "
            "is chance"
        )
