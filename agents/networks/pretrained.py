"""Sentence encoders that were trained elsewhere, read from a local folder; their weights stay as they are.

A folder as the Hugging Face hub has them: `tokenizer.json`, `model.safetensors` and `config.json`, either of static
embeddings (Model2Vec: a vector of each token, whose mean is a text's) or of a transformer that the package
`transformers` knows, whose last layer's mean is the text's. Nothing is fetched, and nothing in it is code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.networks.words import FEATURES
from envs.errors import UserError
from envs.words import Written, text_of

LIMITS = {"tokenizer.json": 2**26, "config.json": 2**20, "model.safetensors": 2**31}  # bytes of each file
MOST_TOKENS = 256  # of a text that are read
MOST_TEXTS = 65_536  # whose vectors are kept
TOGETHER = 64  # texts that a transformer reads at a time
INSTALL = 'needs packages that are not there ({}): pip install "deep-rl-suite[sentences]"'

Vectors = Callable[[list[str]], Tensor]  # texts -> [B, D]


class Sentences:
    """A frozen sentence encoder. The vector of each text is worked out once; copies of this object are itself.

    Args:
        folder: that holds it.

    Attributes:
        size: numbers in a vector.
        checksum: of its weights, below 2**63.

    Raises:
        UserError: a file is missing, too large or not what it should be, or a package is not installed.
    """

    def __init__(self, folder: str) -> None:
        files = {name: _file(Path(folder), name, most) for name, most in LIMITS.items()}
        try:
            config = json.loads(files["config.json"].read_bytes())
            with files["model.safetensors"].open("rb") as weights:
                digest = file_digest(weights, "sha256").digest()
            read = _static if config.get("model_type") == "model2vec" else _transformer
            with ThreadPoolExecutor(1) as own:  # the caller counts the parameters that it makes itself
                self._vectors: Vectors = own.submit(read, files, config).result()
            self.size = self._vectors([""]).shape[1]
        except UserError:
            raise
        except ImportError as error:
            raise UserError(f"text_encoder {folder} {INSTALL.format(error.name)}") from error
        except Exception as error:
            why = " ".join(str(error).split())[:300]
            raise UserError(f"text_encoder {folder} is no sentence encoder: {type(error).__name__}: {why}") from error
        self.checksum = int.from_bytes(digest[:8], "big") >> 1
        self._known: dict[str, Tensor] = {}

    def __deepcopy__(self, memo: Any) -> Sentences:
        return self

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> Tensor:
        """Return the vectors `[B, size]` of texts, on the CPU."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if len(self._known) + len(new) > MOST_TEXTS:
            self._known, new = {}, list(dict.fromkeys(texts))
        for start in range(0, len(new), TOGETHER):
            part = new[start : start + TOGETHER]
            self._known.update(zip(part, self._vectors(part), strict=True))
        return torch.stack([self._known[text] for text in texts])


class Pretrained(nn.Module):
    """Texts uint8 `[B, L]` to `[B, features]`: what a frozen sentence encoder makes of them, and a layer that learns.

    The encoder itself is no part of a model's files, which hold its checksum.

    Raises:
        UserError: as `Sentences`.
    """

    checksum: Tensor

    def __init__(self, space: Written, folder: str) -> None:
        super().__init__()
        self.sentences = sentences_in(folder)
        self.out = nn.Linear(self.sentences.size, FEATURES)
        self.features = FEATURES
        self.register_buffer("checksum", torch.tensor(self.sentences.checksum))
        name = Path(folder).name
        self.description = f"text, its first {space.shape[0]} bytes -> {name}, frozen, {self.sentences.size} numbers"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        found = state_dict.get(f"{prefix}checksum")
        if found is not None and not found.equal(self.checksum.to(found.device)):
            raise UserError("the sentence encoder of text_encoder is not the one that the model was trained with")
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, text: Tensor) -> Tensor:
        return torch.relu(self.out(self._vectors(text)))

    @torch.compiler.disable  # texts are looked at, which no compiled program can
    def _vectors(self, text: Tensor) -> Tensor:
        rows, which = torch.unique(text, dim=0, return_inverse=True)
        return self.sentences([text_of(row) for row in rows.cpu().numpy()]).to(text.device)[which]


def sentences_in(folder: str) -> Sentences:
    """Return the sentence encoder in a folder, which is read once."""
    files = [Path(folder) / name for name in LIMITS]
    return _read(folder, tuple(file.stat().st_mtime_ns for file in files if file.exists()))


@lru_cache(maxsize=2)
def _read(folder: str, written: tuple[int, ...]) -> Sentences:
    return Sentences(folder)


def _file(folder: Path, name: str, most: int) -> Path:
    file = folder / name
    if not file.is_file():
        raise UserError(f"text_encoder: there is no {f'file {file}' if folder.is_dir() else f'folder {folder}'}")
    if (size := file.stat().st_size) > most:
        raise UserError(f"text_encoder: {file} has {size:,} bytes, and at most {most:,} are read")
    return file


def _tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(MOST_TOKENS)
    tokenizer.no_padding()
    return tokenizer


def _static(files: dict[str, Path], config: dict[str, Any]) -> Vectors:
    """Return the means of token embeddings `[V, D]`, as Model2Vec has them: tokens that are not known are left out."""
    from safetensors.torch import load_file

    tokenizer, tensors = _tokenizer(files["tokenizer.json"]), load_file(files["model.safetensors"])
    embeddings = tensors["embeddings"].float()
    if embeddings.dim() != 2:
        raise ValueError(f"embeddings have shape {list(embeddings.shape)}")
    weights, mapping = tensors.get("weights"), tensors.get("mapping")
    unknown = tokenizer.token_to_id(getattr(tokenizer.model, "unk_token", None) or "")

    def vector(ids: list[int]) -> Tensor:
        index = torch.tensor([one for one in ids if one != unknown], dtype=torch.int64)
        if not len(index):
            return embeddings.new_zeros(embeddings.shape[1])
        each = embeddings[index if mapping is None else mapping.long()[index]]
        mean = (each if weights is None else each * weights.float()[index, None]).mean(0)
        return mean / mean.norm().clamp(min=1e-12) if config.get("normalize") else mean

    def vectors(texts: list[str]) -> Tensor:
        found = tokenizer.encode_batch(texts, add_special_tokens=False)
        return torch.stack([vector(one.ids) for one in found])

    return vectors


def _transformer(files: dict[str, Path], config: dict[str, Any]) -> Vectors:
    """Return the means of what a transformer's last layer makes of the tokens, those that mark both ends included."""
    from transformers import AutoConfig, AutoModel

    tokenizer, folder = _tokenizer(files["tokenizer.json"]), files["config.json"].parent
    how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    known = AutoConfig.from_pretrained(folder, **how)
    with torch.device("meta"):  # so its size is known before any of it is there
        numbers = sum(parameter.numel() for parameter in AutoModel.from_config(known).parameters())
    if 4 * numbers > LIMITS["model.safetensors"]:
        raise ValueError(f"{numbers:,} parameters are more than are read")
    how |= {"config": known, "use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    model, found = AutoModel.from_pretrained(folder, **how)
    if missing := sorted(name for name in found["missing_keys"] if "pooler" not in name):
        raise ValueError(f"weights are missing: {', '.join(missing[:3])}")
    model.eval().requires_grad_(False)
    longest = min(MOST_TOKENS, getattr(known, "max_position_embeddings", MOST_TOKENS))

    def vectors(texts: list[str]) -> Tensor:
        rows = [torch.tensor(one.ids[:longest] or [0]) for one in tokenizer.encode_batch(texts)]
        lengths = torch.tensor([len(row) for row in rows])
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        there = torch.arange(ids.shape[1]) < lengths[:, None]
        last = model(input_ids=ids, attention_mask=there.long()).last_hidden_state
        return (last * there[..., None]).sum(1) / lengths[:, None]

    return vectors
