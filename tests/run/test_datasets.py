"""Recorded episodes: written for Minari, read back from every format, and hostile files refused in one line."""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.__main__ import main as agents
from agents.run.datasets.columns import read_csv, read_npz
from agents.run.datasets.minari import Episode, read_minari, write_episode, write_set
from agents.run.datasets.reading import load_dataset
from agents.run.datasets.room import Room
from agents.run.datasets.spaces import from_minari, to_minari
from agents.run.models import load_policy
from envs.errors import UserError
from tests.run.running import train

h5py = pytest.importorskip("h5py")

NESTED = spaces.Dict(
    {
        "place": spaces.Discrete(5, start=2),
        "pair": spaces.Tuple([spaces.Box(-1, 1, (2,), np.float32), spaces.MultiBinary(3)]),
        "picture": spaces.Box(0, 255, (4, 4, 3), np.uint8),
        "word": spaces.Text(8, charset="abc "),
    }
)
ACTIONS = spaces.Tuple([spaces.Discrete(3, start=1), spaces.Box(-2, 2, (2,), np.float32)])


def written(folder: Path, own_spaces: tuple[gymnasium.Space, gymnasium.Space], lengths: list[int]) -> Path:
    """Write a set of random episodes; return its folder."""
    folder.mkdir()
    files = []
    for index, length in enumerate(lengths):
        for seed, space in enumerate(own_spaces):
            space.seed(10 * index + seed)
        obs = [own_spaces[0].sample() for _ in range(length + 1)]
        ends = [*[False] * (length - 1), True]
        episode = Episode(index, obs, [own_spaces[1].sample() for _ in range(length)], list(range(length)), ends, ends)
        files.append(folder / f"{index}.hdf5")
        write_episode(files[-1], episode, own_spaces)
    write_set(folder, files, own_spaces, {"dataset_id": "test/nested-v0"})
    return folder


@pytest.mark.parametrize("space", [NESTED, ACTIONS, spaces.MultiDiscrete([2, 3]), spaces.Box(-np.inf, 3.0, (2, 2))])
def test_minaris_spaces_come_back(space: gymnasium.Space) -> None:
    assert from_minari(json.dumps(to_minari(space))) == space


def test_nested_episodes_come_back(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", (NESTED, ACTIONS), [3, 5])
    data = load_dataset(folder, (NESTED, ACTIONS))
    assert data.lengths.tolist() == [3, 5]
    assert data.seeds == [0, 1]
    assert data.reward.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert data.terminated.tolist() == data.truncated.tolist() == [0, 0, 1, 0, 0, 0, 0, 1]
    NESTED.seed(10)
    first = NESTED.sample()
    row = 4  # the second episode begins after the four observations of the first
    assert data.rows[3] == row
    assert data.obs["place"][row] == first["place"] - 2
    assert data.obs["pair/0"][row].tolist() == first["pair"][0].tolist()
    assert (data.obs["picture"][row] == first["picture"]).all()
    ACTIONS.seed(1)
    choice, numbers = ACTIONS.sample()
    assert data.action[0].tolist() == [choice - 1, *numbers.tolist()]


def test_minari_reads_what_is_written(tmp_path: Path) -> None:
    minari = pytest.importorskip("minari")
    folder = written(tmp_path / "set", (NESTED, ACTIONS), [3, 5])
    read = minari.MinariDataset(folder / "data")
    assert (read.total_episodes, read.total_steps) == (2, 8)
    assert (read.observation_space, read.action_space) == (NESTED, ACTIONS)
    episode = read[1]
    NESTED.seed(10)
    first = NESTED.sample()
    assert episode.observations["place"][0] == first["place"]
    assert episode.observations["word"][0] == first["word"]
    assert (episode.observations["picture"][0] == first["picture"]).all()
    assert episode.rewards.tolist() == [0, 1, 2, 3, 4]


def test_what_minari_wrote_is_read(tmp_path: Path) -> None:
    storage = pytest.importorskip("minari.dataset.minari_storage")
    buffers = pytest.importorskip("minari.data_collector.episode_buffer")
    pictures = spaces.Box(0, 255, (32, 32, 3), np.uint8)
    own_spaces = spaces.Dict({"picture": pictures, "numbers": spaces.Box(-1, 1, (2,))}), spaces.Discrete(3)
    made = storage.MinariStorage.new(tmp_path / "theirs", *own_spaces)
    flat = {"picture": [np.full((32, 32, 3), 10 * i, np.uint8) for i in range(3)], "numbers": np.eye(3, 2)}
    ends = [False, True]
    made.update_episodes([buffers.EpisodeBuffer(None, 7, None, flat, [2, 0], [0.5, 1.5], ends, [False, False])])
    data = load_dataset(tmp_path / "theirs", own_spaces)
    assert data.seeds == [7]
    assert data.action.tolist() == [2, 0]
    assert data.reward.tolist() == [0.5, 1.5]
    assert data.obs["numbers"].tolist() == np.eye(3, 2).tolist()
    assert data.obs["picture"][:, 5, 5].mean(1).tolist() == pytest.approx([0, 10, 20], abs=1)  # JPEG loses a little


def test_a_picture_that_says_it_is_huge_is_refused(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    folder = written(tmp_path / "set", (spaces.Box(0, 255, (32, 32, 3), np.uint8), spaces.Discrete(2)), [1])
    packed = io.BytesIO()
    pillow.new("RGB", (32, 32)).save(packed, "JPEG")
    size = struct.pack(">HH", 32, 32)
    assert packed.getvalue().count(size) == 1
    huge_one = packed.getvalue().replace(size, struct.pack(">HH", 65500, 65500))
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        del file["episode_0/observations"]
        kept = file["episode_0"].create_dataset("observations", (2,), h5py.vlen_dtype(np.uint8))
        kept[0] = kept[1] = np.frombuffer(huge_one, np.uint8)
    about = json.loads((folder / "data" / "metadata.json").read_text())
    (folder / "data" / "metadata.json").write_text(json.dumps(about | {"jpeg_encoding": True}))
    with pytest.raises(UserError, match=r"main_data.hdf5 is torn or foreign: .*a picture not of \(32, 32, 3\)"):
        load_dataset(folder)


def record(tmp_path: Path, *words: str) -> Path:
    out = tmp_path / "set"
    assert agents(["record", *words, "--out", str(out)]) == 0
    return out


def test_an_expert_is_recorded_and_its_episodes_play_again(tmp_path: Path) -> None:
    data = load_dataset(record(tmp_path, "heuristic", "--env", "CartPole-v1", "--episodes", "2"))
    assert data.returns.tolist() == [500, 500]
    assert data.env == "CartPole-v1"
    env = gymnasium.make("CartPole-v1")
    for episode, start in enumerate(data.starts):
        obs, _ = env.reset(seed=data.seeds[episode])
        for index in range(3):
            assert data.obs[data.rows[start + index]].tolist() == obs.tolist()
            obs, *_ = env.step(int(data.action[start + index]))


def test_a_recording_that_broke_off_ends_as_one_that_did_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("heuristic", "--env", "MountainCar-v0", "--episodes", "3", "--exploration", "0.2", "0.5", "--seed", "4")
    whole = load_dataset(record(tmp_path / "whole", *words))

    from agents.run.datasets import recorder

    add, calls = recorder.RecordingWriter.add, []

    def broken(self: Any, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(self, *arguments)

    monkeypatch.setattr(recorder.RecordingWriter, "add", broken)
    out = tmp_path / "cut" / "set"
    assert agents(["record", *words, "--out", str(out)]) == 130
    assert sorted(file.name for file in out.with_name("set.parts").iterdir())[:2] == ["000000.hdf5", "000001.hdf5"]
    assert not out.exists()
    monkeypatch.setattr(recorder.RecordingWriter, "add", add)
    assert agents(["record", *words[:-1], "5", "--out", str(out)]) == 2  # of other settings
    assert agents(["record", *words, "--out", str(out)]) == 0
    assert load_dataset(out).fingerprint() == whole.fingerprint()
    assert not out.with_name("set.parts").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("heuristic --checkpoint latest", "--checkpoint changes nothing here, as heuristic is no run: leave it out."),
        ("random --stochastic", "--stochastic changes nothing here, as random is no run: leave it out."),
        ("random --exploration 0.5", "--exploration changes nothing here, as all actions are random: leave it out."),
    ],
)
def test_flags_that_would_change_nothing(
    words: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert agents(["record", *words.split(), "--env", "CartPole-v1", "--out", str(tmp_path / "set")]) == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_exploration_is_the_share_of_random_actions(tmp_path: Path) -> None:
    data = load_dataset(
        record(tmp_path, "heuristic", "--env", "MountainCar-v0", "--episodes", "4", "--exploration", "0", "1")
    )
    rule = np.where(data.obs[data.rows][:, 1] > 0, 2, 0)
    same = np.array([(rule == data.action)[data.episode == index].mean() for index in range(4)])
    assert same[[0, 2]].tolist() == [1, 1]
    assert (same[[1, 3]] < 0.5).all()


def test_episodes_take_turns_with_the_checkpoints_of_a_run(tmp_path: Path) -> None:
    words = "--algo dqn --env CartPole-v1 -n 240 --n-envs 2 --learning-starts 20 --train-freq 2 --save-freq 120"
    run = train(tmp_path, f"{words} --eval-freq 0 --final-eval-episodes 0 --device cpu --net-arch 16")
    words = f"{run} --checkpoint 120 240 240 --exploration 0 0 1 --episodes 6"
    data = load_dataset(record(tmp_path, *words.split()))
    obs = torch.from_numpy(data.at(data.rows))
    best = [load_policy(run, step).policy.model(obs).q.argmax(1).numpy() for step in ("120", "240")]
    same = np.array([[(one == data.action)[data.episode == index].mean() for index in range(6)] for one in best])
    assert same[0, [0, 3]].tolist() == same[1, [1, 4]].tolist() == [1, 1]
    assert (same[0, [1, 4]] < 1).any()
    assert (same[:, [2, 5]] < 1).all()


COLUMNS = {
    "observations": np.arange(10.0).reshape(5, 2).astype(np.float32),
    "actions": np.array([0, 1, 1, 0, 1]),
    "rewards": np.arange(5.0),
    "terminals": np.array([0, 1, 0, 0, 0], bool),
    "timeouts": np.array([0, 0, 0, 1, 0], bool),
}


def test_npz_is_cut_where_episodes_end(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **COLUMNS)
    data = load_dataset(tmp_path / "d.npz")
    assert data.lengths.tolist() == [2, 1]  # the last two transitions have no successors
    assert data.terminated.tolist() == [0, 1, 0]
    assert data.truncated.tolist() == [0, 0, 1]
    assert data.own_spaces[1] == spaces.Discrete(2)
    assert data.obs[data.rows].tolist() == COLUMNS["observations"][:3].tolist()
    assert not data.broken.any()


def test_successors_that_are_given_are_compared(tmp_path: Path) -> None:
    after = np.vstack([COLUMNS["observations"][1:], [[10, 11]]]).astype(np.float32)
    after[1], after[2] = [50, 51], [60, 61]
    np.savez_compressed(tmp_path / "d.npz", next_observations=after, **COLUMNS)
    data = load_dataset(tmp_path / "d.npz")
    assert data.broken.tolist() == [0, 0, 1, 0, 0]  # the second ends an episode: what follows is another's
    assert data.obs[data.rows[1] + 1].tolist() == [50, 51]


def test_nested_npz(tmp_path: Path) -> None:
    space = spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Discrete(4)])
    parts = {"observations/0": np.zeros((3, 2)), "observations/1": np.array([3, 0, 1])}
    rest = {"actions": np.zeros((3, 1)), "rewards": np.zeros(3), "dones": np.array([0, 0, 1])}
    np.savez(tmp_path / "d.npz", **parts, **rest)
    data = load_dataset(tmp_path / "d.npz", (space, spaces.Box(-1, 1, (1,))))
    assert data.obs["1"].tolist() == [3, 0, 1, 1]


def test_csv_is_read_as_npz_is(tmp_path: Path) -> None:
    lines = ["obs_0,obs_1,action,reward,terminated,truncated"]
    for row in range(5):
        ends = f"{int(COLUMNS['terminals'][row])},{'true' if COLUMNS['timeouts'][row] else 'false'}"
        lines.append(f"{2 * row},{2 * row + 1},{COLUMNS['actions'][row]},{float(row)},{ends}")
    (tmp_path / "d.csv").write_text("\n".join(lines))
    np.savez(tmp_path / "d.npz", **COLUMNS)
    assert load_dataset(tmp_path / "d.csv").fingerprint() == load_dataset(tmp_path / "d.npz").fingerprint()


@pytest.mark.parametrize("names", [("rewards",), ("rewards", "terminals", "timeouts")])
def test_rows_of_one_number_are_numbers(names: tuple[str, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", **COLUMNS)
    np.savez(tmp_path / "d.npz", **(COLUMNS | {name: COLUMNS[name][:, None] for name in names}))
    assert load_dataset(tmp_path / "d.npz").fingerprint() == load_dataset(tmp_path / "plain.npz").fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.zeros((5, 2))}, r"rewards of the shape \(5, 2\) given, one array \(N,\) or \(N, 1\) expected"),
        ({"terminals": np.zeros((5, 5), bool)}, r"terminals of the shape \(5, 5\) given"),
        ({"timeouts": np.zeros(())}, r"timeouts of the shape \(\) given"),
        ({"timeouts/a": np.zeros(5), "timeouts": None}, r"timeouts/a of the shape \(5,\) given"),
        ({"terminals/a": np.zeros(5), "terminals": None}, r"terminals/a of the shape"),
        ({"episode/a": np.zeros(5)}, r"episode/a of the shape"),
        ({"rewards/a": np.zeros(5), "rewards": None}, r"rewards/a of the shape"),
        ({"dones": np.zeros(5)}, "has terminals and dones, which are two names of one column"),
        ({"obs/a": np.zeros(5)}, "has observations and obs, which are two names"),
        ({"terminals": np.array([0, 0, 0, 0, np.nan])}, "terminals has nan; 0, 1, True or False expected"),
        ({"timeouts": np.array([0, 1, 2, 0, 0])}, "timeouts has 2; 0, 1, True or False expected"),
        ({"episode": np.array([0, 0, np.nan, 1, 1])}, "episode has NaN or infinite numbers"),
        ({"actions": np.full(5, -1)}, "actions are whole numbers, from -1 to -1; from 0 to 2147483646 expected"),
        ({"actions": np.full((5, 2), -1)}, "actions are whole numbers, from -1 to -1"),
        ({"actions": np.zeros((5, 0), int)}, "actions are whole numbers, none"),
        ({"actions": np.full(5, 2**64 - 1, np.uint64)}, "actions are whole numbers, from 18446744073709551615"),
        ({"observations": np.full(5, 2**63 - 1)}, "observations are whole numbers, from 9223372036854775807"),
        (
            {"observations": None, "observations/a": np.zeros(5), "observations/a/b": np.zeros(5)},
            "has 'observations/a/b'",
        ),
        (
            {"observations": None, "observations/a/b": np.zeros(5), "observations/a": np.zeros(5)},
            "has 'observations/a' w",
        ),
        ({"observations/a": np.zeros(5)}, "has 'observations/a' where another array lies"),
        ({"observations": None, "observations/" + "a/" * 3000 + "b": np.zeros(5)}, "more than 20 folders deep"),
        ({"next_observations": np.zeros((5, 3))}, r"shape \(2,\), and next_observations \(3,\)"),
        ({"next_observations/a": np.zeros((5, 2))}, r"shape \(2,\), and next_observations {'a': \(2,\)}"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **{name: array for name, array in (COLUMNS | change).items() if array is not None})
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(tmp_path / "d.npz")
    assert str(tmp_path / "d.npz") in str(caught.value)


def test_columns_of_csv_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ["obs_10", *(f"obs_{number}" for number in range(10)), "action_1", "action_0", "reward_0", "done"]
    rows = [[10, *range(10), 7.5, 0.5, 3, 0], [10, *range(10), 7.5, 0.5, 4, 1]]
    (tmp_path / "d.csv").write_text("\n".join(",".join(map(str, row)) for row in (names, *rows)))
    data = load_dataset(tmp_path / "d.csv")
    assert data.obs[0].tolist() == list(range(11))
    assert data.action.tolist() == [[0.5, 7.5]] * 2
    assert data.reward.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        ("obs_0,obs_2,action,reward,done", "1,1,1,1,1", "has obs_0, obs_2; obs alone, or obs_0, obs_1 and so on"),
        ("obs_1,obs_2,action,reward,done", "1,1,1,1,1", "has obs_1, obs_2"),
        ("obs,obs_1,action,reward,done", "1,1,1,1,1", "has obs, obs_1"),
        ("obs_0,obs0,action,reward,done", "1,1,1,1,1", "has obs_0, obs0"),
        ("obs_0,obs_00,action,reward,done", "1,1,1,1,1", "has obs_0, obs_00"),
        ("obs_0,action_1,reward,done", "1,1,1,1", "has action_1"),
        ("obs_0,action,reward,reward_1,done", "1,1,1,1,1", "has reward, reward_1"),
        ("obs_0,action,reward_0,reward_1,done", "1,1,1,1,1", r"reward of the shape \(1, 2\) given"),
        ("obs_0,action,reward,done,done", "1,1,1,1,1", "or one of them twice"),
        ("obs_0,action,reward,terminated,done", "1,1,1,1,1", "has terminated and done, which are two names"),
        ("obs_0,action,reward,done", "1,1,1,nan", "done has nan; 0, 1, True or False expected"),
        ("obs_0,action,reward,done", "1,1,1,0.5", "done has 0.5; 0, 1, True or False expected"),
        ("obs_0,action,reward,episode", "1,1,1,nan", "episode has NaN or infinite numbers"),
        ("obs_0,action,reward,done", "1,-1,1,1", "actions are whole numbers, from -1 to -1"),
        ("obs_" + "1" * 5000 + ",action,reward,done", "1,1,1,1", "torn or foreign"),
    ],
)
def test_columns_of_csv_that_do_not_fit_are_refused(names: str, values: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(f"{names}\n{values}\n")
    with pytest.raises(UserError, match=message) as caught:
        load_dataset(tmp_path / "d.csv")
    assert str(tmp_path / "d.csv") in str(caught.value)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("word", ["inf", "1e30"])
def test_whole_actions_that_no_integer_holds_stay_numbers(word: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(f"obs_0,action,reward,done\n1,{word},1,0\n1,0,1,1\n")
    assert load_dataset(tmp_path / "d.csv").action[:, 0].tolist() == [np.float32(word), 0]


def played(file: Path, **values: Any) -> Path:
    """Write an episode of CartPole, of three steps; return its file."""
    from agents.run.recording import RecordedEpisode, save_episode

    about = {"env": "CartPole-v1", "env_kwargs": {}, "rescale_action": False, "run": "r", "checkpoint": "best"}
    end = {"terminated": False, "truncated": False, "actions": [0, 1, 0], "rewards": [1.0] * 3, "length": 3}
    more = {"step": 1, "deterministic": True, "gymnasium": "1", "seed": 3, "total_reward": 3.0}
    save_episode(file, RecordedEpisode(**(about | end | more | values)))
    return file


def test_recorded_episodes_of_replays_are_read(tmp_path: Path) -> None:
    played(tmp_path / "e.json")
    data = load_dataset(tmp_path)
    assert data.action.tolist() == [0, 1, 0]
    assert len(data.obs) == 4
    assert not (data.terminated | data.truncated).any()


@pytest.mark.parametrize("actions", [[[0], [1, 2], [0]], [0, 2**62, 0], [0, 7, 0], [[0], [1], [0]]])
def test_recorded_actions_that_do_not_fit_are_refused(actions: list[Any], tmp_path: Path) -> None:
    file = played(tmp_path / "e.json", actions=actions)
    with pytest.raises(UserError, match=r"e.json: the recorded actions do not fit CartPole-v1, which takes Discrete"):
        load_dataset(file)


@pytest.mark.filterwarnings("error")
def test_recorded_rewards_that_are_none_of_the_environments_are_refused(tmp_path: Path) -> None:
    for rewards in ([2.0, 1.0, 1.0], [1e300, 1.0, 1.0]):
        with pytest.raises(UserError, match="does not play as it did when this episode was recorded"):
            load_dataset(played(tmp_path / "e.json", rewards=rewards, total_reward=sum(rewards)))


def test_recorded_episodes_of_two_environments_are_refused(tmp_path: Path) -> None:
    played(tmp_path / "a.json")
    played(tmp_path / "b.json", env="MountainCar-v0", rewards=[-1.0] * 3)
    with pytest.raises(UserError, match=r"a.json is an episode of CartPole-v1, and .*b.json one of MountainCar-v0:"):
        load_dataset(tmp_path)
    played(tmp_path / "b.json", seed=4)
    assert load_dataset(tmp_path).lengths.tolist() == [3, 3]


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def bomb(file: Path) -> None:
    """An archive whose member says that it has a few numbers, and unpacks to many."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("rewards.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (4,)})
        for _ in range(64):
            member.write(bytes(2**20))


def other_codecs(file: Path) -> None:
    np.savez(file.with_name("plain.npz"), **COLUMNS)
    with zipfile.ZipFile(file.with_name("plain.npz")) as plain, zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))


def twice(file: Path) -> None:
    np.savez(file, **COLUMNS)
    with zipfile.ZipFile(file) as archive:
        content = archive.read("rewards.npy")
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
        warnings.simplefilter("ignore")  # of zipfile, whose writers say so
        archive.writestr("rewards.npy", content)


def negative(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive, archive.open("rewards.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (-9,)})
        member.write(bytes(2**20))


def huge(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive, archive.open("rewards.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})


def objects(file: Path) -> None:
    np.savez(file, **(COLUMNS | {"rewards": np.array([Evil()] * 5)}))


def outside(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../rewards.npy", b"")


def pickled(file: Path) -> None:
    file.write_bytes(pickle.dumps(Evil()))


def nothing_seen(file: Path) -> None:
    np.savez(file, **(COLUMNS | {"observations": np.zeros((5, 0), np.float32)}))


def no_ends(file: Path) -> None:
    np.savez(file, **{name: COLUMNS[name] for name in ("observations", "actions", "rewards")})


def uneven(file: Path) -> None:
    np.savez(file, **(COLUMNS | {"actions": np.zeros(4, int)}))


HOSTILE = [bomb, other_codecs, twice, negative, huge, objects, outside, pickled, nothing_seen, no_ends, uneven]


@pytest.mark.parametrize("spoil", HOSTILE)
def test_a_hostile_npz_is_refused_in_one_line(spoil: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "d.npz"
    spoil(file)
    assert agents(["check", "--data", str(file)]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "run" not in said.out
    assert str(file) in said.err


def test_what_is_read_is_bounded(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **COLUMNS)
    with pytest.raises(UserError, match="room for"):
        read_npz(tmp_path / "d.npz", None, Room(100))
    (tmp_path / "d.csv").write_text("obs_0,action,reward,done\n" + "1,1,1,0\n" * 100)
    with pytest.raises(UserError, match="room for"):
        read_csv(tmp_path / "d.csv", None, Room(1000))
    folder = written(tmp_path / "set", (NESTED, ACTIONS), [3, 5]) / "data"
    with pytest.raises(UserError, match="room for"):
        read_minari(folder, Room(300))


@pytest.mark.parametrize(
    ("spoil", "message"), [(other_codecs, "neither stored nor deflated"), (negative, r"has the shape \(-9,\)")]
)
def test_npz_members_are_refused_before_they_are_unpacked(spoil: Any, message: str, tmp_path: Path) -> None:
    spoil(tmp_path / "d.npz")
    room = Room(1000)
    with pytest.raises(UserError, match=message):
        read_npz(tmp_path / "d.npz", None, room)
    assert room.taken == 0


@pytest.mark.parametrize("name", ["rewards", "observations/word"])
def test_a_chunk_larger_than_its_array_is_counted(name: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "set", (NESTED, ACTIONS), [3])
    room = Room(10**6)
    read_minari(folder / "data", room)
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        group, values = file["episode_0"], file["episode_0"][name][()]
        kind = group[name].dtype
        del group[name]
        group.create_dataset(name, data=values, dtype=kind, chunks=(10**6,), maxshape=(10**6,), compression="gzip")
    with pytest.raises(UserError, match="room for"):
        read_minari(folder / "data", Room(10**6))


def linked(file: Any) -> None:
    file["episode_0/rewards2"] = h5py.ExternalLink("/etc/passwd", "x")
    del file["episode_0/rewards"]
    file["episode_0"].move("rewards2", "rewards")


def soft(file: Any) -> None:
    del file["episode_0/rewards"]
    file["episode_0/rewards"] = h5py.SoftLink("/episode_1/rewards")


def elsewhere(file: Any) -> None:
    del file["episode_0/rewards"]
    file["episode_0"].create_dataset("rewards", (3,), "f8", external=[("/etc/passwd", 0, 24)])


def virtual(file: Any) -> None:
    del file["episode_0/rewards"]
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.hdf5", "x", (3,))
    file["episode_0"].create_virtual_dataset("rewards", layout)


def sparse(file: Any) -> None:
    del file["episode_0/rewards"]
    file["episode_0"].create_dataset("rewards", (10**13,), "f8", chunks=(1024,))


def short(file: Any) -> None:
    del file["episode_0/rewards"]
    file["episode_0/rewards"] = np.zeros(2)


def texts(file: Any) -> None:
    del file["episode_0/rewards"]
    file["episode_0"].create_dataset("rewards", data=["a"] * 3, dtype=h5py.string_dtype())


@pytest.mark.parametrize("spoil", [linked, soft, elsewhere, virtual, sparse, short, texts])
def test_a_hostile_hdf5_is_refused_in_one_line(spoil: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "set", (NESTED, ACTIONS), [3, 5])
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        spoil(file)
    assert agents(["check", "--data", str(folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_metadata_may_be_anything(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", (NESTED, ACTIONS), [3])
    file = folder / "data" / "metadata.json"
    about = json.loads(file.read_text())
    for change in (
        {"total_episodes": 10**9},
        {"total_episodes": 2},
        {"observation_space": "{}"},
        {"observation_space": '{"type": "Box", "shape": [100000, 100000], "dtype": "float32", "low": 0, "high": 1}'},
        {"action_space": "[" * 5000},
        {"data_format": "arrow"},
    ):
        file.write_text(json.dumps(about | change))
        with pytest.raises(UserError):
            load_dataset(folder)


def test_data_of_another_environment_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", **COLUMNS)
    with pytest.raises(UserError, match="rows 0 to 2"):
        load_dataset(tmp_path / "d.npz", (spaces.Box(-1, 1, (3,)), spaces.Discrete(2)))
    folder = written(tmp_path / "set", (NESTED, ACTIONS), [3])
    with pytest.raises(UserError, match="its actions are of"):
        load_dataset(folder, (NESTED, spaces.Discrete(2)))


def test_episodes_played_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def play(env: gymnasium.Env, keys_to_action: Any, callback: Any, noop: int) -> None:
        assert noop == 1
        assert sorted(keys_to_action.values()) == [0, 2]
        while True:
            obs, _ = env.reset(seed=None)
            done = False
            while not done:
                before, (obs, reward, terminated, truncated, info) = obs, env.step(2)
                callback(before, obs, 2, reward, terminated, truncated, info)
                done = terminated or truncated

    monkeypatch.setattr("gymnasium.utils.play.play", play)
    monkeypatch.setattr("agents.run.play.has_display", lambda: True)
    out = tmp_path / "mine"
    words = "record --human --env MountainCar-v0 --env-kwargs max_episode_steps=7 --episodes 2"
    assert agents([*words.split(), "--out", str(out)]) == 0
    data = load_dataset(out)
    assert data.lengths.tolist() == [7, 7]
    assert set(data.action) == {2}
    assert data.seeds[0] != data.seeds[1]
    obs, _ = gymnasium.make("MountainCar-v0").reset(seed=data.seeds[1])
    assert data.obs[8].tolist() == obs.tolist()


def test_nobody_plays_by_hand_without_a_display(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agents(["record", "--human", "--env", "MountainCar-v0"]) == 2
    assert "no display" in capsys.readouterr().err
