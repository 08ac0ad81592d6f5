"""A trained network with fewer weights: single ones set to 0 and held there, or whole hidden units taken out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from agents.core.schedules import crossings
from agents.core.types import Iteration
from agents.networks.layers import MLP
from agents.networks.models import ActorCritic, QNetwork
from agents.networks.parts import begin_with
from agents.ops.sparsity import masks, ramp, units
from agents.run.build import build
from agents.run.config import Layer, moved_to, resolve
from agents.run.models import LoadedPolicy, runs_here
from agents.run.runner import train_out
from agents.run.summary import Summary
from agents.run.training import Training
from agents.run.transfer import ANEW, origin
from envs.errors import UserError

Method = Literal["magnitude", "structured"]
RAMP = 0.5  # part of the fine-tuning over which weights are taken out; the rest makes up for them
CUTS = 50  # of the whole fine-tuning, how many times that is done in it at most


@dataclass(slots=True)
class Pruning(Training):
    """A training in which ever more weights are held at 0.

    Attributes:
        sparsity: of all weights of layers, which part is 0 in the end.
        reached: which part is now.
    """

    sparsity: float = 0.0
    reached: float = 0.0

    @property
    def keeps_best(self) -> bool:
        return self.reached == self.sparsity

    def cut(self, sparsity: float) -> None:
        """Hold the least of the weights at 0, so many that they are this part of all."""
        parameters = self.learner.parameters
        weights = {name: view for name, view in parameters.views(parameters.vector).items() if _prunable(name, view)}
        kept = masks(list(weights.values()), sparsity)
        parameters.hold_at_zero({name: ~mask for name, mask in zip(weights, kept, strict=True)})
        self.algorithm.copy_model()
        self.reached = sparsity

    def iterations(self) -> Iterator[Iteration]:
        total, before = self.config.params.total_timesteps, 0
        for iteration in Training.iterations(self):
            done = iteration.step / (RAMP * total)
            if self.reached < self.sparsity and (done >= 1 or crossings(before, iteration.step, max(total // CUTS, 1))):
                self.cut(ramp(self.sparsity, done))
            before = iteration.step
            yield iteration


class AsItIs(Pruning):
    """One that is pruned, and not trained on."""

    def iterations(self) -> Iterator[Iteration]:
        return iter(())


def _prunable(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a layer's weights, rather than its biases or the scale of a normalisation."""
    return parameter.ndim >= 2 and name.rpartition(".")[2].startswith("weight")


def smaller(model: nn.Module, sparsity: float) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a model's weights without the least of the hidden units, and the settings of a network of that size.

    Each layer keeps the root of the share of weights that is to be left, as weights between two layers have units of
    both.

    Raises:
        UserError: its layers are of other kinds.
    """
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    widths = {name: _without_units(state, name, mlp, heads, sparsity) for name, mlp, heads in _chains(model)}
    if isinstance(model, ActorCritic) and model.value_torso is not None:
        return state, {"net_arch": {"pi": widths["policy_torso"], "vf": widths["value_torso"]}}
    return state, {"net_arch": next(iter(widths.values()))}


def _chains(model: nn.Module) -> list[tuple[str, MLP, list[str]]]:
    """Return the names and modules of a model's hidden layers, and the names of the layers that read the last ones."""
    if isinstance(model, ActorCritic) and not model.sde.use_sde:
        if model.value_torso is None:
            return [("policy_torso", model.policy_torso, ["policy_head", "value_head"])]
        both = ("policy_torso", model.policy_torso, ["policy_head"]), ("value_torso", model.value_torso, ["value_head"])
        return list(both)
    plain = isinstance(model, QNetwork) and all(type(one) is nn.Linear for one in (model.head, *model.torso.layers))
    if isinstance(model, QNetwork) and plain:
        return [("torso", model.torso, ["head"])]
    raise UserError("whole units are taken out of plain hidden layers before plain heads: use --method magnitude")


def _without_units(state: dict[str, Tensor], name: str, mlp: MLP, heads: list[str], sparsity: float) -> list[int]:
    """Take units out of each hidden layer of weights by name; return how many are left."""
    layers = [f"{name}.layers.{i}" for i in range(len(mlp.layers))]
    widths = []
    for i, (layer, after) in enumerate(itertools.zip_longest(layers, layers[1:])):
        readers = heads if after is None else [after]
        width = len(state[f"{layer}.weight"])
        keep = max(round(width * math.sqrt(1 - sparsity)), 1)
        kept = units(state[f"{layer}.weight"], [state[f"{reader}.weight"] for reader in readers], keep)
        norms = [f"{name}.norms.{i}"] if mlp.norms is not None else []
        for each in (f"{part}.{leaf}" for part in (layer, *norms) for leaf in ("weight", "bias")):
            state[each] = state[each][kept]
        for reader in readers:
            state[f"{reader}.weight"] = state[f"{reader}.weight"][:, kept]
        widths.append(keep)
    return widths


def pruned(
    loaded: LoadedPolicy, sparsity: float, method: Method, finetune: int, settings: Sequence[Layer] = ()
) -> Training:
    """Build the training that prunes a policy, and trains it on for `finetune` steps.

    Raises:
        UserError: the sparsity is out of range, or `smaller` raises.
    """
    if not 0 < sparsity < 1:
        raise UserError(f"sparsity: {sparsity} given, a number between 0 and 1 expected, such as 0.9")
    model = loaded.policy.model
    state, shape = smaller(model, sparsity) if method == "structured" else (model.state_dict(), {})
    before = loaded.config.model_dump(mode="json")
    asked = [layer.values["device"] for layer in settings if "device" in layer.values]
    device = asked[-1] if asked else runs_here(loaded.config).device
    own = ANEW | moved_to(loaded.config, device) | {"total_timesteps": max(finetune, 1), "name": "pruned"}
    if "exploration_final_eps" in before:  # what it knows already need not be explored
        own["exploration_initial_eps"] = before["exploration_final_eps"]
    config = resolve([Layer("run", before | own | shape), *settings], packaged=False)
    built = build(config)
    rows = begin_with(built.algorithm.model, state, [])
    built.algorithm.copy_model()
    values = {field.name: getattr(built, field.name) for field in fields(built)}
    values["origin"] = origin("pruning", loaded.place, loaded, rows) | {
        "method": method,
        "sparsity": sparsity,
        "finetune": finetune,
    }
    training = (Pruning if finetune else AsItIs)(**values, sparsity=0.0 if method == "structured" else sparsity)
    if not finetune:
        training.cut(training.sparsity)
    return training


def prune(
    loaded: LoadedPolicy,
    sparsity: float,
    *,
    method: Method = "magnitude",
    finetune: int = 0,
    settings: Sequence[Layer] = (),
    runs_dir: Path,
    quiet: bool = False,
) -> Summary:
    """Prune a policy, in a run folder of its own.

    Args:
        sparsity: the part of its layers' weights that goes.
        method: "magnitude" holds single weights at 0; "structured" takes units out, which leaves a smaller network.
        finetune: steps that it is trained for with its algorithm; with "magnitude" weights go little by little.
        settings: others than the run's, such as `learning_rate`.

    Raises:
        UserError: as `pruned`; or something cannot be written.
    """
    training = pruned(loaded, sparsity, method, finetune, settings)
    return train_out(training, runs_dir, quiet)
