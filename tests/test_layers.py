"""The rooms of the house: imports run downwards only, and no room is forgotten."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = ROOT / "pyproject.toml"
REGISTERS = ROOT / "envs" / "native" / "__init__.py"  # importing it must be enough for gymnasium.make
LOOKS_UP = ROOT / "agents" / "__init__.py"  # names of the Python API, when they are first asked for


def lint_imports(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter's command in `folder`, with this interpreter."""
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    return subprocess.run(
        [sys.executable, "-c", code, "--config", str(config), "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_imports_run_downwards_only():
    result = lint_imports(ROOT, PYPROJECT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_check_notices_an_upward_import(tmp_path):
    for name, text in {"above": "", "below": "import rooms.above"}.items():
        (tmp_path / "rooms" / name).mkdir(parents=True)
        (tmp_path / "rooms" / name / "__init__.py").write_text(text)
    (tmp_path / "rooms" / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.importlinter]\nroot_packages = ["rooms"]\n[[tool.importlinter.contracts]]\n'
        'name = "downwards"\ntype = "layers"\nlayers = ["rooms.above", "rooms.below"]\n'
    )
    result = lint_imports(tmp_path, tmp_path / "pyproject.toml")
    assert result.returncode == 1
    assert "rooms.below -> rooms.above" in result.stdout


def test_every_room_is_in_the_contract():
    contract = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"][0]
    named = {module.strip() for layer in contract["layers"] for module in layer.split("|")}
    agents = {f"agents.{path.stem}" for path in (ROOT / "agents").iterdir() if not path.name.startswith("_")}
    assert named == agents | {"envs"}


@pytest.mark.parametrize("package", ["agents", "envs"])
def test_packages_run_nothing_on_import(package):
    files = set((ROOT / package).rglob("__init__.py")) - {REGISTERS, LOOKS_UP}
    assert files
    assert not [file for file in files if file.read_text().strip()]


def test_the_package_that_looks_names_up_imports_nothing_of_ours():
    script = "import sys, agents; print([name for name in sys.modules if name.startswith(('agents.', 'envs'))])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_that_registers_environments_does_nothing_else():
    code = [line for line in REGISTERS.read_text().splitlines() if not line.startswith("#")]
    assert [line.partition("  #")[0] for line in code] == ["import envs.native.gym_env"]
