"""Every error that Nova raises on purpose.

    NovaError
    |-- ConfigError              a file, key, value or flag is wrong
    |-- ProtocolError            a frame or message that does not follow `nova.wire`
    |-- ModelError               a model that cannot be found, read or split
    |-- PlanError                a split that does not fit the model or the nodes
    |-- ControlError             the control plane
    |   |-- KeyFileError         a key is missing, malformed or readable by others
    |   |-- PeerRefused          the other side does not want this session
    |   |-- NodeLost             a node stopped answering
    |   `-- RequestTimeout       no answer before the deadline
    |-- EngineError              an engine process failed or died
    |-- GenerationError          a request ended without its text
    `-- TransportError           the data plane
        |-- TransportUnavailable this machine cannot offer the transport
        |-- PluginRefused        a plugin that Nova will not load
        |-- NoTransport          no candidate is left; carries every reason
        |-- FormingFailed        a group did not come up
        |-- PeerLost             the process on the other side is gone
        |-- TransferTimeout      a deadline passed inside a transfer
        |-- LengthMismatch       the peer sent another length than was awaited
        |-- TransportFault       the transport did what its contract forbids
        |-- GroupClosed          we closed the group ourselves
        `-- GroupBroken          the link failed earlier; a group never heals

A message says what happened, to which node, and what to do next. Errors of other libraries are translated in
one function per place, with `raise ... from`.
"""

from __future__ import annotations


class NovaError(Exception):
    """Root of the tree. `str(error)` is one line that a user can act on."""


class ConfigError(NovaError):
    """A configuration file, key, value or flag is wrong; the message names file, key and what was expected."""


class ProtocolError(NovaError):
    """A frame that does not decode, is too large, or breaks the order of a session."""


class ModelError(NovaError):
    """A model that cannot be found, read, imported or split."""


class PlanError(NovaError):
    """A split that does not cover the model's layers once each, or does not fit the nodes."""


class ControlError(NovaError):
    """Something in the control plane."""


class KeyFileError(ControlError):
    """A key file is missing, malformed, or can be read by other users."""


class PeerRefused(ControlError):
    """The other side answered, and does not want this session."""


class NodeLost(ControlError):
    """A node stopped answering; the message names it and says for how long."""


class RequestTimeout(ControlError):
    """No answer came before the request's deadline."""


class EngineError(NovaError):
    """An engine process failed to start, failed, or died."""


class GenerationError(NovaError):
    """A request ended without its text; the message names what died."""


class TransportError(NovaError):
    """Something in the data plane."""


class TransportUnavailable(TransportError):
    """This machine cannot offer the transport; the message is the reason."""


class PluginRefused(TransportError):
    """Nova will not load this plugin: a duplicate name, another API version, or a failed import."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"transport plugin {name!r} refused: {why}")
        self.name = name
        self.why = why


class NoTransport(TransportError):
    """No candidate is left. `rejections` maps each transport to its reason."""

    def __init__(self, rejections: dict[str, str]) -> None:
        reasons = "; ".join(f"{name}: {why}" for name, why in sorted(rejections.items()))
        super().__init__(f"no transport can connect these nodes: {reasons or 'no transport plugin is installed'}")
        self.rejections = rejections


class FormingFailed(TransportError):
    """A group did not come up: which phase, over which transport, at which rank, and why."""

    def __init__(self, phase: str, transport: str, rank: int, cause: str) -> None:
        super().__init__(f"forming over {transport} failed in phase {phase} at rank {rank}: {cause}")
        self.phase = phase
        self.transport = transport
        self.rank = rank
        self.cause = cause


class PeerLost(TransportError):
    """The process at `rank` is gone."""

    def __init__(self, rank: int, why: str) -> None:
        super().__init__(f"rank {rank} is gone: {why}")
        self.rank = rank


class TransferTimeout(TransportError):
    """The deadline passed inside a transfer. Where bytes had already moved, the group is broken."""


class LengthMismatch(TransportError):
    """The peer sent another length than was awaited; the group is broken."""


class TransportFault(TransportError):
    """A transport lost or repeated a chunk, gave another array than was announced, or raised what is none of its
    errors: another one is to be tried."""


class GroupClosed(TransportError):
    """We closed or aborted the group ourselves."""


class GroupBroken(TransportError):
    """An earlier error broke the group. It stays broken: form a new generation."""
