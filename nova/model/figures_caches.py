"""What a request's caches hold per layer, read off the shapes of a run that is traced and never computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import structlog
from mlx.nn.layers.base import Module

from nova.errors import ModelError
from nova.model.files import one_line

log = structlog.get_logger(__name__)

GROWN = 1024
"""Positions after which a cache of an unknown kind is looked at, and as many again."""


@dataclass(frozen=True)
class CacheSize:
    """Bytes for each position, up to `window` of them where that is not 0, and bytes whatever the length."""

    token_bytes: int = 0
    fixed_bytes: int = 0
    window: int = 0


class _Witness:
    """Stands in a layer's place, and notes which caches the layer is the first to be given."""

    def __init__(self, layer: Module, index: int, seen: dict[int, int]) -> None:
        self._layer = layer
        self._index = index
        self._seen = seen

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            self._seen.setdefault(id(value), self._index)
        return self._layer(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


def cache_sizes(
    model: Module, layers: Sequence[Module], caches: Sequence[Any], plain_token_bytes: Callable[[], int]
) -> list[CacheSize]:
    """Of each layer. `caches` are fresh ones of `model`, which is not to be used again. Raises ModelError.

    Layers without a cache take nothing; one that several share counts at the first of them. A model that cannot be
    traced here - its kernels need a GPU, or it looks at values - takes `plain_token_bytes` for each plain cache, and
    the log says so.
    """
    if any(not _known(cache) for cache in caches) and len(caches) == len(layers):
        return _grown(model)
    owners = {id(cache): index % len(layers) for index, cache in enumerate(caches)}
    if len(caches) != len(layers):
        seen: dict[int, int] = {}
        for index, layer in enumerate(layers):
            model.layers[index] = _Witness(layer, index, seen)
    else:
        seen = owners
    token_bytes = _trace(model, caches, plain_token_bytes)
    sizes: list[list[CacheSize]] = [[] for _ in layers]
    for cache in caches:
        sizes[seen.get(id(cache), owners[id(cache)])].append(_size(cache, token_bytes))
    return [_sum(each) for each in sizes]


def _trace(model: Module, caches: Sequence[Any], plain_token_bytes: Callable[[], int]) -> Callable[[Any], int]:
    """Give the caches their shapes, and return what tells a growing one's bytes for each position.

    In a trace nothing is computed: MLX refuses to evaluate there.
    """
    from mlx_lm.models.cache import ArraysCache, CacheList

    try:
        _run(model, caches, 3)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, RuntimeError) as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        if any(isinstance(cache, (ArraysCache, CacheList)) for cache in caches):
            raise ModelError(f"what the model's caches take cannot be told here: {why}") from error
        assumed = plain_token_bytes()
        log.warning("caches are assumed to hold all key and value heads", bytes_per_layer=assumed, why=why)
        return lambda cache: assumed
    return _held_token_bytes


def _run(model: Module, caches: Sequence[Any], positions: int) -> None:
    def run(tokens: mx.array) -> mx.array:
        for width in (positions - 1, 1):  # a window is cut to its size by the step behind a prompt
            model(tokens[:, :width], cache=caches)
        return tokens

    mx.compile(run)(mx.zeros((1, positions), mx.int32))


def _known(cache: Any) -> bool:
    from mlx_lm.models import cache as kinds

    growing = (kinds.KVCache, kinds.ConcatenateKVCache, kinds.RotatingKVCache, kinds.ChunkedKVCache)
    return isinstance(cache, (*growing, kinds.ArraysCache, kinds.CacheList))


def _grown(model: Module) -> list[CacheSize]:
    """Of caches of an architecture's own: from how they grow. A window beyond `GROWN` counts as growing on."""
    from mlx_lm.models.cache import make_prompt_cache

    few, many = make_prompt_cache(model), make_prompt_cache(model)
    _run(model, few, GROWN)
    _run(model, many, 2 * GROWN)
    each = [-(-(more.nbytes - less.nbytes) // GROWN) for less, more in zip(few, many, strict=True)]
    return [CacheSize(grows, less.nbytes - GROWN * grows) for grows, less in zip(each, few, strict=True)]


def _size(cache: Any, token_bytes: Callable[[Any], int]) -> CacheSize:
    from mlx_lm.models.cache import ArraysCache, CacheList, ChunkedKVCache, ConcatenateKVCache, KVCache, RotatingKVCache

    match cache:
        case CacheList():
            return _sum([_size(one, token_bytes) for one in cache.caches])
        case ArraysCache():
            return CacheSize(fixed_bytes=cache.nbytes)
        case RotatingKVCache():
            return CacheSize(token_bytes(cache), window=cache.max_size)
        case ChunkedKVCache():
            return CacheSize(token_bytes(cache), window=cache.chunk_size)
        case KVCache() | ConcatenateKVCache():
            return CacheSize(token_bytes(cache))
    raise ModelError(f"how a {type(cache).__name__} grows is not known, so its memory cannot be planned")


def _held_token_bytes(cache: Any) -> int:
    """Keys and values are [rows, heads, positions, numbers]; a layer that left its cache alone takes none."""
    held = [each for each in (cache.keys, cache.values) if each is not None]
    return sum(each.nbytes // each.shape[-2] for each in held)


def _sum(sizes: Sequence[CacheSize]) -> CacheSize:
    """Of several caches of one layer. Where not all have one window, each window counts as full from the start."""
    windows = {size.window for size in sizes if size.token_bytes}
    if len(windows) <= 1:
        window = max(windows, default=0)
        return CacheSize(sum(size.token_bytes for size in sizes), sum(size.fixed_bytes for size in sizes), window)
    return CacheSize(
        sum(size.token_bytes for size in sizes if not size.window),
        sum(size.fixed_bytes + size.token_bytes * size.window for size in sizes),
    )
