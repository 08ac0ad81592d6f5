"""What of an info goes on to those who look at episodes."""

from __future__ import annotations

from enum import StrEnum

from envs.adapters.infos import plain


class Key(StrEnum):
    DONE = "is_success"


def test_a_key_of_a_class_of_the_users_own_is_plain_text() -> None:
    (key,) = plain({Key.DONE: True})
    assert type(key) is str
    assert key == "is_success"
