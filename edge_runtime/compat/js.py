"""What scripts import as `js`: JavaScript's names, standing on Python objects.

Objects are constructed with `Name.new(...)`. A name that is not here says so, with what is.
"""

# ruff: noqa: N816 - JavaScript's own names

from __future__ import annotations

from types import SimpleNamespace
from typing import NoReturn

from edge_runtime.compat import js_globals
from edge_runtime.compat.js_collections import (
    ErrorClass,
    Object,
    RegExp,
)
from edge_runtime.compat.js_collections import (
    JsMap as Map,
)
from edge_runtime.compat.js_collections import (
    JsNumber as Number,
)
from edge_runtime.compat.js_collections import (
    JsSet as Set,
)
from edge_runtime.compat.missing_names import refuse
from edge_runtime.workers import js_json
from edge_runtime.workers.abort import AbortController, AbortSignal
from edge_runtime.workers.blob import Blob, File
from edge_runtime.workers.buffers import (
    ArrayBuffer,
    BigInt64Array,
    BigUint64Array,
    DataView,
    Float32Array,
    Float64Array,
    Int8Array,
    Int16Array,
    Int32Array,
    Uint8Array,
    Uint8ClampedArray,
    Uint16Array,
    Uint32Array,
)
from edge_runtime.workers.formdata import FormData
from edge_runtime.workers.headers import Headers
from edge_runtime.workers.js_date import JsDate as Date
from edge_runtime.workers.js_values import JsArray as Array
from edge_runtime.workers.request import JsRequest as Request
from edge_runtime.workers.response import JsResponse as Response
from edge_runtime.workers.streams import ReadableStream
from edge_runtime.workers.transform_stream import (
    FixedLengthStream,
    IdentityTransformStream,
    TransformStream,
    WritableStream,
)
from edge_runtime.workers.url import URL, URLSearchParams
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_events import CloseEvent, ErrorEvent, Event, EventTarget, MessageEvent
from edge_runtime.workers.websocket_pair import WebSocketPair, WebSocketRequestResponsePair

Error = ErrorClass("Error")
TypeError = ErrorClass("TypeError")
RangeError = ErrorClass("RangeError")
SyntaxError = ErrorClass("SyntaxError")
JSON = SimpleNamespace(stringify=js_json.stringify, parse=js_json.parse)
TextDecoder = js_globals.TextDecoder
TextEncoder = js_globals.TextEncoder
atob = js_globals.atob
btoa = js_globals.btoa
console = js_globals.Console()
crypto = js_globals.Crypto()
decodeURIComponent = js_globals.decode_uri_component
encodeURI = js_globals.encode_uri
encodeURIComponent = js_globals.encode_uri_component
fetch = js_globals.fetch
navigator = SimpleNamespace(userAgent="Cloudflare-Workers")
performance = js_globals.Performance()
queueMicrotask = js_globals.queue_microtask
structuredClone = js_globals.structured_clone
undefined = None
_timers = js_globals.Timers()
setTimeout = _timers.set_timeout
setInterval = _timers.set_interval
clearTimeout = clearInterval = _timers.clear

__all__ = [
    "JSON", "URL", "AbortController", "AbortSignal", "Array", "ArrayBuffer", "BigInt64Array", "BigUint64Array", "Blob",
    "CloseEvent", "DataView", "Date", "Error", "ErrorEvent", "Event", "EventTarget", "File", "FixedLengthStream",
    "Float32Array", "Float64Array", "FormData", "Headers", "IdentityTransformStream", "Int8Array", "Int16Array",
    "Int32Array", "Map", "MessageEvent", "Number", "Object", "RangeError", "ReadableStream", "RegExp", "Request",
    "Response", "Set", "SyntaxError", "TextDecoder", "TextEncoder", "TransformStream", "TypeError", "URLSearchParams",
    "Uint8Array", "Uint8ClampedArray", "Uint16Array", "Uint32Array", "WebSocket", "WebSocketPair",
    "WebSocketRequestResponsePair", "WritableStream", "atob", "btoa", "clearInterval", "clearTimeout", "console",
    "crypto", "decodeURIComponent", "encodeURI", "encodeURIComponent", "fetch", "navigator", "performance",
    "queueMicrotask", "setInterval", "setTimeout", "structuredClone", "undefined",
]  # fmt: skip


def __getattr__(name: str) -> NoReturn:
    refuse("js", name, __all__)
