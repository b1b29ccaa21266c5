"""JSON Schema of what goes in and out, from the operations' pydantic models.

Pydantic writes JSON Schema 2020-12, which is OpenAPI 3.1's own dialect: nothing is translated.
"""

from collections.abc import Iterable, Set
from typing import Any, get_args

from pydantic import AliasChoices, BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import models_json_schema

from comfy_mcp.operations.shapes import Params

Json = dict[str, Any]

SCHEMAS = "#/components/schemas/"


def result_schemas(models: Iterable[type[BaseModel]]) -> dict[str, Json]:
    """By name, with everything they refer to. Answers carry every member, null where nothing is known; only a
    member that has `exclude_if` may be left out."""
    results = {model.__name__: model for model in models}
    parts: dict[str, type[BaseModel]] = {}
    for model in results.values():
        _add_parts(model, parts)
    _, definitions = models_json_schema(
        [(model, "serialization") for model in results.values()],
        by_alias=True,
        ref_template=f"{SCHEMAS}{{model}}",
    )
    return {
        name: _always_whole(_tidy(schema), but=_optional(parts.get(name)))
        for name, schema in definitions["$defs"].items()
    }


def _add_parts(model: type[BaseModel], found: dict[str, type[BaseModel]]) -> None:
    """The model and those that its members are made of, by name."""
    if model.__name__ not in found:
        found[model.__name__] = model
        for field in model.model_fields.values():
            for each in (field.annotation, *get_args(field.annotation)):
                if isinstance(each, type) and issubclass(each, BaseModel):
                    _add_parts(each, found)


def _optional(model: type[BaseModel] | None) -> frozenset[str]:
    """Wire names."""
    fields = {} if model is None else model.model_fields
    return frozenset(to_camel(name) for name, field in fields.items() if field.exclude_if is not None)


def argument_schemas(params: type[Params]) -> dict[str, Json]:
    """By wire name: the schema of each argument. Null, where it is allowed, is the same as not given."""
    raw = params.model_json_schema(by_alias=False)
    return {
        _wire_name(params, name): _worded(params.model_fields[name].title) | _tidy(schema)
        for name, schema in raw.get("properties", {}).items()
    }


def given(schema: Json) -> Json:
    """Without the null: a path or query can't say it, and what is needed must not."""
    options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    if not options:
        return schema
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
    return {**rest, **options[0]} if len(options) == 1 else {**rest, "anyOf": options}


def required_arguments(params: type[Params]) -> frozenset[str]:
    """Wire names."""
    fields = params.model_fields.items()
    return frozenset(_wire_name(params, name) for name, field in fields if field.is_required())


def reference(model: type[BaseModel]) -> Json:
    return {"$ref": f"{SCHEMAS}{model.__name__}"}


def problem_schemas(model: type[BaseModel]) -> dict[str, Json]:
    """The schema of an error body and of what it refers to, by name. Those with a default are optional."""
    schema = _tidy(model.model_json_schema(ref_template=f"{SCHEMAS}{{model}}"))
    for member in schema["properties"].values():
        member.pop("default", None)
    return {**schema.pop("$defs", {}), model.__name__: schema}


def _worded(title: str | None) -> Json:
    """The words of a field that has no description."""
    return {} if title is None else {"description": title}


def _wire_name(params: type[Params], name: str) -> str:
    """The camelCase spelling where the field takes it: the v1 wire is camelCase throughout."""
    alias = params.model_fields[name].validation_alias
    camel = to_camel(name)
    return camel if isinstance(alias, AliasChoices) and camel in alias.choices else name


def _always_whole(schema: Json, *, but: Set[str]) -> Json:
    if "properties" not in schema:
        return schema
    return {**schema, "required": [name for name in schema["properties"] if name not in but]}


def _tidy(node: Any) -> Any:
    """Without the titles that pydantic makes from names: they say nothing that the name does not."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _tidy(value) for name, value in node[key].items()}
        if key in {"properties", "$defs"}
        else _tidy(node[key])
        for key in node
        if key != "title"
    }
