from __future__ import annotations

import pytest

from bindings.kv import KIND
from bindings.kv.kind import KvSpec, namespace_id
from edge_runtime.config.model import Binding, Where
from edge_runtime.errors import ConfigError

WHERE = Where("wrangler.jsonc")


def parsed(value: object) -> list[Binding]:
    return list(KIND.parse({"kv_namespaces": value}, "shop", WHERE))


def test_each_item_is_a_binding():
    assert parsed(
        [{"binding": "A", "id": "abc"}, {"binding": "B", "id": "def", "preview_id": "x", "remote": True}]
    ) == [
        Binding("kv", "A", KvSpec("abc")),
        Binding("kv", "B", KvSpec("def")),
    ]


def test_absent_section_gives_no_binding():
    assert list(KIND.parse({}, "shop", WHERE)) == []


@pytest.mark.parametrize("given", [None, "", "  ", "<YOUR_KV_NAMESPACE_ID>", " <id> "])
def test_placeholder_ids_belong_to_worker_and_binding(given):
    assert namespace_id(given, "shop", "CACHE") == "shop/CACHE"


def test_real_ids_are_shared_between_workers():
    assert namespace_id("0f2ac74b498b48028cb68387c421e279", "shop", "A") == "0f2ac74b498b48028cb68387c421e279"
    assert namespace_id("0f2ac74b498b48028cb68387c421e279", "other", "B") == "0f2ac74b498b48028cb68387c421e279"


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ({"binding": "A"}, "kv_namespaces"),
        ([{"id": "x"}], "kv_namespaces[0].binding"),
        ([{"binding": "A"}, {"binding": 5}], "kv_namespaces[1].binding"),
        ([{"binding": "not a name"}], "kv_namespaces[0].binding"),
        ([{"binding": ""}], "kv_namespaces[0].binding"),
        ([{"binding": "A", "id": 5}], "kv_namespaces[0].id"),
        ([{"binding": "A", "id": "a\nb"}], "kv_namespaces[0].id"),
        ([{"binding": "A", "id": "x" * 257}], "kv_namespaces[0].id"),
    ],
)
def test_wrong_values_are_named_by_their_place(value, at):
    with pytest.raises(ConfigError) as caught:
        parsed(value)
    assert caught.value.at == at
    assert caught.value.file == "wrangler.jsonc"
