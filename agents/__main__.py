"""List the commands: `python -m agents`."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from agents.run.cli import run_command
from envs.errors import UserError, did_you_mean


def commands() -> dict[str, str]:
    """Return each command and the first line of its module's docstring, read without importing it."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def _run(argv: list[str]) -> int:
    known = commands()
    if not argv or argv[0] in ("-h", "--help", "help"):
        width = max(map(len, known))
        print("usage: python -m agents.COMMAND [flags]\n")
        for name, line in known.items():
            print(f"  {name:{width}}  {line}")
        print("\nHelp on one:  python -m agents.COMMAND --help")
        print("A first run:  python -m agents.train --env CartPole-v1")
        return 0
    if argv[0] not in known:
        raise UserError(f"there is no command {argv[0]!r}.{did_you_mean(argv[0], known)} 'python -m agents' lists all.")
    sys.argv = [f"python -m agents.{argv[0]}", *argv[1:]]
    code: int = importlib.import_module(f"agents.{argv[0]}").main(argv[1:])
    return code


def main(argv: list[str] | None = None) -> int:
    """List the commands, or run one: `python -m agents train ...`."""
    return run_command(_run, argv)


if __name__ == "__main__":
    sys.exit(main())
