"""`sw_vers`, `networksetup -listallhardwareports` and `ifconfig`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Interfaces:
    """IPv4 addresses by interface, and the bridge that an interface is a member of."""

    ipv4: dict[str, list[str]] = field(default_factory=dict)
    bridge: dict[str, str] = field(default_factory=dict)


def sw_vers(output: str) -> str:
    """The version of macOS, or "" where none is printed."""
    match = re.search(r"\d+(?:\.\d+)*", output)
    return match.group() if match else ""


def networksetup(output: str) -> dict[str, str]:
    """Interfaces by Thunderbolt receptacle: {"2": "en6"}. The numbers may have gaps and follow no order."""
    return dict(re.findall(r"^Hardware Port: Thunderbolt (\d+)\s*^Device: (\w+)", output, re.MULTILINE))


def ifconfig(output: str) -> Interfaces:
    """Every interface; lines that begin without a space start the next."""
    found = Interfaces()
    name = ""
    for line in output.splitlines():
        if match := re.match(r"(\w+): flags", line):
            name = match.group(1)
        elif match := re.match(r"\s+inet (\d+\.\d+\.\d+\.\d+)\s", line + " "):
            found.ipv4.setdefault(name, []).append(match.group(1))
        elif match := re.match(r"\s+member: (\w+)", line):
            found.bridge[match.group(1)] = name
    return found
