"""`rdma_ctl status`, `ibv_devices` and `ibv_devinfo -v`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import cast

from nova_transport_jaccl.facts import MAX_GIDS, Gid, PortState, RdmaCtl

_TOKEN = re.compile(r"hca_id:\s*(?P<device>\S+)|\bstate:\s*(?P<state>\w+)|GID\[\s*(?P<index>\d+)\]:\s*(?P<gid>[^\s,]+)")


@dataclass
class Device:
    """One verbs device with its only port. `gids` is its table without what lies beyond MAX_GIDS."""

    state: PortState = "unknown"
    gids: list[Gid] = field(default_factory=list)


def rdma_ctl(output: str) -> RdmaCtl:
    word = output.strip().lower()
    return "disabled" if "disabled" in word else "enabled" if "enabled" in word else "unknown"


def ibv_devices(output: str) -> list[str]:
    """Device names in the order of the list, which is empty while RDMA is disabled, and on Thunderbolt 4."""
    return re.findall(r"^\s*(rdma_\w+)", output, re.MULTILINE)


def ibv_devinfo(output: str) -> dict[str, Device]:
    """Devices by name. Line breaks do not count: the tool's listings come with and without them."""
    devices: dict[str, Device] = {}
    device = Device()
    for match in _TOKEN.finditer(output):
        if match["device"]:
            device = devices.setdefault(match["device"], Device())
        elif match["state"] in ("PORT_ACTIVE", "PORT_DOWN"):
            device.state = cast(PortState, match["state"])
        elif match["gid"] and len(device.gids) < MAX_GIDS:
            device.gids.append(Gid(int(match["index"]), match["gid"]))
    return devices
