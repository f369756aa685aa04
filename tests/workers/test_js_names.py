"""The `js` and `pyodide` names, imported as scripts import them."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest
import trio
from edge_process import PATIENCE_S

from edge_runtime.compat.install import install_modules
from edge_runtime.promise import Promise
from edge_runtime.workers import Response
from edge_runtime.workers.js_object import JsException

install_modules()


def test_modules_are_the_same_under_both_names():
    import workers
    import workers.response
    from workers.workflows import NonRetryableError

    import edge_runtime.workers.workflows

    assert workers.Response is workers.response.Response is Response
    assert NonRetryableError is edge_runtime.workers.workflows.NonRetryableError
    assert edge_runtime.workers.workflows.__spec__.name == "edge_runtime.workers.workflows"


def test_every_name_of_the_sdk_can_be_imported():
    import workers

    for name in workers.__all__:
        assert getattr(workers, name) is not None
    from workers import asgi, wsgi
    from workers.entrypoints import DurableObjectAbort, DurableObjectContext
    from workers.rpc import JsDict
    from workers.utils import import_from_javascript

    assert asgi.fetch
    assert wsgi.fetch
    assert issubclass(DurableObjectAbort, BaseException)
    assert not issubclass(DurableObjectAbort, Exception)
    assert DurableObjectContext
    assert JsDict
    assert import_from_javascript("cloudflare:workers").env is workers.env
    with pytest.raises(ImportError, match="Failed to import 'cloudflare:nothing'"):
        import_from_javascript("cloudflare:nothing")


def test_missing_names_say_what_there_is():
    import js

    with pytest.raises(ImportError, match=r"js has no 'Nothing' in this runtime; available: .*Headers"):
        from js import Nothing  # noqa: F401
    with pytest.raises(AttributeError, match="js has no 'Nothing'"):
        _ = js.Nothing
    assert not hasattr(js, "Nothing")
    with pytest.raises(ImportError, match=r"pyodide.ffi has no 'nothing'"):
        from pyodide.ffi import nothing  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        import pyodide.nothing  # noqa: F401


def test_pyodide_is_not_imported_before_a_script_asks():
    code = (
        "import sys; from edge_runtime.compat.install import install_modules; install_modules(); import workers;"
        "assert not {'pyodide', 'js'} & {*sys.modules}; import pyodide; assert 'pyodide' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_workers_loads_no_http_client():
    code = "import sys, edge_runtime.workers; assert not {'httpx2', 'email', 'http.client', 'asyncio'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_to_js_adds_javascript_members():
    from js import Object
    from pyodide.ffi import JsProxy, to_js

    converted = to_js({"a": [1, (2,)], "b": b"xy"}, dict_converter=Object.fromEntries)
    assert converted.a.length == 2
    assert converted.to_py()["a"] == [1, [2]]
    assert isinstance(converted, JsProxy)
    assert to_js({"a": 1}).get("a") == to_js({"a": 1}).a == 1
    assert to_js({1, 2}).has(2)
    assert to_js("text") == "text"
    assert to_js(None) is None
    assert await Response(to_js(b"png").buffer).bytes() == b"png"
    marker = object()
    assert to_js(marker) is marker
    assert to_js([marker], default_converter=lambda value, convert, cache: "converted") == ["converted"]
    assert to_js([[1]], depth=1) == [[1]]


def test_proxies_pass_calls_on_until_destroyed():
    from pyodide.ffi import create_once_callable, create_proxy, destroy_proxies

    proxy = create_proxy(lambda value: value + 1)
    assert proxy(1) == 2
    assert create_proxy([1]).append is not None
    destroy_proxies([proxy])
    with pytest.raises(JsException, match="already been destroyed"):
        proxy(1)
    once = create_once_callable(lambda: "x")
    assert once() == "x"
    with pytest.raises(JsException):
        once()


def test_collections_and_classes():
    import js

    assert js.Object.entries(js.Object.fromEntries([["a", 1]])) == [["a", 1]]
    mapping = js.Map.new([[1, "one"]])
    mapping.set("b", 2)
    assert (mapping.has(1), mapping.size, mapping.b, mapping.delete(1), mapping.size) == (True, 2, 2, True, 1)
    assert js.Set.new([1, 1]).size == 1
    assert js.Array.new() == []
    assert js.Array.isArray(js.Array.of(1, 2))
    assert js.JSON.stringify({"a": [1, None]}) == '{"a":[1,null]}'
    assert js.JSON.parse('{"a": {"b": 1}}').a.b == 1
    assert js.Number.new("1234").to_py() == 1234
    assert js.RegExp.new("ab+c", "i").test("xABBC")
    assert js.Error.new("m").message == "m"
    assert js.undefined is None
    assert js.Date.new("1970-01-01T00:00:01Z").getTime() == 1000
    assert js.Date.new(0).toISOString() == "1970-01-01T00:00:00.000Z"
    assert js.Date.new(1500).to_py() == datetime.fromtimestamp(1.5, UTC)
    assert js.Date.now() > 1_700_000_000_000
    assert js.URL.new("http://a/b?c=d").searchParams.get("c") == "d"
    assert js.Response.new("x").constructor.name == "Response"


def test_typed_arrays():
    import js

    array = js.Uint8Array.new(4)
    array[0] = 257
    array.set([7, 8], 2)
    assert list(array) == [1, 0, 7, 8]
    assert (array.length, array.byteLength, array.subarray(2).to_bytes()) == (4, 4, b"\x07\x08")
    assert list(js.Int16Array.new(array.buffer)) == [1, 2055]
    assert list(js.Uint8ClampedArray.new([300, -5])) == [255, 0]
    assert list(js.Float32Array.new([1.5])) == [1.5]
    with pytest.raises(ValueError, match="whole elements"):
        js.Int16Array.new(js.ArrayBuffer.new(3))
    assert len(set(js.crypto.getRandomValues(js.Uint8Array.new(64)))) > 1
    assert len(js.crypto.randomUUID()) == 36


def test_text_functions():
    import js

    assert js.atob(js.btoa("h\u00e9")) == "h\u00e9"
    assert js.encodeURIComponent("a b/ü") == "a%20b%2F%C3%BC"
    assert js.decodeURIComponent("a%20b") == "a b"
    assert js.TextDecoder.new().decode(js.TextEncoder.new().encode("ü")) == "ü"
    with pytest.raises(JsException, match="InvalidCharacterError"):
        js.btoa("€")


async def test_timers_belong_to_their_event(event):
    import js

    fired = []

    async def script():
        stopped = js.setTimeout(lambda: fired.append("never"), 5)
        js.clearTimeout(stopped)
        js.setTimeout(fired.append, 1, "once")
        repeated = js.setInterval(lambda: fired.append("again"), 1)
        js.queueMicrotask(lambda: fired.append("soon"))
        return repeated

    repeated = await event.run(script)
    with trio.fail_after(PATIENCE_S):
        while fired.count("again") < 2:
            await trio.sleep(0.001)
    js.clearInterval(repeated)
    assert fired[0] == "soon"
    assert fired.count("once") == 1
    assert "never" not in fired


async def test_digest(event):
    import js

    digest = await js.crypto.subtle.digest("SHA-256", b"")
    assert digest.to_bytes().hex().startswith("e3b0c442")
    with pytest.raises(JsException, match="NotSupportedError"):
        await js.crypto.subtle.digest("SHA-3", b"")


async def test_run_sync_on_the_loop_explains_itself(event):
    from pyodide.ffi import run_sync

    async def script():
        with pytest.raises(RuntimeError, match="await it"):
            run_sync(Promise())

    await event.run(script)


async def test_wait_until_takes_coroutines_and_refuses_functions(event):
    from workers import wait_until, waitUntil

    done = []

    async def work():
        done.append(1)

    async def script():
        waitUntil(work())
        wait_until(work())
        with pytest.raises(TypeError, match="call the function first"):
            waitUntil(work)

    await event.run(script)
    await event.finish()
    assert done == [1, 1]
