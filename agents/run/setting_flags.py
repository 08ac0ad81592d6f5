"""Settings as flags of the command line, which tyro parses and shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any

import tyro
from pydantic.fields import FieldInfo

from agents.core.settings import Settings, Torsos
from agents.run import registry
from agents.run.config import ALIASES, RUN_FIELDS
from agents.run.flags import parse_env_kwargs
from agents.run.notation import is_text, notation, takes_many
from agents.run.yaml_files import parse_value

OTHER_FLAGS = {"total_timesteps": ["-n"], "encoder": ["--network"]}


@dataclasses.dataclass(frozen=True, slots=True)
class Unset:
    """The default of a flag that was not given: known from the layers beneath, and shown by `--help`."""

    value: Any

    def words(self) -> list[str]:
        """Write the value as it would be typed."""
        if isinstance(self.value, Torsos):
            return Unset({name: ",".join(map(str, widths)) for name, widths in self.value}).words()
        if isinstance(self.value, dict):
            return [f"{key}={value}" for key, value in self.value.items()]
        values = self.value if isinstance(self.value, list | tuple) else [self.value]
        return ["none" if value is None else str(value) for value in values]


def flag_groups(
    title: str, model: type[Settings], defaults: Mapping[str, Any], hidden: Collection[str]
) -> Iterator[tuple[str, Any]]:
    """Yield the flags of settings, and of each of their parts, as a titled group, but for those that are hidden."""
    parts = model.parts()
    own = {name: field for name, field in model.model_fields.items() if name not in [*parts, *hidden]}
    yield title, flag_group(title, model.__doc__ or "", own, defaults)
    for name, part in parts.items():
        yield from flag_groups(name, part, defaults, hidden)


def flag_group(title: str, doc: str, fields: Mapping[str, FieldInfo], defaults: Mapping[str, Any]) -> Any:
    """Return a dataclass instance with a flag for each field, for tyro to parse."""
    flags: list[Any] = []
    for name, field in fields.items():
        default = defaults.get(name, None if field.is_required() else field.default)
        others = [f"--{other.replace('_', '-')}" for other, own in ALIASES.items() if own == name]
        described = tyro.conf.arg(help=field.description, aliases=OTHER_FLAGS.get(name, []) + others or None)
        if field.annotation is bool:
            default = default if isinstance(default, bool) else field.default
            flags.append((name, Annotated[bool, described], default))
        else:
            flags.append((name, Annotated[Any, _raw(name, field), described], Unset(default)))
    group: Any = dataclasses.make_dataclass(title, flags, namespace={"__doc__": doc})
    return group()


def read_word(word: str, field: FieldInfo) -> Any:
    """Read a word of a flag: what is text stays as it was typed, all else is what YAML makes of it."""
    if is_text(kind := field.annotation):
        return None if word == "none" and kind is not str and not takes_many(kind) else word
    value = parse_value(word)
    return word if isinstance(value, str) else value


def parse_settings(words: Sequence[str], algo: str, example: str) -> dict[str, Any]:
    """Read the words of `--set`, which are settings of an algorithm.

    Raises:
        UserError: one is not of the form `setting=value`.
    """
    fields = RUN_FIELDS | registry.find(algo).config.flat_fields()

    def read(key: str, word: str) -> Any:
        field = fields.get(ALIASES.get(key, key))
        if field is None or not takes_many(field.annotation):
            return parse_value(word) if field is None else read_word(word, field)
        value = parse_value(word)
        return [value] if isinstance(value, int | float) else value  # net_arch=32, as a flag has it

    return parse_env_kwargs(words, "--set", example, read)


def _raw(name: str, field: FieldInfo) -> Any:
    """Tell tyro to hand a flag's words on as they are read: one place judges values, whatever they came from."""
    many = takes_many(field.annotation)

    def read(words: list[str]) -> Any:
        if name == "env_kwargs":
            return words
        return [read_word(word, field) for word in words] if many else read_word(words[0], field)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*" if many else 1,
        metavar="|".join([*registry.names(), registry.FORMS]) if name == "algo" else notation(field.annotation),
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, Unset),
        str_from_instance=Unset.words,
    )
