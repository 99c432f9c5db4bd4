"""The image, as far as can be told without an engine: its text, and its steps one by one."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # PyYAML has no types of its own

from hitree_server.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and line[0] != "#"]
STAGES = [stage.splitlines() for stage in re.split(r"\n(?=FROM )", "\n".join(LINES))[1:]]
FINAL = STAGES[-1]


def of(stage: list[str], instruction: str) -> list[str]:
    """The arguments of an instruction in a stage."""
    return [line.split(maxsplit=1)[1] for line in stage if line.split()[0] == instruction]


def test_each_variant_has_a_base_and_an_extra() -> None:
    names = [line.rsplit(maxsplit=1)[-1] for line in LINES if line.startswith("FROM ")]
    assert {"base-cpu", "base-gpu"} <= set(names)
    cases = dict(re.findall(r"(\w+)\) extra=([\w-]+)", TEXT))
    assert cases == {"cpu": "server", "gpu": "server-gpu"}
    extras = (ROOT / "pyproject.toml").read_text()
    for extra in cases.values():
        assert re.search(rf"^{extra} = ", extras, re.MULTILINE)


def test_final_stage_is_not_root_and_has_no_build_tools() -> None:
    (user,) = of(FINAL, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert FINAL.index(f"USER {user}") < FINAL.index('CMD ["hitree", "serve"]')
    forbidden = re.compile(r"apt-get|pip |gcc|make|curl|wheels")
    assert [line for line in FINAL if forbidden.search(line)] == []


def test_ports_and_health_are_those_of_the_settings() -> None:
    ports = {str(Settings.model_fields[name].default) for name in ("grpc_port", "http_port")}
    assert set(of(FINAL, "EXPOSE")[0].split()) == ports
    (health,) = of(FINAL, "HEALTHCHECK")
    assert "/readyz" in health
    code = re.search(r'"-c", +"(.*)"\]', health)
    assert code is not None
    compile(code[1], "healthcheck", "exec")
    for name in re.findall(r"HITREE_(\w+)", "\n".join(FINAL)):
        assert name.lower() in Settings.model_fields


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    assert rules[0] == "*"
    for arguments in of(STAGES[0], "COPY"):
        for source in arguments.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, rule) for rule in allowed), source


def test_compose_builds_both_variants() -> None:
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    assert services["hitree"]["ports"] == ["50051:50051", "3000:3000"]
    assert services["hitree-gpu"]["build"]["args"] == {"VARIANT": "gpu"}


def test_bundle_is_a_package() -> None:
    """Without it the folder has no one path; exporting over it would take it away."""
    assert (ROOT / "bundle/hitree_bundle/__init__.py").is_file()


@pytest.mark.full
def test_wheels_hold_all_that_serving_reads(tmp_path: Path) -> None:
    """The image's first stage."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT), str(ROOT / "bundle")], check=True, timeout=300)
    held = {wheel.name.split("-")[0]: set(zipfile.ZipFile(wheel).namelist())
            for wheel in tmp_path.glob("*.whl")}  # fmt: skip
    for folder, distribution, package in (
        ("server/hitree_server/web", "hitree", "hitree_server/web"),
        ("bundle/hitree_bundle", "hitree_bundle", "hitree_bundle"),
    ):
        files = {path.name for path in (ROOT / folder).iterdir() if path.is_file()}
        assert {f"{package}/{name}" for name in files} <= held[distribution]
