"""Route patterns: which requests belong to a worker. Pure.

As on Cloudflare a `*` may begin the host and end the path. Ours is a pattern without host, such as "/api/*".
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from edge_runtime.config.decode import decode
from edge_runtime.config.model import Route, Where
from edge_runtime.config.wording import quoted
from edge_runtime.errors import ConfigError

_HOST: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_ALLOWED: Final = '"example.com/path", "example.com/path/*", "*.example.com/*" or "/path/*": * first or last only'


class RouteTable(msgspec.Struct, frozen=True):
    """The long form of a route. Zones are Cloudflare's and have no meaning here."""

    pattern: Annotated[str, msgspec.Meta(min_length=1)]
    zone_name: str | None = None
    zone_id: str | None = None
    custom_domain: bool = False
    enabled: bool = True
    previews_enabled: bool = True


def decode_routes(route: object, routes: object, where: Where) -> tuple[Route, ...]:
    """Read `route` (one) and `routes` (a list), each None when absent; every pattern once, in order.

    Raises:
        ConfigError
    """
    found: dict[Route, None] = {}
    if route is not None:
        if routes is not None:
            raise ConfigError(where.file, (where / "route").at, "both route and routes", "one of them")
        found.update(_read(decode(route, str | RouteTable, where / "route"), where / "route"))
    if routes is not None:
        for index, item in enumerate(decode(routes, list[str | RouteTable], where / "routes")):
            found.update(_read(item, where / "routes" / index))
    return tuple(found)


def _read(route: str | RouteTable, where: Where) -> dict[Route, None]:
    if isinstance(route, str):
        return dict.fromkeys(parse_route(route, where))
    if not route.enabled:
        return {}
    if not route.custom_domain:
        return dict.fromkeys(parse_route(route.pattern, where / "pattern"))
    if "/" in route.pattern or "*" in route.pattern:
        at = (where / "pattern").at
        raise ConfigError(where.file, at, quoted(route.pattern), "a host alone, for a custom domain")
    return dict.fromkeys(parse_route(route.pattern + "/*", where / "pattern"))


def parse_route(pattern: str, where: Where) -> tuple[Route, ...]:
    """Read one pattern. "*example.com" is two routes: the domain and its subdomains.

    Raises:
        ConfigError
    """
    if pattern == "*":
        return (Route("*", "/"),)
    host, slash, rest = re.sub(r"^https?://", "", pattern).partition("/")
    host, path = host.lower(), "/" + rest
    prefix = path.removesuffix("*")
    if not (host or slash) or "*" in prefix or not re.fullmatch(r"[!-~]+", path) or re.search(r"[?#]", path):
        raise ConfigError(where.file, where.at, quoted(pattern), _ALLOWED)
    exact = prefix == path
    if host in ("", "*"):
        return (Route("*", prefix, exact),)
    name = host.removeprefix("*.") if host.startswith("*.") else host.removeprefix("*")
    if not _HOST.fullmatch(name):
        raise ConfigError(where.file, where.at, quoted(pattern), _ALLOWED)
    if host.startswith("*.") or host == name:
        return (Route(host, prefix, exact),)
    return (Route(name, prefix, exact), Route(f"*.{name}", prefix, exact))
