"""Kernels of environments and small networks in Triton: a program holds some environments, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch

from agents.acting.emitting import Emitter, Held, NameArray, Tile
from agents.core.triton_source import HEAD, interpreted, product_precision

BLOCK = 16  # environments of a program: as many rows as products take at least, so that there are many programs
WARPS, WIDE_WARPS = 4, 8  # of a program; more where a hidden layer is wide, which needs more registers
# In float32 a product is three of tf32, which lose nothing that counts: without tensor cores registers do not suffice.
PRODUCTS = {"ieee": "tf32x3", "tf32": "tf32"}
LEAST_TILE = 16  # what Triton's products take
# A hidden layer goes into a product as it is: else its tanh is worked out anew by every warp, in the product's layout.
STAY = """@triton.jit
def stay(x):
    return {}


"""
STAYS = 'tl.inline_asm_elementwise("mov.b32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=False, pack=1)'
BEGINS = """@triton.jit(do_not_specialize=["ticks", "envs"])
def kernel(ticks, envs, {arguments}):
    BLOCK: tl.constexpr = {block}
    env = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = env < envs
    n = tl.cast(envs, tl.int64)
    place = env.to(tl.int64)
"""


class Triton(Emitter):
    """See `Emitter`."""

    types: ClassVar[dict[torch.dtype, str]] = {
        torch.float64: "tl.float64",
        torch.float32: "tl.float32",
        torch.int64: "tl.int64",
        torch.int32: "tl.int32",
        torch.uint8: "tl.uint8",
        torch.bool: "tl.int1",
    }
    layer_limit = 128  # beyond, there are not enough registers
    # as it is, the sign is that of what is divided, as in C, or of the divisor, as in Python: this is right for both
    remainder = "tl.where(({0} % {1} != 0) & (({0} % {1} < 0) != ({1} < 0)), {0} % {1} + {1}, {0} % {1})"
    quotient = "//"

    def defined(self, name: str, expression: str) -> str:
        return f"{name} = {expression}"

    def literal(self, number: float | int, dtype: torch.dtype) -> str:
        text = repr(number) if np.isfinite(number) else f'float("{number}")'
        return f"tl.full([], {text}, {self.types[dtype]})"

    def converted(self, name: str, dtype: torch.dtype) -> str:
        return f"{name}.to({self.types[dtype]})"

    def read(self, pointer: str, address: str) -> str:
        return f"tl.load({pointer} + {address}, mask=live, other=0)"

    def written(self, pointer: str, address: str, name: str) -> str:
        return f"tl.store({pointer} + {address}, tl.broadcast_to({name}, [BLOCK]), mask=live)"

    def over_tiles(self, template: str, operands: list[Tile | str]) -> Tile:
        names = [one.name if isinstance(one, Tile) else one for one in operands]
        width = next(one.width for one in operands if isinstance(one, Tile))
        return Tile(self.name(template.format(*names), fixed=False), width)

    def beside_tiles(self, name: str) -> str:
        return f"tl.broadcast_to({name}, [BLOCK])[:, None]"

    def hidden(self, value: NameArray | Tile, weight: Held, bias: Held | None) -> Tile:
        total = f"{self._row(bias.pointer, bias.places)}[None, :]" if bias is not None else None
        if isinstance(value, Tile):
            kept = self.name(f"stay({value.name})", fixed=False)
            product = f"tl.dot({kept}, {self._matrix(weight)}, input_precision={PRODUCTS[product_precision()]!r})"
            total = f"{product} + {total}" if total else product
        else:
            terms = [total] if total else []
            for name, places in zip(value.entries, weight.places, strict=True):
                column = self.name(f"tl.broadcast_to({name}, [BLOCK])[:, None]", name)
                terms.append(f"{column} * {self._row(weight.pointer, places)}[None, :]")
            total = " + ".join(terms)
        return Tile(self.name(total, fixed=False), weight.places.shape[1])

    def normalised(self, tile: Tile, weight: Held | None, bias: Held | None, eps: float) -> Tile:
        inside, count = f"{self._range(tile.width)[1]}[None, :]", float(tile.width)
        mean = self.name(f"(tl.sum(tl.where({inside}, {tile.name}, 0.0), 1) / {count})[:, None]", fixed=False)
        apart = self.name(f"tl.where({inside}, {tile.name} - {mean}, 0.0)", fixed=False)
        total = f"{apart} * tl.rsqrt(tl.sum({apart} * {apart}, 1) / {count} + {eps!r})[:, None]"
        if weight is not None:
            total = f"{total} * {self._row(weight.pointer, weight.places)}[None, :]"
        if bias is not None:
            total = f"{total} + {self._row(bias.pointer, bias.places)}[None, :]"
        return Tile(self.name(total, fixed=False), tile.width)

    def along(self, tile: Tile, weight: Held, j: int) -> str:
        return f"tl.sum({tile.name} * {self._row(weight.pointer, weight.places[:, j])}[None, :], 1)"

    def kernel(
        self,
        types: dict[str, torch.dtype],
        state: dict[str, str],
        tick: Sequence[str],
        moved: Sequence[str],
        after: Sequence[str],
    ) -> str:
        lines = [
            *self.head,
            *(f"{name} = {value}" for name, value in state.items()),
            "t = tl.cast(0, tl.int64)",
            "while t < ticks:",  # a `for` of products with large tiles is more than some versions of Triton compile
            *(f"    {line}" for line in [*self.body, *tick]),
            *(f"    e{name} = tl.broadcast_to({value}, [BLOCK])" for name, value in zip(state, moved, strict=True)),
            *(f"    {name} = e{name}" for name in state),
            "    t += 1",
            *after,
        ]
        head = BEGINS.format(arguments=", ".join(types), block=BLOCK)
        stay = STAY.format("x" if interpreted() else STAYS)
        return HEAD + stay + head + "".join(f"    {line}\n" for line in lines)

    def _row(self, pointer: str, places: np.ndarray) -> str:
        """Return a variable of a row of weights, with zeros up to a power of two."""
        column, mask = self._range(len(places))
        return self.name(f"tl.load({pointer} + {_line(column, places)}, mask={mask}, other=0.0)", fixed=False)

    def _matrix(self, held: Held) -> str:
        (row, rows), (column, columns) = (self._range(n) for n in held.places.shape)
        down, across = _line(f"{row}[:, None]", held.places[:, 0]), _line(f"{column}[None, :]", held.places[0])
        mask = f"{rows}[:, None] & {columns}[None, :]"
        return self.name(f"tl.load({held.pointer} + {down} + {across}, mask={mask}, other=0.0)", fixed=False)

    def _range(self, size: int) -> tuple[str, str]:
        padded = max(LEAST_TILE, 1 << (size - 1).bit_length())
        numbers = self.name(f"tl.arange(0, {padded})")
        return numbers, self.name(f"{numbers} < {size}")


def _line(variable: str, places: np.ndarray) -> str:
    """Return the address of places that lie one step apart, from the number of each."""
    first = int(places[0])
    step = int(places[1]) - first if len(places) > 1 else 1
    return f"{variable} * {step}" + (f" + {first}" if first else "")
