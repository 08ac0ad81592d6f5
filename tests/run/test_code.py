"""A run's own code: whole paths, copies in the run's folder, and what is used when the original changed or is gone."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.evaluate import main as evaluate
from agents.run import code
from agents.run.config import FLAGS, Layer, resolve
from agents.run.folder import RunFolder
from agents.run.models import load_policy
from agents.run.yaml_files import load_config_file
from agents.watch import main as watch
from envs.errors import UserError
from tests.run.running import resume, train

ROBOT = """
import gymnasium, numpy as np
from parts.arm import REACH

class Pick(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def __init__(self, render_mode=None): self.render_mode = render_mode
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.t += 1
        return np.zeros(2, np.float32), REACH, self.t >= 10, False, {}
    def render(self):
        return np.full((32, 32, 3), 90, np.uint8)

class Double(gymnasium.RewardWrapper):
    def reward(self, reward): return reward * 2

def log(info, progress): return {}
"""
ENCODER = """
import torch
class Sum(torch.nn.Module):
    features = 1
    def __init__(self, space): super().__init__()
    def forward(self, obs): return obs.sum(dim=-1, keepdim=True)
"""
WORDS = "-n 64 --n-envs 2 --n-steps 16 --batch-size 32 --eval-freq 0 --final-eval-episodes 2"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, which is the working directory; afterwards nothing of it is imported any more."""
    folder = tmp_path / "my prøject [1]"
    (folder / "parts").mkdir(parents=True)
    (folder / "robot.py").write_text(ROBOT)
    (folder / "encoder.py").write_text(ENCODER)
    (folder / "unused.py").write_text("")
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "arm.py").write_text("REACH = 1.5\n")
    monkeypatch.chdir(folder)
    path = list(sys.path)
    yield folder
    sys.path[:] = path
    forget(tmp_path)


def forget(folder: Path) -> None:
    """Let the modules from a folder be imported anew, as another process would."""
    sys.path[:] = [place for place in sys.path if not place.startswith(str(folder))]
    sys.path_importer_cache.clear()
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or getattr(module, "__path__", "")).find(str(folder)) >= 0:
            del sys.modules[name]


def measured(run: Path, capsys: pytest.CaptureFixture[str]) -> tuple[float, list[str]]:
    """Return the mean return that `evaluate` finds, and the lines before its table."""
    capsys.readouterr()
    assert evaluate([str(run), "--episodes", "2", "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return json.loads(lines[-1])["mean"], lines[: lines.index("")]


def copies(run: Path) -> list[str]:
    return sorted(file.relative_to(run / "code").as_posix() for file in (run / "code").rglob("*.py"))


def test_a_run_keeps_what_was_imported_and_is_found_from_anywhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = "--env robot.py:Pick --wrappers robot.py:Double --metrics robot.py:log --network encoder.py:Sum"
    run = train(tmp_path / "runs", f"{parts} {WORDS}")
    name = project.name
    assert copies(run) == [
        f"{name}/encoder.py",
        f"{name}/parts/__init__.py",
        f"{name}/parts/arm.py",
        f"{name}/robot.py",
    ]
    settings = load_config_file(run / "config.yaml")
    whole = f"{project / 'robot.py'}"
    assert settings["env"] == f"{whole}:Pick"
    assert settings["wrappers"] == [f"{whole}:Double"]
    assert settings["metrics"] == f"{whole}:log"
    assert settings["encoder"] == f"{project / 'encoder.py'}:Sum"

    forget(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert measured(run, capsys) == (30.0, [])  # 10 steps of twice 1.5
    assert watch([str(run), "--record", "play.gif"]) == 0
    resume(run, "-n 128")
    assert RunFolder(run).concluded() == 128


def test_the_copy_is_used_where_the_original_changed_or_is_gone(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "runs", f"--env robot.py:Pick {WORDS}")
    arm, copy = project / "parts" / "arm.py", run / "code" / project.name
    arm.write_text("REACH = 2.5\n")  # a neighbour alone; the working directory is still the project's
    forget(tmp_path)
    mean, said = measured(run, capsys)
    assert (mean, said[:1]) == (
        15.0,
        [
            f"{arm} has changed since the run began: the run's own copy is used, {copy}",
        ],
    )
    resume(run, "-n 128")

    moved = tmp_path / "moved"
    shutil.move(run, moved)
    shutil.move(project, tmp_path / "away")
    monkeypatch.chdir(tmp_path)
    forget(tmp_path)
    mean, said = measured(moved, capsys)
    assert mean == 15.0
    assert said[0].startswith(f"{project / 'parts' / '__init__.py'} is not there any more: the run's own copy is used")
    assert load_policy(moved, "latest").env == f"{moved / 'code' / project.name / 'robot.py'}:Pick"

    shutil.move(tmp_path / "away", project)
    arm.write_text("REACH = 1.5\n")
    forget(tmp_path)
    assert measured(moved, capsys) == (15.0, [])
    assert load_policy(moved, "latest").env == f"{project / 'robot.py'}:Pick"


def test_a_module_of_ones_own_is_found_again_too(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tmp_path / "runs", f"--env robot:Pick --vec async {WORDS}")
    assert copies(run) == [f"{project.name}/{name}" for name in ("parts/__init__.py", "parts/arm.py", "robot.py")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    forget(tmp_path)
    assert measured(run, capsys) == (15.0, [])
    (project / "robot.py").write_text("")
    forget(tmp_path)
    assert measured(run, capsys)[0] == 15.0


def test_nothing_installed_is_copied(tmp_path: Path) -> None:
    run = train(tmp_path, f"--env gymnasium.envs.classic_control:CartPoleEnv {WORDS} --env-kwargs max_episode_steps=9")
    assert [file.name for file in (run / "code").iterdir()] == ["signature.json"]


def test_what_is_too_large_is_left_out_and_said(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "parts" / "arm.py").write_text("REACH = 1.5\n" + "#" * code.LARGEST)
    config = resolve([Layer(FLAGS, {"env": "robot.py:Pick"})])
    from envs.make import make

    make(config.env, 1, vec="sync").close()
    (said,) = code.keep(tmp_path / "run", config.model_dump(mode="json"))
    assert f"the run's folder has no copy of {project / 'parts' / 'arm.py'}: at most" in said
    assert copies(tmp_path / "run") == [f"{project.name}/parts/__init__.py", f"{project.name}/robot.py"]
    shutil.rmtree(tmp_path / "run")
    monkeypatch.setattr(code, "MOST_FILES", 1)
    assert len(code.keep(tmp_path / "run", config.model_dump(mode="json"))) == 1
    assert len(copies(tmp_path / "run")) == 1


def test_a_damaged_list_of_copies_is_told(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    for text in ("{", "[1]", '{"../up": "/x"}', '{"..": "/x"}', '{"a": 3}', "[" * 10_000):
        (tmp_path / "code" / "folders.json").write_text(text)
        with pytest.raises(UserError, match=r"folders\.json is damaged"):
            code.find({"env": "my.py:Env"}, tmp_path, "config.yaml", trust=True)


def test_paths_of_another_system_are_understood(tmp_path: Path) -> None:
    (tmp_path / "code" / "proj").mkdir(parents=True)
    (tmp_path / "code" / "proj" / "my.py").write_text("")
    (tmp_path / "code" / "folders.json").write_text(json.dumps({"proj": r"C:\Users\me\proj"}))
    path = list(sys.path)
    values, said = code.find({"env": r"C:\Users\me\proj\my.py:Env", "seed": 3}, tmp_path, "config.yaml", trust=True)
    sys.path[:] = path
    assert values == {"env": f"{tmp_path / 'code' / 'proj' / 'my.py'}:Env", "seed": 3}
    assert len(said) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"env": "my.py:Env"},
        {"env": "my_pkg:Env-v0"},
        {"env": "CartPole-v1", "wrappers": [{"my.Wrapper": {}}]},
        {"env": "CartPole-v1", "metrics": "my.py:log"},
        {"env": "CartPole-v1", "encoder": "my.py:E"},
        {"env": "CartPole-v1", "memory": "my.py:M"},
        {"env": "CartPole-v1", "algo": "my.py:A"},
    ],
)
def test_one_place_refuses_code_that_is_not_allowed(values: dict) -> None:
    setting = next(name for name in reversed(values))
    with pytest.raises(UserError, match=f"model.json: {setting}: .* is code outside the package"):
        code.refuse(values, "model.json")


def test_gymnasiums_wrappers_are_nobodys_own() -> None:
    wrappers = ["gymnasium.wrappers:ClipReward", {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 9}}]
    assert list(code.names({"env": "CartPole-v1", "wrappers": wrappers})) == []
    for writes_files in ("gymnasium.wrappers.RecordVideo", "gymnasium.utils.save_video"):
        assert list(code.names({"wrappers": [writes_files]})) == [("wrappers", writes_files)]
    assert list(code.names({"env": "gymnasium.py:Env"})) == [("env", "gymnasium.py:Env")]
