"""Reinforcement learning from Python: `from agents import PPO, DQN, SAC, load`. See `agents.api.model`."""

import signal
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

_module = sys.orig_argv[sys.orig_argv.index("-m") + 1] if sys.argv[:1] == ["-m"] and "-m" in sys.orig_argv else ""
if _module.rpartition(".")[0] == "agents" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a command without a traceback of what it imports

if TYPE_CHECKING:
    from agents.api.loading import algorithm, load
    from agents.api.model import Model

    class BC(Model): ...

    class DQN(Model): ...

    class IQL(Model): ...

    class PPO(Model): ...

    class PQN(Model): ...

    class Pretrain(Model): ...

    class SAC(Model): ...

    __all__ = ["BC", "DQN", "IQL", "PPO", "PQN", "SAC", "Model", "Pretrain", "algorithm", "load"]


def __getattr__(name: str) -> Any:
    """Look a name up when it is first asked for: commands start without what they do not need."""
    if name.startswith("_"):
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    try:
        return import_module("agents.api.loading").find(name)
    except AttributeError as error:
        importing = sys._getframe(1).f_code.co_name == "_handle_fromlist"  # of "from agents import name"
        if importing and find_spec(f"{__name__}.{name}") is None:
            raise ImportError(str(error), name=__name__) from None
        raise


def __dir__() -> list[str]:
    return [*globals(), *import_module("agents.api.loading").names()]
