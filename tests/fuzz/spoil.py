"""Ways to spoil the files of a run, as an attacker would: with checksums made right again."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import safetensors.torch
import torch
import yaml

from agents.run import trees

NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    2**31,
    2**63,
    10**30,
    10**400,
    -0.5,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "x",
    "a\0b",
    "\ud800",
    "é" * 5000,
    "/" + "d/" * 2500,
    "../../x",
    "nowhere.py:Env",
    "\x1b[2J",
    [],
    {},
    [[]],
    [0] * 100_000,
    {"x": 1},
    {"$float": "nan"},
    {"$int": "0x" + "f" * 5000},
    {"$int": 3},
    {"$tuple": [1, 2]},
    {"$items": [[1, 2]]},
    {"$array": "x"},
    {"type": "Box", "shape": [2**26], "dtype": "float32", "low": [0], "high": [1]},
    {"type": "Discrete", "n": 2**40},
    {"type": "Discrete", "n": 2**30},
    [10**6, 10**6],
]
CELLS = ["", "inf", "nan", "1e400", "-1", "x", "9" * 5000, "é" * 200_000, "\0", '"', "1.5", "0", "1e300"]
TEXTS = [
    "a: &a [x]\nb: &b [*a, *a]\n"
    + "".join(f"c{i}: &c{i} [{', '.join([f'*c{i - 1}' if i else '*b'] * 9)}]\n" for i in range(9)),
    "env: &a [*a]\n",
    "".join(f"k{i}: 1\n" for i in range(50_000)),
    "env: " + "[" * 5000,
    "env: " + "[" * 90 + "]" * 90 + "\n",
    "seed: " + "1" * 100_000 + "\n",
    'env: "\\ud800"\n',
    "net_arch: [1000000, 1000000]\n",
]


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where everything in nested dicts and lists lies."""
    found = [at] if at else []
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree[:20]) if isinstance(tree, list) else ()
    for key, value in pairs:
        found += places(value, (*at, key))
    return found


def nested(random: Random, tree: Any) -> str:
    """Change one value of nested dicts and lists, or take it away; say what was done."""
    *way, last = random.choice(places(tree))
    inner = tree
    for key in way:
        inner = inner[key]
    where = "/".join(map(str, (*way, last)))
    if random.random() < 0.15:
        del inner[last]
        return f"{where} taken away"
    inner[last] = random.choice(NASTY)
    return f"{where} = {inner[last]!r:.40}"


def sign_again(json_file: Path, body: dict[str, Any]) -> None:
    body.pop("checksum", None)
    tensors = json_file.with_suffix(".safetensors")
    if tensors.is_file():
        body["tensors_sha256"] = trees._file_sha256(tensors)
    try:
        body["checksum"] = trees._json_sha256(json.loads(json.dumps(body)))
    except ValueError:
        body["checksum"] = ""
    json_file.write_text(json.dumps(body))


def structure(random: Random, file: Path) -> str:
    """Change what is described of a state or a model."""
    body = json.loads(file.read_text())
    part = body if random.random() < 0.05 else body[random.choice(["tree", "meta", "tree"])] or body
    done = nested(random, part)
    sign_again(file, body)
    return done


def numbers(random: Random, file: Path) -> str:
    """Change one tensor of a state or a model."""
    tensors = safetensors.torch.load_file(file.with_suffix(".safetensors"))
    name = random.choice(sorted(tensors))
    old = tensors[name]
    floats = old.is_floating_point()
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "nan": lambda: torch.full_like(old, float("nan") if floats else 1),
        "inf": lambda: torch.full_like(old, float("inf") if floats else 0),
        "large": lambda: torch.full_like(old, 1e30 if floats else 1 if old.dtype == torch.bool else 127),
        "negative": lambda: torch.full_like(old, -7 if old.dtype not in (torch.bool, torch.uint8) else 1),
        "dtype": lambda: old.to(
            random.choice([torch.float64, torch.int32, torch.bool, torch.bfloat16, torch.complex64])
        ),
        "shape": lambda: old.flatten()[: max(old.numel() - 1, 0)].clone(),
        "wider": lambda: torch.zeros(*old.shape, 2, dtype=old.dtype),
        "scalar": lambda: torch.zeros((), dtype=old.dtype),
    }
    way = random.choice([*ways, "gone"])
    if way == "gone":
        del tensors[name]
    else:
        tensors[name] = ways[way]().contiguous()
    safetensors.torch.save_file(tensors, file.with_suffix(".safetensors"))
    sign_again(file, json.loads(file.read_text()))
    return f"{name} {way}"


def raw(random: Random, file: Path) -> str:
    """Change bytes."""
    content = bytearray(file.read_bytes())
    way = random.choice(["flipped", "cut", "empty", "longer", "zeros"])
    if way == "flipped":
        for _ in range(random.choice([1, 1, 8])):
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    elif way == "cut":
        del content[random.randrange(len(content)) :]
    elif way == "empty":
        content.clear()
    elif way == "longer":
        content += random.randbytes(50)
    else:
        content = bytearray(len(content))
    file.write_bytes(content)
    return f"bytes {way}"


def other_kind(random: Random, file: Path) -> str:
    """Put something else in the file's place."""
    way = random.choice(["link", "dangling", "pipe", "folder", "sparse"])
    content = file.read_bytes()
    file.unlink()
    if way == "link":
        elsewhere = file.parents[1] / "elsewhere"
        elsewhere.write_bytes(content)
        file.symlink_to(elsewhere)
    elif way == "dangling":
        file.symlink_to("/nowhere/at/all")
    elif way == "pipe":
        os.mkfifo(file)
    elif way == "folder":
        file.mkdir()
    else:
        with file.open("wb") as stream:
            stream.truncate(2**42)
    return f"a {way} in its place"


def settings(random: Random, file: Path) -> str:
    """Change a YAML file."""
    if random.random() < 0.3:
        text = random.choice(TEXTS)
        file.write_text(file.read_text() + text if random.random() < 0.5 else text)
        return f"YAML {text[:30]!r}"
    values = yaml.safe_load(file.read_text())
    done = nested(random, values)
    file.write_text(yaml.safe_dump(values, allow_unicode=False))
    return done


def plain_json(random: Random, file: Path) -> str:
    """Change a JSON file; a recorded episode is signed again."""
    body = json.loads(file.read_text())
    if "episode" in body and random.random() < 0.9:
        done = nested(random, body["episode"])
        from agents.run import recording

        try:
            episode = recording.RecordedEpisode.model_validate_json(json.dumps(body["episode"]))
            body["checksum"] = recording._checksum(episode)
        except ValueError:
            pass
    else:
        done = nested(random, body)
    text = json.dumps(body)
    if random.random() < 0.05:
        text = text.replace(" 1", " " + "1" * 100_000, 1)
        done += ", and a long number"
    file.write_text(text)
    return done


def table(random: Random, file: Path) -> str:
    """Change a CSV file."""
    rows = list(csv.reader(io.StringIO(file.read_text())))
    row = random.choice(rows)
    way = random.choice(["cell", "cell", "cell", "short", "long", "twice"])
    if way == "cell":
        row[random.randrange(len(row))] = random.choice(CELLS)
    elif way == "short":
        row.pop()
    elif way == "long":
        row += ["1"] * 3
    else:
        rows.append(row)
    file.write_text("\n".join(",".join(row) for row in rows) + "\n")
    return f"CSV {way}: {','.join(row)[:40]!r}"


def spoil(random: Random, file: Path) -> str:
    """Change a file in one of the ways that fit it; say what was done."""
    if random.random() < 0.12:
        return raw(random, file)
    if random.random() < 0.06:
        return other_kind(random, file)
    if file.suffix == ".safetensors":
        return numbers(random, file.with_suffix(".json"))
    if file.suffix == ".yaml":
        return settings(random, file)
    if file.suffix == ".csv":
        return table(random, file)
    if file.suffix == ".txt":
        return raw(random, file)
    return (structure if file.with_suffix(".safetensors").exists() else plain_json)(random, file)
