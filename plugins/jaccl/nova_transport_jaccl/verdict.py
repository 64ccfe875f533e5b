"""What a machine's facts mean: the ports that JACCL can use, or one reason why there is none. Pure.

The order of the checks is the order in which a person would have to mend things. Hardware comes first, because
nothing else helps on Thunderbolt 4: its owner must not be sent to update, to Recovery or to a shop for cables.
"""

from __future__ import annotations

from dataclasses import dataclass

from nova_transport_jaccl.facts import Facts, Peer, Port, release

MIN_GBIT = 80.0
"""RDMA runs over links of 80 Gb/s only, though devices are listed for slower ones (mlx #4485, exo #1813)."""

MIN_MACOS = (26, 2)
LARGE_FRAMES_MACOS = (26, 3)
"""MLX cuts messages into frames of 4 KiB before, of up to 512 KiB from it on, and both ends must cut alike."""

GID_INDEX = 1
"""JACCL uses this entry of the GID table, wherever the IPv4-mapped GID is (mlx #3389)."""

RECOVERY = "in Recovery, open Terminal, type `rdma_ctl enable`, and restart"
CABLE = "join the two Macs directly with a Thunderbolt 5 cable"


@dataclass(frozen=True)
class Usable:
    """A port over which JACCL can run. `uuid` and `peer` name the two ends of its cable."""

    device: str
    interface: str
    address: str
    uuid: str
    peer: str


@dataclass(frozen=True)
class Verdict:
    """The usable ports, and why each other is none. `reason` is "" exactly when there is a usable port."""

    ports: tuple[Usable, ...]
    refused: tuple[str, ...]
    reason: str


def judge(facts: Facts, failed_starts: int = 0, most_failed: int = 5) -> Verdict:
    """The verdict on one machine, of whose JACCL starts `failed_starts` have failed since it booted."""
    if reason := _machine(facts) or _spent(failed_starts, most_failed):
        return Verdict((), (), reason)
    ports = [_port(port, facts) for port in facts.ports]
    usable = tuple(port for port in ports if isinstance(port, Usable))
    refused = [port for port in ports if isinstance(port, _Refused)]
    reason = "" if usable else max(refused, key=lambda one: one.progress).reason
    return Verdict(usable, tuple(one.reason for one in refused), reason)


def alike(facts: Facts) -> dict[str, str]:
    """What must be equal on all nodes of a group, as text. Off macOS MLX takes the frames of the newest."""
    large = not facts.macos or release(facts.macos) >= LARGE_FRAMES_MACOS
    return {"mlx": facts.mlx.version if facts.mlx else "unknown", "macOS frames": "512 KiB" if large else "4 KiB"}


def _machine(facts: Facts) -> str:
    """The first reason against the whole machine, or ""."""
    if trouble := facts.failed.get("sw_vers"):
        return f"the version of macOS is not known: {trouble}"
    mlx = facts.mlx
    has_jaccl = mlx is not None and mlx.jaccl
    if not facts.macos and not has_jaccl:
        return "not macOS, and this MLX has no JACCL: it needs Macs with Thunderbolt 5 and macOS 26.2 or newer"
    if facts.ports and not any(port.generation == 5 for port in facts.ports):
        return _no_thunderbolt_5(facts)
    if facts.macos and release(facts.macos) < MIN_MACOS:
        return f"macOS {facts.macos} has no RDMA over Thunderbolt: update this Mac to macOS 26.2 or newer"
    if not has_jaccl:
        version = f"MLX {mlx.version}" if mlx is not None else "MLX"
        return f"{version} is built without JACCL, or librdma cannot be loaded: install the MLX wheel for macOS 26"
    if not facts.ports:
        return f"no Thunderbolt port is known: {facts.failed.get('system_profiler', 'none is listed')}"
    if facts.rdma_ctl == "disabled":
        return f"RDMA is disabled on this Mac: start it {RECOVERY}"
    if hung := [name for name in facts.hung if name.startswith("ibv_")]:
        return (
            f"{hung[0]} does not answer, so the RDMA driver is stuck: shut this Mac down, disconnect its power for a "
            "moment, and start it again; a restart may hang"
        )
    return ""


def _no_thunderbolt_5(facts: Facts) -> str:
    devices = any(port.device for port in facts.ports)
    signs = " or ".join(
        sign for sign, seen in (("rdma_ctl says enabled", facts.rdma_ctl == "enabled"), ("RDMA devices exist", devices))
        if seen
    )  # fmt: skip
    vain = f"; that {signs} changes nothing" if signs else ""
    if any(port.generation is not None for port in facts.ports):
        return f"this Mac has Thunderbolt 4 or older, over which JACCL can never run: it needs Thunderbolt 5{vain}"
    return f"no port of this Mac is seen to be Thunderbolt 5, and no link reaches 80 Gb/s, which JACCL needs{vain}"


def _spent(failed_starts: int, most_failed: int) -> str:
    if failed_starts < most_failed:
        return ""
    return (
        f"{failed_starts} starts of JACCL have failed since this Mac booted, and each may cost one of its about 10 "
        "protection domains: restart this Mac"
    )


@dataclass(frozen=True)
class _Refused:
    """Why a port cannot be used, and how near it came: the nearest port's reason is what helps."""

    progress: int
    reason: str


def _port(port: Port, facts: Facts) -> Usable | _Refused:
    """One port of a machine that could do JACCL. Checks that a person mends first come first."""
    peer = port.peers[0] if port.peers else Peer()
    mapped = next((gid for gid in port.gids if gid.ipv4), None)
    at_index = next((gid.ipv4 for gid in port.gids if gid.index == GID_INDEX), "")
    checks = (
        (port.link_gbit is not None, f"nothing is connected: {CABLE}"),
        (bool(port.peers), f"no Mac is seen at the other end, which may be a dock, hub or disk: {CABLE}"),
        (len(port.peers) <= 1, f"several Macs are seen through one port: {CABLE}"),
        ((peer.link_gbit or 0.0) >= MIN_GBIT, _slow(peer)),
        (bool(port.uuid and peer.uuid), "system_profiler does not say which cable this is (no domain UUID)"),
        (bool(port.interface), "it has no network interface: check `networksetup -listallhardwareports`"),
        (bool(port.device), _no_device(facts)),
        (port.state != "PORT_DOWN", _down(peer)),
        (port.state == "PORT_ACTIVE", f"ibv_devinfo does not show the state of {port.device}: restart this Mac"),
        (bool(at_index), _no_gid(port, mapped.index if mapped else None)),
    )
    for progress, (holds, reason) in enumerate(checks):
        if not holds:
            return _Refused(progress, f"{port.label}: {reason}")
    return Usable(port.device, port.interface, at_index, port.uuid, peer.uuid)


def _slow(peer: Peer) -> str:
    between = f"through {peer.behind} " if peer.behind else ""
    return (
        f"the link to {peer.name or 'the other Mac'} {between}runs at {peer.link_gbit or 0:g} Gb/s and JACCL needs "
        f"{MIN_GBIT:g}: a Thunderbolt 4 cable, dock or hub is between, or the other Mac has no Thunderbolt 5"
    )


def _no_device(facts: Facts) -> str:
    why = facts.failed.get("ibv_devices", "ibv_devices does not list one")
    return f"it has no RDMA device ({why}; rdma_ctl says {facts.rdma_ctl}): restart this Mac"


def _down(peer: Peer) -> str:
    name = peer.name or "the other Mac"
    if not peer.rdma:
        return f"PORT_DOWN, and {name} does not show RDMA, so it is disabled there: start that Mac {RECOVERY}"
    return f"PORT_DOWN although {name} has RDMA: re-plug the cable; if that does not help, restart both Macs"


def _no_gid(port: Port, elsewhere: int | None) -> str:
    if elsewhere is not None:
        return f"its IPv4-mapped GID is at index {elsewhere}, and JACCL uses {GID_INDEX}: re-plug the cable"
    bridge = f", after taking {port.interface} out of {port.bridge}" if port.bridge else ""
    return (
        f"it has no IPv4-mapped GID at index {GID_INDEX}: give {port.interface} an IPv4 address of its own"
        f"{bridge} (System Settings > Network), then re-plug the cable"
    )
