"""The text form of `system_profiler SPThunderboltDataType`.

An item (a bus, a device, a Mac) is a heading with an empty line after it, and belongs to the nearest item above that
is indented less. A heading without that line is a section of its item: a port or a service.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nova_transport_jaccl.parsing.thunderbolt_types import Item, Report, Service, Tag


@dataclass
class _Entry:
    name: str
    indent: int
    values: dict[str, str] = field(default_factory=dict)
    sections: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    items: list[_Entry] = field(default_factory=list)


def report(text: str) -> Report:
    """The buses, as the JSON form has them. Raises ValueError for text that has none."""
    root = _Entry("", -1)
    path = [root]
    lines = text.expandtabs().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        indent = len(line) - len(line.lstrip())
        heading = line.strip().removesuffix(":")
        if heading == line.strip():  # a value, or nothing
            key, _, value = heading.partition(": ")
            here = path[-1].sections[-1][1] if path[-1].sections else path[-1].values
            here.setdefault(key, value)
        elif following.strip():
            path[-1].sections.append((heading, {}))
        else:
            while path[-1].indent >= indent:
                path.pop()
            entry = _Entry(heading, indent)
            path[-1].items.append(entry)
            path.append(entry)
    buses = [bus for entry in root.items for bus in (entry.items if entry.indent == 0 else [entry])]
    if not buses:
        raise ValueError("system_profiler printed no Thunderbolt bus")
    return Report([_item(bus) for bus in buses])


def _item(entry: _Entry) -> Item:
    ports = [(name, _tag(values)) for name, values in entry.sections if name.startswith("Port")]
    services = [
        Service(name, int(values["Protocol ID"]))
        for name, values in entry.sections
        if values.get("Protocol ID", "").isdecimal()
    ]
    return Item(
        # "Bus 2" stands for thunderboltusb4_bus_2
        name=entry.name.replace("Thunderbolt/USB4 Bus", "thunderboltusb4_bus"),
        uuid=entry.values.get("Domain UUID", ""),
        tag=next((tag for _, tag in ports if tag.receptacle), Tag()),
        upstream=next((tag for name, tag in ports if "Upstream" in name), Tag()),
        services=services,
        items=[_item(below) for below in entry.items],
    )


def _tag(values: dict[str, str]) -> Tag:
    return Tag(values.get("Speed", ""), values.get("Receptacle", ""))
