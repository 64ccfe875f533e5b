"""A llama GGUF file becomes a model folder that mlx_lm and Nova load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from nova.errors import ModelError
from nova.model.card import ModelCard, read_card
from nova.model.files import one_line
from nova.model.gguf.llama import ROPE_FACTORS, Target, config, read_llama, targets
from nova.model.gguf.read import BITS, GGUFHeader, GGUFTensor, read_gguf
from nova.model.gguf.tokenizer import generation_config, write_tokenizer
from nova.model.gguf.write import ShardWriter, check_free, group_shards, whole_folder, write_json

KEEP = "keep"
DTYPES = {"float32": mx.float32, "float16": mx.float16, "bfloat16": mx.bfloat16}
GROUP_SIZE = 32
"""GGUF's block of 32 values is MLX's quantisation group."""

Progress = Callable[[int, int], None]
"""(bytes of the GGUF's tensors done, bytes in all)"""


def import_gguf(
    path: Path, folder: Path, dtype: str | None = None, progress: Progress | None = None, *, overwrite: bool = False
) -> ModelCard:
    """Write the model in the GGUF file `path` to the new folder `folder`; returns its card.

    `dtype` is float32, float16 or bfloat16, to which everything is dequantised, or "keep", which leaves 4 and 8 bit
    weights quantised. None chooses: keep on Metal, float32 on a CPU, where MLX multiplies quantised matrices slowly.
    Raises ModelError: a file that cannot be imported (with the reason), an unknown dtype, or an existing folder.
    """
    dtype = dtype or default_dtype()
    if dtype != KEEP and dtype not in DTYPES:
        raise ModelError(f"dtype {dtype!r}; expected {KEEP}, {', '.join(DTYPES)}")
    check_free(folder, overwrite)
    header = read_gguf(path)
    llama = read_llama(header)
    places = targets(header, llama)
    with whole_folder(folder, overwrite) as fresh:
        write_json(fresh / "tokenizer_config.json", write_tokenizer(header, fresh, llama.vocab))
        write_json(fresh / "generation_config.json", generation_config(header, llama.vocab))
        source = _load(path)
        factors = source.pop(ROPE_FACTORS, None)
        settings = config(header, llama, None if factors is None else [float(factor) for factor in factors])
        settings["torch_dtype"] = "float16" if dtype == KEEP else dtype
        settings.update(generation_config(header, llama.vocab))
        if dtype == KEEP and (quantisation := _quantisation(header, places)):
            settings["quantization"] = quantisation
        write_json(fresh / "config.json", settings)
        _convert(header, places, source, dtype, fresh, progress or (lambda done, total: None))
        card = read_card(fresh)
    return card


def default_dtype() -> str:
    return KEEP if mx.metal.is_available() else "float32"


def undo_rope_order(rows: mx.array, heads: int) -> mx.array:
    """Rows of a q or k projection, from GGUF's order (rotary pairs side by side) to mlx_lm's (halves apart)."""
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)


def convert_tensor(tensor: GGUFTensor, target: Target, source: dict[str, mx.array], dtype: str) -> dict[str, mx.array]:
    """The parameters of one tensor, lazily; its arrays are taken out of `source`."""
    stem = tensor.name.rpartition(".")[0]
    values = source.pop(tensor.name)
    bits = BITS.get(tensor.type)
    if bits is None:
        parts = {target.parameter: values.astype(DTYPES.get(dtype, mx.float16))}
    else:
        parts = {"weight": values, "scales": source.pop(f"{stem}.scales"), "biases": source.pop(f"{stem}.biases")}
        if dtype != KEEP:
            # In float32 first: a product of two halves rounded to half would lose what the file has.
            scales, biases = parts["scales"].astype(mx.float32), parts["biases"].astype(mx.float32)
            values = mx.dequantize(values, scales, biases, group_size=GROUP_SIZE, bits=bits)
            parts = {"weight": values.astype(DTYPES[dtype])}
    if target.rope_heads:
        parts = {name: undo_rope_order(rows, target.rope_heads) for name, rows in parts.items()}
    return {f"{target.module}.{name}": rows for name, rows in parts.items()}


def _convert(
    header: GGUFHeader,
    places: dict[str, Target],
    source: dict[str, mx.array],
    dtype: str,
    folder: Path,
    progress: Progress,
) -> None:
    shards = group_shards((name, _unit(name), _output_bytes(header.tensors[name], dtype)) for name in places)
    writer = ShardWriter(folder, len(shards))
    total = sum(header.tensors[name].nbytes for name in places)
    done = 0
    progress(0, total)
    for shard in shards:
        weights: dict[str, mx.array] = {}
        for name in shard:
            weights.update(convert_tensor(header.tensors[name], places[name], source, dtype))
        writer.add(weights)
        done += sum(header.tensors[name].nbytes for name in shard)
        progress(done, total)
    writer.finish()


def _load(path: Path) -> dict[str, mx.array]:
    try:
        loaded = mx.load(str(path), format="gguf")
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{path}: MLX cannot read it: {one_line(error)}") from error
    assert isinstance(loaded, dict)
    return loaded


def _quantisation(header: GGUFHeader, places: dict[str, Target]) -> dict[str, object]:
    """config.json's "quantization": the commonest width, and each module that has another one."""
    bits = {
        target.module: BITS[header.tensors[n].type] for n, target in places.items() if header.tensors[n].type in BITS
    }
    if not bits:
        return {}
    widths = list(bits.values())
    usual = max(sorted(set(widths)), key=widths.count)
    odd = {module: {"group_size": GROUP_SIZE, "bits": width} for module, width in bits.items() if width != usual}
    return {"group_size": GROUP_SIZE, "bits": usual, **odd}


def _unit(name: str) -> str:
    return name.rsplit(".", 2)[0] if name.startswith("blk.") else name


def _output_bytes(tensor: GGUFTensor, dtype: str) -> int:
    values = 1
    for side in tensor.shape:
        values *= side
    if dtype == KEEP and tensor.type in BITS:
        return values * BITS[tensor.type] // 8 + values // GROUP_SIZE * 4
    return values * (4 if dtype == "float32" else 2)
