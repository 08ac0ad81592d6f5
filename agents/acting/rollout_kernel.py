"""A whole rollout on native environments as one kernel: act, step and begin anew, tick after tick, in registers.

One tick is recorded as `FusedCollector` and the rules of the task have it, and written out: in Triton for a GPU, in C++
for a CPU. Noise is what was drawn before, as in the plain rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.acting.emitted import OPERATIONS
from agents.acting.emitting import ENVS, Emitter, Refused, Tile
from agents.acting.in_cpp import Cpp
from agents.acting.in_triton import BLOCK, WARPS, WIDE_WARPS, Triton
from agents.acting.policies import ModelPolicy
from agents.core.checked import Found
from agents.core.cpp_source import CppFunction
from agents.core.tracing import Tracer
from agents.core.tree import tree_map
from agents.core.triton_source import interpreted, kernel_of, product_precision, refuse_no_triton
from envs.native.vec_env import NativeVecEnv
from envs.spaces import leaf_spaces

Tick = Callable[[Any, Any, Tensor], tuple[Any, Any]]


class Source:
    """What a rollout is as a kernel.

    Args:
        tick: a pure function of what there is, `[N, ...]`, and of the noise and random numbers of some ticks,
            `[K, N, ...]`: what there is then, and what happened.
        now, noise, uniform: what it is called with for `ENVS` environments and one tick.
        learnt: the network's tensors.

    Attributes:
        text: of the kernel.
        types: of the tensors that it takes, by their names.
        held: those that it reads beside a rollout's.
        warps: of a program.
        rows: what happens in one tick, as tensors without numbers.

    Raises:
        Refused: no kernel is written for something in it.
    """

    def __init__(self, tick: Tick, now: Any, noise: Any, uniform: Tensor, learnt: Sequence[Tensor]) -> None:
        with torch.no_grad(), Tracer() as tracer:
            after, rows = tick(now, noise, uniform)
        language = Triton if in_triton(uniform.device) else Cpp
        emitter: Emitter = language(tracer.noted, uniform.device, {tensor.data_ptr() for tensor in learnt})
        state, drawn = leaves(now), [*leaves(noise), uniform]
        begin = dict(pair for i, tensor in enumerate(state) for pair in _begun(emitter, i, tensor))
        for i, tensor in enumerate(drawn):
            _drawn(emitter, i, tensor)
        emitter.run(OPERATIONS)
        stores = [line for i, row in enumerate(leaves(rows)) for line in _kept(emitter, i, row)]
        moves = [name for pair in zip(state, leaves(after), strict=True) for name in _moved(emitter, *pair)]
        stores += [line for pair in zip(state, leaves(after), strict=True) for line in _moved_tile(emitter, *pair)]
        ended = [line for i, tensor in enumerate(state) for line in _ended(emitter, i, tensor)]
        self.held, self.rows = emitter.held, tree_map(lambda row: row.to("meta"), rows)
        self.warps = WIDE_WARPS if emitter.widest > 64 else WARPS
        groups = {"now": state, "drawn": drawn, "p": self.held, "row": leaves(rows)}
        self.types = {f"{name}{i}": one.dtype for name, group in groups.items() for i, one in enumerate(group)}
        self.text = emitter.kernel(self.types, begin, stores, moves, ended)


def in_triton(device: torch.device) -> bool:
    """Return whether kernels on a device are in Triton; else they are in C++."""
    return device.type != "cpu" or interpreted()


def _begun(e: Emitter, i: int, tensor: Tensor) -> list[tuple[str, str]]:
    """Give names to what there is before a tick; return them with what reads it before the first one."""
    if e.remembered(tensor):
        e.give_tile(tensor, f"s{i}", f"now{i}")
        return []
    entries, found = np.empty(e.shape(tensor), object), []
    for k, (index, address) in enumerate(_addresses(e, tensor)):
        entries[index] = f"s{i}_{k}"
        found.append((f"s{i}_{k}", e.read(f"now{i}", address)))
    e.give(tensor, entries)
    return found


def _drawn(e: Emitter, i: int, tensor: Tensor) -> None:
    """Let what was drawn for a tick be read in it."""
    entries = np.empty(e.shape(tensor), object)
    for index, address in _addresses(e, tensor, ticks=True):
        entries[index] = e.name(e.read(f"drawn{i}", address), fixed=False)
    e.give(tensor, entries)


def _kept(e: Emitter, i: int, row: Tensor) -> list[str]:
    """Return what writes down what happened in a tick."""
    if isinstance(tile := e.value(row), Tile):
        return [e.tile_written(f"row{i}", tile, ticks=True)]
    entries = e.names(row).entries
    return [e.written(f"row{i}", address, entries[index]) for index, address in _addresses(e, row, ticks=True)]


def _moved(e: Emitter, before: Tensor, after: Tensor) -> list[str]:
    """Return the names of what a tick leaves, in the types of what there was."""
    if before.shape != after.shape:
        raise Refused("what there is changes its shape from tick to tick")
    if isinstance(e.value(before), Tile):
        return []
    return list(e.cast(e.names(after), before.dtype).entries.flat)


def _moved_tile(e: Emitter, before: Tensor, after: Tensor) -> list[str]:
    """Return what gives a memory what it goes on from in the next tick."""
    tile, source = e.value(before), e.value(after)
    if not isinstance(tile, Tile):
        return []
    if not isinstance(source, Tile):
        raise Refused("what is remembered is no hidden layer")
    return [e.tile_moved(tile, source)]


def _ended(e: Emitter, i: int, tensor: Tensor) -> list[str]:
    """Return what writes down what there is after the last tick."""
    if isinstance(tile := e.value(tensor), Tile):
        return [e.tile_written(f"now{i}", tile, ticks=False)]
    return [e.written(f"now{i}", address, f"s{i}_{k}") for k, (_, address) in enumerate(_addresses(e, tensor))]


def _addresses(e: Emitter, tensor: Tensor, ticks: bool = False) -> list[tuple[tuple[int, ...], str]]:
    """Return the index of each number of one environment, without their axis, and where it lies.

    Args:
        tensor: `[..., N, ...]`, or of one tick `[1, ..., N, ...]`.
        ticks: whether the first axis is time, of which there is more than one in the kernel.
    """
    if tensor.dtype not in e.types:
        raise Refused(f"no kernel holds {tensor.dtype}")
    axis = list(tensor.shape).index(ENVS)
    front, back = tuple(tensor.shape[:axis]), tuple(tensor.shape[axis + 1 :])
    outer, inner = int(np.prod(front)), int(np.prod(back))
    found = []
    for index in np.ndindex(*front, *back):
        a = int(np.ravel_multi_index(index[:axis], front)) if front else 0
        b = int(np.ravel_multi_index(index[axis:], back)) if back else 0
        row = f"(t * {outer} + {a}) * n + place" if ticks else f"{a} * n + place"
        found.append((index, f"({row}) * {inner} + {b}"))
    return found


def fits(policy: ModelPolicy, env: NativeVecEnv) -> str:
    """Return why no kernel does a policy's rollout, as far as can be told beforehand; "" if nothing is in the way."""
    if policy.recurrent and in_triton(policy.device):
        return "the policy remembers earlier steps"
    if any(len(leaf.shape or ()) > 1 for leaf in leaf_spaces(env.observation_space).values()):
        return "observations are pictures"
    return ""


def of_envs(now: dict[str, Any], count: int) -> dict[str, Any]:
    """Return zeros like what there is, as if there were `count` environments."""

    def zeros(name: str) -> Callable[[Tensor], Tensor]:
        if name == "state":
            return lambda leaf: leaf.new_zeros(leaf.shape[0], count)
        return lambda leaf: leaf.new_zeros(count, *leaf.shape[1:])

    return {name: tree_map(zeros(name), leaf) for name, leaf in now.items()}


def leaves(tree: Any) -> list[Any]:
    """Return the arrays of a tree, in order."""
    found: list[Any] = []
    tree_map(found.append, tree)
    return found


def rollout(source: Source, now: Any) -> Callable[[Any, Tensor], Any]:
    """Return what does all ticks in one kernel: of noise and random numbers `[T, ...]`, it returns what happened.

    Args:
        source: of the tick.
        now: what there is, which is changed in place.

    Raises:
        UserError: there is no Triton or no C++ compiler, or what there is lies apart.
    """
    state = leaves(now)
    device, envs = state[0].device, state[-1].shape[0]
    launch = _of_triton(source, device) if in_triton(device) else CppFunction(source.text)
    if not all(tensor.is_contiguous() for tensor in state):
        raise Refused("what there is lies apart")

    def run(noise: Any, uniform: Tensor) -> Any:
        ticks = len(uniform)

        def room(row: Tensor) -> Tensor:
            shape = [envs if n == ENVS else n for n in row.shape[1:]]
            return torch.empty(ticks, *shape, dtype=row.dtype, device=device)

        rows, drawn = tree_map(room, source.rows), [tensor.contiguous() for tensor in (*leaves(noise), uniform)]
        launch(ticks, envs, (*state, *drawn, *source.held, *leaves(rows)))
        return rows

    return run


def _of_triton(source: Source, device: torch.device) -> Callable[[int, int, Sequence[Tensor]], None]:
    refuse_no_triton(device)
    kernel = kernel_of(source.text)

    def launch(ticks: int, envs: int, tensors: Sequence[Tensor]) -> None:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            kernel[(-(-envs // BLOCK),)](ticks, envs, *tensors, num_warps=source.warps)

    return launch


def differences(expected: Found, found: Found, before: Sequence[Any] = ()) -> str:
    """Return what is wrong with a kernel's rows `[T, N, ...]` and state beside the plain ones; "" if nothing is.

    The first tensor of the state is `[k, N]`, all others are `[N, ...]`. Rounding may change the action of a few
    environments, which go another way from then on: no more than one in a hundred may (in tf32, one in ten), but one
    always. What the state was before does not count.
    """
    rows, wanted = found[0], expected[0]
    apart = torch.zeros_like(wanted["start"][0])
    for name, rest in wanted.items():
        for one, other in zip(leaves(rows[name]), leaves(rest), strict=True):
            if one.shape != other.shape or one.dtype != other.dtype:
                return f"{name} is {one.dtype} {[*one.shape]}, not {other.dtype} {[*other.shape]}"
            apart |= (~_close(one, other)).transpose(0, 1).flatten(1).any(1)
    for i, (one, other) in enumerate(zip(found[1], expected[1], strict=True)):
        unlike = ~_close(one, other)
        apart |= (unlike if i else unlike.T).flatten(1).any(1) if unlike.dim() > 1 else unlike
    count, allowed = int(apart.sum()), max(len(apart) // (10 if product_precision() == "tf32" else 100), 1)
    return "" if count <= allowed else f"{count} of {len(apart)} environments go another way, beyond rounding"


def _close(one: Tensor, other: Tensor) -> Tensor:
    if not one.dtype.is_floating_point:
        return one == other
    loose = 1e-2 if product_precision() == "tf32" else 1e-3
    return torch.isclose(one, other, rtol=loose, atol=loose, equal_nan=True)
