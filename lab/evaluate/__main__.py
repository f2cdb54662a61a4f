"""The paper's tables as one command: samples made, examined and recorded, and tables, curves and sheets of the records.

    python -m lab.evaluate run table-1 --output lab/results/embedded   # 210 samples a row, on two cores; goes on where it stopped
    python -m lab.evaluate run guidance vocoders --count 50 --output lab/results/embedded
    python -m lab.evaluate tables lab/results/embedded [more folders]             # Markdown, with 95 % intervals
    python -m lab.evaluate tables lab/results/embedded --against joint            # the same samples by two methods, compared
    python -m lab.evaluate curves lab/results/embedded --output lab/results/embedded/curves.svg
    python -m lab.evaluate sheets lab/results/embedded --output lab/results/embedded
    python -m lab.evaluate run search --seeds 16 --count 128 --output lab/results/search
    python -m lab.evaluate search lab/results/search                              # what the keeper search would have kept, at what price

    python -m lab.evaluate run table-1 --prompts paper --image DIFFUSERS_FOLDER --audio DIFFUSERS_FOLDER --vocoder FOLDER \\
        --clip TRANSFORMERS_FOLDER --clap TRANSFORMERS_FOLDER --count 1000 --output results/paper     # real models; a GPU is used
    python -m lab.evaluate run table-1 --ray ADDRESS --output lab/results/embedded                      # over a Ray cluster
    python -m lab.evaluate judge lab/results/embedded                             # saved pictures again, by today's judges and scorers

Every seed counts and none is picked. Rows and tables: rows.py. Each sample is one line of <output>/records.jsonl, with its picture in
<output>/<row>/; records that were not made alike are refused. The judges (lab/train/judges.py) are asked where their files are.
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from functools import partial
from pathlib import Path

from . import curves, paired, records, search, sheets, tables
from .folders import Folders
from .pools import LocalPool, Pool
from .rows import EMBEDDED, PAPER, TABLES
from .samples import LISTS

JUDGES = Path("data/judges")


def main() -> None:
    parser = argparse.ArgumentParser("python -m lab.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("run", help="make, examine and record samples")
    command.add_argument("rows", nargs="+", choices=[*TABLES, *EMBEDDED], metavar="row", help=f"{', '.join([*TABLES, *EMBEDDED])}")
    command.add_argument("--prompts", choices=LISTS, default="test", help="with the paper's, rows have the paper's settings")
    command.add_argument("--first", type=int, default=0, help="number of the first sample")
    command.add_argument("--count", type=_positive, default=210, help="samples a row")
    command.add_argument("--seeds", type=_positive, default=1, help="samples of a pair before the next pair comes")
    command.add_argument("--steps", type=_positive, help="instead of the row's own")
    command.add_argument("--image-guidance", type=float, help="instead of the row's own")
    command.add_argument("--audio-guidance", type=float, help="instead of the row's own")
    command.add_argument("--output", type=Path, required=True)
    _add_work(command)
    command.set_defaults(do=_run)

    command = commands.add_parser("judge", help="examine saved pictures again")
    command.add_argument("output", type=Path)
    _add_work(command)
    command.set_defaults(do=_judge)

    command = _add_reader(commands, "tables", "Markdown tables of records")
    command.add_argument("--settings", action="store_true", help="a line for each setting of a row, not one a row")
    command.add_argument("--classes", action="store_true", help="also each class by itself")
    command.add_argument("--against", metavar="ROW", help="instead: how the others differ from this row, sample by sample")
    command.set_defaults(do=_tables)

    command = _add_reader(commands, "curves", "picture against sound, as a picture (SVG)")
    command.add_argument("--by", choices=("judges", "scores"), default="judges")
    command.add_argument("--output", type=Path, required=True)
    command.set_defaults(do=_curves)

    command = _add_reader(commands, "sheets", "a contact sheet of each row")
    command.add_argument("--count", type=_positive, default=24, help="pictures of a row, from the first")
    command.add_argument("--output", type=Path, required=True, help="folder for <row>.jpg")
    command.set_defaults(do=_sheets)

    command = _add_reader(commands, "search", "what the keeper search would have kept of samples with drafts")
    command.add_argument("--keepers", type=_positive, default=2, help="of each pair's candidates")
    command.add_argument("--curve", type=Path, metavar="SVG", help="also rank correlation by price, as a picture")
    command.set_defaults(do=_search)

    args = parser.parse_args()
    try:
        args.do(args)
    except (ValueError, FileNotFoundError) as error:
        parser.exit(1, f"{error}\n")


def _add_work(command: argparse.ArgumentParser) -> None:
    for field in fields(Folders):
        default = "" if field.name == "judges" else ", not the embedded one"
        command.add_argument(f"--{field.name}", type=Path, metavar="FOLDER", help=f"the {field.name} model's folder{default}")
    command.add_argument("--workers", type=_positive, default=2)
    command.add_argument("--threads", type=_positive, default=1, help="of each worker")
    command.add_argument("--compile", action="store_true", help="torch.compile: some 0.8 of the time on a CPU; needs a C++ compiler")
    command.add_argument("--ray", metavar="ADDRESS", help="workers of this Ray cluster, one a GPU, instead of --workers here")


def _add_reader(commands: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text)
    command.add_argument("folders", type=Path, nargs="+", help="runs, read as one")
    command.add_argument("--mixed", action="store_true", help="also records that were not made alike")
    return command


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _folders(args: argparse.Namespace) -> Folders:
    given = {field.name: folder.resolve() for field in fields(Folders) if (folder := getattr(args, field.name)) is not None}
    if "image" in given:
        given.setdefault("vae", given["image"] / "vae")
    if "judges" not in given and JUDGES.exists():
        given["judges"] = JUDGES.resolve()
    return Folders(**given)


def _pool(args: argparse.Namespace, folders: Folders) -> Pool:
    from .worker import Setup, Worker

    new_worker = partial(Worker, Setup(folders, args.threads, args.compile))
    if args.ray is None:
        return LocalPool(args.workers, new_worker)
    from . import cluster  # here, because Ray is optional

    count, resources = cluster.connect(args.ray, args.threads)
    return cluster.RayPool(count, resources, new_worker)


def _run(args: argparse.Namespace) -> None:
    from .run import order, run  # here, because tables need not wait for diffusers and transformers

    folders = _folders(args)
    args.output.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(name for given in args.rows for name in TABLES.get(given, (given,))))
    known = PAPER if args.prompts.startswith("paper") else EMBEDDED
    listed = LISTS[args.prompts].samples(args.first, args.count, args.seeds)
    rows = {name: known[name].changed(args.steps, args.image_guidance, args.audio_guidance) for name in names}
    rows = order(args.output, rows, listed)
    with _pool(args, folders) as pool:
        for name, row in rows.items():
            run(args.output, name, row, listed, args.prompts, folders, pool.spread)


def _judge(args: argparse.Namespace) -> None:
    from .run import judge

    folders = _folders(args)
    with _pool(args, folders) as pool:
        judge(args.output, folders, pool.spread)


def _tables(args: argparse.Namespace) -> None:
    found = records.gather(args.folders, args.mixed, args.settings)
    print("\n".join(paired.against(found, args.against)) if args.against else tables.tables(found, args.settings, args.classes))


def _curves(args: argparse.Namespace) -> None:
    args.output.write_text(curves.curves(records.gather(args.folders, args.mixed), args.by))


def _sheets(args: argparse.Namespace) -> None:
    sheets.write(args.folders, args.count, args.mixed, args.output)


def _search(args: argparse.Namespace) -> None:
    found = search.searches(records.gather(args.folders, args.mixed))
    print(search.report(found, args.keepers))
    if args.curve:
        args.curve.write_text(search.curve(found))


if __name__ == "__main__":
    main()
