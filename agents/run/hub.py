"""Runs on the Hugging Face hub: what acting needs and what was measured, there and back.

Only the files in `FILES` go either way, none of which holds code. Sent, they name no path of this machine; fetched,
their sizes are known before the first byte of them.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from agents.run import code, registry
from agents.run.folder import RunFolder
from agents.run.models import LoadedPolicy, load_policy
from agents.run.recording import replay_folder
from agents.run.registry import title_of
from agents.run.storage import atomic_folder, read_json
from agents.run.summary import env_flags
from agents.run.terminal import typed
from agents.run.trees import read_tree, write_tree
from agents.run.yaml_files import dump_yaml, load_config_file
from envs.errors import UserError
from envs.locate import env_label

LIBRARY = "deep-rl-suite"
KB, MB, GB = 2**10, 2**20, 2**30
_MODEL = {"model.json": 16 * MB, "model.safetensors": 4 * GB}
FILES = {  # what may lie in a repository -> the most bytes of it
    "README.md": MB,
    "config.yaml": 64 * KB,
    "summary.json": MB,
    "final_episodes.json": 64 * MB,
    "evaluations.csv": 64 * MB,
    "progress.csv": 64 * MB,
    "replay.mp4": 256 * MB,
    **_MODEL,
    **{f"best/{name}": most for name, most in _MODEL.items()},
}
_MEASURED = ("final_episodes.json", "evaluations.csv", "progress.csv")  # numbers alone, sent as they are
_SECRET_NAME = re.compile(r"(^|_)(token|password|passwd|secret|api_?key|access_?key|credentials?)$", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(hf_|ghp_|github_pat_|sk-)[A-Za-z0-9_-]{16,}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def push(
    run: Path,
    repo: str,
    *,
    replays_dir: Path,
    private: bool = False,
    trust: code.Trust = False,
) -> list[str]:
    """Upload a run as one commit; return sentences worth telling, the address first.

    Args:
        run: its folder.
        repo: "user/name"; made if it is not there.
        replays_dir: where a recorded episode is looked for.
        private: whether a repository that is made is hidden from others.
        trust: which code outside the package may be imported to read the run (`code.refuse`).

    Raises:
        UserError: there is no run, it needs code that is not to be run or holds what looks like a secret, the hub
            refuses, or its library is missing.
    """
    _check_name(repo)
    hub = _library()
    api = hub.HfApi()
    with tempfile.TemporaryDirectory() as folder:
        needed = gather(run, Path(folder), repo, replays_dir, trust)
        files = _files_in(Path(folder))
        with _asking("push to", repo):
            address = api.create_repo(repo, private=private or None, exist_ok=True)
            there = {file.rfilename for file in api.model_info(repo).siblings or ()}
            operations = [
                *(hub.CommitOperationAdd(name, Path(folder, name)) for name in files),
                # what an earlier push left must not be taken for a part of this one
                *(hub.CommitOperationDelete(name) for name in sorted(there & FILES.keys() - set(files))),
            ]
            api.create_commit(repo, operations, commit_message=f"Add {run.resolve().name}")
    return [f"{address}: {', '.join(files)}", *_of_code(needed)]


def pull(repo: str, runs_dir: Path, *, name: str | None = None, revision: str | None = None) -> tuple[Path, list[str]]:
    """Download a run into a new folder; return the folder, and sentences worth telling.

    Args:
        repo: "user/name".
        runs_dir: where the folder is made.
        name: the folder's; by default that of the repository.
        revision: a branch, tag or commit.

    Raises:
        UserError: there is no such repository or no run in it, a file is larger than it may be or damaged, the folder
            is there already, or the hub's library is missing.
    """
    _check_name(repo)
    name = repo.partition("/")[2] if name is None else name
    if name == "" or name.startswith(".") or re.search(r'[/\\:*?"<>|\x00-\x1f]', name):
        raise UserError(f"--name: {name!r} given, the name of a folder expected.")
    path = runs_dir / name
    if path.exists():
        raise UserError(f"{path} is there already: take it away, or give another --name.")
    api = _library().HfApi()
    with _asking("pull from", repo):
        found = api.model_info(repo, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size for file in found.siblings or ()}
    others = sorted(sizes.keys() - FILES.keys() - {".gitattributes"})
    wanted = {file: size for file, size in sizes.items() if file in FILES}
    if "config.yaml" not in wanted or not wanted.keys() & {"model.json", "best/model.json"}:
        held = ", ".join(sorted(sizes)[:8]) or "nothing"
        raise UserError(f"{repo} holds no run of this suite, which has config.yaml and a model; it holds {held}")
    for file, size in wanted.items():
        _check_size(f"{repo}: {file}", size, FILES[file])
    with atomic_folder(path) as folder:
        with _asking("pull from", repo):
            for file in wanted:
                api.hf_hub_download(repo, file, revision=found.sha, local_dir=folder)
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the library's own notes
        for file in wanted:
            _check_size(f"{repo}: {file}", (folder / file).stat().st_size, FILES[file])
        config = load_config_file(folder / "config.yaml")
        for model in ("", "best"):
            if (folder / model / "model.json").exists():
                read_tree(folder / model, "model")
    notes = [f"left there, as no run has them: {', '.join(others[:8])}"] if others else []
    return path, notes + _of_code(_code_of(config))


def gather(run: Path, folder: Path, repo: str, replays_dir: Path, trust: code.Trust = False) -> list[str]:
    """Write into `folder` what is sent of a run; return the names of the user's own code that it needs.

    Raises:
        UserError: there is no run or no model, or its settings hold what looks like a secret.
    """
    settings = portable(RunFolder.open(run).config(trust).model_dump(mode="json"))
    latest, best = (load_policy(run, which, trust=trust, acting=False) for which in ("latest", "best"))
    _copy_model(latest, folder)
    if best.path != latest.path:
        _copy_model(best, folder / "best")
    (folder / "config.yaml").write_text(dump_yaml(settings), encoding="utf-8")
    for name in _MEASURED:
        if (run / name).exists():
            shutil.copyfile(run / name, folder / name)
    summary: dict[str, Any] = {}
    if (run / "summary.json").exists():
        summary = portable(read_json(run / "summary.json") | {"run": run.resolve().name})
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    videos = sorted(replay_folder(latest, replays_dir).glob("*.mp4"), key=lambda file: file.stat().st_mtime)
    if videos:
        shutil.copyfile(videos[-1], folder / "replay.mp4")
    needed, home = _code_of(settings), str(Path.home())
    told = "" if home == Path.home().anchor else home  # as a service's is, whose name is in every text
    (folder / "README.md").write_text(model_card(settings, summary, repo, bool(videos)), encoding="utf-8")
    for file in _files_in(folder):
        _check_size(f"{run}: {file}", (folder / file).stat().st_size, FILES[file])
        if told and file.endswith((".md", ".yaml", ".json")) and told in (folder / file).read_text(encoding="utf-8"):
            raise UserError(f"{file} would name {told}, and nothing was sent: take it out of the run's settings")
    return needed


def _copy_model(loaded: LoadedPolicy, folder: Path) -> None:
    """Write a model's files anew, without what its description says of this machine."""
    weights, meta = read_tree(loaded.path, "model")
    folder.mkdir(exist_ok=True)
    write_tree(folder, "model", weights, portable(meta))


def portable(value: Any, name: str = "") -> Any:
    """Return nested settings in which a path from a root, or from a home folder, is its last part alone.

    Raises:
        UserError: a value looks like a secret.
    """
    if isinstance(value, dict):
        return {portable(key): portable(child, str(key)) for key, child in value.items()}  # a wrapper's name is a key
    if isinstance(value, list | tuple):
        return type(value)(portable(child, name) for child in value)
    if not isinstance(value, str):
        return value
    if (value and _SECRET_NAME.search(name)) or _SECRET_VALUE.search(value):
        raise UserError(
            f"{name} looks like a secret, and nothing was sent: let the environment read it from os.environ instead"
        )
    rooted = PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute() or value.startswith("~")
    return re.split(r"[/\\]", value)[-1] if rooted else value


def model_card(settings: dict[str, Any], summary: dict[str, Any], repo: str, video: bool) -> str:
    """Return the README.md of a repository: metadata as the hub's lists read it, then the same for people.

    Args:
        settings: portable.
        summary: what `summary.json` holds; {} where the run was not brought to its end.
        repo: "user/name".
        video: whether there is one.

    Raises:
        UserError: the summary has a score that is none.
    """
    env, title = env_label(settings["env"]), title_of(settings["algo"])
    head: dict[str, Any] = {
        "library_name": LIBRARY,
        "tags": [env, "deep-reinforcement-learning", "reinforcement-learning", title.lower(), LIBRARY],
    }
    score = _score(summary)
    if score is not None:
        result = {
            "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
            "dataset": {"name": env, "type": env},
            "metrics": [{"type": "mean_reward", "value": score, "name": "mean_reward"}],
        }
        head["model-index"] = [{"name": title, "results": [result]}]
    needed = _code_of(settings)
    pulled, score_said = f"runs/{repo.partition('/')[2]}", "The final policy was not evaluated."
    if score:
        episodes = summary["eval_episodes"]
        score_said = f"Mean reward of the final policy over {episodes} fresh greedy episodes: **{score}**."
    command = typed("python", "-m", "agents.evaluate", pulled, "--checkpoint", "latest")  # the final policy
    if not plays(settings):
        score_said = "It has no policy; a training begins with what it learnt."
        command = begin_command(settings, pulled)
    lines = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {title} on {env}",
        f"Trained with {LIBRARY}, seed {settings['seed']}.",
        score_said,
        *(["[A recorded episode](replay.mp4)"] if video else []),
        f"```bash\npython -m agents.hub pull {repo}\n{command}\n```",
        *(f"{sentence[0].upper()}{sentence[1:]}." for sentence in _of_code(needed)),
        f"## Settings\n\n```yaml\n{dump_yaml(settings)}```",
    ]
    return "\n\n".join(lines) + "\n"


def plays(settings: dict[str, Any]) -> bool:
    """Whether a run has a policy, as far as can be told without running code of others."""
    name = settings.get("algo")
    return name not in registry.names() or registry.find(name).load().acts


def begin_command(settings: dict[str, Any], run: Path | str) -> str:
    """Return the command that begins a training with what a run learnt."""
    env = env_flags(settings["env"], settings["env_kwargs"], settings["wrappers"])
    return typed("python", "-m", "agents.train", *env, "--from", run)


def _score(summary: dict[str, Any]) -> str | None:
    """Return what the final evaluation found, in words; None where there was none.

    Raises:
        UserError: it is not written in numbers.
    """
    if summary.get("eval_mean") is None:
        return None
    mean, deviation, episodes = (summary.get(name) for name in ("eval_mean", "eval_std", "eval_episodes"))
    if not (isinstance(mean, float) and isinstance(deviation, float) and isinstance(episodes, int)):
        raise UserError("summary.json is malformed: eval_mean, eval_std and eval_episodes must be numbers")
    return f"{mean:.2f} +/- {deviation:.2f}"


def _code_of(settings: dict[str, Any]) -> list[str]:
    """Return the settings' names of code that is no part of the suite, each once."""
    return list(dict.fromkeys(name for _, name in code.names(settings)))


def _of_code(needed: list[str]) -> list[str]:
    return [f"it needs code that is not in it: {', '.join(needed)}"] if needed else []


def _files_in(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def _check_name(repo: str) -> None:
    if not _REPOSITORY.fullmatch(repo) or ".." in repo or "--" in repo:
        raise UserError(f"{repo!r} given, a repository expected, such as user/name.")


def _check_size(what: str, size: int | None, most: int) -> None:
    if size is None or size > most:
        is_ = "has no known size" if size is None else f"has {size:,} bytes"
        raise UserError(f"{what} {is_}; at most {most:,} are allowed")


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError('this needs the package huggingface_hub: pip install -e ".[hub]"') from error
    return huggingface_hub


@contextmanager
def _asking(action: str, repo: str) -> Iterator[None]:
    """Turn whatever the hub or its library raises into one sentence."""
    try:
        yield
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = " ".join(str(error).split()) or type(error).__name__
        if status in (401, 403):
            reason = "it is not there, or not for you: log in with `hf auth login`, or set HF_TOKEN"
        elif status == 404:
            reason = "there is no such repository or revision"
        raise UserError(f"cannot {action} {repo}: {reason}") from error
