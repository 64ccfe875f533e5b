"""A stage: layers [first, last) of a model, with the embedding or the head if they are at its end.

MLX binds streams to the thread that made them, so one thread loads a stage and runs it.
"""

from __future__ import annotations

import copy
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.utils import tree_flatten

from nova.errors import ModelError
from nova.model.card import read_card
from nova.model.files import one_line, read_json

PROVEN = frozenset(
    {
        "ernie4_5", "exaone4", "glm4", "gpt_oss", "llama", "mimo", "mistral", "mixtral", "olmo2", "olmo3", "olmoe",
        "qwen2", "qwen3", "qwen3_moe", "smollm3", "starcoder2",
    }
)  # fmt: skip
"""Model types whose stages gave exactly the whole model's logits in our test. Another one needs its test first."""

Progress = Callable[[int, int], None]
"""(bytes done, bytes in all)"""

KV_GROUPS = (64, 32)
"""Numbers of a head that share a scale when KV caches are quantised, best first; MLX has no smaller ones."""

Cache = list[Any]
"""One mlx_lm cache per layer of the stage."""


class StageModel:
    """The loaded layers. Every method builds lazily; the caller evaluates. `h` is [rows, n, hidden_size]."""

    def __init__(self, model: Module, caches: Cache, first_layer: int, last_layer: int, kv_bits: int = 0) -> None:
        core = model.model
        total = len(core.layers)
        self.first_layer = first_layer
        self.last_layer = last_layer
        self.layers: list[Module] = core.layers[first_layer:last_layer]
        self.hidden_size: int = model.args.hidden_size
        self._caches = caches[first_layer:last_layer]
        self._norm: Module | None = core.norm if last_layer == total else None
        self._project: Module | None = model.lm_head if self._norm is not None and "lm_head" in model else None
        tied = self._norm is not None and self._project is None
        self._embedding: Module | None = core.embed_tokens if first_layer == 0 or tied else None
        if kv_bits:
            self._caches = self._quantised(kv_bits)

    @property
    def owns_embedding(self) -> bool:
        return self.first_layer == 0

    @property
    def owns_head(self) -> bool:
        return self._norm is not None

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights of this stage."""
        return sum(_nbytes(module) for module in self._modules())

    @property
    def dtype(self) -> str:
        """MLX's name of the dtype of `h`, such as "bfloat16": that of the layers' floating weights."""
        values = _arrays(self.layers[0])
        first = next(value.dtype for value in values if mx.issubdtype(value.dtype, mx.floating))
        return str(first).removeprefix("mlx.core.")

    def make_cache(self) -> Cache:
        """A fresh cache for one request."""
        return copy.deepcopy(self._caches)

    def probed(self, positions: int) -> Cache:
        """Caches that have taken so many positions, for their shapes: nothing of them is computed."""
        caches = self.make_cache()
        for width in (positions - 1, 1):  # a window is cut to its size by the step behind a prompt
            self.run(mx.zeros((1, width, self.hidden_size), getattr(mx, self.dtype)), caches)
        return caches

    def embed(self, tokens: mx.array) -> mx.array:
        """Token ids [rows, n] -> h. Raises ModelError unless the stage owns layer 0."""
        if not self.owns_embedding or self._embedding is None:
            raise ModelError(f"stage of layers {self.first_layer}-{self.last_layer} has no embedding")
        h: mx.array = self._embedding(tokens)
        return h

    def run(self, h: mx.array, cache: Cache) -> mx.array:
        """h before this stage's layers -> h after them; `cache`, of one request or a batch, grows by n positions."""
        masks: dict[tuple[type, int], mx.array | str | None] = {}
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            # Layers with caches of one kind hold the same positions, so they share a mask, as in the whole model.
            kind = (type(layer_cache), getattr(layer_cache, "max_size", 0))
            if kind not in masks:
                masks[kind] = mask_for(h, layer_cache)
            h = layer(h, masks[kind], layer_cache)
        return h

    def norm(self, h: mx.array) -> mx.array:
        """h after the last layer -> h after the final norm. Raises ModelError unless the stage owns the last layer."""
        if self._norm is None:
            raise ModelError(f"stage of layers {self.first_layer}-{self.last_layer} has no head")
        normed: mx.array = self._norm(h)
        return normed

    def head(self, h: mx.array) -> mx.array:
        """h after the last layer -> logits [rows, n, vocab]. Raises ModelError unless the stage owns the last layer."""
        normed, project = self.norm(h), self._project
        if project is None:
            assert self._embedding is not None  # the constructor takes it along for a tied head
            project = self._embedding.as_linear
        logits: mx.array = project(normed)
        return logits

    def evaluate(self, progress: Progress) -> None:
        """Bring the weights into memory, module by module."""
        total, done = self.weight_bytes, 0
        progress(0, total)
        for module in self._modules():
            mx.eval(_arrays(module))
            done += _nbytes(module)
            progress(done, total)

    def warm_up(self) -> None:
        """Compute what serving computes, once, so that no request waits for what is made at its first use."""
        cache = self.make_cache()
        for width in (8, 1):
            tokens = mx.zeros((1, width), mx.uint32)
            h = self.embed(tokens) if self.owns_embedding else mx.zeros((1, width, self.hidden_size), self._dtype)
            h = self.run(h, cache)
            mx.eval(self.head(h) if self.owns_head else h)

    @property
    def _dtype(self) -> mx.Dtype:
        found: mx.Dtype = getattr(mx, self.dtype)
        return found

    def _quantised(self, bits: int) -> Cache:
        """This stage's caches with quantised ones where mlx_lm has them: not for windows. Raises ModelError."""
        from mlx_lm.models.cache import KVCache, QuantizedKVCache

        caches: Cache = []
        for layer, (plain, filled) in enumerate(zip(self._caches, self.probed(2), strict=True), self.first_layer):
            if type(plain) is not KVCache:
                caches.append(plain)
                continue
            sizes = (filled.keys.shape[-1], filled.values.shape[-1])
            groups = [size for size in KV_GROUPS if not any(head % size for head in sizes)]
            if not groups:
                raise ModelError(f"layer {layer}: heads of {sizes} numbers cannot be quantised: set engine.kv_bits = 0")
            caches.append(QuantizedKVCache(groups[0], bits))
        try:
            self.run(mx.zeros((1, 1, self.hidden_size), self._dtype), copy.deepcopy(caches))
        except ValueError as error:
            raise ModelError(f"{one_line(error)}: set engine.kv_bits = 0") from error
        return caches

    def _modules(self) -> list[Module]:
        ends = [module for module in (self._embedding, self._norm, self._project) if module is not None]
        return [*self.layers, *ends]


def load_stage(
    folder: Path,
    first_layer: int,
    last_layer: int,
    progress: Progress | None = None,
    kv_bits: int = 0,
) -> StageModel:
    """Load layers [first_layer, last_layer) of the model in `folder` into memory.

    Only these layers and the ends they need are read. `progress` is called with (bytes done, bytes in all), at
    first with 0 done. Raises ModelError: malformed files, a model type that is not in PROVEN, layers out of range.
    """
    card = read_card(folder)
    if card.model_type not in PROVEN:
        raise ModelError(
            f"{folder}: model type {card.model_type!r} has not been proven to run in stages; "
            f"proven are {', '.join(sorted(PROVEN))}"
        )
    if not 0 <= first_layer < last_layer <= card.layers:
        raise ModelError(f"{folder}: no stage {first_layer}-{last_layer} in a model of {card.layers} layers")
    model, caches = load_lazily(folder)
    stage = StageModel(model, caches, first_layer, last_layer, kv_bits)
    # What the stage does not hold goes away here, never evaluated: neither its file nor its random start is touched.
    del model, caches
    try:
        stage.evaluate(progress or (lambda done, total: None))
    except RuntimeError as error:
        raise ModelError(f"{folder}: cannot read the weights: {one_line(error)}") from error
    return stage


def mask_for(h: mx.array, cache: Any) -> mx.array | str | None:
    """The mask of a layer, by the kind of its cache, before the layer has added to it."""
    from mlx_lm.models.base import create_attention_mask, create_ssm_mask
    from mlx_lm.models.cache import ArraysCache, CacheList, RotatingKVCache

    if isinstance(cache, CacheList):
        cache = next((one for one in cache.caches if not isinstance(one, ArraysCache)), cache[0])
    if isinstance(cache, ArraysCache):
        mask: mx.array | str | None = create_ssm_mask(h, cache)
    elif isinstance(cache, RotatingKVCache):
        mask = create_attention_mask(h, cache, window_size=cache.max_size)
    else:
        mask = create_attention_mask(h, cache)
    return mask


def load_lazily(folder: Path) -> tuple[Module, Cache]:
    if "model_file" in read_json(folder / "config.json"):
        raise ModelError(f"{folder}: config.json wants to run code of its own (model_file), which Nova never does")
    try:
        with _open_files_limit_kept():
            from mlx_lm.models.cache import make_prompt_cache
            from mlx_lm.utils import load_model
        model, _ = load_model(folder, lazy=True)
        return model, make_prompt_cache(model)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RuntimeError, OSError) as error:
        raise ModelError(
            f"{folder}: mlx_lm cannot build the model: {type(error).__name__}: {one_line(error)}"
        ) from error


@contextmanager
def _open_files_limit_kept() -> Iterator[None]:
    """Importing mlx_lm sets the limit of open files to (2048, 4096), which may be lower than it was.

    Without privileges a hard limit does not rise again; then the soft one goes as high as it still can.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        yield
    finally:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (ValueError, OSError):
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard if soft < 0 else min(soft, hard), hard))


def _arrays(module: Module) -> list[mx.array]:
    named: Any = tree_flatten(module.parameters())  # type: ignore[no-untyped-call]
    return [value for _, value in named]


def _nbytes(module: Module) -> int:
    return sum(value.nbytes for value in _arrays(module))
