"""How a deployment stands, for whoever asks. Nothing here changes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nova.config.schema import NodeConfig
from nova.coordinator.changeover import Changeover
from nova.coordinator.choice import Choice
from nova.coordinator.diagnosis import Diagnosis
from nova.coordinator.generation import EngineRecord, Generation
from nova.coordinator.pause import Pause
from nova.coordinator.placement import Placement
from nova.wire.values import AttemptReport


@dataclass
class Standing:
    """`nodes` hold the model, in pipeline order, and `split` says how many layers each; empty until they are placed,
    before which nothing is formed and `nodes` are all that may be chosen. `ticket` makes the secret of a generation.
    """

    config: NodeConfig
    nodes: list[str]
    split: list[int]
    ticket: Callable[[], bytes]
    state: str = "waiting"
    before: str = "the model is being opened"
    """What is done before the layers are placed, for people."""
    falls_back: bool = False
    """Failed, and the next transport is tried as soon as the old engines are gone."""
    reasons: list[str] = field(default_factory=list)
    choice: Choice = field(init=False)
    change: Changeover = field(init=False)
    current: Generation | None = None
    generation: int = 0
    _candidates: frozenset[str] = field(init=False)
    _moves: Placement | None = None
    """Where the layers go once the present group has ended."""
    _past: list[Generation] = field(default_factory=list)
    _pause: Pause = field(init=False)
    _given_up_at: float = 0.0
    _diagnosis: Diagnosis | None = None

    def may_try(self, now: float) -> bool:
        """All nodes are here, none of them has a group, and the pause since the last failure is over."""
        return self.state in ("waiting", "failed") and not self.missing and now >= self._pause.until

    @property
    def missing(self) -> list[str]:
        return self.choice.missing

    @property
    def engines(self) -> dict[int, EngineRecord]:
        """Those of the present generation, by rank."""
        return self.current.engines if self.current is not None else {}

    @property
    def transport(self) -> str:
        return self.current.transport if self.current is not None else ""

    @property
    def over(self) -> str:
        return self.current.over if self.current is not None else ""

    @property
    def why_not(self) -> str:
        """Why it does not serve at this moment, for people."""
        if self.state == "failed":
            return self.reasons[-1]
        if self.missing:
            return f"waiting for {', '.join(self.missing)} to join"
        if self.state == "forming" and self.current is not None:
            return self.current.progress
        return f"the deployment is {self.state}" if self.split else self.before

    @property
    def driver(self) -> EngineRecord:
        """The engine that samples. Only while serving."""
        return self.engines[len(self.nodes) - 1]

    @property
    def failing(self) -> bool:
        """Something died and its cause is not yet known, or the group ends with its last request: nothing begins."""
        return self._diagnosis is not None or self._moves is not None or bool(self.change.better)

    def attempts(self, now: float) -> list[AttemptReport]:
        """The generations of late, oldest first."""
        kept = [*self._past, *self.change.trials, *([self.current] if self.current is not None else [])]
        kept.sort(key=lambda each: each.started)
        return [each.report(now, self.change.recent if each is self.current else {}) for each in kept]

    @property
    def _running(self) -> bool:
        return self.state in ("forming", "serving")

    @property
    def _all_ended(self) -> bool:
        return all(engine.ended for engine in self.engines.values())
