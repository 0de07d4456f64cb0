"""The JSON schema of a site file, made from the types that it is read into. Editors complete and check by it.

It knows names, kinds and closed sets. What a value must be beyond that, and what keys have to do with each other, read.py checks.
"""

from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from upswitch.site.model import (
    HTTP_CLASSES,
    Check,
    DeadmanTable,
    Gate,
    HostEntry,
    Nginx,
    RolloutTable,
    Site,
    Upstream,
    Watch,
)
from upswitch.site.telling import Event, Hooks, Notice

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_DURATION: Schema = {"type": "string", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?(ms|s|m|h)$"}
_CLASSES: Schema = {"type": "array", "items": {"enum": [*HTTP_CLASSES]}, "minItems": 1}
_SIZES: Schema = {"type": "array", "items": {"type": ["string", "integer"]}, "minItems": 1}
_SERVERS: Schema = {**_TEXTS, "minItems": 1, "description": "The servers of a pool, each as in nginx: an address and parameters."}
_ACCESS: Schema = {"ca": _TEXT, "cert": _TEXT, "key": _TEXT, "token_file": _TEXT}
_SOURCES: tuple[tuple[str, Schema, Schema], ...] = (
    ("file", _TEXT, {}),
    ("dns", _TEXT, {"port": {"type": "integer"}, "resolver": _TEXT}),
    ("srv", _TEXT, {"resolver": _TEXT}),
    ("etcd", _TEXT, {"prefix": _TEXT, **_ACCESS}),
    ("consul", _TEXT, {"tag": _TEXT, "url": _TEXT, **_ACCESS}),
    ("containers", _TEXT, {"port": {"type": "integer"}, "network": _TEXT}),
    ("command", {**_TEXTS, "minItems": 1}, {"deadline": {**_DURATION, "default": "10s"}}),
)
"""Of each kind: the key that names it, its value, and its other keys."""


def schema() -> Schema:
    """Of a whole site file."""
    nginx = _table(Nginx)
    probe = _table(HostEntry)["properties"]["probe"]
    host = {"type": "object", "properties": {"ssh": _TEXT, "nginx": nginx, "probe": probe}, "required": ["ssh"]}
    check = _table(Check, http_expect_alive=_CLASSES, fastcgi_param={"type": "object", "additionalProperties": _TEXT})
    check["properties"] = {name.removesuffix("_ms"): each for name, each in check["properties"].items()}
    upstream = _table(Upstream, check=check)
    upstream["properties"] = {name: upstream["properties"][name] for name in ("directives", "template", "check")}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The site file of upswitch",
        "type": "object",
        "properties": {
            "name": _table(Site)["properties"]["name"],
            "nginx": nginx,
            "upstreams": _each({**upstream, "additionalProperties": {"oneOf": [_SERVERS, *map(_source, _SOURCES)]}}),
            "gate": _table(Gate, http_expect_alive=_CLASSES),
            "watch": _without(_table(Watch), "accepts_elevated"),
            "hosts": _each({"oneOf": [_TEXT, {**host, "additionalProperties": False}]}),
            "rollout": _table(RolloutTable, waves=_SIZES),
            "lint": {"type": "object", "properties": {"ignore": _TEXTS}, "additionalProperties": False},
            "deadman": _table(DeadmanTable),
            "hooks": _table(Hooks),
            "notify": {"type": "array", "items": {**_notice(), "required": ["url"]}},
        },
        "required": ["upstreams"],
        "additionalProperties": False,
    }


def _source(kind: tuple[str, Schema, Schema]) -> Schema:
    """A table in the place of a pool's servers."""
    key, value, others = kind
    return {"type": "object", "properties": {key: value, **others}, "required": [key], "additionalProperties": False}


def _notice() -> Schema:
    secret = {"oneOf": [_TEXT, *({"type": "object", "properties": {key: _TEXT}, "required": [key]} for key in ("file", "env"))]}
    events = {"type": "array", "items": {"enum": [each.value for each in Event]}, "minItems": 1}
    return _table(Notice, url=secret, headers={"type": "object", "additionalProperties": secret}, on=events)


def _each(of: Schema) -> Schema:
    """A table with keys of any name."""
    return {"type": "object", "additionalProperties": of, "minProperties": 1}


def _without(table: Schema, key: str) -> Schema:
    return {**table, "properties": {name: each for name, each in table["properties"].items() if name != key}}


def _table(of: type[Struct], **given: Schema) -> Schema:
    """A table with the fields of a type. `given`: those that the type alone does not tell."""
    hints, properties = get_type_hints(of), dict[str, Schema]()
    for field in fields(of):
        kind = given.get(field.name) or _value(hints[field.name])
        has_default = field.default not in (NODEFAULT, None, ())
        properties[field.name] = {**kind, "default": _written(field.default)} if kind and has_default else kind
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _value(kind: Any) -> Schema:
    """What TOML has for a Python type; a float is a duration there. {} for anything."""
    if get_origin(kind) is UnionType:
        return _value(next(each for each in get_args(kind) if each is not NoneType))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"enum": [each.value for each in kind]}
    plain: dict[Any, Schema] = {bool: {"type": "boolean"}, int: {"type": "integer"}, float: _DURATION, str: _TEXT}
    return plain.get(kind) or (_TEXTS if get_args(kind)[:1] == (str,) else {})


def _written(value: Any) -> Any:
    """A default as TOML writes it."""
    return f"{value:g}s" if isinstance(value, float) else list(value) if isinstance(value, tuple) else value
