"""What clients are told whose requests an isolate had begun when it was killed."""

from __future__ import annotations

import socket
from typing import Final

from edge_runtime.supervisor.isolate import IsolateHandle
from edge_runtime.supervisor.left_connections import LeftConnection
from edge_runtime.supervisor.refusal import plain_answer

_RETRY_AFTER_S: Final = 1


def last_answer(left: LeftConnection, isolate: IsolateHandle, *, development: bool) -> bytes | None:
    """A whole response; None if the connection is just to end.

    The request for which the isolate was killed gets Cloudflare's page, as when it is stopped. Of the others it is not
    known how far they have got; whether to repeat one is its sender's decision. One that another isolate has relayed is
    repeated by that, where that is safe, when the connection ends.
    """
    reason = f"\n{isolate.how_it_ended()}\n" if development else ""
    if left.ran_away:
        return plain_answer(500, f"error code: 1102{reason}")
    if left.client.family == socket.AF_UNIX:
        return None
    why = ", because another one used more CPU time than it may" if isolate.killed_over_cpu else ""
    text = (
        f"The worker was restarted while it handled this request{why}. "
        f"What the request asked for may have been done in part.\n{reason}"
    )
    return plain_answer(503, text, retry_after_s=_RETRY_AFTER_S)


def send_now(client: socket.socket, answer: bytes) -> bytes:
    """Send what the kernel takes at once; returns the rest."""
    try:
        return answer[client.send(answer) :]
    except BlockingIOError:
        return answer
    except OSError:
        return b""  # the client has gone
