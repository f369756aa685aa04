"""`edge kv key ...` and `edge kv bulk ...`: the arguments and output of wrangler's commands of these names.

The store is opened directly, whether a server runs on it or not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from bindings.command_options import config_option, data_option, env_option, local_option, with_options
from bindings.kind import load_kinds
from bindings.kv.bulk import check_names, check_pairs, decode_keys, decode_pairs, get_all, reason
from bindings.kv.kind import KvSpec
from bindings.kv.namespace import KvNamespace
from bindings.kv.validation import KvError
from bindings.kv.writes import check_put, commit_deletes, commit_puts
from edge_runtime.config.load import load_config
from edge_runtime.errors import UsageError
from edge_runtime.seams import SystemClock
from edge_runtime.store.api import Store
from edge_runtime.store.lmdb_store import open_store

T = TypeVar("T")
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


class Place:
    """Which namespace of which data directory the options mean."""

    def __init__(
        self,
        binding: str | None,
        namespace_id: str | None,
        data_dir: Path | None,
        config: Path | None,
        environment: str | None,
    ) -> None:
        if (binding is None) == (namespace_id is None):
            raise click.UsageError("give one of --binding and --namespace-id")
        folder = Path.cwd() if config is None else config if config.is_dir() else config.parent
        self.data_dir = (data_dir or folder / ".edge").resolve()
        self.namespace = namespace_id or _bound_namespace(binding or "", config or folder, environment)

    def read(self, work: Callable[[KvNamespace], Awaitable[T]]) -> T:
        if not (self.data_dir / "store").is_dir():
            raise UsageError(f"no data directory at {self.data_dir}; name one with --data")
        return self._run(lambda store: work(KvNamespace(self.namespace, store, SystemClock())), True)

    def write(self, work: Callable[[Store, str], Awaitable[None]]) -> None:
        """Run `work(store, namespace)`; a data directory that is not there yet is made."""
        self._run(lambda store: work(store, self.namespace), False)

    def _run(self, work: Callable[[Store], Awaitable[T]], readonly: bool) -> T:
        async def with_store() -> T:
            async with open_store(self.data_dir / "store", readonly=readonly) as store:
                return await work(store)

        try:
            return trio.run(with_store)
        except (KvError, TypeError, ValueError) as error:
            raise UsageError(reason(error)) from None


def _bound_namespace(binding: str, config: Path, environment: str | None) -> str:
    worker = load_config(config, load_kinds(), environment=environment)
    bound = {known.name: known.spec for known in worker.bindings if isinstance(known.spec, KvSpec)}
    if binding not in bound:
        known = ", ".join(sorted(bound)) or "none"
        raise UsageError(f"{worker.file} has no KV namespace with binding {binding!r}; it has: {known}")
    return bound[binding].namespace


_place_options = with_options(
    click.option("--binding", default=None, help="Name of the binding in the worker's configuration."),
    click.option("--namespace-id", default=None, help="Id of the namespace."),
    data_option,
    config_option,
    env_option,
    local_option,
)


@click.group()
def kv() -> None:
    """Read and write KV namespaces."""


@kv.group()
def key() -> None:
    """One key at a time."""


@kv.group()
def bulk() -> None:
    """Many keys at once."""


@key.command("put")
@click.argument("name", metavar="KEY")
@click.argument("value", required=False)
@click.option(
    "--path", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Read the value from a file."
)
@click.option("--ttl", type=int, default=None, help="Seconds until the entry expires, at least 60.")
@click.option("--expiration", type=int, default=None, help="When the entry expires, seconds since the epoch.")
@click.option("--metadata", default=None, help="JSON to store with the entry.")
@_place_options
def put(
    name: str,
    value: str | None,
    path: Path | None,
    ttl: int | None,
    expiration: int | None,
    metadata: str | None,
    **where: Any,
) -> None:
    """Write VALUE, or the content of a file, under KEY."""
    place = Place(**where)
    if (value is None) == (path is None):
        raise click.UsageError("give one of VALUE and --path")
    content: str | bytes = path.read_bytes() if path is not None else value or ""
    parsed = None if metadata is None else _json("--metadata", metadata)
    what = f"the contents of {path}" if path is not None else f'the value "{value}"'
    options = {"expirationTtl": ttl, "expiration": expiration, "metadata": parsed}

    async def write(store: Store, namespace: str) -> None:
        await commit_puts(store, namespace, (check_put(name, content, options, SystemClock().now_ms() // 1000),))

    place.write(write)
    click.echo(f'Writing {what} to key "{name}" on namespace {place.namespace}.')


@key.command("get")
@click.argument("name", metavar="KEY")
@click.option("--text", is_flag=True, help="Print as UTF-8 text, with a line end.")
@_place_options
def get(name: str, text: bool, **where: Any) -> None:
    """Write the value of KEY to standard output, byte for byte."""
    value: memoryview | None = Place(**where).read(lambda namespace: namespace.get(name, "arrayBuffer"))
    if value is None:
        click.echo("Value not found", err=True)
        raise SystemExit(1)
    if text:
        click.echo(bytes(value).decode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(value)
        sys.stdout.buffer.flush()


@key.command("list")
@click.option("--prefix", default="", help="Only keys that begin with this.")
@_place_options
def list_keys(prefix: str, **where: Any) -> None:
    """Print all keys as JSON."""

    async def pages(namespace: KvNamespace) -> list[Any]:
        page = await namespace.list(prefix=prefix)
        found: list[Any] = page["keys"]
        while not page["list_complete"]:
            page = await namespace.list(prefix=prefix, cursor=page["cursor"])
            found += page["keys"]
        return found

    _print_json(Place(**where).read(pages))


@key.command("delete")
@click.argument("name", metavar="KEY")
@_place_options
def delete(name: str, **where: Any) -> None:
    """Delete KEY; one that is not there is no error."""
    place = Place(**where)
    checked = check_names([name])
    place.write(lambda store, namespace: commit_deletes(store, namespace, checked))
    click.echo(f'Deleting the key "{name}" on namespace {place.namespace}.')


_file = click.argument("file", metavar="FILE", type=_FILE)


@bulk.command("put")
@_file
@_place_options
def bulk_put(file: Path, **where: Any) -> None:
    """Write the pairs of a JSON file: [{key, value, base64?, expiration?, expiration_ttl?, metadata?}]. All or none."""
    place = Place(**where)
    pairs = decode_pairs(file.read_bytes(), str(file))
    writes = check_pairs(pairs, SystemClock().now_ms() // 1000)
    place.write(lambda store, namespace: commit_puts(store, namespace, writes))
    click.echo(f"Success! Wrote {len(pairs)} keys to namespace {place.namespace}.")


@bulk.command("get")
@_file
@_place_options
def bulk_get(file: Path, **where: Any) -> None:
    """Print the values of the keys in a JSON file, ["key", ...], as {key: {value, metadata?}}."""
    names = decode_keys(file.read_bytes(), str(file))
    _print_json(Place(**where).read(lambda namespace: get_all(namespace, names)))


@bulk.command("delete")
@_file
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@_place_options
def bulk_delete(file: Path, force: bool, **where: Any) -> None:
    """Delete the keys in a JSON file: ["key", ...]. All or none."""
    place = Place(**where)
    names = check_names(decode_keys(file.read_bytes(), str(file)))
    if not force and sys.stdin.isatty():
        click.confirm(f"Delete {len(names)} keys from namespace {place.namespace}?", abort=True)
    place.write(lambda store, namespace: commit_deletes(store, namespace, names))
    click.echo(f"Success! Deleted {len(names)} keys from namespace {place.namespace}.")


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint=option) from None


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
