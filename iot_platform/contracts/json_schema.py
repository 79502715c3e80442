"""JSON Schemas (draft 2020-12) of the messages, derived from the wire contracts; published under ``docs/contracts/``.

A schema says what is accepted on the wire. Physical bounds are annotations (``x-physical-minimum``): a value outside
them is a well-formed message whose reading is rejected later, with a reason.
"""

from __future__ import annotations

from typing import Any

from iot_platform.contracts.wire import Json, Metric, MetricFields, MetricNamed, WireContract, WireField

_TYPES: dict[Json, dict[str, Any]] = {
    Json.STRING: {"type": "string"},
    Json.NUMBER: {"type": "number"},
    Json.UUID: {"type": "string", "format": "uuid"},
    Json.TIMESTAMP: {"type": ["string", "number"]},
    Json.MEASUREMENTS: {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"minLength": 1, "maxLength": 256},
        "additionalProperties": {"type": ["number", "null"]},
    },
    Json.OBJECT: {"type": "object"},
}


def _field_schema(field: WireField) -> dict[str, Any]:
    schema = dict(_TYPES[field.json])
    if not field.required and "type" in schema:
        schema["type"] = [*([schema["type"]] if isinstance(schema["type"], str) else schema["type"]), "null"]
    if field.column in {"device_id", "metric"}:
        schema |= {"minLength": 1, "maxLength": 256}
    if field.allowed:
        schema["enum"] = list(field.allowed)
    if field.minimum is not None:
        schema["minimum"] = field.minimum
    if field.unit:
        schema["x-unit"] = field.unit
    return schema | {"description": field.description}


def _require(node: dict[str, Any], name: str) -> None:
    required = node.setdefault("required", [])
    if name not in required:
        required.append(name)


def _metric_schema(metric: Metric) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["number", "null"], "description": metric.description or metric.name}
    schema["x-unit"] = metric.unit
    if metric.min_value is not None:
        schema["x-physical-minimum"] = metric.min_value
    if metric.max_value is not None:
        schema["x-physical-maximum"] = metric.max_value
    return schema


def json_schema(contract: WireContract) -> dict[str, Any]:
    """The JSON Schema of a message of this contract; unknown fields are accepted (they are kept in ``extras``)."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:iot-platform:contract:{contract.name}:v{contract.version}",
        "title": f"{contract.name} v{contract.version}",
        "description": contract.description,
        "type": "object",
        "properties": {},
        "required": [],
    }
    for field in contract.fields:
        node = schema
        for part in field.path[:-1]:
            parent, node = node, node["properties"].setdefault(part, {"type": ["object", "null"], "properties": {}})
            if field.required:  # then so is the object that holds it
                node["type"] = "object"
                _require(parent, part)
        node["properties"][field.path[-1]] = _field_schema(field)
        if field.required:
            _require(node, field.path[-1])
    match contract.shape:
        case MetricFields():
            names = [metric.field or metric.name for metric in contract.metrics]
            schema["properties"] |= dict(zip(names, map(_metric_schema, contract.metrics), strict=True))
            schema["anyOf"] = [{"required": [name]} for name in names]
        case MetricNamed(value_field=value):
            schema["properties"][value] = {"type": ["number", "null"], "description": "the measured value"}
            schema["required"].append(value)
            schema["x-metrics"] = {metric.name: _metric_schema(metric) for metric in contract.metrics}
    return schema
