"""Algorithms are found where they lie: in the package, in one module, in a user's file; or it is said why not."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import agents.algos
from agents import train
from agents.core.algorithm import Algorithm
from agents.core.config import AlgoConfig, Settings
from agents.run import registry
from agents.run.config import FLAGS, RUN_FIELDS, Layer, packaged_config, resolve
from agents.run.yaml_files import load_config_file
from envs.errors import UserError
from tests.run.running import read_config

ALONE = '''
from __future__ import annotations

from pathlib import Path

from pydantic import Field

from agents.core.algorithm import Algorithm
from agents.core.config import RolloutConfig, Schedule, Settings


class CriticConfig(Settings):
    """What judges."""

    bias: float | None = Field(0.5, description="what it adds")


class Config(RolloutConfig):
    """Nothing but a test."""

    boldness: Schedule = Field(0.25, description="how bold it is")
    sizes: list[int] = Field([1], description="some sizes")
    switch: bool | None = Field(None, description="whether, if anything")
    critic: CriticConfig = CriticConfig()

    def contradiction(self) -> str | None:
        return "too bold" if self.boldness == 9 else super().contradiction()


class Bold(Algorithm):
    config_class = Config


(Path(__file__).parent / "it_ran").touch()
'''
HEAD = "from agents.core.algorithm import Algorithm\nfrom agents.core.config import AlgoConfig\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, and one more place of packaged algorithms; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(agents.algos, "__path__", [*agents.algos.__path__, str(tmp_path)])
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("algo", registry.names())
def test_a_packaged_algorithm(algo: str) -> None:
    spec = registry.find(algo)
    assert spec.name == algo == registry.label(algo)
    assert resolve([Layer(FLAGS, {"env": "Some-v0", "algo": algo})]).params == spec.config()
    algorithm = spec.load()
    assert issubclass(algorithm, Algorithm)
    assert algorithm.config_class is spec.config


@pytest.mark.parametrize("algo", registry.names())
def test_every_setting_has_a_name_of_its_own(algo: str) -> None:
    def names(model: type[Settings]) -> Iterator[str]:
        yield from model.model_fields
        for part in model.parts().values():
            yield from names(part)

    found = [*names(registry.find(algo).config), *RUN_FIELDS, *vars(train.Options())]
    assert sorted(found) == sorted(set(found))
    assert {"gamma", "network", "net_arch", "seed", "quiet"} <= set(found)


def test_what_is_in_the_folder_is_what_there_is() -> None:
    files = Path(agents.algos.__path__[0]).iterdir()
    assert set(registry.names()) == {file.stem for file in files if not file.name.startswith("_")}
    assert {"dqn", "ppo"} <= set(registry.names())


def test_one_module_is_a_packaged_algorithm(folder: Path) -> None:
    (folder / "bold.py").write_text(ALONE)
    (folder / "_helper.py").write_text("1 / 0")
    assert "bold" in registry.names()
    assert "_helper" not in registry.names()
    assert not (folder / "it_ran").exists()
    spec = registry.find("bold")
    assert spec.load().config_class is spec.config
    assert spec.load().__module__ == "agents.algos.bold"
    config = resolve([Layer(FLAGS, {"env": "CartPole-v1", "algo": "bold", "bias": 1})])
    assert config.params.model_dump()["bias"] == 1
    with pytest.raises(UserError, match="f: boldness: this is a setting of bold; the run uses ppo"):
        resolve([Layer("f", {"env": "CartPole-v1", "boldness": 1})])


def test_a_setting_of_several_others_names_them_all(folder: Path) -> None:
    for name, expected in (("bold", "bold"), ("meek", "bold {} meek"), ("timid", "bold, meek {} timid")):
        (folder / f"{name}.py").write_text(ALONE)
        message = (
            f"--boldness: this is a setting of {expected.format('and')}; the run uses dqn "
            f"(--algo {expected.format('or')} would change that)"
        )
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            resolve([Layer(FLAGS, {"env": "CartPole-v1", "algo": "dqn", "boldness": 1})])


def test_a_package_is_one_too(folder: Path) -> None:
    (folder / "bolder").mkdir()
    (folder / "bolder" / "__init__.py").touch()
    (folder / "bolder" / "config.py").write_text(
        "from agents.core.config import *\nclass Part(Settings): pass\n"
        "class BolderConfig(AlgoConfig): part: Part = Part()"
    )
    algorithm = folder / "bolder" / "algorithm.py"
    algorithm.write_text(
        f"{HEAD}from .config import BolderConfig\nclass Bolder(Algorithm):\n  config_class = BolderConfig"
    )
    spec = registry.find("bolder")
    assert spec.config.__name__ == "BolderConfig"
    assert "agents.algos.bolder.algorithm" not in sys.modules  # PyTorch comes with it
    assert spec.load().config_class is spec.config


@pytest.mark.parametrize("name", ["my_file.py:Bold", "./my_file.py", "{folder}/my_file.py:Bold", "my_file:Bold"])
def test_a_users_own(folder: Path, name: str) -> None:
    (folder / "my_file.py").write_text(ALONE)
    (folder / "configs").mkdir()
    name = name.format(folder=folder)
    spec = registry.find(name)
    assert (spec.name, spec.config.__name__, spec.load().__name__) == (name, "Config", "Bold")
    assert registry.label(name) == ("Bold" if name.endswith("Bold") else "my_file")
    assert packaged_config(name, "CartPole-v1") is None
    values = {"env": "CartPole-v1", "algo": name, "critic": {"bias": None}, "switch": True, "sizes": [1, 2]}
    config = resolve([Layer(FLAGS, values)])
    assert type(config.params) is spec.config
    (folder / "config.yaml").write_text(config.to_yaml())
    whole = str(folder / name) if ".py" in name else name  # a file is the same from anywhere
    assert {"bias": None, "switch": True, "algo": whole}.items() <= load_config_file(folder / "config.yaml").items()
    assert read_config(folder / "config.yaml") == config


def test_the_flags_of_a_users_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "my_file.py").write_text(ALONE)
    assert train.main(["--algo", "my_file.py:Bold", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for text in (
        "algorithm options",
        "Nothing but a test.",
        "critic options",
        "What judges.",
        "--boldness NUMBER|TEXT how bold it is (default: 0.25)",
        "--bias NUMBER|none what it adds (default: 0.5)",
        "--sizes INTEGER ... some sizes (default: 1)",
        "--switch true|false|none whether, if anything (default: none)",
    ):
        assert text in shown
    given, _ = train.parse(
        ["--boldness", "lin_1", "--sizes", "3", "4", "--switch", "true"], {"algo": "my_file.py:Bold"}
    )
    assert given == {"boldness": "lin_1", "sizes": [3, 4], "switch": True}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--boldnes 1", "--boldnes: unknown flag. Did you mean --boldness"),
        ("--tau 1", "--tau: this is a setting of dqn, iql and sac; the run uses "),
        ("--boldness -1", "--boldness: -1 given, but it must be >= 0"),
        ("--bias high", r"--bias: 'high' given, NUMBER|none expected"),
        ("--switch 3", r"--switch: 3 given, true|false|none expected"),
        ("--boldness 9", "too bold"),
    ],
)
def test_mistakes_in_settings_of_a_users_own(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: str, message: str
) -> None:
    (folder / "my_file.py").write_text(ALONE)
    assert train.main(f"--env CartPole-v1 --algo my_file.py:Bold {flags}".split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "my_fil.py", r"there is no file 'my_fil.py' .*Did you mean my_file.py\?"),
        ("", "my_fil:Bold", "there is no module 'my_fil'"),
        ("1 / 0", "my_file.py", "could not be imported: ZeroDivisionError"),
        ("x = 3", "my_file.py", "my_file.py does not define an algorithm"),
        ("x = 3", "my_file.py:Bold", "my_file.py has no 'Bold'"),
        ("x = 3", "my_file.py:x", "x is not an algorithm: derive it from agents.core.algorithm.Algorithm"),
        ("class Bold: pass", "my_file:Bold", "Bold is not an algorithm"),
        (HEAD, "my_file.py", "my_file.py does not define an algorithm"),
        (HEAD + "class Bold(Algorithm): pass", "my_file.py", "Bold.config_class must be its settings' class.* None"),
        (HEAD + "class Bold(Algorithm): config_class = 3", "my_file.py", "Bold.config_class must be .* it is 3"),
        (HEAD + "class Bold(Algorithm): config_class = dict", "my_file.py:Bold", "Bold.config_class must be .*'dict'"),
        (
            HEAD + "class A(Algorithm): config_class = AlgoConfig\nclass B(A): pass",
            "my_file.py",
            "my_file.py defines A, B: name the one that is meant, as in my_file.py:A",
        ),
        (
            HEAD + "class Bold(Algorithm): config_class = AlgoConfig",
            "my_file.py:Bald",
            r"my_file.py has no 'Bald'; it has Bold. Did you mean Bold\?",
        ),
        (
            HEAD + "from agents.core.config import *\nclass Part(Settings): gamma: float = 1\n"
            "class Config(AlgoConfig): part: Part = Part()",
            "my_file.py",
            "TypeError: Config has gamma twice; each setting needs its own name",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(folder: Path, content: str, name: str, message: str) -> None:
    (folder / "my_file.py").write_text(content)
    with pytest.raises(UserError, match=rf"f.yaml: algo: .*{message}"):
        resolve([Layer("f.yaml", {"env": "CartPole-v1", "algo": name})])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("seed: int = 3", "Config has seed, which every run has: rename it"),
        ("alpha: float", "--alpha: Field required"),
    ],
)
def test_settings_that_do_not_fit(folder: Path, body: str, message: str) -> None:
    source = f"{HEAD}class Config(AlgoConfig): {body}\nclass Bold(Algorithm): config_class = Config"
    (folder / "my_file.py").write_text(source)
    with pytest.raises(UserError, match=message):
        resolve([Layer(FLAGS, {"env": "CartPole-v1", "algo": "my_file.py"})])


def test_the_default_of_a_class_is_allowed_by_it() -> None:
    for algo in registry.names():
        config: AlgoConfig = registry.find(algo).config()
        assert config.contradiction() is None
        assert type(config).model_validate(config.model_dump()) == config


def test_titles() -> None:
    names = ("ppo", "bc", "pretrain", "a/mine.py:Reinforce", "mine.py")
    assert [registry.title_of(name) for name in names] == ["PPO", "BC", "Pretrain", "Reinforce", "mine"]
