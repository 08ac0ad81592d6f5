"""What other programs call our settings and flags: a name typed out of habit is answered with ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from envs.errors import listed, nearest

# Ours -> the names of CleanRL, rl-zoo3 (its short flags too), Tianshou, RLlib and others
_OTHERS = {
    "env": "env_id env_name environment task gym_id",
    "env_kwargs": "env_config env_args",
    "algo": "algorithm agent run_algo",
    "seed": "random_seed",
    "device": "cuda gpu use_gpu use_cuda no_cuda num_gpus",
    "vec": "vec_env vec_type vectorization vectorization_mode",
    "name": "exp_name experiment_name run_name",
    "total_timesteps": "timesteps total_steps max_steps num_timesteps total_frames max_timesteps stop_timesteps steps",
    "n_envs": "nenvs num_env envs training_num num_workers num_env_runners num_envs_per_env_runner n_workers",
    "n_steps": "num_steps nsteps rollout_length rollout_steps rollout_fragment_length step_per_collect horizon",
    "learning_rate": "lr alpha step_size pi_lr vf_lr policy_lr lr_schedule anneal_lr",
    "batch_size": "minibatch_size sgd_minibatch_size mini_batch_size num_minibatches nminibatches train_batch_size",
    "n_epochs": "update_epochs num_epochs num_sgd_iter ppo_epochs k_epochs repeat_per_collect noptepochs epochs",
    "gamma": "discount discount_factor discount_rate",
    "gae_lambda": "lam lambda lambda_ gae_lam td_lambda",
    "ent_coef": "entropy_coef entropy_coeff ent_coeff entropy_cost entropy_coefficient entropy_weight beta "
    "initial_alpha init_temperature autotune",
    "vf_coef": "value_coef vf_coeff vf_loss_coeff value_loss_coef critic_coef",
    "clip_range": "clip_coef clip_param eps_clip clip_ratio cliprange clip clip_epsilon ppo_clip",
    "clip_range_vf": "clip_vloss value_clip vf_clip_param vf_clip",
    "normalize_advantage": "norm_adv advantage_norm normalize_advantages",
    "norm_reward": "normalize normalize_reward reward_norm rew_norm normalize_rewards",
    "clip_reward": "clip_rewards reward_clipping reward_clip",
    "norm_obs": "normalize normalize_obs obs_norm normalize_observations",
    "target_kl": "kl_target max_kl",
    "max_grad_norm": "grad_clip clip_grad_norm gradient_clip grad_norm",
    "net_arch": "hidden_sizes hidden_size hidden_dim hidden hid layers fcnet_hiddens num_hidden n_hidden units",
    "activation": "activation_fn fcnet_activation nonlinearity",
    "ortho_init": "orthogonal_init orthogonal",
    "memory": "lstm use_lstm recurrent rnn use_rnn policy_rnn",
    "memory_size": "lstm_hidden_size lstm_cell_size rnn_size rnn_hidden_size",
    "buffer_size": "replay_size replay_buffer_size memory_capacity capacity buffer_capacity replay_capacity",
    "learning_starts": "warmup_steps start_steps learn_start min_buffer_size num_steps_sampled_before_learning_starts",
    "train_freq": "update_every update_freq train_frequency training_intensity",
    "gradient_steps": "update_per_step n_updates",
    "n_step_returns": "n_step nstep multi_step",
    "target_update_interval": "target_update_freq target_network_update_freq target_network_frequency target_update",
    "tau": "polyak polyak_tau soft_update",
    "target_entropy": "target_ent entropy_target",
    "n_critics": "n_qs num_critics n_q_networks num_qs",
    "truncated_quantiles": "tqc",
    "double_q": "double is_double double_dqn ddqn",
    "exploration_initial_eps": "start_e eps_start initial_epsilon epsilon_start",
    "exploration_final_eps": "end_e eps_end final_epsilon epsilon epsilon_end eps eps_train min_epsilon",
    "exploration_fraction": "eps_decay epsilon_decay exploration_decay",
    "target_reward": "reward_threshold stop_reward",
    "eval_freq": "eval_interval evaluation_interval test_freq n_evaluations num_evaluations",
    "eval_episodes": "n_eval_episodes num_eval_episodes evaluation_duration test_num",
    "save_freq": "checkpoint_freq save_interval checkpoint_interval",
    "runs_dir": "f tb logdir log_dir log_folder tensorboard_log output_dir save_path",
    "config": "c conf_file config_file cfg yaml_file",
    "resume": "i resume_path trained_agent load checkpoint_path restore",
    "track": "wandb use_wandb",
    "wandb_project_name": "wandb_project project_name",
    "record_every": "record_freq video_interval",
    "histogram_freq": "histograms",
    "record": "capture_video save_video video",
    "quiet": "verbose silent",
    "episodes": "n_episodes num_episodes n_eval_episodes",
    "stochastic": "deterministic",
    "seeds": "n_seeds num_seeds",
    "workers": "n_jobs num_workers jobs",
}
_NEEDLESS = dict.fromkeys(
    ("tensorboard", "log_interval"), "Every run writes its curves into its folder, for TensorBoard."
) | {
    "wandb_entity": "It is the environment variable WANDB_ENTITY.",
    "policy": "Leave it out: the network follows from the observation space and from settings such as net_arch.",
    "policy_kwargs": "Settings of the network are settings like all others: net_arch, activation, ortho_init.",
    **dict.fromkeys(("params", "hyperparams"), "Each setting is a flag of its own, and --config FILE takes many."),
    **dict.fromkeys(("optimize", "optimize_hyperparameters"), "python -m agents.tune searches for good settings."),
    **dict.fromkeys(("p", "progress", "progress_bar"), "Progress is shown unless --quiet is given."),
    "save_model": "Every run saves its model into its folder.",
    "save_replay_buffer": "Every run saves what it replays with its checkpoints (--save-freq).",
    **dict.fromkeys(("upload_model", "hf_entity"), "python -m agents.hub uploads a run."),
    "uuid": "The folder of every run has a name of its own.",
    "torch_deterministic": "The same seed repeats a run on the CPU as it is.",
}

_ALGOS = {  # others' names -> the algorithm and the settings that are it here
    "rainbow": "dqn preset=rainbow",
    "r2d2": "dqn preset=r2d2",
    "btr": "dqn preset=btr",
    **dict.fromkeys(("ddqn", "doubledqn"), "dqn preset=double"),
    "c51": "dqn distribution=c51",
    "qrdqn": "dqn distribution=qr",
    "iqn": "dqn distribution=iqn",
    "tqc": "sac preset=tqc",
    "crossq": "sac preset=crossq",
    **dict.fromkeys(("recurrentppo", "ppolstm"), "ppo memory=lstm"),
    "maskableppo": "ppo",
}
_NEAREST = dict.fromkeys(("trpo", "a2c", "a3c", "acktr", "reinforce"), "ppo") | dict.fromkeys(("td3", "ddpg"), "sac")
_REMARKS = {"maskableppo": ", which finds masks of actions by itself"}


def algorithm(name: str, written: Callable[..., str]) -> str:
    """Return a sentence, with its leading space, on the algorithm that others call `name`; "" where it is none.

    Args:
        written: how an algorithm of ours is written in it, with settings, which are texts.
    """
    plain = re.sub(r"[\W_]", "", name.lower())
    if plain in _NEAREST:
        return f" There is no {name} here; {written(_NEAREST[plain])} comes nearest."
    if plain not in _ALGOS:
        return ""
    algo, *settings = _ALGOS[plain].split()
    return f" That is {written(algo, **dict(one.split('=') for one in settings))}{_REMARKS.get(plain, '')}."


def ours(name: str, known: Collection[str]) -> list[str]:
    """Return which of the `known` names another program calls `name`; underscores and case do not matter."""
    plain = name.replace("-", "_").lower()
    return [own for own, others in _OTHERS.items() if own in known and plain in others.split()]


def suggestion(name: str, known: Collection[str], written: Callable[[str], str] = str) -> str:
    """Return a sentence, with its leading space, on what is meant by a `name` that is not `known`; "" without an idea.

    Args:
        written: how a known name is written in it.
    """
    if needless := _NEEDLESS.get(name.replace("-", "_").lower()):
        return f" {needless}"
    found = ours(name, known) or nearest(name, known)
    return f" Did you mean {listed(list(map(written, found)), 'or')}?" if found else ""
