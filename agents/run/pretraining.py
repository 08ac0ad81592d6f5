"""Learning from recorded observations alone: what is held out, the loss on it, and what was learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.acting.playback import Playback
from agents.acting.state import ActorState
from agents.core.tree import rows_of, tree_to_tensor
from agents.data.dataset import Dataset
from agents.networks.augmentation import Augmentation
from agents.networks.representation import auxiliary_loss
from agents.run.build import make_algorithm
from agents.run.imitation import Imitation, divided
from agents.run.probes import lines, probe
from agents.run.storage import to_json, write_text
from envs.api import VecEnv
from envs.seeding import derive_seed

PROBES = "probes.json"
ROWS = 8_192  # held-out observations that the loss is measured on, at most


class HeldOutFrames:
    """Observations that are never learnt from, and what the objective makes of them. See `imitation.HeldOut`.

    Args:
        algorithm: with a `Representation` as its model.
        learnt, data: what is learnt from, and what is not.
        env: whose spaces they have.
        seed: of the run.
    """

    def __init__(self, algorithm: Any, learnt: Dataset, data: Dataset, env: VecEnv, seed: int) -> None:
        self._algorithm, self._learnt, self.data = algorithm, learnt, data
        self._spaces, self._seed = (env.observation_space, env.action_space), seed
        params = algorithm.config
        self._augment = (
            Augmentation(env.observation_space, params.augment, params.network.picture_axes) if params.augment else None
        )

    @torch.no_grad()
    def scalars(self) -> dict[str, float]:
        """Return TensorBoard tag -> number: the mean loss of minibatches, the same each time, changed alike."""
        algorithm, data = self._algorithm, self.data
        device, size = algorithm.policy.device, algorithm.batch_size
        order = np.random.default_rng(derive_seed(self._seed, "held out frames")).permutation(len(data))[:ROWS]
        generator = torch.Generator(device).manual_seed(derive_seed(self._seed, "held out changes"))
        whole = order[: max(len(order) // size, 1) * size]  # curl's loss depends on how many are compared
        losses = []
        for start in range(0, len(whole), size):
            rows = data.rows[whole[start : start + size]]
            obs = tree_to_tensor(data.at(rows), device)
            changed = {} if self._augment is None else {"augmented": self._augment(obs, generator)}
            loss = auxiliary_loss(algorithm.model.auxiliary, algorithm.model, {"obs": obs, **changed})
            losses.append(float(loss) * rows_of(obs))
        return {"heldout/loss": sum(losses) / len(whole)}

    def report(self, folder: Path) -> list[str]:
        """Write what linear probes say into a run's folder; return it in words."""
        if not len(self.data):
            return ["no episode was held out: what was learnt is not known"]
        algorithm, device = self._algorithm, self._algorithm.policy.device
        untrained = make_algorithm("pretrain", *self._spaces, algorithm.config, self._seed).to(device).eval()
        found = probe(algorithm.model, untrained.model, self._learnt, self.data, algorithm.config.gamma, self._seed)
        write_text(folder / PROBES, to_json(found) + "\n")
        return lines(found)


def begin(algorithm: Any, env: VecEnv, params: Any, state: ActorState, seed: int) -> Imitation:
    """Read the data that the settings name, and make of them what a pretraining needs; see `imitation.begin`.

    Raises:
        UserError: as of `imitation.learnt_from`.
    """
    recorded, held, said = divided(env, params, state, seed)
    held_out = HeldOutFrames(algorithm, recorded.base, held, env, seed)
    return Imitation(Playback(algorithm.policy, recorded, seed), held_out, said)
