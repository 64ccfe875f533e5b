"""Text to tokens and back, without MLX, so that a daemon can do it.

transformers' AutoTokenizer, and not the tokenizers library alone, because mlx_lm uses it: it applies rules from
tokenizer_config.json that tokenizer.json does not hold, and equal prompts must give equal ids. Its import takes most
of a second, hence only when a tokenizer is first loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nova.errors import ModelError
from nova.model.files import one_line

_UNKNOWN = "\ufffd"


class Tokenizer:
    """One model's tokenizer. Not for several threads at once."""

    def __init__(self, folder: Path, backend: Any) -> None:
        self._folder = folder
        self._backend = backend

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
            ids: list[int] = self._backend.encode(self._in_template(prompt), add_special_tokens=False)
            return ids
        bos = self._backend.bos_token
        ids = self._backend.encode(prompt, add_special_tokens=bos is None or not prompt.startswith(bos))
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`; special tokens stay visible, bytes that are not UTF-8 become U+FFFD."""
        text: str = self._backend.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def stream(self) -> TextStream:
        """Decodes one generation, token by token."""
        return TextStream(self)

    def _in_template(self, prompt: str) -> str:
        import jinja2

        if not self._backend.chat_template or "chat_template_type" in self._backend.init_kwargs:
            raise ModelError(f"{self._folder}: the model has no chat template; send the prompt without chat")
        try:
            text: str = self._backend.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            raise ModelError(f"{self._folder}: the chat template fails: {one_line(error)}") from error
        return text


class TextStream:
    """The pieces that `add` and `flush` return, joined, are the decoded text of all tokens.

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
        certain = text.rstrip(_UNKNOWN)
        piece = certain[self._given :]
        self._given = max(self._given, len(certain))
        if certain and len(certain) == len(text):
            self._before, self._now, self._given = self._now, [], 0
            self._before_text = self._decode(self._before)
        return piece

    def flush(self) -> str:
        """The rest, at the end of the generation."""
        piece = self._text()[self._given :]
        self._before, self._before_text, self._now, self._given = [], "", [], 0
        return piece

    def _text(self) -> str:
        return self._decode(self._before + self._now)[len(self._before_text) :]
