"""Tokens, log-probabilities and text reach the client in step, and nothing of a stop string does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nova.coordinator.model import Bytes
from nova.coordinator.pieces import Pieces
from nova.wire.work import TokenLogprob
from tests.unit.coordinator.test_stops import naive

END = 3


class Words:
    """A vocabulary of several characters each."""

    WORDS = ("a", "b", ".", "", "ab", "b.a", "aa", "..ab")

    def add(self, token: int) -> str:
        return self.WORDS[token]

    def flush(self) -> str:
        return ""


TOKENS = st.lists(st.sampled_from([0, 1, 2, 4, 5, 6, 7]), max_size=20)
STOPS = st.lists(st.text("ab.", min_size=1, max_size=5), max_size=4)


def make(*stops: str) -> Pieces:
    return Pieces(Bytes().stream(), stops, frozenset({END}))


@given(TOKENS, STOPS)
def test_all_pieces_together_are_the_text_before_the_stop_string_and_every_token_up_to_it(
    tokens: list[int], stops: list[str]
) -> None:
    pieces, given_tokens, given_logprobs, text, counted = Pieces(Words(), stops, frozenset()), [], [], "", 0
    whole = "".join(map(Words().add, tokens))
    found = naive(whole, stops)
    before = whole if found is None else whole[: found[1] - len(found[0])]
    for number, token in enumerate(tokens):
        pieces.add(token, TokenLogprob(token, -float(number)))
        counted += 1
        some, piece, logprobs = pieces.take()
        given_tokens += some
        given_logprobs += logprobs
        text += piece
        assert before.startswith(text)
        if not pieces.stopped_by:
            assert text == "".join(map(Words().add, given_tokens)), "text and tokens are in step"
        else:
            break
    pieces.end()
    some, piece, logprobs = pieces.take()
    assert text + piece == before
    assert given_tokens + some == tokens[:counted]
    assert [each.logprob for each in given_logprobs + logprobs] == [-float(number) for number in range(counted)]
    assert pieces.stopped_by == (found[0] if found else "")
    assert found is None or len("".join(map(Words().add, tokens[:counted]))) >= found[1]


def test_what_may_be_the_start_of_a_stop_string_waits_with_its_tokens() -> None:
    pieces = make("<end>")
    taken = []
    for byte in b"ok<en!":
        pieces.add(byte)
        taken.append(pieces.take()[:2])
    assert taken == [([111], "o"), ([107], "k"), ([], ""), ([], ""), ([], ""), (list(b"<en!"), "<en!")]


def test_a_start_that_was_held_back_comes_when_the_text_ends() -> None:
    pieces = make("<end>")
    for byte in b"a<e":
        pieces.add(byte)
    assert pieces.take()[1] == "a"
    pieces.end()
    assert pieces.take() == (list(b"<e"), "<e", [])


def test_the_token_that_ends_a_text_is_told_and_is_not_in_the_text() -> None:
    pieces = make("x")
    pieces.add(72)
    pieces.add(END)
    pieces.end()
    assert pieces.take() == ([72, END], "H", [])


def test_a_character_that_was_never_finished_comes_at_the_end_and_may_complete_a_stop_string() -> None:
    pieces = make()
    pieces.add(0xE2)
    assert pieces.take() == ([0xE2], "", [])
    pieces.end()
    assert pieces.take() == ([], "\ufffd", [])
    stopped = make("a\ufffd")
    stopped.add(97)
    stopped.add(0xE2)
    stopped.end()
    assert (stopped.stopped_by, stopped.take()) == ("a\ufffd", ([97, 0xE2], "", []))
