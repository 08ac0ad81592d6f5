"""What settings are: the types of their values, parts that are flat in files and flags, and which are in use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo

from agents.core.user_code import is_user_code

Seed = Annotated[int, Field(ge=0, lt=2**64)]
MOST_WHOLE = 2**53  # up to which a float, as which steps are counted too, holds every whole number
_Numbers = tuple[Annotated[int, Field(gt=0, lt=2**63)], ...]  # the memory that they take is still a float
_WIDTHS_FORMS = "one list (64 64 or 64,64), or both pi=64,64 and vf=128"
_LINEAR = re.compile(r"lin_(\d+(\.\d*)?([eE][-+]?\d+)?)")


def _check_schedule(value: float | str) -> float | str:
    if isinstance(value, str):
        if not _LINEAR.fullmatch(value) or not isfinite(float(value.removeprefix("lin_"))):
            raise ValueError("must be a number, or lin_NUMBER to fall linearly to 0, such as lin_3e-4")
    elif value < 0:
        raise ValueError("must be >= 0")
    return value


def _check_positive(value: Any) -> Any:
    if isinstance(value, int | float) and value <= 0:
        raise ValueError("must be > 0")
    return value


def _check_not_negative(value: Any) -> Any:
    if isinstance(value, int | float) and value < 0:
        raise ValueError("must be >= 0")
    return value


def _check_own(value: str) -> str:
    if not is_user_code(value):
        raise ValueError("must name what is in a file or module of your own, file.py:NAME or module:NAME")
    return value


def _check_folder(value: str) -> str:
    if value.startswith(("//", "\\\\")) or not (set("/\\") & set(value) or _is_there(value)):
        raise ValueError("must be a folder of this machine")
    return str(Path(value).absolute())


def _check_source(value: str) -> str:
    return str(Path(value).absolute()) if _is_there(value) else value


def _is_there(value: str) -> bool:
    try:
        return Path(value).exists()
    except OSError:  # longer than a name may be
        return False


def _factors(value: Any) -> Any:
    """Read "part=0.1" words as a mapping; what is not of that form stays as it is."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple):
        return {} if value is None else value
    if not all(isinstance(word, str) and "=" in word for word in words):
        raise ValueError("must be PART=FACTOR ..., such as encoder=0.1")
    return dict(word.split("=", 1) for word in words)


def _listed(value: Any) -> Any:
    if value is None or value == "none" or (isinstance(value, list | tuple) and list(value) in ([None], ["none"])):
        return []
    return [value] if isinstance(value, str) else value


class Torsos(BaseModel):
    """Widths of the hidden layers of the policy and of the value function, each of its own; empty for none."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    notation: ClassVar[str] = "pi=INTEGER,... vf=INTEGER,..."

    pi: _Numbers
    vf: _Numbers


def _numbers(value: Any) -> Any:
    """Read "64,64" as numbers; what is not of that form stays as it is."""
    text = value.strip(" []") if isinstance(value, str) else None
    if text is None or not re.fullmatch(r"(\d+\s*(,\s*\d+\s*)*,?)?", text):
        return value
    return [int(number) for number in text.split(",") if number]


def _read_widths(value: Any) -> Any:
    """Read what stands for widths: 64 64, "64,64", and by name "pi=64,64" "vf=128", {pi: [64, 64], vf: [128]}."""
    words = [value] if isinstance(value, str | dict) else value
    if not isinstance(words, list | tuple):
        return value
    named = [word for word in words if isinstance(word, dict) or (isinstance(word, str) and "=" in word)]
    if not named:
        lists = [_numbers(word) if isinstance(word, str) else [word] for word in words]
        return [number for found in lists for number in (found if isinstance(found, list) else [found])]
    pairs: dict[Any, Any] = {}
    for word in words:
        if word not in named:
            raise ValueError(f"gives {word!r} beside a name; allowed is {_WIDTHS_FORMS}")
        pairs |= word if isinstance(word, dict) else dict([word.split("=", 1)])
    if set(pairs) != {"pi", "vf"}:
        raise ValueError(f"names {', '.join(map(repr, pairs))}; allowed is {_WIDTHS_FORMS}")
    return {name: _numbers(widths) for name, widths in pairs.items()}


def _one_list(value: Any) -> Any:
    """Read widths for a network that is not a policy with a value function."""
    try:
        read = _read_widths(value)
    except ValueError:
        read = {}
    if isinstance(read, dict):
        raise ValueError("names parts, and only a policy with a value function has pi and vf; allowed is a list: 64 64")
    return read


Auto = Literal["auto"]
CompileMode = Literal["auto", "off", "numpy", "graphs", "kernels", "on"]
Precision = Literal["auto", "float32", "tf32", "bf16"]
Activation = Literal["tanh", "relu", "elu", "gelu", "silu"]
PictureAxes = Literal["auto", "none", "hw", "hwc", "chw", "nhw", "nhwc", "nchw"]
GradNorm = Annotated[
    float | None,
    Field(gt=0, description="gradients are scaled down to this norm; none leaves them as they are"),
]
OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop"]
Augmentations = Annotated[
    tuple[Literal["shift", "crop", "scale", "flip", "rotate", "colour"], ...], BeforeValidator(_listed)
]
Own = Annotated[str, AfterValidator(_check_own), "file.py:Class"]  # a class of the user's own
Folder = Annotated[str, AfterValidator(_check_folder), "FOLDER"]
Source = Annotated[str, AfterValidator(_check_source), "RUN|FOLDER|file.safetensors"]
PartNames = Annotated[list[str], BeforeValidator(_listed)]
Factors = Annotated[
    dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], BeforeValidator(_factors), "PART=FACTOR ..."
]
OwnFunction = Annotated[str, AfterValidator(_check_own), "file.py:function"]
Schedule = Annotated[float | str, AfterValidator(_check_schedule)]
Widths = Annotated[_Numbers, BeforeValidator(_one_list)]
TorsoWidths = Annotated[_Numbers | Torsos, BeforeValidator(_read_widths)]
positive = AfterValidator(_check_positive)
not_negative = AfterValidator(_check_not_negative)

# a part, with which values of it (None: any that is not off; (): those that are off), which settings are in use
Detail = tuple[str, tuple[str, ...] | None, tuple[str, ...]]
OFF: tuple[Any, ...] = (None, False, 0, "none", "auto", (), [])  # a setting that is not in use
DETAILS: tuple[Detail, ...] = (
    ("memory", None, ("memory_size", "sequence_length", "burn_in", "prioritized_replay_eta")),
    ("memory", ("gru", "lstm", "scan", "gtrxl"), ("memory_layers",)),
    ("memory", ("gtrxl",), ("memory_window", "memory_heads")),
    ("memory", ("scan",), ("memory_horizon",)),
    ("use_sde", None, ("sde_sample_freq",)),
    ("noisy", None, ("noisy_std",)),
    ("augment", None, ("augment_coef",)),
    ("distribution", ("c51",), ("n_atoms", "v_min", "v_max")),
    ("distribution", ("qr", "iqn"), ("n_quantiles",)),
    ("truncated_quantiles", None, ("n_quantiles", "top_quantiles_to_drop_per_net")),
    ("data", None, tuple(f"data_{name}" for name in ("nan", "bounds", "broken", "duplicates", "unended"))),
    ("data", None, ("online_fraction",)),
    ("demonstrator", None, ("demonstrator_coef", "demonstrator_fraction", "demonstrator_margin")),
    ("munchausen", None, ("munchausen_alpha", "munchausen_tau", "munchausen_clip")),
    ("munchausen", (), ("double_q",)),
    ("batch_norm", (), ("tau", "target_update_interval")),
    ("normalize_advantage", None, ("normalize_over_rollout",)),
    ("norm_value", None, ("norm_value_rate",)),
    ("curiosity", None, tuple(f"curiosity_{name}" for name in ("coef", "gamma", "episodic", "share", "loss_coef"))),
    ("curiosity", None, ("curiosity_arch", "curiosity_size")),
    ("curiosity", ("icm",), ("icm_beta",)),
    ("auxiliary", None, ("auxiliary_coef",)),
    ("auxiliary", ("curl",), ("curl_tau",)),
    ("prioritized_replay", None, tuple(f"prioritized_replay_{name}" for name in ("alpha", "beta0", "eps", "eta"))),
)


class Settings(BaseModel):
    """Frozen settings, which may have parts that are settings too; read and written flat.

    Attributes:
        details: those that belong to a part here alone, beside `DETAILS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    details: ClassVar[tuple[Detail, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        found = [*cls.model_fields, *(name for kind in cls.parts().values() for name in kind.flat_fields())]
        if twice := {name for name in found if found.count(name) > 1}:
            raise TypeError(f"{cls.__name__} has {', '.join(sorted(twice))} twice; each setting needs its own name")

    @classmethod
    def parts(cls) -> dict[str, type[Settings]]:
        """Return the fields that are settings themselves."""
        found = {name: field.annotation for name, field in cls.model_fields.items()}
        return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, Settings)}

    @classmethod
    def all_details(cls) -> Iterator[Detail]:
        """Yield its own rows of `details`, and those of its parts."""
        yield from cls.details
        for kind in cls.parts().values():
            yield from kind.all_details()

    @classmethod
    def flat_fields(cls) -> dict[str, FieldInfo]:
        """Return every setting by its own name, those of the parts included, parts where they stand."""
        parts = cls.parts()
        found: dict[str, FieldInfo] = {}
        for name, field in cls.model_fields.items():
            found |= parts[name].flat_fields() if name in parts else {name: field}
        return found

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: Any) -> Any:
        """Put flat values into the parts that have them."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for part, kind in cls.parts().items():
            if part in values:  # given whole
                continue
            values[part] = {name: values.pop(name) for name in kind.flat_fields().keys() & values.keys()}
        return values

    @model_serializer(mode="wrap")
    def _flat(self, serialize: Any) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        parts = self.parts()
        found: dict[str, Any] = {}
        for name, value in values.items():
            found |= value if name in parts else {name: value}
        return found

    def contradiction(self) -> str | None:
        """Say which settings, each allowed, exclude one another, and what to change; None where all fit."""
        return next(filter(None, (getattr(self, part).contradiction() for part in self.parts())), None)


def idle(kind: type[Settings], values: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of settings that change nothing, and of each the part whose value leaves it without use.

    Args:
        kind: an algorithm's settings.
        values: of them, by name.
    """
    found: dict[str, str] = {}
    for part, needed, details in (*DETAILS, *kind.all_details()):
        value = values.get(part)
        off = value in OFF
        in_use = off if needed == () else not off and (needed is None or value in needed)
        if part in values and not in_use:
            found |= {name: part for name in details if name in values}
    return found
