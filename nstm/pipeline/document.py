"""The schemas and the description of every key, made from the settings: ``python -m nstm.pipeline.document``."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema
from pydantic_core import PydanticUndefined

from nstm.pipeline.blind_settings import Blind
from nstm.pipeline.experiment import ExperimentConfig
from nstm.pipeline.sheet import SampleRow
from nstm.pipeline.study_runs import Studies
from nstm.settings import OVERRIDABLE, SECTIONS, SystemSettings
from nstm.systems.base import registered

_HEAD = """\
# Config and sample sheet

Made from the settings by `python -m nstm.pipeline.document`; do not edit. An experiment is `config.yaml` with the
sample sheet that it names. Unknown keys and impossible values are refused with the key's path and what is allowed.

Which config is used: that of `--configfile`, alone; without it `config/config.yaml` of the working directory
(`--directory`). Paths in the config start at the config file, paths in the sheet at the sheet.
"""


def documents() -> dict[str, str]:
    """Content of every generated file by its path in the repository."""
    return {
        "config/README.md": readme(),
        "workflow/schemas/config.schema.json": _json(config_schema()),
        "workflow/schemas/samples.schema.json": _json(SampleRow.model_json_schema()),
    }


def systems() -> dict[str, type[SystemSettings]]:
    """Settings of the systems that come with the package, by kind."""
    own = {k: s for k, s in registered().items() if s.__module__.split(".")[0] == "nstm"}
    return {kind: own[kind].Settings for kind in sorted(own)}


def config_schema() -> dict[str, Any]:
    """JSON schema of ``config.yaml``, with the systems of the package and their overrides spelled out."""
    models = [(model, "validation") for model in (ExperimentConfig, *systems().values())]
    _, whole = models_json_schema(typing.cast(Any, models), ref_template="#/$defs/{model}")
    definitions = whole["$defs"]
    for settings in systems().values():
        schema = definitions[settings.__name__]
        schema["required"] = sorted({"kind", *schema.get("required", [])})
        for section in OVERRIDABLE:
            properties = definitions[SECTIONS[section].__name__]["properties"]
            schema["properties"][section] = {
                "type": "object",
                "description": f"keys of `{section}` that differ for this system",
                "properties": properties,
                "additionalProperties": False,
            }
    own_kind = {"type": "object", "properties": {"kind": {"type": "string", "pattern": r"\.py$"}}, "required": ["kind"]}
    choices = [{"$ref": f"#/$defs/{settings.__name__}"} for settings in systems().values()]
    schema = definitions.pop("ExperimentConfig")
    schema["properties"]["systems"]["additionalProperties"] = {"anyOf": [*choices, own_kind]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}


def readme() -> str:
    """``config/README.md``: every key with type, default and description."""
    parts = [_HEAD, "## Sample sheet\n\nTab-separated text, one row per sample, the first line names the columns.\n"]
    parts.append(_table("column", _rows(SampleRow)))
    parts.append("## `config.yaml`\n")
    parts.append(_table("key", _rows(ExperimentConfig, depth=0)))
    for kind, settings in systems().items():
        parts.append(f"## Systems of kind `{kind}`\n\nUnder `systems.NAME`. {_sentence(settings)}\n")
        parts.append(_table("key", _rows(settings)))
        other = ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in _flat(registered()[kind].fit_defaults))
        if other:
            parts.append(f"Defaults of `reconstruction` for this kind: {other}.\n")
    sections: dict[str, type[BaseModel]] = {**SECTIONS, "studies": Studies, "blind": Blind}
    for name, model in sections.items():
        note = " A system may override single keys of it." if name in OVERRIDABLE else ""
        parts.append(f"## `{name}`\n\n{_sentence(model)}{note}\n")
        parts.append(_table("key", _rows(model)))
    return "\n".join(parts)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _rows(model: type[BaseModel], prefix: str = "", depth: int = 9) -> Iterator[tuple[str, str, str, str]]:
    for name, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        if inner is not None and depth > 0:
            yield from _rows(inner, f"{prefix}{name}.", depth - 1)
        else:
            yield f"`{prefix}{name}`", _type(field), _default(field), field.description or _sentence(inner)


def _table(first: str, rows: Iterator[tuple[str, str, str, str]]) -> str:
    lines = [f"| {first} | type | default | what it is |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _sentence(model: type[BaseModel] | None) -> str:
    return (model.__doc__ or "").strip().split("\n")[0] if model else ""


def _model_of(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "needed" if field.default_factory is None else "see below"
    if field.default is None:
        return ""
    if isinstance(field.default, BaseModel):
        return "see below"
    return f"`{json.dumps(field.default)}`"


def _type(field: FieldInfo) -> str:
    return _limits(_named(field.annotation), field.metadata)


def _limits(name: str, metadata: list[Any]) -> str:
    signs = {"gt": "> ", "ge": ">= ", "lt": "< ", "le": "<= "}
    limits = [
        f"{sign}{getattr(item, attribute):g}"
        for attribute, sign in signs.items()
        for item in metadata
        if getattr(item, attribute, None) is not None
    ]
    return f"{name} {', '.join(limits)}" if limits else name


def _named(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        metadata = [m for item in arguments[1:] for m in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _limits(_named(arguments[0]), metadata)
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_named(a) for a in arguments if a is not type(None))
    if origin is list:
        return f"list of {_named(arguments[0])}"
    if origin is dict or annotation is dict:
        return "mapping"
    plain = {str: "text", bool: "true or false", int: "whole number", float: "number"}
    return plain.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write(root: str | Path) -> list[Path]:
    """Write all generated files below ``root``, the repository; returns them."""
    written = []
    for name, content in documents().items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for path in write(Path(__file__).resolve().parents[2]):
        print(path)
