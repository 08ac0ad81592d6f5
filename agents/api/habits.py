"""What programs for stable-baselines3, and users of the command, ask of a model, and what there is here instead."""

from __future__ import annotations

POLICIES = ("MlpPolicy", "CnnPolicy", "MultiInputPolicy", "MlpLstmPolicy")
ARGUMENTS = {
    "verbose": "learn(..., quiet=True) prints nothing",
    "tensorboard_log": "learn(..., runs_dir='runs') writes a run folder, TensorBoard's events in it",
    "policy_kwargs": "network settings are settings like all others, such as net_arch=[64, 64]",
    "policy": "the network follows from the observation space and from settings such as net_arch=[64, 64]",
    "progress_bar": "learn shows progress unless quiet=True",
}
LEARN = {
    "progress_bar": ARGUMENTS["progress_bar"],
    "callback": "train(...) yields after every round, and whatever you do there is the callback",
    "log_interval": "train(...) yields after every round: print what you want of progress.scalars",
    "tb_log_name": "learn(..., runs_dir='runs', name='...') names the run",
    "reset_num_timesteps": "learn called again goes on; a new model begins anew",
}

COMMAND = {  # options of `python -m agents.train` that are neither settings nor arguments of `learn`
    "resume": "load(run, 'latest').learn(...) goes on with a run",
    **dict.fromkeys(
        ("record", "record_steps"), "learn(..., runs_dir='runs', replays_dir='replays') records an episode"
    ),
    "doctor": "learn(..., runs_dir='runs') looks for what keeps the training from learning, as the command does",
    "watch": "python -m agents.watch --follow RUN shows how a run learns that learn(..., runs_dir='runs') keeps",
    **{
        name: f"--{name.replace('_', '-')} is an option of the command, python -m agents.train, alone"
        for name in ("seeds", "workers", "dry_run", "film", "track", "tracker", "wandb_project_name", "json", "debug")
    },
}

_ENVS = "a model makes its environments itself; observation_space and action_space are theirs"
_REPLAY = "save(path) keeps what is replayed, and a model that load(path) returns goes on with it"
_SCALARS = "train(...) yields progress.scalars, and learn(..., runs_dir='runs') writes them as curves"
_NETWORK = "policy.model is the network, a torch.nn.Module"
ATTRIBUTES = {
    "load": "load(path) loads models of every algorithm: from agents import load",
    "set_env": "evaluate(env=...) plays in another environment; to train in one, give the class pretrained='runs/...'",
    **dict.fromkeys(("env", "get_env", "get_vec_normalize_env"), _ENVS),
    **dict.fromkeys(("logger", "set_logger", "ep_info_buffer"), _SCALARS),
    "set_random_seed": "the seed is given when a model is made: seed=...",
    **dict.fromkeys(("replay_buffer", "save_replay_buffer", "load_replay_buffer"), _REPLAY),
    **dict.fromkeys(("rollout_buffer", "collect_rollouts"), "train(...) collects a round, learns from it and yields"),
    **dict.fromkeys(("actor", "critic", "q_net", "q_net_target"), _NETWORK),
}
