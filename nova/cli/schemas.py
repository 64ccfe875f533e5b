"""The type of every command's --json output, by the name that `nova schema` takes."""

from __future__ import annotations

from nova.cli.output import (
    Answer,
    ApiKey,
    Checked,
    Explanation,
    Keys,
    Model,
    Output,
    Problem,
    Scaffold,
    Serving,
    Status,
    Text,
    Trace,
    Transports,
)
from nova.cli.plan import Plan
from nova.cli.profile import Profile
from nova.cli.sim import Simulated

OUTPUTS: dict[str, type[Output]] = {
    "run": Text,
    "generate": Text,
    "status": Status,
    "explain": Explanation,
    "transports": Transports,
    "transports-new": Scaffold,
    "transports-check": Checked,
    "keys": Keys,
    "keys-api": ApiKey,
    "serve": Serving,
    "chat": Answer,
    "trace": Trace,
    "plan": Plan,
    "profile": Profile,
    "sim": Simulated,
    "model": Model,
    "problem": Problem,
}
