"""A frozen sentence encoder from a folder: the vectors it gives, and what is refused."""

from __future__ import annotations

import copy
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import save_file

from agents.core.config import NetworkConfig
from agents.core.runtime import Runtime
from agents.networks import pretrained
from agents.networks.encoders import Encoder
from agents.networks.pretrained import Pretrained, Sentences, sentences_in
from envs.errors import UserError
from envs.words import Tokens, Written, read_text
from tests.run.running import assert_same_run, resume, signals_at, train

tokenizers = pytest.importorskip("tokenizers")
WORDS = ["[UNK]", "go", "to", "the", "red", "door"]
TOLD = Path(__file__).parents[1] / "envs" / "told_env.py"


def static_folder(folder: Path, rows: int = 6, **config: Any) -> str:
    """Write a Model2Vec folder whose token i has the vector (i, i squared, 1)."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    i = torch.arange(rows).float()
    save_file({"embeddings": torch.stack([i, i**2, torch.ones(rows)], 1)}, folder / "model.safetensors")
    described = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": False, **config}
    (folder / "config.json").write_text(json.dumps(described))
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    return static_folder(tmp_path / "static")


def written(*texts: str) -> torch.Tensor:
    return torch.from_numpy(np.stack([read_text(text, 24) for text in texts]))


def test_a_texts_vector_is_the_mean_of_its_known_tokens(folder, tmp_path):
    found = Sentences(folder)(["go to", "red zebra", "zebra", "", "go to"])
    assert found.tolist() == [[1.5, 2.5, 1], [4, 16, 1], [0, 0, 0], [0, 0, 0], [1.5, 2.5, 1]]
    unit = Sentences(static_folder(tmp_path / "unit", normalize=True))(["go to", ""])
    torch.testing.assert_close(unit, torch.tensor([[1.5, 2.5, 1], [0, 0, 0]]) / torch.tensor([[9.5**0.5], [1]]))


def test_each_text_is_read_once(folder, monkeypatch):
    sentences, seen = Sentences(folder), []
    vectors = sentences._vectors
    monkeypatch.setattr(sentences, "_vectors", lambda texts: seen.append(texts) or vectors(texts))
    encoder = Pretrained(Written(24), folder)
    encoder.sentences = sentences
    first = encoder(written("go", "door", "go"))
    again = encoder(written("door", "red"))
    assert seen == [["door", "go"], ["red"]]
    assert first[1].equal(again[0])
    assert first[0].equal(first[2])
    assert not first[0].equal(first[1])
    monkeypatch.setattr(pretrained, "MOST_TEXTS", 3)
    sentences(["to"])
    assert seen[2:] == [["to"]]
    assert list(sentences._known) == ["to"], "the oldest are forgotten"


def test_it_is_frozen_shared_and_no_part_of_a_models_files(folder):
    encoder = Pretrained(Written(24), folder)
    assert [name for name, _ in encoder.named_parameters()] == ["out.weight", "out.bias"]
    assert set(encoder.state_dict()) == {"out.weight", "out.bias", "checksum"}
    assert copy.deepcopy(encoder).sentences is encoder.sentences is sentences_in(folder)
    assert encoder.out.in_features == 3
    encoder(written("go")).sum().backward()
    assert encoder.out.weight.grad is not None


def test_where_steps_are_compiled_it_runs_as_it_is(folder):
    encoder, runtime, said = Pretrained(Written(24), folder), Runtime("on"), []
    runtime.say = said.append
    run = runtime.compiled(lambda text: encoder(text))
    for text in (written("go", "red"), written("door", "the")):
        assert run(text).equal(encoder(text).detach())
    assert len(said) == 1
    assert said[0].startswith("not compiled, runs as it is")


def test_another_encoder_than_that_of_the_training_is_refused(folder, tmp_path):
    encoder, other = Pretrained(Written(24), folder), static_folder(tmp_path / "other", rows=7)
    encoder.load_state_dict(copy.deepcopy(encoder).state_dict())
    with pytest.raises(UserError, match="not the one that the model was trained with"):
        encoder.load_state_dict(Pretrained(Written(24), other).state_dict())


def test_texts_alone_are_read_by_it(folder):
    space = spaces.Dict(mission=Written(24), path=Tokens(4, 3), choice=spaces.MultiDiscrete([2, 3]))
    encoder = Encoder(space, NetworkConfig(text_encoder=folder))
    assert encoder.features == 64 + 64 + 5
    lines = encoder.description.splitlines()
    assert lines == [
        "mission: text, its first 24 bytes -> static, frozen, 3 numbers",
        "path: sequence of at most 4 of 3 symbols -> transformer",
        "choice: 2 of 2 to 3 values, one-hot",
    ]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "there is no file .*tokenizer.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is no sentence encoder"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x04pickle"), "is no sentence encoder"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "is no sentence encoder: AttributeError"),
        (lambda folder: save_file({"x": torch.zeros(2)}, folder / "model.safetensors"), "KeyError: 'embeddings'"),
        (lambda folder: save_file({"embeddings": torch.zeros(2)}, folder / "model.safetensors"), r"shape \[2\]"),
    ],
)
def test_folders_that_hold_none_are_refused(folder, spoil, message):
    spoil(Path(folder))
    with pytest.raises(UserError, match=f"text_encoder.*{message}"):
        sentences_in(folder)


def test_what_is_not_there_or_too_large_is_said(folder, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        sentences_in(str(tmp_path / "nowhere"))
    monkeypatch.setitem(pretrained.LIMITS, "model.safetensors", 10)
    with pytest.raises(UserError, match=r"model.safetensors has \d+ bytes, and at most 10 are read"):
        Sentences(folder)


def test_a_package_that_is_not_installed_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r'packages that are not there.*pip install "deep-rl-suite\[sentences\]"'):
        Sentences(folder)


def test_a_transformer_is_read_by_the_mean_of_its_last_layer(folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    model = transformers.BertModel(config).eval()
    model.save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").write_bytes((Path(folder) / "tokenizer.json").read_bytes())
    found = Sentences(str(tmp_path / "bert"))(["go to the", "red"])
    with torch.no_grad():
        for vector, ids in zip(found, ([1, 2, 3], [4]), strict=True):
            alone = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
            torch.testing.assert_close(vector, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("algo", ["ppo --n-steps 16 --batch-size 24", "dqn --learning-starts 60 --buffer-size 200"])
def test_a_run_with_one_goes_on_bit_for_bit(folder, tmp_path, algo):
    words = f"--env {TOLD}:Told --vec sync --n-envs 3 --algo {algo} --text-encoder {folder} -n 300 --device cpu"
    words += " --target-reward none --eval-freq 250 --eval-episodes 2 --eval-max-steps 60 --save-freq 0"
    words += " --final-eval-episodes 0"
    with signals_at(150, signal.SIGINT):
        run = train(tmp_path / "halves", words, code=130)
    assert_same_run(train(tmp_path / "whole", words), resume(run))
