"""Arguments, results, requests, responses and errors in the form in which they travel between isolates."""

from __future__ import annotations

from typing import Any, Final, Protocol

from edge_runtime.errors import ActorBroken, ConnectionLost, StoreCorrupt, UsageError, WireError
from edge_runtime.isolate.peers.frames import Body, Failed, Packed, Reference, RequestHead, ResponseHead
from edge_runtime.limits import BODY_CHUNK, RPC_VALUE_MAX
from edge_runtime.store import values
from edge_runtime.workers.blob import Blob, File
from edge_runtime.workers.body import Payload
from edge_runtime.workers.formdata import FormData
from edge_runtime.workers.js_object import JsException, data_clone_error
from edge_runtime.workers.js_values import JsDict
from edge_runtime.workers.lending import Target
from edge_runtime.workers.multipart import decode_form, encode_multipart
from edge_runtime.workers.request import Request
from edge_runtime.workers.response import FetchResponse, Response
from edge_runtime.workers.rpc_size import too_large
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.workflows import NonRetryableError


class Ends(Protocol):
    """The link's ends of what goes by reference."""

    def lend(self, target: Target) -> int: ...

    def borrow(self, number: int) -> Target: ...

    def send_stream(self, stream: ReadableStream) -> int: ...

    def receive_stream(self, number: int) -> ReadableStream: ...

    def send_socket(self, socket: WebSocket) -> int: ...

    def receive_socket(self, number: int) -> WebSocket: ...


def pack(plain: Any, ends: Ends) -> Packed:
    """A value in plain form (`conversion.to_wire`), ready to travel.

    Raises JsException: DataCloneError for what cannot, an Error for what is too large.
    """
    references: list[Reference] = []
    try:
        encoded = values.encode(plain)
    except TypeError:
        # Refused before anything is lent: what goes by reference may stand beside what cannot go at all.
        _check(plain)
        stripped = _strip(plain, (), references, ends)
        encoded = values.encode(stripped)
    except ValueError as error:
        raise JsException(str(error), "DataCloneError") from None
    if len(encoded) > RPC_VALUE_MAX:
        raise too_large(len(encoded))
    return Packed(encoded, tuple(references))


def unpack_arguments(packed: Packed, ends: Ends) -> list[Any]:
    args = unpack(packed, ends)
    if not isinstance(args, list):
        raise WireError("the arguments of a call are not a list")
    return args


def _is_reference(value: Any) -> bool:
    return isinstance(value, (Request, FetchResponse, ReadableStream, Blob, FormData)) or hasattr(value, "invoke")


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _check(item)
    elif isinstance(value, list):
        for item in value:
            _check(item)
    elif not _is_reference(value):
        try:
            values.encode(value)
        except TypeError:
            raise data_clone_error(value) from None


def _strip(value: Any, path: tuple[int | str, ...], references: list[Reference], ends: Ends) -> Any:
    if isinstance(value, dict):
        return {key: _strip(item, (*path, key), references, ends) for key, item in value.items()}
    if isinstance(value, list):
        return [_strip(item, (*path, index), references, ends) for index, item in enumerate(value)]
    if not _is_reference(value):
        return value
    references.append(_reference(value, path, ends))
    return None


def _reference(value: Any, path: tuple[int | str, ...], ends: Ends) -> Reference:
    if isinstance(value, Request):
        return Reference(path, "request", request=pack_request(value, ends))
    if isinstance(value, FetchResponse):
        return Reference(path, "response", response=pack_response(value, ends))
    if isinstance(value, ReadableStream):
        return Reference(path, "stream", ends.send_stream(value))
    if isinstance(value, File):
        return Reference(path, "file", value.last_modified, data=value.data, text=value.content_type, name=value.name)
    if isinstance(value, Blob):
        return Reference(path, "blob", data=value.data, text=value.content_type)
    if isinstance(value, FormData):
        data, content_type = encode_multipart(value.entry_list())
        return Reference(path, "form", data=data, text=content_type)
    return Reference(path, "stub", ends.lend(value))


def unpack(packed: Packed, ends: Ends) -> Any:
    """The value in plain form. WireError for what no `pack` made."""
    try:
        plain = values.decode(packed.value)
        for reference in packed.references:
            plain = _put(plain, reference.path, _referred(reference, ends))
    except (StoreCorrupt, LookupError, TypeError, ValueError) as error:
        raise WireError(f"a value between isolates is none: {error}") from error
    return plain


def _put(plain: Any, path: tuple[int | str, ...], value: Any) -> Any:
    if not path:
        return value
    at = plain
    for part in path[:-1]:
        at = at[part]
    if at[path[-1]] is not None:
        raise ValueError(f"there is something at {path} already")
    at[path[-1]] = value
    return plain


def _referred(reference: Reference, ends: Ends) -> Any:
    match reference.kind:
        case "stub":
            return ends.borrow(reference.number)
        case "stream":
            return ends.receive_stream(reference.number)
        case "request" if reference.request is not None:
            return unpack_request(reference.request, ends)
        case "response" if reference.response is not None:
            return unpack_response(reference.response, ends)
        case "blob":
            return Blob([reference.data], reference.text)
        case "file":
            return File([reference.data], reference.name, reference.text, last_modified=reference.number)
        case "form":
            return FormData.of_entries(decode_form(reference.data, reference.text))
    raise ValueError(f"a {reference.kind} without its head")


def pack_request(request: Request, ends: Ends) -> RequestHead:
    """Its body is used up. OSError or TypeError if it was before."""
    cf = None if request._cf is None else values.encode(dict(request._cf))
    body = _pack_body(request._payload, ends)
    return RequestHead(request._method, request.url, tuple(request._raw_headers), request._redirect, cf, body)


def unpack_request(head: RequestHead, ends: Ends) -> Request:
    request = Request._incoming(head.method, head.url, list(head.headers), None)
    request._redirect = head.redirect
    if head.cf is not None:
        cf = values.decode(head.cf)
        if not isinstance(cf, dict):
            raise WireError("the cf of a request is not an object")
        request._cf = JsDict(cf)
    request._payload = _unpack_body(head.body, ends)
    return request


def pack_response(response: FetchResponse, ends: Ends) -> ResponseHead:
    """Its body is used up, and its WebSocket. TypeError if they were before."""
    try:
        body = _pack_body(response._payload, ends)
    except OSError:
        raise TypeError("Body has already been used. It can only be used once.") from None
    return ResponseHead(
        response.status,
        response._status_text,
        response.url,
        response.redirected,
        tuple(response._raw_headers),
        body,
        None if response.web_socket is None else ends.send_socket(response.web_socket),
    )


def unpack_response(head: ResponseHead, ends: Ends) -> Response:
    response = Response._of(head.status, list(head.headers), _unpack_body(head.body, ends), head.status_text)
    response.url, response.redirected = head.url, head.redirected
    if head.socket is not None:
        response.web_socket = ends.receive_socket(head.socket)
    return response


def _pack_body(payload: Payload, ends: Ends) -> Body:
    body = payload.take()
    if body is None:
        return Body()
    if isinstance(body, bytes):
        if len(body) <= BODY_CHUNK:
            return Body(data=body)
        body = ReadableStream.of_bytes(body)
    return Body(stream=ends.send_stream(body))


def _unpack_body(body: Body, ends: Ends) -> Payload:
    if body.stream is not None:
        return Payload(None, ends.receive_stream(body.stream))
    return Payload(body.data)


_PLAIN_ERRORS: Final[dict[str, type[Exception]]] = {
    "TypeError": TypeError,
    "ValueError": ValueError,
    "NonRetryableError": NonRetryableError,
    "UsageError": UsageError,
}


def pack_error(call: int, error: BaseException) -> Failed:
    if isinstance(error, ActorBroken):
        kind = "ConnectionLost" if isinstance(error, ConnectionLost) else "ActorBroken"
        return Failed(
            call,
            kind,
            str(error),
            retryable=error.retryable,
            overloaded=error.overloaded,
            reset=error.durableObjectReset,
        )
    remote = bool(getattr(error, "remote", False))
    if isinstance(error, JsException):
        return Failed(call, "JsException", error.message, error.name, remote)
    for name, kept in _PLAIN_ERRORS.items():
        if isinstance(error, kept):
            return Failed(call, name, str(error), remote=remote)
    return Failed(call, "Exception", str(error) or type(error).__name__, remote=remote)


def unpack_error(failed: Failed) -> Exception:
    """The error as the caller sees it; an unknown class is an Exception."""
    error: Exception
    match failed.error:
        case "ConnectionLost":
            return ConnectionLost()
        case "ActorBroken":
            return ActorBroken(
                failed.message, retryable=failed.retryable, overloaded=failed.overloaded, reset=failed.reset
            )
        case "JsException":
            error = JsException(failed.message, failed.name or "Error")
        case name:
            error = _PLAIN_ERRORS.get(name, Exception)(failed.message)
    if failed.remote:
        error.__dict__["remote"] = True
    return error
