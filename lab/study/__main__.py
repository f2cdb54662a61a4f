"""The paper's human study (A.3): a survey to hand out, and the table of its answers.

    python -m lab.study build ours sds imprint --prompts prompts.json --output study.html
    python -m lab.study table answers/*.json --key study.key.json

`build` takes a folder a method, ours first. Each holds, under the same names, what the methods made of the same prompts: <name>.mp4, or
<name>.png with <name>.flac or <name>.wav, of which videos are made that show both prompts, as the paper's do. The prompts file says which
names are shown and what the questions call them, in few words: [{"name": "castle_1", "image": "castle towers", "audio": "bell ringing"},
...], or a CSV file with these columns. Names with the same prompts are samples of one prompt pair, and a participant sees one of them. In
the paper: seven prompt pairs, two samples of each, two baselines, so 14 pairs a participant.

study.html is all that a participant gets, and a code of their own (study.html#P07 fills it in): order, sides and samples follow from it.
The page opens from disk, needs nothing else, sends nothing anywhere, and saves answers-<code>.json at its end. study.key.json says which
clip is whose: keep it to yourself.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .clips import StudyError
from .material import read_methods, read_prompts
from .results import read_answers, read_key, table
from .survey import compose, page


def main() -> int:
    parser = argparse.ArgumentParser("python -m lab.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    build_parser = commands.add_parser("build", help="make the survey and its key")
    build_parser.add_argument("ours", type=Path, help="the folder of the method under test")
    build_parser.add_argument("baselines", type=Path, nargs="+", help="the folders of what it is compared with")
    build_parser.add_argument("--prompts", type=Path, required=True, help="JSON or CSV: the names to show, and their prompts")
    build_parser.add_argument("--output", type=Path, default=Path("study.html"))
    table_parser = commands.add_parser("table", help="print how often ours was chosen")
    table_parser.add_argument("answers", type=Path, nargs="+", help="files that the survey saved")
    table_parser.add_argument("--key", type=Path, required=True, help="what build wrote beside the survey")
    args = parser.parse_args()
    try:
        if args.command == "build":
            build([args.ours, *args.baselines], args.prompts, args.output)
        else:
            tabulate(args.answers, args.key)
    except StudyError as error:
        print(f"lab.study: {error}", file=sys.stderr)
        return 1
    return 0


def build(folders: list[Path], prompts: Path, output: Path) -> None:
    """Write the survey and its key. Raises StudyError before any work if something is missing, unreadable or in the way."""
    key = output.with_suffix(".key.json")
    for path in (output, key):
        if path.exists():
            raise StudyError(f"{path} exists, and answers may belong to it: name another --output, or remove it.")
    if not output.parent.is_dir():
        raise StudyError(f"{output.parent} is no folder: make it, or name another --output.")
    samples = read_prompts(prompts)
    methods = read_methods(folders, samples)
    media, count = {method: {} for method in methods}, sum(map(len, methods.values()))
    for method, clips in methods.items():
        for name, clip in clips.items():
            media[method][name] = clip.mp4()
            print(f"\rclip {sum(map(len, media.values()))} of {count}", end="", flush=True)
    print()
    study = compose(samples, media)
    output.write_text(page(study), encoding="utf-8", newline="\n")
    key.write_text(json.dumps(study.key(), indent=1), encoding="utf-8")
    print(f"{len(samples)} prompt pairs x {len(folders) - 1} baselines = {len(study.pairs)} pairs a participant")
    print(f"{output} ({output.stat().st_size / 1e6:.1f} MB) is for the participants.")
    print(f"{key} is not: it says which clip is whose, and `table` needs it.")


def tabulate(paths: list[Path], key_path: Path) -> None:
    """Print the table and what there is to say about the files."""
    key = read_key(key_path)
    answers, remarks = read_answers(paths, key)
    print("\n".join([table(answers, key), "", f"Participants: {len(answers)}. 95 % intervals after Wilson.", *remarks]))


if __name__ == "__main__":
    sys.exit(main())
