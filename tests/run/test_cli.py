"""Exit codes, the last line, the list of commands, and the flags of `train`."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import agents.__main__ as listing
from agents import bench, check, evaluate, record, train, watch
from agents.algos.dqn.config import DQNConfig
from agents.core.settings import idle
from agents.lab.comparison import options as compare_options
from agents.run import registry, spellings
from agents.run.cli import print_json, run_command
from agents.run.config import CONFIGS, FLAGS, RUN_FIELDS, Layer, RunConfig, resolve
from agents.run.flags import is_sb3
from agents.run.summary import env_flags
from agents.run.yaml_files import load_config_file
from envs.errors import UserError
from tests.printed import printed_json
from tests.run.running import NAMES, read_config, setting_of_others


def fail(error: BaseException) -> Any:
    def command(argv: list[str]) -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("bad"), 2), (KeyboardInterrupt(), 130), (SystemExit(0), 0), (SystemExit(2), 2), (SystemExit("x"), 2)],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert run_command(fail(error), []) == code
    assert run_command(lambda argv: len(argv), ["a", "b", "c"]) == 3


def test_a_user_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(fail(UserError("bad thing")), [])
    assert capsys.readouterr() == ("", "error: bad thing\n")
    run_command(fail(UserError("bad thing")), ["--debug"])
    assert "Traceback" in capsys.readouterr().err


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(fail(ZeroDivisionError()), [])


@pytest.mark.parametrize("command", ["print('x', flush=True)", "print('x')", "print('x') or sys.exit(0)"])
def test_a_reader_that_hangs_up_gets_no_traceback(command: str) -> None:
    code = (
        "import sys; from agents.run.cli import run_command; sys.stdin.read(); "
        f"sys.exit(run_command(lambda _: {command}, []))"
    )
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe)
    assert child.stdout is not None
    child.stdout.close()  # and only then its stdin, which the child waits for
    errors = child.communicate()[1]
    assert (child.returncode, errors) == (141, b"")


def test_a_broken_pipe_of_its_own_is_not_hidden() -> None:
    with pytest.raises(BrokenPipeError):
        run_command(fail(BrokenPipeError()), [])


def test_print_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": math.nan, "b": [-math.inf, {"x": (math.nan, 1)}], "c": 0.1, "d": None, "e": "ü"})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"a": None, "b": [None, {"x": [None, 1]}], "c": 0.1, "d": None, "e": "ü"}


def test_the_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert listing.main([]) == 0
    printed = capsys.readouterr().out
    assert "train     Train an agent" in printed or "train  Train an agent" in printed
    assert "--help" in printed
    assert listing.main(["trian"]) == 2
    assert "no command 'trian'. Did you mean train?" in capsys.readouterr().err


def test_listing_and_help_need_no_heavy_modules() -> None:
    code = (
        "import sys, agents.__main__ as m, agents.train as t; m.main([]); t.main(['--help']);"
        "heavy = {'torch', 'matplotlib', 'scipy', 'pygame', 'stable_baselines3', 'imageio', 'tensorboard'};"
        "sys.exit(str(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@dataclass
class Summary:
    run: str = "runs/x"
    eval_mean: float = math.nan
    interrupted: bool = False


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """Stand in for the training: note what it is called with."""
    calls: list[dict[str, Any]] = []

    def noted(config: RunConfig, **rest: Any) -> Summary:
        calls.append({"config": config, **rest})
        return Summary()

    module = ModuleType("agents.run.runner")
    module.train = noted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agents.run.runner", module)
    monkeypatch.chdir(tmp_path)
    return calls


def test_flags_of_a_part_that_is_off_are_told(runner: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    trained(runner, "--env CartPole-v1 --memory-size 3 --curiosity-coef 2")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "--memory-size changes nothing here, as --memory is none"
    assert said[1] == "--curiosity-coef changes nothing here, as --curiosity is none"
    trained(runner, "--env CartPole-v1 --memory-size 3 --memory gru --augment none")
    assert capsys.readouterr().out == ""
    trained(runner, "--env CartPole-v1 --algo dqn --munchausen --no-double-q")
    assert capsys.readouterr().out == "--double-q changes nothing here, as --munchausen is true\n"
    trained(runner, "--env Pendulum-v1 --algo sac --preset crossq --tau 0.1")
    assert capsys.readouterr().out == "--tau changes nothing here, as --batch-norm is true\n"
    trained(runner, "--env Pendulum-v1 --algo sac --tau 0.1")
    assert capsys.readouterr().out == ""


def trained(runner: list[dict[str, Any]], line: str) -> RunConfig:
    assert train.main(line.split()) == 0
    config: RunConfig = runner[-1]["config"]
    return config


def test_flags_reach_the_runner(runner: list[dict[str, Any]]) -> None:
    config = trained(
        runner,
        "--env Some-v0 --algo dqn --seed 3 --learning_rate lin_1e-3 --n-envs=2 --target-reward -1e2 --device cpu "
        "--vec sync --env-kwargs gravity=9.8 name=x=y sizes=[1,2] off=none --net-arch 32 16 --no-double-q --norm-obs",
    )
    expected = {
        "env": "Some-v0",
        "algo": "dqn",
        "seed": 3,
        "learning_rate": "lin_1e-3",
        "n_envs": 2,
        "target_reward": -100.0,
        "device": "cpu",
        "vec": "sync",
        "env_kwargs": {"gravity": 9.8, "name": "x=y", "sizes": [1, 2], "off": None},
        "net_arch": [32, 16],
        "double_q": False,
        "norm_obs": True,
    }
    assert config == resolve([Layer(FLAGS, expected)])


@pytest.mark.parametrize(
    "flag", ["--total-timesteps 5e3", "--total_timesteps=5000", "--n-timesteps 5000", "-n 5_000", "--n_timesteps 5000"]
)
def test_spellings_of_the_budget(runner: list[dict[str, Any]], flag: str) -> None:
    assert trained(runner, f"--env Some-v0 {flag}").params.total_timesteps == 5000


@pytest.mark.parametrize("none", ["none", "None", "null"])
def test_none_switches_off(runner: list[dict[str, Any]], tmp_path: Path, none: str) -> None:
    (tmp_path / "mine.yaml").write_text("env: Some-v0\ntarget_reward: 475\nnorm_obs: true")
    assert trained(runner, "--config mine.yaml").params.target_reward == 475
    config = trained(runner, f"--config mine.yaml --target-reward {none} --no-norm-obs")
    assert config.params.target_reward is None
    assert config.params.network.norm_obs is False


def test_options_reach_the_runner(runner: list[dict[str, Any]]) -> None:
    trained(runner, "--env Some-v0")
    defaults = {
        "runs_dir": Path("runs"),
        "replays_dir": Path("replays"),
        "resume": None,
        "quiet": False,
        "record_steps": 1_000,
    }
    assert {name: runner[-1][name] for name in defaults} == defaults
    trained(runner, "--env Some-v0 --runs-dir a --replays-dir b --quiet --no-record")
    changed = {"runs_dir": Path("a"), "replays_dir": Path("b"), "resume": None, "quiet": True, "record_steps": 0}
    assert {name: runner[-1][name] for name in changed} == changed
    trained(runner, "--env Some-v0 --record-steps 70")
    assert runner[-1]["record_steps"] == 70


def test_a_folder_is_ours_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "ours.zip").mkdir()
    found = [is_sb3(path) for path in (tmp_path / "ours.zip", tmp_path / "theirs.zip", tmp_path / "run", None)]
    assert found == [False, True, False, False]


def test_json_is_the_last_line(runner: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    trained(runner, "--env Some-v0 --json")
    assert printed_json(capsys) == {
        "run": "runs/x",
        "eval_mean": None,
        "interrupted": False,
    }


def test_names_of_other_programs_are_none_of_ours() -> None:
    commands = [train.Options, compare_options.Options, evaluate.Options, watch.Options, bench.Options]
    settings = {name for algo in registry.names() for name in registry.find(algo).config.flat_fields()}
    flags = {field.name for options in commands for field in dataclasses.fields(options)}
    assert spellings._OTHERS.keys() <= settings | set(RUN_FIELDS) | flags
    words = [word for others in spellings._OTHERS.values() for word in others.split()]
    assert not {*words, *spellings._NEEDLESS} & (settings | set(RUN_FIELDS) | set(vars(train.Options())))
    for ours, others in spellings._OTHERS.items():
        for word in others.split():
            assert spellings.suggestion(word, [ours, "other"], "--{}".format) == f" Did you mean --{ours}?"


@pytest.mark.parametrize("line", ["--num-episodes 3", "--n-eval-episodes=3"])
def test_other_commands_know_other_spellings_too(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(line.split()) == 2
    assert f"{line.split()[0]}: unknown flag. Did you mean --episodes?" in capsys.readouterr().err


def test_files_may_have_other_spellings_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("env: Some-v0\nlr: 1e-3\n")
    assert train.main(["--config", str(tmp_path / "mine.yaml")]) == 2
    assert "mine.yaml: lr: unknown setting. Did you mean learning_rate?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--seed 3", "for example: --env CartPole-v1"),
        ("--env Some-v0 --gama 3", "--gama: unknown flag. Did you mean --gamma?"),
        ("--env Some-v0 --gama=3", "--gama=3: unknown flag. Did you mean --gamma?"),
        ("--env Some-v0 --quite", "--quite: unknown flag. Did you mean --quiet"),
        ("--env Some-v0 --lr 3", "--lr: unknown flag. Did you mean --learning-rate? 'python"),
        ("--env Some-v0 --Num_Envs=3", "--Num_Envs=3: unknown flag. Did you mean --n-envs? 'python"),
        ("--env Some-v0 -f logs", "-f: unknown flag. Did you mean --runs-dir? 'python"),
        ("--env Some-v0 -i old", "-i: unknown flag. Did you mean --resume? 'python"),
        ("--env Some-v0 -P", "-P: unknown flag. Progress is shown unless --quiet"),
        ("--env Some-v0 -params n_envs:2", "-params: unknown flag. Each setting is a flag of its own"),
        ("--env Some-v0 --hyperparams gamma:1", "--hyperparams: unknown flag. Each setting is a flag of its own"),
        ("--env Some-v0 -optimize", "-optimize: unknown flag. python -m agents.tune"),
        ("--env Some-v0 --save-model", "--save-model: unknown flag. Every run saves its model"),
        ("--env Some-v0 --exp-name x", "--exp-name: unknown flag. Did you mean --name? 'python"),
        ("--env-id Some-v0", "--env-id: unknown flag. Did you mean --env? 'python"),
        ("--env Some-v0 --log-interval 5", "--log-interval: unknown flag. Every run writes its curves into its folder"),
        ("--env Some-v0 --epsilon 0.1", "--epsilon: exploration_final_eps is a setting of "),
        ("--env Some-v0 --algo dqn --epsilon 0.1", "--epsilon: unknown flag. Did you mean --exploration-final-eps? '"),
        ("--env Some-v0 --algo dqn --clip-coef 1", "--clip-coef: clip_range is a setting of ppo"),
        ("--env Some-v0 --gamma 3", "--gamma: 3 is out of range; it must be >= 0 and <= 1"),
        ("--env Some-v0 --n-steps x", "--n-steps: 'x' given, INTEGER expected"),
        ("--env Some-v0 --buffer-size 3", f"--buffer-size: {setting_of_others('buffer_size', 'ppo')}"),
        ("--env Some-v0 --algo pppo", f"--algo: 'pppo' given, {NAMES} expected. Did you mean ppo?"),
        ("--env Some-v0 --algo rainbow", f"{NAMES} expected. That is --algo dqn --preset rainbow."),
        ("--env Some-v0 --algo QR-DQN", "That is --algo dqn --distribution qr."),
        ("--env Some-v0 --algo tqc", "That is --algo sac --preset tqc."),
        ("--env Some-v0 --algo recurrent_ppo", "That is --algo ppo --memory lstm."),
        ("--env Some-v0 --algo trpo", "There is no trpo here; --algo ppo comes nearest."),
        ("--env Some-v0 --start-e 1", "--start-e: exploration_initial_eps is a setting of dqn"),
        ("--env Some-v0 --n-evaluations 5", "Did you mean --eval-freq?"),
        ("--env Some-v0 --optimize-hyperparameters", "python -m agents.tune searches"),
        ("--env Some-v0 --policy-kwargs x", "Settings of the network are settings like all others: net_arch"),
        ("--env Some-v0 --normalize 1", "Did you mean --norm-reward or --norm-obs?"),
        ("--env Some-v0 --vec fast", "--vec: 'fast' given, auto|native|sync|async|vector|envpool|ale expected"),
        ("--env Some-v0 --env-kwargs gravity", "--env-kwargs: 'gravity' given, KEY=VALUE expected"),
        ("--env Some-v0 --config nowhere.yaml", "nowhere.yaml: there is no such config file"),
        ("--env Some-v0 --batch-size 5000", "batch_size 5000 is larger than a whole rollout"),
        ("Some-v0", "unexpected argument 'Some-v0'"),
        ("--env Some-v0 --gamma", "--gamma"),
        ("--env", "--env"),
        ("--config a --resume b", "--config and --resume exclude one another"),
        ("--resume nowhere", "nowhere is no run folder"),
        ("--env Some-v0 --config=", "--config: '' given, a path expected"),
        ("--resume=", "--resume: '' given, a path expected"),
        ("--env Some-v0 --trust=yes", "python -m agents.train: error: argument --trust"),
    ],
)
def test_mistakes_in_flags(
    runner: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert train.main(line.split()) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert "--beside" not in printed
    assert not runner


def test_what_is_empty_is_not_taken_for_what_is_not_given(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert check.main(["--env", ""]) == 2
    assert "there is no environment ''" in capsys.readouterr().err
    assert record.main(["", "--out", str(tmp_path / "out"), "--runs-dir", str(tmp_path)]) == 2
    assert ". is no run folder" in capsys.readouterr().err
    assert check.main(["--steps", "0"]) == 2
    assert capsys.readouterr().err == "error: --steps: 0 given, at least 1 expected.\n"


def help_text(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert train.main(line.split()) == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_help_shows_the_resolved_defaults(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("env: Some-v0\nalgo: dqn\ntau: 0.125\nnet_arch: [7, 9]\ndouble_q: false")
    shown = help_text(f"--config {tmp_path / 'mine.yaml'} --help", capsys)
    for text in ("(default: Some-v0)", "(default: 0.125)", "(default: 7 9)", "--double-q, --no-double-q", "-n INTEGER"):
        assert text in shown
    assert "--gae-lambda" not in shown


def test_help_describes_every_field_and_ends_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for algo in registry.names():
        shown = help_text(f"--algo {algo} --help", capsys)
        config = registry.find(algo).config
        fields = config.flat_fields()
        shut = idle(config, {name: field.default for name, field in fields.items()})
        for name, field in fields.items():
            assert (f"--{name.replace('_', '-')}" in shown.replace(",", " ").split()) == (name not in shut)
            assert str(field.description) in shown or name in shut
        for part, kind in {algo: config, **config.parts()}.items():
            assert f" {part} options " in shown
            assert str(kind.__doc__) in shown
        assert f"--algo {NAMES}|my_file.py:Class" in shown
        assert shown.partition("examples:")[2].count("python -m agents.train") == 5
    assert help_text("", capsys) == help_text("--help", capsys)


@pytest.mark.parametrize(
    ("line", "shown", "not_shown"),
    [
        ("--algo dqn", "--munchausen --distribution --memory --dueling", "--munchausen-tau --n-atoms --burn-in"),
        ("--algo dqn --munchausen", "--munchausen-tau", "--noisy-std --n-quantiles"),
        ("--algo dqn --distribution c51", "--n-atoms --v-min", "--n-quantiles"),
        ("--algo dqn --distribution=qr", "--n-quantiles", "--n-atoms --v-min"),
        ("--algo dqn --memory gru", "--memory-size --burn-in --sequence-length", "--prioritized-replay-eta"),
        ("--algo dqn --preset r2d2", "--burn-in --prioritized-replay-alpha --prioritized-replay-eta", "--noisy-std"),
        ("--algo dqn --preset r2d2 --memory none", "--prioritized-replay-alpha", "--prioritized-replay-eta --burn-in"),
        ("--memory lstm", "--memory-size", "--burn-in"),
        ("--algo ppo", "--memory --log-std-init", "--memory-size --sde-sample-freq"),
        ("--algo sac", "--use-sde", "--sde-sample-freq --log-std-init"),
        ("--algo sac --use-sde", "--sde-sample-freq --log-std-init", "--n-quantiles"),
    ],
)
def test_help_shows_the_settings_of_parts_that_are_in_use(
    line: str, shown: str, not_shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in (help_text(f"--help --env CartPole-v1 {line}", capsys), help_text(f"{line} -h", capsys)):
        words = text.replace(",", " ").split()
        assert set(shown.split()) <= set(words)
        assert not set(not_shown.split()) & set(words)


@pytest.mark.parametrize("flags", ["--munchausen --preset dqn", "--preset=dqn --munchausen", "--preset none"])
def test_a_switch_counts_that_says_what_is_packaged(runner: list[dict[str, Any]], flags: str) -> None:
    assert load_config_file(CONFIGS / "dqn" / "LunarLander-v3.yaml")["munchausen"] is True
    params = trained(runner, f"--env LunarLander-v3 --algo dqn {flags}").params
    assert isinstance(params, DQNConfig)
    assert params.target.munchausen


def test_cleanrls_flags_are_taken_for_ours(runner: list[dict[str, Any]]) -> None:
    line = (
        "--env Some-v0 --algo dqn --total-timesteps 9000 --num-envs 4 --start-e 0.9 --end-e 0.03 --v-min -7 --v-max 7"
    )
    more = "--exploration-fraction 0.3 --target-network-frequency 77 --train-frequency 12 --n-atoms 21 --n-quantiles 9"
    params: Any = trained(runner, f"{line} {more}").params
    assert (params.total_timesteps, params.n_envs, params.target_update_interval) == (9000, 4, 77)
    assert params.replay.train_freq == 12
    assert tuple(params.exploration.model_dump().values()) == (0.3, 0.9, 0.03)
    network = params.network
    assert (network.n_atoms, network.v_min, network.v_max, network.n_quantiles) == (21, -7.0, 7.0, 9)


def test_files_may_have_cleanrls_names(runner: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("env: Some-v0\nalgo: pqn\nnum_envs: 6\nend_e: 0.01\nbatch_size: 32\n")
    params: Any = trained(runner, f"--config {tmp_path / 'mine.yaml'}").params
    assert (params.n_envs, params.exploration.exploration_final_eps) == (6, 0.01)


def test_a_part_is_set_up_whether_help_shows_it_or_not(runner: list[dict[str, Any]]) -> None:
    params: Any = trained(runner, "--env Some-v0 --algo dqn --munchausen-tau 0.5 --munchausen").params
    assert params.target.munchausen
    assert params.target.munchausen_tau == 0.5


@pytest.fixture
def run(tmp_path: Path, runner: list[dict[str, Any]]) -> Path:
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    config = resolve([Layer(FLAGS, {"env": "Some-v0", "algo": "dqn", "tau": 0.5, "env_kwargs": {"a": 1, "b": 2}})])
    (folder / "config.yaml").write_text(config.to_yaml())
    return folder


def test_resume_takes_the_run_as_it_was(run: Path, runner: list[dict[str, Any]]) -> None:
    config = trained(runner, "--resume runs/a -n 7000 --target-reward none --eval-freq 0 --tau 0.5 --env-kwargs a=1")
    assert runner[-1]["resume"] == Path("runs/a")
    before = read_config(run / "config.yaml").model_dump()
    assert config.model_dump() == before | {"total_timesteps": 7000, "eval_freq": 0}


@pytest.mark.parametrize(("flags", "compiled"), [("", "on"), ("--compile off", "off")])
def test_a_run_goes_on_on_another_device(run: Path, runner: list[dict[str, Any]], flags: str, compiled: str) -> None:
    file = run / "config.yaml"
    for before, after in ({"device": "cpu", "compile": "off"}, "auto"), ({"device": "cpu", "compile": "on"}, compiled):
        file.write_text(read_config(file).model_copy(update=before).to_yaml())
        assert trained(runner, "--resume runs/a").compile == before["compile"]
        config = trained(runner, f"--resume runs/a --device cuda {flags if after != 'auto' else ''}")
        assert (config.device, config.compile) == ("cuda", after)


def test_an_environment_is_written_as_the_flags_that_mean_it() -> None:
    kwargs: dict[str, Any] = {
        "gravity": 9.5,
        "mode": "fast",
        "name": "1e3",
        "on": True,
        "none": None,
        "sizes": [1, "a b"],
    }
    wrappers: list[Any] = ["gymnasium.wrappers:ClipReward", {"my.py:Wrapper": {"most": 2}}]
    words = env_flags("CartPole-v1", kwargs, wrappers)
    assert {"gravity=9.5", "mode=fast", "on=true"} <= {*words}, "as one would type it"
    given, _ = train.parse(words, {})
    assert given == {"env": "CartPole-v1", "env_kwargs": kwargs, "wrappers": wrappers}
    assert env_flags("CartPole-v1", {}, []) == ["--env", "CartPole-v1"]


def test_a_run_in_tf32_goes_on_elsewhere_in_what_there_is(run: Path, runner: list[dict[str, Any]]) -> None:
    file = run / "config.yaml"
    for before, after in ("tf32", "auto"), ("bf16", "bf16"), ("float32", "float32"):
        changed = {"device": "cuda", "precision": before}
        file.write_text(read_config(file).model_copy(update=changed).to_yaml())
        assert trained(runner, "--resume runs/a").precision == before
        assert trained(runner, "--resume runs/a --device cpu").precision == after
    assert train.main(["--resume", "runs/a", "--precision", "tf32"]) == 2


@pytest.mark.parametrize(
    "flag", ["--tau 0.25", "--algo ppo", "--seed 1", "--env Other-v0", "--env-kwargs a=2", "--n-envs 2"]
)
def test_resume_refuses_what_would_be_another_run(
    run: Path, runner: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    assert train.main(f"--resume runs/a {flag}".split()) == 2
    printed = capsys.readouterr().err
    assert f"{flag.split()[0]}: the run has" in printed
    assert "--total-timesteps" in printed
    assert not runner
