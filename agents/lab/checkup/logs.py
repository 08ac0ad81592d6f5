"""The numbers of a training from its logs: a run folder of ours, or TensorBoard's event files of SB3 or CleanRL.

Event files may be anybody's: of each so much is read and no more, and nothing in them is run.
"""

from __future__ import annotations

import re
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from agents.run.doctor.history import History
from agents.run.doctor.sink import fill
from agents.run.folder import RunFolder
from agents.run.monitor import WINDOW
from agents.run.storage import opened
from agents.run.yaml_files import load_config_file
from envs.errors import UserError

LIMIT = 2**30  # bytes of an event file
MOST_RECORD = 2**20  # bytes of a record that is looked at; pictures and videos are larger
MOST_FILES = 50
MOST_TEXT = 2**16
TAGS = {  # of CleanRL -> SB3's
    "charts/episodic_return": "rollout/ep_rew_mean",
    "charts/episodic_length": "rollout/ep_len_mean",
    "charts/learning_rate": "train/learning_rate",
    "charts/epsilon": "rollout/exploration_rate",
    "losses/value_loss": "train/value_loss",
    "losses/policy_loss": "train/policy_gradient_loss",
    "losses/entropy": "train/entropy_loss",
    "losses/approx_kl": "train/approx_kl",
    "losses/clipfrac": "train/clip_fraction",
    "losses/explained_variance": "train/explained_variance",
    "losses/td_loss": "train/loss",
    "losses/q_values": "train/q_mean",
}
EPISODES = ("charts/episodic_return", "charts/episodic_length")  # of one episode each, where SB3 has means
SETTINGS = {  # of CleanRL -> SB3's
    **{name: name for name in ("total_timesteps", "buffer_size", "batch_size", "learning_starts", "gamma", "tau")},
    **{"num_envs": "n_envs", "num_steps": "n_steps", "target_network_frequency": "target_update_interval"},
    **{"exploration_fraction": "exploration_fraction", "start_e": "exploration_initial_eps"},
    **{"end_e": "exploration_final_eps", "max_grad_norm": "max_grad_norm"},
}


def read_history(folder: Path) -> History:
    """Return the numbers that a folder holds.

    Raises:
        UserError: there is nothing of the kind, or a file is torn or foreign.
    """
    if (folder / "config.yaml").is_file():
        run = RunFolder.open(folder)
        history = History(load_config_file(run.config_file))
        fill(history, folder)
        return history
    return read_events(folder)


def read_events(folder: Path) -> History:
    """Return the numbers in the event files of a folder, the oldest file first, under SB3's names.

    Raises:
        UserError: it holds none, or one is no event file.
    """
    files = sorted(folder.glob("*.tfevents.*"))[:MOST_FILES] if folder.is_dir() else []
    if not files:
        inside = sorted({file.parent for file in folder.glob("*/*.tfevents.*")})[:3] if folder.is_dir() else []
        near = f" There are some in {', '.join(map(str, inside))}." if inside else ""
        raise UserError(
            f"{folder} holds no training: a run folder has config.yaml, and logs of others have TensorBoard's event "
            f"files (events.out.tfevents.*).{near}"
        )
    history, episodes = History(), {tag: deque[float](maxlen=WINDOW) for tag in EPISODES}
    for file in files:
        for step, tag, value in _values(file):
            if isinstance(value, str):
                history.facts |= dict(_settings(value)) if tag.startswith("hyperparameters") else {}
                continue
            if tag in episodes:
                episodes[tag].append(value)
                value = fmean(episodes[tag])
            if tag == "losses/entropy":
                value = -value
            history.write(step, {TAGS.get(tag, tag): value})
    return history


def _values(file: Path) -> Iterator[tuple[int, str, float | str]]:
    """Yield step, tag and value of each number and short text in an event file.

    Raises:
        UserError: it is none.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    for content in _records(file):
        try:
            event: Any = Event.FromString(content)
        except DecodeError as error:
            raise UserError(f"{file} is no event file of TensorBoard's, or is torn: {error}") from error
        for value in event.summary.value:
            found = _plain(value)
            if found is not None and 0 <= event.step < 2**48 and value.tag.isprintable() and len(value.tag) <= 200:
                yield event.step, value.tag, found


def _plain(value: Any) -> float | str | None:
    """Return the number or text of a summary's value; None where it has neither."""
    if value.WhichOneof("value") == "simple_value":
        return float(value.simple_value)
    tensor = value.tensor
    if len(tensor.float_val) == 1:
        return float(tensor.float_val[0])
    if tensor.dtype == 1 and len(tensor.tensor_content) == 4:  # DT_FLOAT
        return float(struct.unpack("<f", tensor.tensor_content)[0])
    if len(tensor.string_val) == 1 and len(tensor.string_val[0]) <= MOST_TEXT:
        return bytes(tensor.string_val[0]).decode(errors="replace")
    return None


def _records(file: Path) -> Iterator[bytes]:
    """Yield the records of a file: length (8 bytes), its checksum (4), content, and its checksum (4).

    The last one may be torn, as a process that is killed leaves it. Larger ones than `MOST_RECORD` are passed over.
    """
    with opened(file, LIMIT) as stream:
        size, place = stream.seek(0, 2), stream.seek(0)
        while place + 12 <= size:
            stream.seek(place)
            (length,) = struct.unpack("<Q", stream.read(12)[:8])
            if place + 16 + length > size:
                if place == 0:
                    raise UserError(f"{file} is no event file of TensorBoard's")
                return
            if length <= MOST_RECORD:
                yield stream.read(length)
            place += 16 + length


def _settings(text: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers of the table in which CleanRL notes its settings, by SB3's names.

    What kind its actions are of only the name of its script says, such as ppo_continuous_action.
    """
    if re.search(r"\|exp_name\|\w*continuous\w*\|", text):
        yield "continuous_actions", True
    for name, number in re.findall(r"\|(\w{1,60})\|([-+.\de]{1,30})\|", text):
        try:
            value = float(number)
        except ValueError:
            continue
        if name in SETTINGS:
            yield SETTINGS[name], int(value) if value.is_integer() else value
