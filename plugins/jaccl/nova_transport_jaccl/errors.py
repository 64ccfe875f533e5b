"""The one place where an error of MLX becomes one of Nova's, with what helps against it.

Texts and causes: MLX 0.32.4 and the issues of MLX and exo (ml-explore/mlx #2944, #3207, #3389, #3777, #4209).
"""

from __future__ import annotations

import errno
import os
import re

from nova.errors import FormingFailed, GroupBroken, PeerLost, TransportError, TransportUnavailable

NAME = "jaccl"
MAX_TEXT = 300

RESTART = "restart this Mac, trying again does not help"

ADVICE: tuple[tuple[str, str], ...] = (
    (r"Could not find device \S+ \(0 ", "this Mac has no RDMA device any more: check `rdma_ctl status` and the cable"),
    (r"Could not find device", "the device has gone since the cards were made: the cable was moved; form anew"),
    (r"Could not open device", f"the RDMA driver refuses the device: {RESTART}"),
    (r"No IPv4-mapped GID", "the port has no IPv4 address: give it one of its own, then re-plug the cable"),
    (r"protection domain|errno 96", f"protection domains are used up by earlier starts: {RESTART}"),
    (r"queue pair failed with|create queue pair|completion queue|\(16\)|errno 16\b",
     f"queue pairs are used up by earlier starts: {RESTART}"),
    (r"Register memory region", f"no memory can be registered, most likely after killed processes: {RESTART}"),
    (r"RTR failed with errno 22", "GID 1 of a port maps no IPv4 address, or a bridge holds the port: give the port an "
                                  "IPv4 address of its own, take it out of the bridge, re-plug the cable"),
    (r"RTR failed with errno 60", "the two devices are not at one cable, or the Macs differ in macOS: re-plug, update"),
    (r"connect \(error: 60\)", "rank 0 cannot be reached: check the address that it offers in transport.hosts"),
    (r"connect \(error: 61\)", "rank 0 does not listen: it failed first, see its reason"),
    (r"connect \(error: 65\)", "macOS blocks it: allow Local Network for this program in System Settings > Privacy"),
    (r"(send|recv) failed.*(errno|code)[ =](2|60)\b", "the link was lost: check the cable, and that no Mac sleeps"),
    (r"singleton group|empty distributed group", "MLX formed a group of one: its JACCL settings were incomplete"),
    (r"valid mesh or a valid ring|need to provide via environment", "MLX does not take the device matrix: report this"),
    (r"Cannot initialize jaccl", "this MLX is built without JACCL: install its wheel for macOS 26"),
    (r"bad_cast", "the exchange between the ranks gave MLX no bytes: report this"),
)  # fmt: skip
"""What MLX writes -> what it means and what to do."""

_ERRNO = re.compile(r"(?:errno|error code|error:)[ =]*(\d+)")


def translate(error: Exception, *, own: int = 0, rank: int | None = None, phase: str | None = None) -> TransportError:
    """While forming (`phase`) a FormingFailed at rank `own`; in a transfer with `rank` that it is lost, or that the
    group is broken; else that this machine cannot offer the transport."""
    text = " ".join(str(error).split())[:MAX_TEXT] or type(error).__name__
    advice = next((advice for pattern, advice in ADVICE if re.search(pattern, text, re.IGNORECASE)), "")
    number = _ERRNO.search(text)
    name = f" ({_meaning(int(number.group(1)))})" if number and not advice else ""
    why = f"{text}{name}" + (f": {advice}" if advice else "")
    if phase is not None:
        return FormingFailed(phase, NAME, own, why)
    if rank is None:
        return TransportUnavailable(why)
    if number and int(number.group(1)) in (errno.ENOENT, 60):
        return PeerLost(rank, why)
    return GroupBroken(f"the transfer with rank {rank} failed: {why}")


def _meaning(number: int) -> str:
    """macOS and Linux number some errors differently; the Mac's names are what MLX means."""
    mac = {49: "EADDRNOTAVAIL", 60: "ETIMEDOUT", 61: "ECONNREFUSED", 65: "EHOSTUNREACH", 96: "ENODATA"}
    return mac.get(number) or errno.errorcode.get(number) or os.strerror(number)
