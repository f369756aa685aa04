from types import ModuleType

import pytest

from edge_runtime.workers import DurableObject, Request, WorkerEntrypoint, WorkflowEntrypoint, handler
from edge_runtime.workers.exports import discover, relaxed_call_args, rpc_methods


class Mixin:
    def shared(self):
        return 1


class Default(WorkerEntrypoint):
    async def fetch(self, request): ...


class Named(Mixin, WorkerEntrypoint):
    @staticmethod
    def helper(): ...

    @classmethod
    def build(cls): ...

    def _private(self): ...

    async def call(self, x): ...


class Counter(DurableObject):
    async def increment(self): ...

    async def fetch(self, request): ...

    async def alarm(self): ...


class Flow(WorkflowEntrypoint):
    async def run(self, event, step): ...


def script(**names):
    module = ModuleType("script")
    vars(module).update(names)
    return module


def test_classes_are_exported_under_their_own_names():
    exports = discover(
        script(Default=Default, Alias=Named, Counter=Counter, Flow=Flow, Base=WorkerEntrypoint, _Hidden=Named, x=1),
        global_handlers_allowed=False,
    )
    assert exports.workers == {"Default": Default, "Named": Named}
    assert exports.objects == {"Counter": Counter}
    assert exports.workflows == {"Flow": Flow}
    assert exports.default is Default
    assert exports.handlers == {"fetch"}


def test_all_limits_what_is_looked_at():
    exports = discover(script(__all__=["Counter"], Default=Default, Counter=Counter), global_handlers_allowed=False)
    assert (exports.default, list(exports.objects)) == (None, ["Counter"])


def test_global_handlers_count_only_where_the_date_allows_them():
    module = script(on_fetch=lambda request: None, on_scheduled=lambda controller: None)
    old = discover(module, global_handlers_allowed=True)
    assert set(old.global_handlers) == old.handlers == {"fetch", "scheduled"}
    new = discover(module, global_handlers_allowed=False)
    assert (dict(new.global_handlers), new.ignored_handlers) == ({}, ("on_fetch", "on_scheduled"))


def test_both_styles_at_once_are_refused():
    module = script(on_fetch=lambda request: None, Default=Default)
    with pytest.raises(TypeError, match="Cannot define multiple default entrypoints"):
        discover(module, global_handlers_allowed=True)


def test_rpc_methods_are_public_plain_functions_with_inherited_ones():
    assert rpc_methods(Named) == {"shared", "call"}
    assert rpc_methods(Counter) == {"increment"}


def test_surplus_arguments_are_dropped():
    class Handlers:
        def none(self): ...
        def one(self, a): ...
        def optional(self, a, b=None): ...
        def many(self, *args): ...
        def keywords(self, *, option=1): ...

    h = Handlers()
    assert relaxed_call_args(h.none, (1, 2, 3)) == ()
    assert relaxed_call_args(h.one, (1, 2, 3)) == (1,)
    assert relaxed_call_args(h.optional, (1, 2, 3)) == (1, 2)
    assert relaxed_call_args(h.many, (1, 2, 3)) == (1, 2, 3)
    assert relaxed_call_args(h.keywords, (1,)) == ()
    assert relaxed_call_args(lambda a, b: None, (1,)) == (1,)


def test_handler_gives_a_request_for_a_js_request():
    @handler
    def on_fetch(request, env):
        return request, env

    request = Request("http://x/")
    assert on_fetch(request.js_object, "env") == (request, "env")
    assert on_fetch(request, "env") == (request, "env")
    assert on_fetch.__name__ == "on_fetch"


def test_entrypoints_keep_ctx_and_env():
    worker = Default("ctx", "env")
    assert (worker.ctx, worker.env) == ("ctx", "env")
