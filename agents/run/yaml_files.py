"""YAML as settings are written in it: read without surprises, from anybody, and written so that it reads back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from agents.run.storage import read_bytes, refuse_unsound, whole_number
from envs.errors import UserError, did_you_mean

MOST_BYTES, MOST_VALUES, MOST_DEPTH = 2**20, 10_000, 50  # of a file of settings
NOT_YAML = (yaml.YAMLError, RecursionError, ValueError, OverflowError)  # the last for "\UFFFFFFFF"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: `1e-3` is a number, `no` is text, a date is text; and `none` is null as well."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own class attribute)

    made = depth = 0  # nodes composed so far, and how deep the present one lies

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()
        if (tag := getattr(event, "tag", None)) is not None:  # what it makes of a value, or raises, is not ours to say
            raise yaml.constructor.ConstructorError(None, None, f"{tag[:80]}: tags are not read", event.start_mark)
        self.made, self.depth = self.made + 1, self.depth + 1
        _refuse_much(self.made, self.depth - 1, None)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _measure(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a list or a mapping is no name", key.start_mark)
            if (found := repr(self.construct_object(key))) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{found} is given twice", node.start_mark)
            seen.add(found)
        return super().construct_mapping(node, deep)


def _refuse_much(values: int, depth: int, where: yaml.Mark | None) -> None:
    if values > MOST_VALUES or depth > MOST_DEPTH:
        what = f"more than {MOST_VALUES:,} values" if values > MOST_VALUES else f"lists more than {MOST_DEPTH} deep"
        raise yaml.constructor.ConstructorError(None, None, f"{what}, aliases written out", where)


def _measure(node: yaml.Node, known: dict[yaml.Node, tuple[int, int, int]]) -> tuple[int, int, int]:
    """Return how many values a document holds, how deep, and of how many characters, aliases (`*name`) written out.

    Raises:
        ConstructorError: too many, too deep or too long for settings, or an alias that holds itself.
        ValueError: a text is none (`refuse_unsound`).
    """
    if node in known:
        return known[node]
    if isinstance(node, yaml.ScalarNode):
        refuse_unsound(node.value)
        known[node] = 1, 0, len(node.value)
        return known[node]
    known[node] = (MOST_VALUES, 0, 0)  # until it is known: an alias within its own value
    inner = [child for pair in node.value for child in (pair if isinstance(pair, tuple) else (pair,))]
    sizes, depths, lengths = zip(*(_measure(child, known) for child in inner), strict=True) if inner else ((), (), ())
    known[node] = 1 + sum(sizes), 1 + max(depths, default=0), sum(lengths)
    _refuse_much(*known[node][:2], node.start_mark)
    if known[node][2] > MOST_BYTES:
        raise yaml.constructor.ConstructorError(
            None, None, f"more than {MOST_BYTES // 2**20} MB of text, aliases written out", node.start_mark
        )
    return known[node]


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: text that would read as another type is quoted."""

    yaml_implicit_resolvers: dict[str, Any] = _Loader.yaml_implicit_resolvers


_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: whole_number(node.value.replace("_", "")))
for _tag, _pattern, _first in (
    ("null", r"~|none|null|None|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def parse_value(text: str) -> Any:
    """Read one flag's value as YAML would; what YAML cannot read is text."""
    try:
        return yaml.load(text, Loader=_Loader)
    except NOT_YAML:
        return text


def dump_yaml(values: dict[str, Any]) -> str:
    """Write plain values as `load_config_file` reads them."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load_config_file(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; an empty file is an empty mapping.

    Raises:
        UserError: the file is missing, unreadable, not YAML or not a mapping with text keys.
    """
    try:
        values = yaml.load(read_bytes(path, MOST_BYTES, follow=True).decode(), Loader=_Loader)
    except UserError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        beside = [file.name for file in path.parent.glob("*.y*ml")]
        raise UserError(f"{path}: there is no such config file.{did_you_mean(path.name, beside)}") from error
    except NOT_YAML as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{path}: must be a mapping of names to values, such as 'learning_rate: 3e-4'")
    return values
