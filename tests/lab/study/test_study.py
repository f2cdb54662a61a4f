"""The human study: a blinded page that works from disk by keyboard, and a table that shows no rate without its n."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from itsound_core.presets import PromptPair
from lab.study.__main__ import build, main, tabulate
from lab.study.clips import Still, StudyError

METHODS = ("the-method", "distilled", "imprinted")
PAIRS = (("castle <towers>", "bell ringing"), ("dogs", "</script><script>alert(1)</script>"))
PROMPTS = [{"name": f"sample_{2 * i + j}", "image": image, "audio": audio} for i, (image, audio) in enumerate(PAIRS) for j in (0, 1)]
QUESTIONS = ("looks", "sounds", "fits")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods' pictures and half a second of sound each; all differ, and every picture says in its metadata where it is from."""
    root = tmp_path_factory.mktemp("material")
    (root / "prompts.json").write_text(json.dumps(PROMPTS))
    for number, method in enumerate(METHODS):
        (root / method).mkdir()
        for i, row in enumerate(PROMPTS):
            tell_tale = PngInfo()
            tell_tale.add_text("workflow", method)
            picture = np.full((64, 129), 50 + 60 * number + 5 * i, np.uint8)
            Image.fromarray(picture).save(root / method / f"{row['name']}.png", pnginfo=tell_tale)
            soundfile.write(root / method / f"{row['name']}.flac", 0.1 * np.random.default_rng(i).standard_normal(8000), 16000)
    return root


def folders(root: Path) -> list[Path]:
    return [root / method for method in METHODS]


@pytest.fixture(scope="module")
def page(material: Path) -> Path:
    """A survey of that material, its key beside it."""
    build(folders(material), material / "prompts.json", material / "study.html")
    return material / "study.html"


@pytest.fixture(scope="module")
def key(page: Path) -> dict[str, Any]:
    return json.loads(page.with_suffix(".key.json").read_text())


def clips_of(page: Path) -> dict[str, bytes]:
    return {name: base64.b64decode(text) for name, text in re.findall(r'id="(clip-\d+)">([^<]+)<', page.read_text())}


def test_nothing_in_the_page_says_where_a_clip_is_from(page: Path, key: dict[str, Any]) -> None:
    text, clips = page.read_text(), clips_of(page)
    assert len(clips) == len(METHODS) * len(PROMPTS)
    for tell_tale in (*METHODS, "sample_", "workflow", '"ours"', '"baseline"'):
        assert tell_tale not in text
        assert all(tell_tale.encode() not in clip for clip in clips.values())
    placed = [clip for pair in key["pairs"].values() for sample in pair["samples"] for clip in (sample["ours"], sample["baseline"])]
    assert set(placed) == set(clips)


def test_each_clip_is_the_picture_and_sound_that_the_key_says(page: Path, key: dict[str, Any]) -> None:
    clips = clips_of(page)
    for pair in key["pairs"].values():
        for sample in pair["samples"]:
            for number, clip in ((0, sample["ours"]), (METHODS.index(pair["against"]), sample["baseline"])):
                with av.open(io.BytesIO(clips[clip])) as video:
                    frames = [frame.to_ndarray(format="gray") for frame in video.decode(video=0)]
                    assert video.streams.audio[0].codec_context.name == "aac"
                left = (frames[0].shape[1] - 129) // 2
                level = 50 + 60 * number + 5 * [row["name"] for row in PROMPTS].index(sample["name"])
                assert len(frames) == 13 and abs(int(np.median(frames[0][:64, left : left + 129])) - level) <= 3
                assert (pair["image"], pair["audio"]) == PAIRS[(level - 50) % 60 // 10]


def test_a_video_made_of_picture_and_sound_shows_both_prompts(material: Path, tmp_path: Path) -> None:
    """Below the picture each word that changes is seen; the pair's clips differ there in nothing else."""

    def below(image: str, audio: str) -> np.ndarray:
        made = Still(material / METHODS[0] / "sample_0.png", material / METHODS[0] / "sample_0.flac", PromptPair(image, audio)).mp4()
        with av.open(io.BytesIO(made)) as video:
            return next(video.decode(video=0)).to_ndarray(format="gray")[64:].astype(int)

    plain, other_image, other_audio = below("castle", "bell"), below("wolves", "bell"), below("castle", "rain")
    middle = plain.shape[1] // 2
    assert all(np.count_nonzero(half.max(axis=0) > 150) > 20 for half in (plain[:, :middle], plain[:, middle:]))
    for changed, there, here in ((other_image, slice(middle, None), slice(middle)), (other_audio, slice(middle), slice(middle, None))):
        difference = abs(changed - plain)
        assert difference[:, here].max() > 100 and difference[:, there].max() < 20


def test_the_third_question_is_the_paper_s(page: Path) -> None:
    """A.3: the picture is played from left to right, and the question names both prompts."""
    question = re.search(r"<legend>([^/]*left to right.*?)</legend>.*?name=\"fits\"", page.read_text(), re.DOTALL)
    assert question and '<q class="image">' in question[1] and '<q class="audio">' in question[1]


def test_the_same_material_makes_the_same_survey(page: Path, material: Path, tmp_path: Path) -> None:
    build(folders(material), material / "prompts.json", tmp_path / "study.html")
    assert (tmp_path / "study.html").read_bytes() == page.read_bytes()
    with pytest.raises(StudyError, match="study.html exists"):
        build(folders(material), material / "prompts.json", tmp_path / "study.html")


def test_videos_that_are_there_are_shown_as_they_are_without_what_is_written_in_them(material: Path, tmp_path: Path) -> None:
    for folder in folders(material):
        (tmp_path / folder.name).mkdir()
        for row in PROMPTS:
            made = Still(folder / f"{row['name']}.png", folder / f"{row['name']}.flac", PromptPair(row["image"], row["audio"])).mp4()
            with av.open(io.BytesIO(made)) as source, av.open(tmp_path / folder.name / f"{row['name']}.mp4", "w") as video:
                video.metadata.update(title=folder.name, comment=f"workflow of {folder.name}")
                streams = [video.add_stream_from_template(stream) for stream in source.streams]
                for packet in source.demux():
                    if packet.dts is not None:
                        packet.stream = streams[packet.stream.index]
                        video.mux(packet)
            assert folder.name.encode() in (tmp_path / folder.name / f"{row['name']}.mp4").read_bytes()
    build(folders(tmp_path), material / "prompts.json", tmp_path / "study.html")
    for clip in clips_of(tmp_path / "study.html").values():
        assert b"workflow" not in clip
        with av.open(io.BytesIO(clip)) as video:
            assert len(list(video.decode(video=0))) == 13


def rewritten(rows: list[dict[str, str]], root: Path) -> None:
    (root / "prompts.json").write_text(json.dumps(rows))


def no_sound(root: Path) -> None:
    (root / "distilled" / "sample_1.flac").unlink()


def broken_picture(root: Path) -> None:
    (root / "distilled" / "sample_2.png").write_bytes((root / "distilled" / "sample_2.png").read_bytes()[:60])


def empty_sound(root: Path) -> None:
    (root / "imprinted" / "sample_0.flac").unlink()
    soundfile.write(root / "imprinted" / "sample_0.wav", np.zeros(0), 16000)


def same_picture_and_sound(root: Path) -> None:
    for suffix in ("png", "flac"):
        shutil.copy(root / "the-method" / f"sample_3.{suffix}", root / "distilled")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (no_sound, r"1 missing, as .*distilled/sample_1.flac"),
        (broken_picture, r"distilled/sample_2.png cannot be read"),
        (empty_sound, r"imprinted/sample_0.wav cannot be read: it is empty"),
        (same_picture_and_sound, r"the-method/sample_3 and distilled/sample_3 are the same"),
        (lambda root: rewritten(PROMPTS[:3], root), r"same number of samples.*castle <towers> / bell ringing: 2, dogs.*: 1"),
        (lambda root: rewritten([*PROMPTS, PROMPTS[0]], root), r"the name 'sample_0' twice"),
        (lambda root: rewritten([{"name": "a", "image": "dogs"}], root), r"needs a name, an image and an audio prompt"),
        (lambda root: rewritten([], root), r"there are none"),
        (lambda root: (root / "prompts.json").write_text("[{"), r"prompts.json cannot be read"),
    ],
)
def test_material_that_makes_no_study_is_refused_by_name(
    spoil: Callable[[Path], None], complaint: str, material: Path, tmp_path: Path
) -> None:
    root = shutil.copytree(material, tmp_path / "copy", ignore=shutil.ignore_patterns("study*"))
    spoil(root)
    with pytest.raises(StudyError, match=complaint):
        build(folders(root), root / "prompts.json", root / "study.html")
    assert not (root / "study.html").exists()


def test_a_method_is_not_compared_with_itself(material: Path) -> None:
    with pytest.raises(StudyError, match="not all different"):
        build([material / "distilled", material / "distilled"], material / "prompts.json", material / "twice.html")


def test_the_command_says_what_is_wrong_and_fails(
    material: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = ["--prompts", str(material / "prompts.json")]
    monkeypatch.setattr("sys.argv", ["study", "build", str(material / "the-method"), *prompts])
    with pytest.raises(SystemExit):
        main()
    assert "baselines" in capsys.readouterr().err
    output = ["--output", str(material / "nowhere" / "study.html")]
    monkeypatch.setattr("sys.argv", ["study", "build", *map(str, folders(material)), *prompts, *output])
    assert main() == 1
    assert "nowhere is no folder" in capsys.readouterr().err


def answered(key: dict[str, Any], ours: bool = True, pairs: int = 4, participant: str = "P1") -> dict[str, Any]:
    """What a participant saves who always chooses ours, or never."""
    answers = []
    for name, pair in list(key["pairs"].items())[:pairs]:
        sample = pair["samples"][0]
        chosen = sample["ours" if ours else "baseline"]
        answers.append({"pair": name, "shown": [sample["ours"], sample["baseline"]], **dict.fromkeys(QUESTIONS, chosen)})
    return {"study": key["study"], "participant": participant, "pairs": 4, "answers": answers}


@pytest.fixture
def table(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The table command's output for these files."""

    def of(*saved: Any) -> str:
        paths = [tmp_path / f"answers-{number}.json" for number in range(len(saved))]
        for path, content in zip(paths, saved, strict=True):
            path.write_text(json.dumps(content))
        capsys.readouterr()
        tabulate(paths, page.with_suffix(".key.json"))
        return capsys.readouterr().out

    return of


def test_every_rate_stands_beside_its_n_and_interval(table: Callable[..., str], key: dict[str, Any]) -> None:
    always = [answered(key, participant=f"P{i}") for i in range(3)]
    shown = table(*always, answered(key, ours=False, participant="P3"))
    assert "| the-method against | prompts | n | sound, % | picture, % | alignment, % |" in shown
    for baseline in METHODS[1:]:
        assert f"| {baseline} | dogs / {PAIRS[1][1]} | 4 | 75 (30 to 95) | 75 (30 to 95) | 75 (30 to 95) |" in shown
        assert f"| {baseline} | **all** | 8 | 75 (41 to 93) | 75 (41 to 93) | 75 (41 to 93) |" in shown
    assert "Participants: 4." in shown


def test_half_filled_answers_count_and_are_told(table: Callable[..., str], key: dict[str, Any]) -> None:
    shown = table(answered(key), answered(key, pairs=1, participant="P2"))
    assert "Participant P2 answered 1 of 4 pairs" in shown
    assert sum(int(line.split(" | ")[2]) for line in shown.splitlines() if "**all**" in line) == 5


def test_of_a_participant_who_stopped_and_went_on_the_longer_file_counts(table: Callable[..., str], key: dict[str, Any]) -> None:
    for saved in ([answered(key, pairs=2), answered(key)], [answered(key), answered(key, pairs=2)], [answered(key), answered(key)]):
        shown = table(*saved)
        assert "Participant P1 is in" in shown and "Participants: 1." in shown and "answered" not in shown
        assert sum(int(line.split(" | ")[2]) for line in shown.splitlines() if "**all**" in line) == 4


def test_answers_that_cannot_be_counted_are_refused_by_file(table: Callable[..., str], key: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match="no answer in these files"):
        table(answered(key, pairs=0))
    with pytest.raises(StudyError, match="answers-0.json and .*answers-1.json are both by participant P1 and differ"):
        table(answered(key), answered(key, ours=False))
    with pytest.raises(StudyError, match="answers-1.json is of study 0123"):
        table(answered(key), {**answered(key, participant="P2"), "study": "0123"})
    for broken in ([], {"study": key["study"]}, {**answered(key), "answers": [{"pair": "pair-99"}]}):
        with pytest.raises(StudyError, match="answers-0.json is not what the survey saves"):
            table(broken)
    twice = answered(key)
    twice["answers"].append(twice["answers"][0])
    with pytest.raises(StudyError, match="answered twice"):
        table(twice)
    never_shown = answered(key)
    never_shown["answers"][0]["fits"] = "clip-999"
    with pytest.raises(StudyError, match="is none of"):
        table(never_shown)
