"""The keys of a wrangler file: which are read here, inherited by environments, accepted and ignored.

Source: cloudflare/workers-sdk, workers-utils/src/config/environment.ts. The sections of binding kinds are not listed
as read: each kind names its own.
"""

from __future__ import annotations

from typing import Final

READ: Final = frozenset(
    {
        "name", "main", "compatibility_date", "compatibility_flags", "vars", "secrets", "route", "routes", "triggers",
        "limits", "edge",
    }
)  # fmt: skip
"""Keys read by this package; `edge` is ours."""

TOP_ONLY: Final = frozenset(
    {
        "$schema", "env", "dev", "legacy_env", "send_metrics", "keep_vars", "pages_build_output_dir", "alias",
        "dependencies_instrumentation", "wasm_modules", "text_blobs", "data_blobs", "site",
    }
)  # fmt: skip
"""Keys that have no place inside `env.NAME`."""

INHERITED_SECTIONS: Final = frozenset({"assets", "migrations", "exports"})
"""Sections of binding kinds that an environment takes over from the top level; all others it must repeat."""

INHERITED: Final = INHERITED_SECTIONS | (READ - {"vars", "secrets"})

BINDING_SECTIONS: Final = frozenset(
    {
        "agent_memory", "ai", "ai_search", "ai_search_namespaces", "analytics_engine_datasets", "artifacts", "assets",
        "browser", "d1_databases", "dispatch_namespaces", "durable_objects", "flagship", "hyperdrive", "images",
        "kv_namespaces", "logfwdr", "media", "mtls_certificates", "pipelines", "queues", "r2_buckets", "ratelimits",
        "secrets_store_secrets", "send_email", "services", "stream", "unsafe", "unsafe_hello_world", "vectorize",
        "version_metadata", "vpc_networks", "vpc_services", "websearch", "worker_loaders", "workflows",
    }
)  # fmt: skip
"""Wrangler's sections that put names into `env`."""

WITHOUT_EFFECT: Final = {
    "build": "custom build commands are not run; build before starting",
    "containers": "containers are not started",
    "site": "Workers Sites are not served; use assets",
    "streaming_tail_consumers": "tail consumers are not called",
    "tail_consumers": "tail consumers are not called",
}
"""Keys of wrangler that would change what the worker does, were they obeyed: one warning each."""

IGNORED: Final = frozenset(
    {
        "access", "account_id", "base_dir", "cache", "cloudchamber", "define", "exports", "find_additional_modules",
        "first_party_worker", "jsx_factory", "jsx_fragment", "keep_names", "logpush", "migrations", "minify",
        "no_bundle", "observability", "placement", "preserve_file_names", "preview_urls", "previews", "python_modules",
        "rules", "tsconfig", "upload_source_maps", "usage_model", "workers_dev", "zone_id",
    }
)  # fmt: skip
"""Keys of wrangler about building and placing that mean nothing here."""

KNOWN: Final = READ | TOP_ONLY | BINDING_SECTIONS | IGNORED | frozenset(WITHOUT_EFFECT)


def names_in_env(section: object) -> list[str]:
    """The names that a binding section of any kind would put into `env`."""
    if isinstance(section, list):
        return [name for item in section for name in names_in_env(item)]
    if not isinstance(section, dict):
        return []
    for key in ("binding", "name"):
        if isinstance(section.get(key), str):
            return [section[key]]
    # `queues` and `durable_objects` keep their lists one level down.
    return [name for key in ("producers", "bindings") for name in names_in_env(section.get(key))]
