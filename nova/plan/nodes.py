"""A nodes file: machines and links in TOML, for planning without them. `conf/nodes-example.toml` shows all of it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from nova.config.schema import Name
from nova.errors import ConfigError, PlanError
from nova.plan.chips import EFFICIENCY, FIXED_S, GIB, PIECES, WIDTHS, find, profile_of, usable_bytes, widened
from nova.plan.inputs import ModelFigures
from nova.wire.plans import LinkProfile, NodeProfile, Points

MAX_BYTES = 1 << 20
MAX_NODES = 10_000

Positive = Annotated[float, Meta(gt=0, le=1e9)]
Kind = Literal["thunderbolt4", "thunderbolt5", "ethernet10", "ethernet1", "wifi"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Cable:
    """Seconds one way, bytes per second, and where they are from."""

    latency_s: float
    bandwidth: float
    source: str


KINDS: dict[str, _Cable] = {
    "thunderbolt4": _Cable(
        0.0015, 4e9, "NovaMLX status report, 2026-05-16: 3 ms for 16 KB there and back by TCP, 3 to 5 GB/s"
    ),
    "thunderbolt5": _Cable(25.5e-6, 8.05e9, "RDMA: 25.5 us for 4 KB and 8.05 GB/s between M4 Pros (mlx-jaccl-cluster)"),
    "ethernet10": _Cable(0.0003, 1.17e9, "94 % of 10 Gb/s; 300 us as TCP over Thunderbolt (Geerling), assumed alike"),
    "ethernet1": _Cable(0.0003, 0.117e9, "94 % of 1 Gb/s (940 Mb/s is usual); 300 us assumed as for ethernet10"),
    "wifi": _Cable(0.003, 0.05e9, "3 ms and 400 Mb/s, assumed: measure it before you rely on it"),
}
"""What a link has where the file does not say. Latencies are one way, for the message of one decode step."""


class _Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    memory_gb: Positive
    chip: Annotated[str, Meta(min_length=1, max_length=80)] | None = None
    layer_ms: Positive | None = None
    head_ms: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    fixed_ms: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    usable_gb: Positive | None = None
    bandwidth_gb_s: Positive | None = None
    efficiency: Annotated[float, Meta(gt=0, le=1)] | None = None


class _Cabling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: Kind | None = None
    latency_ms: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    bandwidth_gb_s: Positive | None = None


class _Link(_Cabling, frozen=True, forbid_unknown_fields=True, kw_only=True):
    between: tuple[Name, Name]


def read_nodes(path: Path, model: ModelFigures) -> tuple[list[NodeProfile], list[LinkProfile]]:
    """The nodes of a file as they would run `model`, and the links in both directions.

    Raises ConfigError that names the file, the entry and what was expected.
    """
    tree = _tree(path)
    entries = _entries(path, tree, "node", _Node)
    if not entries:
        raise ConfigError(f"{path}: has no [[node]]: give each machine a name, a chip and memory_gb")
    profiles: dict[str, NodeProfile] = {}
    for where, node in entries:
        if node.name in profiles:
            raise ConfigError(f"{where}: there is a node {node.name!r} already: names are unique")
        profiles[node.name] = _profile(where, node, model)
    links = dict(_default_links(path, tree, list(profiles)))
    stated: set[frozenset[str]] = set()
    for where, link in _entries(path, tree, "link", _Link):
        pair = frozenset(link.between)
        if unknown := pair - profiles.keys():
            raise ConfigError(f"{where}: no [[node]] is called {', '.join(sorted(unknown))}")
        if len(pair) == 1 or pair in stated:
            raise ConfigError(
                f"{where}: expected two nodes that no other [[link]] joins, not {' and '.join(link.between)}"
            )
        stated.add(pair)
        links[pair] = _cable(where, link)
    return list(profiles.values()), [
        LinkProfile(sender, receiver, cable.latency_s, cable.bandwidth, source=cable.source)
        for pair, cable in links.items()
        for sender, receiver in (sorted(pair), sorted(pair, reverse=True))
    ]


def _tree(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes")
    try:
        tree = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error
    if unknown := tree.keys() - {"node", "link", "default_link"}:
        raise ConfigError(f"{path}: {min(unknown)} is not known: expected [[node]], [[link]] or [default_link]")
    return tree


def _entries(path: Path, tree: Mapping[str, Any], key: str, kind: type[_T]) -> list[tuple[str, _T]]:
    """Each table of an array with where it is, as "nodes.toml: node 2"."""
    tables = tree.get(key, [])
    if not isinstance(tables, list) or len(tables) > MAX_NODES:
        raise ConfigError(f"{path}: {key}: expected at most {MAX_NODES} tables, each as [[{key}]]")
    return [_typed(f"{path}: {key} {number}", table, kind) for number, table in enumerate(tables, start=1)]


def _typed(where: str, table: Any, kind: type[_T]) -> tuple[str, _T]:
    try:
        return where, msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {str(error).replace('`$.', '`')}") from error


def _profile(where: str, node: _Node, model: ModelFigures) -> NodeProfile:
    if (node.chip is None) == (node.layer_ms is None):
        raise ConfigError(f"{where} ({node.name}): expected either chip or layer_ms, to know what a layer takes")
    memory = round(node.memory_gb * GIB)
    usable = usable_bytes(memory) if node.usable_gb is None else round(node.usable_gb * GIB)
    fixed_s = FIXED_S if node.fixed_ms is None else node.fixed_ms / 1e3
    if node.chip is None:
        return NodeProfile(
            node.name,
            usable,
            fixed_s,
            *_measured(node, model),
            source=where,
            bandwidth=(node.bandwidth_gb_s or 0) * 1e9,
        )
    if node.head_ms is not None or node.bandwidth_gb_s is not None:
        raise ConfigError(f"{where} ({node.name}): head_ms and bandwidth_gb_s go with layer_ms; a chip has its own")
    try:
        efficiency = node.efficiency or EFFICIENCY
        profile = profile_of(node.name, find(node.chip), memory, model, efficiency, fixed_s)
    except PlanError as error:
        raise ConfigError(f"{where}: {error}") from error
    return profile if node.usable_gb is None else msgspec.structs.replace(profile, memory_bytes=usable)


def _measured(node: _Node, model: ModelFigures) -> tuple[Points, Points]:
    """Curves from times of one position: wider chunks cost what they do as `emulated:m4dense`, long ones in
    proportion. A head without a time takes what its bytes take at the layers' pace."""
    layer_s = (node.layer_ms or 0) / 1e3
    if node.head_ms is None:
        read = sum(layer.read_bytes for layer in model.layers) / len(model.layers)
        head_bytes = model.head_bytes + (model.embedding_bytes if model.tied else 0)
        head_s = layer_s * head_bytes / read if read else 0.0
    else:
        head_s = node.head_ms / 1e3
    positions = (*WIDTHS, *PIECES)
    return widened(layer_s, "m4dense", positions), widened(head_s, "m4dense", positions)


def _default_links(path: Path, tree: Mapping[str, Any], names: list[str]) -> Iterator[tuple[frozenset[str], _Cable]]:
    if "default_link" in tree:
        cable = _cable(*_typed(f"{path}: default_link", tree["default_link"], _Cabling))
        yield from ((frozenset(pair), cable) for pair in combinations(names, 2))


def _cable(where: str, link: _Cabling) -> _Cable:
    known = None if link.kind is None else KINDS[link.kind]
    latency_s = known.latency_s if known and link.latency_ms is None else (link.latency_ms or 0) / 1e3
    bandwidth = known.bandwidth if known and link.bandwidth_gb_s is None else (link.bandwidth_gb_s or 0) * 1e9
    if known is None and (link.latency_ms is None or link.bandwidth_gb_s is None):
        raise ConfigError(f"{where}: expected kind ({', '.join(KINDS)}), or latency_ms and bandwidth_gb_s")
    stated = link.latency_ms is not None or link.bandwidth_gb_s is not None
    return _Cable(latency_s, bandwidth, where if known is None or stated else known.source)
