"""The container files: pinned, on loopback only, with the platform's own settings; valid for Docker where there is one."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from iot_platform.settings import PROJECT_ROOT, Settings

PINNED = re.compile(r"^[\w./-]+:[\w.-]*\d[\w.-]*$")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((PROJECT_ROOT / "docker-compose.yml").read_text())


def test_every_image_is_pinned(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values()]
    images += re.findall(r"^FROM (\S+)", (PROJECT_ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) > len(compose["services"])
    assert [image for image in images if not PINNED.match(image) or image.endswith("latest")] == []


def test_nothing_is_exposed_beyond_loopback(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert [port for port in ports if not str(port).startswith("127.0.0.1:")] == []
    assert not any("network_mode" in service for service in compose["services"].values())


def test_the_services_are_those_of_the_platform_and_each_is_watched(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services.keys() == {"kafka", "topics", "ingest", "webserver", "daemon", "simulator"}
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"topics", "simulator"}
    assert services["simulator"]["profiles"] == ["simulator"]
    for service in services.values():
        assert service.get("depends_on", {}).keys() <= services.keys()
        volumes = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert volumes and volumes <= compose["volumes"].keys()


def test_the_settings_in_containers_are_settings(compose: dict[str, Any]) -> None:
    names = {name for service in compose["services"].values() for name in service["environment"] if name.startswith("IOT_")}
    names |= set(re.findall(r"\b(IOT_\w+)=", (PROJECT_ROOT / "Dockerfile").read_text()))
    assert "IOT_HOME" in names and "IOT_KAFKA_BOOTSTRAP" in names
    assert {name.removeprefix("IOT_").lower() for name in names} <= Settings.model_fields.keys()


def compose_command() -> list[str]:
    """Docker's plugin, or the command of its own that Debian packages; neither needs an engine to read the file."""
    docker = shutil.which("docker")
    if docker and not subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        return [docker, "compose"]
    if alone := shutil.which("docker-compose"):
        return [alone]
    pytest.skip("neither `docker compose` nor `docker-compose` here")


@pytest.mark.parametrize("profile", [[], ["--profile", "simulator"]], ids=["all", "simulator"])
def test_docker_accepts_the_compose_file(profile: list[str]) -> None:
    done = subprocess.run(
        [*compose_command(), *profile, "config", "-q"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
