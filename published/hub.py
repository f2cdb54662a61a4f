"""The Hugging Face Hub, as far as getting published files takes it: what a repository holds, and a file's bytes, checked.

huggingface_hub asks, resumes and repeats; what it leaves out stands here: the hash of what came, where a redirect may lead, who sees the
token, and a part that outlives a failed run. Another server of the same interface may be named in HF_ENDPOINT, as everywhere in the field.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

os.environ["HF_HUB_ENABLE_HF_TRANSFER"] = "0"  # that of older releases leaves holes in a file that was broken off, and cannot resume
from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, get_session

THIS_MACHINE = {"localhost", "127.0.0.1", "::1"}
TRIES = 3  # in a row without a new byte, each of which the library repeats by itself
TIMEOUT = 30.0  # seconds
DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES}
CHUNK = 1 << 20
CLIENT_ERROR: Any = HfHubHTTPError.__bases__[0]  # requests' or httpx's, as the release has it; httpx's are no OSErrors
NETWORK_ERRORS = (OSError, CLIENT_ERROR)


class FetchError(Exception):
    """Something a user can mend: its text says what and how."""


class BeganAnew(OSError):
    """The server sent a file from its beginning where the rest was asked for."""


class Part(io.FileIO):
    """A file that only grows: left to itself, the library begins again and again where a server knows no ranges and always breaks off."""

    def truncate(self, size: int | None = None) -> int:
        raise BeganAnew("the server sends the file from its beginning, not from where it broke off")


@dataclass(frozen=True)
class File:
    """A file of a repository: its path there, its bytes, and `sha256:<hex>`; or `git:<hex>`, the blob's id, outside large-file storage."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Repository:
    """One state of a repository. `token` is the user's, where its files are gated."""

    name: str
    commit: str
    licence: str | None
    token: str | None
    files: tuple[File, ...]


class Hub:
    """The server of HF_ENDPOINT. The user's token is sent to it for gated repositories only, and never to where it redirects."""

    def __init__(self) -> None:
        self.endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        if not secure(self.endpoint):
            raise FetchError(f"HF_ENDPOINT is {self.endpoint!r}: it must begin with https://. Unset it for https://huggingface.co.")
        self._api = HfApi(endpoint=self.endpoint)

    def page(self, repository: str) -> str:
        return f"{self.endpoint}/{repository}"

    def repository(self, name: str, revision: str) -> Repository:
        """What `revision` is now."""
        watch_redirects()
        try:
            info, token = self._api.model_info(name, revision=revision, files_metadata=True, timeout=TIMEOUT, token=False), None
            if info.gated:
                token = get_token()
                if not token:
                    raise FetchError(f"{self.page(name)} is gated, and no token was found here. {self._how_to_enter(name)}")
                info = self._api.model_info(name, revision=info.sha, files_metadata=True, timeout=TIMEOUT, token=token)
            licence = getattr(info.card_data, "license", None)
            return Repository(name, str(info.sha), licence, token, tuple(_file(sibling) for sibling in info.siblings or ()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FetchError(
                f"{self.endpoint} did not answer about {name} as the Hugging Face Hub does: is that its address, and no login page between?"
            ) from None
        except NETWORK_ERRORS as error:
            raise self.explained(error, name) from None

    def append(self, repository: Repository, file: File, part: Path) -> None:
        """Get what `part` lacks of `file`. Raises one of NETWORK_ERRORS."""
        watch_redirects()
        url = hf_hub_url(repository.name, file.path, revision=repository.commit, endpoint=self.endpoint)
        token = repository.token or False
        location = urljoin(url, get_hf_file_metadata(url, token=token, timeout=TIMEOUT).location)
        require_allowed(url, location)
        headers = build_hf_headers(token=token if urlsplit(location)[:2] == urlsplit(url)[:2] else False)
        headers["Accept-Encoding"] = "identity"  # a range of packed bytes could not be appended
        with io.BufferedWriter(Part(part, "ab")) as output:
            http_get(location, output, resume_size=size(part), headers=headers, expected_size=file.size, displayed_filename=file.path)

    def explained(self, error: Any, name: str) -> FetchError:
        """With the remedy, an error of one of NETWORK_ERRORS about the repository `name`."""
        if passing(error):
            return FetchError(
                f"{self.endpoint} cannot be reached ({first_line(error)}). With the network back, run the same command again. Behind "
                "a proxy, HTTPS_PROXY names it; HF_ENDPOINT may name a mirror."
            )
        response = error.response
        said = ": ".join(filter(None, (str(response.status_code), error.server_message)))
        if response.status_code in (401, 403):
            return FetchError(f"{self.page(name)} is closed to this request ({said}). {self._how_to_enter(name)}")
        what = "is not there" if response.status_code == 404 else "was refused"
        return FetchError(
            f"{response.url} {what} ({said}). The repository may have moved or changed: look at {self.page(name)}, and put the files by "
            "hand where the README's table says."
        )

    def _how_to_enter(self, name: str) -> str:
        return (
            f"If it is gated: log in at {self.page(name)} and accept its terms, make a token with the right to read in your account's "
            f"settings, and put it into the environment variable HF_TOKEN or into the file {constants.HF_TOKEN_PATH}. Then run the same "
            "command."
        )


def passing(error: Any) -> bool:
    """Whether another try may better it: all but a plain refusal."""
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in (408, 425, 429, 500, 502, 503, 504)


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")


def _file(sibling: Any) -> File:
    digest = f"sha256:{sibling.lfs['sha256']}" if sibling.lfs else f"git:{sibling.blob_id}"
    return File(sibling.rfilename, int(sibling.size), digest)


def secure(url: str) -> bool:
    """Whether nobody between can read or change what is sent."""
    return urlsplit(url).scheme == "https" or (urlsplit(url).scheme == "http" and on_this_machine(url))


def on_this_machine(url: str) -> bool:
    return urlsplit(url).hostname in THIS_MACHINE


def require_allowed(url: str, location: str) -> None:
    """Let a redirect lead to https only, or from this machine to itself."""
    if not secure(location) or (on_this_machine(location) and not on_this_machine(url)):
        raise FetchError(f"{url} leads to {location}, where it should not: only https is followed. Nothing was fetched.")


def watch_redirects() -> None:
    """Have the library's session call `look_where_it_leads`. Before each use: after some errors the library makes itself another one."""
    session: Any = get_session()
    hooks = (session.event_hooks if hasattr(session, "event_hooks") else session.hooks)["response"]  # httpx's, or requests'
    if look_where_it_leads not in hooks:
        hooks.append(look_where_it_leads)


def look_where_it_leads(response: Any, **_: Any) -> None:
    """Called by the library with each answer, before it goes where a redirect leads: the first is not the only one."""
    location = response.headers.get("Location")
    if location and 300 <= response.status_code < 400:
        require_allowed(str(response.url), urljoin(str(response.url), location))


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def amount(count: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return f"{count:.0f} bytes"


def checksum(path: Path, like: str) -> str:
    """The file's digest, of the kind that `like` is: `sha256:<hex>`, or `git:<hex>`, the id git gives its contents."""
    kind = like.partition(":")[0]
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size(path), usedforsecurity=False)
    with path.open("rb") as data:
        while chunk := data.read(CHUNK):
            digest.update(chunk)
    return f"{kind}:{digest.hexdigest()}"


def download(hub: Hub, repository: Repository, file: File, part: Path) -> None:
    """Fill `part` with the whole file, from where an earlier try left off, and check it.

    huggingface_hub resumes within one call; its newest releases delete what came when the call fails, so the part is kept here.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    part.touch()
    most, tries = size(part), TRIES
    while size(part) != file.size:
        if size(part) > file.size:
            part.write_bytes(b"")
        try:
            hub.append(repository, file, part)
        except NETWORK_ERRORS as error:
            if getattr(error, "errno", None) in DISK_TROUBLE:
                raise FetchError(
                    f"{part} cannot grow: {error.strerror}. What was got is kept there: with room made, the same command goes on from "
                    "there. Or name a folder on another disk with --into."
                ) from None
            if not passing(error):
                raise hub.explained(error, repository.name) from None
            most, tries = (size(part), TRIES) if most < size(part) < file.size else (most, tries - 1)
            if not tries:
                raise FetchError(
                    f"{file.path} could not be got from {hub.endpoint} ({first_line(error)}). {amount(size(part))} of {amount(file.size)} "
                    f"are kept in {part}; with the network back, the same command goes on from there. Is there a proxy or a login page in "
                    "between?"
                ) from None
            if isinstance(error, BeganAnew):
                part.write_bytes(b"")
            time.sleep(2 ** (TRIES - tries))
    if checksum(part, file.digest) != file.digest:
        part.unlink()
        raise FetchError(f"{file.path} came with another hash than listed. It was deleted; the same command gets it anew.")
