"""What environments drawn by MuJoCo need: a way to draw without a window, and a camera that goes along."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from envs.errors import UserError

HOME = "gymnasium.envs.mujoco"
_WAYS = {"egl": "EGL", "glfw": "a hidden window", "osmesa": "OSMesa, in software"}  # MuJoCo's names of them
_SECONDS = 60.0  # for a trial; one takes less than a second
_TRIAL = """
import mujoco
from mujoco.{way} import GLContext
context = GLContext(64, 64)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), mujoco.mjtFontScale.mjFONTSCALE_100)
"""


def choose_way(spec: EnvSpec, display: bool) -> None:
    """Set MUJOCO_GL to the first way to draw that works here, where nobody has set it and `spec` may need one.

    Each is tried in a process of its own, for what fails may end the process or leave it unable to try another. Only
    Linux has a choice; Gymnasium's environments outside its MuJoCo family never need one.

    Args:
        display: whether there is a screen.

    Raises:
        UserError: `spec` is of Gymnasium's MuJoCo family and nothing works.
    """
    home = spec.entry_point if isinstance(spec.entry_point, str) else ""
    foreign = home.startswith("gymnasium.envs.") and not home.startswith(HOME)
    if foreign or "MUJOCO_GL" in os.environ or sys.platform != "linux" or importlib.util.find_spec("mujoco") is None:
        return
    faults = []
    for way in ("egl", "glfw", "osmesa") if display else ("egl", "osmesa"):
        fault = _fault(way)
        if not fault:
            os.environ["MUJOCO_GL"] = way
            return
        faults.append(f"{_WAYS[way]} ({fault})")
    if home.startswith(HOME):
        raise UserError(
            f"{spec.id} cannot be drawn: MuJoCo found nothing to draw with here: {'; '.join(faults)}."
            " Install libegl1 or libosmesa6, or set MUJOCO_GL to what works"
        )


def way() -> str:
    """Return a sentence on what MuJoCo draws with, "" where nothing was chosen or MuJoCo is not in use."""
    chosen = os.environ.get("MUJOCO_GL", "")
    return f"MuJoCo draws with {_WAYS.get(chosen, chosen)}." if chosen and "mujoco" in sys.modules else ""


def _fault(way: str) -> str:
    """Return why MuJoCo cannot draw in one way, "" if it can."""
    with tempfile.TemporaryDirectory() as folder:  # where it may leave its log
        try:
            done = subprocess.run(
                [sys.executable, "-c", _TRIAL.format(way=way)],
                cwd=folder,
                env={**os.environ, "MUJOCO_GL": way},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{type(error).__name__}"
    if done.returncode == 0:
        return ""
    said = [line for line in done.stderr.splitlines() if line and not line.startswith((" ", "\t", ")"))]
    return " ".join(said[-1].split())[:160] if said else f"code {done.returncode}"


def follow(env: gymnasium.Env) -> None:
    """Let the picture of an environment of Gymnasium's MuJoCo kind follow what moves, unless it has a camera set.

    That is the model's camera "track" where it has one. Otherwise it is one that tracks the first body that can go
    anywhere, by a joint that is free or slides without limits; where there is none, the camera stays where it is.
    """
    renderer: Any = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is None or getattr(renderer, "camera_id", None) != -1:
        return
    import mujoco

    model = renderer.model
    track = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if track != -1:
        renderer.camera_id = track
        return
    kinds = int(mujoco.mjtJoint.mjJNT_FREE), int(mujoco.mjtJoint.mjJNT_SLIDE)
    roots = [
        int(model.jnt_bodyid[joint])
        for joint in range(model.njnt)
        if model.jnt_type[joint] in kinds and not model.jnt_limited[joint]
    ]
    if roots:
        tracking = {"type": mujoco.mjtCamera.mjCAMERA_TRACKING, "trackbodyid": roots[0]}
        renderer.default_cam_config = {**(renderer.default_cam_config or {}), **tracking}
        renderer.camera_id = None  # or each picture sets the camera free again


@contextmanager
def quiet(spec: EnvSpec) -> Iterator[None]:
    """Keep MuJoCo's remarks on Gymnasium's models from the terminal, and from a MUJOCO_LOG.TXT wherever we are."""
    if not (isinstance(spec.entry_point, str) and spec.entry_point.startswith(HOME)):
        yield
        return
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda text: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
