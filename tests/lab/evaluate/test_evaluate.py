"""The tables: balanced lists of prompts, rows that differ in one setting, records that are not mixed, honest intervals."""

import gzip
import json
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from lab.evaluate import curves, paired, records, run, search, sheets, tables
from lab.evaluate.__main__ import main
from lab.evaluate.folders import Folders
from lab.evaluate.records import MAKING
from lab.evaluate.rows import EMBEDDED, PAPER, TABLES, Row
from lab.evaluate.samples import LISTS, Sample
from lab.intervals import bootstrap, mean_interval

RESULTS = Path(__file__).parents[3] / "lab" / "results"
EVERY_FIELD = {
    *("row", "prompts", "files", "seconds", "clip", "clap", "cycle_db", "picture", "sound", "foreseen"),
    *Row.__dataclass_fields__,
    *Sample.__dataclass_fields__,
}
FILES = {"image": "a", "audio": "b", "vae": "c", "clip": "d", "clap": "e", "judges": "f"}


def record(index: int, picture: bool = True, sound: bool = True, name: str = "joint", files: dict | None = None, **more) -> dict:
    sample = asdict(LISTS["test"].samples(index, 1)[0])
    verdicts = {"picture": {"right": picture}, "sound": {"right": sound}}
    scores = {"clip": 20.0 + index, "clap": 30.0 - index, "cycle_db": 1.0, "foreseen": {}}
    return {
        "row": name,
        **EMBEDDED[name].settings(),
        **sample,
        **verdicts,
        **scores,
        "prompts": "test",
        "files": files or FILES,
        **more,
    }


# Prompts and rows


def test_a_list_asks_for_every_class_equally_often_and_every_pair_before_one_returns():
    listed = LISTS["test"].samples(0, 210)
    assert len({(s.image_class, s.audio_class) for s in listed[:196]}) == 196
    for key in ("image_class", "audio_class"):
        assert {sum(getattr(s, key) == label for s in listed) for label in {getattr(s, key) for s in listed}} == {15}


def test_development_and_test_share_no_prompt_and_no_seed():
    development, test = (LISTS[name].samples(0, 1000) for name in ("development", "test"))
    assert not {s.image_prompt for s in development} & {s.image_prompt for s in test}
    assert not {s.audio_prompt for s in development} & {s.audio_prompt for s in test}
    assert not {s.seed for s in development} & {s.seed for s in test}


def test_the_paper_s_ten_by_ten_prompts_come_all_before_one_returns():
    listed = LISTS["paper"].samples(0, 101)
    assert len({(s.image_prompt, s.audio_prompt) for s in listed[:100]}) == 100
    assert listed[100].image_prompt == listed[0].image_prompt and listed[100].seed != listed[0].seed


def test_a_part_of_a_list_is_the_same_as_in_the_whole_and_seeds_keep_a_pair():
    assert LISTS["test"].samples(7, 3) == LISTS["test"].samples(0, 10)[7:]
    of_a_pair = LISTS["test"].samples(0, 8, seeds=4)
    assert [s.image_class for s in of_a_pair] == ["castle"] * 4 + ["dog"] * 4
    assert len({s.seed for s in of_a_pair}) == 8


@pytest.mark.parametrize(
    ("folder", "steps", "seeds"),
    [("embedded", 25, 1), ("former", None, 1), ("ablations", 25, 1), ("ddim", None, 1), ("search", None, 16), ("search-25", None, 16)],
)
def test_committed_records_are_of_today_s_rows_and_samples(folder, steps, seeds):
    found = records.read(RESULTS / folder)
    assert found
    for one in found:
        assert set(one) == EVERY_FIELD
        assert Row.of(one) == EMBEDDED[one["row"]].changed(steps, None, None)
        assert records.record_of_sample(one) == asdict(LISTS["test"].samples(one["index"], 1, seeds)[0])


def test_a_row_comes_back_from_its_record():
    for row in (*EMBEDDED.values(), *PAPER.values()):
        assert Row.of(json.loads(json.dumps(row.settings()))) == row


def test_a_record_of_another_version_is_refused_by_name():
    with pytest.raises(ValueError, match="record of the row joint lacks vocoder: another version wrote it"):
        Row.of({key: value for key, value in record(0).items() if key != "vocoder"})


def test_every_row_of_a_table_exists_and_makes_what_its_sources_need():
    for name in {name for names in TABLES.values() for name in names}:
        assert set(EMBEDDED[name].sources) <= set(EMBEDDED)


def test_a_given_guidance_changes_only_the_side_that_takes_part():
    assert EMBEDDED["image"].changed(25, 3.0, 4.0) == Row(25, 3.0)
    assert EMBEDDED["joint"].changed(None, None, 4.0) == replace(EMBEDDED["joint"], audio_guidance=4.0)


def test_a_record_depends_on_the_models_that_its_row_uses_and_on_no_other():
    used = {name: set(Folders().files(EMBEDDED[name])) for name in ("image", "audio", "joint", "hifi-gan")}
    assert used["image"] & set(MAKING) == {"image", "vae"} and used["audio"] & set(MAKING) == {"audio", "vae"}
    assert used["hifi-gan"] - used["joint"] == {"vocoder"} and not used["joint"] - used["hifi-gan"]


# Records


def written(folder: Path, *lines: dict) -> Path:
    folder.mkdir(exist_ok=True)
    records.append(folder, lines)
    return folder


def test_a_run_goes_on_where_it_stopped_and_refuses_other_settings(tmp_path):
    written(tmp_path, record(0), record(2))
    listed, joint = LISTS["test"].samples(0, 4), EMBEDDED["joint"]
    fixed = {"prompts": "test", "files": FILES}
    assert [sample.index for sample in records.remaining(tmp_path, "joint", joint, listed, fixed)] == [1, 3]
    assert len(records.remaining(tmp_path, "image", EMBEDDED["image"], listed, fixed)) == 4
    with pytest.raises(ValueError, match=r"audio_weight.*0\.5, 0\.3.*another --output"):
        records.remaining(tmp_path, "joint", replace(joint, audio_weight=0.3), listed, fixed)
    with pytest.raises(ValueError, match=r"files \(audio\).*another --output"):
        records.remaining(tmp_path, "joint", joint, listed, {**fixed, "files": {**FILES, "audio": "new"}})
    with pytest.raises(ValueError, match="seed"):
        records.remaining(tmp_path, "joint", joint, LISTS["development"].samples(0, 4), fixed)
    with pytest.raises(ValueError, match="lab.evaluate judge"):
        records.remaining(tmp_path, "joint", joint, listed, {**fixed, "files": {**FILES, "clip": "new"}})


def test_a_half_written_last_line_is_left_out_and_repaired(tmp_path):
    written(tmp_path, record(0))
    with (tmp_path / records.FILE).open("a") as file:
        file.write(json.dumps(record(1))[:50])
    assert [one["index"] for one in records.read(tmp_path)] == [0]
    written(tmp_path, record(2))
    assert [one["index"] for one in records.read(tmp_path)] == [0, 2]


def test_a_whole_last_line_without_its_newline_is_kept(tmp_path):
    (tmp_path / records.FILE).write_text(json.dumps(record(0)))
    written(tmp_path, record(1))
    assert [one["index"] for one in records.read(tmp_path)] == [0, 1]


def test_packed_records_are_read_before_those_that_were_added(tmp_path):
    written(tmp_path, record(0), record(1))
    plain = tmp_path / records.FILE
    plain.with_name(f"{records.FILE}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    written(tmp_path, record(1, picture=False), record(2))
    assert [(one["index"], one["picture"]["right"]) for one in records.read(tmp_path)] == [(0, True), (1, False), (2, True)]


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    (tmp_path / records.FILE).write_text(f"{json.dumps(record(0))}\n{{oops\n{json.dumps(record(1))}\n")
    with pytest.raises(ValueError, match=r"line 2 .*oops.*Delete the line"):
        records.read(tmp_path)
    (tmp_path / records.FILE).write_text('{"row": "of an older format"}\n')
    with pytest.raises(ValueError, match="line 1 is not a record"):
        records.read(tmp_path)


def test_runs_are_read_as_one_and_a_sample_counts_once(tmp_path):
    one, two = written(tmp_path / "1", record(0), record(1)), written(tmp_path / "2", record(1), record(2))
    assert [found["index"] for found in records.gather([one, two])] == [0, 1, 2]


@pytest.mark.parametrize(
    "other",
    [record(5, files={**FILES, "audio": "retrained"}), record(5, audio_weight=0.3), record(5, prompts="development")],
    ids=["other models", "other settings", "other prompts"],
)
def test_records_that_were_not_made_alike_are_refused_unless_asked_for(tmp_path, other):
    one, two = written(tmp_path / "1", record(0)), written(tmp_path / "2", other)
    with pytest.raises(ValueError, match="--mixed"):
        records.gather([one, two])
    assert len(records.gather([one, two], mixed=True)) == 2


def test_settings_of_one_row_may_be_compared(tmp_path):
    others = [record(0, audio_weight=0.3), record(0, learning_rate=0.5)]
    folders = [written(tmp_path / str(i), one) for i, one in enumerate([record(0), *others])]
    lines = tables.tables(records.gather(folders, by_settings=True), by_settings=True).splitlines()
    assert len(lines) == 5 and "audio weight 0.3" in lines[3] and "learning rate 0.5" in lines[4]


# Tables and figures


def test_student_s_interval_of_a_mean():
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841, 2 + 2.4841), abs=1e-3)
    assert np.isnan(mean_interval([1.0])).all()


def test_a_bootstrap_covers_the_mean_about_as_student_does():
    values = np.random.default_rng(1).normal(5, 2, 200)
    assert bootstrap(lambda drawn: drawn.mean(axis=1), values) == pytest.approx(mean_interval(values.tolist()), abs=0.05)


def test_progress_from_wrong_to_right():
    wrong, right, joint = (np.repeat([1.0, 0.0], [n, 100 - n]) for n in (10, 90, 50))
    share, low, high = tables.progress(wrong, right, joint)
    assert share == pytest.approx(0.5)
    assert 0.3 < low < 0.45 and 0.55 < high < 0.7


def test_a_score_that_knows_the_verdict_has_the_whole_area_and_one_that_does_not_half():
    right = np.arange(40) % 2
    noise = np.random.default_rng(0).normal(size=(300, 40))
    assert tables.area_under_curve(np.stack([right + 0.1, right], axis=-1)[None]) == 1
    assert tables.area_under_curve(np.stack([-right, right], axis=-1)[None]) == 0
    assert tables.area_under_curve(np.stack([right, np.ones(40)], axis=-1)[None]) == 0.5
    assert abs(tables.area_under_curve(np.stack([noise, np.broadcast_to(right, noise.shape)], axis=-1)).mean() - 0.5) < 0.02


def test_agreement_needs_some_of_either_verdict():
    told = [record(i, picture=i >= 10, sound=i < 2) for i in range(20)]  # CLIP grows with the index
    assert tables.agreement({"joint": told}) == ["- joint: CLIP tells recognised pictures from others at 1.00 (1.00 to 1.00)"]


def test_both_is_not_the_product_of_the_means():
    """A mixture of pure pictures and pure sounds: half recognised in each, none in both."""
    cells = tables.table({"joint": [record(i, i % 2 == 0, i % 2 == 1) for i in range(100)]})[-1].split(" | ")
    assert [cell.split()[0] for cell in cells[6:9]] == ["50", "50", "0"]
    assert cells[9] == "28.2, 33.5 |"


def test_a_column_that_some_records_lack_is_left_out():
    old = {key: value for key, value in record(1).items() if key != "clip"}
    cells = tables.table({"joint": [record(0), old]})[-1].split(" | ")
    assert cells[3] == "-" and cells[4].startswith("29.5")


def test_rows_are_compared_on_the_samples_that_both_have():
    joint = [record(i, picture=True, sound=i < 6) for i in range(8)]
    imprint = [record(i, picture=i < 4, sound=True, name="imprint", clip=17.0 + i) for i in range(2, 10)]
    cells = paired.against([*joint, *imprint], "joint")[-1].split(" | ")
    # shared: samples 2 to 7, of which imprint has both in 2 and 3, joint in 2 to 5
    assert cells[0] == "| imprint" and cells[1] == "6"
    assert cells[2] == "-3.0 (-3.0 to -3.0)"
    assert [cell.partition(" ")[0] for cell in cells[5:8]] == ["-66.7", "33.3", "-33.3"]
    assert cells[8] == "0, 2" and cells[9] == "-1.0, -1.2 |"


def test_a_pair_s_other_seed_is_another_sample():
    with pytest.raises(ValueError, match="no row shares samples with the row 'joint'"):
        paired.against([record(3), record(3, name="imprint", seed=4)], "joint")


def test_a_curve_needs_two_of_its_rows():
    pytest.importorskip("matplotlib")
    some = [record(i, name=name) for name in ("joint", "guidance-5", "imprint") for i in range(3)]
    drawn = curves.curves(some, "judges")
    lines = re.findall(r'<g id="line (.*?)">(.*?)\n   </g>', drawn, re.DOTALL)
    assert [(name, line.count("<use")) for name, line in lines] == [("guidance", 2), ("imprint", 1)]
    for text in ("guidance", "imprint", "5", "joint"):
        assert f">{text}</text>" in drawn
    with pytest.raises(ValueError, match="nothing to draw"):
        curves.curves(some[:3], "scores")


def test_labels_of_a_chart_do_not_cover_one_another_and_a_shared_point_has_one():
    pytest.importorskip("matplotlib")
    from lab.evaluate import chart

    def point(x: float, label: str) -> chart.Point:
        return chart.Point(x, 1.0, (0.0, 10.0), (0.0, 2.0), label)

    lines = {"a": [point(5.0, "joint"), point(5.1, "image-first")], "b": [point(5.0, "joint"), point(9.0, "0.8")]}
    drawn = chart.chart(lines, "x", "y")
    texts = re.findall(r'text-anchor: (start|end)[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>(joint|image-first|0.8)<', drawn)
    found = [(x, y, side, label) for side, x, y, label in texts]
    assert sorted(label for *_, label in found) == ["0.8", "image-first", "joint"]
    (x1, y1, side1), (x2, y2, side2) = [(float(x), float(y), side) for x, y, side, label in found if label != "0.8"]
    assert abs(y1 - y2) >= 13 or (x1 < x2 and side1 == "end" and side2 == "start")


def test_sheets_show_the_first_pictures_of_each_row(tmp_path):
    written(tmp_path, record(0), record(1))
    for index in range(2):
        records.save_picture(records.picture_path(tmp_path, "joint", index), np.full((256, 1024), 200, np.uint8))
    sheets.write([tmp_path], 24, False, tmp_path / "sheets")
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["joint.jpg"]
    (tmp_path / "joint" / "0001.png").unlink()
    with pytest.raises(FileNotFoundError, match="0001.png"):
        sheets.write([tmp_path], 24, False, tmp_path / "sheets")


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate", "tables", str(tmp_path)])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "has no records" in capsys.readouterr().err


def test_rows_made_of_others_come_after_them_and_are_refused_at_once_where_there_are_none(tmp_path):
    listed = LISTS["test"].samples(0, 2, 1)
    rows = {name: EMBEDDED[name] for name in ("imprint", "joint", "image", "audio")}
    assert list(run.order(tmp_path, rows, listed)) == ["joint", "image", "audio", "imprint"]
    del rows["audio"]
    with pytest.raises(FileNotFoundError, match="audio.0000.png is not there: run the row audio first"):
        run.order(tmp_path, rows, listed)
    for sample in listed:
        records.save_picture(records.picture_path(tmp_path, "audio", sample.index), np.zeros((256, 1024), np.uint8))
    assert list(run.order(tmp_path, rows, listed)) == ["joint", "image", "imprint"]


def test_imprint_is_made_of_saved_pictures_and_says_which_row_is_missing(tmp_path):
    batch = LISTS["test"].samples(0, 1)
    records.save_picture(records.picture_path(tmp_path, "image", 0), np.zeros((256, 1024), np.uint8))
    with pytest.raises(FileNotFoundError, match="run the row audio first"):
        run.made_of_others(tmp_path, EMBEDDED["imprint"], batch)
    records.save_picture(records.picture_path(tmp_path, "audio", 0), np.full((256, 1024), 255, np.uint8))
    assert run.made_of_others(tmp_path, EMBEDDED["imprint"], batch) == pytest.approx(np.full((1, 256, 1024), 1 - run.RHO))
    assert run.made_of_others(tmp_path, EMBEDDED["joint"], batch) is None


# The keeper search, replayed


DRAFTS = ("draft-12", "draft-20")


def drafted(told: float, pairs: int = 8, drafts: tuple[str, ...] = DRAFTS, full: str = "joint", count: int = 16) -> list[records.Record]:
    """Full samples whose quality is their score, and drafts whose score tells it as well as `told` (0..1)."""
    rng, made = np.random.default_rng(0), []
    ends = rng.normal(size=pairs * count)
    for name in (full, *drafts):
        for sample, end in zip(LISTS["test"].samples(0, pairs * count, seeds=count), ends, strict=True):
            score = end if name == full else told * end + (1 - told) * rng.normal()
            verdicts = {"picture": {"right": bool(end > 0.5)}, "sound": {"right": bool(end > 0.5)}}
            made.append(
                {"row": name, **EMBEDDED[name].settings(), **asdict(sample), **verdicts, "clip": score, "clap": score, "foreseen": {}}
            )
    return made


def kept_by_a_third(found: search.Candidates) -> list[set[int]]:
    searched = search.plan(16, 2, 100, 16 / 3)
    assert searched.draft_steps == 20 and found.price(searched) < 16 / 3
    return [set(found.kept(pair, 2, searched)) for pair in range(len(found.pairs))]


def test_where_drafts_tell_the_end_a_search_keeps_what_ranking_everything_keeps():
    (found,) = search.searches(drafted(told=1.0))
    everything = search.plan(16, 2, 100, 16)
    assert found.price(everything) == 16
    assert kept_by_a_third(found) == [set(found.kept(pair, 2, everything)) for pair in range(8)]
    assert all(np.allclose(values, 1) for look in found.looks for values in found.correlation(look).values())


def test_where_drafts_tell_nothing_a_search_keeps_no_better_than_chance():
    (found,) = search.searches(drafted(told=0.0, pairs=40))
    kept = np.mean([found.quality[pair][list(chosen)].mean(axis=0) for pair, chosen in enumerate(kept_by_a_third(found))], axis=0)
    assert abs(kept[0] - found.quality[..., 0].mean()) < 10
    assert abs(found.correlation(found.drafts[20])["picture score"].mean()) < 0.15


def test_a_draft_costs_its_evaluations_of_both_models():
    (found,) = search.searches(drafted(told=1.0, pairs=1))
    assert EMBEDDED["joint"].voters == 10 * [1] + 90 * [2] and EMBEDDED["draft-20"].voters == 2 * [1] + 18 * [2]
    assert EMBEDDED["draft-12"].places[:3] == [0, 10, 17]  # nor does a draft prolong the warm start
    assert found.drafts[20].price == 38 / 190


def test_what_was_foreseen_is_a_look_at_the_price_of_the_steps_so_far():
    made = [record | {"row": "candidates", **EMBEDDED["candidates"].settings()} for record in drafted(told=1.0, drafts=())]
    (found,) = search.searches([record | {"foreseen": {"6": [1.0, record["clap"]]}} for record in made])
    (look,) = found.looks
    assert (look.steps, look.price) == (6, 7 / 95)
    correlation = found.correlation(look)
    assert np.isnan(correlation["picture score"]).all() and np.allclose(correlation["sound score"], 1)


def test_the_report_names_price_and_loss_of_each_way():
    lines = search.report(search.searches(drafted(told=1.0)), keepers=2).splitlines()
    third = next(line for line in lines if line.startswith("| 16 drafts of 20 steps, 2 of them in full | 5.2 |"))
    assert third.endswith("| 1.5 (1.5 to 1.5) | 0.0 (0.0 to 0.0) | 0.0 (0.0 to 0.0) | 0.0 (0.0 to 0.0) |")
    compared = next(line for line in lines if line.startswith("- 16 drafts of 20 steps, 2 of them in full, less 5 only"))
    assert "place -" in compared and "clip -" not in compared  # nearer to the front, with a higher score
    unpicked = next(line for line in lines if line.startswith("| unpicked | 2.0 |"))
    assert unpicked.count("-") > 0 and " 8.5 (8.5 to 8.5) |" in unpicked


def test_drafts_that_no_budget_of_the_search_pays_for_are_replayed_beside_as_many_full_samples():
    found = search.searches(drafted(told=1.0, drafts=("draft-8-of-25", "draft-12-of-25"), full="ddim-25"))
    lines = search.report(found, keepers=2).splitlines()
    for steps, price, fewer in ((12, 9.7, 10), (8, 7.0, 7)):
        assert any(line.startswith(f"| 16 drafts of {steps} steps, 2 of them in full | {price} |") for line in lines), lines
        assert any(line.startswith(f"- 16 drafts of {steps} steps, 2 of them in full, less {fewer} only") for line in lines)


def test_the_curve_of_a_search_has_a_line_for_each_score():
    pytest.importorskip("matplotlib")
    drawn = search.curve(search.searches(drafted(told=0.5)))
    assert re.findall(r'<g id="line (.*?)">', drawn) == ["draft, picture score", "draft, sound score"]


def test_candidates_of_a_run_that_was_stopped_are_refused():
    with pytest.raises(ValueError, match="no sample was drafted or foreseen"):
        search.searches([record(0)])
    for lacking in (slice(0, -1), slice(1, None)):
        with pytest.raises(ValueError, match="drafts or candidates are missing"):
            search.searches(drafted(told=1.0)[lacking])
