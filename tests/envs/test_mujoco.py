"""MuJoCo draws with what works, and its camera goes where the robot goes."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from envs.adapters import mujoco as adapter
from envs.errors import UserError
from envs.locate import locate
from envs.single import make_single

FREE_BALL = """
<mujoco>
  <worldbody>
    <light pos="0 0 50" castshadow="false"/>
    <body name="post"><joint type="slide" axis="1 0 0" range="-1 1" limited="true"/>
      <geom size="0.1" rgba="0 0 1 1"/></body>
    <body name="ball" pos="0 0 1"><freejoint/><geom size="0.5" rgba="1 0 0 1"/></body>
  </worldbody>
</mujoco>
"""
BALL = """
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv

class Ball(MujocoEnv):
    metadata = {"render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 100}
    def __init__(self, **kwargs):
        super().__init__(MODEL, 5, spaces.Box(-1, 1, (8,), np.float64), width=120, height=120, **kwargs)
    def step(self, action):
        return np.zeros(8), 0.0, False, False, {}
    def reset_model(self):
        return np.zeros(8)
    def _set_action_space(self):
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)
"""


@pytest.fixture
def drawing(monkeypatch):
    """A way to draw, for this test alone; skips where there is none."""
    pytest.importorskip("mujoco")
    monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", ""))
    if not os.environ["MUJOCO_GL"]:
        monkeypatch.delenv("MUJOCO_GL")
        try:
            adapter.choose_way(locate("HalfCheetah-v5"), display=False)
        except UserError as error:
            pytest.skip(str(error))


def far_away(env, x: float) -> np.ndarray:
    env.reset(seed=0)
    env.render()  # a free camera looks to where the robot is at the first picture
    base = env.unwrapped
    at = base.data.qpos.copy()
    at[1 if base.model.nq == 8 else 0] = x
    base.set_state(at, base.data.qvel)
    return env.render().astype(int)


def orange(frame: np.ndarray) -> int:
    return int(((frame[..., 0] - frame[..., 2] > 60) & (frame[..., 0] > 90)).sum())


@pytest.mark.parametrize("x", [0.0, 40.0])
def test_the_cheetah_is_in_the_picture_wherever_it_runs(drawing, x):
    env = make_single("HalfCheetah-v5", render_mode="rgb_array")
    assert orange(far_away(env, x)) > 2_000
    env.close()


def test_a_camera_that_was_set_stays(drawing):
    kwargs = {"default_camera_config": {"distance": 3.0}}
    env = make_single("HalfCheetah-v5", env_kwargs=kwargs, render_mode="rgb_array")
    assert orange(far_away(env, 40.0)) < 50
    env.close()


@pytest.mark.parametrize("x", [0.0, 40.0])
def test_a_free_body_of_a_model_without_a_camera_is_followed(drawing, tmp_path, x):
    (tmp_path / "ball.xml").write_text(FREE_BALL)
    (tmp_path / "ball.py").write_text(BALL.replace("MODEL", repr(str(tmp_path / "ball.xml"))))
    env = make_single(f"{tmp_path / 'ball.py'}:Ball", render_mode="rgb_array")
    frame = far_away(env, x)
    red = (frame[..., 0] > 60) & (frame[..., 1] < 30)
    assert red.sum() > 50
    assert np.abs(np.argwhere(red).mean(0) - 60).max() < 12  # in the middle
    env.close()


@pytest.fixture
def trials(monkeypatch):
    """Which ways were tried on a Linux with MuJoCo; those in `works` work."""
    tried = SimpleNamespace(ways=[], works=())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(adapter.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(
        adapter, "_fault", lambda way: tried.ways.append(way) or ("" if way in tried.works else "no device")
    )
    return tried


@pytest.mark.parametrize(
    ("works", "display", "tried", "chosen"),
    [
        (("egl", "osmesa"), False, ["egl"], "egl"),
        (("osmesa",), False, ["egl", "osmesa"], "osmesa"),
        (("osmesa",), True, ["egl", "glfw", "osmesa"], "osmesa"),
        (("glfw", "osmesa"), True, ["egl", "glfw"], "glfw"),
    ],
)
def test_the_first_way_that_works_is_taken(trials, works, display, tried, chosen):
    trials.works = works
    adapter.choose_way(locate("HalfCheetah-v5"), display)
    assert (trials.ways, os.environ["MUJOCO_GL"]) == (tried, chosen)


def test_where_nothing_works_it_says_what_was_tried_and_what_to_install(trials):
    with pytest.raises(UserError, match=r"EGL \(no device\); OSMesa, in software \(no device\).*libosmesa6"):
        adapter.choose_way(locate("HalfCheetah-v5"), display=False)
    assert "MUJOCO_GL" not in os.environ


def test_a_choice_of_the_users_is_kept_and_others_need_none(trials, monkeypatch):
    adapter.choose_way(locate("CartPole-v1"), display=False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    adapter.choose_way(locate("HalfCheetah-v5"), display=False)
    assert (trials.ways, os.environ["MUJOCO_GL"]) == ([], "osmesa")


def test_a_trial_that_fails_says_why(monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.setattr(adapter, "_TRIAL", "raise OSError('no {way} here')")
    assert adapter._fault("egl") == "OSError: no egl here"
