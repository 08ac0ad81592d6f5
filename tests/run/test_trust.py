"""Opening somebody's files runs none of their code: every way in, tried with code that would leave a mark."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import agents
from agents.compare import main as compare
from agents.core.user_code import is_user_code, user_class, user_function
from agents.evaluate import main as evaluate
from agents.run import code, registry, signature
from agents.run.config import ALIASES, FLAGS, RUN_FIELDS, Layer, config_layer, resolve
from agents.run.notation import notation
from agents.run.recording import RecordedEpisode, load_episode, save_episode
from agents.run.terminal import console, say, visible
from agents.run.trees import read_tree, write_tree
from agents.run.yaml_files import dump_yaml, load_config_file
from agents.train import main as train_main
from agents.watch import main as watch
from envs.errors import UserError
from envs.locate import locate, locate_wrapper
from tests.run.running import train

EVIL = """
import pathlib, gymnasium
pathlib.Path(MARK).touch()
class Env(gymnasium.envs.registration.load_env_creator("gymnasium.envs.classic_control:CartPoleEnv")): pass
class Wrapper(gymnasium.Wrapper): pass
def log(info, progress): return {}
class Thing: pass
"""
WORDS = (
    "--env CartPole-v1 --vec sync -n 64 --n-envs 2 --n-steps 16 --batch-size 32 --eval-freq 0 --final-eval-episodes 2"
)
SETTINGS: list[dict[str, Any]] = [
    {"env": "evil.py:Env"},
    {"env": "evil.py"},
    {"env": "evil_mod:Env-v0"},
    {"env": "this:X"},
    {"env": "gymnasium:make", "env_kwargs": {"id": "evil_mod:Env-v0"}},
    {"wrappers": ["evil.py:Wrapper"]},
    {"wrappers": [{"evil_mod.Wrapper": {}}]},
    {"env_wrapper": "evil_mod.Wrapper"},
    {"wrappers": [{"gymnasium.wrappers:FrameStackObservation": {"stack_size": 5_000}}]},
    {"algo": "evil.py:Thing"},
    {"encoder": "evil.py:Thing"},
    {"network": {"encoder": "evil_mod:Thing"}},
    {"network": "evil.py:Thing"},
    {"memory": "evil.py:Thing"},
    {"metrics": "evil.py:log"},
]


WRITTEN = (
    *("evil.py", "evil.py:Thing", "./evil.py:Thing", "a b.py:Thing", "evil.py:", "evil.py: Thing", "evil.py:Thing x"),
    *("evil_mod:Thing", "evil_mod: Thing", " evil_mod:Thing", "a b:Thing", "evil_mod:a:Thing", "1evil:Thing", "évil:X"),
    *("evil_mod:Thing\n", "\nevil.py", "x\n.py:Thing", ":Thing", "evil_mod:", "{'a': 1}", "push: left", "C:/evil"),
)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it_ran"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("finished"), WORDS)


@pytest.fixture
def foreign(finished: Path, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run folder with planted code beside its files, where the user now is; it was trained without that code."""
    run = Path(shutil.copytree(finished, tmp_path / "runs" / finished.name))
    plant(run, mark)
    monkeypatch.chdir(run)
    before, modules = list(sys.path), set(sys.modules)
    yield run
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith("evil"):
            del sys.modules[name]
    sys.modules.pop("this", None)


@pytest.mark.parametrize("name", WRITTEN)
def test_whatever_is_imported_by_a_name_in_settings_is_asked_about(
    name: str, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules, path, ran = set(sys.modules), list(sys.path), list[str]()
    monkeypatch.chdir(tmp_path)
    for file in ("evil", "a b", "evil_mod", " evil_mod", "evil_mod:a", "1evil", "évil", "\nevil", "x\n"):
        (tmp_path / f"{file}.py").write_text(EVIL.replace("MARK", repr(str(mark))))
    for setting, load in (
        ("env", locate),
        ("wrappers", locate_wrapper),
        ("algo", registry.find),
        ("encoder", lambda name: is_user_code(name) and user_class(name, object, "a thing")),
        ("my_part", lambda name: user_class(name, object, "a thing")),
        ("my_function", lambda name: user_function(name, "a thing", "log(info, progress)")),
    ):
        mark.unlink(missing_ok=True)
        try:
            with suppress(UserError):
                load(name)
        finally:
            for one in set(sys.modules) - modules:
                if (getattr(sys.modules[one], "__file__", None) or "").startswith(str(tmp_path)):
                    del sys.modules[one]
            sys.path[:] = path
        asked = [*code.names({setting: name}), *code.names({"part": {setting: [name]}})]
        assert not mark.exists() or asked == [(setting, name)] * 2
        ran += [setting] * mark.exists()
    assert ran or name not in ("evil.py:Thing", "evil_mod:Thing"), "nothing that was planted ran"


def test_all_settings_that_may_name_code_are_asked_about() -> None:
    fields = {**RUN_FIELDS}
    for algo in registry.names():
        fields |= registry.find(algo).config.flat_fields()
    own = {name for name, field in fields.items() if "file.py" in notation(field.annotation)}
    assert own <= set(code.SETTINGS)
    for written in (*code.SETTINGS, *(other for other, name in ALIASES.items() if name in code.SETTINGS), "network"):
        assert list(code.names({written: "a b:C"})), written
    assert set(code.NO_CODE) <= RUN_FIELDS.keys() - set(code.SETTINGS), "an algorithm has no settings of these names"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("normalize: \"{'norm_obs': True, 'norm_reward': False}\"", "normalize: unknown.* norm_reward or norm_obs"),
        ('action_names: ["push: left", "push:right"]', ""),
        ('observation_names: ["a:b", "c.py"]', ""),
        ("learning_rate: 1:30", "learning_rate: '1:30' given, but"),
        ("CartPole-v1: {n_envs: 8}", r"settings by environment \(CartPole-v1\), as rl-zoo3's .* block beneath one of"),
        ("default: {a: 1}\nPendulum-v1: {env_wrapper: x.y}\nB-v0: {a: 1}\natari: {n: 1}", r"v1, B-v0, \.\.\.\), as rl"),
        ("network: {net_arch: [8]}", ""),
    ],
)
def test_text_with_a_colon_is_no_code(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    layers = [Layer(FLAGS, {"env": "CartPole-v1"})]
    if not message:
        resolve([config_layer(tmp_path / "mine.yaml"), *layers])
        return
    with pytest.raises(UserError, match=message):
        resolve([config_layer(tmp_path / "mine.yaml"), *layers])


def plant(folder: Path, mark: Path) -> None:
    for place in (folder, folder / "code" / "folder"):
        place.mkdir(parents=True, exist_ok=True)
        for name in ("evil.py", "evil_mod.py", "cv2.py"):
            (place / name).write_text(EVIL.replace("MARK", repr(str(mark))))
    (folder / "code" / "folders.json").write_text(json.dumps({"folder": "/gone"}))


def name_code(run: Path, settings: dict[str, Any]) -> None:
    """Let all files of a run name code, with checksums that are right."""
    config = load_config_file(run / "config.yaml")
    (run / "config.yaml").write_text(dump_yaml(config | settings))
    for folder in (run, *(run / "checkpoints").iterdir()):
        weights, meta = read_tree(folder, "model")
        write_tree(folder, "model", weights, meta | {"config": meta["config"] | settings})


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda value: "-".join(map(str, value.items())))
def test_no_way_to_open_a_foreign_run_runs_code(
    settings: dict[str, Any], foreign: Path, mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name_code(foreign, settings)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("model.json", "model.safetensors"):
        shutil.copy(foreign / name, bare)
    plant(bare, mark)
    ways = [
        (evaluate, [str(foreign), "--episodes", "1"]),
        (evaluate, [str(bare), "--episodes", "1"]),
        (evaluate, [".", "--episodes", "1"]),
        (watch, [str(foreign), "--record", str(tmp_path / "a.gif")]),
        (watch, [str(bare / "model.json"), "--record", str(tmp_path / "a.gif")]),
        (train_main, ["--resume", str(foreign), "-n", "128"]),
        (train_main, ["--resume", ".", "-n", "128"]),
        (train_main, ["--config", "config.yaml", "--runs-dir", str(tmp_path / "new")]),
        (compare, [str(foreign), "--out", str(tmp_path / "out"), "--no-video"]),
    ]
    for command, words in ways:
        assert command(words) == 2, words
        said = capsys.readouterr().err
        if command is not compare:
            setting = next(iter(settings))
            assert f"{'wrappers' if setting == 'env_wrapper' else setting}: " in said or "encoder: " in said
            assert "is code outside the package, which this would run, and" in said or "beyond 1,000" in said
            assert "If you trust it, add --trust" in said
        assert "Traceback" not in said
    for place in (foreign, str(bare)):
        with pytest.raises(UserError, match="trust=True"):
            agents.load(place)
    with pytest.raises(UserError, match="trust=True"):
        agents.PPO("CartPole-v1", config=foreign / "config.yaml")
    assert not mark.exists()
    assert "this" not in sys.modules


def test_a_foreign_run_without_code_brings_none_in_with_it(foreign: Path, mark: Path) -> None:
    assert evaluate([str(foreign), "--episodes", "1"]) == 0
    assert str(foreign / "code" / "folder") not in sys.path
    assert not mark.exists()


def test_a_recorded_episode_runs_no_code(
    foreign: Path, mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    episode = RecordedEpisode(
        env="evil.py:Env",
        env_kwargs={},
        rescale_action=False,
        run="run",
        checkpoint="best",
        step=1,
        deterministic=True,
        gymnasium="1",
        seed=0,
        total_reward=1.0,
        length=1,
        terminated=False,
        truncated=False,
        actions=[0],
        rewards=[1.0],
    )
    for wrappers, name in (([], "evil.py:Env"), ([{"evil_mod.Wrapper": {}}], "CartPole-v1")):
        file = foreign / "episode.json"
        save_episode(file, episode.model_copy(update={"env": name, "wrappers": wrappers}))
        body = json.loads(file.read_text())
        file.write_text(json.dumps(body | {"signature": "0" * 64}))
        words = ["--replay", str(file), "--record", str(tmp_path / "a.gif")]
        assert watch(words) == 2
        assert "If you trust it, add --trust" in capsys.readouterr().err
        assert not mark.exists()
    assert load_episode(file, trust=True).wrappers == wrappers
    assert watch([*words, "--trust"]) == 0
    assert mark.exists()


def test_the_users_word_is_enough(foreign: Path, mark: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name_code(foreign, {"env": "evil.py:Env"})
    assert evaluate([str(foreign), "--episodes", "1", "--env", "CartPole-v1"]) == 0
    assert train_main(["--resume", ".", "--env", "CartPole-v1", "-n", "128"]) == 2
    assert not mark.exists()
    assert evaluate([str(foreign), "--episodes", "1", "--env", "evil.py:Env"]) == 0
    assert mark.exists()
    mark.unlink()
    assert train_main(["--resume", ".", "--env", "evil.py:Env", "-n", "128", "--quiet", "--no-record"]) == 0
    agents.load(foreign, trust=True)
    agents.load(foreign, trust=["evil.py:Env"])
    assert evaluate([str(foreign), "--episodes", "1", "--trust"]) == 0


OWN = EVIL.replace("pathlib.Path(MARK).touch()\n", "")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run that the user trained with code of their own, which is gone now but for the run's copy."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "mine.py").write_text(OWN)
    monkeypatch.chdir(folder)
    before, modules = list(sys.path), set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "")
    yield train(folder / "runs", WORDS.replace("CartPole-v1", "mine.py:Env"))
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith("mine"):
            del sys.modules[name]


def test_a_run_of_ones_own_is_opened_from_anywhere(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own.parents[1] / "mine.py").unlink()
    monkeypatch.chdir(tmp_path)
    moved = own.rename(tmp_path / "moved")
    for _ in range(2):  # using the copy leaves it as it was signed
        assert evaluate([str(moved), "--episodes", "1"]) == 0
        for name in [name for name in sys.modules if name.startswith("mine_")]:
            del sys.modules[name]
    assert not list(moved.rglob("__pycache__"))
    assert train_main(["--resume", str(moved), "-n", "128", "--quiet", "--no-record"]) == 0
    assert evaluate([str(moved), "--episodes", "1", "--checkpoint", "128"]) == 0


def test_another_user_or_machine_has_another_key(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "others"))
    for _ in range(2):
        assert evaluate([str(own), "--episodes", "1"]) == 2
        assert "the run was made on another machine, or code/ has been changed since" in capsys.readouterr().err
        assert signature.sign(b"") is not None  # now there is a key, and it is another
    agents.PPO("CartPole-v1").save(tmp_path / "plain")
    agents.load(tmp_path / "plain")


def test_what_a_kill_left_half_written_changes_nothing(own: Path) -> None:
    (own / "code" / ".signature.json.tmp-0123456789ab").write_text("{")
    agents.load(own)
    before = (own / "code" / "signature.json").stat().st_mtime_ns
    assert train_main(["--resume", str(own), "-n", "128", "--quiet", "--no-record"]) == 0
    assert (own / "code" / "signature.json").stat().st_mtime_ns == before, "there was nothing new to sign"


@pytest.mark.parametrize("change", ["edit", "add", "cache", "names", "folders", "link", "list"])
def test_what_was_changed_in_a_run_is_not_what_was_signed(change: str, own: Path, tmp_path: Path) -> None:
    copy = next((own / "code").glob("*/mine.py"))
    signed = own / "code" / "signature.json"
    if change == "edit":
        copy.write_text(copy.read_text() + "# more\n")
    elif change == "add":
        (copy.parent / "numpy.py").write_text("")
    elif change == "cache":
        (copy.parent / "__pycache__").mkdir()
        (copy.parent / "__pycache__" / "mine.cpython-311.pyc").write_bytes(b"")
    elif change == "names":
        signed.write_text(signed.read_text().replace("mine.py:Env", "mine.py:Other"))
    elif change == "folders":
        (own / "code" / "folders.json").write_text(json.dumps({copy.parent.name: str(tmp_path)}))
    elif change == "link":
        copy.rename(tmp_path / "elsewhere.py")
        copy.symlink_to(tmp_path / "elsewhere.py")
    else:
        signed.write_text("[" * 100_000)
    with pytest.raises(UserError, match="symbolic link" if change == "link" else "code/ has been changed since"):
        agents.load(own)


def test_saved_models_and_episodes_are_signed_too(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = agents.load(own).save(tmp_path / "saved")
    monkeypatch.chdir(tmp_path)
    assert agents.load(saved).config.env.endswith("mine.py:Env")
    (saved / "code" / "signature.json").unlink()
    with pytest.raises(UserError, match="it was not made by you on this machine"):
        agents.load(saved)


def test_without_a_home_nothing_is_signed_and_all_else_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for name in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    assert signature.sign(b"x") is None
    assert not signature.made_here(b"x", "")
    code.sign(tmp_path, {"env": "my.py:Env"})
    assert not (tmp_path / "code").exists()


def test_the_key_is_the_users_alone_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    program = "import sys; from agents.run import signature; print(signature.sign(b'x'))"
    root = str(Path(agents.__file__).parents[1])
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}
        )
        for _ in range(4)
    ]
    said = {child.communicate()[0].strip() for child in children}
    assert len(said) == 1
    assert said.pop() == signature.sign(b"x")
    (file,) = tmp_path.rglob("*key*")
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
    assert signature.made_here(b"x", signature.sign(b"x"))
    assert not signature.made_here(b"y", signature.sign(b"x"))
    file.write_bytes(b"torn")
    assert not signature.made_here(b"x", signature.sign(b"x") and "é")
    assert len(file.read_bytes()) == 32


def test_names_from_files_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    hostile = "a\x1b]0;title\x07b\x9b2Jc\u202ed"
    assert visible(hostile) == "a\\x1b]0;title\\x07b\\x9b2Jc\\u202ed"
    assert visible("ordinary é 日本 text\n\tand \U0001f600") == "ordinary é 日本 text\n\tand \U0001f600"
    console().print(hostile)
    console(stderr=True).print(hostile, style="bold")
    (tmp_path / "config.yaml").write_text(f'env: "{hostile.encode("unicode_escape").decode()}"\nalgo: ppo\n')
    assert train_main(["--config", str(tmp_path / "config.yaml")]) == 2
    said = capsys.readouterr()
    say("a name\nerror: forged")
    assert capsys.readouterr().out == "a name\n  error: forged\n"
    assert "\x1b" not in said.out + said.err
    assert "\\x1b]0;title" in said.out
    assert "\\x1b]0;title" in said.err
