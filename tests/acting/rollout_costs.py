"""Says what rollouts in kernels take of a GPU: `python -m tests.acting.rollout_costs`, a line for each task."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from agents.algos.ppo.config import PPOConfig
from agents.core.triton_source import kernel_of
from envs.make import make
from tests.core.kernels import compiled, cost
from tests.fakes import training_on

NAMES = {torch.float64: "fp64", torch.float32: "fp32", torch.int64: "i64", torch.bool: "i1", torch.uint8: "u8"}
TASKS = (
    *("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "Corridor-v0"),
    *("CartPoleNoVel-v1", "PendulumNoVel-v1", "MountainCarContinuousNoVel-v0"),
)


def source(task, **options):
    """Return what a rollout of PPO with its usual networks is in Triton."""
    env = make(task, 8, vec="native", tensors=True, device="cpu")
    collector = training_on(env, PPOConfig(n_envs=8, n_steps=4, batch_size=32, **options)).collector
    collector._make_static()
    return collector._source()


def main():
    cases = [(task, {}) for task in TASKS] + [("CartPole-v1", {"net_arch": (128, 128)})]
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        for task, options in cases:
            made = source(task, **options)
            types = {name: f"*{NAMES[dtype]}" for name, dtype in made.types.items()} | {"ticks": "i32", "envs": "i32"}
            program = compiled(kernel_of(made.text), types, {}, made.warps)
            with tempfile.TemporaryDirectory() as folder:
                found = cost(program, Path(folder))
            how = f"{task} {options or ''} {'tf32' if tf32 else 'float32'}"
            print(
                f"{how}: {found.registers} registers, {found.spilled} bytes spilled: {found.spilled} bytes", flush=True
            )


if __name__ == "__main__":
    main()
