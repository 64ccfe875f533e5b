"""Defects of the class and of the probe."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nova.transport.api import API_VERSION, Caps, TransportInfo
from nova.transport.memory import MemoryTransport
from tests.conformance.mutants.base import fails, leaked


@fails("K1_the_class_has_the_name_of_its_entry_point")
class TakesAnothersName(MemoryTransport):
    name = "tcp"


@fails("K2_it_is_made_for_this_api")
class IsMadeForALaterApi(MemoryTransport):
    api = (API_VERSION[0], API_VERSION[1] + 1)


@dataclass
class Thawed:
    capacity: int = field(default=4 << 20, metadata={"help": "bytes"})


@fails("K4_an_unknown_option_is_refused")
class HasAnOpenConfig(MemoryTransport):
    Config = Thawed  # type: ignore[assignment]


@dataclass(frozen=True)
class Helpless:
    capacity: int = 4 << 20


@fails("K5_every_option_has_help")
class GivesNoHelp(MemoryTransport):
    Config = Helpless  # type: ignore[assignment]


@fails("P1_a_probe_says_who_it_is")
class ProbesAnotherVersion(MemoryTransport):
    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        return replace(super().probe(hosts), version="9")


@fails("P2_attachments_are_complete")
class KnowsNoBandwidth(MemoryTransport):
    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        info = super().probe(hosts)
        return replace(info, attachments=tuple(replace(each, bandwidth_bytes_s=0.0) for each in info.attachments))


@fails("P3_a_probe_raises_only_its_reason")
class ProbeRaisesWhatever(MemoryTransport):
    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        for host in hosts:
            ipaddress.ip_address(host)
        return super().probe(hosts)


@fails("P4_a_probe_leaves_nothing")
class ProbeLeaksADescriptor(MemoryTransport):
    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        leaked.append(os.open(os.devnull, os.O_RDONLY))
        return super().probe(hosts)


@fails("H2_a_group_declares_what_its_probe_did")
class ProbeHidesArrays(MemoryTransport):
    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        return replace(super().probe(hosts), caps=super().probe(hosts).caps & ~Caps.ARRAYS)
