"""Episodes: played the same from the same seed, written down, refused when spoilt, and replayed bit for bit."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from agents.run.build import make_algorithm
from agents.run.config import FLAGS, Layer, resolve
from agents.run.models import LoadedPolicy
from agents.run.play import frames_per_second, has_display, play, policy_env
from agents.run.recording import (
    RecordedEpisode,
    episode_env,
    load_episode,
    record_episode,
    replay,
    replay_folder,
    run_name,
    save_episode,
    write_manifest,
)
from envs.adapters.stacking import shown_space
from envs.errors import UserError
from envs.make import make

USER_ENV = '''
import gymnasium, numpy as np

class Doors(gymnasium.Env):
    """Dict observations, actions from 5, truncated after 12 steps; with `dice`, rewards that no seed controls."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 7}

    def __init__(self, render_mode=None, dice=False):
        self.render_mode, self.dice = render_mode, dice
        self.observation_space = gymnasium.spaces.Dict(
            {"door": gymnasium.spaces.Discrete(4), "far": gymnasium.spaces.Box(-1, 1, (2,), np.float64)}
        )
        self.action_space = gymnasium.spaces.Discrete(3, start=5)

    def _look(self):
        return {"door": int(self.np_random.integers(4)), "far": self.np_random.uniform(-1, 1, 2)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def step(self, action):
        assert action in (5, 6, 7)
        self.t += 1
        reward = float(action) * self.np_random.uniform()
        if self.dice and self.t == 4:
            reward += np.random.default_rng().uniform(1, 2)
        return self._look(), reward, False, self.t == 12, {}

    def render(self):
        return np.full((33, 41, 3), 20 * self.t, np.uint8)

class Fog(Doors):
    """At odd steps a sensor gives no number, and at the fourth nothing."""

    def _look(self):
        seen = super()._look()
        if self.t % 2:
            seen["far"][0] = np.nan
        if self.t == 4:
            del seen["far"]
        return seen
'''


def untrained(env: str, folder: Path, algo: str = "ppo", **settings) -> LoadedPolicy:
    """A policy as a run would have saved it, without training it."""
    config = resolve([Layer(FLAGS, {"env": env, "algo": algo, **settings})])
    probe = make(env, env_kwargs=config.env_kwargs, rescale_action=config.params.rescales_action)
    spaces = probe.observation_space, probe.action_space
    probe.close()
    seen = shown_space(spaces[0], config.params.observations.frame_stack)
    policy = make_algorithm(config.algo, seen, spaces[1], config.params, seed=3).eval().policy
    return LoadedPolicy(policy, config, spaces, step=1024, path=folder, name="best")


@pytest.fixture
def doors(tmp_path) -> str:
    file = tmp_path / "doors.py"
    file.write_text(USER_ENV)
    return f"{file}:Doors"


def small_episode(**changes) -> RecordedEpisode:
    values = {
        "env": "CartPole-v1",
        "env_kwargs": {},
        "rescale_action": False,
        "run": "run",
        "checkpoint": "best",
        "step": 10,
        "deterministic": True,
        "gymnasium": gymnasium.__version__,
        "seed": 3,
        "total_reward": 3.0,
        "length": 3,
        "terminated": True,
        "truncated": False,
        "actions": [0, 1, 0],
        "rewards": [1.0, 1.0, 1.0],
    }
    return RecordedEpisode(**(values | changes))


def test_playing_follows_the_seed_and_adds_up(tmp_path):
    loaded = untrained("CartPole-v1", tmp_path)
    env = policy_env(loaded)
    first, again, other = (list(play(env, loaded.policy, seed, render=False)) for seed in (1, 1, 2))
    assert [m.action.item() for m in first] == [m.action.item() for m in again]
    assert [m.outputs["value"].item() for m in first] == [m.outputs["value"].item() for m in again]
    assert [m.outputs["value"].item() for m in first] != [m.outputs["value"].item() for m in other]
    assert [m.step for m in first] == list(range(1, len(first) + 1))
    assert [m.ended for m in first] == [False] * (len(first) - 1) + [True]
    assert first[-1].ret == sum(m.reward for m in first) == len(first)
    assert first[0].frame is None
    assert first[0].outputs["probabilities"].shape == (2,)


def test_sampled_actions_follow_the_seed(tmp_path):
    loaded = untrained("CartPole-v1", tmp_path)
    env = policy_env(loaded)
    first, again, greedy = (
        [m.action.item() for m in play(env, loaded.policy, 1, deterministic, render=False)]
        for deterministic in (False, False, True)
    )
    assert first == again != greedy
    assert set(first) == {0, 1}


def test_frames_show_what_the_action_was_chosen_on(doors, tmp_path):
    loaded = untrained(doors, tmp_path)
    env = policy_env(loaded, render=True)
    brightness = [int(moment.frame[0, 0, 0]) for moment in play(env, loaded.policy, 0)]
    assert brightness == [20 * t for t in range(12)]


def test_a_replay_shows_what_the_policy_saw_cleaned_and_stacked(doors, tmp_path):
    rules = {"frame_stack": 3, "on_nan": "fill", "on_missing": "fill", "picture_axes": "none"}
    loaded = untrained(doors.replace("Doors", "Fog"), tmp_path, **rules)
    recorded = record_episode(loaded, 5, tmp_path)
    episode = load_episode(recorded.file)
    assert episode == recorded.episode
    assert (episode.observations, episode.picture_axes) == (loaded.config.params.observations, "none")
    with closing(policy_env(loaded, render=True)) as env, closing(episode_env(episode)) as stage:
        pairs = list(zip(play(env, loaded.policy, 5), replay(stage, episode, loaded.policy), strict=True))
    assert len(pairs) == 12
    for played, again in pairs:
        assert played.obs["far"].shape == (6,)
        np.testing.assert_equal(again.obs, played.obs)
        assert again.outputs["value"] == played.outputs["value"]


def test_an_episodes_file_is_as_before_where_observations_are_as_they_come(tmp_path):
    save_episode(tmp_path / "a.json", small_episode())
    kept = json.loads((tmp_path / "a.json").read_text())["episode"]
    assert not {"wrappers", "observations", "picture_axes"} & kept.keys()


@pytest.mark.parametrize(
    ("env", "algo", "settings"),
    [
        ("CartPole-v1", "ppo", {}),
        ("CartPole-v1", "dqn", {"env_kwargs": {"max_episode_steps": 40}}),
        ("Pendulum-v1", "ppo", {"env_kwargs": {"g": 9.0}}),
        ("Pendulum-v1", "ppo", {"squash_output": True, "rescale_action": True}),
        ("doors", "ppo", {}),
        ("doors", "dqn", {}),
    ],
)
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_recorded_episode_plays_again_bit_for_bit(tmp_path, doors, env, algo, settings, deterministic):
    loaded = untrained(doors if env == "doors" else env, tmp_path, algo, **settings)
    stage = policy_env(loaded)
    played = list(play(stage, loaded.policy, 11, deterministic, render=False))
    stage.close()
    episode = RecordedEpisode(
        env=loaded.env,
        env_kwargs=loaded.env_kwargs,
        rescale_action=loaded.rescale_action,
        run=run_name(loaded),
        checkpoint="best",
        step=0,
        deterministic=deterministic,
        gymnasium=gymnasium.__version__,
        seed=11,
        total_reward=played[-1].ret,
        length=len(played),
        terminated=played[-1].terminated,
        truncated=played[-1].truncated,
        actions=[moment.action.tolist() for moment in played],
        rewards=[moment.reward for moment in played],
    )
    file = tmp_path / "episode.json"
    save_episode(file, episode)
    back = load_episode(file)
    assert back == episode
    again = list(replay(episode_env(back, render=False), back, loaded.policy, render=False))
    assert [m.reward for m in again] == [m.reward for m in played]
    for was, now in zip(played, again, strict=True):
        np.testing.assert_array_equal(now.action, was.action)
        assert now.action.dtype == was.action.dtype
        assert now.outputs.keys() == was.outputs.keys()
        for key, output in was.outputs.items():
            np.testing.assert_array_equal(now.outputs[key], output)


def test_record_episode_writes_file_video_and_manifest(doors, tmp_path):
    run = tmp_path / "runs" / "Doors__ppo__s0__now"
    (run / "best").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    loaded = untrained(doors, run / "best")
    folder = replay_folder(loaded, tmp_path / "replays")
    assert folder == tmp_path / "replays" / "Doors" / "Doors__ppo__s0__now"
    first = record_episode(loaded, 5, folder)
    second = record_episode(loaded, 6, folder, deterministic=False)
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json",
        "step1024-seed5.json",
        "step1024-seed5.mp4",
        "step1024-seed6-stochastic.json",
        "step1024-seed6-stochastic.mp4",
    ]
    assert load_episode(first.file) == first.episode
    assert (first.episode.length, first.episode.truncated, first.episode.terminated) == (12, True, False)
    listed = json.loads((folder / "manifest.json").read_text())["episodes"]
    assert [entry["file"] for entry in listed] == [first.file.name, second.file.name]
    assert [entry["video"] for entry in listed] == [first.video.name, second.video.name]
    assert [entry["total_reward"] for entry in listed] == [first.episode.total_reward, second.episode.total_reward]
    assert list(replay(episode_env(first.episode), first.episode))[-1].frame.shape == (33, 41, 3)

    import imageio_ffmpeg

    assert imageio_ffmpeg.count_frames_and_secs(str(first.video)) == (12, pytest.approx(12 / 7, abs=0.01))


def test_a_picture_of_ones_own_is_recorded(doors, tmp_path):
    seen = []

    def picture(moment):
        seen.append(moment.step)
        return np.full((20, 30, 3), 90, np.uint8)

    record_episode(untrained(doors, tmp_path), 0, tmp_path / "out", picture=picture, fps=5)
    assert seen == list(range(1, 13))


def test_an_environment_that_cannot_be_drawn_says_so(doors, tmp_path):
    file = Path(doors.rpartition(":")[0])
    source = file.read_text()
    for old, new, message in (
        (
            "return np.full((33, 41, 3), 20 * self.t, np.uint8)",
            "raise OSError('no OpenGL')",
            "being drawn .*: no OpenGL",
        ),
        ("return np.full((33, 41, 3), 20 * self.t, np.uint8)", "return None", r"render\(\) returned None"),
        ('"render_modes": ["rgb_array"]', '"render_modes": ["human"]', "cannot be drawn: .* without 'rgb_array'"),
    ):
        other = file.with_name(f"other{len(message)}.py")
        other.write_text(source.replace(old, new))
        with pytest.raises(UserError, match=message):
            record_episode(untrained(f"{other}:Doors", tmp_path), 0, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_a_long_episode_is_cut_and_what_is_there_plays_again(doors, tmp_path):
    recorded = record_episode(untrained(doors, tmp_path), 0, tmp_path / "out", step_limit=10)
    episode = load_episode(recorded.file)
    assert load_episode(recorded.video) == load_episode(recorded.file)
    assert (episode.length, len(episode.actions), episode.terminated, episode.truncated) == (10, 10, False, False)
    with closing(episode_env(episode, render=False)) as env:
        played = list(replay(env, episode, render=False))
        assert [moment.reward for moment in played] == episode.rewards
        ended_too_soon = episode.model_copy(update={"length": 9, "actions": episode.actions[:9], "truncated": True})
        with pytest.raises(UserError, match="did not end at step 9"):
            list(replay(env, ended_too_soon, render=False))


def test_the_manifest_leaves_out_what_is_no_episode(tmp_path):
    save_episode(tmp_path / "b.json", small_episode())
    save_episode(tmp_path / "a.json", small_episode(seed=4))
    (tmp_path / "torn.json").write_text((tmp_path / "a.json").read_text()[:-40])
    (tmp_path / "manifest.json").write_text("[")
    write_manifest(tmp_path)
    listed = json.loads((tmp_path / "manifest.json").read_text())["episodes"]
    assert [(entry["file"], entry["seed"]) for entry in listed] == [("a.json", 4), ("b.json", 3)]


def spoilt(change) -> str:
    """An episode's file after `change` was made to it, its checksum left as it was."""
    body = {"checksum": "0" * 64, "episode": json.loads(small_episode().model_dump_json())}
    change(body)
    return json.dumps(body)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no recorded episode"),
        ("[1, 2", "no recorded episode"),
        ("[]", "no recorded episode"),
        ("{}", "no recorded episode"),
        ("null", "no recorded episode"),
        ('{"episode": 3, "checksum": ""}', "no recorded episode"),
        ("[" * 100_000, "no recorded episode"),
        (spoilt(lambda body: None), "does not match its own checksum"),
        (spoilt(lambda body: body["episode"].update(format=2)), "format"),
        (spoilt(lambda body: body["episode"].update(seed="3")), "seed"),
        (spoilt(lambda body: body["episode"].update(seed=-1)), "seed"),
        (spoilt(lambda body: body["episode"].update(surprise=1)), "surprise"),
        (spoilt(lambda body: body["episode"].pop("env")), "env"),
        (spoilt(lambda body: body["episode"].update(actions=[0, 1])), "3 steps, 2 actions and 3 rewards"),
        (spoilt(lambda body: body["episode"].update(actions=[0, 1, {}])), "actions"),
        (spoilt(lambda body: body["episode"].update(rewards=[1.0, float("nan"), 1.0])), "rewards"),
    ],
)
def test_a_spoilt_file_is_refused_by_name(tmp_path, content, message):
    file = tmp_path / "episode.json"
    file.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        load_episode(file)
    assert str(file) in str(caught.value)


def test_binary_and_missing_files_are_refused(tmp_path):
    (tmp_path / "binary.json").write_bytes(bytes(range(256)))
    for name in ("binary.json", "missing.json", "."):
        with pytest.raises(UserError, match=r"no recorded episode|cannot read"):
            load_episode(tmp_path / name)


def test_an_altered_file_is_refused(tmp_path):
    file = tmp_path / "episode.json"
    save_episode(file, small_episode())
    file.write_text(file.read_text().replace('"seed": 3', '"seed": 4'))
    with pytest.raises(UserError, match="was altered"):
        load_episode(file)


@pytest.mark.parametrize(
    "actions", [[0, 1, 2], [0, -1, 0], [[0], [1], [0]], [[0.5], [0.5], [0.5]], [0, 1, 10**30], [[0], [1, 2], [0]]]
)
def test_actions_that_do_not_fit_are_refused_before_the_first_step(actions):
    episode = small_episode(actions=actions)
    with pytest.raises(UserError, match=r"the recorded actions do not fit CartPole-v1, which takes Discrete\(2\)"):
        next(replay(episode_env(episode, render=False), episode, render=False))


def test_a_reward_that_differs_is_named(tmp_path):
    loaded = untrained("CartPole-v1", tmp_path)
    played = list(play(policy_env(loaded), loaded.policy, 3, render=False))
    true = small_episode(
        actions=[m.action.item() for m in played], rewards=[1.0] * len(played), length=len(played), total_reward=1.0
    )
    env = episode_env(true, render=False)
    assert len(list(replay(env, true, render=False))) == len(played)
    wrong = true.model_copy(update={"rewards": [1.0, 1.0, np.nextafter(np.float32(1), 2).item(), *true.rewards[3:]]})
    stepping = replay(env, wrong, render=False)
    assert [next(stepping).step, next(stepping).step] == [1, 2]
    with pytest.raises(UserError, match=r"step 3 gave the reward 1\.0, not 1\.0000001"):
        next(stepping)


def test_an_end_that_differs_is_named(tmp_path):
    loaded = untrained("CartPole-v1", tmp_path)
    played = list(play(policy_env(loaded), loaded.policy, 3, render=False))
    count, actions = len(played), [m.action.item() for m in played]
    for episode, message in (
        (small_episode(actions=actions[:-1], rewards=[1.0] * (count - 1), length=count - 1), "did not end at step"),
        (
            small_episode(actions=[*actions, 0], rewards=[1.0] * (count + 1), length=count + 1),
            f"ended at step {count};",
        ),
        (
            small_episode(actions=actions, rewards=[1.0] * count, length=count, terminated=False, truncated=True),
            "ended",
        ),
    ):
        with pytest.raises(UserError, match=message):
            list(replay(episode_env(episode, render=False), episode, render=False))


def test_an_environment_with_dice_of_its_own_is_found_out(doors, tmp_path):
    loaded = untrained(doors, tmp_path, env_kwargs={"dice": True})
    recorded = record_episode(loaded, 0, tmp_path / "out")
    with pytest.raises(UserError, match="step 4 gave the reward"):
        list(replay(episode_env(recorded.episode), recorded.episode))
    older = recorded.episode.model_copy(update={"gymnasium": "0.29.1"})
    with pytest.raises(UserError, match=r"recorded with Gymnasium 0\.29\.1; this is"):
        list(replay(episode_env(older), older))


def test_a_policy_meets_only_environments_it_fits(tmp_path):
    loaded = untrained("CartPole-v1", tmp_path)
    with pytest.raises(UserError, match=r"does not fit Acrobot-v1: it learnt observations .*\(4,\).* not .*\(6,\)"):
        policy_env(loaded.moved("Acrobot-v1"))


def test_other_arguments_and_other_environments_are_taken(tmp_path):
    loaded = untrained("CartPole-v1", tmp_path, env_kwargs={"max_episode_steps": 5})

    def length(*other) -> int:
        return len(list(play(policy_env(loaded.moved(*other)), loaded.policy, 0, render=False)))

    assert length() == 5
    assert length(None, {"max_episode_steps": 3}) == 3
    assert length("CartPole-v0") > 5


def test_frames_per_second_are_the_environments_own(doors):
    assert frames_per_second("CartPole-v1") == 50
    assert frames_per_second("native/CartPole-v1") == 50
    assert frames_per_second("Bricks-v0") == frames_per_second("native/Bricks-v0") == 15
    assert frames_per_second(doors) == 7


def test_a_wrappers_class_says_nothing_of_frames(tmp_path):
    file = tmp_path / "around.py"
    file.write_text(
        "import gymnasium\n\nclass Around(gymnasium.Wrapper):\n    def __init__(self, render_mode=None):\n"
        "        super().__init__(gymnasium.make('CartPole-v1', render_mode=render_mode))\n"
    )
    assert frames_per_second(f"{file}:Around") == 30


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"DISPLAY": ":0", "SDL_VIDEODRIVER": "dummy"}, False),
        ("darwin", {}, True),
        ("win32", {"SDL_VIDEODRIVER": "offscreen"}, False),
    ],
)
def test_where_a_window_could_open(monkeypatch, platform, environment, expected):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert has_display() is expected
