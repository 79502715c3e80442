"""``make package``: what a cluster needs to make derived tables, in ``dist/cluster``; what it is and how to use it says
docs/cluster.md.

Run by the environment of a clone. Packages come by requirements.lock, each by its hash, as wheels for the cluster's Python
and machine, whatever this one is. Two builds of one commit give the same archive.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setup import LOCK, PYTHON, ROOT, reason, uv_environment

# What iot_platform.remote.main imports; a test runs it on these alone. pyspark is the cluster's own.
ROOTS = (
    "boto3", "dagster-pipes", "deltalake", "duckdb", "fsspec", "numpy", "pandas", "pandera[polars]", "polars", "pyarrow",
    "psutil", "pydantic", "pydantic-settings", "zstandard",
)  # fmt: skip
ENTRY, ARCHIVE, MANIFEST = "iot_remote.py", "iot_environment.tar.gz", "manifest.json"
# The cluster runs no tests, compiles nothing, and speaks to no service of AWS but storage and who gives the keys.
LEFT_OUT = re.compile(r"(^|/)(tests|__pycache__|include|bin)(/|$)|\.(pyx|pxd|h|lib|a)$|^pyspark/")
BOTOCORE = re.compile(r"^botocore/data/(?!(?:s3|sts|sso|sso-oidc)/|[^/]+$)")


class PackageError(Exception):
    """One line: what failed."""


def closure(roots: Iterable[str]) -> list[str]:
    """Names of the roots and of everything that they need, as installed here."""
    found: dict[str, set[str]] = {}
    waiting = [Requirement(root) for root in roots]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        known = found.get(name)
        if known is not None and wanted.extras <= known:
            continue
        found[name] = (known or set()) | wanted.extras
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            extras = ("", *wanted.extras)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return sorted(found)


def locked(names: Iterable[str], lock: str) -> str:
    """The lock's entries of these packages, with their hashes. Raises ``PackageError`` for one that it has not."""
    entries: list[str] = []
    for name in names:
        found = re.search(rf"^{re.escape(name)}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
        if not found:
            raise PackageError(f"{LOCK.name} has no {name}; renew it with `make lock`")
        entries.append(found.group(0))
    return "".join(entries)


def run(command: Iterable[str | Path], environment: dict[str, str] | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackageError(f"{' '.join(words[1:5])} failed: {reason(done.stdout + done.stderr)}")
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """The wheel of this package."""
    run([PYTHON, "-m", "hatchling", "build", "-t", "wheel", "-d", folder])
    (wheel,) = folder.glob("iot_platform-*.whl")
    return wheel


def install(folder: Path, wheel: Path, python: str, platform: str) -> None:
    """The locked packages and the wheel, as the cluster imports them, below ``folder``."""
    configured = run([PYTHON, "-m", "pip", "--disable-pip-version-check", "config", "list"])
    environment = uv_environment(configured, dict(os.environ))
    uv = [PYTHON, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--target", folder]
    uv += ["--python-version", python, "--python-platform", platform, "--only-binary", ":all:"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as chosen:
        chosen.write(locked(closure(ROOTS), LOCK.read_text(encoding="utf-8")))
        chosen.flush()
        run([*uv, "--require-hashes", "-r", chosen.name], environment)
    run([*uv, wheel], environment)


def shipped(folder: Path) -> Iterator[Path]:
    """Files of the environment that the cluster needs, in order."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not LEFT_OUT.search(name) and not BOTOCORE.match(name):
            yield path


def archive(folder: Path, target: Path) -> None:
    """The environment as one archive: nothing in it tells when, where or by whom it was made."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in shipped(folder):
            info = tarfile.TarInfo(path.relative_to(folder).as_posix())
            info.size, info.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(info, content)


def jars(group: str) -> dict[str, str]:
    """Coordinates and sha256 of a group of the lock of jars."""
    from iot_platform.local.jars import read_lock

    return {jar.coordinates: jar.sha256 for jar in read_lock()[group]}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package(out: Path, python: str, platform: str) -> dict[str, Any]:
    """Make everything in ``out``, which is emptied before; the manifest."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    wheel = build_wheel(out)
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder), wheel, python, platform)
        archive(Path(folder), out / ARCHIVE)
    shutil.copyfile(Path(__file__).with_name(ENTRY), out / ENTRY)
    files = {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in sorted(out.iterdir())}
    manifest = {
        "python": python,
        "platform": platform,
        "files": files,
        "jars_for_a_spark_without_s3": jars("s3a"),
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(prog="make package", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist" / "cluster")
    parser.add_argument("--python", default="3.11", help="the cluster's Python; default 3.11")
    parser.add_argument("--platform", default="x86_64-manylinux_2_28", help="or aarch64-manylinux_2_28, for Graviton")
    given = parser.parse_args()
    manifest = package(given.out, given.python, given.platform)
    print(f"made in {given.out}:")
    for name, file in manifest["files"].items():
        print(f"  {name:44} {file['bytes'] / 1e6:8.1f} MB  sha256 {file['sha256'][:16]}…")
    print(f"put {ENTRY}, {ARCHIVE} and {MANIFEST} to a bucket, and name it: IOT_REMOTE_CODE=s3://bucket/prefix")


if __name__ == "__main__":
    try:
        main()
    except PackageError as error:
        print(f"package: {error}", file=sys.stderr)
        sys.exit(1)
