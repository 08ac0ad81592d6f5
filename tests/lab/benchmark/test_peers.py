"""Programs of others: their files are judged, and they run beside ours."""

from __future__ import annotations

import json

import pytest

from agents.lab.benchmark.peers import add_peers, load_peer
from envs.errors import UserError
from tests.lab.benchmark.fakes import case, printing

GOOD = {"name": "Other", "task": "ppo-same", "command": ["python", "other.py", "--seed", "{seed}"]}


def write(folder, content, name="peer.json"):
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_json_and_yaml_say_the_same(tmp_path):
    one = load_peer(write(tmp_path, GOOD))
    text = 'name: Other\ntask: ppo-same\ncommand: [python, other.py, --seed, "{seed}"]\n'
    other = load_peer(write(tmp_path, text, "peer.yaml"))
    assert one == other
    task, peer = one
    assert (task, peer.name, peer.command, peer.baseline) == ("ppo-same", "Other", tuple(GOOD["command"]), False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "must be a mapping"),
        ("{", "not YAML"),
        ({"name": "x", "task": "ppo-same"}, "there is no 'command'"),
        (GOOD | {"comand": []}, r"unknown key 'comand'\. Did you mean command"),
        (GOOD | {"name": 3}, "name: 3 given, TEXT expected"),
        (GOOD | {"name": " "}, "name: ' ' given"),
        (GOOD | {"task": "ppo-sam"}, r"no case 'ppo-sam'\. Did you mean ppo-same"),
        (GOOD | {"task": ["ppo-same"]}, "no case"),
        (GOOD | {"command": "python other.py"}, "a list of words expected"),
        (GOOD | {"command": []}, "a list of words expected"),
        (GOOD | {"command": ["sleep", 3]}, "a list of words expected"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path, content, message):
    file = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        load_peer(file)
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="no such config file"):
        load_peer(tmp_path / "peer.yaml")


def test_peers_join_their_case(tmp_path):
    ours = printing("ours", {"steps_per_s": 1})
    files = [write(tmp_path, GOOD), write(tmp_path, GOOD | {"task": "imports"}, "other.json")]
    (joined,), left_out = add_peers([case(ours)], ["something"], files)
    assert [program.name for program in joined.programs] == ["ours", "Other"]
    assert left_out == ["something", "Other (imports is not measured)"]


def test_two_of_one_name_are_refused(tmp_path):
    file = write(tmp_path, GOOD)
    with pytest.raises(UserError, match="has a program called 'Other' already"):
        add_peers([case()], [], [file, file])


def test_only_known_numbers_of_a_peer_are_kept(tmp_path):
    _, peer = load_peer(write(tmp_path, GOOD))
    printed = {"steps_per_s": 5, "threads": "two", "phases": {"act": "much"}, "seed": 9, "eval_mean": None, "steps": 10}
    assert peer.read(printed) == {"steps_per_s": 5, "steps": 10}
