"""deploy/ holds what its README promises: each file is what its tool takes, and nothing is left open."""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import (
    COMPOSE,
    DEPLOY,
    DOCKERFILE,
    ROOT,
    compose,
    copied,
    image_environment,
    image_health,
    instructions,
    last,
)

FLEET = DEPLOY / "compose.fleet.yaml"
SERVICES: dict[str, dict[str, Any]] = compose()["services"]
CONFINED = ("bridge", "prometheus", "grafana")
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
EXAMPLE = (DEPLOY / ".env.example").read_text(encoding="utf-8")
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"


def run(*command: str | Path) -> str:
    """What it prints, when it is content."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_schema(*files: Path) -> str:
    return run(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *files)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    assert run(HADOLINT, "--failure-threshold", "style", DOCKERFILE) == ""


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.read_text(encoding="utf-8").replace("--no-cache-dir ", ""), encoding="utf-8")
    with pytest.raises(AssertionError, match="DL3042"):
        run(HADOLINT, bad)


def test_the_compose_files_follow_the_specification() -> None:
    check_schema(*DEPLOY.glob("compose*.yaml"))


def test_the_specification_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    bad = tmp_path / "compose.yaml"
    bad.write_text(COMPOSE.read_text(encoding="utf-8").replace("read_only:", "readonly:"), encoding="utf-8")
    with pytest.raises(AssertionError, match="readonly"):
        check_schema(bad)


@pytest.mark.parametrize("name", CONFINED)
def test_a_service_of_ours_can_change_nothing_but_its_volume(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert "privileged" not in service
    writable = [volume for volume in service["volumes"] if not volume.endswith(":ro")]
    assert len(writable) == 1
    assert writable[0].partition(":")[0] in compose()["volumes"]
    assert all(entry.startswith("/tmp:size=") for entry in service["tmpfs"])


def test_the_bridge_keeps_its_state_where_its_volume_is() -> None:
    bridge = SERVICES["bridge"]
    assert bridge["volumes"] == [f"state:{bridge['environment']['COMFY_BRIDGE_STATE_DIR']}"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_asked_for_its_health(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_only_loopback_is_published() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(published) == {"bridge", "grafana"}
    for ports in published.values():
        assert all(port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:") for port in ports)


def test_secrets_are_files_that_must_be_named_and_are_nowhere_else() -> None:
    for secret in compose()["secrets"].values():
        assert re.fullmatch(r"\$\{\w+:\?a file .+ see deploy/README\.md\}", secret["file"])
    for service in SERVICES.values():
        assert set(service.get("secrets", ())) <= set(compose()["secrets"])
        for name, value in service.get("environment", {}).items():
            assert name.endswith("__FILE") or not re.search("KEY|TOKEN|PASSWORD", name), name
            assert not re.search(r"\$\{\w*(KEY|TOKEN|PASSWORD)", value), name


def test_a_variable_has_a_default_or_stops_the_start_with_a_reason_and_is_documented() -> None:
    uses = re.findall(r"\$\{(\w+)(:[-?])?([^}]*)\}", COMPOSE.read_text(encoding="utf-8"))
    explained = {name for name, kind, text in uses if kind and text}
    assert {name for name, _, _ in uses} == explained
    optional_images = {"BRIDGE_IMAGE", "PROMETHEUS_IMAGE", "GRAFANA_IMAGE", "PROMETHEUS_RETENTION"}
    for name in explained - optional_images:
        assert name in EXAMPLE + README, name
    assert {name for name, kind, _ in uses if kind == ":?"} == {
        "COMFYUI_IMAGE",
        "COMFYUI_FOLDER",
        "BRIDGE_KEY_FILE",
        "METRICS_KEY_FILE",
        "GRAFANA_PASSWORD_FILE",
    }


def test_the_fleet_adds_engines_and_a_database_that_only_the_bridge_reaches() -> None:
    fleet = yaml.safe_load(FLEET.read_text(encoding="utf-8"))
    services, bridge = fleet["services"], fleet["services"]["bridge"]
    urls = bridge["environment"]["COMFYUI_URL"].split(",")
    engines = [name for name in services if name.startswith("comfyui-")]
    assert urls == [f"http://{name}:8188" for name in ("comfyui", *engines)]
    assert len(urls) == 3
    for name in engines:
        assert services[name] == {"extends": {"file": COMPOSE.name, "service": "comfyui"}}
    postgres = services["postgres"]
    assert set(postgres["networks"]) == set(bridge["networks"]) - set(SERVICES["bridge"]["networks"])
    assert "ports" not in postgres
    assert postgres["secrets"] == ["postgres_password"]
    assert (
        set(SERVICES["bridge"]["secrets"])
        < set(bridge["secrets"])
        <= {*compose()["secrets"], *fleet["secrets"]}
    )
    assert {secret.upper() for secret in bridge["secrets"]} >= {"COMFY_BRIDGE_STORE"}, "the setting's name"
    for name, secret in fleet["secrets"].items():
        assert re.fullmatch(r"\$\{\w+_FILE:\?a file .+ see deploy/README\.md\}", secret["file"]), name
    assert "psycopg==" in (ROOT / "requirements.lock").read_text(encoding="utf-8"), "the image has the driver"


def test_the_example_of_an_environment_names_variables_that_exist_and_no_secret() -> None:
    named = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))
    files = "".join(file.read_text(encoding="utf-8") for file in (COMPOSE, FLEET))
    assert set(named) <= set(re.findall(r"\$\{(\w+)", files))
    assert named["COMFYUI_IMAGE"] == "", "whoever runs it chooses one"
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/deploy/.env", "/deploy/secrets/"} <= set(ignored)


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_an_image_that_we_choose_is_pinned(name: str) -> None:
    assert re.fullmatch(r"\$\{\w+_IMAGE:-[\w/-]+:v?\d+\.\d+\.\d+\}", SERVICES[name]["image"])


def test_what_is_mounted_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert (DEPLOY / source).is_dir() if source.startswith(".") else source in compose()["volumes"]


def test_prometheus_scrapes_the_bridge_with_the_key_that_it_is_given() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = prometheus["scrape_configs"]
    bridge = SERVICES["bridge"]["environment"]
    assert job["static_configs"] == [{"targets": [f"bridge:{bridge['COMFY_BRIDGE_HTTP_PORT']}"]}]
    assert set(SERVICES["bridge"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    folder, _, secret = job["authorization"]["credentials_file"].rpartition("/")
    assert folder == "/run/secrets"
    assert secret in SERVICES["prometheus"]["secrets"]
    assert bridge["COMFY_BRIDGE_METRICS_PUBLIC"] == "false"


def test_grafana_finds_its_dashboards_and_prometheus() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    (provider,) = provisioned(provisioning / "dashboards")["providers"]
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    (source,) = provisioned(provisioning / "datasources")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])


def provisioned(folder: Path) -> dict[str, Any]:
    (file,) = folder.iterdir()
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def test_without_a_registry_the_base_image_stays_as_it_is(tmp_path: Path) -> None:
    """No digest is better than one that nobody gave."""
    copy, tools = tmp_path / "Dockerfile", tmp_path / "bin"
    copy.write_bytes(DOCKERFILE.read_bytes())
    tools.mkdir()
    for tool in ("bash", "sed"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    make = [shutil.which("make") or "", "-s", "-C", str(ROOT), "base-image", f"BASE={copy}"]
    done = subprocess.run(make, capture_output=True, text=True, check=False, env={"PATH": str(tools)})
    assert done.returncode != 0
    assert copy.read_bytes() == DOCKERFILE.read_bytes()


def test_the_image_is_built_in_two_stages_from_a_pinned_base_and_runs_as_nobody_in_particular() -> None:
    assert [rest for name, rest in instructions() if name == "FROM"] == [
        "python:${PYTHON} AS build",
        "python:${PYTHON}",
    ]
    assert re.fullmatch(r"PYTHON=\d+\.\d+\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", last("ARG"))
    user, group = map(int, last("USER").split(":"))
    assert min(user, group) >= 10_000, "no user of the host has it by chance"


def test_the_image_and_the_compose_file_agree() -> None:
    bridge = SERVICES["bridge"]
    assert bridge["healthcheck"]["test"] == ["CMD", *image_health()]
    own = {name: value for name, value in image_environment().items() if name.startswith("COMFY_BRIDGE_")}
    assert own.items() <= bridge["environment"].items()
    flags = dict(re.findall(r"--([\w-]+)=(\S+)", last("HEALTHCHECK").partition("CMD ")[0]))
    for flag, value in flags.items():
        assert str(bridge["healthcheck"][flag.replace("-", "_")]) == value


def test_the_builder_gets_what_the_dockerfile_copies_and_nothing_else() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in ignore
    assert {line.removeprefix("!") for line in ignore if line.startswith("!")} == set(copied())


def test_the_gpu_file_adds_to_a_service_that_exists() -> None:
    gpu = yaml.safe_load((DEPLOY / "compose.gpu.yaml").read_text(encoding="utf-8"))
    assert set(gpu["services"]) <= set(SERVICES)
