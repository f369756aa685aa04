"""JSON with comments and trailing commas, as wrangler reads it, and nothing beyond: no single quotes, no bare keys, no
hexadecimal, no Infinity, no key twice. Pure.

Comments and trailing commas are blanked out in place, so that the standard library's parser, strict about the rest,
reports positions of the text as written.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Final, NoReturn

_SKIP: Final = re.compile(
    r'(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<comment>//[^\r\n]*|/\*.*?\*/)|(?P<open>/\*)|(?P<comma>,)|(?P<close>[}\]])'
    r"|(?P<space>\s+)|(?P<other>[^\"/,}\]\s]+|.)",
    re.DOTALL,
)
_VISIBLE: Final = re.compile(r"[^\r\n]")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class JsoncError(ValueError):
    """`position` is the offset of the wrong character, from 0."""

    def __init__(self, position: int, found: str, allowed: str) -> None:
        self.position, self.found, self.allowed = position, found, allowed
        super().__init__(f"{found}; allowed: {allowed}")


def parse(text: str) -> object:
    """Read a document.

    Raises:
        JsoncError: it is not such JSON.
        RecursionError: it is nested too deeply.
    """
    plain = _without_extras(text)
    duplicate = False

    def table(pairs: list[tuple[str, object]]) -> dict[str, object]:
        nonlocal duplicate
        made = dict(pairs)
        duplicate = duplicate or len(made) != len(pairs)
        return made

    try:
        value: object = json.loads(plain, object_pairs_hook=table, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise JsoncError(error.pos, _found(text, error.pos), _allowed(text, error)) from None
    except _Constant as constant:
        position = next(word.start() for word in _TOKEN.finditer(plain) if word.group().startswith(constant.name))
        raise JsoncError(position, f"the word {constant.name}", "a JSON number, true, false or null") from None
    except ValueError:
        # Python refuses to convert numbers of several thousand digits.
        long = re.search(r"\d{4000,}", plain)
        raise JsoncError(long.start() if long else 0, "a number of thousands of digits", "shorter numbers") from None
    if duplicate:
        raise _duplicate(plain)
    return value


class _Constant(Exception):
    def __init__(self, name: str) -> None:
        self.name = name


def _refuse_constant(name: str) -> NoReturn:
    raise _Constant(name)


def _without_extras(text: str) -> str:
    """The text with comments and trailing commas replaced by spaces."""
    pieces: list[str] = []
    comma: int | None = None
    before = "["
    for match in _SKIP.finditer(text):
        piece = match.group()
        match match.lastgroup:
            case "comment":
                piece = _VISIBLE.sub(" ", piece)
            case "open":
                raise JsoncError(match.start(), "a comment that does not end", "/* ... */")
            case "comma":
                comma = len(pieces) if before[-1] not in "[{,:" else None
            case "close":
                if comma is not None:
                    pieces[comma] = " "
                comma = None
            case "string" | "other":
                comma = None
        if match.lastgroup not in ("comment", "space"):
            before = piece
        pieces.append(piece)
    return "".join(pieces)


def _found(text: str, position: int) -> str:
    if position >= len(text):
        return "the end of the file"
    rest = text[position : position + 24].split("\n")[0].rstrip()
    return json.dumps(rest, ensure_ascii=False) if rest else "the end of the line"


def _allowed(text: str, error: json.JSONDecodeError) -> str:
    start = text[error.pos : error.pos + 1]
    if start == "'":
        return "strings in double quotes"
    if "property name" in error.msg:
        return "a key in double quotes"
    if re.match(r"0[xX]|\d+[xX]", text[max(0, error.pos - 1) : error.pos + 2]):
        return "decimal numbers"
    return {
        "Expecting value": "a JSON value",
        "Expecting ',' delimiter": "a comma or a closing bracket",
        "Expecting ':' delimiter": "a colon after the key",
        "Extra data": "one JSON value and nothing after it",
        "Unterminated string starting at": "a closing double quote on the same line",
        "Invalid control character at": "no raw control characters in a string (use escapes such as \\n)",
    }.get(error.msg, f"valid JSON ({error.msg})")


def _duplicate(plain: str) -> JsoncError:
    """Find the key that stands twice in its table, in text known to be valid."""
    tables: list[set[str] | None] = []
    tokens = [*_TOKEN.finditer(plain)]
    for token, after in pairwise(tokens):
        match token.group():
            case "{":
                tables.append(set())
            case "[":
                tables.append(None)
            case "}" | "]":
                tables.pop()
            case text if text.startswith('"') and after.group() == ":":
                key = json.loads(text)
                keys = tables[-1]
                assert keys is not None, "a key stands in a table"
                if key in keys:
                    return JsoncError(token.start(), f"the key {text} a second time", "each key once")
                keys.add(key)
    raise AssertionError("a table has a key twice")
