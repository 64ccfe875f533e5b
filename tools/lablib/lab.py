"""A lab that is up: run, cut, misroute, pause, kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from lablib import quota, system
from lablib.errors import LabError
from lablib.plan import INTERFACES, WIFI, Plan, routing
from nova.clock import Deadline

STATE = Path("/run/nova-lab")
"""A folder for each lab: its plan, and the homes of its hosts. Short, since sockets lie in it."""
ENTERED_S = 10.0
"""What a process may take to enter its host; it is a matter of milliseconds."""
ENDED_S = 10.0
"""What processes that were killed may take to end."""


@dataclass
class Lab:
    """`notes` is what this machine could not do of the plan, in sentences."""

    plan: Plan
    notes: list[str] = field(default_factory=list)
    _children: list[subprocess.Popen[Any]] = field(default_factory=list)

    @property
    def hosts(self) -> list[str]:
        return self.plan.names_of_hosts

    def addresses(self, host: str) -> dict[str, list[str]]:
        """By interface, IPv4 first."""
        return self.plan.addresses(host)

    def home(self, host: str) -> Path:
        """HOME of the host's processes; NOVA_HOME is the folder `nova` in it."""
        self.plan.namespace(host)
        return STATE / self.plan.id / host

    def entering(self, host: str, argv: Sequence[str]) -> list[str]:
        """The command that becomes `argv` inside the host."""
        inside = ["ip", "netns", "exec", self.plan.namespace(host), *argv]
        controller = quota.find() if self.plan.percent(host) is not None else None
        if controller is None:
            return inside
        members = controller.members(self.plan.namespace(host))
        return [sys.executable, "-S", str(Path(__file__).with_name("enter.py")), str(members), *inside]

    def environment(self, host: str) -> dict[str, str]:
        """Ours, with the homes of the host, and temporary files in them: they go with the lab."""
        home = self.home(host)
        own = {"HOME": home, "NOVA_HOME": home / "nova", "TMPDIR": home / "tmp"}
        return {**os.environ, **{name: str(folder) for name, folder in own.items()}, "NOVA_LAB_HOST": host}

    def popen(self, host: str, argv: Sequence[str], **more: Any) -> subprocess.Popen[Any]:
        """Start a command in a host and wait until it is inside, so that `pause` and `kill` find it.

        `more` as for subprocess.Popen, `env` over the host's own. Raises LabError when it does not get there.
        """
        environment = {**self.environment(host), **more.pop("env", {})}
        child = subprocess.Popen(self.entering(host, argv), env=environment, **more)
        self._children.append(child)
        there = self.plan.namespace(host)
        arrived = system.until(
            lambda: child.poll() is not None or system.is_in(child.pid, there), Deadline.after(ENTERED_S)
        )  # fmt: skip
        if not arrived:
            child.kill()
            raise LabError(f"{host}: `{' '.join(argv)}` did not enter its namespace within {ENTERED_S:g} s")
        return child

    def run(self, host: str, argv: Sequence[str], limit_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command in a host to its end. Raises LabError at the limit; its children are not waited for."""
        environment, command = self.environment(host), self.entering(host, argv)
        try:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{host}: `{' '.join(argv)}` took longer than {limit_s:g} s") from error

    def cut(self, host: str, interface: str = "tb0") -> None:
        """Pull the cable: the host's interface loses its carrier and keeps its addresses. Idempotent."""
        system.call(["ip", "-n", self.plan.middle, "link", "set", self.plan.port(host, interface), "down"])

    def heal(self, host: str, interface: str = "tb0") -> None:
        """Put the cable back. Idempotent."""
        system.call(["ip", "-n", self.plan.middle, "link", "set", self.plan.port(host, interface), "up"])

    def route(self, host: str, right: bool) -> None:
        """Lead 169.254/16 to an interface where nobody answers, or back to tb0. Idempotent."""
        if right == (self._route(host) == "right"):
            return
        for command in routing(self.plan, host, right):
            system.call(command)

    def pause(self, host: str) -> int:
        """SIGSTOP all of the host's processes; how many there are."""
        return system.signal_all(self.plan.namespace(host), signal.SIGSTOP)

    def resume(self, host: str) -> int:
        """SIGCONT all of the host's processes; how many there are."""
        return system.signal_all(self.plan.namespace(host), signal.SIGCONT)

    def kill(self, host: str) -> None:
        """SIGKILL all of the host's processes and wait for their end. Idempotent."""
        system.kill_all(self.plan.namespace(host), Deadline.after(ENDED_S))

    def status(self) -> dict[str, Any]:
        """Hosts with addresses, links, route and processes, as the kernel has them."""
        return {
            **msgspec.to_builtins(self.plan),
            "notes": self.notes,
            "state": [self._host(host) for host in self.hosts],
        }

    def collect(self) -> None:
        """Wait for the processes that `popen` started and that have been ended, and close their pipes."""
        for child in self._children:
            child.wait(ENDED_S)
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()
        self._children.clear()

    def _host(self, host: str) -> dict[str, Any]:
        there = self.plan.namespace(host)
        listed = msgspec.json.decode(system.call(["ip", "-j", "-n", self.plan.middle, "link", "show"]))
        up = {each["ifname"]: "UP" in each["flags"] for each in listed}
        return {
            "host": host, "namespace": there, "home": str(self.home(host)), "addresses": self.addresses(host),
            "links": {each: "up" if up.get(self.plan.port(host, each)) else "cut" for each in INTERFACES},
            "route": self._route(host), "processes": system.pids(there), "cpu_percent": self.plan.percent(host),
        }  # fmt: skip

    def _route(self, host: str) -> str:
        """Whether 169.254/16 leads to tb0; the interface of the wrong route exists exactly while it is wrong."""
        listed = system.call(["ip", "-o", "-n", self.plan.namespace(host), "link", "show"])
        return "wrong" if f"{WIFI}@" in listed else "right"
