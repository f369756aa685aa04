"""Frames on Unix stream sockets: how processes send each other messages and descriptors. `frames` has their form."""

from __future__ import annotations

import array
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import trio

from edge_runtime.frames import ANY_CONTROL, FrameReader, Message, Received, encode_frame
from edge_runtime.limits import DESCRIPTORS_PER_FRAME_MAX, FRAME_MAX, SEND_SOON_MAX

_NO_SIGNAL: Final = int(socket.MSG_NOSIGNAL)  # a plain number: the enum's operators take microseconds
_READ_SIZE: Final = 64 * 1024
_ANCILLARY_SIZE: Final = socket.CMSG_SPACE(DESCRIPTORS_PER_FRAME_MAX * array.array("i").itemsize)


def _rights(fds: Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []


class BlockingChannel:
    """Frames on a blocking socket, for the single-threaded zygote and templates.

    `send` leaves the caller's descriptors open. An error on sending means the peer is gone (OSError).
    """

    def __init__(self, sock: socket.socket, receives: Any = ANY_CONTROL) -> None:
        sock.setblocking(True)
        self._socket = sock
        self._reader = FrameReader(receives)

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def has_frame(self) -> bool:
        """Whether `receive` returns without waiting for the socket; look before polling the descriptor."""
        return self._reader.has_frame

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        frame = encode_frame(message, len(fds))
        sent = self._socket.sendmsg([frame], _rights(fds), _NO_SIGNAL)
        if sent < len(frame):
            self._socket.sendall(memoryview(frame)[sent:], _NO_SIGNAL)

    def receive(self) -> Received | None:
        """The next message; None at the end of the stream, also one in the middle of a frame. Raises WireError."""
        while True:
            received = self._reader.next_frame()
            if received is not None:
                return received
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(_READ_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                data, ancillary, flags = b"", [], 0
            if not data:
                self._reader.close()
                return None
            self._reader.feed(data, ancillary, flags)

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


class Channel:
    """Frames on a socket of a trio program. One task receives; any number send.

    Takes the socket over, trio's or the standard library's.
    """

    def __init__(
        self,
        sock: socket.socket | trio.socket.SocketType,
        receives: Any = ANY_CONTROL,
        frame_max: int = FRAME_MAX,
    ) -> None:
        if not isinstance(sock, socket.socket):
            sock = socket.socket(fileno=sock.detach())
        sock.setblocking(False)
        self._socket = sock
        self._frame_max = frame_max
        self._reader = FrameReader(receives, frame_max)
        self._turn = trio.Lock()
        self._unsent: deque[bytes | memoryview] = deque()
        self.unsent_size = 0
        """Bytes that were posted and not sent yet."""
        self.dropped = 0
        """Messages of `send_soon` that were given up because the peer does not read, or is gone."""
        self.peer_gone = False
        """One of them was given up because the peer is gone, or this end closed."""

    def fileno(self) -> int:
        return self._socket.fileno()

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send one message; the caller keeps its descriptors. Messages arrive in the order of these calls.

        Cancelled means: not sent, or sent whole in a later call. Raises trio.BrokenResourceError when the peer is
        gone, trio.ClosedResourceError after `close`.
        """
        frame = encode_frame(message, len(fds), self._frame_max)
        if not self._turn.locked() and not self._unsent:
            await trio.lowlevel.checkpoint_if_cancelled()
            if not self._write_some(frame, fds):
                await trio.lowlevel.cancel_shielded_checkpoint()
                return
        async with self._turn:
            await self._flush()
            if self._write_some(frame, fds):
                if not self._unsent:
                    # Not a byte has gone, so the descriptors have not either.
                    await self._write_with_descriptors(frame, fds)
                await self._flush()

    def send_soon(self, message: Message) -> bool:
        """Send now as far as the socket takes it; what is left goes out with the next send.

        Never blocks and never raises for the peer's sake: beyond SEND_SOON_MAX waiting bytes, and when the peer is
        gone, the message is dropped, counted in `dropped`, and False returned.
        """
        frame = encode_frame(message)
        try:
            if not self._turn.locked():
                self._write_unsent()
                if not self._unsent:
                    if self._write_some(frame, ()) and not self._unsent:
                        self._keep(frame)
                    return True
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.dropped += 1
            self.peer_gone = True
            return False
        if self.unsent_size + len(frame) > SEND_SOON_MAX:
            self.dropped += 1
            return False
        self._keep(frame)
        return True

    def post(self, message: Message) -> int:
        """Send now as far as the socket takes it; `flush` sends what is left, before anything later.

        Never blocks. Returns how many bytes wait, of this message and earlier ones: whoever posts bounds them. Raises
        as `send` does.
        """
        frame = encode_frame(message, 0, self._frame_max)
        if self._unsent or self._turn.locked() or (self._write_some(frame, ()) and not self._unsent):
            self._keep(frame)
        return self.unsent_size

    async def flush(self) -> None:
        """Send everything that was posted. Raises as `send` does."""
        async with self._turn:
            await self._flush()

    async def receive(self) -> Received | None:
        """The next message and its descriptors; None at the end of the stream, also one in the middle of a frame.

        Always a checkpoint; nothing is lost by cancelling it. After WireError only `close` makes sense.
        """
        await trio.lowlevel.checkpoint()
        while True:
            received = self._reader.next_frame()
            if received is not None:
                return received
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(_READ_SIZE, _ANCILLARY_SIZE, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
                continue
            except ConnectionResetError:
                data, ancillary, flags = b"", [], 0
            except OSError as error:
                raise self._broken(error) from error
            if not data:
                self._reader.close()
                return None
            self._reader.feed(data, ancillary, flags)

    async def receive_some(self) -> list[Message] | None:
        """All messages that have come since, at least one; None at the end of the stream. For channels without
        descriptors: any that come are dropped by the kernel, and frames that announce some raise WireError.

        A checkpoint, and cheaper than `receive`: one look at the socket for all that is there.
        """
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                data = self._socket.recv(_READ_SIZE)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                data = b""
            except OSError as error:
                raise self._broken(error) from error
            if not data:
                self._reader.close()
                return None
            self._reader.feed(data, (), 0)
            messages: list[Message] = []
            while (received := self._reader.next_frame()) is not None:
                messages.append(received[0])
            if messages:
                return messages

    def close(self) -> None:
        """Close the socket; tasks waiting in `send` or `receive` get trio.ClosedResourceError."""
        self._reader.close()
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _keep(self, rest: bytes | memoryview) -> None:
        self._unsent.append(rest)
        self.unsent_size += len(rest)

    def _write_some(self, frame: bytes, fds: Sequence[int]) -> bool:
        """Try to write a frame; True if something is left: all of it (`_unsent` is empty then), or a rest in
        `_unsent`, which must go out before anything else."""
        try:
            if fds:
                sent = self._socket.sendmsg([frame], _rights(fds), _NO_SIGNAL)
            else:
                sent = self._socket.send(frame, _NO_SIGNAL)
        except BlockingIOError:
            return True
        except OSError as error:
            raise self._broken(error) from error
        if sent < len(frame):
            self._keep(memoryview(frame)[sent:])
            return True
        return False

    def _write_unsent(self) -> None:
        while self._unsent:
            first = self._unsent[0]
            try:
                sent = self._socket.send(first, _NO_SIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._broken(error) from error
            self.unsent_size -= sent
            if sent == len(first):
                self._unsent.popleft()
            else:
                self._unsent[0] = memoryview(first)[sent:]

    async def _flush(self) -> None:
        self._write_unsent()
        while self._unsent:
            await trio.lowlevel.wait_writable(self._socket)
            self._write_unsent()

    async def _write_with_descriptors(self, frame: bytes, fds: Sequence[int]) -> None:
        while True:
            await trio.lowlevel.wait_writable(self._socket)
            # Frames of send_soon that queued up behind this one's turn stay behind it unless they are already there.
            await self._flush()
            if not self._write_some(frame, fds) or self._unsent:
                return

    def _broken(self, error: OSError) -> Exception:
        if self._socket.fileno() < 0:
            return trio.ClosedResourceError("this channel was closed")
        if isinstance(error, BrokenPipeError | ConnectionError):
            return trio.BrokenResourceError(f"the other process is gone: {error}")
        return error
