"""`nova chat` against a server on loopback: through a pipe, and in a terminal with Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nova.cli.app import app
from nova.cli.chat_server import root
from nova.cli.conversation import SETTINGS, Conversation, account
from nova.cli.output import Answer
from nova.clock import Deadline
from nova.errors import ConfigError
from tests.unit.cli.chatserver import LIMIT_S, ChatServer, delta, end, serving

CHAT = [sys.executable, "-c", "from nova.cli.main import main; main()", "chat"]
RUNNER = CliRunner()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving() as server:
        yield server


def chat(server: ChatServer, lines: str, *options: str, status: int = 0) -> Any:
    """Piped: what it printed."""
    result = RUNNER.invoke(app, ["chat", "--url", server.url, *options], input=lines)
    assert result.exit_code == status, result.output
    return result


def objects(server: ChatServer, lines: str, *options: str, status: int = 0) -> list[dict[str, Any]]:
    printed = chat(server, lines, "--json", *options, status=status).stdout
    return [json.loads(line) for line in printed.splitlines()]


def test_each_line_is_a_message_and_the_conversation_goes_on(server: ChatServer) -> None:
    server.answers("Hel", "lo")
    server.answers("Bye", cached=12)
    result = chat(server, "first\nsecond\n", "--system", "be brief", "--seed", "7", "--temperature", "0.5", "-n", "9")
    assert result.stdout == "Hello\nBye\n"
    assert "12 of 20 prompt tokens cached" in result.stderr
    asked = server.asked.get(timeout=LIMIT_S)
    assert (asked["model"], asked["stream"], asked["stream_options"]) == ("tiny", True, {"include_usage": True})
    assert (asked["seed"], asked["temperature"], asked["max_tokens"]) == (7, 0.5, 9)
    first = [("system", "be brief"), ("user", "first")]
    assert server.messages() == [*first, ("assistant", "Hello"), ("user", "second")]


def test_json_is_one_object_for_each_answer(server: ChatServer) -> None:
    server.answers("A", reasoning="I think")
    server.scripts.put([429])
    server.answers("C")
    one, two, three = objects(server, "a\n\nb\nc\n", status=1)
    assert (one["text"], one["reasoning"], one["finish"], one["completion_tokens"]) == ("A", "I think", "stop", 1)
    assert one["ttft_s"] > 0
    assert (two["text"], two["finish"]) == ("", "error")
    assert two["error"] == "429: why it is refused: the server is busy: try again in 3 s"
    assert (three["text"], three["error"]) == ("C", "")


def test_reasoning_stays_out_of_a_pipe(server: ChatServer) -> None:
    server.answers("Four", reasoning="two and two")
    assert chat(server, "2 + 2?\n").stdout == "Four\n"


def test_the_key_goes_along(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers("x")
    chat(server, "a\n", "--api-key", "nova-1")
    assert server.headers["Authorization"] == "Bearer nova-1"
    monkeypatch.setenv("NOVA_API_KEY", "nova-2")
    server.answers("x")
    chat(server, "a\n", "--model", "other")
    assert server.headers["Authorization"] == "Bearer nova-2"
    asked = [server.asked.get(timeout=LIMIT_S) for _ in range(2)]
    assert [each["model"] for each in asked] == ["tiny", "other"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([401], "--api-key or NOVA_API_KEY"),
        ([503], "`nova status` says why; try again in 3 s"),
        ([400], "400: why it is refused"),
        ([delta(content="Hal"), {"error": {"message": "node b is gone"}}], "node b is gone"),
        ([delta(content="Hal"), {"error": "plain words"}], "plain words"),
        ([delta(content="Hal")], "broke off in the middle of the answer"),
        (["no json"], "not of OpenAI's chat API"),
        ([{"choices": [{"delta": {"content": 7}}]}], "not of OpenAI's chat API"),
    ],
)
def test_what_goes_wrong_is_said_and_the_next_message_is_asked(
    script: list[Any], said: str, server: ChatServer
) -> None:
    server.scripts.put(script)
    server.answers("fine")
    result = chat(server, "a\nb\n", status=1)
    assert said in " ".join(result.stderr.split())
    assert result.stdout.endswith("fine\n")


def test_a_certificate_of_one_s_own_is_trusted_when_told_so(tmp_path: Path) -> None:
    openssl, file = shutil.which("openssl"), tmp_path / "own.pem"
    if openssl is None:
        pytest.skip("openssl is not installed")
    made = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [openssl, *made.split(), "-keyout", file, "-out", tmp_path / "cert"], check=True, capture_output=True,
        timeout=LIMIT_S,
    )  # fmt: skip
    file.write_text(file.read_text() + (tmp_path / "cert").read_text())
    with serving(file) as server:
        server.answers("safe")
        assert chat(server, "a\n", "--ca", str(tmp_path / "cert")).stdout == "safe\n"
        refused = chat(server, "a\n", status=1)
    assert "certificate" in refused.stderr
    assert "--ca" in refused.stderr


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
    result = RUNNER.invoke(app, ["chat", "--url", url, "--json"], input="a\n")
    assert result.exit_code == 1
    assert "`nova serve -m M` starts one" in json.loads(result.stdout)["error"]


def test_what_is_wrong_with_the_options_is_said(server: ChatServer, tmp_path: Path) -> None:
    for options, said in [
        (("--url", "127.0.0.1:80"), "--url: expected http"),
        (("--url", "ftp://a"), "--url: expected http"),
        (("--ca", str(tmp_path / "none.pem")), "--ca: "),
    ]:
        result = RUNNER.invoke(app, ["chat", "--url", server.url, *options], input="")
        assert (result.exit_code, said in result.stderr) == (1, True), result.stderr
    server.models = []
    assert "serves no model" in chat(server, "a\n", status=1).stderr


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_a_url_may_end_in_v1(url: str) -> None:
    assert root(url) == "http://h:1"


# --- commands -------------------------------------------------------------------------------------------------------


def test_the_commands_change_the_conversation(server: ChatServer) -> None:
    for answer in ("one", "two", "three", "four", "five"):
        server.answers(answer)
    lines = ["a", "/undo", "b", "/retry", "/system be kind", "/set temperature 0.7", "c", "/reset", "//slash"]
    result = chat(server, "\n".join([*lines, "/stats", "/quit", "never asked"]) + "\n")
    assert server.messages() == [("user", "a")]
    assert server.messages() == [("user", "b")]
    assert server.messages() == [("user", "b")]
    asked = server.asked.get(timeout=LIMIT_S)
    said = [("system", "be kind"), ("user", "b"), ("assistant", "three"), ("user", "c")]
    assert [(each["role"], each["content"]) for each in asked["messages"]] == said
    assert asked["temperature"] == 0.7
    assert server.messages() == [("system", "be kind"), ("user", "/slash")]
    assert server.asked.empty()
    assert "5 answers, 5 tokens" in result.stderr


def test_a_conversation_is_saved_and_taken_up_again(server: ChatServer, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    server.answers("Hello")
    chat(server, f"hi\n/save {path}\n/save {path}\n", "--system", "be brief")
    server.messages()
    server.answers("again")
    chat(server, f"/load {path}\nmore\n/save {path}\n")
    said = [("system", "be brief"), ("user", "hi"), ("assistant", "Hello")]
    assert server.messages() == [*said, ("user", "more")]
    saved = json.loads(path.read_text())["messages"]
    assert [(each["role"], each["content"]) for each in saved] == [*said, ("user", "more"), ("assistant", "again")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/nothing", "there is no command /nothing"),
        ("/set colour red", "there is no setting 'colour'"),
        ("/set seed 0.5", "seed: expected a whole number or `default`, got '0.5'"),
        ("/save", "say which file"),
        ("/save {there}", "exists: choose another name"),
        ("/load {there}", "not a conversation that /save wrote"),
        ("/load {there}.no", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_command_is_said(line: str, said: str, server: ChatServer, tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text('{"messages": [{"role": "assistant", "content": "x"}]}')
    server.answers("fine")
    result = chat(server, line.format(there=there) + "\na\n", status=1)
    assert said in " ".join(result.stderr.split())
    assert result.stdout == "fine\n"
    assert "assistant" in there.read_text()


def test_help_names_every_command_and_settings_go_back_to_the_server_s(server: ChatServer) -> None:
    result = chat(server, "/help\n/set\n/set seed 4\n/set seed default\n/undo\n/retry\n/stats\n/system\n")
    for name in ("/help", "/reset", "/system", "/save", "/load", "/set", "/undo", "/retry", "/stats", "/quit"):
        assert name in result.stderr
    assert "seed 4" in result.stderr
    for name in SETTINGS:
        Conversation().set(name, "1")
    with pytest.raises(ConfigError, match="temperature"):
        Conversation().set("nothing", "1")


def test_an_answer_s_account_leaves_out_what_is_not_known() -> None:
    zero: dict[str, Any] = {"prompt_tokens": 0, "cached_tokens": 0, "ttft_s": 0.0, "tok_s": 0.0}
    bare = Answer(text="", reasoning="", finish="length", model="m", completion_tokens=1, **zero)
    assert account(bare) == "1 token; ended by length"


# --- in a terminal --------------------------------------------------------------------------------------------------


class Terminal:
    """`nova chat` in a terminal of its own."""

    def __init__(self, *options: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*CHAT, *options], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(self.master, False)
        self.seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)
        os.close(self.master)

    def until(self, text: str) -> str:
        """What it shows up to and with `text`."""
        deadline = Deadline.after(LIMIT_S)
        while text not in self.seen:
            assert select.select([self.master], [], [], deadline.remaining())[0], (
                f"{text!r} did not come: {self.seen!r}"
            )
            try:
                self.seen += os.read(self.master, 4096).decode()
            except OSError as error:
                raise AssertionError(f"it ended without {text!r}: {self.seen!r}") from error
        shown, _, self.seen = self.seen.partition(text)
        return shown + text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end_at_the_prompt(self) -> int:
        """Ctrl-C until it ends: Python's readline does not see one between its prompt and its waiting for a key."""
        deadline = Deadline.after(LIMIT_S)
        while not deadline.expired:
            self.interrupt()
            with suppress(subprocess.TimeoutExpired):
                return self.process.wait(0.2)
        raise AssertionError("Ctrl-C at the prompt does not end the chat")


def test_ctrl_c_stops_the_answer_and_at_the_prompt_the_chat(server: ChatServer) -> None:
    server.scripts.put([delta(reasoning_content="hmm"), delta(content="Once \x1b[2Jupon"), None])
    server.answers("Fine")
    with Terminal("--url", server.url) as terminal:
        terminal.until("> ")
        terminal.type("tell me\n")
        shown = terminal.until("upon")
        assert "\x1b[2mhmm" in shown  # dimmed
        assert "\x1b[2J" not in shown  # a model does not clear the screen
        terminal.interrupt()
        assert server.hung_up.wait(LIMIT_S)
        assert "ended by cancelled" in terminal.until("> ")
        terminal.type("and now?\n")
        terminal.until("Fine")
        terminal.until("> ")
        assert terminal.end_at_the_prompt() == 0
    server.asked.get(timeout=LIMIT_S)
    assert server.messages()[:2] == [("user", "tell me"), ("assistant", "Once \x1b[2Jupon")]


def test_ctrl_c_in_a_pipe_ends_the_command_and_the_request(server: ChatServer) -> None:
    server.scripts.put([delta(content="Once"), None, end()])
    with subprocess.Popen(
        [*CHAT, "--url", server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"a\n")
        process.stdin.flush()
        assert os.read(process.stdout.fileno(), 4) == b"Once"
        process.send_signal(signal.SIGINT)
        assert server.hung_up.wait(LIMIT_S)
        assert process.wait(LIMIT_S) == 130


def test_ctrl_d_ends_the_chat(server: ChatServer) -> None:
    with Terminal("--url", server.url) as terminal:
        terminal.until("tiny at ")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.process.wait(LIMIT_S) == 0
