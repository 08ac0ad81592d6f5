"""Layers, their precedence, and a clear sentence for every mistake in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agents.algos.dqn.config import DQNConfig
from agents.algos.ppo.config import PPOConfig
from agents.core.settings import Torsos
from agents.run import config as module
from agents.run import registry
from agents.run.config import FLAGS, Layer, RunConfig, merge, packaged_config, resolve
from agents.run.setting_flags import parse_settings
from agents.run.yaml_files import load_config_file, parse_value
from agents.train import parse
from envs.errors import UserError
from tests.run import running
from tests.run.running import read_config, setting_of_others

NAMES = re.escape(running.NAMES)


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the packaged configurations."""
    monkeypatch.setattr(module, "CONFIGS", tmp_path)
    for algo in registry.names():
        (tmp_path / algo).mkdir()
    return tmp_path


def flags(**values: Any) -> RunConfig:
    return resolve([Layer(FLAGS, {"env": "Some-v0", **values})])


def test_defaults_are_the_classes() -> None:
    assert flags() == RunConfig(env="Some-v0", params=PPOConfig())
    for algo in registry.names():
        assert flags(algo=algo) == RunConfig(env="Some-v0", algo=algo, params=registry.find(algo).config())


def test_precedence(configs: Path) -> None:
    (configs / "ppo" / "Some-v0.yaml").write_text("gamma: 0.1\nn_steps: 1\nbatch_size: 1\nenv_kwargs: {a: 1, b: 1}")
    file = Layer("mine.yaml", {"n_steps": 2, "batch_size": 2, "env_kwargs": {"b": 2}, "seed": 2})
    given = Layer(FLAGS, {"env": "Some-v0", "batch_size": 3, "env_kwargs": {"c": 3}})
    config = resolve([file, given])
    params = config.params
    assert isinstance(params, PPOConfig)
    assert (params.n_epochs, params.gamma, params.n_steps, params.batch_size) == (4, 0.1, 2, 3)
    assert config.env_kwargs == {"a": 1, "b": 2, "c": 3}
    assert config.seed == 2


def test_a_config_file_may_choose_environment_and_algorithm(configs: Path) -> None:
    (configs / "dqn" / "Some-v0.yaml").write_text("tau: 0.25")
    config = resolve([Layer("mine.yaml", {"env": "Some-v0", "algo": "dqn"})])
    assert isinstance(config.params, DQNConfig)
    assert config.params.tau == 0.25
    assert resolve([Layer("mine.yaml", {"env": "Some-v0", "algo": "dqn"}), Layer(FLAGS, {"algo": "ppo"})]).algo == "ppo"


def test_packaged_files_are_found_by_environment(configs: Path) -> None:
    for name in ("CartPole-v1", "ALE-Pong-v5"):
        (configs / "ppo" / f"{name}.yaml").write_text("gamma: 0.5")
    assert packaged_config("ppo", "CartPole-v1") == configs / "ppo" / "CartPole-v1.yaml"
    assert packaged_config("ppo", "native/CartPole-v1") == configs / "ppo" / "CartPole-v1.yaml"
    assert packaged_config("ppo", "ALE/Pong-v5") == configs / "ppo" / "ALE-Pong-v5.yaml"
    (configs / "ppo" / "native-CartPole-v1.yaml").write_text("gamma: 0.6")
    assert packaged_config("ppo", "native/CartPole-v1") == configs / "ppo" / "native-CartPole-v1.yaml"
    for env in ("Other-v0", "../ppo/CartPole-v1", ""):
        assert packaged_config("ppo", env) is None
    assert packaged_config("dqn", "CartPole-v1") is None


def test_a_packaged_file_does_not_rename_the_environment(configs: Path) -> None:
    (configs / "ppo" / "CartPole-v1.yaml").write_text("env: CartPole-v1\nalgo: dqn\ngamma: 0.5")
    config = resolve([Layer(FLAGS, {"env": "native/CartPole-v1"})])
    assert (config.env, config.algo, config.params.gamma) == ("native/CartPole-v1", "ppo", 0.5)


def test_a_mistake_in_a_packaged_file_names_it(configs: Path) -> None:
    (configs / "ppo" / "Some-v0.yaml").write_text("gama: 0.5")
    with pytest.raises(UserError, match=r"ppo/Some-v0.yaml: gama: unknown setting. Did you mean gamma\?"):
        flags()


def test_yaml_round_trip(tmp_path: Path) -> None:
    tricky = {"text": "1e-3", "none": "none", "yes": "no", "date": "2024-01-01", "n": None, "list": [1, 2.5, "x", True]}
    for config in (
        flags(env_kwargs=tricky, learning_rate="lin_1e-3", target_reward=-1e-7, net_arch=[], memory="gru"),
        flags(algo="dqn", seed=2**62, env="ünï:code", net_arch=[1], max_grad_norm=None),
        *(flags(algo=algo) for algo in registry.names()),
    ):
        (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        assert read_config(tmp_path / "config.yaml") == config
        assert RunConfig.from_dict(config.model_dump(mode="json"), "x") == config


@pytest.mark.parametrize("algo", registry.names())
def test_the_resolved_form_is_whole_and_flat(algo: str) -> None:
    values = flags(algo=algo).model_dump()
    assert values.keys() == module.RUN_FIELDS.keys() | registry.find(algo).config.flat_fields().keys()
    assert {"env", "seed", "gamma", "net_arch"} <= values.keys()


def test_settings_may_stand_in_their_part() -> None:
    nested: dict[str, dict[str, Any]] = {
        "network": {"net_arch": [8], "norm_obs": True},
        "replay": {"buffer_size": 500, "learning_starts": 9},
    }
    alone = nested["network"] | nested["replay"]
    assert flags(algo="dqn", **nested) == flags(algo="dqn", **alone)
    assert flags(algo="dqn", **alone).params.network.net_arch == (8,)
    under = Layer("f.yaml", {"env": "Some-v0", "network": {"net_arch": [8], "norm_obs": True}})
    assert resolve([under, Layer(FLAGS, {"net_arch": [4]})]) == flags(net_arch=[4], norm_obs=True)


def test_none_is_an_option_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("env: Some-v0\nmemory: none")
    assert resolve([Layer("mine.yaml", load_config_file(tmp_path / "mine.yaml"))]) == flags(memory=None)


def test_a_run_written_flat_by_hand_is_read(tmp_path: Path) -> None:
    old = """\
env: CartPole-v1
env_kwargs: {}
algo: dqn
seed: 3
device: cpu
compile: auto
vec: native
total_timesteps: 500
n_envs: 2
learning_rate: 0.001
net_arch:
- 16
- 8
activation: relu
norm_obs: false
max_grad_norm: 10.0
optimizer: adam
buffer_size: 1000
learning_starts: 100
train_freq: 4
batch_size: 32
exploration_final_eps: 0.05
double_q: false
"""
    (tmp_path / "config.yaml").write_text(old)
    params = read_config(tmp_path / "config.yaml").params
    assert isinstance(params, DQNConfig)
    assert (params.network.net_arch, params.replay.buffer_size, params.double_q) == ((16, 8), 1000, False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1E5", -100_000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("1_000_000", 1_000_000),
        ("none", None),
        ("None", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("lin_3e-4", "lin_3e-4"),
        ("'1e-3'", "1e-3"),
        ("[1, x]", [1, "x"]),
        ("{a: 1}", {"a": 1}),
        ("[1,", "[1,"),
        ("!!python/object/apply:os.getcwd []", "!!python/object/apply:os.getcwd []"),
        ("!!bool x", "!!bool x"),
        ('!!int ""', '!!int ""'),
        ("!!timestamp x", "!!timestamp x"),
        ("!!binary /w==", "!!binary /w=="),
        (r'"\UFFFFFFFF"', r'"\UFFFFFFFF"'),
    ],
)
def test_values_read_as_yaml(text: str, value: Any) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gama": 1}, r"f.yaml: gama: unknown setting. Did you mean gamma\? .*--algo ppo --help"),
        ({"zzzzzz": 1}, r"f.yaml: zzzzzz: unknown setting. 'python -m agents.train --algo ppo --help' lists all"),
        ({"params": {}}, "f.yaml: params: unknown setting"),
        ({"buffer_size": 1}, f"f.yaml: buffer_size: {setting_of_others('buffer_size', 'ppo')}"),
        ({"algo": "dqn", "gae_lambda": 1}, f"gae_lambda: {setting_of_others('gae_lambda', 'dqn')}"),
        ({"algo": "dqqn"}, rf"f.yaml: algo: 'dqqn' given, {NAMES} expected. Did you mean dqn or pqn\?"),
        ({"algo": ["ppo"]}, "algo: .* given"),
        ({"algo": "dqn", "preset": ["rainbow"]}, r"f.yaml: preset: .*rainbow.* given"),
        ({"algo": None}, f"algo: none given, {NAMES} expected"),
        ({"algo": ""}, f"algo: '' given, {NAMES} expected"),
        ({"algo": "../algos/ppo"}, f"algo: '../algos/ppo' given, {NAMES} expected"),
        ({"network": [64]}, r"f.yaml: network: \[64\] given, a mapping of settings expected"),
        (
            {"network": {"net_arhc": [64]}},
            r"f.yaml: network.net_arhc: unknown setting of network. Did you mean net_arch",
        ),
        ({"network": {"gamma": 0.5}}, "f.yaml: network.gamma: unknown setting of network"),
        ({"network": {3: 0.5}}, "f.yaml: network.3: unknown setting of network"),
        ({"network": {"net_arch": [0]}}, r"f.yaml: net_arch: \[0\] is out of range; it must be > 0"),
        ({"network": {"net_arch": [8]}, "net_arch": [9]}, "f.yaml: net_arch: given twice"),
        ({"n_timesteps": 8, "total_timesteps": 9}, "f.yaml: total_timesteps: given twice"),
        ({"exploration": {}}, f"f.yaml: exploration: {setting_of_others('exploration', 'ppo')}"),
        ({"max_grad_norm": 0}, "max_grad_norm: 0 is out of range; it must be > 0"),
        ({"gamma": 3}, "f.yaml: gamma: 3 is out of range; it must be >= 0 and <= 1"),
        ({"n_steps": 0}, "n_steps: 0 is out of range; it must be > 0"),
        ({"n_envs": 2**53 + 1}, "n_envs: 9007199254740993 is out of range; it must be <= 9007199254740992"),
        ({"total_timesteps": 10**400}, r"total_timesteps: 10+\.\.\. is out of range; it must be <= 9007199254740992"),
        ({"schedule_total": 10**400}, "schedule_total: .* is out of range; it must be <= 9007199254740992"),
        ({"algo": "sac", "ent_coef": 0.1, "target_entropy": -1}, "aims at, and ent_coef is 0.1: give ent_coef as auto"),
        ({"algo": "sac", "schedule_total": 50}, "schedule_total 50 is below learning_starts 100"),
        ({"net_arch": [10**400]}, "net_arch: .* is out of range; it must be .*< 9.22"),
        ({"name": "n" * 101}, r"f.yaml: name: 'n+\.\.\. given, TEXT\|none of at most 100 characters expected"),
        ({"name": 3}, r"f.yaml: name: 3 given, TEXT\|none expected"),
        ({"n_steps": 1.5}, "n_steps: 1.5 given, INTEGER expected"),
        ({"n_steps": True}, "n_steps: true given, INTEGER expected"),
        ({"n_steps": None}, "n_steps: none given, INTEGER expected"),
        ({"n_steps": {"a": 1}}, "n_steps: .* given, INTEGER expected"),
        ({"gamma": "high"}, "gamma: 'high' given, NUMBER expected"),
        ({"gamma": float("nan")}, "gamma: nan"),
        ({"gamma": 10**400}, "gamma: 1000"),
        ({"target_reward": float("inf")}, "target_reward: inf given, a finite number expected"),
        ({"target_kl": "low"}, r"target_kl: 'low' given, NUMBER\|none expected"),
        ({"target_kl": -1}, "target_kl: -1 is out of range; it must be > 0"),
        ({"learning_rate": "lin_x"}, "learning_rate: 'lin_x' given, but it must be a number, or lin_NUMBER"),
        ({"learning_rate": "lin_1e999"}, "learning_rate: 'lin_1e999' given, but it must be a number, or lin_NUMBER"),
        ({"learning_rate": -1}, "learning_rate: -1 given, but it must be >= 0"),
        ({"learning_rate": float("nan")}, "learning_rate: nan given, a finite number expected"),
        ({"norm_obs": "yes"}, r"norm_obs: 'yes' given, true\|false expected"),
        ({"norm_obs": 1}, r"norm_obs: 1 given, true\|false expected"),
        ({"net_arch": 64}, r"net_arch: 64 given, INTEGER \.\.\.\|pi="),
        ({"net_arch": [64, "x"]}, r"net_arch: \[64, 'x'\] given"),
        ({"net_arch": [64, 0]}, r"net_arch: \[64, 0\] is out of range; it must be > 0"),
        ({"net_arch": [True]}, "net_arch: .* given"),
        ({"optimizer": "adma"}, r"optimizer: 'adma' given, adam\|adamw\|sgd\|rmsprop expected. Did you mean adam"),
        (
            {"memory": "gur"},
            r"f.yaml: memory: 'gur' given, gru\|.*\|file.py:Class\|none expected. Did you mean gru or gtrxl",
        ),
        ({"encoder": "natur"}, r"encoder: 'natur' given, auto\|.*\|file.py:Class expected. Did you mean nature"),
        ({"encoder": None}, "encoder: none given, auto"),
        (
            {"text_encoder": "gur"},
            r"text_encoder: 'gur' given, auto\|transformer\|gru\|FOLDER expected. Did you mean gru",
        ),
        ({"text_encoder": "//there/share"}, r"text_encoder: '//there/share' given, auto\|transformer\|gru\|FOLDER"),
        ({"metrics": "log"}, "metrics: 'log' given, but it must name what is in a file or module of your own"),
        ({"augment": ["flip", "shif"]}, "augment: 'shif' given, shift.* expected. Did you mean shift"),
        ({"device": "gpu"}, r"device: 'gpu' given, auto\|cpu\|cuda\|mps expected"),
        ({"seed": -1}, "seed: -1 is out of range; it must be >= 0"),
        ({"seed": 2**64}, "seed: 18446744073709551616 is out of range; it must be >= 0 and < 1.84467"),
        ({"eval_episodes": 10**9}, "eval_episodes: 1000000000 is out of range; it must be > 0 and <= 1000000"),
        (
            {"final_eval_episodes": 10**9},
            "final_eval_episodes: 1000000000 is out of range; it must be >= 0 and <= 1000000",
        ),
        ({"algo": "dqn", "munchausen": True, "bcq_threshold": 0.3}, "munchausen backs up a policy over all actions"),
        ({"algo": "pqn", "bcq_threshold": 0.3}, "bcq_threshold is a part of dqn, which pqn does not have"),
        ({"algo": "dqn", "n_envs": 4, "n_step_returns": 10**9}, "n_step_returns 1000000000 is more than the 25000 st"),
        (
            {"algo": "dqn", "spectral_norm": True, "noisy": True},
            "spectral_norm is for the last hidden layer, and noisy",
        ),
        (
            {"algo": "pqn", "spectral_norm": True, "net_arch": []},
            "spectral_norm is for the last hidden layer, and net_a",
        ),
        ({"algo": "dqn", "memory": "gru", "n_step_returns": 21}, "n_step_returns 21 is more than the steps that a mem"),
        (
            {"algo": "dqn", "memory": "gru", "burn_in": 90, "buffer_size": 1000, "n_envs": 10},
            "burn_in 90 and sequence_length 20 are more than the 100 steps of each environment",
        ),
        (
            {"algo": "dqn", "memory": "gru", "burn_in": 31, "n_envs": 20},
            "burn_in 31 and sequence_length 20 take 1020 steps of n_envs 20 environments, and learning_starts 1000 is",
        ),
        ({"env": ""}, "env: '' given, TEXT of at least 1 character expected"),
        ({"env": None}, "env: none given, TEXT expected"),
        ({"env_kwargs": 3}, "env_kwargs: 3 given"),
        ({"env_kwargs": {1: 2}}, "env_kwargs: {1: 2} given"),
    ],
)
def test_mistakes_in_a_file(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve([Layer("f.yaml", {"env": "Some-v0"} | values)])


def test_a_mistake_names_the_layer_it_is_in() -> None:
    good, bad = {"env": "Some-v0", "n_steps": 64}, {"env": "Some-v0", "n_steps": 0}
    with pytest.raises(UserError, match=r"^--n-steps: 0 is out of range"):
        resolve([Layer("f.yaml", good), Layer(FLAGS, bad)])
    with pytest.raises(UserError, match=r"^f.yaml: n_steps: 0 is out of range"):
        resolve([Layer("f.yaml", bad), Layer(FLAGS, {"seed": 1})])
    assert resolve([Layer("f.yaml", bad), Layer(FLAGS, good)]).seed == 0


def test_no_environment() -> None:
    with pytest.raises(UserError, match="for example: --env CartPole-v1"):
        resolve([Layer(FLAGS, {"seed": 1})])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_steps": 8, "n_envs": 2, "batch_size": 17}, r"batch_size 17 .* 16 transitions \(n_steps 8 x n_envs 2\)"),
        ({"algo": "dqn", "batch_size": 11, "buffer_size": 10}, r"batch_size 11 is larger than the buffer"),
        ({"algo": "dqn", "batch_size": 1, "n_envs": 11, "buffer_size": 10}, "n_envs 11 is larger than the buffer"),
    ],
)
def test_contradictions(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        flags(**values)


def test_the_largest_allowed_sizes_pass() -> None:
    flags(n_steps=8, n_envs=2, batch_size=16)
    flags(algo="dqn", batch_size=10, n_envs=10, learning_starts=10, buffer_size=10)


def test_zoo_spelling_and_whole_floats() -> None:
    assert flags(n_timesteps=5e4).params.total_timesteps == 50_000
    assert "total_timesteps" in merge([Layer(FLAGS, {"n_timesteps": 5})])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not YAML"),
        (b"\xff\xfe\xfa", "not YAML"),
        (b"- a\n- b", "must be a mapping"),
        (b"text", "must be a mapping"),
        (b"1: 2", "must be a mapping"),
        (b"gamma: 1\ngamma: 2", "'gamma' is given twice"),
        (b"a: !!python/object/apply:os.getcwd []", "not YAML"),
        (b"a: !!bool x", "not YAML: tag:yaml.org,2002:bool: tags are not read"),
        (b'a: !!int ""', "tags are not read"),
        (b'a: !!int "+"', "tags are not read"),
        (b'a: !!float ""', "tags are not read"),
        (b"a: !!timestamp x", "tags are not read"),
        (b"a: !!binary /w==", "tags are not read"),
        (b"a: !!set {b}", "tags are not read"),
        (b"a: [!mine x]", "!mine: tags are not read"),
        (rb'a: "\UFFFFFFFF"', "not YAML"),
        (b"[" * 1200, "not YAML"),
        (b"? [a]\n: 1", "not YAML"),
    ],
)
def test_files_that_are_no_config(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(UserError, match=f"mine.yaml: .*{message}"):
        load_config_file(tmp_path / "mine.yaml")


def test_config_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "pendulum.yaml").write_text("gamma: 0.5")
    with pytest.raises(UserError, match=r"pendulm.yaml: there is no such config file. Did you mean pendulum.yaml\?"):
        load_config_file(tmp_path / "pendulm.yaml")
    with pytest.raises(UserError, match=r"cannot read .*: it is no file, but a folder"):
        load_config_file(tmp_path)


def test_empty_config_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("# nothing yet\n")
    assert load_config_file(tmp_path / "mine.yaml") == {}


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_from_dict_wants_a_mapping(values: Any) -> None:
    with pytest.raises(UserError, match=r"model.json: the configuration is a \w+, not a mapping"):
        RunConfig.from_dict(values, "model.json")


@pytest.mark.parametrize(
    ("given", "widths"),
    [
        ([64, 32], (64, 32)),
        (["64,32"], (64, 32)),
        (["64,", 32], (64, 32)),
        ("64, 32", (64, 32)),
        (["pi=64,32", "vf=128"], Torsos(pi=(64, 32), vf=(128,))),
        ({"pi": [64, 32], "vf": [128]}, Torsos(pi=(64, 32), vf=(128,))),
        ([{"pi": [64, 32], "vf": [128]}], Torsos(pi=(64, 32), vf=(128,))),
        (["pi=[64,32]", "vf="], Torsos(pi=(64, 32), vf=())),
    ],
)
def test_widths_of_the_hidden_layers(given: Any, widths: Any, tmp_path: Path) -> None:
    config = flags(net_arch=given)
    assert config.params.network.net_arch == widths
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert read_config(tmp_path / "config.yaml") == config
    if isinstance(widths, tuple):
        assert flags(algo="dqn", net_arch=given).params.network.net_arch == widths


FORMS = "allowed is one list (64 64 or 64,64), or both pi=64,64 and vf=128"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"net_arch": ["pi=64"]}, f"--net-arch: ['pi=64'] given, but it names 'pi'; {FORMS}."),
        ({"net_arch": ["pi=64", "qf=3"]}, f"but it names 'pi', 'qf'; {FORMS}."),
        ({"net_arch": ["pi=64", 64]}, f"but it gives 64 beside a name; {FORMS}."),
        ({"net_arch": ["pi=64,x", "vf=3"]}, "INTEGER ...|pi=INTEGER,... vf=INTEGER,... expected."),
        ({"net_arch": ["64;64"]}, "INTEGER ...|pi=INTEGER,... vf=INTEGER,... expected."),
        ({"net_arch": ["pi=64", "vf=3"], "shared_torso": True}, "give net_arch as one list, or shared_torso as false."),
        (
            {"net_arch": ["pi=64", "vf=3"], "algo": "dqn"},
            "--net-arch: ['pi=64', 'vf=3'] given, but it names parts, and only a policy with a value "
            "function has pi and vf; allowed is a list: 64 64.",
        ),
        ({"wrappers": [3]}, "but it must be a list of module:Wrapper, or in a file of"),
        ({"wrappers": [{"a:B": 3}]}, "module:Wrapper ... expected"),
    ],
)
def test_mistakes_in_lists_of_words(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        flags(**values)
    assert message in str(raised.value)


def test_text_is_taken_as_it_was_typed() -> None:
    beneath = {"env": "Some-v0"}
    for flag, name in (("--name", "name"), ("--from", "pretrained"), ("--preset", "preset")):
        for word in ("42", "1e-3", "007", "exp: 3", "exp #3", "runs/a #1", "2024-01-01", "true", "[a]", "'q'"):
            given, _ = parse([flag, word], beneath)
            assert given == {name: word}
        assert parse([flag, "none"], beneath)[0] == {name: None}
    assert parse(["--algo", "bc", "--data", "2024", "--encoder", "a #1/b.py:C"], {**beneath, "algo": "bc"})[0] == {
        **{"algo": "bc", "data": "2024", "encoder": "a #1/b.py:C"}
    }
    assert parse(["--action-names", "1", "none", "right: 2", "#3"], beneath)[0] == {
        "action_names": ["1", "none", "right: 2", "#3"]
    }
    assert parse(["--wrappers", "a #1/b.py:C", "{c:D: {e: 2}}"], beneath)[0] == {
        "wrappers": ["a #1/b.py:C", {"c:D": {"e": 2}}]
    }
    assert flags(name=parse(["--name", "42"], beneath)[0]["name"]).name == "42"
    assert flags(**parse(["--freeze", "none"], beneath)[0]).freeze == []
    settings = ["name=42", "from=a #1", "learning_rate=1e-4", "net_arch=[8, 8]", "memory=none", "else=1"]
    assert parse_settings(settings, "ppo", "name=a") == {
        **{"name": "42", "from": "a #1", "learning_rate": 1e-4, "net_arch": [8, 8], "memory": None, "else": 1}
    }


def test_wrappers_as_flags_and_as_rl_zoo3_writes_them(tmp_path: Path) -> None:
    (tmp_path / "zoo.yaml").write_text(
        "env: Some-v0\nenv_wrapper:\n- gymnasium.wrappers.ClipReward:\n    max_reward: 1\n- my_module:Wrapper:\n- b.C\n"
    )
    values = load_config_file(tmp_path / "zoo.yaml")
    found = resolve([Layer("zoo.yaml", values)])
    assert found.wrappers == [{"gymnasium.wrappers.ClipReward": {"max_reward": 1}}, {"my_module:Wrapper": {}}, "b.C"]
    (tmp_path / "config.yaml").write_text(found.to_yaml())
    assert read_config(tmp_path / "config.yaml") == found
    assert flags(wrappers="b.C").wrappers == ["b.C"]
    given, _ = parse(["--wrappers", "a:B", "{c:D: {e: 2}}"], {"env": "Some-v0"})
    assert resolve([Layer(FLAGS, {"env": "Some-v0", **given})]).wrappers == ["a:B", {"c:D": {"e": 2}}]


def test_an_encoder_may_be_called_network() -> None:
    assert flags(network="my.py:Mine").params.network.encoder == "my.py:Mine"
    given, _ = parse(["--network", "my.py:Mine"], {"env": "Some-v0"})
    assert given == {"encoder": "my.py:Mine"}
