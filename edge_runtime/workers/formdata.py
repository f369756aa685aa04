"""FormData: the fields of a form, several of which may have the same name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

from edge_runtime.workers.blob import Blob, File
from edge_runtime.workers.js_object import JsObject

FormDataValue: TypeAlias = str | Blob


class FormData(JsObject, MutableMapping[str, Any]):
    """Fields in order. `form[name]` is the first value of a name; iteration gives every pair, repeats included."""

    __slots__ = ("_entries",)

    def __init__(self, form_data: FormData | Mapping[str, Any] | None = None) -> None:
        self._entries: list[tuple[str, FormDataValue]] = []
        if isinstance(form_data, FormData):
            self._entries = form_data._entries
        elif isinstance(form_data, Mapping):
            for name, value in form_data.items():
                self.append(name, value)
        elif form_data:
            raise TypeError("Expected form_data to be a dict or an instance of FormData")

    @classmethod
    def of_entries(cls, entries: list[tuple[str, FormDataValue]]) -> FormData:
        form = cls()
        form._entries = entries
        return form

    def entry_list(self) -> list[tuple[str, FormDataValue]]:
        return self._entries

    def _to_wire(self) -> FormData:
        return self

    def __getitem__(self, key: str) -> Any:
        """The first value; KeyError if there is none."""
        for name, value in self._entries:
            if name == key:
                return value
        raise KeyError(key)

    def __setitem__(self, key: str, value: Any) -> None:
        """Replace every value of this name by one."""
        if isinstance(value, list):
            raise TypeError("Expected single item in arguments to FormData.__setitem__")
        self._replace(key, _checked(value))

    def set(self, key: str, value: Any, filename: str | None = None) -> None:
        self._replace(key, _checked(value, filename))

    def _replace(self, key: str, value: FormDataValue) -> None:
        for index, (name, _) in enumerate(self._entries):
            if name == key:
                later = [entry for entry in self._entries[index + 1 :] if entry[0] != key]
                self._entries[index:] = [(key, value), *later]
                return
        self._entries.append((key, value))

    def append(self, key: str, value: Any, filename: str | None = None) -> None:
        """Add a value; a Blob given with a file name becomes a File."""
        self._entries.append((key, _checked(value, filename)))

    def delete(self, key: str) -> None:
        self._entries[:] = [entry for entry in self._entries if entry[0] != key]

    def __delitem__(self, key: str) -> None:
        self.delete(key)

    def has(self, key: str) -> bool:
        return key in self

    def __contains__(self, key: object) -> bool:
        return any(name == key for name, _ in self._entries)

    def get_all(self, key: str) -> list[FormDataValue]:
        return [value for name, value in self._entries if name == key]

    getAll = get_all

    def keys(self) -> Iterator[str]:  # type: ignore[override]
        return (name for name, _ in self._entries)

    def values(self) -> Iterator[FormDataValue]:  # type: ignore[override]
        return (value for _, value in self._entries)

    def items(self) -> Iterator[tuple[str, FormDataValue]]:  # type: ignore[override]
        return iter(list(self._entries))

    entries = items

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __len__(self) -> int:
        return len(self._entries)

    def __bool__(self) -> bool:
        return True

    @property
    def js_object(self) -> FormData:
        return self

    def __repr__(self) -> str:
        return f"FormData({self._entries!r})"


def _checked(value: Any, filename: str | None = None) -> FormDataValue:
    if isinstance(value, Blob):
        if filename is None:
            return value
        return File(value, filename, value.content_type)
    return value if isinstance(value, str) else _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
