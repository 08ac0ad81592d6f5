"""What a new run begins with: the weights of another run, of a checkpoint, or of files that another program wrote.

Only numbers are read. A folder of another program is one as the Hugging Face hub has them: `model.safetensors`, or
`model.safetensors.index.json` and the files that it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from agents.core.saved import count
from agents.core.settings import Activation
from agents.networks.parts import PartOrigin, as_called, begin_with, parts, renamed, within
from agents.run.folder import hint_of_sb3
from agents.run.models import chosen
from agents.run.storage import read_json
from agents.run.training import Training, refuse_spoilt
from agents.run.trees import read_tensors, read_tree
from envs.errors import UserError

AS_MADE = "as it was made"
ENDING = ".safetensors"
INDEX = f"model{ENDING}.index.json"
MOST_TENSORS = 10_000  # in files of another program
ANEW: dict[str, Any] = {  # settings that a run made of another one does not take over from it
    **{"pretrained": None, "freeze": [], "reset": [], "lr_scale": {}, "compile": "off"},
    **{"schedule_total": None, "target_reward": None, "save_freq": 0, "video_freq": 0},
    **{"eval_freq": "auto", "eval_share": "auto"},
}
FORMS = f"a run folder, a folder with model{ENDING}, or a file *{ENDING}"


@dataclass(frozen=True, slots=True)
class Weights:
    """What was read.

    Attributes:
        tensors: by name.
        name: "best", "latest", a checkpoint's step, or a file's name.
        step: at which they were saved; 0 where that is not known.
        own: whether this program wrote them, so that names mean the same.
        activation: of the hidden layers that they are of; "" where that is not known.
    """

    tensors: dict[str, Tensor]
    name: str
    step: int = 0
    own: bool = False
    activation: str = ""


def read_weights(source: Path) -> Weights:
    """Read the weights at a place; of a run those of its best model, or of the newest where it has none.

    Raises:
        UserError: there are none, or a file is torn, altered or malformed.
    """
    if source.is_file() and source.suffix == ENDING and not (source.parent / "model.json").is_file():
        return Weights(_few(read_tensors(source, follow=True)[0], source), source.name)
    if source.is_dir() and not any((source / name).is_file() for name in ("config.yaml", "model.json")):
        return Weights(_few(_of_folder(source), source), source.name)
    if not source.exists() or (source.is_file() and source.name not in ("model.json", f"model{ENDING}")):
        there = "is none" if source.exists() else "is not there"
        raise UserError(f"{source} {there}: {FORMS} expected.{hint_of_sb3(source)}")
    return chosen(source, "best", _of_model)


def _of_model(folder: Path, name: str) -> Weights:
    """Read a model of ours, without building what it describes."""
    tree, meta = read_tree(folder, "model")
    try:
        step = count(meta.get("step"), "step")
    except ValueError as error:
        raise UserError(f"{folder / 'model.json'}: {error}") from error
    config = meta.get("config")
    named = config.get("activation") if isinstance(config, dict) else None
    activation = next((name for name in get_args(Activation) if name == named), "")
    tensors = {key: leaf for key, leaf in tree.items() if isinstance(key, str) and isinstance(leaf, Tensor)}
    return Weights(tensors, name, step, own=True, activation=activation)


def _of_folder(folder: Path) -> dict[str, Tensor]:
    """Read what another program put into a folder."""
    if (folder / f"model{ENDING}").is_file():
        return read_tensors(folder / f"model{ENDING}", follow=True)[0]
    if not (folder / INDEX).is_file():
        held = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5])
        raise UserError(f"{folder} holds no weights, but {held or 'nothing'}: {FORMS} expected")
    named = read_json(folder / INDEX).get("weight_map")
    files = sorted(set(named.values())) if isinstance(named, dict) and all(map(_plain, named.values())) else []
    if not files:
        raise UserError(f"{folder / INDEX} is malformed: its weight_map must name files beside it")
    found: dict[str, Tensor] = {}
    for file in files:
        found |= read_tensors(folder / file, follow=True)[0]
    return found


def _plain(name: object) -> bool:
    """Whether a name is that of a weights file in the same folder."""
    return isinstance(name, str) and name.endswith(ENDING) and not {"/", "\\", "\0"} & set(name) and name[0] != "."


def _few(tensors: dict[str, Tensor], source: Path) -> dict[str, Tensor]:
    if len(tensors) > MOST_TENSORS:
        raise UserError(f"{source} holds {len(tensors):,} tensors, and at most {MOST_TENSORS:,} are read")
    return tensors


def begin(training: Training) -> None:
    """Let a training that has not begun have the weights that its settings name, as far as they fit.

    Raises:
        UserError: they cannot be read, are not finite, or nothing of them fits.
    """
    config, model = training.config, training.algorithm.model
    if config.pretrained is None:
        return
    found = read_weights(Path(config.pretrained))
    try:
        if found.own:
            tensors, how = as_called(model, found.tensors)
        else:
            tensors, how = renamed(model, found.tensors)
        refuse_spoilt(tensors, model.state_dict())
        rows = begin_with(model, tensors, config.reset)
    except ValueError as error:
        raise UserError(f"{config.pretrained}: {error}") from error
    training.algorithm.copy_model()
    mine = config.params.network.activation
    if found.activation not in ("", mine):
        other = f"activation is {found.activation} there and {mine} here, so that hidden layers do something else"
        how = "; ".join(filter(None, (how, other)))
    unused = sorted(tensors.keys() - model.state_dict().keys())
    training.origin = origin("transfer", config.pretrained, found, rows) | {
        "names": how,
        "unused": unused,
        "frozen": config.freeze,
        "lr_scale": config.lr_scale,
    }


def origin(how: str, source: str, model: Any, rows: Iterable[PartOrigin]) -> dict[str, Any]:
    """Return what is kept of a run that did not begin with first weights alone.

    Args:
        how: "transfer", "distillation" or "pruning".
        source: where the other model lies.
        model: with its `name` and `step`.
        rows: what became of each layer.
    """
    layers = [row._asdict() for row in rows]
    found = {"how": how, "from": source, "checkpoint": model.name, "step": model.step, "layers": layers}
    return found | {"names": "", "unused": []}


def changed(training: Training) -> Iterator[str]:
    """Yield what is to be said of where a training's weights come from, and of parts that learn otherwise."""
    config, source = training.config, training.origin
    rows = [] if source is None else [PartOrigin(**row) for row in source["layers"]]
    if source is not None:
        loaded, total = (sum(row.parameters for row in which) for which in ([r for r in rows if r.loaded], rows))
        step = f", step {source['step']:,}" if source["step"] else ""
        yield (
            f"begins with {loaded:,} of {total:,} parameters from {source['from']} ({source['checkpoint']}{step})"
            f"{': ' + source['names'] if source['names'] else ''}"
        )
        if unused := source["unused"]:
            yield f"not used of it: {len(unused):,} tensors, such as {', '.join(unused[:3])}"
    elif config.freeze or config.lr_scale:
        named = [name for name in parts(training.algorithm.model) if name in {*config.freeze, *config.lr_scale}]
        rows = [PartOrigin(name, 0, False, AS_MADE) for name in named]
    width = max((len(row.part) for row in rows), default=0)
    for row in rows:
        frozen = any(within(row.part, part) for part in config.freeze)
        factors = [factor for part, factor in config.lr_scale.items() if within(row.part, part)]
        also = [*["frozen"] * frozen, *(f"learning rate x {factor:g}" for factor in factors if not frozen)]
        yield f"  {row.part or '(itself)':{width}}  {', '.join([_began(row), *also])}"


def _began(row: PartOrigin) -> str:
    reset = row.why.startswith("reset") or row.why == AS_MADE
    return "loaded" if row.loaded else row.why if reset else f"new: {row.why}"


def set_parameters(training: Training, given: Any, exact_match: bool) -> None:
    """Give a training's network other parameters, as SB3's method of this name does.

    Args:
        given: a place that `read_weights` takes, or tensors by name, or {"policy": tensors by name}.
        exact_match: whether all of them must fit; else those layers are taken that do.

    Raises:
        UserError: they do not fit.
    """
    tensors = given.get("policy", given) if isinstance(given, Mapping) else read_weights(Path(given)).tensors
    model = training.algorithm.model
    try:
        named = isinstance(tensors, Mapping) and all(isinstance(name, str) for name in tensors)
        if not named or not all(isinstance(leaf, Tensor) for leaf in tensors.values()):
            raise ValueError("tensors by name expected, as get_parameters returns them")
        refuse_spoilt(tensors, model.state_dict())
        if exact_match:
            _refuse_other(tensors, model.state_dict())
        begin_with(model, tensors, ())
    except ValueError as error:
        raise UserError(f"set_parameters: {error}") from error
    training.algorithm.copy_model()


def _refuse_other(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise ValueError if there is a tensor too many, or too few, or of another shape."""
    if strange := sorted(tensors.keys() ^ own.keys()):
        side = "is not there" if strange[0] in own else "is none of the network's"
        raise ValueError(f"{strange[0]} {side}; exact_match=False takes what fits")
    for name, mine in own.items():
        if tensors[name].shape != mine.shape:
            found, wanted = list(tensors[name].shape), list(mine.shape)
            raise ValueError(f"{name} has shape {found}, and {wanted} is expected; exact_match=False takes what fits")
