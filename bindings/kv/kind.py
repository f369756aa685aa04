"""KV as a kind of binding: `kv_namespaces` in the configuration, a KvNamespace in env."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from bindings.kind import BindingRuntime
from bindings.kv.namespace import KvNamespace
from bindings.kv.sweep import sweep_forever
from edge_runtime.config.decode import decode
from edge_runtime.config.model import Binding, Where
from edge_runtime.errors import ConfigError, StoreFailed

_SECTION: Final = "kv_namespaces"
_PLACEHOLDER: Final = re.compile(r"\s*(<.*>)?\s*", re.DOTALL)
_ID_MAX: Final = 256


class NamespaceSection(msgspec.Struct, frozen=True):
    """One item of `kv_namespaces`.

    `preview_id` and `remote` are read and have no effect: development has a data directory of its own, and the data is
    always here.
    """

    binding: str
    id: str | None = None
    preview_id: str | None = None
    remote: bool | None = None


class KvSpec(msgspec.Struct, frozen=True):
    """`namespace` is the key under which the data directory keeps the entries."""

    namespace: str


class KvKind:
    name = "kv"
    sections = (_SECTION,)

    def parse(self, sections: Mapping[str, object], worker: str, where: Where) -> Iterable[Binding]:
        if _SECTION not in sections:
            return
        items = decode(sections[_SECTION], list[NamespaceSection], where / _SECTION)
        for index, item in enumerate(items):
            place = where / _SECTION / index
            if not item.binding.isidentifier():
                raise ConfigError(
                    place.file, (place / "binding").at, f'the string "{item.binding}"', "a name that Python can spell"
                )
            namespace = namespace_id(item.id, worker, item.binding)
            if len(namespace.encode(errors="replace")) > _ID_MAX or not namespace.isprintable():
                raise ConfigError(
                    place.file, (place / "id").at, "an id that is too long or holds control characters",
                    f"up to {_ID_MAX} printable characters",
                )  # fmt: skip
            yield Binding(self.name, item.binding, KvSpec(namespace))

    def build(self, binding: Binding, runtime: BindingRuntime) -> KvNamespace:
        assert isinstance(binding.spec, KvSpec)
        return KvNamespace(binding.spec.namespace, runtime.store, runtime.clock)

    async def serve(self, bindings: Sequence[Binding], runtime: BindingRuntime) -> None:
        try:
            await sweep_forever(runtime.store, runtime.clock, runtime.random)
        except StoreFailed:
            return  # the isolate watches store.failed, and ends in good order for it


def namespace_id(given: str | None, worker: str, binding: str) -> str:
    """The namespace behind a binding: its id, or for a missing one and for placeholders such as
    "<YOUR_KV_NAMESPACE_ID>" one that belongs to this worker and binding alone."""
    if given is None or _PLACEHOLDER.fullmatch(given):
        return f"{worker}/{binding}"
    return given
