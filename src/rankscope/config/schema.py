"""The JSON schema of a study file, for editors. In: the pydantic root and the plug-ins that are there. Out: a dict.

Pydantic knows the parsed form; a file may also hold the short ones: a name for a model, a task, an arm or a
diagnostic, one value for a list of one, and nothing under a section. These are added here. What no schema can say, such
as two arms of one name, is for ``rankscope check``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rankscope import plugins
from rankscope.config.study import StudyConfig
from rankscope.errors import PluginError

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SECTIONS = ("training", "evaluate", "recommend")
_SWEPT = ("rank", "alpha", "targets", "scaling", "dropout", "layers")
_ELSEWHERE = "[@:]"  # what a name holds that is looked up in a file or by a bridge
_TEXT = {"type": "string", "minLength": 1}

Schema = dict[str, Any]


def study_schema() -> Schema:
    """The schema of what a file may hold, with the names of all tasks and diagnostics that are installed here."""
    root = _plain(StudyConfig.model_json_schema(by_alias=True))
    parts, keys = root["$defs"], root["properties"]
    root["required"].remove("name")  # the file's name stands in
    for key in ("models", "arms"):
        keys[key]["minItems"] = 1
    for key in _SECTIONS:
        keys[key] = _or_nothing({"$ref": keys[key]["$ref"]})
    for key in ("in_domain", "cross_domain"):
        _list_of(parts["Evaluate"]["properties"][key])["minItems"] = 1
    parts["Training"]["properties"]["seeds"] |= {"minItems": 1, "uniqueItems": True}
    _arms(parts)
    _named(parts, "ModelEntry", [_TEXT])
    _tasks(parts)
    _diagnostics(parts)
    return {"$schema": DIALECT, "title": "A rankscope study", **root}


def _plain(value: Any) -> Any:
    """Without pydantic's titles, which only repeat the keys, and without the marks of code in docstrings."""
    if isinstance(value, list):
        return [_plain(child) for child in value]
    if not isinstance(value, dict):
        return value
    found = {k: _plain(v) for k, v in value.items() if k != "title" or not isinstance(v, str)}
    if isinstance(found.get("description"), str):
        found["description"] = found["description"].replace("``", "`")
    return found


def _arms(parts: dict[str, Schema]) -> None:
    lora, full = parts["LoraArm"]["properties"], parts["FullArm"]["properties"]
    for key in _SWEPT:
        lora[key] = _one_or_list(_list_of(lora[key])["items"])
    lora["layers"] = _one_or_list({"type": ["string", "integer"]})
    rate = {"type": "number", "exclusiveMinimum": 0}
    for keys in (lora, full):
        keys["lr"] = {"anyOf": [{"const": "auto"}, *_one_or_list(rate)["anyOf"]], "default": "auto"}
    entry = parts["ArmEntry"]
    entry |= {"minProperties": 1, "maxProperties": 1}
    kinds = entry["properties"]
    for kind in ("lora", "adapter", "checkpoint"):  # these need keys of their own; base and full don't
        kinds[kind] = next(branch for branch in kinds[kind]["anyOf"] if "$ref" in branch)
    parts["ArmEntry"] = {"anyOf": [{"enum": ["base", "full"]}, entry]}


def _tasks(parts: dict[str, Schema]) -> None:
    names = plugins.names("tasks")
    entry = parts["TaskEntry"]
    entry["properties"]["task"] = _name_of(names)
    own = dict.fromkeys(entry["properties"])
    options = {option: {} for name in names for option in _options("tasks", name) if option not in own}
    entry["properties"] |= options
    # A task of a package or file may take options of its own; one that is installed here takes those known here.
    entry["if"] = {"properties": {"task": {"pattern": _ELSEWHERE}}}
    entry["else"] = {"propertyNames": {"enum": list(entry["properties"])}}
    _named(parts, "TaskEntry", [_name_of(names)])


def _diagnostics(parts: dict[str, Schema]) -> None:
    names = plugins.names("diagnostics")
    entry = parts["DiagnoseEntry"]
    entry["properties"]["name"] = _name_of(names)
    common = {key: value for key, value in entry["properties"].items() if key != "name"}
    arms = _list_of(common["arms"])
    common["arms"] = entry["properties"]["arms"] = _or_nothing(_one_or_list(arms["items"]))
    own = {name: common | {option: {} for option in _options("diagnostics", name)} for name in names}
    by_name = {
        "type": "object",
        "properties": {name: _or_nothing(_closed(keys)) for name, keys in own.items()},
        "patternProperties": {_ELSEWHERE: {"type": ["object", "null"]}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    _named(parts, "DiagnoseEntry", [_name_of(names), by_name])


def _options(kind: str, name: str) -> Iterable[str]:
    try:
        found = plugins.get(kind, name)
    except PluginError:  # a package that is broken is told by ``rankscope list``
        return ()
    return [option for part in ("options", "scoring", "files") for option in getattr(found, part, ())]


def _named(parts: dict[str, Schema], part: str, short: list[Schema]) -> None:
    """An entry, or a short form of it."""
    parts[part] = {"anyOf": [*short, parts[part]]}


def _name_of(names: Iterable[str]) -> Schema:
    """A name that is known here, or one that is looked up elsewhere."""
    return {"anyOf": [{"enum": list(names)}, {"type": "string", "pattern": _ELSEWHERE}]}


def _list_of(schema: Schema) -> Schema:
    """The branch of a schema that is a list."""
    branches = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return next(branch for branch in branches if branch.get("type") == "array")


def _one_or_list(item: Schema) -> Schema:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}]}


def _closed(keys: Schema) -> Schema:
    return {"type": "object", "properties": keys, "additionalProperties": False}


def _or_nothing(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}
