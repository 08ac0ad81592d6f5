"""Settings with parts: given flat or in their part, written flat, judged part by part."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from agents.core.config import AlgoConfig, OffPolicyConfig, ReplayConfig
from agents.core.settings import Settings


class Inner(Settings):
    c: int = 3

    def contradiction(self) -> str | None:
        return "c is 13" if self.c == 13 else None


class Middle(Settings):
    b: float | None = 2.0
    inner: Inner = Inner()


class Outer(Settings):
    a: int = 1
    middle: Middle = Middle()
    z: int = 26


def test_given_flat_or_in_their_part() -> None:
    flat = Outer.model_validate({"a": 0, "b": None, "c": 5})
    assert flat == Outer(a=0, middle=Middle(b=None, inner=Inner(c=5)))
    assert flat == Outer.model_validate({"a": 0, "middle": {"b": None, "inner": {"c": 5}}})
    assert flat == Outer.model_validate({"a": 0, "middle": {"b": None, "c": 5}})
    assert (flat.middle.inner.c, Outer().middle.inner.c) == (5, 3)


def test_written_flat_where_they_stand() -> None:
    assert list(Outer().model_dump().items()) == [("a", 1), ("b", 2.0), ("c", 3), ("z", 26)]
    assert list(Outer.flat_fields()) == ["a", "b", "c", "z"]
    assert Outer.model_validate_json(Outer(a=7).model_dump_json()) == Outer(a=7)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"d": 1}, ("d",)),
        ({"c": "x"}, ("middle", "inner", "c")),
        ({"middle": {"a": 1}}, ("middle", "a")),
        ({"middle": {"b": 1}, "c": 1}, ("c",)),
        ({"middle": 3}, ("middle",)),
    ],
)
def test_mistakes_say_where(values: dict[str, object], place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    assert [error["loc"] for error in caught.value.errors()] == [place]


def test_nothing_changes_afterwards() -> None:
    with pytest.raises(ValidationError):
        Outer().middle.b = 1.0


def test_a_name_stands_once() -> None:
    with pytest.raises(TypeError, match="Again has c twice"):
        type("Again", (Outer,), {"__annotations__": {"c": int}, "c": 1, "__module__": __name__})
    with pytest.raises(TypeError, match="Again has b, c twice"):
        type("Again", (Outer,), {"__annotations__": {"other": Middle}, "other": Middle(), "__module__": __name__})


def test_a_part_may_contradict() -> None:
    assert Outer().contradiction() is None
    assert Outer.model_validate({"c": 13}).contradiction() == "c is 13"


def test_sizes_beyond_the_buffer() -> None:
    fits = {"buffer_size": 10, "batch_size": 10, "n_envs": 10, "learning_starts": 10}
    assert OffPolicyConfig.model_validate(fits).contradiction() is None
    for name in fits.keys() - {"buffer_size"}:
        assert f"{name} 11 is larger" in str(OffPolicyConfig.model_validate(fits | {name: 11}).contradiction())
    assert ReplayConfig.model_validate({"gradient_steps": -1}).gradient_steps == -1


@pytest.mark.parametrize("value", [0, -1, float("nan"), "x"])
def test_clipping_is_a_norm_or_nothing(value: object) -> None:
    assert AlgoConfig.model_validate({"max_grad_norm": None}).max_grad_norm is None
    with pytest.raises(ValidationError):
        AlgoConfig.model_validate({"max_grad_norm": value})
