"""Files that somebody else may have made: only plain files of a bounded size are read, and what they say is checked."""

from __future__ import annotations

import os
import stat
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.core.saved import like, within
from agents.data.replay import ReplayBuffer
from agents.evaluate import main as evaluate
from agents.lab.comparison.curves import read_evaluations
from agents.lab.stored import read_stored
from agents.run.build import build, make_algorithm
from agents.run.config import FLAGS, Layer, resolve
from agents.run.folder import RunFolder
from agents.run.memory import ParameterLimit
from agents.run.models import load_policy
from agents.run.monitor import Monitor
from agents.run.storage import opened, parse_json, read_bytes
from agents.run.training import restore
from agents.run.trees import read_tree, write_tree
from agents.run.yaml_files import dump_yaml, load_config_file
from envs.errors import UserError
from envs.space_json import space_from_json
from tests.run.running import train

no_windows = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes need rights there, or are not")
WORDS = (
    "--env CartPole-v1 --n-envs 2 --n-steps 16 --batch-size 16 --n-epochs 1 --net-arch 8 --device cpu -n 64 "
    "--eval-freq 32 --eval-episodes 1 --final-eval-episodes 1 --save-freq 32 --vec sync"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    before = os.umask(0o027)
    try:
        return train(tmp_path_factory.mktemp("runs"), WORDS)
    finally:
        os.umask(before)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    import shutil

    return shutil.copytree(run, tmp_path / run.name)


@no_windows
def test_all_files_of_a_run_have_the_mode_that_the_user_gave(run: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in run.rglob("*") if path.is_file()}
    assert modes == {0o640}
    assert {stat.S_IMODE(path.stat().st_mode) for path in run.rglob("*") if path.is_dir()} == {0o750}


@no_windows
def test_only_plain_files_of_a_bounded_size_are_opened(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "file", tmp_path / "link", tmp_path / "pipe"
    file.write_bytes(b"12345")
    link.symlink_to(file)
    os.mkfifo(pipe)
    assert read_bytes(file, 5) == read_bytes(link, 5, follow=True) == b"12345"
    for path, message in [
        (link, "link is a symbolic link"),
        (pipe, "it is no file, but a pipe"),
        (tmp_path, "it is no file, but a folder"),
        (Path("/dev/null"), "it is no file, but a device or socket"),
        (tmp_path / "none", "no such file"),
    ]:
        with pytest.raises(UserError, match=message):
            read_bytes(path)
    with pytest.raises(UserError, match="has 5 bytes, and ours at most 0 MB"), opened(file, 4):
        pass


@no_windows
@pytest.mark.parametrize("name", ["progress.csv", "command.txt", "checkpoints", "best", "model.json", "summary.json"])
def test_a_link_within_a_run_is_followed_by_nobody(copy: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    there = copy.parent / "elsewhere"
    (copy / name).rename(there)
    (copy / name).symlink_to(there)
    before = there.read_bytes() if there.is_file() else sorted(there.rglob("*"))
    from agents.train import main

    assert main(["--resume", str(copy), "-n", "96", "--quiet"]) == 2
    assert f"{copy / name} is a symbolic link" in capsys.readouterr().err
    assert (there.read_bytes() if there.is_file() else sorted(there.rglob("*"))) == before
    assert evaluate([str(copy), "--episodes", "1"]) == 2
    with pytest.raises(UserError, match="symbolic link"):
        read_stored(copy)


@no_windows
def test_a_run_may_be_named_by_a_link(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(copy)
    assert RunFolder.open(tmp_path / "short").path.name == "short"
    assert read_stored(tmp_path / "short").steps == 64
    os.mkfifo(copy / "pipe")
    with pytest.raises(UserError, match="pipe is neither a file nor a folder"):
        RunFolder.open(tmp_path / "short")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30)),
            "more than 10,000",
        ),
        ("env: &a [*a]\n", "more than 10,000 values"),
        ("".join(f"k{i}: 1\n" for i in range(50_000)), "more than 10,000 values"),
        ("zz: &a " + "x" * 900_000 + "\nb: [*a, *a]\n", "more than 1 MB of text"),
        ("? [a, b]\n: 1\n", "a list or a mapping is no name"),
        ("seed: " + "9" * 30, "whole numbers have at most 64 bits"),
        ("env: " + "[" * 60 + "]" * 60, "lists more than 50 deep"),
        ("env: " + "[" * 5_000, "not YAML"),
        ("seed: " + "1" * 100_000, "not YAML"),
        ('env: "\\ud800"', "surrogates not allowed"),
        ('env: "a\\0b"', "the character NUL"),
        ("a: 1\na: 2\n", "'a' is given twice"),
        ("#" * 2**20 + "\n", "has 1,048,577 bytes"),
    ],
)
def test_settings_are_of_a_bounded_size(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_config_file(file)
    assert "\n" not in str(caught.value)


def test_seeds_of_64_bits_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(dump_yaml({"seed": 2**64 - 1}))
    assert load_config_file(tmp_path / "a.yaml") == {"seed": 2**64 - 1}


def test_aliases_that_repeat_little_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("net_arch: &a [8, 8]\nother: *a\n")
    assert load_config_file(tmp_path / "a.yaml") == {"net_arch": [8, 8], "other": [8, 8]}


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "1" * 10_000, "9" * 30, "[" + "[]," * 1_000_000 + "[]]", '"\\ud800"', '"\\u0000"', "{", "\xff"],
)
def test_json_that_is_none_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (each has its own words)
        parse_json(text.encode("latin-1"))
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize("content", [b'"\xed\xa0\x80"', '"x"'.encode("utf-16"), '"x"'.encode("utf-32-le")])
def test_json_is_read_as_utf_8_alone(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"codec can't decode|control character"):
        parse_json(content)
    assert parse_json(b'\xef\xbb\xbf"x"') == "x"


def params(**values: Any) -> Any:
    return resolve([Layer(FLAGS, {"env": "CartPole-v1", "device": "cpu"} | values)], packaged=False).params


def test_networks_that_cannot_fit_are_refused_before_they_are_made() -> None:
    small, two = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)
    with pytest.raises(UserError, match=r"4,000\.0 GB of parameters \(one of them is 1000000 x 1000000\)"):
        make_algorithm("ppo", small, two, params(net_arch=[10**6, 10**6]), seed=0)
    with pytest.raises(UserError, match=r"one of them is 1000 x 1000\), and there is room for 0\.0 GB"):
        make_algorithm("ppo", small, two, params(net_arch=[1000, 1000]), seed=0, most=10**6)
    with pytest.raises(UserError, match=r"one of them is 1000000000\)"):
        make_algorithm("ppo", small, two, params(n_envs=10**9), seed=0, most=10**6)


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        (lambda: torch.empty(3, 4), 12),
        (lambda: torch.zeros((3, 4)), 12),
        (lambda: torch.zeros(()), 1),
        (lambda: torch.ones(torch.Size([3, 4])), 12),
        (lambda: torch.ones(size=(3, 4)), 12),
        (lambda: torch.full((3, 4), 2.0), 12),
        (lambda: torch.full(size=(3, 4), fill_value=2.0), 12),
        (lambda: torch.rand(3, 4), 12),
        (lambda: torch.randn(3, 4), 12),
        (lambda: torch.eye(3), 9),
        (lambda: torch.eye(3, 4), 12),
        (lambda: torch.linspace(0, 1, 12), 12),
        (lambda: torch.linspace(0, 1, steps=12), 12),
    ],
)
def test_whatever_makes_a_tensor_is_counted(make: Any, numbers: int) -> None:
    with ParameterLimit(4 * numbers) as room:
        make()
    assert room.made == 4 * numbers
    with ParameterLimit(4 * numbers - 1), pytest.raises(UserError, match="there is room for"):
        make()


@pytest.mark.parametrize(
    "data",
    [
        {"type": "Box", "shape": [2**26], "dtype": "float32", "low": [0], "high": [1]},
        {"type": "MultiBinary", "n": 2**26},
        {"type": "Dict", "spaces": {str(i): {"type": "MultiBinary", "n": 2**23} for i in range(3)}},
        {"type": "Sequence", "of": {"type": "MultiBinary", "n": 2**26}, "stack": False},
    ],
)
def test_spaces_that_a_file_describes_are_of_a_bounded_size(data: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"it has (67,108,864|25,165,824) entries, and at most 16,777,216"):
        space_from_json(data)


def altered(folder: Path, name: str, change: Any) -> None:
    tree, meta = read_tree(folder, name)
    change(tree, meta)
    write_tree(folder, name, tree, meta)


def test_a_model_is_checked(copy: Path) -> None:
    def poison(tree: Any, meta: Any) -> None:
        tree["value_head.bias"][0] = float("nan")

    def large(tree: Any, meta: Any) -> None:
        meta["config"] |= {"net_arch": [10**5, 10**5], "n_envs": 2}

    def many(tree: Any, meta: Any) -> None:
        meta["config"]["n_envs"] = 10**9

    def odd(tree: Any, meta: Any) -> None:
        meta["step"] = -1

    for change, message in [
        (poison, "value_head.bias holds NaN or infinite values"),
        (many, "one of them is 1000000000"),
        (large, "one of them is 100000 x 100000"),
        (odd, "step is -1"),
    ]:
        altered(copy / "best", "model", change)
        with pytest.raises(UserError, match=message) as caught:
            load_policy(copy, "best")
        assert "\n" not in str(caught.value)
        altered(copy / "best", "model", lambda tree, _: tree["value_head.bias"].zero_())


STATES = [
    ("actor", "step", "10", "step is '10'"),
    ("actor", "obs", np.zeros((2, 5), np.float32), r"obs is float32 \[2, 5\], float32 \[2, 4\] expected"),
    ("actor", "lengths", [1, 2], r"lengths is list \[\], int64 \[2\] expected"),
    ("actor", "generator", 3, "."),
    ("learner", "n_updates", -1, "n_updates is -1"),
    ("learner", "n_updates", True, "n_updates is True"),
    ("learner", "optimizer", None, "steps is missing"),
    ("learner", "shuffling", torch.zeros(3), "."),
    ("algorithm", "model.value_head.bias", torch.tensor([float("nan")]), "holds NaN"),
    ("env", "seed", "x", "'seed' is a str"),
    ("env", "actions", np.full((3, 2), 7), "points outside its recorded actions"),
]


def test_every_part_of_a_state_is_checked(run: Path) -> None:
    config = RunFolder.open(run).config()
    state, _ = read_tree(RunFolder(run).checkpoints()[-1][1], "state")
    training = build(config)
    for part, name, value, message in STATES:
        spoilt = deepcopy(state)
        assert part in spoilt["training"]
        if part == "algorithm":
            name = next(key for key in spoilt["training"]["algorithm"] if key.endswith("value_head.bias"))
        spoilt["training"][part][name] = value
        with pytest.raises(UserError, match=message) as caught:
            restore(training, spoilt)
        assert "\n" not in str(caught.value)
    for spoilt in (None, {}, {"training": None}, {"training": {"actor": []}}):
        with pytest.raises(UserError, match="is missing"):
            restore(training, spoilt)  # type: ignore[arg-type]
    led = deepcopy(state)
    led["training"]["env"]["actions"] ^= 1  # replayed, they lead elsewhere
    (said,) = restore(training, led)
    assert "begin new episodes (replayed, its actions led to another observation)" in said
    assert restore(training, state) == []
    training.env.close()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("returns", None, "returns: .*list"),
        ("returns", [1.0], "episodes: .*returns of 1 episodes, and lengths of 0"),
        ("handled", -5, "handled: .*greater than or equal to 0"),
        ("best", [1.0], "best"),
        ("metrics", {"a": 3}, r"metrics\.a: .*list"),
        ("elapsed", float("nan"), "elapsed: .*finite"),
        ("latest", {"a": "b"}, r"latest\.a"),
    ],
)
def test_what_a_run_knew_of_itself_is_checked(name: str, value: Any, message: str) -> None:
    state = Monitor().state_dict()
    Monitor().load_state_dict(state | {"best": [1.5, 10], "handled": 10})
    with pytest.raises(ValueError, match=message):
        Monitor().load_state_dict(state | {name: value})


def test_a_replay_that_points_outside_itself_is_refused() -> None:
    replay = ReplayBuffer(10, 2, torch.device("cpu"))
    tick = {"obs": np.zeros((2, 3), np.float32), "reward": np.zeros(2, np.float32)}
    replay.add(tick)
    state = replay.state_dict()
    fresh = ReplayBuffer(10, 2, torch.device("cpu"))
    fresh.load_state_dict(state, tick)
    assert len(fresh) == 2
    for name, value, message in [
        ("head", torch.tensor([5, 5]), "point outside"),
        ("size", torch.tensor([-1, 1]), "point outside"),
        ("size", torch.tensor([1, 0]), "not as long as"),
        ("head", torch.tensor([1.0, 1.0]), r"head is float32 \[2\], int64 \[2\] expected"),
        ("head", 3, "saved replay has 5 rows x None"),
        ("store", state["store"] | {"obs": torch.zeros(1, 2, 4)}, r"replay/obs is float32 \[1, 2, 4\]"),
        ("store", {}, "other parts"),
    ]:
        with pytest.raises(ValueError, match=message):
            fresh.load_state_dict(state | {name: value}, tick)


def test_choices_that_a_space_lacks_are_refused() -> None:
    within({"a": np.array([[0, 4]])}, spaces.Dict(a=spaces.Discrete(5)), "obs")
    within(np.array([[1, 2]]), spaces.MultiDiscrete([2, 3]), "action")
    for value, space in [(np.array([5]), spaces.Discrete(5)), (np.array([[1, 3]]), spaces.MultiDiscrete([2, 3]))]:
        with pytest.raises(ValueError, match="action holds numbers that"):
            within(value, space, "action")
    with pytest.raises(ValueError, match="carry has other parts"):
        like((np.zeros(1),), (), "carry")


@pytest.mark.parametrize("row", ["inf,1", "-1,1", "1.5,1", "1e300,1", "2,1e400", "2," + "9" * 200_000])
def test_evaluations_have_steps_and_numbers(tmp_path: Path, row: str) -> None:
    file = tmp_path / "evaluations.csv"
    file.write_text(f"step,eval/mean_reward\n1,1.0\n{row}\n")
    with pytest.raises(UserError, match=r"line \d: rising steps and finite numbers expected"):
        read_evaluations(file)


def test_a_name_too_long_for_the_system_is_told_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["x" * 5000]) == 2
    assert capsys.readouterr().err.count("\n") == 1
