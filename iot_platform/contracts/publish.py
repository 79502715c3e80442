"""Writes the JSON Schemas of all wire contracts as files: ``python -m iot_platform.contracts.publish [FOLDER]``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from iot_platform.contracts.json_schema import json_schema
from iot_platform.contracts.wire import CONTRACTS

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "contracts"


def published_schemas() -> dict[str, str]:
    """File name to content of every contract's JSON Schema."""
    return {
        f"{contract.name}.v{contract.version}.json": json.dumps(json_schema(contract), indent=2, ensure_ascii=False) + "\n"
        for newest in CONTRACTS.values()
        for contract in newest.versions
    }


def publish(folder: Path = FOLDER) -> list[Path]:
    """Write the schemas into the folder; the files written. Published versions of old contracts stay."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, text in published_schemas().items():
        file = folder / name
        file.write_text(text, encoding="utf-8")
        files.append(file)
    return files


if __name__ == "__main__":
    for path in publish(*map(Path, sys.argv[1:2])):
        print(path)
