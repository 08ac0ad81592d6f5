"""Settings as flags of the command line, which tyro parses and shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any

import tyro
from pydantic.fields import FieldInfo

from agents.core.settings import Settings, Torsos
from agents.run import registry
from agents.run.config import ALIASES
from agents.run.notation import notation, takes_many
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


def _raw(name: str, field: FieldInfo) -> Any:
    """Tell tyro to hand a flag's words on as YAML would read them: one place judges values, whatever they came from."""
    many = takes_many(field.annotation)

    def read(words: list[str]) -> Any:
        if name == "env_kwargs" or field.annotation is str:
            return words if many else words[0]
        return [parse_value(word) for word in words] if many else parse_value(words[0])

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*" if many else 1,
        metavar="|".join([*registry.names(), registry.FORMS]) if name == "algo" else notation(field.annotation),
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, Unset),
        str_from_instance=Unset.words,
    )
