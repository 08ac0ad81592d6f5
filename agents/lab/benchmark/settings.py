"""The settings of the benchmark's cases."""

from __future__ import annotations

from typing import Any

CARTPOLE, SOLVED = "CartPole-v1", 475.0  # its own threshold, for the mean of 100 episodes
MODES = {"cpu": {"on": "ours, compiled"}, "cuda": {mode: f"ours, {mode}" for mode in ("graphs", "on", "kernels")}}
TRAINING_ALONE: dict[str, Any] = {"eval_freq": 0, "save_freq": 0, "target_reward": None, "final_eval_episodes": 0}

SAME_PPO: dict[str, Any] = {
    "n_envs": 8,
    "n_steps": 128,
    "batch_size": 256,
    "n_epochs": 4,
    "learning_rate": 2.5e-4,
    "net_arch": [64, 64],
    "activation": "tanh",
}
SAME_RECURRENT = SAME_PPO | {"memory": "lstm", "memory_size": 64, "memory_layers": 1}
MANY_ENVS = SAME_PPO | {"n_envs": 64, "batch_size": 2_048}
MOST_ENVS = SAME_PPO | {"n_envs": 256, "n_steps": 64, "batch_size": 4_096}
ON_GPU = SAME_PPO | {"n_envs": 4_096, "n_steps": 32, "batch_size": 32_768}
WHOLE = 13_107_200  # steps, 100 rollouts of these
PIXELS_ON_GPU = SAME_PPO | {"n_envs": 1_024, "n_steps": 32, "batch_size": 8_192, "activation": "relu"}
SAME_DQN: dict[str, Any] = {
    "n_envs": 1,
    "batch_size": 128,
    "train_freq": 10,
    "gradient_steps": 1,
    "buffer_size": 10_000,
    "learning_starts": 1_000,
    "target_update_interval": 500,
    "learning_rate": 2.5e-4,
    "exploration_fraction": 0.5,
    "net_arch": [120, 84],
    "activation": "relu",
    "double_q": False,  # SB3's DQN has none
    "n_step_returns": 1,  # as SB3's by default
}
DQN_ON_GPU = SAME_DQN | {
    **{"n_envs": 1_024, "batch_size": 8_192, "train_freq": 8_192, "gradient_steps": 8},
    **{"buffer_size": 1_000_000, "learning_starts": 16_384, "target_update_interval": 65_536},
}
ATARI = "ALE/Breakout-v5"
ATARI_PPO: dict[str, Any] = {  # SB3's tuned settings, of rl-zoo3; learnt from are rewards as they are
    **{"n_envs": 8, "n_steps": 128, "batch_size": 256, "n_epochs": 4, "learning_rate": "lin_2.5e-4"},
    **{"clip_range": "lin_0.1", "vf_coef": 0.5, "ent_coef": 0.01, "net_arch": []},
    "clip_reward": False,
}
ATARI_DQN: dict[str, Any] = {  # the same, but for what is begun and held: 100,000 transitions in both
    **{"n_envs": 1, "batch_size": 32, "train_freq": 4, "gradient_steps": 1, "learning_rate": 1e-4},
    **{"buffer_size": 10_000, "learning_starts": 500, "target_update_interval": 1_000, "net_arch": []},
    **{"exploration_fraction": 0.1, "exploration_final_eps": 0.01, "clip_reward": False, "double_q": False},
}
SAME_SAC: dict[str, Any] = {
    "n_envs": 1,
    "batch_size": 256,
    "train_freq": 1,
    "gradient_steps": 1,
    "buffer_size": 20_000,
    "learning_starts": 100,
    "learning_rate": 1e-3,
    "net_arch": [256, 256],
}
