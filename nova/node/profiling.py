"""What this node can do with a model: measured in a process that is thrown away, and kept on disk.

The process runs as this node's engines do: with their BLAS, threads and CPUs. The daemon imports no MLX for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import sys
from importlib.metadata import version
from pathlib import Path

import msgspec
import structlog

from nova import paths
from nova.config.schema import Engine, NodeConfig
from nova.errors import ConfigError, EngineError, ModelError
from nova.model.files import read_headers, read_json
from nova.model.locate import hub_snapshot, locate
from nova.node import blas
from nova.node.facts import default_name, gather
from nova.node.memory import free_bytes
from nova.node.probechild import ProbeChild
from nova.node.process import signal_name
from nova.plan.fit import emulated
from nova.plan.profiles import find_profile, is_emulated
from nova.throwaway import MAX_REASON_CHARS
from nova.wire.plans import NodeProfile
from nova.wire.profiling import MAX_ANSWER_BYTES, ProfileAnswer, ProfileRequest

log = structlog.get_logger(__name__)

METHOD = 1
"""Rises when figures are measured or fitted in another way: those on disk are then measured anew."""
BUDGET_S = 10.0
LIMIT_S = 90.0
"""Bringing the layers from a slow disk, and one round of steps on a slow machine, are not cut short by the budget."""


async def profile(model: str, config: NodeConfig, home: Path, fresh: bool = False) -> NodeProfile:
    """This node's profile for `model` (a folder, a name, a hub id that is in the cache, or emulated:NAME).

    It comes from `home/profiles` unless there is none for this model and machine, or `fresh` is asked for; what memory
    is free is looked at each time. Measuring takes some BUDGET_S, LIMIT_S at most. Two at once on one machine would
    measure each other. Raises ModelError, ConfigError, EngineError.
    """
    name = config.name or default_name()
    if is_emulated(model):
        return emulated(name, find_profile(model), free_bytes())
    folder, path = await asyncio.to_thread(_places, model, config.engine, home)
    found = None if fresh else await asyncio.to_thread(_read, path)
    if found is None:
        found = await _measured(name, folder, config.engine)
        await asyncio.to_thread(_write, path, found)
    return msgspec.structs.replace(found, name=name, memory_bytes=min(found.memory_bytes, free_bytes()))


def _places(model: str, engine: Engine, home: Path) -> tuple[Path, Path]:
    """The model's folder, and the file of its profile. Nothing is downloaded. Raises ModelError, ConfigError."""
    folder = locate(model, home, lambda hub_id, _: hub_snapshot(hub_id, True))
    return folder, home / "profiles" / f"{_key(folder, engine)}.json"


def _key(folder: Path, engine: Engine) -> str:
    """A digest of all that the figures depend on."""
    shapes = sorted((name, each.dtype, each.shape) for name, each in read_headers(folder).items())
    facts = gather()
    machine = (facts.cpu, facts.cores, facts.memory_bytes, facts.system, facts.mlx, version("mlx-lm"))
    settings = (blas.choose(engine.cpu_blas).library, engine.threads, engine.cpus, engine.kv_bits)
    told = msgspec.json.encode((METHOD, read_json(folder / "config.json"), shapes, machine, settings))
    return hashlib.sha256(told).hexdigest()[:32]


async def _measured(name: str, folder: Path, engine: Engine) -> NodeProfile:
    """By a process of its own, which ends whatever happens. Raises ModelError, EngineError, ConfigError."""
    request = ProfileRequest(name, str(folder), engine.kv_bits, engine.cpus, BUDGET_S, LIMIT_S)
    env = blas.engine_environment(blas.choose(engine.cpu_blas), engine.threads or len(engine.cpus), dict(os.environ))
    loop = asyncio.get_running_loop()
    try:
        _, child = await loop.subprocess_exec(
            ProbeChild, sys.executable, "-m", "nova.engine.profile", env=env, start_new_session=True
        )
    except OSError as error:
        raise EngineError(f"{request.name}: the process that measures could not be started: {error}") from error
    try:
        async with asyncio.timeout(request.limit_s):
            await child.ask(msgspec.json.encode(request) + b"\n")
        return _judged(request, child)
    except TimeoutError:
        raise _failed(request, f"it took more than {request.limit_s:g} s{child.last_line()}") from None
    finally:
        await child.end()


def _judged(request: ProfileRequest, child: ProbeChild) -> NodeProfile:
    """The profile, or why there is none. Raises ModelError, EngineError."""
    if not child.answered or len(child.answer) > MAX_ANSWER_BYTES:
        status = child.status
        if status is None:
            raise _failed(request, f"its process wrote too much and was cut off{child.last_line()}")
        how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
        raise _failed(request, f"its process {how}{child.last_line()}")
    try:
        answer = msgspec.json.decode(child.answer, type=ProfileAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _failed(request, f"its process's answer is malformed: {error}") from error
    if answer.wrong_model:
        raise ModelError(answer.wrong_model)
    if answer.profile is None:
        raise _failed(request, answer.raised[:MAX_REASON_CHARS] or "its process's answer is empty")
    return answer.profile


def _failed(request: ProfileRequest, why: str) -> EngineError:
    return EngineError(f"{request.name}: measuring {request.folder} failed: {why}")


def _read(path: Path) -> NodeProfile | None:
    """A profile that was kept; None where there is none, or one that cannot be read."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_ANSWER_BYTES), type=NodeProfile)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.warning("a kept profile is of no use", file=str(path), reason=str(error))
        return None


def _write(path: Path, found: NodeProfile) -> None:
    """Put the whole file in place, for this user alone. Raises ConfigError."""
    folder = paths.ensure(path.parent)
    draft = folder / f".{path.name}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(found))
        os.replace(draft, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}; set NOVA_HOME or `home`") from error
    finally:
        draft.unlink(missing_ok=True)
