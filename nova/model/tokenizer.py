"""Text to tokens and back, without MLX, so that a daemon can do it.

transformers' AutoTokenizer, and not the tokenizers library alone, because mlx_lm uses it: it applies rules from
tokenizer_config.json that tokenizer.json does not hold, and equal prompts must give equal ids. Its import takes most
of a second, hence only when a tokenizer is first loaded.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nova.errors import ModelError
from nova.model import dialect
from nova.model.files import one_line

_UNKNOWN = "\ufffd"

_PENDING = 64
"""Tokens; a character has at most 4 bytes, so a text that ends inside of one for so long has none there."""

_TEMPLATE_ERRORS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the Python in a template may raise on a conversation that it was not written for, besides Jinja's own."""


class Tokenizer:
    """One model's tokenizer. Not for several threads at once."""

    def __init__(self, folder: Path, backend: Any) -> None:
        self._folder = folder
        self._backend = backend
        self.dialect = dialect.load(backend, folder)
        """How the model writes its reasoning and its calls of tools."""

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """The tokenizer of a model folder. Never runs code from it. Raises ModelError."""
        # Without this transformers prints, at import, that it found no PyTorch, which nobody needs here.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        from transformers import AutoTokenizer

        try:
            backend = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        except (ValueError, OSError, KeyError, TypeError, AttributeError, ImportError) as error:
            raise ModelError(f"{folder}: cannot load the tokenizer: {one_line(error)}") from error
        return cls(folder, backend)

    @property
    def eos_token_id(self) -> int | None:
        """The tokenizer's own end of text, which mlx_lm stops at in addition to the model's."""
        token: int | None = self._backend.eos_token_id
        return token

    def encode(self, prompt: str, chat: bool = False) -> list[int]:
        """The ids that mlx_lm gives to the same prompt.

        `chat` makes the prompt one user message in the model's chat template, with the assistant's turn opened.
        Raises ModelError when the model has no chat template or the template does not take it.
        """
        if chat:
            return self.encode_chat([{"role": "user", "content": prompt}])[0]
        bos = self._backend.bos_token
        return self._ids(prompt, special=bos is None or not prompt.startswith(bos))

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        options: Mapping[str, Any] | None = None,
    ) -> tuple[list[int], bool]:
        """The ids that mlx_lm gives to a conversation, and whether its end is inside of the model's reasoning.

        The assistant's turn is opened, unless `options` say `continue_final_message`: then the last message goes on.
        All other options are the template's. Raises ModelError as `encode` does.
        """
        given = {"enable_thinking": self.dialect.thought is not None, **(options or {})}  # mlx_lm's default
        continued = bool(given.pop("continue_final_message", False))
        text = self._rendered(messages, tools, given, continued=continued, opened=not continued)
        ids = self._ids(text, special=False)
        if self.dialect.thought is None:
            return ids, False
        # A marker in what a user wrote opens nothing: only what the template adds for the assistant's turn counts.
        if continued:
            added = str(messages[-1].get("content", ""))
        else:
            bare = self._rendered(messages, tools, given, continued=False, opened=False)
            added = text[_common(text, bare) :]
        start, end = self.dialect.thought
        return ids, added.rfind(start) > added.rfind(end)

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`; special tokens stay visible, bytes that are not UTF-8 become U+FFFD."""
        text: str = self._backend.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def stream(self) -> TextStream:
        """Decodes one generation, token by token."""
        return TextStream(self)

    def _ids(self, text: str, *, special: bool) -> list[int]:
        """`special` adds what the tokenizer puts before and after a text. Raises ModelError."""
        if not well_formed(text):
            raise ModelError("the prompt is not Unicode text: it has half of a surrogate pair")
        ids: list[int] = self._backend.encode(text, add_special_tokens=special)
        return ids

    def _rendered(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
        *,
        continued: bool,
        opened: bool,
    ) -> str:
        """The conversation in the model's chat template. Raises ModelError."""
        import jinja2

        if not self._backend.chat_template or "chat_template_type" in self._backend.init_kwargs:
            raise ModelError(f"{self._folder}: the model has no chat template; send the prompt without chat")
        render = self._backend.apply_chat_template
        # A client chooses what its template sees; not the template itself, nor how it is applied.
        if taken := sorted(set(options) & set(inspect.signature(render).parameters)):
            raise ModelError(f"{taken[0]!r} is not an option of a chat template")
        try:
            text: str = render(
                [dict(each) for each in messages],
                tools=[dict(each) for each in tools] or None,
                tokenize=False,
                add_generation_prompt=opened,
                continue_final_message=continued,
                **options,
            )
        except (*_TEMPLATE_ERRORS, jinja2.TemplateError) as error:
            raise ModelError(f"{self._folder}: the chat template fails: {one_line(error)}") from error
        return text


def well_formed(text: str) -> bool:
    """Whether it can be encoded: JSON may hold half of a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _common(one: str, other: str) -> int:
    """How many characters both begin with."""
    if one.startswith(other):  # as a rule; one by one takes a second for a long prompt
        return len(other)
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


class TextStream:
    """The pieces that `add` and `flush` return, joined, are the decoded text of all tokens. (After `_PENDING` tokens of
    broken characters a sound one may come as broken.)

    Only the tokens since the last certain point are decoded again, together with those of the point before, since
    some decoders treat the very first token of a text differently.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decode = tokenizer.decode
        self._before: list[int] = []
        self._before_text = ""
        self._now: list[int] = []
        self._given = 0

    def add(self, token_id: int) -> str:
        """The text that became certain with this token; the start of a character is held back."""
        self._now.append(token_id)
        text = self._text()
        # U+FFFD at the end may be a character whose other bytes are still to come; inside it is final.
        certain = text.rstrip(_UNKNOWN) if len(self._now) < _PENDING else text
        piece = certain[self._given :]
        self._given = max(self._given, len(certain))
        if certain and len(certain) == len(text):
            self._before, self._before_text = self._now, self._decode(self._now)
        elif len(self._now) < _PENDING:
            return piece
        self._now, self._given = [], 0
        return piece

    def flush(self) -> str:
        """The rest, at the end of the generation."""
        piece = self._text()[self._given :]
        self._before, self._before_text, self._now, self._given = [], "", [], 0
        return piece

    def _text(self) -> str:
        return self._decode(self._before + self._now)[len(self._before_text) :]
