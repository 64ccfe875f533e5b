"""H: a transport is what it declares, and refuses what it does not."""

from __future__ import annotations

from nova.errors import FormingFailed, TransportUnavailable
from nova.testing.carriers import Carrier, each_carrier
from nova.testing.case import case
from nova.testing.checks import PROMPT_S, Background, check, raises, soon
from nova.testing.rank import Rank
from nova.transport.api import ArrayGroup, ByteGroup, Caps, CollectiveGroup

CLASSES = {Caps.BYTES: ByteGroup, Caps.ARRAYS: ArrayGroup, Caps.COLLECTIVES: CollectiveGroup}


@case()
def H1_a_group_is_what_it_declares(rank: Rank) -> None:
    """A group is a ByteGroup, ArrayGroup or CollectiveGroup exactly when it declares BYTES, ARRAYS, COLLECTIVES."""
    for cap, kind in CLASSES.items():
        declared, is_one = cap in rank.group.caps, isinstance(rank.group, kind)
        words = "is declared, and the group is no" if declared else "is not declared, and the group is a"
        check(declared == is_one, f"{cap.name} {words} {kind.__name__}")
    check(rank.group.caps & (Caps.BYTES | Caps.ARRAYS), "the group moves neither bytes nor arrays")


@case()
def H2_a_group_declares_what_its_probe_did(rank: Rank) -> None:
    """The capabilities of a group are those of the probe."""
    check(rank.group.caps == rank.caps, f"the group declares {rank.group.caps!r}, the probe {rank.caps!r}")


@each_carrier(ranks=4)
def H3_a_rank_out_of_reach_is_refused(rank: Rank, carrier: Carrier) -> None:
    """Without ANY_PAIR a rank that is no neighbour is refused at once with ValueError, and the group is whole."""
    across = (rank.rank + 2) % 4
    if Caps.ANY_PAIR not in rank.caps:
        for call in (lambda: carrier.put(b"x", across, soon()), lambda: carrier.take(1, across, soon())):
            Background(call).raises(ValueError, within_s=PROMPT_S)
    carrier.put(b"x", rank.right, soon())
    check(carrier.take(1, rank.left, soon()) == b"x", "other bytes came")


@case(lacks=Caps.REFORM)
def H4_a_second_group_is_refused(rank: Rank) -> None:
    """Without REFORM a second group in one process is refused at once: TransportUnavailable or FormingFailed."""
    rank.form_group()

    with raises(TransportUnavailable, FormingFailed, within_s=PROMPT_S):
        rank.form(generation=2)
