from __future__ import annotations

import re

import pytest
from kv_fakes import StillClock

from bindings.kv.namespace import KvNamespace
from bindings.kv.validation import KvError
from edge_runtime.limits import KV_VALUE_MAX
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers.js_object import JsException

CLOCK = StillClock()
NOW_S = CLOCK.now_ms() // 1000
LONG = "x" * 513
NOT_AN_OBJECT = "takes its options as a dict or as keyword arguments"
BAD_VALUE = "KV put() accepts only strings, ArrayBuffers, ArrayBufferViews, and ReadableStreams as values."
UNKNOWN_TYPE = 'Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".'
GREATER = "Please specify integer greater than 0."
EPOCH = "Please specify integer greater than the current number of seconds since the UNIX epoch."
FUTURE = "Expiration times must be at least 60 seconds in the future."

REFUSED = [
    # call, arguments, options, class, text
    ("get", ("",), {}, TypeError, "Key name cannot be empty."),
    ("get", (".",), {}, TypeError, '"." is not allowed as a key name.'),
    ("get", ("..",), {}, TypeError, '".." is not allowed as a key name.'),
    ("get", (LONG,), {}, KvError, "KV GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512."),
    (
        "get",
        ("é" * 257,),
        {},
        KvError,
        "KV GET failed: 414 UTF-8 encoded length of 514 exceeds key length limit of 512.",
    ),
    ("get", (5,), {}, TypeError, "KV key names are strings, found int"),
    ("get", (None,), {}, TypeError, "KV key names are strings, found NoneType"),
    ("get", (("a", "b"),), {}, TypeError, "KV key names are strings, found tuple"),
    ("get", ("k", "blob"), {}, TypeError, UNKNOWN_TYPE),
    ("get", ("k",), {"type": 5}, TypeError, UNKNOWN_TYPE),
    ("get", ("k", 5), {}, TypeError, NOT_AN_OBJECT),
    (
        "get",
        ("k",),
        {"cacheTtl": 29},
        KvError,
        "KV GET failed: 400 Invalid cache_ttl of 29. Cache TTL must be at least 30.",
    ),
    (
        "get",
        ("k",),
        {"cacheTtl": "x"},
        KvError,
        "KV GET failed: 400 Invalid cache_ttl of x. Cache TTL must be at least 30.",
    ),
    ("get", ("k",), {"cache_ttl": 60}, TypeError, "KV get() has no option 'cache_ttl'; it is spelled 'cacheTtl'"),
    ("getWithMetadata", ("",), {}, TypeError, "Key name cannot be empty."),
    ("getWithMetadata", (LONG,), {}, KvError, "KV GET failed: 414 UTF-8 encoded length of 513"),
    ("get", ([],), {}, KvError, "KV GET_BULK failed: 400 You must request a minimum of 1 key"),
    (
        "get",
        ([str(i) for i in range(101)],),
        {},
        KvError,
        "KV GET_BULK failed: 400 You can request a maximum of 100 keys",
    ),
    (
        "get",
        (["k"], "stream"),
        {},
        KvError,
        'KV GET_BULK failed: 400 "stream" is not a valid type. Use "json" or "text"',
    ),
    ("get", (["k", ""],), {}, TypeError, "Key name cannot be empty."),
    ("get", (["k", LONG],), {}, KvError, "KV GET_BULK failed: 414 UTF-8 encoded length of 513"),
    ("get", (["k"],), {"cacheTtl": 5}, KvError, "KV GET_BULK failed: 400 Invalid cache_ttl of 5."),
    ("get", (["k", None],), {}, TypeError, "KV key names are strings, found NoneType"),
    ("getWithMetadata", (["k"], "arrayBuffer"), {}, KvError, '"arrayBuffer" is not a valid type.'),
    ("put", ("", "v"), {}, TypeError, "Key name cannot be empty."),
    ("put", ("..", "v"), {}, TypeError, '".." is not allowed as a key name.'),
    (
        "put",
        (LONG, "v"),
        {},
        KvError,
        "KV PUT failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
    ),
    ("put", ("k", {"a": 1}), {}, TypeError, BAD_VALUE),
    ("put", ("k", ["a"]), {}, TypeError, BAD_VALUE),
    ("put", ("k", None), {}, TypeError, BAD_VALUE),
    ("put", ("k", 5), {}, TypeError, BAD_VALUE),
    (
        "put",
        ("k", bytes(KV_VALUE_MAX + 1)),
        {},
        KvError,
        "KV PUT failed: 413 Value length of 26214401 exceeds limit of 26214400.",
    ),
    ("put", ("k", "v"), {"expirationTtl": 0}, KvError, f"KV PUT failed: 400 Invalid expiration_ttl of 0. {GREATER}"),
    ("put", ("k", "v"), {"expirationTtl": -1}, KvError, f"KV PUT failed: 400 Invalid expiration_ttl of -1. {GREATER}"),
    (
        "put",
        ("k", "v"),
        {"expirationTtl": "soon"},
        KvError,
        f"KV PUT failed: 400 Invalid expiration_ttl of soon. {GREATER}",
    ),
    (
        "put",
        ("k", "v"),
        {"expirationTtl": float("nan")},
        KvError,
        f"KV PUT failed: 400 Invalid expiration_ttl of nan. {GREATER}",
    ),
    (
        "put",
        ("k", "v"),
        {"expirationTtl": True},
        KvError,
        f"KV PUT failed: 400 Invalid expiration_ttl of True. {GREATER}",
    ),
    (
        "put",
        ("k", "v"),
        {"expirationTtl": 59},
        KvError,
        "KV PUT failed: 400 Invalid expiration_ttl of 59. Expiration TTL must be at least 60.",
    ),
    ("put", ("k", "v"), {"expirationTtl": 2**60}, KvError, "KV PUT failed: 400 Invalid expiration of "),
    ("put", ("k", "v"), {"expiration": NOW_S}, KvError, f"KV PUT failed: 400 Invalid expiration of {NOW_S}. {EPOCH}"),
    ("put", ("k", "v"), {"expiration": 0}, KvError, f"KV PUT failed: 400 Invalid expiration of 0. {EPOCH}"),
    ("put", ("k", "v"), {"expiration": "x"}, KvError, f"KV PUT failed: 400 Invalid expiration of x. {EPOCH}"),
    (
        "put",
        ("k", "v"),
        {"expiration": NOW_S + 59},
        KvError,
        f"KV PUT failed: 400 Invalid expiration of {NOW_S + 59}. {FUTURE}",
    ),
    (
        "put",
        ("k", "v"),
        {"metadata": "x" * 1023},
        KvError,
        "KV PUT failed: 413 Metadata length of 1025 exceeds limit of 1024.",
    ),
    ("put", ("k", "v"), {"metadata": object()}, TypeError, "KV metadata must be a value that JSON can hold"),
    (
        "put",
        ("k", "v"),
        {"expiration_ttl": 60},
        TypeError,
        "KV put() has no option 'expiration_ttl'; it is spelled 'expirationTtl'",
    ),
    ("put", ("k", "v", 60), {}, TypeError, NOT_AN_OBJECT),
    ("delete", ("",), {}, TypeError, "Key name cannot be empty."),
    (
        "delete",
        (LONG,),
        {},
        KvError,
        "KV DELETE failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
    ),
    (
        "list",
        (),
        {"limit": 0},
        KvError,
        "KV GET failed: 400 Invalid key_count_limit of 0. Please specify an integer greater than 0.",
    ),
    ("list", (), {"limit": -5}, KvError, "KV GET failed: 400 Invalid key_count_limit of -5."),
    ("list", (), {"limit": "many"}, KvError, "KV GET failed: 400 Invalid key_count_limit of many."),
    (
        "list",
        (),
        {"limit": 1001},
        KvError,
        "KV GET failed: 400 Invalid key_count_limit of 1001. Please specify an integer less than 1000.",
    ),
    (
        "list",
        (),
        {"prefix": LONG},
        KvError,
        "KV GET failed: 414 UTF-8 encoded length of 513 exceeds key length limit of 512.",
    ),
    ("list", (), {"prefix": 5}, TypeError, "KV list() option 'prefix' must be a string, found int"),
    ("list", (), {"cursor": "garbage"}, KvError, "KV GET failed: 400 Invalid cursor."),
    ("list", ("prefix",), {}, TypeError, NOT_AN_OBJECT),
]


@pytest.mark.parametrize(("call", "arguments", "options", "kind", "text"), REFUSED)
def test_refused_with_cloudflares_text_and_nothing_written(call, arguments, options, kind, text):
    store = MemoryStore(manual=True)
    promise = getattr(KvNamespace("ns", store, CLOCK), call)(*arguments, **options)
    with pytest.raises(kind, match=re.escape(text)):
        promise.result()
    assert store.queued == 0


def test_kv_error_is_a_javascript_error_with_plain_message():
    promise = KvNamespace("ns", MemoryStore(manual=True), CLOCK).get(LONG)
    error = promise.error
    assert isinstance(error, JsException)
    assert error.name == "Error"
    assert error.message.startswith("KV GET failed: 414 ")
    assert (error.operation, error.status) == ("GET", 414)


@pytest.mark.parametrize(
    ("options", "expires_s"),
    [
        ({"expirationTtl": 60}, NOW_S + 60),
        ({"expirationTtl": "90"}, NOW_S + 90),
        ({"expirationTtl": 60.9}, NOW_S + 60),
        ({"expiration": NOW_S + 60}, NOW_S + 60),
        ({"expiration": float(NOW_S + 61)}, NOW_S + 61),
        ({"expiration": 5, "expirationTtl": 100}, NOW_S + 100),
        ({"metadata": "x" * 1022}, None),
    ],
)
def test_accepted_at_the_edge_of_what_is_allowed(options, expires_s):
    store = MemoryStore(manual=True)
    kv = KvNamespace("ns", store, CLOCK)
    promise = kv.put("k", "v", options)
    store.commit_group()
    promise.result()
    assert kv.list().result()["keys"][0].get("expiration") == expires_s


def test_bulk_get_of_more_than_25_mib_together_is_refused():
    store = MemoryStore(manual=True)
    kv = KvNamespace("ns", store, CLOCK)
    for key in "ab":
        kv.put(key, bytes(KV_VALUE_MAX // 2 + 1))
    store.commit_group()
    assert len(kv.get(["a"]).result()["a"]) == KV_VALUE_MAX // 2 + 1
    with pytest.raises(KvError, match="KV GET_BULK failed: 413 Total size of request exceeds the limit of 25MB"):
        kv.get(["a", "b"]).result()


def test_bulk_get_as_json_of_other_text_is_refused():
    store = MemoryStore(manual=True)
    kv = KvNamespace("ns", store, CLOCK)
    kv.put("a", "1")
    kv.put("b", "not json")
    store.commit_group()
    with pytest.raises(KvError, match="400 At least one of the requested keys corresponds to a non-json value"):
        kv.get(["a", "b"], "json").result()
