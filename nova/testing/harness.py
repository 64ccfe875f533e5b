"""A transport under test: which one, with which options, and how its ranks run."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from nova.errors import ConfigError
from nova.testing.case import Case
from nova.testing.processes import run_in_processes
from nova.testing.report import CaseResult
from nova.testing.threads import run_in_threads
from nova.transport.api import Caps, Seat, Transport
from nova.transport.registry import load_transport

ENDS = Caps.DEADLINE | Caps.ABORT | Caps.REFORM
"""Without these a rank can be stuck, or spoilt for a second group: it must be a process."""


@dataclass(frozen=True)
class Harness:
    """`expect` is what the transport must declare, None to take what its probe says.

    `make` is for a transport that lives within one process and has no entry point, such as `memory`.
    """

    transport: str
    options: Mapping[str, object] = field(default_factory=dict)
    ranks_as: Literal["threads", "processes"] = "threads"
    expect: Caps | None = None
    hosts: tuple[str, ...] = ("127.0.0.1",)
    make: Callable[[], Transport] | None = None
    limit_s: float = 60.0
    """s; no case may take longer, whatever its own limit is."""

    @cached_property
    def caps(self) -> Caps:
        return self.load().probe(self.hosts).caps if self.expect is None else self.expect

    def load(self) -> Transport:
        return self.make() if self.make else load_transport(self.transport, self.options)

    def missing(self, case: Case) -> str:
        """The capability for whose sake the case is skipped; empty when it runs."""
        if case.processes and self.make is not None and Caps.INTER_HOST not in self.caps:
            return "lacks INTER_HOST, and its ranks share a process"
        return case.missing(self.caps)

    def run(self, case: Case) -> CaseResult:
        """Run all ranks of a case. Raises ConfigError when the ranks cannot run in this way."""
        if missing := self.missing(case):
            version = self.make().version if self.make else ""
            return CaseResult(self.transport, version, case.name, case.clause, "skipped", missing)
        ticket = secrets.token_bytes(32)
        group = f"{case.name}-{secrets.token_hex(4)}"
        seats = [Seat(group, 1, rank, case.ranks, ticket, self.hosts) for rank in range(case.ranks)]
        limit_s = min(case.limit_s, self.limit_s)
        if self.ranks_as == "processes" or case.processes:
            if self.make is not None:
                raise ConfigError(f"{self.transport} is made here and has no entry point: no other process can load it")
            return run_in_processes(case, self.transport, self.options, seats, self.caps, limit_s)
        if self.make is None and ENDS not in self.caps:
            raise ConfigError(f'{self.transport} lacks DEADLINE, ABORT or REFORM: use ranks_as="processes"')
        return run_in_threads(case, self.load, seats, self.caps, limit_s)
