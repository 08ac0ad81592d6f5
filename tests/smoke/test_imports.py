"""Starting quickly: what the front door may import, and what a whole training may."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

HELP = {
    *("agents", "envs", "pydantic", "pydantic_core", "annotated_types", "typing_inspection", "typing_extensions"),
    *("tyro", "docstring_parser", "typeguard", "shtab", "yaml", "numpy"),
}
TRAINING = HELP | {
    *(
        "torch",
        "torchgen",
        "functorch",
        "opt_einsum",
        "gymnasium",
        "farama_notifications",
        "cloudpickle",
        "safetensors",
    ),
    *(
        "rich",
        "pygments",
        "markdown_it",
        "mdurl",
        "tensorboard",
        "google",
        "absl",
        "fsspec",
        "packaging",
        "six",
        "threadpoolctl",
    ),
    *("tqdm", "cuda"),  # PyTorch takes them where they are installed
}
# parts of the allowed that take long, and that nothing but compiling, drawing or statistics needs
HEAVY = {"torch._dynamo", "torch._inductor", "sympy", "scipy", "matplotlib", "pygame", "stable_baselines3", "PIL"}

PROGRAM = """
import sys
before = set(sys.modules)
from agents.train import main
{train}
found = set(sys.modules) - before
tops = {{name.partition(".")[0] for name in found}} - set(sys.stdlib_module_names)
print(*sorted(top for top in tops if not top.startswith(("_", "cython"))), file=sys.stderr)
print(*sorted(found & {heavy!r}), file=sys.stderr)
"""
RUN = "for algo in ('ppo', 'dqn'):\n"
RUN += "    words = f'--env CartPole-v1 --algo {algo} -n 300 --no-record --quiet --final-eval-episodes 2'\n"
RUN += "    assert main(words.split()) == 0"


def imported(train: str, folder) -> tuple[set[str], set[str]]:
    """Return the packages that a program imports, and which of the heavy modules."""
    program = PROGRAM.format(train=train, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    packages, heavy = done.stderr.split("\n")[-3:-1]
    return set(packages.split()), set(heavy.split())


def test_the_front_door_imports_little(tmp_path):
    packages, heavy = imported("", tmp_path)
    assert packages <= HELP
    assert {"agents", "tyro", "pydantic"} <= packages
    assert not heavy


def test_training_imports_nothing_that_only_others_need(tmp_path):
    packages, heavy = imported(RUN, tmp_path)
    assert packages <= TRAINING
    assert {"torch", "gymnasium", "tensorboard"} <= packages
    assert not heavy


def test_ctrl_c_while_a_command_imports_ends_it_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    given = {"args": [sys.executable, "-m", "agents.train", "--help"], "env": os.environ | {"PYTHONPATH": paths}}

    def ends(handler: object) -> tuple[int, str]:
        before = signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]
        try:
            done = subprocess.run(**given, capture_output=True, text=True, check=False)  # type: ignore[call-overload]
        finally:
            signal.signal(signal.SIGINT, before)
        return done.returncode, done.stderr.strip().rpartition("\n")[2]

    assert ends(signal.default_int_handler) == (-signal.SIGINT, "")
    code, said = ends(signal.SIG_IGN)  # as in the background of a shell
    assert code > 0, said
    assert "tyro" in said, "it goes on, and finds no parser in that file"


def test_programs_that_import_agents_keep_ctrl_c(tmp_path: Path) -> None:
    """Of a package too, whose `__init__` is imported before the module that is run."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import agents\n")
    words = "import signal", "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    (tmp_path / "mine" / "train.py").write_text("\n".join(words))
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command = [sys.executable, "-m", "mine.train"]
        subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True)
    finally:
        signal.signal(signal.SIGINT, before)
