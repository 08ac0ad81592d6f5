"""A model of stable-baselines3 (SB3) as a `Policy`, so that the same code evaluates ours and SB3's."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor

from agents.acting.evaluation import StatelessPolicy
from agents.core.tree import to_numpy, tree_map
from agents.core.types import Act, Acted, Obs
from agents.lab.baselines import sb3_class, without_mask
from agents.run.play import stage
from agents.run.registry import title_of
from agents.run.storage import disk, opened, parse_json
from envs.adapters.masks import ACTION_MASK
from envs.api import VecEnv
from envs.errors import UserError, did_you_mean, listed

DATA_LIMIT = 64 * 2**20  # bytes of what a model says of itself that are read
MARKS = {  # algorithm -> settings in its files and words of its policy's module; a file is of the first that fits
    "recurrentppo": {"clip_range", "recurrent"},
    "maskableppo": {"clip_range", "maskable"},
    "ppo": {"clip_range"},
    "trpo": {"cg_damping"},
    "a2c": {"gae_lambda"},
    "qrdqn": {"n_quantiles"},
    "dqn": {"exploration_fraction"},
    "tqc": {"top_quantiles_to_drop_per_net"},
    "crossq": {"target_entropy", "policy_delay"},
    "sac": {"target_entropy"},
    "ddpg": {"target_policy_noise", "policy_delay=1", "target_noise_clip=0.0"},  # else as TD3's
    "td3": {"target_policy_noise"},
}


class SB3Policy(StatelessPolicy):
    """An algorithm of SB3's. See `agents.core.types.Policy`.

    Observations are normalised by VecNormalize's statistics where the model was trained with it, and actions are
    clipped to the bounds, as SB3 does both.
    """

    def __init__(self, model: Any, normalizer: Any = None) -> None:
        """`model` is SB3's algorithm, trained or training; `normalizer` its VecNormalize, if it has none of its own."""
        self.device = model.device
        self.step = int(model.num_timesteps)  # that it was trained for
        self.algo = type(model).__name__.lower()
        self._model, self._normalizer = model, normalizer or model.get_vec_normalize_env()

    def initial_carry(self, num_envs: int) -> Any:
        """Return what RecurrentPPO remembers at an episode's start, hidden and cell states `[N, layers, H]`."""
        if (lstm := getattr(self._model.policy, "lstm_actor", None)) is None:
            return ()
        return (torch.zeros(num_envs, lstm.num_layers, lstm.hidden_size),) * 2

    def actor(self) -> Act:
        """See `agents.core.types.Policy`."""

        def act(obs: Obs, carry: Any, noise: Any) -> Acted:
            if carry == ():
                action = self.choose(obs, noise)
                return Acted(action, action, carry)
            states = tuple(leaf.transpose(0, 1).numpy() for leaf in carry)
            with _drawing_from(noise):
                action, after = self._model.policy.predict(
                    self._normalised(obs), states, np.zeros(len(carry[0]), bool), deterministic=noise is None
                )
            action = torch.as_tensor(action)
            return Acted(action, action, tuple(torch.as_tensor(leaf).transpose(0, 1) for leaf in after))

        return act

    def choose(self, obs: Any, generator: torch.Generator | None) -> Tensor:
        """Return actions for a batch of observations `[N, ...]`, drawn from `generator` if there is one."""
        masks = {}
        if self.algo == "maskableppo" and isinstance(obs, dict):
            masks = {"action_masks": to_numpy(obs[ACTION_MASK]) != 0}
        with _drawing_from(generator):
            actions, _ = self._model.policy.predict(self._normalised(obs), deterministic=generator is None, **masks)
        actions = torch.as_tensor(actions)
        epsilon = getattr(self._model, "exploration_rate", None)  # SB3's policy knows nothing of it
        if generator is None or epsilon is None:
            return actions
        uniform, choice = torch.rand((2, len(actions)), generator=generator)
        random = (choice * int(self._model.action_space.n)).long()
        return torch.where(uniform < epsilon, random, actions)

    @torch.no_grad()
    def inspect(self, obs: Any, carry: Any) -> dict[str, Tensor]:
        """Return what a viewer shows of a batch, under the names of our own policies' numbers."""
        policy = self._model.policy
        tensors, _ = policy.obs_to_tensor(self._normalised(obs))
        if hasattr(policy, "q_net") or hasattr(policy, "quantile_net"):
            q = policy.q_net(tensors) if hasattr(policy, "q_net") else policy.quantile_net(tensors).mean(dim=1)
            return {"value": q.amax(dim=1), "q_values": q}
        if hasattr(policy, "actor"):
            mean, found = policy.actor(tensors), {}
            if hasattr(policy.actor, "get_action_dist_params"):  # TD3's and DDPG's actors draw nothing
                mean, log_std, _ = policy.actor.get_action_dist_params(tensors)
                mean, found = mean.tanh(), {"std": log_std.exp()}
            values = policy.critic(tensors, mean)  # one for each critic, or of TQC quantiles [B, critics, K]
            values = values.mean(dim=2) if isinstance(values, Tensor) else torch.cat(values, dim=1)
            return {"value": values.amin(dim=1)} | _unscaled(policy, found | {"mean": mean})
        if carry != ():
            states = tuple(leaf.transpose(0, 1).contiguous() for leaf in carry)
            own, found = policy.get_distribution(tensors, states, torch.zeros(len(carry[0])))[0].distribution, {}
        else:
            own = policy.get_distribution(tensors).distribution
            found = {"value": policy.predict_values(tensors).flatten()}
        if isinstance(own, torch.distributions.Normal):
            squashed = policy.squash_output
            shown = {"mean": own.mean.tanh() if squashed else own.mean, "std": own.stddev}
            return found | (_unscaled(policy, shown) if squashed else shown)
        parts = own if isinstance(own, list) else [own]  # a list where there are several choices
        return found | {"probabilities": torch.cat([part.probs for part in parts], dim=-1)}

    def refuse_unfit(self, env: VecEnv, env_id: str) -> None:
        """Raise UserError if `env`, of which `env_id` is the name, is not what the model learnt."""
        from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
        from stable_baselines3.common.vec_env import VecTransposeImage

        offered = self._seen_space(env.observation_space)
        if isinstance(offered, spaces.Box) and is_image_space(offered) and not is_image_space_channels_first(offered):
            offered = VecTransposeImage.transpose_space(offered)
        for what, there, learnt in (
            ("observations", offered, self._model.observation_space),
            ("actions", env.action_space, self._model.action_space),
        ):
            if _form(there) != _form(learnt):
                raise UserError(f"this model does not fit {env_id}: it learnt {what} {learnt}, not {there}")

    def _seen_space(self, space: Space) -> Space:
        """Return what the model sees of a space: its masks only if it learnt to read them."""
        own = self._model.observation_space
        if not isinstance(space, spaces.Dict) or ACTION_MASK not in space.spaces:
            return space
        if isinstance(own, spaces.Dict) and ACTION_MASK in own.spaces:
            return space
        rest = without_mask(space.spaces)
        return rest if isinstance(rest, Space) else spaces.Dict(rest)

    def _normalised(self, obs: Any) -> Any:
        own = self._model.observation_space
        if isinstance(obs, dict) and ACTION_MASK in obs and ACTION_MASK not in getattr(own, "spaces", ()):
            obs = without_mask(obs)
        arrays = tree_map(to_numpy, obs)
        return arrays if self._normalizer is None else self._normalizer.normalize_obs(arrays)


@contextmanager
def _drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Let SB3, which draws from PyTorch's global stream, draw from `generator`; the global stream stays as it was."""
    with torch.random.fork_rng(devices=[], enabled=generator is not None):
        if generator is not None:
            torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        yield


def _unscaled(policy: Any, numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `mean`, and `std` where it is there, of actions from -1 to 1 in the units of the environment's."""
    half = torch.as_tensor((policy.action_space.high - policy.action_space.low) / 2)
    shown = {"mean": torch.as_tensor(policy.unscale_action(to_numpy(numbers["mean"])))}
    return shown | ({"std": numbers["std"].cpu() * half} if "std" in numbers else {})


def _form(space: Space) -> Any:
    """Return what has to agree between spaces: their kinds and shapes, but not the bounds of numbers."""
    if isinstance(space, spaces.Dict):
        return {key: _form(inner) for key, inner in space.items()}
    counted = {spaces.Discrete: "n", spaces.MultiDiscrete: "nvec"}.get(type(space))
    return type(space), space.shape, None if counted is None else np.array(getattr(space, counted)).tolist()


def sb3_algo(path: Path) -> str:
    """Return which algorithm a model of SB3's is of by what its file says; nothing in it is run.

    Raises:
        UserError: the file cannot be read, is no model of SB3's, or of an algorithm that is not known here.
    """
    data = sb3_data(path)
    policy = data.get("policy_class")
    module = str(policy.get("__module__") if isinstance(policy, dict) else None)
    said = {*data, *module.split("."), *(f"{name}={data.get(name)}" for name in ("policy_delay", "target_noise_clip"))}
    if algo := next((algo for algo, marks in MARKS.items() if marks <= said), None):
        return algo
    known = listed([*map(title_of, MARKS)], "or")
    raise UserError(f"{path} is of no algorithm that is known here: its policy is from {module}, not of {known}")


def sb3_data(path: Path) -> dict[str, Any]:
    """Return what a model of SB3's says of itself in JSON; nothing in the file is run.

    Raises:
        UserError: the file cannot be read, or is no model of SB3's.
    """
    with opened(path, None, follow=True) as stream:
        content = stream.read(4)
        try:
            with zipfile.ZipFile(stream) as archive, archive.open("data") as packed:
                data = parse_json(packed.read(DATA_LIMIT))
            if not isinstance(data, dict):
                raise TypeError("its data are no mapping")
            return data
        except Exception as error:  # zipfile raises whatever its decompressors do
            what = "is no zip archive" if content != b"PK\x03\x04" else "holds no model of stable-baselines3"
            raise UserError(f"{path} {what} ({type(error).__name__}: {error})") from error


def refuse_missing(path: Path) -> None:
    """Raise UserError if there is nothing at a path; the message names what is beside it."""
    if not path.exists():
        beside = [file.name for file in path.parent.glob("*.zip")]
        raise UserError(f"{path} is not there.{did_you_mean(path.name, beside)}")


def refuse_untrusted(path: Path, trust: bool) -> None:
    """Raise UserError if a model of SB3's is not there, or not trusted: its file holds pickled objects."""
    refuse_missing(path)
    if not trust:
        raise UserError(
            f"{path} was not loaded: a model of stable-baselines3 holds pickled objects, and loading them runs "
            "whatever code its author put there. If you trust where it comes from, add --trust."
        )


def load_sb3(path: Path, *, trust: bool, vec_normalize: Path | None = None) -> SB3Policy:
    """Load a model that SB3's `save` wrote.

    Args:
        path: the `.zip` file.
        trust: whether the user trusts whoever wrote it, for loading runs code from the file.
        vec_normalize: the file that `VecNormalize.save` wrote, where the model was trained with it.

    Raises:
        UserError: it is not trusted, or the files cannot be used.
    """
    refuse_untrusted(path, trust)
    import pickle

    from stable_baselines3.common.vec_env import VecNormalize

    normalizer, kind = None, sb3_class(sb3_algo(path))
    try:
        model = kind.load(path, device="cpu")
        if vec_normalize is not None:
            with disk("read", vec_normalize), vec_normalize.open("rb") as stream:
                normalizer = pickle.load(stream)
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} could not be loaded: {type(error).__name__}: {reason}") from error
    if normalizer is not None and not isinstance(normalizer, VecNormalize):
        raise UserError(f"{vec_normalize} holds no VecNormalize, but a {type(normalizer).__name__}")
    return SB3Policy(model, normalizer)


def sb3_in_env(
    path: Path,
    env_id: str | None,
    num_envs: int = 1,
    *,
    trust: bool,
    vec_normalize: Path | None = None,
    env_kwargs: dict[str, Any] | None = None,
    vec: str = "auto",
    render: bool = False,
) -> tuple[SB3Policy, VecEnv]:
    """Load a model that SB3's `save` wrote, and make the environment that it is to play in.

    Args:
        path, trust, vec_normalize: see `load_sb3`.
        env_id, num_envs, env_kwargs, vec, render: see `envs.make.make`; the file itself does not name its environment.

    Raises:
        UserError: no environment is named, the model is not trusted or cannot be used, or it does not fit.
    """
    refuse_missing(path)
    if env_id is None:
        raise UserError(f"{path} does not say which environment it learnt: add --env, as in --env CartPole-v1")
    model = load_sb3(path, trust=trust, vec_normalize=vec_normalize)
    env = stage(env_id, num_envs, render=render, vec="sync" if render else vec, env_kwargs=env_kwargs)
    try:
        model.refuse_unfit(env, env_id)
    except UserError:
        env.close()
        raise
    return model, env
