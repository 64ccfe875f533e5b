"""What an engine is told to be. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nova.config.schema import NodeConfig
from nova.coordinator.generation import EngineRecord
from nova.transport.select import Candidate
from nova.wire.values import EngineSpec


@dataclass(frozen=True)
class Shape:
    """What the engines of one generation share. `layers` counts those of the whole model; a trial has none."""

    layers: int
    size: int
    ticket: bytes


def engine_spec(config: NodeConfig, engine: EngineRecord, candidate: Candidate, shape: Shape) -> EngineSpec:
    """The coordinator's configuration counts for what concerns the whole group."""
    limits, side = config.engine, candidate.side
    options: dict[str, dict[str, Any]] = config.transport.options
    return EngineSpec(
        model=config.deployment.model if shape.layers else "",
        first_layer=engine.first_layer,
        last_layer=engine.first_layer + engine.layers,
        layers=shape.layers,
        size=shape.size,
        transport=candidate.name,
        options=options.get(candidate.name, {}),
        ticket=shape.ticket,
        start_s=limits.start_s,
        open_s=limits.open_s,
        join_s=limits.join_s,
        load_s=limits.load_s,
        transfer_s=limits.transfer_s,
        prefill_chunk=limits.prefill_chunk,
        prefill_min=limits.prefill_min,
        tbt_factor=limits.tbt_factor,
        kv_bits=limits.kv_bits,
        kv_bytes=limits.kv_bytes,
        kv_share=limits.kv_share,
        max_tensor_bytes=limits.max_tensor_bytes,
        hosts=list(candidate.hosts.get(engine.node, [])),
        side=side.name if side is not None else "",
        side_options=options.get(side.name, {}) if side is not None else {},
        side_hosts=list(side.hosts.get(engine.node, [])) if side is not None else [],
    )
