"""The Hugging Face Hub, as far as getting published files takes it: what a repository holds, and a file's bytes from any one on.

Another server of the same interface may be named in HF_ENDPOINT, as everywhere in the field.
"""

from __future__ import annotations

import json
import os
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from .environment import QuickstartError

ENDPOINT = "https://huggingface.co"
THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
TIMEOUT = 30.0  # seconds without a byte
PASSING = {408, 425, 429, 500, 502, 503, 504}  # statuses that another try may better
UNSAFE = set('\\:*?"<>|')


@dataclass(frozen=True)
class Repository:
    """One state of a repository: the commit that a revision names now, the licence its card states, whether its files are gated."""

    name: str
    commit: str
    licence: str | None
    gated: bool


@dataclass(frozen=True)
class File:
    """A file of a repository: its path there, its bytes, and `sha256:<hex>`; or `git:<hex>`, the blob's id, outside large-file storage."""

    repository: Repository
    path: str
    size: int
    digest: str


class Hub:
    """The server of HF_ENDPOINT. The user's token is sent to it for gated repositories only, and never to where it redirects.

    What cannot be had raises QuickstartError with a remedy; what another try may better raises OSError or HTTPException.
    """

    def __init__(self) -> None:
        self.endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        if not _secure(self.endpoint):
            raise QuickstartError(f"HF_ENDPOINT is {self.endpoint!r}: it must begin with https://. Unset it for {ENDPOINT}.")
        self._opener = urllib.request.build_opener(Redirects)

    def page(self, repository: str) -> str:
        return f"{self.endpoint}/{repository}"

    def repository(self, name: str, revision: str) -> Repository:
        """What `revision` is now."""
        record = self._json(name, f"/api/models/{name}/revision/{revision}", False)
        try:
            return Repository(name, record["sha"], (record.get("cardData") or {}).get("license"), bool(record.get("gated")))
        except (KeyError, TypeError, AttributeError):
            raise self._strange(name) from None

    def files(self, repository: Repository) -> list[File]:
        """Every file of that state (of its first 1000 entries)."""
        url = f"/api/models/{repository.name}/tree/{repository.commit}?recursive=true"
        try:
            return [
                File(repository, entry["path"], int(entry["size"]), _digest(entry))
                for entry in self._json(repository.name, url, repository.gated)
                if entry["type"] == "file"
            ]
        except (KeyError, TypeError, ValueError):
            raise self._strange(repository.name) from None

    def open(self, file: File, start: int = 0) -> HTTPResponse:
        """The file's bytes from `start` on, or from its beginning where the server cannot begin elsewhere (its status is then 200)."""
        url = f"/{file.repository.name}/resolve/{file.repository.commit}/{quote(file.path)}"
        return self._open(file.repository.name, url, file.repository.gated, {"Range": f"bytes={start}-"} if start else {})

    def _json(self, name: str, url: str, gated: bool) -> Any:
        try:
            with self._open(name, url, gated, {}) as answer:
                return json.load(answer)
        except ValueError:
            raise self._strange(name) from None
        except (OSError, HTTPException) as error:
            raise self.unreachable(error) from None

    def _open(self, name: str, url: str, gated: bool, headers: dict[str, str]) -> HTTPResponse:
        request = urllib.request.Request(self.endpoint + url, headers={"User-Agent": "images-that-sound quickstart", **headers})
        token = find_token() if gated else None
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            return self._opener.open(request, timeout=TIMEOUT)
        except HTTPError as refusal:
            if refusal.code in PASSING:
                raise
            raise self._refused(name, refusal) from None

    def _refused(self, name: str, refusal: HTTPError) -> QuickstartError:
        said = refusal.headers.get("X-Error-Message") or refusal.reason
        if refusal.code in (401, 403):
            return QuickstartError(f"{self.page(name)} is closed to this request ({refusal.code}: {said}). {self.how_to_enter(name)}")
        if refusal.code == 404:
            return QuickstartError(
                f"{refusal.url} is not there (404: {said}). The repository may have moved or changed: look at {self.page(name)}, and put "
                "the files by hand where the README's table says."
            )
        return QuickstartError(f"{refusal.url} was refused ({refusal.code}: {said}).")

    def how_to_enter(self, name: str) -> str:
        return (
            f"If it is gated: log in at {self.page(name)} and accept its terms, make a token with the right to read in your account's "
            f"settings, and put it into the environment variable HF_TOKEN or into the file {token_file()}. Then run the same command."
        )

    def unreachable(self, error: Exception) -> QuickstartError:
        return QuickstartError(
            f"{self.endpoint} cannot be reached ({getattr(error, 'reason', error)}). With the network back, run the same command again. "
            "Behind a proxy, HTTPS_PROXY names it; HF_ENDPOINT may name a mirror."
        )

    def _strange(self, name: str) -> QuickstartError:
        return QuickstartError(
            f"{self.endpoint} did not answer about {name} as the Hugging Face Hub does: is that its address, and no login page between?"
        )


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to https only, or from this machine to itself; the token goes on only to the very same server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        if not _secure(newurl) or (_on_this_machine(newurl) and not _on_this_machine(req.full_url)):
            raise QuickstartError(f"{req.full_url} leads to {newurl}, where it should not: only https is followed. Nothing was fetched.")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.unredirected_hdrs.get("Authorization")
        if request and token and urlsplit(newurl)[:2] == urlsplit(req.full_url)[:2]:
            request.add_unredirected_header("Authorization", token)
        return request


def _secure(url: str) -> bool:
    """Whether nobody between can read or change what is sent."""
    return urlsplit(url).scheme == "https" or (urlsplit(url).scheme == "http" and _on_this_machine(url))


def _on_this_machine(url: str) -> bool:
    return urlsplit(url).hostname in THIS_MACHINE


def _digest(entry: dict[str, Any]) -> str:
    return f"sha256:{entry['lfs']['oid']}" if entry.get("lfs") else f"git:{entry['oid']}"


def safe(path: str) -> bool:
    """Whether a path of a listing names a place below the folder it is meant for, on every system."""
    return all(part not in ("", ".", "..") and part.isprintable() and not UNSAFE & set(part) for part in path.split("/"))


def token_file() -> Path:
    """Where Hugging Face's own tools keep the user's token."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token")


def find_token() -> str | None:
    if os.environ.get("HF_TOKEN"):
        return os.environ["HF_TOKEN"].strip()
    return token_file().read_text(encoding="utf-8").strip() or None if token_file().is_file() else None
