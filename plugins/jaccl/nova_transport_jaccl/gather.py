"""The one place that asks this machine. Its answers are facts; what they mean is `verdict`'s to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from nova_transport_jaccl.backend import installed_mlx
from nova_transport_jaccl.commands import Ran, run
from nova_transport_jaccl.config import JacclConfig
from nova_transport_jaccl.facts import MAX_GIDS, Facts, Mlx, Port, RdmaCtl, read_facts
from nova_transport_jaccl.parsing import network, verbs
from nova_transport_jaccl.parsing.thunderbolt import thunderbolt

VERSION = ("sw_vers", "-productVersion")
COMMANDS = (
    ("system_profiler", "SPThunderboltDataType", "-json"),
    ("networksetup", "-listallhardwareports"),
    ("ifconfig",),
    ("rdma_ctl", "status"),
    ("ibv_devices",),
    ("ibv_devinfo", "-v"),
)


def facts(config: JacclConfig, mlx: Callable[[], Mlx] = installed_mlx) -> Facts:
    """This machine's facts, from the file that `config` names or from commands. Raises TransportUnavailable.

    Takes at most twice `config.command_s` and what `commands.run` adds: the version first, then all others at once.
    """
    if config.facts:
        found = read_facts(Path(config.facts).expanduser())
        return found if found.mlx is not None else msgspec.structs.replace(found, mlx=mlx())
    version = run(VERSION, config.command_s)
    if version.kind == "missing":
        return Facts(mlx=mlx())
    with ThreadPoolExecutor(len(COMMANDS)) as pool:
        answers = list(pool.map(lambda argv: run(argv, config.command_s), COMMANDS))
    ran = {argv[0]: answer for argv, answer in zip(COMMANDS, answers, strict=True)}
    return understand({VERSION[0]: version, **ran}, mlx())


def understand(ran: Mapping[str, Ran], mlx: Mlx) -> Facts:
    """The facts in what the commands printed, by the command's name. Pure."""
    failed = {name: each.trouble for name, each in ran.items() if each.trouble and name != "rdma_ctl"}
    macos = network.sw_vers(ran["sw_vers"].output)
    if not macos:
        failed.setdefault("sw_vers", "sw_vers printed no version")
    try:
        seen = thunderbolt(ran["system_profiler"].output)
    except ValueError as error:
        seen = []
        failed.setdefault("system_profiler", str(error))
    interfaces = network.networksetup(ran["networksetup"].output)
    addresses = network.ifconfig(ran["ifconfig"].output)
    listed = verbs.ibv_devices(ran["ibv_devices"].output)
    devices = verbs.ibv_devinfo(ran["ibv_devinfo"].output)

    def whole(port: Port) -> Port:
        name = interfaces.get(port.receptacle, "")
        device = f"rdma_{name}"
        known = devices.get(device, verbs.Device())
        return msgspec.structs.replace(
            port,
            interface=name,
            ipv4=tuple(addresses.ipv4.get(name, ()))[:MAX_GIDS],
            bridge=addresses.bridge.get(name, ""),
            device=device if device in listed or device in devices else "",
            state=known.state,
            gids=tuple(known.gids),
        )

    return Facts(
        macos=macos,
        rdma_ctl=_rdma_ctl(ran["rdma_ctl"]),
        ports=tuple(whole(port) for port in seen),
        hung=tuple(name for name, each in ran.items() if each.kind == "hung"),
        failed=failed,
        mlx=mlx,
    )


def _rdma_ctl(ran: Ran) -> RdmaCtl:
    if ran.kind == "missing":
        return "missing"
    return "timed out" if ran.kind == "hung" else verbs.rdma_ctl(ran.output)
