"""The part of JSON Schema that every server honours, checked before anything is sent, and answers checked after.

Servers ignore what they do not know (`minimum`, `maxLength`, ...) or die of what they cannot parse, so a schema with
any other keyword is refused here. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.llm.openai.wire import strict_json
from market.errors import EngineUnavailable
from storage.canonical import Json

_KEYWORDS: Mapping[str, frozenset[str]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items"}),
    "string": frozenset({"enum"}),
    "integer": frozenset({"enum"}),
    "number": frozenset(),
    "boolean": frozenset(),
}
DEPTH = 8


def check_schema(schema: Json, where: str = "the schema", depth: int = 0) -> None:
    """Raise ValueError, naming the place, for anything that a server might ignore or choke on."""
    if not isinstance(schema, Mapping) or str(schema.get("type")) not in _KEYWORDS:
        raise ValueError(f"{where} needs a type out of {', '.join(_KEYWORDS)}")
    kind = str(schema["type"])
    if unknown := sorted(set(schema) - _KEYWORDS[kind] - {"type"}):
        raise ValueError(f"{where} uses {', '.join(unknown)}, which servers do not honour for {kind}")
    if depth > DEPTH:
        raise ValueError(f"{where} is nested more than {DEPTH} deep")
    if kind == "object":
        _check_object(schema, where, depth)
    elif kind == "array":
        check_schema(schema.get("items"), f"{where}.items", depth + 1)
    elif "enum" in schema:
        _check_enum(schema["enum"], kind, where)


def _check_object(schema: Mapping[str, Json], where: str, depth: int) -> None:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        raise ValueError(f"{where} needs properties")
    if schema.get("required") != list(properties) or schema.get("additionalProperties") is not False:
        raise ValueError(f"{where} must require all its properties, in their order, and allow no others")
    for name, inner in properties.items():
        check_schema(inner, f"{where}.{name}", depth + 1)


def _check_enum(options: Json, kind: str, where: str) -> None:
    wanted = str if kind == "string" else int
    if not isinstance(options, Sequence) or isinstance(options, str) or not options:
        raise ValueError(f"{where} needs a list of choices")
    if not all(isinstance(option, wanted) and not isinstance(option, bool) for option in options):
        raise ValueError(f"{where} has a choice that is no {kind}")


def answered(schema: Mapping[str, Json], text: str) -> Json:
    """The value that a model wrote, held to its schema. Raises EngineUnavailable."""
    try:
        value: Json = strict_json(text)
    except ValueError as error:
        raise EngineUnavailable("The model's JSON cannot be read.") from error
    return checked(schema, value)


def checked(schema: Mapping[str, Json], value: Json, where: str = "the answer") -> Json:
    """`value` where it satisfies a schema that passed `check_schema`; 1.0 becomes 1 where an integer is wanted.

    Raises EngineUnavailable, naming the place.
    """
    kind = schema["type"]
    if kind == "object":
        return _checked_object(schema, value, where)
    if kind == "array":
        if not isinstance(value, list):
            raise EngineUnavailable(f"The model's JSON is wrong: {where} is no array.")
        items = schema["items"]
        assert isinstance(items, Mapping)  # noqa: S101 - check_schema has seen to it
        return [checked(items, item, f"{where}[{at}]") for at, item in enumerate(value)]
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)
    kinds: dict[object, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}
    if isinstance(value, bool) != (kind == "boolean") or not isinstance(value, kinds.get(kind, (bool,))):
        raise EngineUnavailable(f"The model's JSON is wrong: {where} is no {kind}.")
    options = schema.get("enum")
    if isinstance(options, Sequence) and value not in options:
        raise EngineUnavailable(f"The model's JSON is wrong: {where} is not one of the choices.")
    return value


def _checked_object(schema: Mapping[str, Json], value: Json, where: str) -> Json:
    properties = schema["properties"]
    assert isinstance(properties, Mapping)  # noqa: S101 - check_schema has seen to it
    if not isinstance(value, Mapping) or set(value) != set(properties):
        raise EngineUnavailable(f"The model's JSON is wrong: {where} does not have exactly the properties asked for.")
    made: dict[str, Json] = {}
    for name, inner in properties.items():
        assert isinstance(inner, Mapping)  # noqa: S101 - check_schema has seen to it
        made[name] = checked(inner, value[name], f"{where}.{name}")
    return made
