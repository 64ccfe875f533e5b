"""What we read of `system_profiler SPThunderboltDataType -json`; everything else in it is passed over."""

from __future__ import annotations

import msgspec
from msgspec import field

RDMA_PROTOCOL = 64087
"""A Mac with RDMA enabled offers this service to its neighbours."""


class Tag(msgspec.Struct, frozen=True):
    """A receptacle. `speed` is "80 Gb/s" for a link, "Up to 120 Gb/s" for an empty one."""

    speed: str = field(name="current_speed_key", default="")
    receptacle: str | int = field(name="receptacle_id_key", default="")


class Service(msgspec.Struct, frozen=True):
    name: str = field(name="_name", default="")
    protocol: int = field(name="protocol_id_key", default=0)


class Item(msgspec.Struct, frozen=True):
    """A bus of this machine, or a device or Mac below it."""

    name: str = field(name="_name", default="")
    uuid: str = field(name="domain_uuid_key", default="")
    tag: Tag = field(name="receptacle_1_tag", default=Tag())
    upstream: Tag = field(name="receptacle_upstream_ambiguous_tag", default=Tag())
    services: list[Service] = field(name="services_title", default_factory=list)
    items: list[Item] = field(name="_items", default_factory=list)


class Report(msgspec.Struct, frozen=True):
    buses: list[Item] = field(name="SPThunderboltDataType", default_factory=list)
