"""A policy and its environment as one page that plays in a browser, without a server."""

from __future__ import annotations

import atexit
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.core.tree import to_tensor
from agents.lab.export.c import identifiers
from agents.lab.export.check import Runner
from agents.lab.export.js import JS, script
from agents.lab.export.module import Exported
from agents.lab.export.plain import write_plain
from agents.lab.export.writer import WrittenFunction
from agents.run.models import LoadedPolicy
from agents.run.play import policy_env
from agents.run.storage import write_text
from envs.adapters.around import Around
from envs.errors import UserError
from envs.names import names_of, renamed
from envs.native.base import Observed
from envs.native.vec_env import NativeVecEnv

PAGE = Path(__file__).with_name("web.html")
CPU = torch.device("cpu")


class _Rules(nn.Module):
    def __init__(self, world: Observed) -> None:
        super().__init__()
        self.world = world


class _Begin(_Rules):
    def forward(self, uniform: Tensor) -> tuple[Tensor, ...]:
        return (self.world.init(torch, uniform),)


class _See(_Rules):
    def forward(self, state: Tensor) -> tuple[Tensor, ...]:
        seen = self.world.observe(torch, state)
        return tuple(seen.values()) if isinstance(seen, dict) else (seen,)


class _Tick(_Rules):
    def forward(self, state: Tensor, action: Tensor, uniform: Tensor) -> tuple[Tensor, ...]:
        state, reward, ended = self.world.step(torch, state, action, uniform)
        return state, reward.to(torch.float64), ended


def world_programs(env: NativeVecEnv) -> list[tuple[str, WrittenFunction]]:
    """Return the rules of a native environment as functions `begin`, `see` and `tick` of one environment's state.

    Raises:
        UserError: an operation has no plain form.
    """
    world = env.dynamics
    uniform = torch.zeros(world.uniforms, 1, dtype=torch.float64)
    state = to_tensor(world.init(np, uniform.numpy()), CPU)
    action = torch.as_tensor(np.asarray(env.action_space.sample()))[None]
    step_uniform = torch.zeros(world.step_uniforms, 1, dtype=torch.float64)
    return [
        ("begin", write_plain(_Begin(world), (uniform,), ["uniform"], JS)),
        ("see", write_plain(_See(world), (state,), ["state"], JS)),
        ("tick", write_plain(_Tick(world), (state, action, step_uniform), ["state", "action", "uniform"], JS)),
    ]


def write_web(exported: Exported, about: dict[str, Any], path: Path, loaded: LoadedPolicy) -> None:
    """Write the page.

    Raises:
        UserError: the environment is not one of the native ones, whose rules alone can be written out.
    """
    env: Any = policy_env(loaded, vec="auto")
    try:
        while isinstance(env, Around):  # what is around it is in the policy
            env = env.env
        if not isinstance(env, NativeVecEnv):
            raise UserError(
                f"{loaded.env} is no native environment of this suite, and no other's rules can be written out for a "
                "browser: use --to onnx"
            )
        inputs = identifiers(exported.inputs)
        policy = write_plain(exported, tuple(exported.example(1).values()), inputs, JS)
        world, both = env.dynamics, (env.observation_space, env.action_space)
        config = loaded.config
        names = renamed(names_of(loaded.env, *both), config.action_names, config.observation_names, *both)
        facts = {
            **about,
            "fps": env.rules.render_fps,
            "most": world.max_episode_steps,
            "uniforms": world.uniforms,
            "step_uniforms": world.step_uniforms,
            "inputs": {name: [max(v.size, 1), v.kind] for name, v in zip(exported.inputs, policy.inputs, strict=True)},
            "outputs": exported.outputs,
            "actions": names.actions,
            "numbers": names.observations.get("", ()),
            "picture": _picture(env.observation_space),
        }
        code = script([("policy", policy), *world_programs(env)])
    finally:
        env.close()
    text = PAGE.read_text(encoding="utf-8")
    title = f"{about['algo'].upper()} on {about['env']}, step {about['step']:,}"
    known = json.dumps(facts).replace("<", "\\u003c")
    filled = {"TITLE": html.escape(title), "FACTS": known, "CODE": code}
    write_text(path, re.sub("@@([A-Z]+)@@", lambda mark: filled[mark[1]], text))


# In a line the inputs of rows, out a line with their outputs: what the page works out, without the page
NODE = """\
const page = require("fs").readFileSync(process.argv[1], "utf8").match(/<script>([^]*)<\\/script>/)[1];
const policy = new Function(page.split("const $ =")[0] + "return policy;")();
const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", line => console.log(JSON.stringify(JSON.parse(line).map(row => policy(...row).map(x => [...x])))));
"""


def web_runner(exported: Exported, path: Path) -> Runner | None:
    """Return what lets node work the page's policy out, row by row; None where there is no node."""
    node = shutil.which("node")
    if node is None:
        return None
    words = [node, "-e", NODE, str(path.resolve())]  # beginning with a slash it is no option
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, text=True, **streams)
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    atexit.register(process.kill)

    def run(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        columns = [given[name].reshape(len(given[name]), -1).tolist() for name in exported.inputs]
        stdin.write(json.dumps(list(zip(*columns, strict=True))) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise UserError(f"node cannot work out {path}")
        found = zip(*json.loads(line), strict=True)
        return {name: np.array(rows, np.float64) for name, rows in zip(exported.outputs, found, strict=True)}

    return run


def _picture(space: Any) -> list[int]:
    """Return height, width and channels of observations that are pictures of few cells; [] of others."""
    is_picture = isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3
    return list(space.shape) if is_picture else []
