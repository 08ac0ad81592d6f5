"""What kernels need to know of a policy and a value network: shapes, and where parameters lie in the flat vector."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from gymnasium import spaces
from torch import nn

from agents.learning.parameters import FlatParameters
from agents.networks.encoders import Encoder, Flat
from agents.networks.layers import MLP
from agents.networks.models import ActorCritic
from agents.networks.normalize import RunningNorm
from envs.errors import UserError

DEEPEST = 2  # hidden layers
WIDEST = 128  # units of one; beyond these limits a program's registers run out ...
MOST_WEIGHTS = 64 * 128  # ... between two hidden layers
MOST_INPUTS, MOST_OUTPUTS = 128, 64
ACTIVATIONS = ("tanh", "relu")
PLAIN: dict[type[nn.Module], set[str]] = {  # the modules there may be, and what each does
    ActorCritic: {"forward"},
    Encoder: {"forward"},
    Flat: {"forward"},
    RunningNorm: {"forward"},
    MLP: {"forward"},
    nn.ModuleList: set(),
    nn.Linear: {"forward"},
}


@dataclass(frozen=True)
class Networks:
    """A policy's and a value function's network, each of one or two hidden layers and a head.

    Attributes:
        layout: of each the places of weight and bias of the first, second and last layer in the vector of parameters,
            the widths of hidden layers, the number of outputs, and the place of deviations. What a network lacks is 0;
            of one hidden layer the two widths are equal.
        inputs: numbers of an observation.
        norm: normalises observations; None for nothing.
    """

    layout: tuple[tuple[int, ...], tuple[int, ...]]
    inputs: int
    deep: bool
    relu: bool
    gaussian: bool
    norm: RunningNorm | None

    @property
    def outputs(self) -> int:
        """Numbers that the policy's head puts out."""
        return self.layout[0][8]


def networks_of(model: nn.Module, parameters: FlatParameters) -> Networks:
    """Return what `model` is made of.

    Raises:
        UserError: there is something that kernels do not know; the message says what.
    """
    _refuse_unknown(model)
    assert isinstance(model, ActorCritic)
    encoder: Any = model.encoder
    flat = encoder.leaves[0]
    if encoder.keys is not None or flat.scale is not None:
        raise UserError("observations are no vector of floats")
    if not isinstance(model.action_space, spaces.Discrete | spaces.Box) or model.squash or model.split_std:
        raise UserError("the policy is neither categorical nor Gaussian with deviations of its own")
    if model.sde.use_sde or model.value_scale is not None or model.curiosity is not None:
        raise UserError("the policy's noise, the values or the rewards are more than a head's output")
    policy, value = model.policy_torso, model.value_torso
    if value is None or len(policy.layers) != len(value.layers) or not 1 <= len(policy.layers) <= DEEPEST:
        raise UserError(f"policy and values are not two networks of equally many hidden layers, 1 to {DEEPEST}")
    if policy.activation != value.activation or policy.activation not in ACTIVATIONS:
        raise UserError(f"the activation is {policy.activation}, not {' or '.join(ACTIVATIONS)}")
    widths = [layer.out_features for torso in (policy, value) for layer in torso.layers]
    layout = _layout(model, parameters)
    first, second = hidden_sizes(layout)
    most = max(first, first * second * WIDEST // MOST_WEIGHTS if len(policy.layers) > 1 else 0)
    if most > WIDEST or flat.features > MOST_INPUTS or model.size > MOST_OUTPUTS:
        raise UserError(
            f"layers of {flat.features}, {', '.join(map(str, widths))} and {model.size} numbers are too wide: at most "
            f"{MOST_INPUTS}, {WIDEST} (two, 64 and {WIDEST}) and {MOST_OUTPUTS} fit a program's registers"
        )
    return Networks(
        layout,
        flat.features,
        deep=len(policy.layers) == DEEPEST,
        relu=policy.activation == "relu",
        gaussian=model.log_std is not None,
        norm=flat.norm,
    )


def _refuse_unknown(model: nn.Module) -> None:
    """Refuse modules that are none of ours or have been given hooks, parametrisations or functions of their own."""
    if type(model) is not ActorCritic:
        raise UserError(f"the model is a {type(model).__name__}")
    for name, module in model.named_modules():
        changed = any(value for key, value in vars(module).items() if key.endswith("_hooks"))
        if type(module) not in PLAIN or changed or "forward" in vars(module):
            raise UserError(f"{name or 'the model'} is a {type(module).__name__} that is not as kernels know it")
        if isinstance(module, MLP) and module.norms is not None:
            raise UserError(f"{name} has layer normalisation")
    if any(parameter._backward_hooks for parameter in model.parameters()):
        raise UserError("a parameter has a hook")


def _layout(model: ActorCritic, parameters: FlatParameters) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return `Networks.layout`."""
    views = parameters.views(parameters.vector)
    ends = list(accumulate(view.numel() for view in views.values()))
    place = {name: end - view.numel() for (name, view), end in zip(views.items(), ends, strict=True)}
    if list(views) != [name for name, _ in model.named_parameters()]:
        raise UserError("parts of the network are frozen")
    rows, known = [], {"log_std"}
    for kind in ("policy", "value"):
        torso: Any = getattr(model, f"{kind}_torso")
        head: Any = getattr(model, f"{kind}_head")
        names = [f"{kind}_torso.layers.{index}" for index in range(len(torso.layers))]
        layers: list[Any] = [*torso.layers, head]
        if any(layer.bias is None for layer in layers):
            raise UserError("a layer has no bias")
        known |= {f"{name}.{part}" for name in (*names, f"{kind}_head") for part in ("weight", "bias")}
        inner = [place[f"{name}.{part}"] for name in names for part in ("weight", "bias")]
        inner += [0, 0] * (DEEPEST - len(names))
        last = [place[f"{kind}_head.{part}"] for part in ("weight", "bias")]
        widths = [torso.layers[0].out_features, torso.layers[-1].out_features]
        deviations = place.get("log_std", 0) if kind == "policy" else 0
        rows.append((*inner, *last, *widths, head.out_features, deviations))
    if others := sorted({*place} - known):
        raise UserError(f"it has parameters that kernels do not know: {', '.join(others)}")
    return rows[0], rows[1]


def hidden_sizes(layout: tuple[tuple[int, ...], ...]) -> tuple[int, int]:
    """Return the sizes of tiles into which the hidden layers of both networks fit."""
    return padded(max(row[6] for row in layout)), padded(max(row[7] for row in layout))


def padded(size: int) -> int:
    """Return the least power of two that a matrix product in Triton takes in place of a size."""
    return max(16, 1 << (size - 1).bit_length())
