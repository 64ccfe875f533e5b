"""Whatever arrives at the open sockets while text is generated: counted, logged, and the text goes on.

Strangers at a transport's ports while a group forms are the matter of the kit's clauses I6 and I7
(nova/testing/cases/identity.py). Once it stands, tcp has closed its ports and zmq's stay open, which is why the flood
of the ports runs over zmq.
"""

from __future__ import annotations

import asyncio
import errno
import random
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from nova.control.credentials import CLIENT_KEY
from nova.control.keys import KeyStore
from nova.local.cluster import ClusterPlan, LocalCluster, running
from nova.wire.codec import MAX_BODY_BYTES, encode
from nova.wire.messages import Heartbeat, Hello
from nova.wire.requests import Accepted, Completed, Generate, Piece, StatusReply
from nova.wire.work import Sampling

FRAMES = 1000
TOKENS = 60


def malformed() -> Iterator[list[bytes]]:
    """FRAMES messages, each wrong in its own way, and repeatable."""
    dice = random.Random(7)
    good = encode(Heartbeat(1), 1)
    for index in range(FRAMES):
        kind = index % 5
        if kind == 0:
            yield [dice.randbytes(dice.randrange(200))]
        elif kind == 1:
            yield [good[0], good[1][: dice.randrange(len(good[1]))]]
        elif kind == 2:
            yield [good[0], dice.randbytes(dice.randrange(1, 400))]
        elif kind == 3:
            yield good  # the same sequence number again and again
        else:
            yield [b"" for _ in range(dice.randrange(3, 30))]


def flood_router(cluster: LocalCluster) -> None:
    """From a peer with a trusted key, which is as far as a broken or hostile program can come."""
    store = KeyStore(cluster.folder)
    keys = store.load(CLIENT_KEY)
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.curve_publickey, dealer.curve_secretkey = keys.public.encode(), keys.secret.encode()
        dealer.curve_serverkey = store.trusted_key("node-1").encode()
        dealer.setsockopt(zmq.SNDTIMEO, 10_000)
        dealer.setsockopt(zmq.LINGER, 10_000)
        dealer.connect(f"tcp://{cluster.address}")
        dealer.send_multipart(encode(Hello(CLIENT_KEY, "client", "0"), 1))
        for frames in malformed():
            dealer.send_multipart(frames)
        dealer.send_multipart([encode(Heartbeat(1), 9)[0], bytes(MAX_BODY_BYTES + 1)])


def flood_engines(cluster: LocalCluster) -> None:
    """At the engines' socket of both daemons, by somebody of the same user."""
    for daemon in cluster.daemons:
        assert daemon.announcement is not None
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.SNDTIMEO, 10_000)
            dealer.setsockopt(zmq.LINGER, 10_000)
            dealer.connect(daemon.announcement.engines)
            for frames in malformed():
                dealer.send_multipart(frames)


def flood_ports(cluster: LocalCluster) -> None:
    """Plain bytes, no ZeroMQ, at every TCP port on which any process of the cluster listens. No counter tells of them:
    libzmq ends such connections itself. So this holds that it does, each one, and that no descriptor stays behind."""
    dice = random.Random(11)
    ports = listening(cluster)
    assert int(cluster.address.rpartition(":")[2]) in ports
    assert len(ports) >= 3, "the coordinator's, and one for each direction between the engines"
    before = descriptors(cluster)
    for port in ports:
        for _ in range(FRAMES):
            call(port, dice.randbytes(dice.randrange(1, 600)))
    assert descriptors(cluster) < before + FRAMES / 10


def call(port: int, data: bytes) -> None:
    """Returns when the listener has ended the connection; a TimeoutError if it does not."""
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as stranger:
        try:
            stranger.sendall(data)
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(4096):  # its greeting
                pass
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN):
                raise


def processes(cluster: LocalCluster) -> list[psutil.Process]:
    daemons = [psutil.Process(daemon.pid) for daemon in cluster.daemons]
    return daemons + [child for daemon in daemons for child in daemon.children()]


def descriptors(cluster: LocalCluster) -> int:
    return sum(process.num_fds() for process in processes(cluster))


def listening(cluster: LocalCluster) -> set[int]:
    found = [each for process in processes(cluster) for each in process.net_connections(kind="tcp")]
    return {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}


async def attacked(home: Path, flood: Callable[[LocalCluster], None]) -> tuple[str, StatusReply, list[str]]:
    """The text that was generated under attack, the status afterwards, and the daemons' logs."""
    plan = ClusterPlan(2, "emulated:seed", transports=["zmq"] if flood is flood_ports else [])
    async with running(plan, home) as cluster, cluster.client() as client:
        text, attack = "", None
        async for event in client.generate(Generate("r", "go", TOKENS, Sampling(), deadline_s=60.0)):
            match event:
                case Accepted():
                    pass
                case Piece():
                    text += event.text
                    attack = attack or asyncio.create_task(asyncio.to_thread(flood, cluster))
                case Completed():
                    assert event.completion_tokens == TOKENS
        assert attack is not None
        await attack
        status = await client.status()
        assert cluster.casualties() == []
        return text, status, [daemon.log.read_text() for daemon in cluster.daemons]


@pytest.mark.parametrize("flood", [flood_router, flood_engines, flood_ports])
def test_a_flood_of_bad_frames_is_counted_and_disturbs_nothing(
    flood: Callable[[LocalCluster], None], nova_home: Path
) -> None:
    text, status, logs = asyncio.run(attacked(nova_home, flood))
    assert text.startswith("All work and no play")
    assert len(text) == TOKENS
    assert status.state == "serving"
    assert status.generation == 1
    if flood is flood_router:
        counters = status.counters
        assert sum(counters.get(cause, 0) for cause in ("malformed", "replayed", "oversized")) >= FRAMES, counters
    if flood is flood_ports:
        causes = ("malformed", "replayed", "oversized", "refused_keys")
        assert not any(status.counters.get(cause, 0) for cause in causes), "nobody came past the handshake"
        assert not any("Traceback" in log for log in logs)
    if flood is flood_engines:
        for log in logs:
            counts = [int(found) for found in re.findall(r"cause=stranger count=(\d+)", log)]
            assert max(counts) > FRAMES / 2, "drops are counted, and logged at each doubling"
