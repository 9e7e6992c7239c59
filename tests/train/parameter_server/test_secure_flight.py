"""Who may call a server, by token and by certificate, and what those cost who may not."""

import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from sparkneuro.errors import TrainingError
from sparkneuro.train.parameter_server.credentials import Credentials, make_credentials
from sparkneuro.train.parameter_server.ledger import OutOfStep
from sparkneuro.train.parameter_server.secure_flight import TOKEN_HEADER, BadCalls, SecureClient, SecureServer, ServerLost


class Counter:
    """A server that counts what it is told."""

    def __init__(self, credentials):
        self.total = 0
        self.server = SecureServer("127.0.0.1", credentials, {"add": self.add, "again": self.again})
        self.address = f"127.0.0.1:{self.server.port}"

    def add(self, number):
        self.total += number
        return {"total": self.total}

    def again(self):
        raise OutOfStep("register first")


@pytest.fixture
def count():
    """Start servers with ``count(credentials)``; they stop with the test."""
    started = []

    def start(credentials):
        started.append(Counter(credentials))
        return started[-1]

    yield start
    for counter in started:
        counter.server.shutdown()


def add_as(credentials, counter, number=1):
    client = SecureClient(counter.address, credentials, timeout_s=5.0)
    try:
        return client.act("add", number=number)["total"]
    finally:
        client.close()


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def credentials(request):
    if request.param:
        pytest.importorskip("cryptography", reason="needs the tls extra")
    return make_credentials(request.param)


def test_who_has_the_runs_credentials_is_served(count, credentials):
    counter = count(credentials)
    assert [add_as(credentials, counter, number) for number in (2, 3)] == [2, 5]
    assert counter.server.bad_calls.total == 0


@pytest.mark.parametrize("token", ["", "x", "another token", "ü"])
def test_another_token_is_refused(count, credentials, token):
    counter = count(credentials)
    with pytest.raises((TrainingError, ValueError)) as refused:
        add_as(replace(credentials, token=token), counter)
    assert counter.total == 0 and credentials.token not in str(refused.value)
    if token != "ü":  # which cannot be sent
        assert "belongs to another run: it does not accept this run's token" in str(refused.value)
        assert counter.server.bad_calls.total == 1


def test_a_client_without_the_runs_certificate_is_refused_at_the_handshake(count):
    pytest.importorskip("cryptography", reason="needs the tls extra")
    ours, theirs = make_credentials(tls=True), make_credentials(tls=True)
    counter = count(ours)
    token = [(TOKEN_HEADER.encode(), ours.token.encode())]
    root = {"tls_root_certs": ours.certificate.encode(), "override_hostname": "sparkneuro"}
    foreign = {"cert_chain": theirs.certificate.encode(), "private_key": theirs.key.encode()}
    ways = [
        ("grpc", {}),
        ("grpc+tls", root),
        ("grpc+tls", {**root, **foreign}),
        ("grpc+tls", {"disable_server_verification": True}),
        ("grpc+tls", {"disable_server_verification": True, **foreign}),
    ]
    for scheme, options in ways:
        with flight.FlightClient(f"{scheme}://{counter.address}", **options) as client:
            with pytest.raises(flight.FlightError):
                list(
                    client.do_action(flight.Action("add", b'{"number": 1}'), flight.FlightCallOptions(timeout=2.0, headers=token))
                )
    assert counter.total == 0 and add_as(ours, counter) == 1


def test_a_server_with_another_certificate_is_not_told_the_token(count):
    pytest.importorskip("cryptography", reason="needs the tls extra")
    ours, theirs = make_credentials(tls=True), make_credentials(tls=True)
    counter = count(theirs)
    for credentials in (ours, replace(ours, token=theirs.token)):
        with pytest.raises(ServerLost, match="cannot be reached"):
            add_as(credentials, counter)
    assert counter.total == 0 and counter.server.bad_calls.total == 0


def test_a_plain_server_is_not_told_the_token_of_an_encrypted_run(count):
    pytest.importorskip("cryptography", reason="needs the tls extra")
    plain = make_credentials()
    counter = count(plain)
    encrypted = replace(make_credentials(tls=True), token=plain.token)
    with pytest.raises(ServerLost, match="cannot be reached"):
        add_as(encrypted, counter)
    assert counter.total == 0 and counter.server.bad_calls.total == 0


@pytest.mark.parametrize(
    "body",
    [
        b"no json", b"[1]", b"1", b"null", b'"add"', b'{"number": "1"}', b'{"number": null}', b"{}", b'{"number": 1, "more": 2}',
        b"\xff\xfe", b"\x80\x04\x95.", b"[" * 100_000, b'{"number":' * 5_000, b'{"number": ' + b"9" * 5_000 + b"}",
    ],
)  # fmt: skip
def test_a_body_that_makes_no_sense_is_answered_counted_and_changes_nothing(count, body):
    credentials = Credentials("a token")
    counter = count(credentials)
    client = SecureClient(counter.address, credentials)
    (result,) = client._connection.do_action(flight.Action("add", body), client.options())
    assert "error" in json.loads(result.body.to_pybytes())
    assert counter.total == 0 and counter.server.bad_calls.total == 1
    client.close()


def test_who_is_out_of_step_is_told_to_come_again_and_not_counted_as_bad(count):
    credentials = Credentials("a token")
    counter = count(credentials)
    client = SecureClient(counter.address, credentials, name="shard 3")
    with pytest.raises(ServerLost, match=f"shard 3 at {counter.address} refused a call: register first"):
        client.act("again")
    assert counter.server.bad_calls.total == 0
    client.close()


def test_an_address_that_cannot_be_bound_is_one_sentence():
    with pytest.raises(TrainingError, match="a server did not start on 192.0.2.1; can this machine bind that address?"):
        SecureServer("192.0.2.1", Credentials("a token"), {})


def test_a_peer_that_says_nothing_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = SecureClient(f"127.0.0.1:{silent.getsockname()[1]}", Credentials("a token"), timeout_s=0.3, name="shard 3")
        with pytest.raises(ServerLost, match="shard 3 at .* (did not answer within 0.3 s|cannot be reached)"):
            client.act("add", number=1)
        client.close()


def test_what_fails_on_the_way_is_a_lost_server():
    client = SecureClient("127.0.0.1:9", Credentials("a token"), name="shard 3")
    for error in (flight.FlightInternalError("one\ntwo"), pa.ArrowInvalid("one. gRPC client debug context: two"), OSError("one")):

        def call(error=error):
            raise error

        with pytest.raises(ServerLost, match="^shard 3 at 127.0.0.1:9 cannot be reached: one$"):
            client.guarded(call)
    client.close()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_bad_calls_are_counted_and_told_of_now_and_then(caplog):
    clock, delays = Clock(), []
    bad_calls = BadCalls(quiet_s=10.0, free=20, delay_s=0.1, now=clock, sleep=delays.append)
    caplog.set_level(logging.WARNING)
    for second in range(100):
        clock.now = float(second)
        for number in range(50):
            bad_calls.note(f"the {number}th of second {second}")
    assert bad_calls.total == 5000
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) <= 100 / 10 + 1
    told = sum(int(line.split()[0]) for line in lines)
    assert lines[0].endswith("the newest: the 0th of second 0")
    assert 4000 < told <= 5000  # the rest will be told of with the next line
    assert delays == [0.1] * len(delays) and len(delays) == 5000 - 20 * len(lines)


def test_few_bad_calls_are_answered_at_once():
    clock, delays = Clock(), []
    bad_calls = BadCalls(quiet_s=10.0, free=20, now=clock, sleep=delays.append)
    for second in range(1000):
        clock.now = float(second)
        bad_calls.note("one a second")
    assert delays == []


def test_at_most_four_bad_calls_wait_for_their_answer():
    asleep, wake = threading.Semaphore(0), threading.Event()

    def sleep(seconds):
        asleep.release()
        wake.wait(20)

    bad_calls = BadCalls(free=0, sleep=sleep)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(bad_calls.note, "waits") for _ in range(4)]
        for _ in range(4):
            assert asleep.acquire(timeout=10)
        for _ in range(100):
            bad_calls.note("does not wait")  # it returns
        assert not asleep.acquire(blocking=False)
        wake.set()
        for call in waiting:
            call.result(timeout=10)
    assert bad_calls.total == 104
