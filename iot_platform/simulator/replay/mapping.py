"""The mapping file: what stands where in somebody's data. One YAML file, checked whole before a row is read.

Every mistake is an ``InputError`` that names the file and the key.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from iot_platform.contracts.wire import CONTRACTS, Json, MetricFields, MetricMap, MetricNamed, WireContract, WireField
from iot_platform.errors import InputError

Column = str | int
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000, "epoch_us": 1}
VARIABLE = re.compile(r"\{([^{}]+)\}")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimestampForm(_Strict):
    """Where the time of measurement stands and how it is written; ``columns`` are joined by a space."""

    columns: list[Column] = Field(default_factory=list)
    format: str = "iso"
    timezone: str = "UTC"

    @field_validator("columns", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | int) else value

    @field_validator("format")
    @classmethod
    def _can_be_read(cls, form: str) -> str:
        if form == "iso" or form in EPOCHS:
            return form
        if "%" not in form:
            raise ValueError(f"{form!r} is neither iso, {', '.join(EPOCHS)} nor a format such as %d/%m/%Y %H:%M:%S")
        try:
            datetime.strptime("", form)  # noqa: DTZ007 - only asks whether the format itself is one
        except ValueError as error:
            if "does not match" not in str(error):
                raise ValueError(f"{form!r}: {error}") from None
        return form

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"there is no time zone {name!r}; write it like Europe/Rome") from None
        return name


class MetricBounds(_Strict):
    """Unit and physical bounds (both good values) of a metric that no contract declares."""

    unit: str = ""
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> MetricBounds:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class Devices(_Strict):
    """Registers the devices seen."""

    cadence_seconds: float = Field(gt=0)


class Mapping(_Strict):
    """A mapping file's content; the names are those of the file."""

    contract: str
    timestamp: TimestampForm
    files: str = ""
    header: bool = True
    delimiter: str = ","
    decimal: str = "."
    encoding: str = "utf-8"
    columns: dict[str, Column] = Field(default_factory=dict)
    path: str = ""
    set: dict[str, str | int | float] = Field(default_factory=dict)
    melt: dict[str, Column] = Field(default_factory=dict)
    missing: list[str] = Field(default_factory=lambda: [""])
    metrics: dict[str, MetricBounds] = Field(default_factory=dict)
    devices: Devices | None = None
    rate: float = Field(0, ge=0)

    @field_validator("contract")
    @classmethod
    def _is_declared(cls, name: str) -> str:
        if name not in CONTRACTS:
            raise ValueError(f"there is no contract {name!r}; there are {', '.join(CONTRACTS)}")
        return name

    @field_validator("timestamp", mode="before")
    @classmethod
    def _form_alone(cls, value: Any) -> Any:
        return {"format": value} if isinstance(value, str) else value

    @field_validator("files")
    @classmethod
    def _is_relative(cls, glob: str) -> str:
        if glob.startswith(("/", "~")) or ".." in glob.split("/"):
            raise ValueError(f"{glob!r} does not lie below the path that is replayed")
        return glob

    @field_validator("delimiter", "decimal")
    @classmethod
    def _one_character(cls, text: str) -> str:
        if len(text) != 1:
            raise ValueError(f"{text!r} is not one character")
        return text

    @field_validator("encoding")
    @classmethod
    def _is_an_encoding(cls, name: str) -> str:
        try:
            return codecs.lookup(name).name
        except LookupError:
            raise ValueError(f"there is no encoding {name!r}; utf-8 and latin-1 are two") from None

    @field_validator("missing", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return ["" if mark is None else str(mark) for mark in value] if isinstance(value, list) else value

    @field_validator("columns", "melt")
    @classmethod
    def _from_zero(cls, columns: dict[str, Column]) -> dict[str, Column]:
        for name, column in columns.items():
            if isinstance(column, int) and column < 0:
                raise ValueError(f"{name}: positions count from 0, there is no {column}")
        return columns

    @property
    def wire(self) -> WireContract:
        return CONTRACTS[self.contract]

    @property
    def by_position(self) -> bool:
        """Whether any column is said by its position."""
        return any(isinstance(column, int) for column in self.columns_used)

    @property
    def columns_used(self) -> list[Column]:
        return [*self.columns.values(), *self.melt.values(), *self.timestamp.columns]


@dataclass(frozen=True)
class Target:
    """Where a value goes in the message. ``measured``: it is a measurement, so a missing one is left out."""

    path: tuple[str, ...]
    json: Json
    measured: bool = False


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file; ``InputError`` names the file, the line or key, and what is wrong."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "Give --mapping a file that can be read") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not YAML: {getattr(error, 'problem', error)}", "Correct the file") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: it needs the keys contract, columns or melt, and timestamp", "Correct the file")
    try:
        mapping = Mapping(**{str(key): value for key, value in content.items()})
    except ValidationError as error:
        raise _first_mistake(path, error) from None
    wrong = _contradiction(mapping)
    if wrong:
        raise InputError(f"{path}: {wrong[0]}: {wrong[1]}", "Correct the mapping")
    return mapping


def _first_mistake(path: Path, error: ValidationError) -> InputError:
    first = error.errors()[0]
    # The branches of a union (column name or position) are ours, not keys of the file.
    key = ".".join(str(part) for part in first["loc"] if part not in {"str", "int", "float"}) or "mapping"
    what = {"missing": "is missing", "extra_forbidden": "no such key"}.get(first["type"]) or first["msg"]
    return InputError(f"{path}: {key}: {what.removeprefix('Value error, ')}", "Correct the mapping")


def _contradiction(mapping: Mapping) -> tuple[str, str] | None:
    """What no single key shows: the key, and what is wrong with it."""
    contract = mapping.wire
    if not mapping.columns and not mapping.melt:
        return "columns", "is missing; say in which columns the values stand (or melt)"
    for key, names in (("columns", mapping.columns), ("set", mapping.set)):
        for name in names:
            if target_of(contract, name) is None:
                return f"{key}.{name}", f"{contract.name} has no such field; it has {', '.join(field_names(contract))}"
    in_columns = {target_of(contract, name) for name in mapping.columns}
    twice = next((name for name in mapping.set if target_of(contract, name) in in_columns), "")
    if twice:
        return f"set.{twice}", "comes from columns already"
    return _time_contradiction(mapping) or _metric_contradiction(mapping) or _missing_field(mapping)


def _time_contradiction(mapping: Mapping) -> tuple[str, str] | None:
    column = time_column(mapping)
    in_columns = column is not None
    if in_columns and mapping.timestamp.columns not in ([], [column]):
        return "timestamp.columns", "columns names the timestamp too; say it once"
    if not in_columns and not mapping.timestamp.columns:
        return "timestamp.columns", "is missing, and columns names no timestamp"
    if any(_is_time(target_of(mapping.wire, name)) for name in mapping.set):
        return "set", "a timestamp comes from the data, never from set"
    if not mapping.header and any(isinstance(column, str) for column in mapping.columns_used):
        return "header", "without a header columns are said by position (0 is the first), not by name"
    return None


def _metric_contradiction(mapping: Mapping) -> tuple[str, str] | None:
    for name, bounds in mapping.metrics.items():
        declared = mapping.wire.metric(name)
        if declared and (declared.unit, declared.min_value, declared.max_value) != (bounds.unit, bounds.min, bounds.max):
            return f"metrics.{name}", f"{mapping.contract} declares it, and a mapping cannot change that"
    if isinstance(mapping.wire.shape, MetricFields):
        for name in mapping.melt:
            if target_of(mapping.wire, name) is None:
                known = ", ".join(metric.name for metric in mapping.wire.metrics)
                return f"melt.{name}", f"{mapping.contract} has no such metric; it has {known}"
    return None


def _missing_field(mapping: Mapping) -> tuple[str, str] | None:
    contract = mapping.wire
    targets = [target_of(contract, name) for name in (*mapping.columns, *mapping.set)]
    given = {target.path for target in targets if target}
    for field in contract.fields:
        if not field.required or field.path in given or field.json is Json.TIMESTAMP or field.json is Json.MEASUREMENTS:
            continue
        if not (mapping.melt and isinstance(contract.shape, MetricNamed) and field.name == contract.shape.name_field):
            return f"columns.{field.name}", f"is missing; {contract.name} needs it (from columns or set)"
    if not mapping.melt and not any(target and target.measured for target in targets):
        return "columns", f"no measurement; {contract.name} takes {', '.join(measured_names(contract))}"
    return None


def time_field(contract: WireContract) -> WireField:
    return next(field for field in contract.fields if field.json is Json.TIMESTAMP)


def time_column(mapping: Mapping) -> Column | None:
    """The column that ``columns`` names for the timestamp."""
    found = [column for name, column in mapping.columns.items() if _is_time(target_of(mapping.wire, name))]
    return found[0] if found else None


def _is_time(target: Target | None) -> bool:
    return target is not None and target.json is Json.TIMESTAMP


def target_of(contract: WireContract, name: str) -> Target | None:
    """Where a name that a mapping uses stands in the contract's messages; None when nowhere."""
    for field in contract.fields:
        if field.name == name and field.json not in {Json.OBJECT, Json.MEASUREMENTS}:
            return Target(field.path, field.json)
        if field.json is Json.OBJECT and name.startswith(f"{field.name}."):
            return Target((*field.path, name.removeprefix(f"{field.name}.")), Json.OBJECT)
    match contract.shape:
        case MetricNamed(value_field=value) if name == value:
            return Target((value,), Json.NUMBER, measured=True)
        case MetricMap(field=field):
            return Target((field, name.removeprefix(f"{field}.")), Json.NUMBER, measured=True)
        case MetricFields():
            for metric in contract.metrics:
                if name in {metric.name, metric.field}:
                    return Target((metric.field or metric.name,), Json.NUMBER, measured=True)
    return None


def measured_names(contract: WireContract) -> list[str]:
    match contract.shape:
        case MetricNamed(value_field=value):
            return [value]
        case MetricMap(field=field):
            return [f"{field}.<metric>"]
        case MetricFields():
            return [metric.name for metric in contract.metrics]


def field_names(contract: WireContract) -> list[str]:
    return [field.name for field in contract.fields if field.json is not Json.MEASUREMENTS] + measured_names(contract)
