"""From the participants' files to the table (Table 2's shape)."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ..intervals import percent
from .clips import StudyError, readable

QUESTIONS = {"sounds": "sound", "looks": "picture", "fits": "alignment"}
"""The page's name of each question and the table's, in the table's order."""
PARTICIPANT = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""What the page takes as a code; it is printed."""


def read_json(path: Path) -> Any:
    with readable(path):
        return json.loads(path.read_text(encoding="utf-8"))


def read_key(path: Path) -> dict:
    """What `build` wrote beside the survey. Raises StudyError if it is something else."""
    key = read_json(path)
    if not isinstance(key, dict) or key.keys() != {"study", "ours", "pairs"}:
        raise StudyError(f"{path} is not a study's key: name the .key.json that build wrote.")
    return key


def read_answers(paths: list[Path], key: dict) -> tuple[dict[str, list[dict]], list[str]]:
    """Each participant's answers, and remarks on files that were left out and on participants who stopped early.

    Of a participant who stopped, saved, went on and saved again, the longer file counts. Raises StudyError for a file that the survey did
    not save, for another study's, and for two files of one participant that differ.
    """
    answers: dict[str, list[dict]] = {}
    files: dict[str, Path] = {}
    remarks = []
    for path in paths:
        saved = read_json(path)
        try:
            if saved["study"] != key["study"]:
                other = str(saved["study"])
                raise StudyError(
                    f"{path} is of study {other if other.isalnum() else ascii(other)}, the key of {key['study']}: "
                    "give each study's answers with its key."
                )
            participant, given = saved["participant"], saved["answers"]
            if not PARTICIPANT.fullmatch(participant):
                raise ValueError(f"no participant's code is {participant!r}")
            check(given, key["pairs"])
        except (KeyError, TypeError, ValueError) as error:
            raise StudyError(f"{path} is not what the survey saves ({error!r}): leave it out.") from None
        if participant in answers:
            known, other = answers[participant], files[participant]
            both = min(len(known), len(given))
            if known[:both] != given[:both]:
                raise StudyError(f"{other} and {path} are both by participant {participant} and differ: leave one out.")
            longer, shorter = (path, other) if len(given) > len(known) else (other, path)
            remarks.append(
                f"Participant {participant} is in {longer} and {shorter}: only the first of them, which says no less, is counted."
            )
            if longer is other:
                continue
        answers[participant], files[participant] = given, path
    remarks += [
        f"Participant {participant} answered {len(given)} of {len(key['pairs'])} pairs, which are counted."
        for participant, given in answers.items()
        if len(given) < len(key["pairs"])
    ]
    return answers, remarks


def check(answers: list[dict], pairs: dict[str, dict]) -> None:
    """Raises KeyError, TypeError or ValueError unless every answer is to a pair of the key, once, and chooses among what it showed."""
    if len({answer["pair"] for answer in answers}) < len(answers):
        raise ValueError("a pair is answered twice")
    for answer in answers:
        shown = answer["shown"]
        if sorted(shown) not in [sorted((sample["ours"], sample["baseline"])) for sample in pairs[answer["pair"]]["samples"]]:
            raise ValueError(f"{answer['pair']} never shows {shown}")
        if not all(answer[question] in shown for question in QUESTIONS):
            raise ValueError(f"a choice in {answer['pair']} is none of {shown}")


def table(answers: dict[str, list[dict]], key: dict) -> str:
    """How often ours was chosen, in % with Wilson's 95 % interval, by baseline and prompts; each line with its n.

    The interval takes answers as independent, though a participant gives many: with few participants it is too narrow.
    """
    ours = {pair: {sample["ours"] for sample in shown["samples"]} for pair, shown in key["pairs"].items()}
    counts, chosen = Counter(), Counter()
    for given in answers.values():
        for answer in given:
            pair = key["pairs"][answer["pair"]]
            for row in ((pair["against"], f"{pair['image']} / {pair['audio']}"), (pair["against"], "")):
                counts[row] += 1
                chosen.update((row, question) for question in QUESTIONS if answer[question] in ours[answer["pair"]])
    if not counts:
        raise StudyError("There is no answer in these files yet, so there is no rate to show.")
    lines = [
        f"| {key['ours']} against | prompts | n | {' | '.join(f'{name}, %' for name in QUESTIONS.values())} |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(counts, key=lambda row: (row[0], not row[1], row)):
        shares = " | ".join(percent(chosen[row, question], counts[row]) for question in QUESTIONS)
        lines.append(f"| {row[0]} | {row[1] or '**all**'} | {counts[row]} | {shares} |")
    return "\n".join(lines)
