"""An exported policy does what the policy does, whatever it is made of."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import run
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from agents.core.tree import to_numpy
from agents.export import main
from agents.lab.export.c import C, c_runner, compiled, header, identifiers, write_c
from agents.lab.export.check import check, raw_inputs
from agents.lab.export.js import JS, script
from agents.lab.export.module import Exported
from agents.lab.export.onnx import onnx_runner, write_onnx
from agents.lab.export.plain import write_plain
from agents.lab.export.web import web_runner, world_programs, write_web
from agents.run.models import LoadedPolicy, load_model, save_model
from agents.run.storage import write_bytes
from envs.adapters.stacking import StackedVecEnv
from envs.adapters.vector import adapt
from envs.errors import UserError
from envs.make import make
from envs.native.gym_env import DYNAMICS
from tests.marks import long_test
from tests.run.test_models import CASES as MODELS
from tests.run.test_models import DQN_SMALL, PPO_SMALL, SMALL, trained

HYBRID = f"{Path(__file__).parents[2] / 'run' / 'hybrid_env.py'}:Signal"
SAC = SMALL | {"algo": "sac", "env": "Pendulum-v1", "learning_starts": 16, "batch_size": 8, "n_envs": 1}
PARTS = {"dueling": True, "noisy": True, "distribution": "iqn", "n_quantiles": 4, "layer_norm": True}
ABOUT = {"algo": "ppo", "env": "x", "step": 64}
CASES: dict[str, dict[str, Any]] = {
    "masks, memory, several actions": PPO_SMALL | {"env": HYBRID, "memory": "gru", "memory_size": 6, "norm_obs": True},
    "pixels, IQN": DQN_SMALL | {"env": "Bricks-v0"} | PARTS,
    "rescaled Box": SAC,
}
MORE: dict[str, dict[str, Any]] = {
    **MODELS,
    **{
        f"{memory}, stacked": PPO_SMALL
        | {"env": "CartPole-v1", "memory": memory, "memory_size": 8, "frame_stack": 3, "memory_layers": 2}
        for memory in ("gru", "lstm", "scan", "gtrxl")
    },
    "C51": DQN_SMALL | {"env": "CartPole-v1", "distribution": "c51", "v_min": 0.0, "v_max": 100.0, "dueling": True},
    "QR": DQN_SMALL | {"env": "CartPole-v1", "distribution": "qr"},
    "rescaled values": DQN_SMALL | {"env": "CartPole-v1", "rescale_values": True},
    "PQN": SMALL | {"algo": "pqn", "env": "Taxi-v4", "n_steps": 16, "batch_size": 16},
    "gSDE": PPO_SMALL | {"env": "Pendulum-v1", "use_sde": True},
    "stacked pixels": PPO_SMALL | {"env": "Bricks-v0", "frame_stack": 2},
}
X = torch.tensor([[0.5, 1.5, -2.5, 40.0], [-3.0, 2.0, 2.0, -0.25], [1e-3, -7.0, 0.75, 0.75]])
Y = torch.tensor([[0, 3, 1, 1], [2, 2, 0, 3], [1, 0, 3, 2]])
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="no node")
needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def policy(values: dict[str, Any], folder: Path) -> LoadedPolicy:
    training = trained(values)
    folder.mkdir(exist_ok=True)
    save_model(folder, training.algorithm.model, training.config, training.env.own_spaces, 64)
    return load_model(folder, "latest", trust=True)


def agrees(loaded: LoadedPolicy, to: str, path: Path) -> None:
    exported = Exported(loaded)
    (write_c if to == "c" else write_onnx)(exported, ABOUT, path)
    runner = c_runner(exported, path) if to == "c" else onnx_runner(exported, path)
    assert runner is not None
    found = check(exported, runner, loaded, 300, 4, lambda done, total: None)
    assert (found.states, found.differing) == (300, 0)
    assert found.largest < 1e-5


@needs_cc
def test_a_header_acts_as_the_policy(tmp_path: Path) -> None:
    agrees(policy(CASES["masks, memory, several actions"], tmp_path / "model"), "c", tmp_path / "policy.h")


@needs_cc
def test_the_place_of_a_header_is_no_text_of_c(tmp_path: Path) -> None:
    loaded = policy(MODELS["ppo"], tmp_path / "model")
    (tmp_path / "a").write_text("#error this is not the header that was written")
    folder = tmp_path / 'a"\n#define X "'
    folder.mkdir()
    agrees(loaded, "c", folder / "policy.h")


@needs_cc
@pytest.mark.parametrize("memory", [{}, {"memory": "gru", "memory_size": 8}])
def test_steps_that_an_autoreset_makes_up_are_not_compared(
    memory: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = policy(PPO_SMALL | {"env": "CartPole-v1", "frame_stack": 3} | memory, tmp_path / "model")
    asked, valid = list[int](), list[int]()

    class Counted(StackedVecEnv):
        def _next(self, step: Any) -> Any:
            valid.append(4 if step.valid is None else int(to_numpy(step.valid).sum()))
            return super()._next(step)

    def next_step(loaded: LoadedPolicy, num_envs: int, vec: str) -> Any:
        return Counted(adapt(gymnasium.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")), 3)

    monkeypatch.setattr("agents.lab.export.check.policy_env", next_step)
    exported = Exported(loaded)
    write_c(exported, ABOUT, tmp_path / "policy.h")
    runner = c_runner(exported, tmp_path / "policy.h")
    assert runner is not None
    found = check(exported, runner, loaded, 400, 4, lambda done, total: asked.append(done))
    assert (found.states, found.differing) == (sum(valid), 0)
    assert 400 <= found.states < 4 * len(asked), "some were made up"


def test_an_onnx_file_acts_as_the_policy(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "policy.onnx"
    agrees(policy(MODELS["ppo"], tmp_path / "model"), "onnx", path)
    code = (
        "import sys, numpy, onnxruntime\n"
        f"session = onnxruntime.InferenceSession({str(path)!r}, providers=['CPUExecutionProvider'])\n"
        "one = {'obs': numpy.zeros([1, 4], 'f4')}\n"
        "assert session.run(None, one)[0].shape == (1,) and 'torch' not in sys.modules\n"
        "assert session.get_modelmeta().custom_metadata_map == {'algo': 'ppo', 'env': 'x', 'step': '64'}"
    )
    run([sys.executable, "-c", code], check=True)


def test_what_a_memory_looks_back_at_is_an_input_and_an_output(tmp_path: Path) -> None:
    """For any number of rows: the file is traced with two, and asked with four."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    values = MORE["gtrxl, stacked"] | {"memory_window": 4, "memory_heads": 2, "memory_layers": 1}
    agrees(policy(values, tmp_path / "model"), "onnx", tmp_path / "policy.onnx")


@long_test
@needs_cc
@pytest.mark.parametrize("to", ["c", "onnx"])
@pytest.mark.parametrize("values", [*CASES.values(), *MORE.values()], ids=[*CASES, *MORE])
def test_every_policy_is_exported(values: dict[str, Any], to: str, tmp_path: Path) -> None:
    agrees(policy(values, tmp_path / "model"), to, tmp_path / f"policy.{to}")


def test_the_check_notices_another_policy(tmp_path: Path) -> None:
    """What is compared is what the file says, on observations that the environment gave."""
    loaded = policy(CASES["rescaled Box"], tmp_path)
    exported = Exported(loaded)

    def act(inputs: dict[str, np.ndarray], add: float = 0.0) -> dict[str, np.ndarray]:
        seen.append(inputs["obs"])
        with torch.no_grad():
            (action,) = exported(*map(torch.from_numpy, inputs.values()))
        return {"action": action.numpy() + np.float32(add)}

    seen: list[np.ndarray] = []
    assert check(exported, act, loaded, 20, 2, lambda done, total: None).largest < 1e-6
    assert check(exported, lambda x: act(x, 0.25), loaded, 20, 2, lambda done, total: None).largest == pytest.approx(
        0.25
    )
    np.testing.assert_allclose(np.square(seen[0][:, :2]).sum(1), 1, atol=1e-6)
    assert not np.array_equal(seen[0], seen[1])


def test_a_policys_own_inputs_are_the_environments(tmp_path: Path) -> None:
    loaded = policy(CASES["masks, memory, several actions"], tmp_path)
    assert Exported(loaded).inputs == {
        "obs/action_mask": ((8,), torch.int8),
        "obs/signal": ((3,), torch.float32),
        "obs/time": ((), torch.int64),
        "state": ((6,), torch.float32),
        "episode_start": ((), torch.bool),
    }
    seen = {"signal": np.ones((2, 3), np.float32), "time": np.array([1, 4]), "action_mask": np.ones((2, 8), np.uint8)}
    given = raw_inputs(loaded, seen)
    np.testing.assert_array_equal(given["obs/time"], [1, 4])


class Operations(torch.nn.Module):
    """Operations that policies need in some combination, on numbers that are hard for them."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        picked = x.gather(1, y.clamp(0, 3))
        return (
            torch.nn.functional.gelu(x) + torch.nn.functional.elu(x) - torch.nn.functional.leaky_relu(x),
            x.softmax(-1),
            x.log_softmax(0),
            torch.where(y > 1, x.round(), x.sign() * x.abs().sqrt()),
            x.amax(1) + x.amin(1, keepdim=True)[0] - x.sum(),
            torch.cat([x.argmin(1), y.argmax(0)]),
            x.t().contiguous().view(2, 6)[:, 1::2],
            picked.clamp(-0.5, None).expm1().log1p(),
            (x > 0).any(0) & ~(y == 1).any(0),
            torch.full_like(y, 3) * y.cumsum(1) - y,
            x[:, y.clamp(0, 2)],
            x[y.clamp(0, 2)][:, :, 0],
            (y * 7 - 9).remainder(5) + (y * 7 - 9) // 4,
            x.remainder(0.7),
            x.max(1).indices.to(torch.float32) / 3,
            x[:, -3:-1] + x[-1, 2],
            x.split([1, 3], 1)[1][:, None].expand(3, 2, 3),
            x.slice_scatter(x[:, 3:], 1, 0, 1).select_scatter(x[0], 0, -1),
        )


class Kinds(torch.nn.Module):
    """Operations on whole numbers, truths and NaN, and on what they become together."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        whole, byte = (y * 7 - 9) * 100_000_007, (y * 60).to(torch.uint8)
        hole = torch.where(x > 0, x, float("nan"))
        return (
            byte * 0.5,
            (y - 2) + 0.5,
            (byte > 60.5) * 0.5 + (y == 0.5),
            (y - 2).clamp(-1.5, 0.5),
            torch.cat([y // 1.5, y % 1.5, y / 0.3, (y + 1).reciprocal(), y**0.5]),
            torch.cat([torch.div(whole, 3, rounding_mode=way) for way in ("floor", "trunc")]),
            torch.cat([torch.div(x, 0.9, rounding_mode=way) for way in ("floor", "trunc")]),
            torch.cat([~whole, whole ^ 3, whole | 5]),
            ~byte,
            ((x > 0) + (x > 1)) ^ ~(y > 1),
            torch.logical_not(hole) | torch.logical_and(hole, y),
            torch.cat([torch.maximum(hole, x.abs()), torch.minimum(x.abs(), hole), hole.relu(), hole.clamp(-1, 1)]),
            torch.stack([hole.amax(1), hole.amin(1)]),
            torch.stack([hole.argmax(1), hole.argmin(1), hole.max(1).indices]),
            torch.isnan(hole).any(1) & (hole * 0).bool().all(1),
        )


def outputs_of(module: torch.nn.Module, *given: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"out{i}": value for i, value in enumerate(module(*given))}


@needs_cc
@pytest.mark.parametrize("module", [Operations(), Kinds()])
def test_operations_are_pytorchs(module: torch.nn.Module, tmp_path: Path) -> None:
    """Ties, halves, negative and large numbers, with torch as the judge."""
    expected = outputs_of(module, X, Y)
    outputs = list(expected)
    program, path = write_plain(module, (X, Y), ["x", "y"], C), tmp_path / "ops.h"
    path.write_text(header(outputs, program, "ops", []))
    runner = compiled(["x", "y"], outputs, program, path)
    assert runner is not None
    found = runner({"x": X[None].numpy(), "y": Y[None].numpy()})
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].reshape(value.shape), value.numpy(), rtol=2e-6, atol=1e-6)


OPS = """
const act = new Function(require("fs").readFileSync(process.argv[1], "utf8") + "return ops;")();
const given = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(act(...given).map(array => [...array].map(String))));
"""


@needs_node
@pytest.mark.parametrize("module", [Operations(), Kinds()])
def test_operations_in_a_page_are_pytorchs(module: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "ops.js"
    path.write_text(script([("ops", write_plain(module, (X, Y), ["x", "y"], JS))]))
    given = json.dumps([X.ravel().tolist(), Y.ravel().tolist()])
    done = run(["node", "-e", OPS, str(path)], input=given, capture_output=True, text=True)
    assert not done.stderr
    for found, value in zip(json.loads(done.stdout), outputs_of(module, X, Y).values(), strict=True):
        ours = np.array([float(number) for number in found]).reshape(value.shape)
        np.testing.assert_allclose(ours, value.numpy(), rtol=2e-6, atol=1e-6)


# Lines of [state, action, uniform] in, of [[next state, reward, ended], [observations]] out
WORLD = """
const rules = new Function(require("fs").readFileSync(process.argv[1], "utf8") + "return [begin, tick, see];")();
const plain = arrays => arrays.map(array => [...array]);
const [begin, tick, see] = rules, [first, lines] = JSON.parse(require("fs").readFileSync(0, "utf8"));
const moved = lines.map(line => { const made = tick(...line); return [plain(made), plain(see(made[0]))]; });
console.log(JSON.stringify([plain(begin(first)), moved]));
"""
GAMES = ["CartPole-v1", "Bricks-v0"]


def rules_agree(env_id: str, folder: Path) -> None:
    env: Any = make(env_id, 1, vec="native")
    path, random, rules = folder / "rules.js", np.random.default_rng(0), env.dynamics
    path.write_text(script(world_programs(env)))
    env.action_space.seed(0)
    first = random.random((rules.uniforms, 1))
    begun = state = rules.init(np, first)
    lines, expected = [], []
    for _ in range(300):
        action, uniform = np.asarray(env.action_space.sample())[None], random.random((rules.step_uniforms, 1))
        lines.append([state[:, 0].tolist(), action.ravel().tolist(), uniform[:, 0].tolist()])
        state, reward, ended = rules.step(np, state, action, uniform)
        seen = rules.observe(np, state)
        leaves = list(seen.values()) if isinstance(seen, dict) else [seen]
        expected.append(([state, reward, ended], leaves))
        if ended[0]:
            state = rules.init(np, random.random((rules.uniforms, 1)))
    done = run(
        ["node", "-e", WORLD, str(path)],
        input=json.dumps([first[:, 0].tolist(), lines]),
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    made, moved = json.loads(done.stdout)
    np.testing.assert_allclose(made[0], begun[:, 0], rtol=1e-12)
    for found, arrays in zip(moved, expected, strict=True):
        for ours, theirs in zip(found, arrays, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(one, np.ravel(other), rtol=1e-6, atol=1e-7)


@needs_node
@pytest.mark.parametrize("env_id", GAMES)
def test_rules_in_a_page_are_the_environments(env_id: str, tmp_path: Path) -> None:
    rules_agree(env_id, tmp_path)


@long_test
@needs_node
@pytest.mark.parametrize("env_id", sorted({task.env_id for task in DYNAMICS.values()} - set(GAMES)))
def test_rules_of_all_native_environments_in_a_page(env_id: str, tmp_path: Path) -> None:
    rules_agree(env_id, tmp_path)


@needs_node
def test_a_page_acts_as_the_policy_and_holds_no_name_as_html(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    loaded = policy(PPO_SMALL | {"env": "CartPole-v1", "memory": "lstm", "memory_size": 4}, tmp_path / "model")
    exported, path = Exported(loaded), tmp_path / "policy.html"
    config = loaded.config.model_copy(update={"action_names": ["@@CODE@@", "@@TITLE@@"]})
    write_web(exported, ABOUT | {"env": "</script><b>x"}, path, replace(loaded, config=config))
    text = path.read_text()
    assert "</script><b>" not in text
    assert '"@@CODE@@", "@@TITLE@@"' in text
    assert "PPO on &lt;/script&gt;&lt;b&gt;x, step 64" in text
    assert '"pole angle"' in text
    runner = web_runner(exported, path)
    assert runner is not None
    found = check(exported, runner, loaded, 100, 2, lambda done, total: None)
    assert (found.states, found.differing) == (100, 0)


def test_the_place_of_a_page_is_no_option_of_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = policy(PPO_SMALL | {"env": "CartPole-v1"}, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    folder = Path("--require=.")
    folder.mkdir()
    Path("policy.html").write_text('require("fs").writeFileSync("ran", "")')
    exported = Exported(loaded)
    write_web(exported, ABOUT, folder / "policy.html", loaded)
    runner = web_runner(exported, folder / "policy.html")
    assert runner is not None
    assert check(exported, runner, loaded, 20, 2, lambda done, total: None).states == 20
    assert not Path("ran").exists()


def test_a_page_needs_rules_that_are_known(tmp_path: Path) -> None:
    loaded = policy(CASES["masks, memory, several actions"], tmp_path)
    with pytest.raises(UserError, match="no native environment of this suite"):
        write_web(Exported(loaded), ABOUT, tmp_path / "policy.html", loaded)


def test_what_cannot_be_exported_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = policy(MODELS["ppo"], tmp_path)
    cleaned = loaded.config.params.model_copy(
        update={"observations": loaded.config.params.observations.model_copy(update={"on_nan": "fill"})}
    )
    with pytest.raises(UserError, match=r"cleaned \(on_nan\) cannot be exported"):
        Exported(replace(loaded, config=loaded.config.model_copy(update={"params": cleaned})))
    assert main([str(tmp_path), "--check", "-1"]) == 2
    assert "--check: -1 given, at least 0 expected." in capsys.readouterr().err
    assert main([str(tmp_path), "--to", "onnix"]) == 2
    assert "onnx" in capsys.readouterr().err


@needs_cc
def test_the_command_writes_checks_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy(MODELS["ppo"], tmp_path)
    assert main([str(tmp_path), "--to", "c", "--check", "100", "--json"]) == 0
    shown = capsys.readouterr().out
    assert "takes obs [4]; gives action" in shown
    assert '"differing": 0' in shown
    assert (tmp_path / "policy.h").read_text().count("policy_act(const float obs[4], int64_t action[1])") == 1


def test_numbers_are_those_of_c() -> None:
    floats = [C.number(value, "float") for value in (1.0, 0.1, 1e20, 1e300, -math.inf, math.nan)]
    assert floats == ["1.0f", "0.1f", "1e+20f", "INFINITY", "-INFINITY", "NAN"]
    assert [C.number(value, "double") for value in (2.0, 1e300, math.inf)] == ["2.0", "1e+300", "INFINITY"]
    assert [C.number(value, "int") for value in (2.0, -3)] == ["2", "-3"]


def test_names_are_identifiers() -> None:
    assert identifiers(["obs/left hand.x-1"]) == ["obs_left_hand_x_1"]
    assert identifiers(["obs/a-b", "obs/a_b", "obs/a.b"]) == ["obs_a_b", "obs_a_b_2", "obs_a_b_3"]
    assert identifiers(["2nd try"]) == ["policy_2nd_try"]


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        write_bytes(tmp_path / "nowhere" / "policy.onnx", b"x")
