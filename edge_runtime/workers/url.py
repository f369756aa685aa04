"""URLs as the WHATWG standard normalises them, as far as Python's urllib does not: `URL`, `URLSearchParams`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urljoin, urlsplit

from edge_runtime.workers.js_object import JsObject

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
_PATH_SAFE = "/%:@!$&'()*+,;=-._~|[]^\\"
_QUERY_SAFE = "/%:@!$&()*+,;=-._~?|[]^\\`{}"
_FRAGMENT_SAFE = "/%:@!$&'()*+,;=-._~?|[]^\\{}#"
_FORBIDDEN_IN_HOST = frozenset(" #/<>?@\\^|%\0\t\r\n")


class UrlParts(NamedTuple):
    """`host` without port; `port` None where it is the scheme's own; `query` and `fragment` without their mark."""

    scheme: str
    username: str
    password: str
    host: str
    port: int | None
    path: str
    query: str
    fragment: str

    @property
    def authority(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def text(self) -> str:
        if self.scheme not in _DEFAULT_PORTS:
            start = f"{self.scheme}:{self.path}"
        else:
            user = self.username + (f":{self.password}" if self.password else "")
            start = f"{self.scheme}://{user}{'@' if user else ''}{self.authority}{self.path}"
        query = f"?{self.query}" if self.query else ""
        return start + query + (f"#{self.fragment}" if self.fragment else "")


def parse_url(text: str, base: str | None = None) -> UrlParts:
    """The parts of an absolute URL, normalised; TypeError for what is none."""
    given = text.strip(" \t\r\n\f\0").replace("\t", "").replace("\n", "").replace("\r", "")
    try:
        split = urlsplit(urljoin(base, given) if base is not None else given)
        port = split.port
    except ValueError:
        raise TypeError(f"Invalid URL: {text}") from None
    scheme = split.scheme.lower()
    if not scheme:
        raise TypeError(f"Invalid URL: {text}")
    if scheme not in _DEFAULT_PORTS:
        path = f"//{split.netloc}{split.path}" if split.netloc else split.path
        return UrlParts(scheme, "", "", "", None, path, split.query, split.fragment)
    host = _host(split.hostname or "", text)
    path = quote(_without_dots(split.path.replace("\\", "/") or "/"), safe=_PATH_SAFE)
    return UrlParts(
        scheme=scheme,
        username=quote(split.username or "", safe="%"),
        password=quote(split.password or "", safe="%"),
        host=host,
        port=None if port == _DEFAULT_PORTS[scheme] else port,
        path=path,
        query=quote(split.query, safe=_QUERY_SAFE),
        fragment=quote(split.fragment, safe=_FRAGMENT_SAFE),
    )


@lru_cache(maxsize=256)
def normalize_url(text: str) -> str:
    """The URL as `Request.url` shows it: "https://Test.com" gives "https://test.com/". TypeError if it is none."""
    return parse_url(text).text()


def _host(host: str, text: str) -> str:
    if ":" in host:
        return f"[{host.lower()}]"
    if not host or _FORBIDDEN_IN_HOST.intersection(host):
        raise TypeError(f"Invalid URL: {text}")
    if host.isascii():
        return host.lower()
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise TypeError(f"Invalid URL: {text}") from None


def _without_dots(path: str) -> str:
    if "." not in path and "%2e" not in path.lower():
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        plain = segment.lower().replace("%2e", ".")
        if plain == "..":
            if kept:
                kept.pop()
            if last:
                kept.append("")
        elif plain == ".":
            if last:
                kept.append("")
        else:
            kept.append(segment)
    return "/" + "/".join(kept)


class URLSearchParams(JsObject):
    """The pairs of a query string, in order. Made from text, pairs, a mapping, or another one."""

    __slots__ = ("_owner", "_pairs")

    def __init__(self, init: object = "", options: Mapping[str, object] | None = None) -> None:
        self._owner: URL | None = None
        self._pairs: list[tuple[str, str]]
        if isinstance(init, str):
            self._pairs = parse_qsl(init.removeprefix("?"), keep_blank_values=True)
            if options is not None:
                self._pairs += [(str(key), str(value)) for key, value in options.items()]
        elif isinstance(init, URLSearchParams):
            self._pairs = list(init)
        elif isinstance(init, Mapping):
            self._pairs = [(str(key), str(value)) for key, value in init.items()]
        elif isinstance(init, Iterable):
            self._pairs = [(str(key), str(value)) for key, value in init]
        else:
            raise TypeError(f"URLSearchParams is made from text, pairs or a mapping, not {type(init).__name__}")

    def get(self, name: str) -> str | None:
        return next((value for key, value in self._pairs if key == name), None)

    def getAll(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self._pairs)

    def append(self, name: str, value: object) -> None:
        self._pairs.append((name, str(value)))
        self._changed()

    def set(self, name: str, value: object) -> None:
        """Replace the first pair of this name and drop the others; append if there is none."""
        for index, (key, _) in enumerate(self._pairs):
            if key == name:
                later = [pair for pair in self._pairs[index + 1 :] if pair[0] != name]
                self._pairs[index:] = [(name, str(value)), *later]
                break
        else:
            self._pairs.append((name, str(value)))
        self._changed()

    def delete(self, name: str) -> None:
        self._pairs = [pair for pair in self._pairs if pair[0] != name]
        self._changed()

    def sort(self) -> None:
        self._pairs.sort(key=lambda pair: pair[0])
        self._changed()

    def keys(self) -> list[str]:
        return [key for key, _ in self._pairs]

    def values(self) -> list[str]:
        return [value for _, value in self._pairs]

    def entries(self) -> list[tuple[str, str]]:
        return list(self._pairs)

    @property
    def size(self) -> int:
        return len(self._pairs)

    def toString(self) -> str:
        return urlencode(self._pairs)

    def _changed(self) -> None:
        if self._owner is not None:
            self._owner._set_query(self.toString())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._pairs)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def __str__(self) -> str:
        return self.toString()


class URL(JsObject):
    """A parsed URL; its parts can be read, and its search parameters changed."""

    __slots__ = ("_params", "_parts")

    def __init__(self, url: object, base: object = None) -> None:
        self._parts = parse_url(str(url), None if base is None else str(base))
        self._params: URLSearchParams | None = None

    @classmethod
    def canParse(cls, url: object, base: object = None) -> bool:
        try:
            cls(url, base)
        except TypeError:
            return False
        return True

    @property
    def href(self) -> str:
        return self._parts.text()

    @property
    def protocol(self) -> str:
        return f"{self._parts.scheme}:"

    @property
    def username(self) -> str:
        return self._parts.username

    @property
    def password(self) -> str:
        return self._parts.password

    @property
    def host(self) -> str:
        return self._parts.authority

    @property
    def hostname(self) -> str:
        return self._parts.host

    @property
    def port(self) -> str:
        return "" if self._parts.port is None else str(self._parts.port)

    @property
    def pathname(self) -> str:
        return self._parts.path

    @pathname.setter
    def pathname(self, path: str) -> None:
        path = path if path.startswith("/") else "/" + path
        self._parts = self._parts._replace(path=quote(_without_dots(path), safe=_PATH_SAFE.replace("?", "")))

    @property
    def search(self) -> str:
        return f"?{self._parts.query}" if self._parts.query else ""

    @search.setter
    def search(self, query: str) -> None:
        self._set_query(quote(query.removeprefix("?"), safe=_QUERY_SAFE))
        self._params = None

    @property
    def searchParams(self) -> URLSearchParams:
        if self._params is None:
            self._params = URLSearchParams(self._parts.query)
            self._params._owner = self
        return self._params

    @property
    def hash(self) -> str:
        return f"#{self._parts.fragment}" if self._parts.fragment else ""

    @hash.setter
    def hash(self, fragment: str) -> None:
        self._parts = self._parts._replace(fragment=quote(fragment.removeprefix("#"), safe=_FRAGMENT_SAFE))

    @property
    def origin(self) -> str:
        parts = self._parts
        return f"{parts.scheme}://{parts.authority}" if parts.scheme in _DEFAULT_PORTS else "null"

    def _set_query(self, query: str) -> None:
        self._parts = self._parts._replace(query=query)

    def toString(self) -> str:
        return self.href

    def toJSON(self) -> str:
        return self.href

    def __str__(self) -> str:
        return self.href

    def __repr__(self) -> str:
        return f"URL({self.href!r})"

    def __eq__(self, other: object) -> Any:
        return self.href == other.href if isinstance(other, URL) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.href)
