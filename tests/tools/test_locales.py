"""The check of translations notices what it should; tests/comfyui holds the real ones to it."""

import copy

import pytest

from tools import locales

TERMS = {"seed": "种子"}
SOURCE = {
    "nodeDefs": {
        "KeepBest": {
            "display_name": "Keep Best",
            "description": "Keeps 3 of the seeds under models/loras.",
            "inputs": {
                "cfg": {"name": "cfg", "tooltip": "Beside Keep Best: 'weighted' looks at lambda_sds and top_count."},
                "top_count": {"name": "top_count", "tooltip": "How many."},
            },
            "outputs": {},
        }
    },
    "main": {"nodeCategories": {"scoring": "scoring"}},
}
TRANSLATION = {
    "nodeDefs": {
        "KeepBest": {
            "display_name": "保留最佳",
            "description": "保留 models/loras 下的 3 个种子。",
            "inputs": {
                "cfg": {"name": "cfg", "tooltip": "与保留最佳一起：'weighted' 看 lambda_sds 和数量。"},
                "top_count": {"name": "数量", "tooltip": "有多少。"},
            },
            "outputs": {},
        }
    },
    "main": {"nodeCategories": {"scoring": "评分"}},
}


def complaints(change: dict[str, str | None]) -> list[str]:
    """Of the translation with the texts at some dotted keys of KeepBest changed, or with None taken out."""
    translation = copy.deepcopy(TRANSLATION)
    for key, text in change.items():
        *folders, name = key.split(".")
        tree = translation["nodeDefs"]["KeepBest"]
        for folder in folders:
            tree = tree[folder]
        if text is None:
            del tree[name]
        else:
            tree[name] = text
    return locales.complaints(SOURCE, translation, TERMS, same=["cfg"])


def test_a_whole_translation_is_not_complained_of():
    assert complaints({}) == []


@pytest.mark.parametrize(
    "change, fault",
    [
        ({"inputs.top_count.tooltip": None}, "nodeDefs.KeepBest.inputs.top_count.tooltip is missing: 'How many.'"),
        ({"inputs": None}, "nodeDefs.KeepBest.inputs.top_count.name is missing: 'top_count'"),
        ({"display_name": None, "inputs.top_count.name": None}, "nodeDefs.KeepBest.display_name is missing: 'Keep Best'"),
        ({"description": ""}, "nodeDefs.KeepBest.description is missing: 'Keeps 3 of the seeds under models/loras.'"),
        ({"display_name": "Keep Best"}, "nodeDefs.KeepBest.display_name is not translated: 'Keep Best'"),
        ({"inputs.steps": "步数"}, "nodeDefs.KeepBest.inputs.steps is left over: English has no such text (any more)"),
        ({"description": "保留 models/loras 下的种子。"}, "lacks '3' of"),
        ({"description": "保留 models 下的 3 个种子。"}, "lacks 'models/loras' of"),
        ({"inputs.cfg.tooltip": "与保留最佳一起：加权看 lambda_sds 和数量。"}, "lacks \"'weighted'\" of"),
        ({"inputs.cfg.tooltip": "与保留最佳一起：'weighted' 看权重和数量。"}, "lacks 'lambda_sds' of"),
        ({"inputs.cfg.tooltip": "与保留最佳一起：'weighted' 看 lambda_sds 和 top_count。"}, "does not call 'top_count' '数量'"),
        ({"inputs.cfg.tooltip": "与留下最好一起：'weighted' 看 lambda_sds 和数量。"}, "does not call 'Keep Best' '保留最佳'"),
        ({"description": "保留 models/loras 下的 3 个随机数。"}, "does not call 'seed' '种子'"),
    ],
)
def test_a_faulty_translation_is_complained_of_by_key_and_text(change, fault):
    assert any(fault in line for line in complaints(change))


@pytest.mark.parametrize("language", [folder.name for folder in locales.LOCALES.iterdir()])
def test_no_text_holds_a_mark_that_the_front_end_reads_as_an_instruction(language):
    """vue-i18n takes {name}, @:key and a|b in messages as such."""
    assert [key for key, text in locales.texts(locales.load(language)).items() if set("{}@|") & set(text)] == []


NOTE = "## A *seed*\n\nSee *01 Picture that sounds*, 8 s, in workflows/inputs.\n"
SAID = {"graphs": ["first", "second"], "blueprints": ["Box"], "texts": [NOTE, "Empty", "SDS"]}
TOLD_NOTE = "## 种子：*01 Picture that sounds*，8 秒，workflows/inputs"
TOLD = {"graphs": ["first", "second"], "blueprints": ["Box"], "texts": {NOTE: TOLD_NOTE, "Empty": "空", "SDS": "SDS"}}


@pytest.mark.parametrize(
    "change, fault",
    [
        ({}, None),
        ({NOTE: ""}, "is missing: a template's note"),
        ({"Empty": "Empty"}, "'Empty' is not translated"),
        ({"Full": "满"}, "'Full' is left over"),
        ({NOTE: TOLD_NOTE.replace("种子", "随机数")}, "does not call 'seed' '种子'"),
        ({NOTE: TOLD_NOTE.replace("8", "八")}, "lacks '8' of"),
        ({NOTE: TOLD_NOTE.replace("Picture that sounds", "有声图像")}, "lacks '*01 Picture that sounds*'"),
        ({NOTE: TOLD_NOTE.replace("workflows/", "")}, "lacks 'workflows/inputs'"),
    ],
)
def test_a_faulty_translation_of_the_templates_is_complained_of(change, fault):
    faults = locales.template_complaints(SAID, TOLD | {"texts": TOLD["texts"] | change}, TERMS, same=["SDS"])
    assert len(faults) == (fault is not None) and all(fault in line for line in faults)


def test_a_template_that_the_translation_does_not_know_is_complained_of():
    (fault,) = locales.template_complaints(SAID | {"graphs": ["first", "second", "third"]}, TOLD, TERMS, same=["SDS"])
    assert "ids of the templates" in fault


def test_a_blueprint_that_the_translation_does_not_know_is_complained_of():
    (fault,) = locales.template_complaints(SAID | {"blueprints": ["Box", "Other"]}, TOLD, TERMS, same=["SDS"])
    assert "blueprints" in fault
