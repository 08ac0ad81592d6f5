"""The named parts of a network: held still, and given the weights of another network.

A part is a module of the network or a parameter of its own, by the name that PyTorch gives it: "encoder",
"policy_torso.layers.0", "log_std".
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from agents.networks.normalize import RunningNorm
from envs.errors import UserError, did_you_mean

BESIDE_VALUES = {"policy_torso": "torso", "policy_head": "head"}
DEPTH = 3  # of names in other programs' files: so many words at their beginning may be others than ours


class PartOrigin(NamedTuple):
    """With what a layer began.

    Attributes:
        part: its name; "" for parameters of the network itself.
        parameters: numbers that it learns.
        loaded: whether it has the other network's weights.
        why: why it has not, and so keeps its first weights; "" where it has.
    """

    part: str
    parameters: int
    loaded: bool
    why: str = ""


def parts(network: nn.Module) -> list[str]:
    """Return the names of all parts that hold numbers, in the network's order."""
    found: dict[str, None] = {}
    for name in network.state_dict():
        words = name.split(".")
        found |= dict.fromkeys(".".join(words[: i + 1]) for i in range(len(words)))
    return list(found)


def within(name: str, part: str) -> bool:
    """Whether a parameter or module is a part, or lies in it."""
    return name == part or name.startswith(f"{part}.")


def refuse_unknown(network: nn.Module, names: Collection[str], setting: str) -> None:
    """Raise UserError for a name that is none of the network's parts; `setting` is the one that gives it."""
    known = parts(network)
    for name in names:
        if name not in known:
            top = ", ".join(dict.fromkeys(each.partition(".")[0] for each in known))
            raise UserError(
                f"{setting}: the network has no part {name!r}; its parts are {top}, and what is in them by names such "
                f"as {next((each for each in known if '.' in each), known[0])} (--dry-run lists all)."
                f"{did_you_mean(name, known)}"
            )


def hold_still(network: nn.Module, names: Collection[str]) -> None:
    """Let nothing train parts of a network: their parameters, and the statistics of normalisers in them, stay.

    Normalisers that other parts share with them learn on.

    Raises:
        UserError: there is no such part.
    """
    refuse_unknown(network, names, "freeze")
    for name, parameter in network.named_parameters():
        if any(within(name, part) for part in names):
            parameter.requires_grad_(False)
    held: dict[RunningNorm, list[bool]] = defaultdict(list)
    for name, module in network.named_modules(remove_duplicate=False):
        if isinstance(module, RunningNorm):
            held[module].append(any(within(name, part) for part in names))
    for norm, each in held.items():
        norm.frozen = all(each)


def scales(network: nn.Module, factors: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Yield what the names of each part's parameters begin with, and its factor.

    Raises:
        UserError: there is no such part, or nothing in it is trained.
    """
    refuse_unknown(network, factors, "lr_scale")
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    for part, factor in factors.items():
        if not any(within(name, part) for name in trained):
            raise UserError(f"lr_scale: nothing is trained in {part!r}: leave it out")
        yield part if part in trained else f"{part}.", factor


@torch.no_grad()
def begin_with(
    network: nn.Module, weights: Mapping[str, Tensor], reset: Collection[str], *, least: int = 1
) -> list[PartOrigin]:
    """Give a network the weights of another, by name and shape: layers that fit, each whole, and no part in `reset`.

    Args:
        least: how many layers must fit.

    Returns:
        One row for each layer that holds numbers, in the network's order.

    Raises:
        UserError: there is no such part, or too few layers fit.
    """
    refuse_unknown(network, reset, "reset")
    own: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in network.state_dict().items():
        own[name.rpartition(".")[0]][name] = tensor
    numbers = {name: parameter.numel() for name, parameter in network.named_parameters()}
    rows = []
    for layer, tensors in own.items():
        why = ""
        if (part := next((part for part in reset if any(within(name, part) for name in tensors)), None)) is not None:
            why = f"reset ({part})"
        for name, mine in tensors.items():
            why = why or _misfit(name, mine, weights)
        if not why:
            for name, mine in tensors.items():
                mine.copy_(weights[name])
        rows.append(PartOrigin(layer, sum(numbers.get(name, 0) for name in tensors), not why, why))
    if sum(row.loaded for row in rows) < least:
        raise UserError(f"none of its layers fits: {'; '.join(f'{row.part}: {row.why}' for row in rows[:3])}")
    return rows


def _misfit(name: str, mine: Tensor, weights: Mapping[str, Tensor]) -> str:
    """Say why a tensor cannot be had from `weights`; "" where it can."""
    leaf, found = name.rpartition(".")[2], weights.get(name)
    if found is None:
        return f"{leaf} is not there"
    if found.shape != mine.shape:
        return f"{leaf} is {_shape(found)} there, {_shape(mine)} here"
    if found.is_floating_point() != mine.is_floating_point() or found.is_complex():
        return (
            f"{leaf} is {str(found.dtype).removeprefix('torch.')} there, {str(mine.dtype).removeprefix('torch.')} here"
        )
    return ""


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def as_called(network: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return weights of another network of ours under this one's names, and how, in words ("" for as they are).

    What decides is called otherwise where a value function lies beside it (`BESIDE_VALUES`); a network that has the
    short names is given such weights under them.
    """
    here, there = ({name.partition(".")[0] for name in names} for names in (network.state_dict(), weights))
    other = {old: new for old, new in BESIDE_VALUES.items() if old in there - here and new in here - there}
    found = {}
    for name, tensor in weights.items():
        part, point, rest = name.partition(".")
        found[other.get(part, part) + point + rest] = tensor
    return found, ", ".join(f"{old} there is {new} here" for old, new in other.items())


def renamed(network: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return weights that another program named under the network's own names, and how, in words ("" for as they are).

    Where no name is one of the network's, another beginning of the names is looked for, so that a backbone alone may
    be a module of an encoder: that with which most tensors fit by name and shape.
    """
    own = network.state_dict()
    if not weights or weights.keys() & own.keys():
        return dict(weights), ""
    here = {name: i for i, name in enumerate(["", *(f"{name}." for name, _ in network.named_modules() if name)])}
    ends: defaultdict[tuple[str, torch.Size], list[str]] = defaultdict(list)  # beginnings of the network's names
    for name, tensor in own.items():
        for new in here:
            if name.startswith(new):
                ends[name.removeprefix(new), tensor.shape].append(new)
    there = {old: i for i, old in enumerate(dict.fromkeys(_beginnings(weights)))}
    fits: Counter[tuple[str, str]] = Counter()
    for name, tensor in weights.items():
        for old in _beginnings([name]):
            fits.update((old, new) for new in ends.get((name.removeprefix(old), tensor.shape), ()))
    if not fits:
        return dict(weights), ""
    old, new = max(fits, key=lambda pair: (fits[pair], -len(pair[0]), -there[pair[0]], -here[pair[1]]))
    found = {new + name.removeprefix(old) if name.startswith(old) else name: tensor for name, tensor in weights.items()}
    return found, f"{old or 'all'} there is {new.rstrip('.') or 'the network'} here" if old or new else ""


def _beginnings(names: Collection[str]) -> Iterator[str]:
    """Yield what names begin with, up to a few words, each with its last point."""
    yield ""
    for name in names:
        words = name.split(".")[:-1]
        for i in range(min(len(words), DEPTH)):
            yield "".join(f"{word}." for word in words[: i + 1])
