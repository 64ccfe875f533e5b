"""Transport plugins: found through entry points, loaded one at a time, never silently left out.

A name is checked against the allow list before anything of the plugin is imported. stevedore does the loading;
the listing is ours, because stevedore's own lets the last of two plugins of one name win, forgets which
distribution they came from, and may be read from a cache on disk that is older than the last installation.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec
from stevedore.named import NamedExtensionManager

from nova.errors import ConfigError, PluginRefused
from nova.transport.api import API_VERSION, Options, Transport

GROUP = "nova.transports"


def installed() -> dict[str, list[EntryPoint]]:
    """The entry points of every installed plugin, by name; more than one under a name is a duplicate."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        found.setdefault(point.name, []).append(point)
    return found


def load_transport(name: str, options: Options | None = None, allowed: Collection[str] | None = None) -> Transport:
    """The transport of that name, configured. Imports this plugin and no other.

    `allowed` None means that the name was chosen from allowed ones already, as an engine's is.
    Raises PluginRefused with the reason, or ConfigError for an option that the plugin does not take.
    """
    if allowed is not None and name not in allowed:
        raise PluginRefused(name, f"not in transport.order, which allows {', '.join(sorted(allowed)) or 'none'}")
    plugin = load_plugin(name)
    return plugin(configure(name, plugin.Config, options or {}))


def load_plugin(name: str) -> type[Transport]:
    """The plugin's class, not configured. Raises PluginRefused."""
    points = installed().get(name, [])
    if not points:
        raise PluginRefused(name, "no installed distribution provides it")
    if len(points) > 1:
        raise PluginRefused(name, f"provided more than once: {', '.join(origin(point) for point in points)}")
    return _checked(name, _imported(points[0]))


def configure(name: str, schema: type[Any], options: Options) -> Any:
    """A plugin's frozen Config from options as they stand in a file. Raises ConfigError; nothing is coerced."""
    hints = typing.get_type_hints(schema, include_extras=True)
    known = [field.name for field in dataclasses.fields(schema) if field.init]
    values: dict[str, object] = {}
    for key, value in options.items():
        if key not in known:
            raise ConfigError(f"transport.options.{name}: unknown option {key!r}, expected one of {', '.join(known)}")
        try:
            values[key] = msgspec.convert(value, hints[key])
        except msgspec.ValidationError as error:
            raise ConfigError(f"transport.options.{name}.{key}: {error}") from error
    try:
        return schema(**values)
    except (TypeError, ValueError) as error:  # a required option is missing, or __post_init__ refuses
        raise ConfigError(f"transport.options.{name}: {error}") from error


class _Manager(NamedExtensionManager):  # type: ignore[misc]  # stevedore is skipped by the type check
    """stevedore's loader over the listing that we have checked."""

    def list_entry_points(self) -> list[EntryPoint]:
        return list(entry_points(group=self.namespace))


def _imported(point: EntryPoint) -> object:
    def refuse(_: object, point: EntryPoint, error: BaseException) -> None:
        raise PluginRefused(point.name, f"import of {point.value} failed: {error!r}") from error

    try:
        manager = _Manager(GROUP, [point.name], on_load_failure_callback=refuse)
    except (AssertionError, SystemExit) as error:  # the two that stevedore lets through
        raise PluginRefused(point.name, f"import of {point.value} failed: {error!r}") from error
    return manager[point.name].plugin


def _checked(name: str, plugin: object) -> type[Transport]:
    if not (isinstance(plugin, type) and issubclass(plugin, Transport)):
        raise PluginRefused(name, f"{plugin!r} is not a subclass of nova.transport.api.Transport")
    if plugin.name != name:
        raise PluginRefused(name, f"its class calls itself {plugin.name!r}")
    major, minor = plugin.api
    if major != API_VERSION[0] or minor > API_VERSION[1]:
        ours = ".".join(map(str, API_VERSION))
        raise PluginRefused(name, f"made for transport API {major}.{minor}, this is {ours}")
    return plugin


def origin(point: EntryPoint) -> str:
    """Which class of which distribution, for people."""
    return f"{point.value} from {point.dist.name if point.dist else 'an unknown distribution'}"
