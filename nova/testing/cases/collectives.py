"""C: collective operations give the answer that every rank can work out for itself."""

from __future__ import annotations

from typing import Any

from nova.testing.bits import same
from nova.testing.case import case
from nova.testing.checks import check
from nova.testing.rank import Rank
from nova.transport.api import Caps

DTYPES = ("float32", "float16", "bfloat16", "uint32", "int32")
"""Names in `mlx.core`: what mlx-lm reduces and gathers: activations, logits, token ids."""

SIZES = (1, 2, 1024, 70_001)
"""Elements per rank: few, as for a flag, a small hidden state, and more than a transport's frames, odd."""

KNOWN = ("all_sum", "all_max", "all_min", "all_gather", "sum_scatter")


@case(needs=Caps.COLLECTIVES)
def C1_the_native_group_has_the_same_place(rank: Rank) -> None:
    """`native()` has the rank and size of the group, and `collectives` are the probe's, of `mlx.core.distributed`."""
    native, declared = rank.collective.native(), rank.collective.collectives
    place = (native.rank(), native.size())
    check(place == (rank.rank, rank.size), f"MLX's group is rank {place[0]} of {place[1]}")
    check(declared and declared <= set(KNOWN), f"collectives are {sorted(declared)}, known are {KNOWN}")
    probed = rank.transport.probe(rank.seat.hosts).collectives
    check(declared == frozenset(probed), f"the group offers {sorted(declared)}, the probe {sorted(probed)}")


@case(needs=Caps.COLLECTIVES)
def C2_every_collective_is_right_over_two_ranks(rank: Rank) -> None:
    """Every declared operation gives the known answer over two ranks, for each dtype and size."""
    _hold(rank)


@case(ranks=3, needs=Caps.COLLECTIVES)
def C3_every_collective_is_right_over_three_ranks(rank: Rank) -> None:
    """Every declared operation gives the known answer over three ranks, for each dtype and size."""
    _hold(rank)


def _hold(rank: Rank) -> None:
    import mlx.core as mx

    native = rank.collective.native()
    for name in sorted(rank.collective.collectives):
        for dtype in DTYPES:
            for size in SIZES:
                every = [_pattern(size * rank.size, dtype, each) for each in range(rank.size)]
                got = getattr(mx.distributed, name)(every[rank.rank], group=native, stream=mx.cpu)
                mx.eval(got)
                wanted = _answer(name, every, rank.rank)
                check(same(got, wanted), f"{name} of {size * rank.size} numbers of {dtype} gave a wrong answer")


def _pattern(size: int, dtype: str, rank: int) -> Any:
    """Whole numbers that every dtype holds exactly, and their sums over sixteen ranks too."""
    import mlx.core as mx

    return ((mx.arange(size, dtype=mx.int32) * 7 + 3 * rank) % 15).astype(getattr(mx, dtype))


def _answer(name: str, every: list[Any], rank: int) -> Any:
    """What the operation must give at `rank`."""
    import mlx.core as mx

    stacked = mx.stack(every)
    match name:
        case "all_max":
            answer = stacked.max(axis=0)
        case "all_min":
            answer = stacked.min(axis=0)
        case "all_gather":
            answer = mx.concatenate(every)
        case _:
            answer = sum(every[1:], every[0])
    if name == "sum_scatter":
        answer = mx.split(answer, len(every))[rank]
    mx.eval(answer)
    return answer
