"""The files of the hub Space: its header, its limits, and a page for strangers that tells nobody about others."""

import importlib.util
import os
from pathlib import Path

import pytest

from ledits.server.settings import Settings
from ledits.studio import page as studio
from serving import png, served

SPACE = Path(__file__).parent.parent / "integrations/space"


@pytest.fixture
def app(monkeypatch):
    monkeypatch.setenv("SPACE_HOST", "owner-name.hf.space")
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def header() -> dict[str, str]:
    _, head, _ = (SPACE / "README.md").read_text().split("---\n", 2)
    return dict(line.split(": ", 1) for line in head.splitlines())


def test_the_header_and_the_container_name_one_port(app, tmp_path):
    said, built = header(), (SPACE / "Dockerfile").read_text()
    assert said["sdk"] == "docker"
    assert len(said["short_description"]) <= 60  # the hub cuts it
    assert said["app_port"] == str(app.settings(tmp_path).port)
    assert f"EXPOSE {said['app_port']}" in built
    for name in ("app.py", "requirements.txt"):
        assert name in built
        assert (SPACE / name).is_file()


def test_on_the_hub_it_answers_by_the_spaces_name_alone_and_elsewhere_this_machine_alone(app, tmp_path, monkeypatch):
    there = app.settings(tmp_path)
    assert (there.host, there.demo, "owner-name.hf.space" in there.names) == ("0.0.0.0", True, True)
    monkeypatch.delenv("SPACE_HOST")
    assert app.settings(tmp_path).loopback


def test_strangers_can_edit_and_are_not_told_of_each_other(app, tmp_path):
    given = app.settings(tmp_path)
    settings = {"demo": given.demo, "hosts": given.hosts, "frames": given.frames}
    with served(tmp_path, limits=given.limits, page=studio.page, **settings) as server, server.client() as client:
        as_there = {"host": given.hosts[0], "origin": f"https://{given.hosts[0]}"}
        page = client.get("/", headers=as_there)
        assert page.status_code == 200
        assert "frame-ancestors https://huggingface.co" in page.headers["content-security-policy"]
        made = client.post("/v1/inversions", files={"image": png()}, headers=as_there)
        assert made.status_code == 200
        id = made.json()["id"]
        assert client.get(f"/v1/inversions/{id}", headers=as_there).status_code == 200
        assert client.get("/v1/inversions", headers=as_there).json() == {"inversions": []}
        assert client.get("/metrics", headers=as_there).status_code == 404
        assert client.get("/", headers={"host": "elsewhere.example"}).status_code == 421
        foreign = client.get("/v1/inversions", headers={**as_there, "origin": "https://elsewhere.example"})
        assert foreign.status_code == 403


def test_a_server_without_a_key_still_needs_to_be_called_a_demo(tmp_path):
    with pytest.raises(ValueError, match="LEDITS_API_KEY"):
        Settings(folder=tmp_path, host="0.0.0.0")
    with pytest.raises(ValueError, match="a demo is for strangers"):
        Settings(folder=tmp_path, host="0.0.0.0", demo=True)
    with pytest.raises(ValueError, match="a demo is for strangers"):
        Settings(folder=tmp_path, demo=True, hosts=("a",), keys=("k" * 16,))


def test_the_container_of_the_server_copies_what_it_installs():
    root = SPACE.parent.parent
    lines = (root / "integrations/docker/Dockerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    let_in = [line.removeprefix("!") for line in (root / ".dockerignore").read_text().splitlines() if line[0] == "!"]
    assert sorted(copied) == sorted(let_in)
    assert all((root / name).exists() for name in copied)
    assert os.path.commonpath([root / "src", root / copied[-1]]) == str(root / "src")
