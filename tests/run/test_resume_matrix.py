"""Half a run, saved and gone on with, is the whole run bit for bit, or the run says that it is not."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from agents.acting.collector import TickCollector
from agents.acting.fused import FusedCollector
from agents.run.folder import RunFolder
from agents.train import main
from tests.marks import long_test
from tests.run.running import USER_ENVS, assert_same_run, train

CARRYING = Path(__file__).with_name("carrying_envs.py")
HYBRID = Path(__file__).with_name("hybrid_env.py")
MASKED = Path(__file__).parents[1] / "acting" / "masked_env.py"
TOLD = Path(__file__).parents[1] / "envs" / "told_env.py"
GRAINS = TOLD.with_name("grain_env.py")
FAULTY = TOLD.with_name("faulty_env.py")
PPO = "--n-envs 3 --n-steps 16 --batch-size 24 --n-epochs 2"
DQN = "--algo dqn --n-envs 3 --learning-starts 100 --buffer-size 300 --batch-size 16 --train-freq 6"
GRU = f"{PPO} --memory gru --memory-size 8 --batch-size 16"
RECURRENT = f"{DQN} --memory gru --memory-size 8 --sequence-length 8 --burn-in 4 --n-step-returns 3"
SAC = "--algo sac --n-envs 3 --learning-starts 100 --buffer-size 300 --batch-size 16 --train-freq 6 --net-arch 16 16"
PRESETS = ("dqn", "double", "rainbow", "btr")
STEPS = 600
BUDGET = f"--total-timesteps {STEPS} --target-reward none --eval-freq 250 --eval-episodes 2 --save-freq 0"
BUDGET += " --final-eval-episodes 0 --device cpu --learning-rate lin_1e-3 --eval-max-steps 60"

EXACT = {
    # name -> words; "*" in the default suite
    "ppo CartPole native": f"--env CartPole-v1 --vec native {PPO} --clip-range lin_0.2 --norm-obs",
    "ppo CartPole sync": f"--env CartPole-v1 --vec sync {PPO} --norm-reward",
    "ppo CartPole async": f"--env CartPole-v1 --vec async {PPO}",
    "dqn CartPole native": f"--env CartPole-v1 --vec native {DQN} --norm-obs",
    "dqn CartPole sync": f"--env CartPole-v1 --vec sync {DQN} --n-step-returns 3",
    "dqn CartPole async": f"--env CartPole-v1 --vec async {DQN}",
    "dqn CartPole one environment": f"--env CartPole-v1 --vec sync {DQN} --n-envs 1",
    "dqn CartPole one instance": f"--env CartPole-v1 --vec sync {DQN} --n-envs 1 --one-instance",
    "ppo CartPole compiled": f"--env CartPole-v1 --vec native {PPO} --compile on",
    "dqn CartPole compiled": f"--env CartPole-v1 --vec native {DQN} --compile on",
    "ppo CartPole sync compiled": f"--env CartPole-v1 --vec sync {PPO} --compile on",
    "dqn CartPole async compiled": f"--env CartPole-v1 --vec async {DQN} --compile on",
    "ppo Pendulum compiled": f"--env Pendulum-v1 --vec native {PPO} --squash-output --compile on",
    "ppo Pendulum native": f"--env Pendulum-v1 --vec native {PPO} --squash-output --target-kl 0.02",
    "ppo Pendulum sync": f"--env Pendulum-v1 --vec sync {PPO} --rescale-action --norm-obs --norm-reward",
    "ppo Pendulum async": f"--env Pendulum-v1 --vec async {PPO} --state-dependent-std",
    "ppo Pendulum native, every detail": f"--env Pendulum-v1 --vec native {PPO} --learning-rate 1e-3 --desired-kl 0.01 "
    "--clip-range-high lin_0.3 --dual-clip 3 --norm-value popart --normalize-over-rollout",
    "ppo Pendulum compiled, every detail": f"--env Pendulum-v1 --vec native {PPO} --learning-rate 1e-3 --dual-clip 3 "
    "--clip-range-high lin_0.3 --norm-value popart --norm-obs --norm-reward --compile on",
    "ppo MountainCar native, rnd": f"--env MountainCar-v0 --vec native {PPO} --curiosity rnd --norm-value running",
    "ppo Pendulum sync, icm": f"--env Pendulum-v1 --vec sync {PPO} --curiosity icm",
    "ppo Signs async, Dict, memory and rnd": f"--env {USER_ENVS}:Signs --vec async {GRU} --curiosity rnd",
    "ppo Bricks native, icm": f"--env Bricks-v0 --vec native {PPO} --curiosity icm --curiosity-episodic",
    "dqn MountainCar sync, rnd": f"--env MountainCar-v0 --vec sync {DQN} --curiosity rnd --prioritized-replay "
    "--n-step-returns 1",
    "dqn Corridor native, memory and icm": f"--env Corridor-v0 --vec native {RECURRENT} --n-step-returns 1 "
    "--curiosity icm",
    "pqn Bricks native, icm": f"--env Bricks-v0 --algo pqn --vec native {PPO} --curiosity icm",
    "ppo Taxi sync, masks and rnd": f"--env Taxi-v4 --vec sync {PPO} --curiosity rnd",
    "ppo Acrobot native": f"--env Acrobot-v1 --vec native {PPO}",
    "dqn MountainCar native": f"--env MountainCar-v0 --vec native {DQN}",
    "ppo MountainCarContinuous native": f"--env MountainCarContinuous-v0 --vec native {PPO}",
    "dqn stacked sync": f"--env {GRAINS}:Grains --env-kwargs large=true --vec sync {DQN} --frame-stack 4",
    "ppo stacked async": f"--env {GRAINS}:Grains --vec async {PPO} --frame-stack 3",
    "ppo stacked native": f"--env Bricks-v0 --vec native {PPO} --frame-stack 2",
    "ppo augmented native": f"--env Bricks-v0 --vec native {PPO} --augment shift colour",
    "dqn augmented async": f"--env {GRAINS}:Grains --vec async {DQN} --augment shift rotate",
    "ppo augmented native, memory": f"--env Bricks-v0 --vec native {GRU} --augment shift",
    "* ppo cleaned sync": f"--env {FAULTY}:Faulty --vec sync {PPO} --on-nan fill --on-missing fill --frame-stack 2",
    "ppo texts sync": f"--env {TOLD}:Told --vec sync {PPO}",
    "dqn texts async": f"--env {TOLD}:Told --vec async {DQN} --text-encoder gru",
    "ppo LunarLander sync": f"--env LunarLander-v3 --vec sync {PPO}",
    "ppo LunarLander async": f"--env LunarLander-v3 --vec async {PPO}",
    "dqn LunarLander sync": f"--env LunarLander-v3 --vec sync {DQN}",
    "dqn LunarLander async": f"--env LunarLander-v3 --vec async {DQN}",
    "ppo LunarLanderContinuous sync": f"--env LunarLanderContinuous-v3 --vec sync {PPO} --squash-output",
    "* ppo BipedalWalker sync": f"--env BipedalWalker-v3 --vec sync {PPO} -n 1200 --norm-obs",
    "ppo BipedalWalker async": f"--env BipedalWalker-v3 --vec async {PPO} -n 1200",
    "ppo HalfCheetah sync": f"--env HalfCheetah-v5 --vec sync {PPO} --env-kwargs max_episode_steps=40",
    "ppo HalfCheetah async": f"--env HalfCheetah-v5 --vec async {PPO} --squash-output",
    "ppo Hopper sync": f"--env Hopper-v5 --vec sync {PPO}",
    "ppo Bricks native": f"--env Bricks-v0 --vec native {PPO}",
    "dqn Bricks native": f"--env Bricks-v0 --vec native {DQN}",
    "dqn Bricks sync": f"--env Bricks-v0 --vec sync {DQN}",
    "dqn Bricks async": f"--env Bricks-v0 --vec async {DQN}",
    "ppo Submarine native": f"--env Submarine-v0 --vec native {PPO}",
    "dqn Invaders sync": f"--env Invaders-v0 --vec sync {DQN}",
    "* ppo Corridor native, memory": f"--env Corridor-v0 --vec native {GRU}",
    "* dqn Corridor native, memory": f"--env Corridor-v0 --vec native {RECURRENT}",
    "dqn Corridor sync, memory": f"--env Corridor-v0 --vec sync {RECURRENT} --prioritized-replay --norm-obs",
    "dqn Masked native, memory": f"--env {MASKED}:Masked --vec native {RECURRENT} --memory lstm",
    "ppo Corridor sync, memory": f"--env Corridor-v0 --vec sync {GRU}",
    "ppo Corridor async, memory": f"--env Corridor-v0 --vec async {GRU}",
    "ppo CartPole sync, memory": f"--env CartPole-v1 --vec sync {GRU} --norm-obs",
    "ppo Signs sync, Dict and memory": f"--env {USER_ENVS}:Signs --vec sync {GRU}",
    "ppo Signs async, Dict": f"--env {USER_ENVS}:Signs --vec async {PPO} --norm-obs",
    "dqn Signs async, Dict": f"--env {USER_ENVS}:Signs --vec async {DQN}",
    "ppo Levers sync, MultiDiscrete": f"--env {USER_ENVS}:Levers --vec sync {PPO} --shared-torso",
    "ppo Lamps sync, MultiBinary, pictures in a Dict": f"--env {CARRYING}:Lamps --vec sync {PPO} --norm-obs",
    "ppo Lamps async, MultiBinary, memory": f"--env {CARRYING}:Lamps --vec async {GRU}",
    "ppo Screen sync, pictures": f"--env {CARRYING}:Screen --vec sync {PPO}",
    "dqn Screen async, pictures": f"--env {CARRYING}:Screen --vec async {DQN}",
    "* ppo Signal sync, hybrid actions, masks and memory": f"--env {HYBRID}:Signal --vec sync {GRU}",
    "ppo Signal async, hybrid actions, masks": f"--env {HYBRID}:Signal --vec async {PPO} --squash-output",
    "ppo Masked native": f"--env {MASKED}:Masked --vec native {PPO}",
    "ppo Masked native, memory": f"--env {MASKED}:Masked --vec native {GRU}",
    "dqn Masked native": f"--env {MASKED}:Masked --vec native {DQN}",
    "* dqn Taxi sync, masks": f"--env Taxi-v4 --vec sync {DQN}",
    "ppo Taxi async, masks": f"--env Taxi-v4 --vec async {PPO}",
    "ppo FrozenLake sync, Discrete": f"--env FrozenLake-v1 --vec sync {PPO}",
    "dqn Blackjack sync, Tuple": f"--env Blackjack-v1 --vec sync {DQN}",
    "dqn Signs sync, spectral norm and conservative": f"--env {USER_ENVS}:Signs --vec sync {DQN} --spectral-norm "
    "--cql-alpha 0.5 --bcq-threshold 0.3",
    "dqn CartPole native, rescaled": f"--env CartPole-v1 --vec native {DQN} --rescale-values --munchausen",
    "pqn CartPole native": f"--env CartPole-v1 --algo pqn --vec native {PPO} --norm-obs",
    "* ppo Corridor native, scan": f"--env Corridor-v0 --vec native {GRU} --memory scan --memory-layers 2",
    "dqn Masked native, gtrxl": f"--env {MASKED}:Masked --vec native {RECURRENT} --memory gtrxl --memory-window 4",
    "ppo Corridor async, gtrxl": f"--env Corridor-v0 --vec async {GRU} --memory gtrxl --memory-window 4",
    "ppo Corridor sync, lstm": f"--env Corridor-v0 --vec sync {GRU} --memory lstm --memory-layers 2",
    "pqn Corridor compiled, scan": f"--env Corridor-v0 --algo pqn --vec native {GRU} --memory scan --compile on",
    "pqn Corridor sync, memory": f"--env Corridor-v0 --algo pqn --vec sync {GRU}",
    "pqn Taxi async, masks": f"--env Taxi-v4 --algo pqn --vec async {PPO}",
    "sac Pendulum native": f"--env Pendulum-v1 --vec native {SAC} --prioritized-replay",
    "ppo Pendulum native, gSDE": f"--env Pendulum-v1 --vec native {PPO} --use-sde --sde-sample-freq 5 --squash-output",
    "ppo Pendulum compiled, gSDE": f"--env Pendulum-v1 --vec native {PPO} --use-sde --compile on",
    "* sac Pendulum native, gSDE": f"--env Pendulum-v1 --vec native {SAC} --use-sde --target-update-interval 4",
    "sac Pendulum async": f"--env Pendulum-v1 --vec async {SAC} --norm-obs",
    **{f"dqn CartPole sync, preset {name}": f"--env CartPole-v1 --vec sync {DQN} --preset {name}" for name in PRESETS},
    "dqn CartPole native, preset r2d2": f"--env CartPole-v1 --vec native {DQN} --preset r2d2 --sequence-length 8 "
    "--burn-in 4 --memory-size 8",
    **{
        f"sac Pendulum sync, preset {name}": f"--env Pendulum-v1 --vec sync {SAC} --preset {name}"
        for name in ("tqc", "crossq")
    },
    "ppo CartPole sync, wrapped": f"--env CartPole-v1 --vec sync {PPO} "
    "--wrappers gymnasium.wrappers:TimeAwareObservation",
}
OTHERWISE = {
    # name -> words, what is said on resuming, and what already before
    "ppo CartPole vector": (f"--env CartPole-v1 --vec vector {PPO}", "the environments begin new episodes", ""),
    "dqn CartPole vector": (f"--env CartPole-v1 --vec vector {DQN}", "the environments begin new episodes", ""),
    "* dqn Lucky sync, numpy.random": (
        f"--env {CARRYING}:Lucky --vec sync {DQN}",
        "environments 0, 1 and 2 may go on otherwise than in an unbroken run: resuming is not exact (replayed, its "
        "actions led to other rewards; Lucky draws from the global stream of numpy.random, which its seed does not",
        "(replayed, its actions led to other rewards; Lucky draws from the global stream of numpy.random, which",
    ),
    "ppo Lucky async, random": (
        f"--env {CARRYING}:Lucky --vec async {PPO} --env-kwargs source=python",
        "Lucky draws from the global stream of random, which its seed does not decide",
        "Lucky draws from the global stream of random, which its seed does not decide",
    ),
    "ppo Tired sync": (
        f"--env {CARRYING}:Tired --vec sync {PPO}",
        "led to other rewards; Tired.total is",
        "Tired.total",
    ),
    "dqn Tired async, no effect yet": (
        f"--env {CARRYING}:Tired --vec async {DQN} --env-kwargs rested=100000",
        "resuming is not exact (Tired.total is not as it was)",
        "(Tired.total is not as it was)",
    ),
    "ppo Dice sync": (f"--env {CARRYING}:Dice --vec sync {PPO}", "Dice.dice is not as it was", "Dice.dice"),
    "dqn CartPole sync, NormalizeReward": (
        f"--env CartPole-v1 --vec sync {DQN} --wrappers gymnasium.wrappers:NormalizeReward",
        "replayed, its actions led to other rewards",
        "replayed, its actions led to other rewards",
    ),
    "ppo Pendulum sync, NormalizeObservation": (
        f"--env Pendulum-v1 --vec sync {PPO} --wrappers gymnasium.wrappers:NormalizeObservation",
        "could not be put back where they were and begin new episodes (replayed, its actions led to another",
        "replayed, its actions led to another observation",
    ),
}
PACKAGES = {"LunarLander": "Box2D", "BipedalWalker": "Box2D", "HalfCheetah": "mujoco", "Hopper": "mujoco"}


def cases(named: dict[str, Any]) -> Iterator[Any]:
    """Yield those of the default suite, and others marked so that LONG_TESTS alone runs them."""
    for name, case in named.items():
        lacks = [module for word, module in PACKAGES.items() if word in name and not importlib.util.find_spec(module)]
        marks = [] if name.startswith("*") else [long_test]
        marks.append(pytest.mark.skipif(bool(lacks), reason=f"not installed: {', '.join(lacks)}"))
        yield pytest.param(case, id=name.removeprefix("* "), marks=marks)


@contextmanager
def stopped_from(step: int) -> Iterator[None]:
    """Stop a run at the end of the first round that begins at this step or later."""
    sent = []

    def wrap(collect: Any) -> Any:
        def collecting(self: Any, *given: Any) -> Any:
            if self.state.step >= step and not sent:
                sent.append(True)
                signal.raise_signal(signal.SIGINT)
            return collect(self, *given)

        return collecting

    with ExitStack() as stack:
        for kind in (TickCollector, FusedCollector):
            stack.enter_context(mock.patch.object(kind, "collect", wrap(kind.collect)))
        yield


def halves(words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str, str]:
    """Train half of a run, and then the rest of it; return the run, and what each half said."""
    places = ["--runs-dir", str(folder), "--no-record"]
    with stopped_from(STEPS // 2):
        assert main([*words.split(), *places]) == 130
    before = capsys.readouterr().out
    (run,) = folder.iterdir()
    assert STEPS // 2 <= RunFolder(run).checkpoints()[-1][0] < STEPS
    assert main(["--resume", str(run), "--no-record"]) == 0
    return run, before, capsys.readouterr().out


@pytest.mark.parametrize("words", [*cases(EXACT)])
def test_two_halves_are_the_whole(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = f"{BUDGET} {words}"
    run, before, after = halves(command, tmp_path / "halves", capsys)
    for said in (before, after):
        assert "not exact" not in said
        assert "does not follow from its seed" not in said
        assert "begin new episode" not in said
    assert_same_run(train(tmp_path / "whole", command), run)


@pytest.mark.parametrize("case", [*cases(OTHERWISE)])
def test_what_cannot_be_exact_is_said(
    case: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, on_resume, at_first = case
    _, before, after = halves(f"{BUDGET} {words}", tmp_path, capsys)
    assert on_resume in " ".join(after.split())
    assert at_first in " ".join(before.split())
