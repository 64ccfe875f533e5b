"""What must hold between values, beyond each value's own type. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence

from nova.config.schema import NAME_PATTERN, Api, Deployment, NodeConfig, Plan

# What libzmq dials; besides, Python refuses to look up a name with an empty or overlong label.
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)

_KEY = re.compile("sha256:[0-9a-f]{64}")
_ORIGIN = re.compile(r"https?://[^\s/]+")

TRUSTED_WORDS = ("loopback", "thunderbolt")

Problem = tuple[str, str]
"""A dotted key and what is wrong there."""


def problems(config: NodeConfig) -> Iterator[Problem]:
    """Everything that is wrong, the most basic first; empty for a usable configuration."""
    if config.name and not re.match(NAME_PATTERN, config.name):
        yield "name", f"expected letters, digits, '.', '_' and '-' (at most 63), got {config.name!r}"
    yield from _control(config)
    yield from _transport(config)
    yield from deployment_problems(config.deployment)
    yield from _plan(config.plan, config.deployment)
    yield from _api(config.api)


def deployment_problems(deployment: Deployment) -> Iterator[Problem]:
    """Whether model, nodes and split fit each other."""
    nodes, split = deployment.nodes, deployment.split
    twice = _first_duplicate(nodes)
    if twice is not None:
        yield "deployment.nodes", f"{twice!r} stands there twice; a node holds one stage"
    if deployment.model and not nodes:
        yield "deployment.nodes", f"is empty: name the nodes that shall hold {deployment.model!r}, in pipeline order"
    if nodes and not deployment.model:
        yield "deployment.model", f"is empty, but deployment.nodes names {len(nodes)}: say which model they shall hold"
    if split and len(split) != len(nodes):
        yield "deployment.split", f"has {len(split)} numbers for {len(nodes)} nodes; give one number of layers per node"
    for index, layers in enumerate(split):
        if layers < 1:
            yield f"deployment.split[{index}]", f"expected at least 1 layer, got {layers}"


def _plan(plan: Plan, deployment: Deployment) -> Iterator[Problem]:
    """Whether it is about the nodes that there are, and leaves something to plan. A worker plans nothing."""
    if not deployment.nodes:
        return
    named, known = {"pin": plan.pin, "exclude": plan.exclude}, ", ".join(deployment.nodes)
    for key, nodes in named.items():
        for index, node in enumerate(nodes):
            if node not in deployment.nodes:
                yield f"plan.{key}[{index}]", f"{node!r} is not in deployment.nodes, which is {known}"
    both = next((node for node in plan.pin if node in plan.exclude), None)
    if both is not None:
        yield "plan.exclude", f"{both!r} is in plan.pin as well"
    if set(deployment.nodes) <= set(plan.exclude):
        yield "plan.exclude", "leaves no node of deployment.nodes"
    if deployment.split and plan.strategy != "manual":
        yield "deployment.split", f'is for plan.strategy = "manual"; {plan.strategy!r} finds its own: leave it out'


def _control(config: NodeConfig) -> Iterator[Problem]:
    control, deployment = config.control, config.deployment
    yield from _address("control.address", control.address)
    if control.dead_after_s <= control.heartbeat_s:
        known = f"control.heartbeat_s ({control.heartbeat_s} s)"
        yield "control.dead_after_s", f"{control.dead_after_s} s must be longer than {known}"
    pauses = {
        "control.reconnect": (control.reconnect_s, control.reconnect_max_s),
        "deployment.retry": (deployment.retry_s, deployment.retry_max_s),
    }
    for name, (first, longest) in pauses.items():
        if longest < first:
            yield f"{name}_max_s", f"{longest} s must not be shorter than {name}_s ({first} s)"


def _api(api: Api) -> Iterator[Problem]:
    for index, key in enumerate(api.keys):
        if not _KEY.fullmatch(key):  # not shown: it may be a key itself
            yield f"api.keys[{index}]", "expected sha256: and 64 hex digits, as `nova keys api` prints it"
    if bool(api.tls_certificate) != bool(api.tls_key):
        yield "api.tls_key", "belongs to api.tls_certificate: give both files, or neither"
    for index, origin in enumerate(api.cors):
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            yield f"api.cors[{index}]", f"expected an origin as https://chat.example, or *, got {origin!r}"
    if not api.listen:
        return
    wrong = list(_address("api.listen", api.listen))
    yield from wrong
    if not wrong and not api.keys and not api.open and not _is_loopback(api.listen.rpartition(":")[0]):
        why = "can be reached by others: give api.keys (`nova keys api` makes one), or set api.open = true"
        yield "api.listen", f"{api.listen} {why}"


def _address(key: str, address: str) -> Iterator[Problem]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        yield key, f"expected host:port with a port up to 65535, got {address!r}"
    elif not _is_host(host):
        yield key, f"expected a host name or numeric address before the port, got {host!r}"


def _transport(config: NodeConfig) -> Iterator[Problem]:
    transport = config.transport
    if not transport.allowed:
        yield "transport.order", "allows nothing: name at least one transport that transport.deny does not"
    for key in ("order", "allow", "deny", "side", "hosts"):
        twice = _first_duplicate(getattr(transport, key))
        if twice is not None:
            yield f"transport.{key}", f"{twice!r} stands there twice"
    for index, network in enumerate(transport.trusted):
        if network not in TRUSTED_WORDS and not _is_network(network):
            known = ", ".join(TRUSTED_WORDS)
            yield f"transport.trusted[{index}]", f"expected {known} or a network as 192.168.2.0/24, got {network!r}"
    for index, host in enumerate(transport.hosts):
        if not _is_host(host.partition("%")[0]):
            yield f"transport.hosts[{index}]", f"expected an address or a name such as 192.168.2.1, got {host!r}"
        elif _is_nobody(host):
            yield f"transport.hosts[{index}]", f"{host} is not an address that other engines can dial"
    if transport.hold_max_s < transport.hold_s:
        yield "transport.hold_max_s", f"{transport.hold_max_s} s must not be shorter than hold_s ({transport.hold_s} s)"


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _is_nobody(host: str) -> bool:
    """Whether this is a numeric address at which no peer can be."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_unspecified or address.is_multicast


def _is_loopback(host: str) -> bool:
    """A name other than localhost counts as reachable: nothing is looked up here."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_host(text: str) -> bool:
    """Whether this is a name or a numeric address, IPv6 with or without brackets. Nothing is looked up."""
    if ":" not in text:
        return _HOST.fullmatch(text) is not None
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _first_duplicate(names: Sequence[str]) -> str | None:
    return next((name for index, name in enumerate(names) if name in names[:index]), None)
