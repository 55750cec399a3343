"""Problems in what the user wrote, as plain lines: where, what was found, what is allowed."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from nstm.acquisition import DataError

#: Problems that one message lists: what is wrong a thousand times is most often one mistake.
MOST_LINES = 50


def shown(value: Any, limit: int = 80) -> str:
    """``value`` as it may stand in a message: quoted, on one line, bounded."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def lines_of(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[str]:
    """One line per problem that pydantic found: the key's path, the value, what is allowed and what the key is.

    A value that fits none of several types is one problem, not one per type.
    """
    found: dict[str, tuple[Any, list[str], str]] = {}
    for item in error.errors(include_url=False):
        place = [p for p in item["loc"] if not _is_type_tag(p)]
        key = ".".join([prefix, *map(str, place)] if prefix else list(map(str, place)))
        if item["type"] == "extra_forbidden":
            found[key] = (None, [_unknown(str(place[-1]), _fields(_model_at(model, place[:-1])))], "")
            continue
        if item["type"] == "missing":
            found[key] = (None, ["is missing"], _described(model, place))
            continue
        message = item["msg"].removeprefix("Value error, ")
        message = message.replace("Input should be", "is empty, must be" if item["input"] is None else "must be")
        value, messages, described = found.get(key, (item["input"], [], _described(model, place)))
        found[key] = (value, [*messages, message], described)
    return [_line(key or prefix, *rest) for key, rest in found.items()]


def refuse(what: str, lines: Sequence[str]) -> typing.NoReturn:
    """Raise one readable error that lists the problems of ``what``, at most :data:`MOST_LINES` of them."""
    number = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    listed = [*lines[:MOST_LINES], *([f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else [])]
    raise DataError(f"{what}: {number}\n" + "\n".join(f"  - {line}" for line in listed))


def closest(name: str, allowed: Sequence[str]) -> str:
    """``" (did you mean ...?)"`` where a close name is allowed, else nothing."""
    near = difflib.get_close_matches(name, allowed, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _unknown(name: str, allowed: Sequence[str]) -> str:
    return f"is no known key{closest(name, allowed)}; allowed: {', '.join(allowed) or 'none'}"


def _line(key: str, value: Any, messages: Sequence[str], described: str) -> str:
    isolated = key if key.isprintable() and len(key) <= 200 else shown(key, 200)
    text = "; or ".join(dict.fromkeys(messages))
    if not isinstance(value, Mapping) and value is not None:
        text = f"{shown(value)} is refused: {text}"
    return f"{isolated}: {text}" + (f" [{described}]" if described else "")


def _is_type_tag(part: int | str) -> bool:
    """Pydantic names the branch of a union in a location, e.g. ``literal['auto']`` or ``constrained-int``."""
    return isinstance(part, str) and (
        "[" in part or part in {"int", "float", "bool", "str", "constrained-int", "constrained-float"}
    )


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        for argument in typing.get_args(annotation):
            yield from _models(argument)


def _field(model: type[BaseModel] | None, place: Sequence[int | str]) -> FieldInfo | None:
    field = None
    for part in place:
        field = model.model_fields.get(str(part)) if model else None
        model = next(_models(field.annotation), None) if field else None
    return field


def _model_at(model: type[BaseModel], place: Sequence[int | str]) -> type[BaseModel] | None:
    if not place:
        return model
    field = _field(model, place)
    return next(_models(field.annotation), None) if field else None


def _fields(model: type[BaseModel] | None) -> list[str]:
    return list(model.model_fields) if model else []


def _described(model: type[BaseModel], place: Sequence[int | str]) -> str:
    field = _field(model, place)
    return (field.description or "") if field else ""
