"""What really died: the root cause among the symptoms of one failure.

When a node dies, its neighbours notice first and say "rank 1 is gone"; seconds later the missing heartbeats tell
which machine it was. So symptoms are weighed, and a weak one waits a moment for a stronger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from nova.wire import phases
from nova.wire.messages import EngineExited


class Weight(IntEnum):
    """How close to the root a symptom is; the least is the closest."""

    NODE = 0  # a whole node is gone
    ENGINE = 1  # an engine died by itself, by a signal, or by its daemon's verdict
    LINK = 2  # an engine could not set up its link
    PEER = 3  # an engine says that another one is gone


_LINK_ERRORS = {"FormingFailed", "TransportUnavailable", "TransferTimeout", "PluginRefused"}
_LINK_PHASES = {phases.OPEN, phases.MEET, phases.JOIN, phases.VERIFY}
_PEER_ERRORS = {"PeerLost", "GroupBroken", "GroupClosed"}
_FAULTS = {"TransportFault", "LengthMismatch", "ProtocolError"}
"""What an engine that serves says of a transport that lost or garbled something."""

MAX_REASON_CHARS = 4 << 10
"""Reasons are kept, and shown many at a time."""


@dataclass(frozen=True)
class Symptom:
    """One sign of a failure, and the phase that an engine was in, "" where it tells nothing. `link` says whether, if
    this is the cause, the transport is to blame."""

    weight: Weight
    text: str
    phase: str = ""
    link: bool = False


def node_lost(node: str, why: str) -> Symptom:
    return Symptom(Weight.NODE, f"node {node} is lost: {why}")


def engine_exited(node: str, exited: EngineExited, nodes: Sequence[str], awaited: Sequence[str] = ()) -> Symptom:
    """What the end of an engine means, by the error that it reported itself.

    `nodes` are in order of rank, because engines know each other by rank only; `awaited` are those that had not
    come to the meeting which this one may have waited for.
    """
    weight = Weight.ENGINE
    if exited.asked or exited.error in _PEER_ERRORS:  # asked, and not by us: its daemon ends
        weight = Weight.PEER
    elif exited.error in _LINK_ERRORS or (exited.error in ("", "ConfigError") and exited.phase in _LINK_PHASES):
        weight = Weight.LINK  # one that was killed in a phase of the link hung there, or crashed
    breaks = exited.phase == phases.READY and (exited.suspect or exited.error in _FAULTS)
    link = len(nodes) > 1 and not exited.asked and (breaks or weight >= Weight.LINK)
    where = f"engine of rank {exited.engine.rank} on node {node} (pid {exited.pid}, phase {exited.phase})"
    text = f"{where}: {exited.reason[:MAX_REASON_CHARS]}"
    if weight >= Weight.LINK and len(nodes) > 1:
        text += f" ({', '.join(f'rank {rank} is {name}' for rank, name in enumerate(nodes))})"
    if awaited and exited.phase == phases.MEET:
        text += f"; nothing came from {', '.join(awaited)}: look at the log there"
    if exited.phase == phases.JOIN:
        text += "; check that every node's transport.hosts can be dialled from the others (firewall, Local Network)"
    return Symptom(weight, text, exited.phase, link)


class Diagnosis:
    """Collects symptoms of one failure and says when the cause is known."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._symptoms: list[Symptom] = []
        self._since: float | None = None

    def add(self, symptom: Symptom, now: float) -> None:
        self._symptoms.append(symptom)
        self._since = now if self._since is None else self._since

    def cause(self, now: float, complete: bool = False) -> Symptom | None:
        """The cause: at once when a symptom is a root, or none can follow (`complete`), after the grace whatever there
        is; None before that."""
        if self._since is None:
            return None
        best = min(self._symptoms, key=lambda symptom: symptom.weight)
        # A transport talks to no peer while it opens: that nobody else's death can explain.
        root = best.weight <= Weight.ENGINE or best.phase == phases.OPEN
        if complete or root or now - self._since >= self._grace_s:
            return best
        return None
