"""The one place where an error of MLX, or of a dialled address, becomes one of Nova's, with what helps against it.

MLX's texts were recorded from 0.32.4; the numbers in them are the errno of the system it runs on.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re

from nova.errors import FormingFailed, GroupBroken, PeerLost, TransportError, TransportUnavailable
from nova.transport.dialling import unreachable

NAME = "ring"
MAX_TEXT = 300

NO_NETWORK = "the two nodes share no IPv4 network"
SILENT = "it accepts connections and says nothing: its process is stopped or stuck, or a firewall took the connection"
CLOSED = "it closed every connection before it proved itself: its engine ends, or a firewall does not know that program"

ADVICE: tuple[tuple[str, str], ...] = (
    ("bind socket", "another program took the port meanwhile, or the address went away: forming again takes others"),
    ("Couldn't connect", "the neighbour could be dialled before MLX began: its process ended, or the network changed"),
    ("Accept failed", "a signal interrupted the wait for the left neighbour"),
    ("parse", "MLX does not take the host file: report this"),
    ("Rank cannot be larger", "MLX does not take the host file: report this"),
)
"""What MLX writes -> what it means and what to do."""

_NUMBER = re.compile(r"error: (\d+)")


def translate(error: Exception, *, rank: int | None = None, phase: str | None = None, own: int = 0) -> TransportError:
    """While forming (`phase`) a FormingFailed at rank `own`; in a transfer with `rank` that it is lost, or that the
    group is broken; else that this machine cannot offer the transport."""
    text = " ".join(str(error).split())[:MAX_TEXT] or type(error).__name__
    if number := _NUMBER.search(text):
        text += f" ({os.strerror(int(number.group(1)))})"
    if phase is not None:
        advice = next((advice for part, advice in ADVICE if part in text), "")
        return FormingFailed(phase, NAME, own, f"{text}: {advice}" if advice else text)
    if rank is None:
        return TransportUnavailable(text)
    if "connection to a peer was lost" in text:
        return PeerLost(rank, text)
    return GroupBroken(f"the transfer with rank {rank} failed: {text}")


def undialled(code: int, after_s: float) -> str:
    """Why a neighbour's address could not be connected to, from `connect`'s errno `after_s` after it was dialled."""
    if code == errno.ECONNREFUSED:
        return "connection refused: its engine has ended, see the log of that node"
    return unreachable(code, after_s)


def unanswered(host: str, limit_s: float) -> str:
    """Why nothing at all came back from a neighbour's address."""
    why = f"no answer in {limit_s:.1f} s: a firewall drops it, or the route to it is wrong"
    if not ipaddress.IPv4Address(host).is_link_local:
        return why
    # A Mac with Wi-Fi and a Thunderbolt cable has the unscoped route 169.254/16 on Wi-Fi.
    return f"{why}; MLX cannot choose the interface for 169.254.x.x: give both ends of the cable addresses of a subnet"
