"""What is taken from an isolate that is killed, with this process in the isolate's place."""

import os
import socket

import pytest

from edge_runtime.connection_marks import BEGUN, IDLE, UNKNOWN, ConnectionMarks, MarksReader, marks_file, number_of
from edge_runtime.supervisor.left_connections import LeftConnections

pytestmark = pytest.mark.needs("pidfd_getfd")


class Isolate:
    def __init__(self):
        self.file = marks_file()
        self.marks = ConnectionMarks(self.file)
        self.pidfd = os.pidfd_open(os.getpid())
        self.reader = MarksReader(os.dup(self.file))
        self.supervisor = LeftConnections(self.reader)
        self.own = {}
        self.open = []

    def connect(self, state):
        """A client's side of a connection, and its server's."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            served, _ = listener.accept()
        self.open += [client, served]
        self.own[served] = self.marks.next_own()
        self.mark(served, state)
        return client, served

    def mark(self, served, state):
        self.marks.marks[served.fileno()] = self.own[served] | state if state else UNKNOWN

    def number(self, served):
        return number_of(served.fileno(), self.own[served])

    def die(self, ran_away=0, undecided=()):
        found = self.supervisor.left(ran_away, set(undecided))
        self.open += [left.client for left in found]
        return {(left.client.getpeername(), left.idle, left.ran_away) for left in found}

    def close(self):
        for each in self.open:
            each.close()
        self.supervisor.close()
        self.reader.close()
        self.marks.marks.close()
        os.close(self.file)
        os.close(self.pidfd)


@pytest.fixture
def isolate():
    isolate = Isolate()
    yield isolate
    isolate.close()


def test_what_is_owed_to_each_client_is_known_after_the_death(isolate):
    idle, _ = isolate.connect(IDLE)
    begun, _ = isolate.connect(BEGUN)
    guilty, runs = isolate.connect(BEGUN)
    isolate.connect(UNKNOWN)
    isolate.supervisor.take(isolate.pidfd)
    assert isolate.die(isolate.number(runs)) == {
        (idle.getsockname(), True, False),
        (begun.getsockname(), False, False),
        (guilty.getsockname(), False, True),
    }


def test_marks_at_the_death_count_and_not_those_when_the_sockets_were_taken(isolate):
    _, answered = isolate.connect(BEGUN)
    asks, asked = isolate.connect(IDLE)
    isolate.supervisor.take(isolate.pidfd)
    isolate.mark(answered, UNKNOWN)
    isolate.mark(asked, BEGUN)
    isolate.connect(BEGUN)  # came too late
    assert isolate.die() == {(asks.getsockname(), False, False)}


def test_descriptor_that_has_become_another_connections_is_let_go(isolate):
    client, served = isolate.connect(BEGUN)
    isolate.supervisor.take(isolate.pidfd)
    isolate.own[served] = isolate.marks.next_own()
    isolate.mark(served, BEGUN)
    assert isolate.die() == set()
    served.close()
    assert client.recv(1) == b"", "nobody else holds it"


def test_unread_connection_that_was_not_confirmed_stays_with_who_passed_it(isolate):
    unread, passed = isolate.connect(IDLE)
    read, read_from = isolate.connect(IDLE)
    for client in (unread, read):
        client.sendall(b"GET")
    read_from.recv(3)
    isolate.supervisor.take(isolate.pidfd)
    undecided = [os.fstat(served.fileno()).st_ino for served in (passed, read_from)]
    assert isolate.die(undecided=undecided) == {(read.getsockname(), True, False)}


def test_marks_of_what_is_no_stream_or_not_open_take_nothing(isolate, tmp_path):
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    isolate.open += [datagrams, open(tmp_path / "file", "w")]  # noqa: SIM115
    for each in isolate.open:
        isolate.marks.marks[each.fileno()] = BEGUN
    isolate.marks.marks[60_000] = BEGUN
    isolate.marks.marks[60_001] = 255
    isolate.supervisor.take(isolate.pidfd)
    assert isolate.die() == set()
    assert (tmp_path / "file").read_text() == ""
