"""Tasks without velocities: all else is as in the tasks themselves, in arrays and as Gymnasium's environments."""

from __future__ import annotations

import numpy as np
import pytest

from envs.make import make
from envs.single import make_single

HIDDEN = {
    "CartPoleNoVel-v1": ("CartPole-v1", [1, 3]),
    "PendulumNoVel-v1": ("Pendulum-v1", [2]),
    "MountainCarContinuousNoVel-v0": ("MountainCarContinuous-v0", [1]),
}


@pytest.mark.parametrize("vec", ["native", "sync"])
@pytest.mark.parametrize("name", HIDDEN)
def test_only_the_velocities_are_hidden(name, vec):
    """Rewards, ends and all other numbers are those of the task, of which the state goes on as it was."""
    original, hidden = HIDDEN[name]
    ours, theirs = make(name, 3, vec=vec), make(original, 3, vec=vec)
    assert ours.observation_space == theirs.observation_space
    seen, whole = ours.reset(5), theirs.reset(5)
    rng, moved = np.random.default_rng(0), False
    for _ in range(60):
        moved = moved or bool(whole[:, hidden].any())
        whole[:, hidden] = 0
        np.testing.assert_allclose(seen, whole, atol=1e-6)
        space = ours.action_space
        action = rng.integers(0, 2, 3) if hasattr(space, "n") else rng.uniform(-1, 1, (3, 1)).astype(np.float32)
        one, other = ours.step(action), theirs.step(action)
        np.testing.assert_allclose(one.reward, other.reward, atol=1e-5)
        np.testing.assert_array_equal(one.terminated, other.terminated)
        seen, whole = one.obs, np.array(other.obs)
    assert moved, "there were velocities to hide"


@pytest.mark.parametrize("name", HIDDEN)
def test_they_are_drawn_as_the_tasks_are(name):
    pytest.importorskip("pygame")
    pictures = []
    for env_id in (name, HIDDEN[name][0]):
        env = make_single(f"native/{env_id}", render_mode="rgb_array")
        env.reset(seed=0)
        pictures.append(env.render())
        env.close()
    np.testing.assert_array_equal(*pictures)
