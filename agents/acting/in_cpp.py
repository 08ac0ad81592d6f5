"""Kernels of environments and small networks in C++: one environment after the other, all ticks of each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from agents.acting.emitting import Emitter, Held, NameArray, Refused, Tile
from agents.core.cpp_source import MATHS, TYPES

HEAD = (
    MATHS
    + """template <int inputs, int outputs>
static inline void layer(float* __restrict y, const float* __restrict x, const float* __restrict w, const float* b) {
    float sum[outputs];
    for (int j = 0; j < outputs; ++j) sum[j] = b ? b[j] : 0.0f;
    for (int i = 0; i < inputs; ++i)
        for (int j = 0; j < outputs; ++j) sum[j] += x[i] * w[i * outputs + j];
    for (int j = 0; j < outputs; ++j) y[j] = sum[j];
}

template <int width>
static inline void normal(float* y, const float* x, const float* w, const float* b, float eps) {
    float mean = 0.0f, square = 0.0f;
    for (int j = 0; j < width; ++j) mean += x[j] / width;
    for (int j = 0; j < width; ++j) square += (x[j] - mean) * (x[j] - mean) / width;
    const float scale = 1.0f / std::sqrt(square + eps);
    for (int j = 0; j < width; ++j) y[j] = (x[j] - mean) * scale * (w ? w[j] : 1.0f) + (b ? b[j] : 0.0f);
}

template <int inputs, int size>
static inline void lstm(float* out, float* after, const float* x, const float* carry, const float* of_inputs,
                        const float* of_hidden, const float* b, const float* c) {
    float given[4 * size], gates[4 * size];
    layer<inputs, 4 * size>(given, x, of_inputs, b);
    layer<size, 4 * size>(gates, carry, of_hidden, c);
    for (int j = 0; j < 4 * size; ++j) gates[j] += given[j];
    float squashed[size];
    lstm_step(after, after + size, squashed, gates, carry + size, size);
    std::copy_n(after, size, out);
}

template <int inputs, int size>
static inline void gru(float* out, float* after, const float* x, const float* carry, const float* of_inputs,
                       const float* of_hidden, const float* b, const float* c) {
    float given[3 * size], gates[3 * size];
    layer<inputs, 3 * size>(given, x, of_inputs, b);
    layer<size, 3 * size>(gates, carry, of_hidden, c);
    gru_step(after, given, gates, carry, size);
    std::copy_n(after, size, out);
}

template <int inputs> static inline float along(const float* x, const float* w) {
    float sums[8] = {}, sum = 0.0f;
    for (int i = 0; i + 8 <= inputs; i += 8)
        for (int k = 0; k < 8; ++k) sums[k] += x[i + k] * w[i + k];
    for (int k = 0; k < 8; ++k) sum += sums[k];
    for (int i = inputs / 8 * 8; i < inputs; ++i) sum += x[i] * w[i];
    return sum;
}

"""
)


CELLS = ("gru", "lstm")


class Cpp(Emitter):
    """See `Emitter`. A tile is an array of floats, and `head` comes before all environments."""

    types: ClassVar[dict[torch.dtype, str]] = {getattr(torch, name): kind for name, kind in TYPES.items()}
    layer_limit = 512  # beyond, a library's products over all environments are faster
    remainder = "tl.remainder({0}, {1})"
    quotient = "/"

    def defined(self, name: str, expression: str) -> str:
        return f"const auto {name} = {expression};"

    def literal(self, number: float | int, dtype: torch.dtype) -> str:
        text = repr(number)
        if not np.isfinite(number):
            text = "NAN" if np.isnan(number) else "INFINITY" if number > 0 else "-INFINITY"
        return f"({self.types[dtype]})({text})"

    def converted(self, name: str, dtype: torch.dtype) -> str:
        return f"(({self.types[dtype]}){name})"

    def spelled(self, template: str, dtype: torch.dtype) -> str:
        return re.sub(r"(?<![\w.])(\d+\.\d+)", r"\1f", template) if dtype == torch.float32 else template

    def read(self, pointer: str, address: str) -> str:
        return f"{pointer}[{address}]"

    def written(self, pointer: str, address: str, name: str) -> str:
        return f"{pointer}[{address}] = {name};"

    def over_tiles(self, template: str, operands: list[Tile | str]) -> Tile:
        names = [f"{one.name}[j]" if isinstance(one, Tile) else one for one in operands]
        width = next(one.width for one in operands if isinstance(one, Tile))
        name = self._array(width)
        self.body.append(f"for (int j = 0; j < {width}; ++j) {name}[j] = {template.format(*names)};")
        return Tile(name, width)

    def hidden(self, value: NameArray | Tile, weight: Held, bias: Held | None) -> Tile:
        inputs, outputs = weight.places.shape
        given = self._filled(value)
        of, offsets = self._copied(weight.pointer, weight.places), "nullptr"
        if bias is not None:
            offsets = self._copied(bias.pointer, bias.places)
        name = self._array(outputs)
        self.body.append(f"layer<{inputs}, {outputs}>({name}, {given}, {of}, {offsets});")
        return Tile(name, outputs)

    def normalised(self, tile: Tile, weight: Held | None, bias: Held | None, eps: float) -> Tile:
        held = ["nullptr" if one is None else self._copied(one.pointer, one.places) for one in (weight, bias)]
        name = self._array(tile.width)
        self.body.append(f"normal<{tile.width}>({name}, {tile.name}, {', '.join(held)}, {eps!r}f);")
        return Tile(name, tile.width)

    def along(self, tile: Tile, weight: Held, j: int) -> str:
        return f"along<{tile.width}>({tile.name}, {self._copied(weight.pointer, weight.places[:, j])})"

    def cell(self, kind: str, x: NameArray | Tile, carry: Tile, weights: Sequence[Held]) -> list[Tile]:
        of_inputs, of_hidden, *biases = weights
        (width, inputs), size = of_inputs.places.shape, of_hidden.places.shape[1]
        if kind not in CELLS or max(inputs, width) > 2 * self.layer_limit:
            raise Refused(f"a memory {kind} of {size} is not written out")
        given = [self._copied(one.pointer, one.places.T) for one in (of_inputs, of_hidden)]
        given += [self._copied(one.pointer, one.places) for one in biases]
        made = [Tile(self._array(size), size), Tile(self._array(carry.width), carry.width)]
        names = [tile.name for tile in made]
        self.body.append(f"{kind}<{inputs}, {size}>({', '.join([*names, self._filled(x), carry.name, *given])});")
        return made

    def tile_read(self, tile: Tile, pointer: str) -> list[str]:
        return [
            f"float {tile.name}[{tile.width}];",
            f"std::copy_n({pointer} + place * {tile.width}, {tile.width}, {tile.name});",
        ]

    def tile_written(self, pointer: str, tile: Tile, ticks: bool) -> str:
        row = "(t * n + place)" if ticks else "place"
        return f"std::copy_n({tile.name}, {tile.width}, {pointer} + {row} * {tile.width});"

    def tile_moved(self, tile: Tile, source: Tile) -> str:
        return f"std::copy_n({source.name}, {tile.width}, {tile.name});"

    def kernel(
        self,
        types: dict[str, torch.dtype],
        state: dict[str, str],
        tick: Sequence[str],
        moved: Sequence[str],
        after: Sequence[str],
    ) -> str:
        each = [
            *self.before,
            *(f"auto {name} = {value};" for name, value in state.items()),
            "for (int64_t t = 0; t < ticks; ++t) {",
            *(f"    {line}" for line in [*self.body, *tick]),
            *(f"    const auto e{name} = {value};" for name, value in zip(state, moved, strict=True)),
            *(f"    {name} = e{name};" for name in state),
            "}",
            *after,
        ]
        given = enumerate((name, self.types[dtype]) for name, dtype in types.items())
        lines = [
            *(f"{kind}* const {name} = ({kind}*)given[{i}];" for i, (name, kind) in given),
            *self.head,
            "for (int64_t place = 0; place < n; ++place) {",
            *(f"    {line}" for line in each),
            "}",
        ]
        begin = 'extern "C" void kernel(int64_t ticks, int64_t n, void** given) {\n'
        return HEAD + begin + "".join(f"    {line}\n" for line in lines) + "}\n"

    def _filled(self, value: NameArray | Tile) -> str:
        """Return an array of what goes into a layer."""
        if isinstance(value, Tile):
            return value.name
        given = self._array(value.entries.size)
        self.body += [f"{given}[{i}] = {name};" for i, name in enumerate(value.entries.flat)]
        return given

    def _array(self, width: int) -> str:
        name = self._made[f"array {len(self._made)}"] = f"v{len(self._made)}"
        self.body.append(f"float {name}[{width}];")
        return name

    def _copied(self, pointer: str, places: np.ndarray) -> str:
        """Return an array of weights one after the other, copied once in each call."""
        text = f"{pointer} {places.tolist()}"
        if text not in self._made:
            name = self._made[text] = f"v{len(self._made)}"
            table: Any = places.reshape(places.shape[0], -1)
            rows, columns = table.shape
            down = int(table[1, 0] - table[0, 0]) if rows > 1 else 0
            across = int(table[0, 1] - table[0, 0]) if columns > 1 else 0
            self.head += [
                f"std::vector<float> {name}_({table.size});",
                f"float* const {name} = {name}_.data();",
                f"for (int i = 0; i < {rows}; ++i) for (int j = 0; j < {columns}; ++j)",
                f"    {name}[i * {columns} + j] = {pointer}[{int(table[0, 0])} + i * {down} + j * {across}];",
            ]
        return self._made[text]
