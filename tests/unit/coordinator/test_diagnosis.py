"""The root cause of a failure, whatever the order in which its symptoms arrive."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova import errors
from nova.coordinator.diagnosis import Diagnosis, Symptom, Weight, engine_exited, node_lost
from nova.wire.messages import EngineExited
from nova.wire.values import EngineKey

SYMPTOMS = st.builds(Symptom, st.sampled_from(Weight), st.text(min_size=1, max_size=3))
GRACE_S = 2.0


def exited(error: str, phase: str = "join", asked: bool = False) -> EngineExited:
    return EngineExited(EngineKey("main", 3, 1), 42, asked, "rank 0 is gone", phase, error)


@pytest.mark.parametrize(
    ("error", "weight"),
    [
        ("ModelError", Weight.ENGINE),
        ("MemoryError", Weight.ENGINE),
        ("FormingFailed", Weight.LINK),
        ("TransportUnavailable", Weight.LINK),
        ("TransferTimeout", Weight.LINK),
        ("PluginRefused", Weight.LINK),
        ("PeerLost", Weight.PEER),
        ("GroupBroken", Weight.PEER),
        ("GroupClosed", Weight.PEER),
    ],
)
def test_an_exit_weighs_by_the_error_that_the_engine_reported(error: str, weight: Weight) -> None:
    assert engine_exited("b", exited(error), "ab").weight is weight


@pytest.mark.parametrize("phase", ["open", "join", "verify"])
def test_an_engine_that_hangs_or_crashes_in_a_phase_of_the_link_speaks_against_the_link(phase: str) -> None:
    assert engine_exited("b", exited("", phase), "ab").weight is Weight.LINK


@pytest.mark.parametrize("phase", ["boot", "load", "ready"])
def test_an_engine_that_dies_elsewhere_is_a_cause_of_its_own(phase: str) -> None:
    assert engine_exited("b", exited("", phase), "ab").weight is Weight.ENGINE


def test_an_engine_that_its_daemon_stopped_waits_for_the_reason_of_the_daemon() -> None:
    assert engine_exited("b", exited("", "ready", asked=True), "ab").weight is Weight.PEER


@pytest.mark.parametrize("error", ["FormingFailed", "TransportUnavailable", "TransferTimeout", "PluginRefused",
                                   "PeerLost", "GroupBroken", "GroupClosed"])  # fmt: skip
def test_the_errors_that_it_knows_are_in_the_tree(error: str) -> None:
    assert issubclass(getattr(errors, error), errors.TransportError)


def test_symptoms_name_the_node_and_everything_known_of_the_engine() -> None:
    assert node_lost("b", "silent for 2.0 s").text == "node b is lost: silent for 2.0 s"
    text = engine_exited("b", exited("PeerLost"), "ab").text
    assert text.startswith("engine of rank 1 on node b (pid 42, phase join): rank 0 is gone (rank 0 is a, rank 1 is b)")
    assert "transport.hosts" in text


def test_who_did_not_come_to_the_meeting_is_named() -> None:
    text = engine_exited("b", exited("FormingFailed", "meet"), "abc", ["a", "c"]).text
    assert text.endswith("nothing came from a, c: look at the log there")


def test_without_a_symptom_there_is_no_cause() -> None:
    assert Diagnosis(GRACE_S).cause(1e9) is None


@given(st.lists(SYMPTOMS, min_size=1, max_size=5))
def test_after_the_grace_the_cause_is_the_one_closest_to_the_root(symptoms: list[Symptom]) -> None:
    for order in permutations(symptoms):
        diagnosis = Diagnosis(GRACE_S)
        for symptom in order:
            diagnosis.add(symptom, 10.0)
        cause = diagnosis.cause(10.0 + GRACE_S)
        assert cause is not None
        assert cause.weight == min(symptom.weight for symptom in symptoms)
        assert cause in symptoms


@given(SYMPTOMS, st.floats(0, 10))
def test_a_root_speaks_at_once_and_a_weak_symptom_after_the_grace(symptom: Symptom, later: float) -> None:
    diagnosis = Diagnosis(GRACE_S)
    diagnosis.add(symptom, 0.0)
    speaks = symptom.weight <= Weight.ENGINE or later >= GRACE_S
    assert (diagnosis.cause(later) == symptom) is speaks


def test_later_symptoms_do_not_lengthen_the_grace() -> None:
    diagnosis = Diagnosis(GRACE_S)
    diagnosis.add(Symptom(Weight.PEER, "first"), 0.0)
    diagnosis.add(Symptom(Weight.PEER, "second"), GRACE_S - 0.1)
    assert diagnosis.cause(GRACE_S) == Symptom(Weight.PEER, "first")
