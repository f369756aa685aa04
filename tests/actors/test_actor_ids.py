import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.actors.ids import JURISDICTIONS, IdFactory

ids = IdFactory("shop-Cart")


@given(st.text())
def test_names_give_the_same_id_each_time(name):
    id = ids.from_name(name)
    assert id == ids.from_name(name)
    assert id.name == name
    assert len(id.toString()) == 64
    assert ids.owns(id)
    assert not IdFactory("shop-Other").owns(id)


@given(st.binary(min_size=16, max_size=16))
def test_unique_ids_have_no_name_and_read_back(random):
    id = ids.unique(random)
    assert id.name is None
    back = ids.from_string(str(id).upper())
    assert back == id
    assert back.equals(id)
    assert hash(back) == hash(id)


def test_the_name_is_not_recovered_from_the_string():
    assert ids.from_string(ids.from_name("ann").toString()).name is None


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "a" * 63, "a" * 65, None, 3, "a" * 64 + "\n"])
def test_malformed_ids_are_refused(text):
    with pytest.raises(TypeError, match="Invalid Durable Object ID: must be 64 hex digits"):
        ids.from_string(text)


def test_ids_of_other_namespaces_are_refused():
    foreign = IdFactory("shop-Other").from_name("ann").toString()
    with pytest.raises(TypeError, match=r"Durable Object ID is not valid for this namespace\."):
        ids.from_string(foreign)


@pytest.mark.parametrize("jurisdiction", JURISDICTIONS)
def test_an_id_tells_its_jurisdiction(jurisdiction):
    part = ids.within(jurisdiction)
    named, unique = part.from_name("ann"), part.unique(bytes(16))
    assert len({str(within.from_name("ann")) for within in (ids, *map(ids.within, JURISDICTIONS))}) == 5
    for id in (named, unique):
        assert id.jurisdiction == jurisdiction
        assert ids.from_string(str(id)).jurisdiction == jurisdiction
        assert part.from_string(str(id)) == id
        assert ids.owns(id)
    assert ids.from_name("ann").jurisdiction is None
    other = ids.within(next(other for other in JURISDICTIONS if other != jurisdiction))
    for stranger in (ids, other):
        with pytest.raises(TypeError, match="not valid for this namespace"):
            part.from_string(str(stranger.from_name("ann")))
