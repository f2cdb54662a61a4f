"""`quickstart.py --fetch NAME`: a published model into ComfyUI's models folder, after its terms and sizes were shown and agreed to."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

from .download import amount, bytes_there, checksum, download, part_of
from .environment import QuickstartError, models_folder, one_at_a_time, own_comfyui, say
from .hub import File, Hub, Repository, find_token, safe
from .models import MODELS, Source


@dataclass(frozen=True)
class Plan:
    """What one source holds now and where each file goes; `there` are those that lie in their place already, checked."""

    name: str
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
        return sum(file.size - min(bytes_there(part_of(target)), file.size) for target, file in self.missing.items())


def fetch(names: list[str], into: Path | None = None, agreed: bool = False) -> None:
    """Fetch the named models into `into`, or into the folder where the ComfyUI of COMFYUI_PATH or quickstart's own looks.

    Without names it lists them. Raises QuickstartError with a remedy for whatever cannot go on; what was got until then is kept.
    """
    if not names:
        return list_models()
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise QuickstartError(f"no model is known as {', '.join(unknown)}: choose from {', '.join(MODELS)}.")
    folder = _checked(into) if into else models_folder()
    try:
        _fetch(list(dict.fromkeys(names)), folder, agreed, default=not into)
    except sqlite3.OperationalError:
        raise QuickstartError("another --fetch is at work: wait until it has ended.") from None
    except OSError as error:
        raise QuickstartError(f"{error}. What was got is kept. Where the folder is the trouble, --into names another.") from None
    except KeyboardInterrupt:
        raise QuickstartError("stopped. What was got is kept; the same command goes on from there.") from None


def _fetch(names: list[str], folder: Path, agreed: bool, default: bool) -> None:
    hub = Hub()
    plans = []
    for name in names:
        say(f"\n{name}: {MODELS[name].use}\n  licence  {MODELS[name].licence}")
        plans += [_plan(hub, name, source, folder) for source in MODELS[name].sources]
    if default:
        finder = "the ComfyUI of COMFYUI_PATH" if own_comfyui() else "quickstart.py --serve"
        say(f"\n{folder} is where {finder} looks. For another ComfyUI, name its models folder with --into.")
    if any(plan.missing for plan in plans):
        _require_room(plans)
        _require_consent(agreed)
        with one_at_a_time("fetch-lock", wait=0):
            for plan in plans:
                _get(hub, plan)
    say(f"\nEverything is there, under {folder}. In a ComfyUI that is open, press R to see it.")


def list_models() -> None:
    say("python3 quickstart.py --fetch NAME ... [--into COMFYUI'S_MODELS_FOLDER] [--yes]\n")
    for name, model in MODELS.items():
        say(f"  {name}\n    {model.use}\n    licence: {model.licence}\n    size: {model.size}")
        for source in model.sources:
            say(f"    from {source.repository} into models/{source.folder}")
    say("\nNothing is fetched before files, sizes and licence were shown and agreed to.")


def _checked(into: Path) -> Path:
    if (into / "main.py").is_file():
        raise QuickstartError(f"--into names {into}, which is ComfyUI's own folder: name the models folder, {into / 'models'}.")
    if not into.is_dir():
        raise QuickstartError(f"--into names {into}, which is not a folder: make it, or name the one where your ComfyUI keeps its models.")
    return into.resolve()


def _plan(hub: Hub, name: str, source: Source, folder: Path) -> Plan:
    """Compare what the repository lists with what is there, and show both."""
    repository = hub.repository(source.repository, source.revision)
    say(f"  from     {hub.page(source.repository)} at {repository.commit}; licence it states: {repository.licence or 'none'}")
    if repository.gated and not find_token():
        raise QuickstartError(f"{hub.page(source.repository)} is gated, and no token was found here. {hub.how_to_enter(source.repository)}")
    place = folder / source.folder
    files = {place / source.local_name(file.path): file for file in _wanted(hub, source, repository)}
    there = {target for target in files if target.exists()}
    others = [str(target) for target in there if not _same(target, files[target])]
    if others:
        raise QuickstartError(
            f"there are other files under the names of {name}'s: {', '.join(others)}. They were left as they are: move them away and run "
            "the same command, or keep them and use them."
        )
    plan = Plan(name, source, repository, place, files, frozenset(there))
    say(f"  into     {place}")
    for target, file in files.items():
        part = bytes_there(part_of(target))
        state = "already there" if target in there else f"{amount(part)} of it there" if part else ""
        say(f"  {amount(file.size):>12}  {target.relative_to(place).as_posix()}  {state}".rstrip())
    say(f"  {amount(plan.bytes_to_get)} to get" if plan.missing else "  nothing to get: all is there, and is what the repository lists")
    return plan


def _wanted(hub: Hub, source: Source, repository: Repository) -> list[File]:
    """The listed files that the source's patterns ask for; an error if one pattern finds none, or a name would leave the folder."""
    listing = hub.files(repository)
    wanted: dict[str, File] = {}
    for pattern in source.files:
        met = {file.path: file for file in listing if _meets(file.path, pattern)}
        if not met:
            raise QuickstartError(
                f"{hub.page(source.repository)} has no {pattern} at {repository.commit}, so it has changed. Look there, and put the files "
                "by hand where the README's table says."
            )
        wanted |= met
    unsafe = [path for path in wanted if not safe(path)]
    if unsafe:
        raise QuickstartError(f"{hub.page(source.repository)} lists {unsafe[0]!r}, a name that no model file has. Nothing was fetched.")
    if source.sha256 and (listed := wanted[source.files[0]].digest) != f"sha256:{source.sha256}":
        raise QuickstartError(f"{source.files[0]} at {hub.page(source.repository)} is not the known file ({listed}). Nothing was fetched.")
    return list(wanted.values())


def _meets(path: str, pattern: str) -> bool:
    names, patterns = path.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatchcase, names, patterns))


def _same(target: Path, file: File) -> bool:
    return bytes_there(target) == file.size and checksum(target, file.digest) == file.digest


def _require_room(plans: list[Plan]) -> None:
    needs: dict[int, tuple[Path, int]] = {}
    for plan in plans:
        disk = next(folder for folder in (plan.folder, *plan.folder.parents) if folder.exists())
        device = disk.stat().st_dev
        needs[device] = (disk, needs.get(device, (disk, 0))[1] + plan.bytes_to_get)
    for disk, need in needs.values():
        free = shutil.disk_usage(disk).free
        if free < need:
            raise QuickstartError(f"{disk} has {amount(free)} free and {amount(need)} to get: make room, or name another disk by --into.")


def _require_consent(agreed: bool) -> None:
    if agreed:
        return
    if not sys.stdin.isatty():
        raise QuickstartError("nobody can be asked here (the input is no terminal). If you agree to the licence above, add --yes.")
    if input("\nAgree to the licence and fetch? [y/N] ").strip().lower() not in ("y", "yes"):
        raise QuickstartError("nothing was fetched.")


def _get(hub: Hub, plan: Plan) -> None:
    for target, file in plan.missing.items():
        download(hub, file, target)
        say(f"  got {plan.source.folder}/{target.relative_to(plan.folder).as_posix()} ({amount(file.size)}, checked)")
    record = {
        "model": plan.name,
        "from": f"{hub.page(plan.source.repository)}/tree/{plan.repository.commit}",
        "revision": plan.source.revision,
        "licence": {"known": MODELS[plan.name].licence, "stated by the repository": plan.repository.licence},
        "fetched": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "files": {
            target.relative_to(plan.folder).as_posix(): {"path": file.path, "bytes": file.size, "digest": file.digest}
            for target, file in plan.files.items()
        },
    }
    (plan.folder / f"fetched-{plan.name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
