"""A GGUF's byte-level BPE as tokenizer.json, tokenizer_config.json and generation_config.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nova.errors import ModelError
from nova.model.gguf.read import GGUFHeader

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CONTROL, _USER_DEFINED = 3, 4

# The published splitting rules of these families.
_CONTRACTIONS_AND_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_SIGNS_AND_SPACES = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _CONTRACTIONS_AND_WORDS + r"\p{N}{1,3}" + _SIGNS_AND_SPACES
_QWEN2 = _CONTRACTIONS_AND_WORDS + r"\p{N}" + _SIGNS_AND_SPACES

_LLAMA3_NAMES = ("llama-bpe", "llama3", "llama-v3")
PRE_TOKENIZERS = ("gpt-2", "smollm", "qwen2", *_LLAMA3_NAMES)


def write_tokenizer(header: GGUFHeader, folder: Path, vocab: int) -> dict[str, Any]:
    """Write tokenizer.json into `folder`; returns tokenizer_config.json. `vocab` is the embedding's number of rows.

    Raises ModelError for a tokenizer that is not byte-level BPE, an unknown pre-tokenizer, or contradictory tables.
    """
    kind = header.require("tokenizer.ggml.model", str)
    if kind != "gpt2":
        raise ModelError(f"{header.path}: tokenizer {kind!r}; only 'gpt2' (byte-level BPE) can be imported")
    tokens = _strings(header, "tokenizer.ggml.tokens")
    if len(tokens) != vocab or len(set(tokens)) != vocab:
        raise ModelError(f"{header.path}: {len(set(tokens))} different tokens for an embedding of {vocab} rows")
    _build(header, tokens).save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": header.require("llama.context_length", int),
    }
    for name, key in (("bos_token", "bos"), ("eos_token", "eos"), ("unk_token", "unknown"), ("pad_token", "padding")):
        token = special_id(header, key, len(tokens))
        if token is not None:
            config[name] = tokens[token]
    if template := header.get("tokenizer.chat_template", str, ""):
        config["chat_template"] = template
    return config


def generation_config(header: GGUFHeader, vocab: int) -> dict[str, Any]:
    """generation_config.json: the tokens that begin and end a text."""
    ends = [special_id(header, key, vocab) for key in ("eos", "eot")]
    config: dict[str, Any] = {"eos_token_id": sorted({token for token in ends if token is not None})}
    for name, key in (("bos_token_id", "bos"), ("pad_token_id", "padding")):
        token = special_id(header, key, vocab)
        if token is not None:
            config[name] = token
    return config


def special_id(header: GGUFHeader, key: str, vocab: int) -> int | None:
    """The id of a special token, or None without one. Raises ModelError when it is outside the vocabulary."""
    key = f"tokenizer.ggml.{key}_token_id"
    if key not in header.metadata:
        return None
    value = header.require(key, int)
    if not 0 <= value < vocab:
        raise ModelError(f"{header.path}: {key} is {value}, outside the vocabulary of {vocab}")
    return value


def _build(header: GGUFHeader, tokens: list[str]) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    pre = header.require("tokenizer.ggml.pre", str)
    if pre not in PRE_TOKENIZERS:
        raise ModelError(f"{header.path}: pre-tokenizer {pre!r}; known are {', '.join(PRE_TOKENIZERS)}")
    ids = {token: index for index, token in enumerate(tokens)}
    merges = _merges(header, ids)
    tokenizer = Tokenizer(models.BPE(ids, merges, ignore_merges=pre in _LLAMA3_NAMES))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    types = header.require("tokenizer.ggml.token_type", list)
    if len(types) != len(tokens):
        raise ModelError(f"{header.path}: {len(types)} token types for {len(tokens)} tokens")
    added = [
        AddedToken(token, special=kind == _CONTROL, normalized=False)
        for token, kind in zip(tokens, types, strict=True)
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    tokenizer.add_tokens(added)
    tokenizer.post_processor = _post_processor(header, tokens, pre)
    return tokenizer


def _pre_tokenizer(pre: str) -> Any:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

    if pre == "gpt-2":
        return ByteLevel(add_prefix_space=False)
    if pre == "smollm":
        return Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
    pattern = Regex(_QWEN2 if pre == "qwen2" else _LLAMA3)
    return Sequence([Split(pattern, "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def _post_processor(header: GGUFHeader, tokens: list[str], pre: str) -> Any:
    from tokenizers import processors

    template: list[str] = ["$A"]
    special: list[tuple[str, int]] = []
    for key, default, place in (("bos", pre in _LLAMA3_NAMES, 0), ("eos", False, 2)):
        if header.get(f"tokenizer.ggml.add_{key}_token", bool, default):
            token = special_id(header, key, len(tokens))
            if token is None:
                raise ModelError(f"{header.path}: add_{key}_token is set without a {key} token")
            template.insert(place, f"{tokens[token]}")
            special.append((tokens[token], token))
    if not special:
        return processors.ByteLevel(trim_offsets=False)
    return processors.TemplateProcessing(single=template, special_tokens=special)


def _merges(header: GGUFHeader, ids: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for merge in _strings(header, "tokenizer.ggml.merges"):
        left, _, right = merge.partition(" ")
        if left not in ids or right not in ids or left + right not in ids:
            raise ModelError(f"{header.path}: merge {merge!r} names a token that is not in the vocabulary")
        merges.append((left, right))
    return merges


def _strings(header: GGUFHeader, key: str) -> list[str]:
    values = header.require(key, list)
    if not all(isinstance(value, str) for value in values):
        raise ModelError(f"{header.path}: {key} is not a list of strings")
    return values
