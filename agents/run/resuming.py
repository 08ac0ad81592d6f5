"""A run that goes on: from which checkpoint, and whether there is anything left to do."""

from __future__ import annotations

from agents.core.saved import part
from agents.run.folder import RunFolder
from agents.run.monitor import Monitor
from agents.run.summary import env_flags, resume_command
from agents.run.terminal import typed
from agents.run.training import Training, restore
from agents.run.trees import read_tree
from envs.errors import UserError


def load_latest(training: Training, monitor: Monitor, folder: RunFolder) -> list[str]:
    """Restore the newest checkpoint that is whole; return a sentence for each thing worth telling.

    Raises:
        UserError: no checkpoint of the run can be read.
    """
    said = []
    if (how := folder.made_by()) is not None:
        config = training.config
        env = env_flags(config.env, config.env_kwargs, config.wrappers)
        begin = typed("python", "-m", "agents.train", *env, "--from", folder.shown)
        raise UserError(f"{folder.shown} was made by {how}, and there is no training to go on with. Begin one: {begin}")
    for step, path in reversed(folder.checkpoints()):
        if not (path / "state.json").exists() and not (path / "state.safetensors").exists():
            continue
        try:
            state, _ = read_tree(path, "state")
            told = restore(training, state)
            monitor.load_state_dict(part(state, "monitor"))
            if training.step != step:
                raise ValueError(f"it is of step {training.step}")
        except (UserError, ValueError) as error:
            misfit = "" if isinstance(error, UserError) else "it does not fit this run: "
            said.append(f"checkpoint {step} was passed over: {misfit}{' '.join(str(error).split())}")
            continue
        return said + told
    anew = f"start it anew: {typed('python', '-m', 'agents.train', '--config', folder.shown / folder.config_file.name)}"
    raise UserError("\n  ".join([f"{folder.shown}: there is no checkpoint to resume from; {anew}", *said]))


def refuse_finished(training: Training, monitor: Monitor, folder: RunFolder) -> None:
    """Raise UserError if a run came to its end and its settings leave nothing to do."""
    step, params = training.step, training.config.params
    if folder.concluded() != step:
        return
    if step >= params.total_timesteps:
        done = f"it has trained {step:,} steps, and -n, of all together, is {params.total_timesteps:,}"
        more = f"-n {2 * step}"
    elif monitor.target_reached(params.target_reward):
        done, more = f"at step {step:,} it reached its target_reward {params.target_reward:g}", "--target-reward none"
    else:
        return
    raise UserError(f"{folder.shown} is finished: {done}. To train on: {resume_command(folder.shown)} {more}")
