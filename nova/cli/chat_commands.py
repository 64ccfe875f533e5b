"""The /commands of `nova chat`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nova.cli.conversation import Conversation
from nova.errors import ConfigError

MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True)
class Effect:
    """What the chat does next: says something, asks the server, or ends."""

    say: str = ""
    ask: str = ""
    quit: bool = False


class Commands:
    """Every /command on one conversation. `written` are the files of this chat, which it may write again."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._written: set[Path] = set()

    def run(self, line: str) -> Effect:
        """`line` begins with a slash. Raises ConfigError for what is no command, or not with these words."""
        name, _, rest = line[1:].partition(" ")
        if name not in _COMMANDS:
            raise ConfigError(f"there is no command /{name}; /help lists them, and // begins a message with a slash")
        return _COMMANDS[name][2](self, rest.strip())

    def help(self, rest: str) -> Effect:
        rows = [(f"/{name} {words}".rstrip(), what) for name, (words, what, _) in _COMMANDS.items()]
        return Effect("\n".join(f"{left:22} {what}" for left, what in rows))

    def reset(self, rest: str) -> Effect:
        self._conversation.turns.clear()
        return Effect("a fresh conversation" + (", with the same system prompt" if self._conversation.system else ""))

    def system(self, rest: str) -> Effect:
        self._conversation.system = rest
        return Effect("the system prompt counts from the next message on" if rest else "no system prompt")

    def set(self, rest: str) -> Effect:
        if rest:
            name, _, value = rest.partition(" ")
            self._conversation.set(name, value.strip())
        settings = self._conversation.settings
        return Effect(", ".join(f"{name} {value}" for name, value in settings.items()) or "all as the server has them")

    def undo(self, rest: str) -> Effect:
        question = self._conversation.undo()
        return Effect(f"forgotten: {question}" if question else "there is nothing to take back")

    def retry(self, rest: str) -> Effect:
        conversation = self._conversation
        if not conversation.asked:
            return Effect("nothing was asked yet")
        if conversation.turns and conversation.turns[-1][0] == conversation.asked:
            conversation.undo()
        return Effect(ask=conversation.asked)

    def stats(self, rest: str) -> Effect:
        return Effect(self._conversation.stats())

    def save(self, rest: str) -> Effect:
        path = _path("save", rest)
        try:
            with path.open("wb" if path.resolve() in self._written else "xb") as file:
                file.write(self._conversation.saved())
        except FileExistsError:
            raise ConfigError(f"{path} exists: choose another name") from None
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
        self._written.add(path.resolve())
        return Effect(f"saved to {path}")

    def load(self, rest: str) -> Effect:
        path = _path("load", rest)
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        if len(content) > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB")
        try:
            self._conversation.load(content)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        self._written.add(path.resolve())
        return Effect(f"{len(self._conversation.turns)} questions and answers from {path}")

    def quit(self, rest: str) -> Effect:
        return Effect(quit=True)


def _path(command: str, rest: str) -> Path:
    if not rest:
        raise ConfigError(f"/{command}: say which file, as in /{command} talk.json")
    try:
        return Path(rest).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"/{command}: {rest}: {error}") from error


_COMMANDS: dict[str, tuple[str, str, Callable[[Commands, str], Effect]]] = {
    "help": ("", "this list", Commands.help),
    "reset": ("", "forget what was said", Commands.reset),
    "system": ("[TEXT]", "the system prompt; nothing takes it away", Commands.system),
    "set": ("[NAME VALUE]", "as in /set temperature 0.7; `default` leaves it to the server", Commands.set),
    "undo": ("", "forget the last question and its answer", Commands.undo),
    "retry": ("", "ask the last question again", Commands.retry),
    "stats": ("", "tokens and speed so far", Commands.stats),
    "save": ("FILE", "write the conversation", Commands.save),
    "load": ("FILE", "take up one that was saved", Commands.load),
    "quit": ("", "end; so does Ctrl-D", Commands.quit),
}
"""Name -> what follows it, what it does, and how."""
