from bindings.kv.kind import KvKind

KIND = KvKind()

__all__ = ["KIND"]
