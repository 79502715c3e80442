"""From which figure on a check warns or fails: the thresholds file, read and validated. Pure but for reading the file.

The shipped file (``iot_platform/thresholds.yaml``) has every key; a file of the user's (``IOT_THRESHOLDS_FILE``) is laid
over it and needs only what differs. A mistake is an ``InputError`` that names file, key and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iot_platform.contracts.wire import CONTRACTS
from iot_platform.errors import InputError
from iot_platform.settings import SHIPPED_THRESHOLDS, Settings

READINGS = ("contract", "metric", "site")
# What an override of each check can name; a check without entries takes none.
SCOPES: dict[str, tuple[str, ...]] = {
    "null_rate": READINGS,
    "not_finite_rate": READINGS,
    "out_of_range_rate": READINGS,
    "duplicate_rate": READINGS,
    "late_rate": READINGS,
    "anomaly_rate": READINGS,
    "quarantine_rate": ("contract",),
    "volume": ("table",),
    "fleet_is_healthy": ("contract", "site"),
    "devices_are_declared": (),
    "metrics_are_declared": (),
}
# Whole numbers that a check takes besides its bounds.
OPTIONS: dict[str, tuple[str, ...]] = {
    name: () if not scopes else (("weeks", "min_weeks") if name == "volume" else ("min_rows",))
    for name, scopes in SCOPES.items()
}
SHARES = {name for name, options in OPTIONS.items() if "min_rows" in options}  # the checks whose figure is 1 at most
VOLUME_TABLES = ("bronze/readings", "silver/readings")
KNOWN = {"contract": tuple(CONTRACTS), "table": VOLUME_TABLES}  # names that can be checked; sites and metrics are anybody's


@dataclass(frozen=True)
class Bounds:
    """A figure that is ``warn`` or more warns, one that is ``fail`` or more fails; None: never."""

    warn: float | None = None
    fail: float | None = None

    def fails(self, figure: float) -> bool:
        return self.fail is not None and figure >= self.fail

    def warns(self, figure: float) -> bool:
        return self.warn is not None and figure >= self.warn


@dataclass(frozen=True)
class Override:
    """Other bounds for the rows that have these values."""

    scope: Mapping[str, str]
    bounds: Bounds

    def fits(self, values: Mapping[str, str | None]) -> bool:
        return all(values.get(name) == value for name, value in self.scope.items())


@dataclass(frozen=True)
class Threshold:
    """The bounds of one check, and those of the parts that have their own."""

    bounds: Bounds
    overrides: tuple[Override, ...] = ()
    min_rows: int = 0
    weeks: int = 0
    min_weeks: int = 0

    def of(self, **values: str | None) -> Bounds:
        """The bounds for what has these values: of the first override that fits, else the check's own."""
        return next((override.bounds for override in self.overrides if override.fits(values)), self.bounds)


Thresholds = Mapping[str, Threshold]


def load_thresholds(settings: Settings) -> Thresholds:
    """The threshold of every check that has one, by the check's name."""
    shipped, own = SHIPPED_THRESHOLDS, settings.thresholds_file
    entries = _read(shipped)
    found = {name: _threshold(shipped, name, entries[name]) for name in SCOPES}
    if own == shipped:
        return found
    for name, entry in _read(own).items():
        if name not in SCOPES:
            raise _wrong(own, name, f"no such check; there are {', '.join(SCOPES)}")
        if not isinstance(entry, dict):
            raise _wrong(own, name, "must map keys such as warn and fail to numbers")
        _threshold(own, name, entry)  # what is wrong in it alone is told before it is laid over the shipped one
        found[name] = _threshold(own, name, {**entries[name], **entry})
        if "warn" in entry:
            _check_order(own, name, found[name].bounds)
    return found


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
        if repeated := _repeated_key(yaml.compose(text, yaml.SafeLoader)):
            raise _wrong(path, *repeated)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", "Set IOT_THRESHOLDS_FILE to a file that can be read") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{path}{where}: not YAML: {getattr(error, 'problem', error)}", "Correct the file") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: must map checks to their thresholds", "Correct the file")
    return content


def _repeated_key(node: Any, place: str = "") -> tuple[str, str] | None:
    """Where a key stands twice, and what is wrong with that: YAML itself would take the last one and be silent."""
    from yaml import MappingNode, SequenceNode

    if isinstance(node, SequenceNode):
        inner = [(child, f"{place}[{number}]") for number, child in enumerate(node.value)]
    elif isinstance(node, MappingNode):
        inner = [(child, f"{place}.{key.value}".lstrip(".")) for key, child in node.value]
        for number, (_, name) in enumerate(inner):
            if name in [other for _, other in inner[:number]]:
                return name, f"stands twice, again in line {node.value[number][0].start_mark.line + 1}"
    else:
        inner = []
    return next((found for child, name in inner if (found := _repeated_key(child, name))), None)


def _threshold(path: Path, name: str, entry: Mapping[str, Any]) -> Threshold:
    keys = ("warn", "fail", *OPTIONS[name], *(["overrides"] if SCOPES[name] else []))
    for key in entry:
        if key not in keys:
            raise _wrong(path, f"{name}.{key}", f"no such key; there are {', '.join(keys)}")
    options = {key: _count(path, f"{name}.{key}", entry[key]) for key in OPTIONS[name] if key in entry}
    if options.get("min_weeks", 0) > options.get("weeks", options.get("min_weeks", 0)):
        raise _wrong(path, f"{name}.min_weeks", f"must not be above weeks ({options['weeks']})")
    bounds = _bounds(path, name, name, entry)
    listed = entry.get("overrides") or []
    if not isinstance(listed, list):
        raise _wrong(path, f"{name}.overrides", "must be a list")
    overrides = tuple(_override(path, name, number, item, bounds) for number, item in enumerate(listed))
    return Threshold(bounds, overrides, **options)


def _override(path: Path, name: str, number: int, item: object, usual: Bounds) -> Override:
    key = f"{name}.overrides[{number}]"
    if not isinstance(item, dict):
        raise _wrong(path, key, f"must name {' or '.join(SCOPES[name])}, and warn or fail")
    for part in item:
        if part not in (*SCOPES[name], "warn", "fail"):
            raise _wrong(path, f"{key}.{part}", f"no such key; there are {', '.join((*SCOPES[name], 'warn', 'fail'))}")
    scope = {part: item[part] for part in SCOPES[name] if part in item}
    if not scope or len(scope) == len(item):
        raise _wrong(path, key, f"must name {' or '.join(SCOPES[name])}, and warn or fail")
    for part, value in scope.items():
        if not isinstance(value, str):
            raise _wrong(path, f"{key}.{part}", "must be a name")
        if part in KNOWN and value not in KNOWN[part]:
            raise _wrong(path, f"{key}.{part}", f"{value!r} is none of {', '.join(KNOWN[part])}")
    bounds = _bounds(path, name, key, {"warn": usual.warn, "fail": usual.fail, **item})
    if "warn" in item:
        _check_order(path, key, bounds)
    return Override(scope, bounds)


def _bounds(path: Path, name: str, key: str, entry: Mapping[str, Any]) -> Bounds:
    for part in ("warn", "fail"):
        value = entry.get(part)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
        if value is not None and not is_number:
            raise _wrong(path, f"{key}.{part}", "must be a number from 0 on, or null for never")
        if name in SHARES and value is not None and value > 1:
            what = f"must be a share from 0 to 1, or null for never; {value:g} % is {value / 100:g}"
            raise _wrong(path, f"{key}.{part}", what)
    return Bounds(entry.get("warn"), entry.get("fail"))


def _check_order(path: Path, key: str, bounds: Bounds) -> None:
    """Refuse a ``warn`` that was written here and never warns. (A ``fail`` below the shipped ``warn`` does what it says.)"""
    if bounds.warn is not None and bounds.fail is not None and bounds.warn > bounds.fail:
        raise _wrong(path, f"{key}.warn", f"must not be above fail ({bounds.fail:g}), or it never warns")


def _count(path: Path, key: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise _wrong(path, key, "must be a whole number from 0 on")
    return value


def _wrong(path: Path, key: str, what: str) -> InputError:
    return InputError(f"{path}: {key}: {what}", "Correct the file")
