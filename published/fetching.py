"""What of the published models is there, what is missing, what the user says to it, and the fetching."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

from filelock import FileLock, Timeout

from .conversion import convert, converted_from
from .hub import FetchError, File, Hub, Repository, amount, checksum, download, part_of, size
from .models import Model, Source

PACK = Path(__file__).absolute().parent.parent
UNSAFE = set('\\:*?"<>|')


@dataclass(frozen=True)
class Plan:
    """What one source holds now and where each file goes; `there` are those that lie in their place already, checked."""

    name: str
    model: Model
    source: Source
    repository: Repository
    folder: Path
    files: dict[Path, File]
    there: frozenset[Path]

    @property
    def missing(self) -> dict[Path, File]:
        return {target: file for target, file in self.files.items() if target not in self.there}

    @property
    def bytes_to_get(self) -> int:
        return sum(file.size - min(size(part_of(target)), file.size) for target, file in self.missing.items())

    @property
    def bytes_needed(self) -> int:
        """On the disk, with those of weights that are written anew."""
        return self.bytes_to_get + sum(file.size for file in self.missing.values() if self.source.converts(file.path))


def fetch(models: dict[str, Model], into: Path | None = None, agreed: bool = False) -> None:
    """Fetch `models` into the models folder `into`, or into that of the ComfyUI around this pack.

    Raises FetchError with a remedy for whatever cannot go on; what was got until then is kept.
    """
    folder = _checked(into) if into else models_folder()
    try:
        _fetch(models, folder, agreed, default=not into)
    except Timeout:
        raise FetchError(f"another fetch into {folder} is at work: wait until it has ended.") from None
    except OSError as error:
        raise FetchError(f"{error}. What was got is kept. Where the folder is the trouble, --into names another.") from None
    except KeyboardInterrupt:
        raise FetchError("stopped. What was got is kept; the same command goes on from there.") from None


def models_folder() -> Path:
    """That of the ComfyUI in whose custom_nodes the pack is, or else of COMFYUI_PATH."""
    named = os.environ.get("COMFYUI_PATH")
    roots = [*([PACK.parent.parent] if PACK.parent.name == "custom_nodes" else []), *([Path(named)] if named else [])]
    for root in roots:
        if (root / "models").is_dir():
            return root / "models"
    raise FetchError(f"{PACK} is in no ComfyUI's custom_nodes: name the folder where your ComfyUI keeps its models with --into.")


def _checked(into: Path) -> Path:
    if (into / "main.py").is_file():
        raise FetchError(f"--into names {into}, which is ComfyUI's own folder: name the models folder, {into / 'models'}.")
    if not into.is_dir():
        raise FetchError(f"--into names {into}, which is not a folder: make it, or name the one where your ComfyUI keeps its models.")
    return into.resolve()


def _fetch(models: dict[str, Model], folder: Path, agreed: bool, default: bool) -> None:
    hub = Hub()
    plans = []
    for name, model in models.items():
        print(f"\n{name}: {model.use}\n  licence  {model.licence}")
        plans += [_plan(hub, name, model, source, folder) for source in model.sources]
    if default:
        print(f"\n{folder} is the models folder that was found. For another ComfyUI, name its models folder with --into.")
    if any(plan.missing for plan in plans):
        _require_room(plans)
        _require_consent(agreed)
        with FileLock(folder / ".fetch.lock", timeout=0):
            for plan in plans:
                _get(hub, plan)
    print(f"\nEverything is there, under {folder}. In a ComfyUI that is open, press R to see it.")


def _plan(hub: Hub, name: str, model: Model, source: Source, folder: Path) -> Plan:
    """Compare what the repository lists with what is there, and show both."""
    repository = hub.repository(source.repository, source.revision)
    print(f"  from     {hub.page(source.repository)} at {repository.commit}; licence it states: {repository.licence or 'none'}")
    place = folder / source.folder
    files = {place / source.local_name(file.path): file for file in _wanted(hub, source, repository)}
    there = {target for target in files if target.exists()}
    others = [str(target) for target in there if not _same(target, files[target], source)]
    if others:
        raise FetchError(
            f"there are other files under the names of {name}'s: {', '.join(others)}. They were left as they are: move them away and run "
            "the same command, or keep them and use them."
        )
    plan = Plan(name, model, source, repository, place, files, frozenset(there))
    print(f"  into     {place}")
    for target, file in files.items():
        part = size(part_of(target))
        state = "already there" if target in there else f"{amount(part)} of it there" if part else ""
        origin = f"(made from {file.path})" if source.converts(file.path) else ""
        print(f"  {amount(file.size):>12}  {target.relative_to(place).as_posix()}  {origin}  {state}".rstrip())
    print(f"  {amount(plan.bytes_to_get)} to get" if plan.missing else "  nothing to get: all is there, and is what the repository lists")
    return plan


def _wanted(hub: Hub, source: Source, repository: Repository) -> list[File]:
    """The listed files that the source's patterns ask for; an error if one pattern finds none, or a name would leave the folder."""
    wanted: dict[str, File] = {}
    for pattern in source.files:
        choices = ([file for file in repository.files if _meets(file.path, choice)] for choice in pattern.split("|"))
        met = next(filter(None, choices), None)
        if not met:
            raise FetchError(
                f"{hub.page(source.repository)} has no {pattern.replace('|', ' and no ')} at {repository.commit}, so it has changed. Look "
                "there, and put the files by hand where the README's table says."
            )
        wanted |= {file.path: file for file in met}
    unsafe = [path for path in wanted if not _safe(path)]
    if unsafe:
        raise FetchError(f"{hub.page(source.repository)} lists {unsafe[0]!r}, a name that no model file has. Nothing was fetched.")
    if source.sha256 and (listed := wanted[source.files[0]].digest) != f"sha256:{source.sha256}":
        raise FetchError(f"{source.files[0]} at {hub.page(source.repository)} is not the known file ({listed}). Nothing was fetched.")
    return list(wanted.values())


def _meets(path: str, pattern: str) -> bool:
    names, patterns = path.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


def _safe(path: str) -> bool:
    """Whether a path of a listing names a place below the folder it is meant for, on every system."""
    return all(part not in ("", ".", "..") and part.isprintable() and not UNSAFE & set(part) for part in path.split("/"))


def _same(target: Path, file: File, source: Source) -> bool:
    if source.converts(file.path):
        return converted_from(target) == file.digest
    return size(target) == file.size and checksum(target, file.digest) == file.digest


def _require_room(plans: list[Plan]) -> None:
    needs: dict[int, tuple[Path, int]] = {}
    for plan in plans:
        disk = next(folder for folder in (plan.folder, *plan.folder.parents) if folder.exists())
        device = disk.stat().st_dev
        needs[device] = (disk, needs.get(device, (disk, 0))[1] + plan.bytes_needed)
    for disk, need in needs.values():
        free = shutil.disk_usage(disk).free
        if free < need:
            raise FetchError(f"{disk} has {amount(free)} free and {amount(need)} to get: make room, or name another disk by --into.")


def _require_consent(agreed: bool) -> None:
    if agreed:
        return
    if not sys.stdin.isatty():
        raise FetchError("nobody can be asked here (no terminal). If you agree to the licence above, add --yes.")
    if input("\nAgree to the licence and fetch? [y/N] ").strip().lower() not in ("y", "yes"):
        raise FetchError("nothing was fetched.")


def _get(hub: Hub, plan: Plan) -> None:
    for target, file in plan.missing.items():
        download(hub, plan.repository, file, part_of(target))
        if plan.source.converts(file.path):
            convert(part_of(target), target, file)
        else:
            os.replace(part_of(target), target)
        print(f"  got {plan.source.folder}/{target.relative_to(plan.folder).as_posix()} ({amount(file.size)}, checked)", flush=True)
    record = {
        "model": plan.name,
        "from": f"{hub.page(plan.source.repository)}/tree/{plan.repository.commit}",
        "revision": plan.source.revision,
        "licence": {"known": plan.model.licence, "stated by the repository": plan.repository.licence},
        "fetched": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "files": {
            target.relative_to(plan.folder).as_posix(): {"path": file.path, "bytes": file.size, "digest": file.digest}
            for target, file in plan.files.items()
        },
    }
    (plan.folder / f"fetched-{plan.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
