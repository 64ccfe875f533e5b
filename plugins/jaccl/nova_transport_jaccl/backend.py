"""The functions of MLX that this plugin needs, as one small object, so that a test can put another in its place.

MLX is imported inside the calls: looking at this plugin must stay cheap.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

from nova.errors import TransportUnavailable
from nova_transport_jaccl.facts import Mlx

Gather = Callable[[bytes, int], bytes]
"""This rank's bytes and their number to those of all ranks, one after another."""

Factory = Callable[[int, int], Gather]

BARRIER = 64
"""int32s of the first sum: one frame, and more elements than ranks."""

_formed = threading.Lock()
"""Taken by the first init of this process and never released: MLX would hand out the same group again."""


class NativeGroup(Protocol):
    """The part of `mx.distributed.Group` that is used."""

    def rank(self) -> int: ...
    def size(self) -> int: ...


class Backend(Protocol):
    """What JACCL does. Raises whatever MLX raises: `errors.translate` knows it."""

    def init(self, factory: Factory | None) -> NativeGroup:
        """Form the group that the environment describes, once per process."""

    def barrier(self, group: NativeGroup) -> list[int]:
        """A small all_sum of ones."""

    def send(self, array: Any, dst: int, group: NativeGroup) -> None: ...

    def recv(self, shape: Sequence[int], dtype: Any, src: int, group: NativeGroup) -> Any: ...


class MlxBackend:
    """`mx.distributed`, on the CPU stream of the calling thread: a GPU command that waits is killed after 5 s.

    `name` is MLX's name of the backend; tests take "ring", which runs everywhere.
    """

    def __init__(self, name: str = "jaccl") -> None:
        self._name = name

    def init(self, factory: Factory | None) -> NativeGroup:
        import mlx.core as mx

        if not mx.distributed.is_available(self._name):  # init would end the process with SIGSEGV
            raise TransportUnavailable("librdma cannot be loaded: JACCL needs macOS 26.2 or newer")
        if not _formed.acquire(blocking=False):
            raise TransportUnavailable("this process has formed a JACCL group before: a group needs a new process")
        extra = {"all_gather_factory": factory} if factory is not None else {}
        group: NativeGroup = mx.distributed.init(strict=True, backend=self._name, **extra)
        return group

    def barrier(self, group: NativeGroup) -> list[int]:
        import mlx.core as mx

        ones = mx.ones((BARRIER,), mx.int32, stream=mx.cpu)
        sums = mx.distributed.all_sum(ones, group=group, stream=mx.cpu)  # type: ignore[arg-type]
        return cast("list[int]", sums.tolist())

    def send(self, array: Any, dst: int, group: NativeGroup) -> None:
        import mlx.core as mx

        mx.eval(mx.distributed.send(array, dst, group=group, stream=mx.cpu))  # type: ignore[arg-type]

    def recv(self, shape: Sequence[int], dtype: Any, src: int, group: NativeGroup) -> Any:
        import mlx.core as mx

        array = mx.distributed.recv(shape, dtype, src, group=group, stream=mx.cpu)  # type: ignore[arg-type]
        mx.eval(array)
        return array


def installed_mlx() -> Mlx:
    """What the installed MLX can do. A wheel that cannot be imported here has no JACCL either."""
    try:
        import mlx.core as mx
    except ImportError as error:
        return Mlx(f"that cannot be imported ({error})"[:200])
    return Mlx(
        str(mx.__version__),  # type: ignore[attr-defined]
        mx.distributed.is_available("jaccl"),
        "all_gather_factory" in (mx.distributed.init.__doc__ or ""),  # a signature is not all that can be asked of it
    )
