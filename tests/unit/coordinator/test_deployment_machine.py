"""What holds for a deployment whatever happens to it, in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nova.clock import FakeClock
from nova.config.schema import Engine
from nova.coordinator.deployment import Deployment, Outbox
from nova.wire import phases
from nova.wire.messages import EngineExited, EngineState, Gather, Gathered, StartEngine, StopEngine
from nova.wire.values import EngineKey
from tests.unit.coordinator.deployments import ORDER, TICKET, config, offers

ERRORS = ["", "PeerLost", "GroupBroken", "FormingFailed", "TransferTimeout", "ModelError"]
PICK = st.integers(0, 99)


class Life(RuleBasedStateMachine):
    """Plays the nodes. `alive` are the engines that were started and have neither ended nor been told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(1000.0)
        self.present: set[str] = set()
        self.started: dict[EngineKey, str] = {}
        self.ended: set[EngineKey] = set()
        self.stopped: set[EngineKey] = set()
        self.stopped_at: dict[EngineKey, float] = {}
        self.ready: set[EngineKey] = set()
        self.blobs: dict[tuple[int, int], dict[int, bytes]] = {}
        self.seen = 0
        self.trials: dict[EngineKey, str] = {}

    @initialize(size=st.integers(1, 3), known=st.booleans())
    def begin(self, size: int, known: bool) -> None:
        self.everyone = ["a", "b", "c"][:size]
        chosen = [2] * size if known else []
        self.machine = Deployment(config(self.everyone), self.everyone, chosen, lambda: TICKET)

    @property
    def nodes(self) -> list[str]:
        """Those that have the layers."""
        return self.machine.nodes

    @property
    def alive(self) -> list[EngineKey]:
        return [key for key in self.started if key not in self.ended and key not in self.stopped]

    @property
    def present_engines(self) -> list[EngineKey]:
        """Of the present generation and running, told to stop or not."""
        last = self.machine.generation
        return [key for key in self.started if key not in self.ended and key.generation == last]

    def deliver(self, out: Outbox) -> None:
        for node, message in out:
            assert node in self.present, f"{message} goes to {node}, which has left"
            if isinstance(message, StartEngine | StopEngine | Gathered) and message.engine.group == "trial":
                self.trial(node, message)
                continue
            if isinstance(message, StartEngine):
                assert message.engine not in self.started
                assert message.engine.generation == self.machine.generation
                assert node == self.nodes[message.engine.rank]
                for old in set(self.started) - self.ended:
                    if old.generation < message.engine.generation:
                        # Never two generations' weights on one machine, unless its daemon has had all its time.
                        assert self.clock() - self.stopped_at[old] >= 2 * Engine().stop_s
                self.started[message.engine] = node
            if isinstance(message, StopEngine):
                assert self.started[message.engine] == node
                assert message.reason
                self.stopped.add(message.engine)
                self.stopped_at.setdefault(message.engine, self.clock())

    def trial(self, node: str, message: StartEngine | StopEngine | Gathered) -> None:
        """Engines without a model, while a group serves; each is told to end."""
        if isinstance(message, StartEngine):
            assert self.machine.state == "serving"
            assert message.spec.model == ""
            assert message.spec.transport != self.machine.transport
            self.trials[message.engine] = node
        elif isinstance(message, StopEngine):
            assert self.trials.pop(message.engine) == node

    @precondition(lambda self: self.trials)
    @rule(pick=PICK, how=st.sampled_from(["ready", "exits", "all ready"]))
    def trial_goes_on(self, pick: int, how: str) -> None:
        key = sorted(self.trials, key=lambda each: each.rank)[pick % len(self.trials)]
        before = (self.machine.state, self.machine.generation)
        for one in [key] if how != "all ready" else list(self.trials):
            if how == "exits":
                exited = EngineExited(one, 1, False, "refused", "join", "FormingFailed")
                node = self.trials.pop(one)
                self.deliver(self.machine.engine_exited(node, exited, self.clock()))
            elif one in self.trials:
                out = self.machine.engine_state(self.trials[one], EngineState(one, phases.READY), self.clock())
                self.deliver(out)
        assert (self.machine.state, self.machine.generation) == before, "a trial disturbs nobody"

    @precondition(lambda self: self.machine.state == "forming" and len(self.nodes) > 1)
    @rule()
    def the_link_does_not_form_and_the_next_one_serves(self) -> None:
        for key in self.present_engines:
            self.ended.add(key)
            exited = EngineExited(key, 1, False, "refused", "join", "FormingFailed")
            self.deliver(self.machine.engine_exited(self.started[key], exited, self.clock()))
        self.time_passes(0.0)
        if self.machine.state == "forming":
            self.all_become_ready()

    @rule()
    def no_request_is_worked_on(self) -> None:
        self.deliver(self.machine.idle(self.clock()))

    @precondition(lambda self: self.present)
    @rule(pick=PICK, transports=st.sets(st.sampled_from(ORDER)))
    def offers_change(self, pick: int, transports: set[str]) -> None:
        node = sorted(self.present)[pick % len(self.present)]
        self.deliver(self.machine.node_offers(node, offers(*transports), self.clock()))

    # --- what happens -----------------------------------------------------------------------------------------------

    @rule()
    def model_is_known(self) -> None:
        self.machine.split = self.machine.split or [2] * len(self.nodes)

    @rule(order=st.permutations(["a", "b", "c"]), size=st.integers(1, 3))
    def the_layers_move(self, order: list[str], size: int) -> None:
        nodes = [node for node in order if node in self.everyone][:size]
        self.time_passes(0.0)  # or what is due would come with it
        before, failing = (self.machine.state, self.machine.generation, self.nodes), self.machine.failing
        self.deliver(self.machine.place(nodes, [3] * len(nodes), self.clock(), "a better plan"))
        if before[0] in ("forming", "serving"):
            assert (self.machine.state, self.machine.generation, self.nodes) == before, "not while requests may run"
            assert self.machine.failing, "no request begins on the old ones"
        else:
            assert self.nodes == nodes
        if self.machine.state == "serving" and not failing:
            self.deliver(self.machine.idle(self.clock()))
            assert self.nodes == nodes

    @rule(pick=PICK, transports=st.sets(st.sampled_from(ORDER)))
    def join(self, pick: int, transports: set[str]) -> None:
        node = [*self.everyone, "stranger"][pick % (len(self.everyone) + 1)]
        if node not in self.present:
            self.present.add(node)
            self.deliver(self.machine.node_joined(node, offers(*transports), self.clock()))

    @rule(seconds=st.sampled_from([0.0, 61.0]))
    def all_join(self, seconds: float) -> None:
        self.model_is_known()
        self.clock.advance(seconds)
        for node in self.everyone:
            if node not in self.present:
                self.present.add(node)
                self.deliver(self.machine.node_joined(node, offers(*ORDER), self.clock()))

    @precondition(lambda self: self.present)
    @rule(pick=PICK)
    def leave(self, pick: int) -> None:
        node = sorted(self.present)[pick % len(self.present)]
        self.present.remove(node)
        self.ended |= {key for key, where in self.started.items() if where == node}
        self.trials = {key: where for key, where in self.trials.items() if where != node}
        self.deliver(self.machine.node_left(node, "silent", self.clock()))

    @precondition(lambda self: self.present_engines)
    @rule(pick=PICK, phase=st.sampled_from(phases.ORDER))
    def progress(self, pick: int, phase: str) -> None:
        key = self.present_engines[pick % len(self.present_engines)]
        (self.ready.add if phase == phases.READY else self.ready.discard)(key)
        self.tell(key, phase)

    def tell(self, key: EngineKey, phase: str) -> None:
        before = self.machine.state
        self.deliver(self.machine.engine_state(self.started[key], EngineState(key, phase), self.clock()))
        if before != "serving" and self.machine.state == "serving":
            assert {key.rank for key in self.ready & set(self.alive)} == set(range(len(self.nodes)))

    @rule()
    def all_become_ready(self) -> None:
        for key in self.present_engines:
            self.ready.add(key)
            self.tell(key, phases.READY)

    @precondition(lambda self: set(self.started) - self.ended)
    @rule(pick=PICK, error=st.sampled_from(ERRORS), asked=st.booleans())
    def exits(self, pick: int, error: str, asked: bool) -> None:
        running = [key for key in self.started if key not in self.ended]
        key = running[pick % len(running)]
        self.ended.add(key)
        exited = EngineExited(key, 1, asked, "it died", "ready", error)
        self.deliver(self.machine.engine_exited(self.started[key], exited, self.clock()))

    @precondition(lambda self: self.present_engines)
    @rule(pick=PICK, round_=st.integers(1, 2))
    def gather(self, pick: int, round_: int) -> None:
        key = self.present_engines[pick % len(self.present_engines)]
        blob = f"{key.rank}/{round_}".encode()
        out = self.machine.gathered(self.started[key], Gather(key, round_, blob), self.clock())
        self.deliver(out)
        if self.machine.state not in ("forming", "serving"):
            assert out == []
            return
        self.blobs.get((key.generation, 3 - round_), {}).pop(key.rank, None)  # a rank waits in one round at a time
        blobs = self.blobs.setdefault((key.generation, round_), {})
        blobs[key.rank] = blob
        if len(blobs) < len(self.nodes):
            assert out == []
            return
        del self.blobs[key.generation, round_]
        in_order = [blobs[rank] for rank in range(len(self.nodes))]
        keys = [EngineKey("main", key.generation, rank) for rank in range(len(self.nodes))]
        assert out == [(self.nodes[to.rank], Gathered(to, round_, in_order)) for to in keys]

    @rule(older=st.integers(-1, 2), rank=st.integers(-1, 2), node=st.sampled_from("abc"), group=st.sampled_from("mx"))
    def stranger_speaks(self, older: int, rank: int, node: str, group: str) -> None:
        key = EngineKey("main" if group == "m" else "other", self.machine.generation - older, rank)
        if not older and self.started.get(key) == node:
            return
        before, now = repr(self.machine), self.clock()
        assert self.machine.engine_state(node, EngineState(key, "ready"), now) == []
        assert self.machine.gathered(node, Gather(key, 1, b"foreign"), now) == []
        assert self.machine.engine_exited(node, EngineExited(key, 1, False, "foreign", "ready"), now) == []
        assert repr(self.machine) == before

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 3.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.deliver(self.machine.tick(self.clock()))

    # --- what always holds ------------------------------------------------------------------------------------------

    @invariant()
    def the_generation_only_rises(self) -> None:
        assert self.machine.generation >= self.seen
        self.seen = self.machine.generation

    @invariant()
    def only_the_present_generation_runs(self) -> None:
        assert {key.generation for key in self.alive} <= {self.machine.generation}
        if self.machine.state not in ("forming", "serving"):
            assert self.alive == []

    @invariant()
    def it_runs_only_while_every_node_is_here(self) -> None:
        if self.machine.state in ("forming", "serving"):
            assert self.present >= set(self.nodes)
            assert self.machine.driver.key == EngineKey("main", self.machine.generation, len(self.nodes) - 1)

    @invariant()
    def a_failure_has_a_reason_that_names_a_node(self) -> None:
        if self.machine.state == "failed":
            assert any(f"{node} " in self.machine.why_not for node in self.everyone), self.machine.why_not
        assert self.machine.why_not

    def teardown(self) -> None:
        """In peace it serves again."""
        if not hasattr(self, "machine"):
            return
        self.model_is_known()
        for node in sorted(self.present):
            self.present.remove(node)
            self.ended |= {key for key, where in self.started.items() if where == node}
            self.trials = {key: where for key, where in self.trials.items() if where != node}
            self.deliver(self.machine.node_left(node, "restarts", self.clock()))
        self.all_join(0.0)
        self.time_passes(61.0)
        assert self.machine.state == "forming"
        self.all_become_ready()
        assert self.machine.state == "serving"


Life.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
