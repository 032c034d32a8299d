"""A hub on this machine: as much of the Hugging Face hub's HTTP interface as pushing and pulling a model needs.

Written after the requests that huggingface_hub makes: creating repositories and branches, asking what is in them,
uploading small files in the commit and large ones by git-lfs's batch protocol, committing, and downloading.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars

TOKEN = "hf_of_this_test"
Files = dict[str, bytes]


class Repository:
    """Commits are whole trees, numbered; branches point to them."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.commits: dict[str, Files] = {}
        self.branches: dict[str, str] = {}
        self.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})

    def commit(self, branch: str, files: Files) -> str:
        name = hashlib.sha1(f"{id(self)} {len(self.commits)}".encode()).hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        return name

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


class Hub(ThreadingHTTPServer):
    """Holds repositories; misbehaves as told."""

    daemon_threads = True
    repositories: dict[str, Repository]
    blobs: dict[str, bytes]
    requests: list[str]  # "METHOD path"
    damage = False  # what is uploaded loses its last byte's truth
    refuse: int | None = None  # status of every answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def log_message(self, *args: object) -> None:
        """Keep the test output quiet."""

    def _handle(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(f"{self.command} {path}")
        body = self._body()
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if self.server.refuse is not None:
            return self._error(self.server.refuse, "", "not today")
        if self.command == "PUT" and parts[0] == "lfs":
            self.server.blobs[parts[1]] = body[:-1] + b"?" if self.server.damage else body
            return self._send(200, b"")
        if self.command == "POST" and not self._authorized():
            return self._error(401, "", "Invalid username or password.")
        if parts[:2] == ["api", "validate-yaml"]:
            return self._json({"errors": [], "warnings": []})
        if parts[:3] == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if parts[:2] == ["api", "models"]:
            return self._model("/".join(parts[2:4]), parts[4:], body)
        if parts[2:5] == ["info", "lfs", "objects"]:
            return self._batch(json.loads(body))
        if parts[2:3] == ["resolve"]:
            return self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        return self._error(404, "", f"no such page: {path}")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _authorized(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _find(self, name: str) -> Repository | None:
        found = self.server.repositories.get(name)
        if found is None or (found.private and not self._authorized()):
            self._error(404 if self._authorized() else 401, "RepoNotFound", "Repository not found")
            return None
        return found

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.server.repositories:
            return self._json({"error": "You already created this model repo", "url": f"{self.server.url}/{name}"}, 409)
        self.server.repositories[name] = Repository(wanted.get("visibility") == "private")
        return self._json({"url": f"{self.server.url}/{name}"})

    def _model(self, name: str, rest: list[str], body: bytes) -> None:
        repository = self._find(name)
        if repository is None:
            return None
        kind, revision = (rest[0], rest[1]) if rest else ("revision", "main")
        if kind == "branch":
            if revision in repository.branches:
                return self._error(409, "", "Reference already exists")
            repository.branches[revision] = repository.branches["main"]
            return self._json({})
        commit = repository.resolve(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if kind == "preupload":
            held = repository.commits[commit]
            modes = [
                {"path": path, "uploadMode": "lfs" if _is_large(path) else "regular", "shouldIgnore": False}
                | ({"oid": _etag(path, held[path])} if path in held else {})
                for path in (file["path"] for file in json.loads(body)["files"])
            ]
            return self._json({"files": modes})
        if kind == "commit":
            return self._json(self._commit(repository, revision, body) | {"commitUrl": f"{self.server.url}/{name}"})
        siblings = [_sibling(path, data) for path, data in repository.commits[commit].items()]
        return self._json({"id": name, "sha": commit, "private": repository.private, "siblings": siblings})

    def _commit(self, repository: Repository, branch: str, body: bytes) -> dict[str, str]:
        files = dict(repository.commits[repository.branches[branch]])
        for line in body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        return {"commitOid": repository.commit(branch, files)}

    def _batch(self, wanted: dict[str, Any]) -> None:
        objects = [
            each if each["oid"] in self.server.blobs
            else each | {"actions": {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}}
            for each in wanted["objects"]
        ]  # fmt: skip
        self._json({"transfer": "basic", "objects": objects})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._find(name)
        if repository is None:
            return None
        commit = repository.resolve(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if path not in repository.commits[commit]:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        data = repository.commits[commit][path]
        return self._send(200, data, {"X-Repo-Commit": commit, "ETag": f'"{_etag(path, data)}"'})

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        known = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
        self._send(status, json.dumps({"error": message}).encode(), known | (headers or {}))

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _is_large(path: str) -> bool:
    return path.endswith(".safetensors")


def _etag(path: str, data: bytes) -> str:
    """As the hub has it: SHA-256 of a large file, git's hash of a small one."""
    return hashlib.sha256(data).hexdigest() if _is_large(path) else git_hash(data)


def git_hash(data: bytes) -> str:
    """The name git gives to a file with these contents."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _sibling(path: str, data: bytes) -> dict[str, Any]:
    known: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_hash(data)}
    if _is_large(path):
        known["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return known


@contextmanager
def hub_of_this_test(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, running; the user logged in, the cache empty and in `folder`.

    Some of the settings huggingface_hub reads only when it is imported.
    """
    disable_progress_bars()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its protocol is not served here: git-lfs's is
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub = Hub(("127.0.0.1", 0), Handler)
    hub.repositories, hub.blobs, hub.requests = {}, {}, []
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
