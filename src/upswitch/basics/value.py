"""The base of every value: frozen, keyword-only, and ready to be encoded as JSON."""

from typing import Any, dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _Frozen(msgspec.StructMeta):
    """msgspec inherits `frozen` but not `kw_only`; here both are the rule for every subclass."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> Any:
        return super().__new__(cls, name, bases, namespace, **{"frozen": True, "kw_only": True, **config})


class Value(msgspec.Struct, metaclass=_Frozen):
    """Base of every value: immutable, slotted, keyword-only, and encodable as JSON without further code."""
