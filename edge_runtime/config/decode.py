"""Decoding one section of a configuration into records, with errors that say exactly which value is wrong.

`decode` is what binding kinds use. Warnings (unknown keys) go to the collector that `load_config` opens around the
kinds; where none is open they are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast, overload

import msgspec
import msgspec.inspect as inspect

from edge_runtime.config.model import Where
from edge_runtime.config.wording import expectation, names, nearest, quoted, shown
from edge_runtime.errors import ConfigError

T = TypeVar("T")

_collector: ContextVar[list[str] | None] = ContextVar("config_warnings", default=None)

_INVALID_TEXT = {
    "Invalid decimal string": "a number",
    "Invalid RFC3339 encoded date": "a date such as 2026-08-20",
}
"""What msgspec says of text in place of something that text can stand for."""

_ANY_KEY = "..."
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]|\[(?P<any>\.\.\.)\]")


@contextmanager
def collecting_warnings() -> Iterator[list[str]]:
    """Gather the warnings of everything decoded inside; the list is in the order of finding."""
    found: list[str] = []
    token = _collector.set(found)
    try:
        yield found
    finally:
        _collector.reset(token)


def warn(where: Where, text: str) -> None:
    """Add "file: key path: text" to the open collector."""
    found = _collector.get()
    if found is not None:
        found.append(f"{where.file}: {where.at}: {text}" if where.at else f"{where.file}: {text}")


def warn_unknown(name: str, known: Collection[str], where: Where) -> None:
    """Warn of a key that nothing reads, naming the known key it resembles."""
    meant = nearest(name, known)
    hint = f"did you mean {quoted(meant)}?" if meant else f"known here: {names(sorted(known))}"
    warn(where / name, f"unknown key, ignored; {hint}")


@overload
def decode(value: object, type: type[T], where: Where) -> T: ...
@overload
def decode(value: object, type: Any, where: Where) -> Any: ...
def decode(value: object, type: Any, where: Where) -> Any:
    """Convert plain data (of JSON or TOML) to `type`; strict: no text becomes a number.

    Keys that a Struct or dataclass does not have give a warning, or an error where the Struct forbids them.
    ValueErrors of a `__post_init__` are reported at the record that raised them.

    Raises:
        ConfigError: with the path of the wrong value below `where`.
    """
    try:
        result = msgspec.convert(value, type)
    except msgspec.ValidationError as error:
        raise _located(str(error), value, type, where) from None
    _warn_unread(value, result, where)
    return result


def _located(message: str, value: object, type: type[object], where: Where) -> ConfigError:
    """The ConfigError for a message of msgspec, which names a place as in "... - at `$.a[0].b`"."""
    text, _, place = message.rpartition(" - at ")
    if not text:
        text, place = message, ""
    in_key = place.startswith("`key` in ")
    place = place.rpartition("`$")[2].rstrip("`")
    steps = [
        int(step["index"]) if step["index"] else cast(str, step["name"] or step["any"])
        for step in _STEP.finditer(place)
    ]
    shapes = [inspect.type_info(type)]
    found = value
    for depth, step in enumerate(steps):
        if step == _ANY_KEY:
            step = _failing_key(message, value, type, steps[:depth])
            steps[depth] = step
        shapes = [inner for shape in shapes for inner in _below(shape, step)]
        found = _child(found, step)
        where = where / step
    if in_key and isinstance(found, dict):
        key = _failing_key(message, value, type, steps)
        return ConfigError(where.file, where.at, f"the key {quoted(str(key))}", _allowed(text, shapes, "key"))
    return _worded(text, found, shapes, where)


def _worded(text: str, found: object, shapes: list[inspect.Type], where: Where) -> ConfigError:
    keys = [field.encode_name for shape in shapes for field in _fields(shape)]
    if text.startswith("Object missing required field "):
        missing = text.rpartition(" ")[2].strip("`")
        present = shown(found) if isinstance(found, dict) else "nothing"
        return ConfigError(
            where.file, (where / missing).at, f"nothing in {present}", f"the key {quoted(missing)} is required"
        )
    if text.startswith("Object contains unknown field "):
        extra = text.rpartition(" ")[2].strip("`")
        meant = nearest(extra, keys)
        hint = f" (did you mean {quoted(meant)}?)" if meant else ""
        return ConfigError(
            where.file, (where / extra).at, f"the unknown key {quoted(extra)}{hint}", f"the keys {names(keys)}"
        )
    return ConfigError(where.file, where.at, shown(found), _allowed(text, shapes, "value"))


def _allowed(text: str, shapes: list[inspect.Type], what: str) -> str:
    """What is allowed, from msgspec's message and the types that stand at that place."""
    if text.startswith("Invalid enum value"):
        return "one of " + names(str(choice) for shape in shapes for choice in _choices(shape))
    if text.startswith("Expected "):
        for shape in shapes if what == "value" else ():
            if isinstance(shape, inspect.IntType) and shape.ge is not None and shape.le is not None:
                return f"a whole number from {shape.ge} to {shape.le}"
        wanted = text.removeprefix("Expected ").partition(", got ")[0]
        return expectation(wanted) + (" as key" if what == "key" else "")
    return _INVALID_TEXT.get(text, text)


def _failing_key(message: str, value: object, type: type[object], steps: list[str | int]) -> str:
    """msgspec does not say which key of a mapping it means: find the one that fails in the same way alone."""
    mapping = value
    for step in steps:
        mapping = _child(mapping, step)
    if not isinstance(mapping, dict):
        return _ANY_KEY
    for key in mapping:
        try:
            msgspec.convert(_replaced(value, steps, {key: mapping[key]}), type)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return str(key)
    return _ANY_KEY


def _replaced(value: Any, steps: list[str | int], by: object) -> object:
    if not steps:
        return by
    copy = value.copy()
    copy[steps[0]] = _replaced(value[steps[0]], steps[1:], by)
    return copy


def _child(value: object, step: str | int) -> object:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def _below(shape: inspect.Type, step: str | int) -> list[inspect.Type]:
    match shape:
        case inspect.UnionType():
            return [inner for option in shape.types for inner in _below(option, step)]
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            return _spread(field.type for field in shape.fields if field.encode_name == step)
        case inspect.DictType():
            return _spread([shape.value_type])
        case inspect.TupleType():
            return _spread(shape.item_types[step : step + 1] if isinstance(step, int) else ())
        case inspect.CollectionType():
            return _spread([shape.item_type])
        case _:
            return []


def _spread(shapes: Any) -> list[inspect.Type]:
    return [one for shape in shapes for one in (shape.types if isinstance(shape, inspect.UnionType) else (shape,))]


def _fields(shape: inspect.Type) -> tuple[inspect.Field, ...]:
    match shape:
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            return shape.fields
        case _:
            return ()


def _choices(shape: inspect.Type) -> list[object]:
    match shape:
        case inspect.LiteralType():
            return list(shape.values)
        case inspect.EnumType():
            return [member.value for member in shape.cls]
        case _:
            return []


def _warn_unread(value: object, result: object, where: Where) -> None:
    """Compare what was given with what was made of it, and warn of keys that were dropped."""
    if isinstance(value, dict):
        known = _read_as(result)
        if known is not None:
            for key, inner in value.items():
                if key in known:
                    _warn_unread(inner, known[key], where / key)
                else:
                    warn_unknown(str(key), known, where)
        elif isinstance(result, Mapping):
            for key, inner in value.items():
                if key in result:
                    _warn_unread(inner, result[key], where / str(key))
    elif isinstance(value, list) and isinstance(result, list | tuple) and len(value) == len(result):
        for index, (inner, made) in enumerate(zip(value, result, strict=True)):
            _warn_unread(inner, made, where / index)


def _read_as(result: object) -> dict[str, object] | None:
    """The keys of the record and what each was decoded to; None when `result` is no record."""
    if isinstance(result, msgspec.Struct):
        made = {
            key: getattr(result, name)
            for key, name in zip(result.__struct_encode_fields__, result.__struct_fields__, strict=True)
        }
        if result.__struct_config__.tag_field is not None:
            made[result.__struct_config__.tag_field] = None
        return made
    if is_dataclass(result) and not isinstance(result, type):
        return {field.name: getattr(result, field.name) for field in fields(result)}
    return None
