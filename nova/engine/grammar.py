"""Grammars that a text must keep to: which tokens may come next. llguidance does the work; this gives it the model's
tokenizer, bounds, and the request's own ends of text. No MLX.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nova.errors import EngineError, ModelError
from nova.model.card import read_card
from nova.model.files import one_line
from nova.model.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MAX_GRAMMAR_CHARS = 1 << 20
"""Of one grammar. An enumeration of 20 000 short words has a quarter of it and compiles in 55 ms (2 cores, Linux)."""

MAX_COMPILED = 32
"""Grammars that are kept ready; the one unused for longest goes first."""

MAX_LEXER_STATES = 50_000
"""Of one text. llguidance's documentation says 1-2 kB each, so 100 MB at most; its default is five times as many."""


class Matcher:
    """One request's place in its grammar. One thread at a time, and not always the one that made it."""

    def __init__(self, state: LLMatcher, stop: Sequence[int], foreign: Sequence[int]) -> None:
        """`state` is this request's own. `stop` are the tokens that end the text, `foreign` those that would end it
        for the tokenizer but not for this request."""
        self._state = state
        self._ended = False
        self._stop = list(stop)
        self._foreign = list(foreign)

    def mask(self) -> NDArray[np.bool_]:
        """[vocabulary of the tokenizer]: which tokens may come next, never none.

        The end of the text is among them when the grammar is complete, and alone when nothing else can follow or the
        grammar has become too complex (see `error`). Takes some 20 us, and now and then a few ms, for 49 152 tokens.
        """
        bits = np.frombuffer(self._state.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little").view(np.bool_)
        allowed[self._foreign] = False
        # Computing the mask may have met a bound, and may have found that the text cannot go on.
        if self._state.is_accepting() or self._state.is_stopped() or not allowed.any():
            allowed[self._stop] = True
        return allowed

    def accept(self, token: int) -> None:
        """The token was committed. Raises EngineError when the grammar forbids it, which the mask rules out."""
        self._ended = token in self._stop
        if self._ended or self._state.is_error():
            return
        if not self._state.validate_tokens([token]):
            raise EngineError(f"token {token} was sampled though the grammar forbids it: its mask was not applied")
        self._state.consume_token(token)  # fails where a bound is met, which stays in `error`

    @property
    def over(self) -> bool:
        """The end of the text has come, or nothing else may follow. Where that shows only in the mask, the mask holds
        it."""
        return self._ended or bool(self._state.is_stopped())

    @property
    def error(self) -> str:
        """Why the text cannot go on in this grammar, "" while it can: a bound on the work for one token is met. The
        text so far is then not complete, and `over`."""
        return _first_line(self._state) if self._state.is_error() else ""


class Grammars:
    """The grammars of one model. `matcher` may be called from any thread while other threads use their matchers."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` is the model's, None where a stage only stands for one. Nothing is read before the first use."""
        self._folder = folder
        self._lock = Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled = lru_cache(maxsize=MAX_COMPILED)(self._compile)

    def matcher(self, grammar: str, stop_tokens: Sequence[int]) -> Matcher:
        """A matcher at the beginning of `grammar`, which is what `llguidance.LLMatcher.grammar_from_*` return.

        Any of `stop_tokens` ends the text when the grammar is complete; where there are none, the model's own do.
        Takes a second where it is the first of its model. Raises ModelError with what is wrong with the grammar.
        """
        if len(grammar) > MAX_GRAMMAR_CHARS:
            raise ModelError(f"the grammar has {len(grammar)} characters; at most {MAX_GRAMMAR_CHARS} are taken")
        with self._lock:
            compiled, own = self._compiled(grammar)
            # A copy shares nothing that changes, so threads that use two copies do not meet.
            state = compiled.deep_copy()
        stop = [token for token in stop_tokens if 0 <= token < own.vocab_size] or own.eos_tokens
        return Matcher(state, stop, [token for token in own.eos_tokens if token not in stop])

    def _compile(self, grammar: str) -> tuple[LLMatcher, LLTokenizer]:
        from llguidance import LLMatcher

        self._tokenizer = tokenizer = self._tokenizer or _load(self._folder)
        compiled = LLMatcher(tokenizer, grammar, log_level=0, limits=_limits())
        if not compiled.is_error():
            compiled.compute_bitmask()  # the first is the slowest, and tells of a grammar that is too complex at once
        if compiled.is_error():
            raise ModelError(f"the grammar is refused: {_first_line(compiled)}")
        return compiled, tokenizer


def _load(folder: Path | None) -> LLTokenizer:
    from llguidance import LLTokenizer

    if folder is None:
        raise ModelError("an emulated model has no tokenizer, so its text cannot keep to a grammar: ask without one")
    card, tokenizer = read_card(folder), Tokenizer.load(folder)
    ends = dict.fromkeys([*card.eos_token_ids, *([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])])
    backend = getattr(tokenizer._backend, "backend_tokenizer", None)
    if backend is None or not ends:
        lack = "no end of text" if backend else "no tokenizer of the tokenizers library"
        raise ModelError(f"{folder}: the model has {lack}, so its text cannot keep to a grammar: ask without one")
    size = max(card.vocab_size, backend.get_vocab_size(with_added_tokens=True))
    try:
        # With its added tokens, of which tokenizer.json alone may lack some.
        return LLTokenizer(backend.to_str(), n_vocab=size, eos_token=[end for end in ends if end < size])
    except ValueError as error:
        raise ModelError(f"{folder}: llguidance cannot use the tokenizer: {one_line(error)}") from error


def _limits() -> LLParserLimits:
    from llguidance import LLParserLimits

    # Its errors would otherwise quote the grammar and the text, which are the user's, into logs.
    return LLParserLimits(max_lexer_states=MAX_LEXER_STATES, verbose_errors=False)


def _first_line(state: LLMatcher) -> str:
    """What is wrong; the lines after it only show where."""
    lines = state.get_error().splitlines()
    return lines[0][:300] if lines else "for a reason that llguidance does not tell"
