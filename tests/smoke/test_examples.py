"""Each command that the first pages and `--help` show is typed, with a smaller budget, in an empty folder."""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from stable_baselines3.common.logger import configure

from agents.__main__ import commands
from agents.__main__ import main as agents
from agents.lab.baselines import make_sb3
from agents.run.flags import parse_flags
from tests.lab.comparison.synthetic import CURVES, write_comparison
from tests.lab.run_folders import write_folder
from tests.run.fake_hub import fake_hub

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs").glob("*.md"))}
PAGES = "".join(
    (README, DOCS["training.md"], DOCS["environments.md"], DOCS["comparing.md"])
)  # whose commands are typed
RUN = "runs/CartPole-v1__ppo__s0__20260101-120000"  # the run that the examples speak of
MODEL = "ppo_cartpole.zip"  # and the model of stable-baselines3
BUDGET = ["--final-eval-episodes", "1", "--eval-freq", "0", "--eval-episodes", "1"]
ROLLOUT = ["--n-envs", "2", "--n-steps", "32", "--batch-size", "32"]


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def commands_of(page: str) -> Iterator[str]:
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (part.strip() for part in line.split("&&"))
    yield from (" ".join(found.split()) for found in re.findall(r"`(python -m agents[^`]*)`", prose_of(page)))


def prose_of(page: str) -> str:
    return re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)


def ours() -> list[str]:
    """Every command line of ours in the first pages and in the epilogs, once for what is typed of it here."""
    epilogs = [importlib.import_module(f"agents.{name}").EXAMPLES for name in commands()]
    shown = [*commands_of(PAGES), *(line.strip() for text in epilogs for line in text.splitlines())]
    found = dict[tuple[str, ...], str]()
    for line in shown:
        if line.startswith("python -m agents"):
            found.setdefault(tuple(small(words_of(line), "here")), line)
    return list(found.values())


def words_of(line: str) -> list[str]:
    """Return a command's name, where it has one, and its words."""
    python, dash_m, module, *words = shlex.split(line, comments=True)
    assert (python, dash_m) == ("python", "-m")
    return [module.removeprefix("agents.")] * (module != "agents") + words


def small(words: list[str], place: str) -> list[str]:
    """Shorten what takes long, let RUN be a run, and write what others would find in a `place` apart."""
    if not words:
        return words
    words = [{"RUN": RUN, "MODEL.zip": MODEL, "OTHER": "latest"}.get(word, word) for word in words]
    if words in (["evaluate"], ["watch"], ["doctor"], ["export"], ["explain"], ["film"]):
        words = [*words, "--runs-dir", "kept"]
    if words[0] == "train" and words not in (["train"], ["train", "--env", "CartPole-v1"]):
        words = [*words, "--no-record"]
    if words[0] == "train" and "--env" in words:
        words = [*words, "-n", "64", *BUDGET, *([] if "--algo" in words else ROLLOUT)]
        words = [*words, "--runs-dir", f"{place}/runs", "--replays-dir", f"{place}/replays"]
    if words[0] == "train" and "--resume" in words:
        words = [*words, "-n", "256", *BUDGET]
    if words[0] == "bench":
        words = [*words, "--list"]
    if words[0] == "runs":  # others need the run
        words = [word for word in words if word not in ("--delete", "--yes")]
    if words[0] == "compare" and words[1:] and words[1].startswith("runs/"):
        return ["compare", "second", *words[1:], "--no-video", "--out", "elsewhere", "--final-eval-episodes", "2"]
    if words[0] == "compare" and len(words) > 1:
        words = [*words, "--list", "--out", "elsewhere"]
    if words[0] in ("evaluate", "explain"):
        words = [*words, *(["--updates", "10"] if "--data" in words else ["--episodes", "2"])]
    if "--beside" in words and "--record" not in words:  # there is no window
        words = [*words, "--record", "both.mp4"]
    if words[:2] == ["watch", MODEL]:  # it does not say how long the episodes were
        words = [*words, "--env-kwargs", "max_episode_steps=20"]
    if words[0] == "explain":
        words = [*words, "--states", "10"]
    if words[0] == "film":
        words = [*words, "--parts", "2", "--seconds", "0.1", "--fps", "5", "--no-gif"]
    if words[0] == "record":
        words = [*words, "--episodes", "2", "--out", f"{place}/recorded"]  # others need datasets/cartpole
    if words[0] == "export":
        words = [*words, "--check", "0"]
    if words[0] in ("distil", "prune"):
        budget = ["--steps", "256"] if words[0] == "distil" else ["--finetune", "64"] * ("--finetune" in words)
        rest = words[2:] if words[1:2] == [RUN] else words[1:]
        words = [words[0], RUN, *rest, *budget, "--episodes", "1", "--runs-dir", "smaller"]
    if words[0] == "tune" and len(words) > 1:
        words = [*words, "--dry-run"]
    return words


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first pages' own environments and a trained run."""
    place = tmp_path_factory.mktemp("place")
    for block in blocks(PAGES, "python"):
        if name := re.match(r"# (\w+\.py)\n", block):
            (place / name[1]).write_text(block)
    words = "--env CartPole-v1 --env-kwargs max_episode_steps=20 --n-envs 2 --n-steps 32 --batch-size 32 -n 128"
    words += " --save-freq 64 --eval-freq 64 --eval-episodes 1 --final-eval-episodes 1 --quiet --no-record"
    assert agents(["train", *words.split(), "--runs-dir", str(place / "runs")]) == 0
    (run,) = (place / "runs").iterdir()
    run.rename(place / RUN)
    recorded = "heuristic --env CartPole-v1 --env-kwargs max_episode_steps=20 --episodes 3"
    assert agents(["record", *recorded.split(), "--out", str(place / "datasets" / "cartpole")]) == 0
    make_sb3("ppo", "CartPole-v1", 1, {"n_steps": 64}, 0).save(place / MODEL)
    write_comparison(place / "runs" / "comparison")
    write_folder(place, env_kwargs={"max_episode_steps": 20}, gamma=0.5, final=[9.0]).rename(place / "second")
    (place / "results.csv").write_text(CURVES)
    (place / "my_space.yaml").write_text("gamma: [0.9, 0.99]\n")
    logger = configure(str(place / "logs" / "PPO_1"), ["tensorboard"])
    logger.record("train/loss", 1.0)
    logger.dump(64)
    logger.close()
    shutil.copytree(place / RUN, place / "kept" / run.name)
    shutil.copytree(ROOT / "docs" / "examples", place / "docs" / "examples")
    return place


@pytest.mark.parametrize("line", ours())
def test_an_example(
    line: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    for name in ("LOOKED", "LINGER"):  # nobody looks at a page
        monkeypatch.setattr(f"agents.view.page.{name}", 0.0)
    monkeypatch.setattr("agents.train.open_viewer", lambda run, quiet: None)
    words = words_of(line)
    with fake_hub(monkeypatch, tmp_path / "cache") if words[:1] == ["hub"] else nullcontext():
        if words[:2] == ["hub", "pull"]:
            assert agents(["hub", "push", RUN, "--repo", words[2]]) == 0
            words += ["--runs-dir", str(tmp_path)]
        assert agents(small(words, str(tmp_path))) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", DOCS)
def test_flags_on_the_other_pages_are_there(page: str) -> None:
    for line in commands_of(DOCS[page]):
        words = shlex.split(line, comments=True)
        if (
            words[:2] != ["python", "-m"]
            or not words[2].startswith("agents.")
            or {"...", "--help", "A", "STEPS"} & {*words}
        ):
            continue
        name = words[2].removeprefix("agents.")
        command = importlib.import_module(f"agents.{name}")
        if name == "train":
            command.parse(words[3:], {"algo": words[words.index("--algo") + 1]} if "--algo" in words else {})
        elif name != "hub":  # which is typed above
            parse_flags(command.Options, words[3:], command=name, about=None, examples="")


def slug(title: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"`|\]\([^)]*\)", "", title).lower()).replace(" ", "-")


def test_links_of_the_pages_lead_somewhere() -> None:
    for page, text in {"../README.md": README, **DOCS}.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(text)):
            if target.startswith("http"):
                continue
            place, _, anchor = target.partition("#")
            file = (ROOT / "docs" / page).parent / place if place else ROOT / "docs" / page
            assert file.exists(), f"{page}: {target}"
            if anchor:
                titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in map(slug, titles), f"{page}: {target}"


def test_the_help_of_every_command_ends_with_its_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for name in commands():
        assert agents([name, "--help"]) == 0
        shown = capsys.readouterr().out
        epilog = importlib.import_module(f"agents.{name}").EXAMPLES
        assert shown.rstrip().endswith(epilog.rstrip())
        assert epilog.count(f"python -m agents.{name}") >= 3


def test_every_command_is_in_readme_and_installed() -> None:
    scripts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for name in commands():
        assert f"`python -m agents.{name}`" in README
        assert f'= "agents.{name}:main"' in scripts
        assert "\n    sys.exit(main())\n" in (ROOT / "agents" / f"{name}.py").read_text(encoding="utf-8")
