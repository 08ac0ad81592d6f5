"""From what a user typed after `--env` to a Gymnasium `EnvSpec`, or to the message that helps them.

An environment is named by a registered id ("CartPole-v1"), by "module:Id", where the module registers the
id or holds the class, or by a file of the user's own: "path/to/file.py:Name", or "path/to/file.py" alone. What has the
name is a class of `gymnasium.Env`, a function that returns one (wrapped or not), or a class with the methods of
`envs.native.base.Dynamics`: a native environment. Wrappers are named alike.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from envs.errors import UserError, did_you_mean, listed, nearest, words_of
from envs.ids import FILE, is_atari
from envs.native.base import is_dynamics
from envs.native.gym_env import native_spec

Wrappers = Sequence[str | Mapping[str, Mapping[str, Any]]]  # names, or name -> arguments
# of ids that a package registers when it is imported: its module, what it is, and the extra that installs it
_PACKAGES: tuple[tuple[Callable[[str], Any], str, str, str], ...] = (
    (is_atari, "ale_py", "the Atari emulator", "atari"),
    (re.compile(r"(MiniGrid|BabyAI)-").match, "minigrid", "the package minigrid", "minigrid"),
)


def locate(env_id: str) -> EnvSpec:
    """Return the specification of the environment that `env_id` names.

    Raises:
        UserError: there is none; the message names what was found instead, or what to install.
    """
    if match := FILE.fullmatch(env_id):
        return _from_module(load_file(Path(match["path"])), match["path"], match["name"])
    if ":" in env_id:
        module, _, name = env_id.rpartition(":")
        return _from_module(load_module(module), module, name)
    return _registered(env_id)


def env_label(env_id: str) -> str:
    """Return a name safe in paths: "ALE/Pong-v5" -> "ALE-Pong-v5", "my/file.py:Grid" -> "Grid"."""
    match = FILE.fullmatch(env_id)
    name = (match["name"] or Path(match["path"]).stem) if match else env_id.rpartition(":")[2]
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "env"


def _registered(env_id: str) -> EnvSpec:
    for fits, module, what, extra in _PACKAGES:
        if env_id in gymnasium.registry or not fits(env_id):
            continue
        try:
            importlib.import_module(module)
        except ImportError:
            raise UserError(f'{env_id} needs {what}: pip install -e ".[{extra}]"') from None
    if env_id in gymnasium.registry:
        return gymnasium.registry[env_id]
    stem = re.sub(r"-v\d+$", "", env_id).lower()
    newest = _newest_ids()
    with suppress(ImportError):
        importlib.import_module("ale_py")  # which registers its games
    if (game := _newest_ids().get(f"ale/{stem}")) is not None:
        newest = {stem: game}
    hint = f" Did you mean {newest[stem]}?" if stem in newest else did_you_mean(env_id, newest.values())
    package = env_id.partition("/")[0]
    if Path(f"{env_id}.py").is_file():
        hint = f" Did you mean {env_id}.py:Class?"
    elif package.isidentifier() and (Path(package) / "__init__.py").is_file():
        hint = f" There is a package of this name here: --env {package}:{env_id if '/' in env_id else 'Id'}"
    raise UserError(
        f"there is no environment {env_id!r}.{hint} "
        "(your own: --env path/to/file.py:Class, or --env module:Id for one that a package registers)"
    )


def _newest_ids() -> dict[str, str]:
    """Return lower-case name without version -> the id of its newest version, of every registered environment."""
    newest: dict[str, EnvSpec] = {}
    for spec in gymnasium.registry.values():
        stem = re.sub(r"-v\d+$", "", spec.id).lower()
        if stem not in newest or (spec.version or 0) > (newest[stem].version or 0):
            newest[stem] = spec
    return {stem: spec.id for stem, spec in newest.items()}


def newer_version(spec: EnvSpec) -> str | None:
    """Return the id of the newest version of `spec`'s environment, or None when it is that itself."""
    newest = _newest_ids()[re.sub(r"-v\d+$", "", spec.id).lower()]
    return None if newest == spec.id else newest


def load_module(module: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # a module in the current folder, for installed commands too
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module + ".").startswith(error.name + "."):
            raise UserError(f"there is no module {module!r}, neither installed nor in {here}") from error
        raise UserError(f"module {module!r} needs {error.name!r}, which is not installed") from error
    except (Exception, SystemExit) as error:
        raise UserError(
            f"module {module!r} could not be imported: {type(error).__name__}: {words_of(error)}"
        ) from error


def load_file(path: Path) -> ModuleType:
    if not path.is_file():
        folder = path.parent
        beside = {file.stem: str(file) for file in folder.glob("*.py")} if folder.is_dir() else {}
        near = [beside[stem] for stem in nearest(path.stem, beside)]
        hint = f" Did you mean {listed(near, 'or')}?" if near else ""
        raise UserError(f"there is no file {str(path)!r} (looked from {os.getcwd()}).{hint}")
    path = path.resolve()
    name = f"{path.stem}_{zlib.crc32(str(path).encode()):08x}"  # no clash with a package that is called the same
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # its neighbours can be imported, as if it were run
    sys.modules[name] = module
    try:
        found.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception | SystemExit):
            raise
        raise UserError(f"{path} could not be imported: {type(error).__name__}: {words_of(error)}") from error
    return module


def _from_module(module: ModuleType, source: str, name: str | None) -> EnvSpec:
    classes = {
        key: value
        for key, value in vars(module).items()
        if _is_environment(value) and value.__module__ == module.__name__
    }
    ids = [spec.id for spec in gymnasium.registry.values() if _comes_from(spec, module)]
    if name is None:
        names = ids if len(ids) == 1 else sorted(classes)
        if len(names) != 1:
            found = ", ".join(sorted({*classes, *ids})) or "nothing of the kind"
            raise UserError(
                f"{source} must define one gymnasium.Env class, or name it: --env {source}:NAME; found {found}"
            )
        name = names[0]
    if name in gymnasium.registry:
        return gymnasium.registry[name]
    named: Any = getattr(module, name, None)
    if is_dynamics(named):
        return native_spec(name, named)
    if inspect.isclass(named) and issubclass(named, gymnasium.Wrapper) and needed_arguments(named):
        raise UserError(
            f"{source}: {name} is a wrapper around another environment: name that one with --env, and the wrapper with "
            f"--wrappers {source}:{name}; or name a function that returns the environment with its wrappers"
        )
    if _can_be_called(named) and (not inspect.isclass(named) or issubclass(named, gymnasium.Env)):
        creator: Any = named
        return EnvSpec(name, entry_point=creator)
    options = sorted({*classes, *ids})
    if inspect.isclass(named) and named.__module__ == module.__name__:
        raise UserError(
            f"{source}: {name} is a class, but none of gymnasium.Env: derive it, class {name}(gymnasium.Env)"
        )
    listed = f"; it has {', '.join(options)}" if options else ", and no other"
    raise UserError(f"{source} has no environment {name!r}{listed}.{did_you_mean(name, options)}")


def _can_be_called(found: Any) -> bool:
    """Whether it can be called, and says with what: some functions written in C do not."""
    try:
        inspect.signature(found)
    except (TypeError, ValueError):
        return False
    return True


def needed_arguments(creator: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments that a class or function cannot be called without."""
    found = inspect.signature(creator).parameters.values()
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in found if each.default is each.empty and each.kind not in optional]


def locate_wrapper(name: str) -> Callable[..., gymnasium.Env]:
    """Return what puts a wrapper around an environment: a class of `gymnasium.Wrapper`, or a function of one.

    Args:
        name: "path/to/file.py:Name", "module:Name" or, as rl-zoo3 writes it, "module.Name".

    Raises:
        UserError: there is none; the message names what was found instead.
    """
    match = FILE.fullmatch(name)
    source, _, chosen = name.rpartition(":" if ":" in name else ".")
    if match is None and not source:
        raise UserError(f"wrapper {name!r}: module:Wrapper or file.py:Wrapper expected")
    if match is not None:
        source, chosen = match["path"], match["name"]
    module = load_module(source) if match is None else load_file(Path(source))
    own = {
        key for key, value in vars(module).items() if inspect.isclass(value) and issubclass(value, gymnasium.Wrapper)
    }
    own.discard("Wrapper")
    if chosen is None:
        raise UserError(f"wrapper {name}: name the one that is meant, such as {name}:{min(own, default='Wrapper')}")
    found: Any = getattr(module, chosen, None)
    if _can_be_called(found) and (not inspect.isclass(found) or issubclass(found, gymnasium.Wrapper)):
        return found
    what = "is no gymnasium.Wrapper, and no function" if found is not None else "is not there"
    has = f"; {source} has {', '.join(sorted(own))}" if 0 < len(own) <= 8 else ""
    raise UserError(f"wrapper {name}: {chosen} {what}{has}.{did_you_mean(chosen, own)}")


def wrapped(env: gymnasium.Env, wrappers: Wrappers) -> gymnasium.Env:
    """Put wrappers around an environment, the first one innermost.

    Raises:
        UserError: a wrapper is not there, takes no such arguments, cannot be built, or is no environment.
    """
    for entry in wrappers:
        for name, arguments in [(entry, {})] if isinstance(entry, str) else entry.items():
            creator = locate_wrapper(name)
            try:
                inspect.signature(creator).bind(env, **arguments)
            except TypeError as error:
                takes = list(inspect.signature(creator).parameters)[1:]
                raise UserError(
                    f"wrapper {name}: {words_of(error)} (it takes {', '.join(takes) or 'no arguments'}; "
                    "in a YAML file as '- module:Wrapper: {argument: value}')"
                ) from error
            try:
                env = creator(env, **arguments)
            except UserError:
                raise
            except (Exception, SystemExit) as error:
                raise UserError(
                    f"wrapper {name} could not be put around {env}: {type(error).__name__}: {words_of(error)}"
                ) from error
            if not isinstance(env, gymnasium.Env):
                raise UserError(f"wrapper {name} returned {type(env).__name__}, a gymnasium.Env expected")
    return env


def _is_environment(value: Any) -> bool:
    if is_dynamics(value):
        return True
    if not inspect.isclass(value) or not issubclass(value, gymnasium.Env):
        return False
    return not issubclass(value, gymnasium.Wrapper) or not needed_arguments(value)


def _comes_from(spec: EnvSpec, module: ModuleType) -> bool:
    """Whether the module, its package, or the file under its ordinary name holds what `spec` registers."""
    entry = spec.entry_point
    home = entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
    return home in (module.__name__, Path(getattr(module, "__file__", None) or "").stem) or home.startswith(
        module.__name__ + "."
    )
