"""A real Nova cluster over a lab: `nova-node` on every host, the coordinator on mac-1, and its commands."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lablib.errors import LabError
from lablib.lab import Lab
from nova.clock import Deadline
from nova.control.keys import KeyStore
from nova.local.cluster import setting

PORT = 29200
START_S = 60.0
"""A daemon that is not up after this long never will be."""
NETWORKS = ["loopback", "thunderbolt", "169.254.0.0/16", "10.77.0.0/24", "fd77::/64"]
"""All of a lab's, for transport.trusted: nobody else is on them."""


@dataclass
class LabCluster:
    """Daemons on all hosts of a lab. The control plane is on en0; `hosts` is each node's transport.hosts."""

    lab: Lab
    hosts: Mapping[str, Sequence[str]]
    settings: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    daemons: dict[str, subprocess.Popen[Any]] = field(default_factory=dict)

    @property
    def coordinator(self) -> str:
        return self.lab.hosts[0]

    @property
    def address(self) -> str:
        return f"{self.lab.addresses(self.coordinator)['en0'][0]}:{PORT}"

    def introduce(self) -> None:
        """Keys for all hosts: every node knows the coordinator, and it knows them."""
        stores = {host: KeyStore(self.lab.home(host) / "nova") for host in self.lab.hosts}
        keys = {host: store.ensure(host).public for host, store in stores.items()}
        for host, store in stores.items():
            store.trust(self.coordinator, keys[self.coordinator])
            stores[self.coordinator].trust(host, keys[host])

    def start(self) -> None:
        """All daemons at once; the coordinator is there when this returns. Raises LabError with the end of a log."""
        deadline = Deadline.after(START_S)
        for host in self.lab.hosts:
            options = [part for each in self._of(host) for part in ("--set", each)]
            with self.log(host).open("wb") as log:
                self.daemons[host] = self.lab.popen(
                    host, [sys.executable, "-m", "nova", "--lifeline", "--json", *options],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=self.environment,
                )  # fmt: skip
        for host, daemon in self.daemons.items():
            assert daemon.stdout is not None
            ready, _, _ = select.select([daemon.stdout], [], [], deadline.remaining())
            if not ready or not daemon.stdout.readline():
                raise LabError(f"nova-node on {host} did not come up: {self.tail(host)}")

    def command(self, *arguments: str) -> list[str]:
        """A command of `nova`, for the coordinator's host."""
        options = [setting("control.address", self.address), setting("control.coordinator", self.coordinator)]
        command = [sys.executable, "-c", "from nova.cli.main import main; main()", *arguments]
        return [*command, *(part for each in options for part in ("--set", each))]

    def nova(self, *arguments: str, limit_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command of `nova` to its end."""
        return self.lab.run(self.coordinator, self.command(*arguments), limit_s)

    def asked(self, *arguments: str, limit_s: float = 60.0) -> dict[str, Any]:
        """What a command of `nova` prints with --json. Raises LabError when it fails."""
        done = self.nova(*arguments, "--json", limit_s=limit_s)
        if done.returncode:
            raise LabError(f"nova {arguments[0]} failed: {done.stdout.strip() or done.stderr.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def log(self, host: str) -> Path:
        return self.lab.home(host) / "nova-node.log"

    def tail(self, host: str, lines: int = 5) -> str:
        """The end of a daemon's log."""
        return " | ".join(self.log(host).read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _of(self, host: str) -> list[str]:
        """The settings of a daemon; those that the caller gave come later and win."""
        settings = [
            setting("name", host),
            setting("role", "coordinator" if host == self.coordinator else "worker"),
            setting("control.coordinator", self.coordinator),
            setting("control.address", self.address),
            setting("transport.hosts", list(self.hosts[host])),
            setting("transport.trusted", NETWORKS),
            setting("engine.threads", 1),
        ]
        if host == self.coordinator:
            settings += [setting("deployment.model", "emulated:seed"), setting("deployment.nodes", self.lab.hosts)]
        return [*settings, *self.settings]


@contextmanager
def cluster(
    lab: Lab,
    settings: Sequence[str] = (),
    hosts: Mapping[str, Sequence[str]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[LabCluster]:
    """A started cluster for as long as the block runs; all processes of all hosts are killed at its end.

    `settings` are `key=value` for all nodes; `hosts` by host, else the address on tb0 and then the one on en0.
    Raises LabError.
    """
    both = {host: [lab.addresses(host)["tb0"][0], lab.addresses(host)["en0"][0]] for host in lab.hosts}
    found = LabCluster(lab, hosts or both, settings, environment or {})
    found.introduce()
    try:
        found.start()
        yield found
    finally:
        for host in lab.hosts:
            lab.kill(host)
