"""`python -m stages.check` reports every fault of params.yaml at once, each once, in one line, and quickly."""

import copy
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.check import OF_BACKBONES, SECTIONS, TOP, faults, main, unquoted_faults
from stages.core.errors import ParameterError
from stages.core.params import RENAMED, REPLACED, read
from stages.core.settings.backbones import resolve
from stages.core.settings.recipes import read_names
from tests.support.parameters import ABSENT, ROOT, SHIPPED, edited


def messages(changes: Mapping[str, Any]) -> list[str]:
    return [str(fault) for fault in faults(edited(changes))]


def of_line(line: Any, name: str = "vgg16") -> list[str]:
    """Return the faults when `backbones` holds this line alone."""
    return messages({"backbones": {name: line}})


def test_the_shipped_parameters_are_valid() -> None:
    assert faults(SHIPPED) == []


@pytest.mark.parametrize("value", ["keras_hub:ViTBackbone", "https://host/vgg16.h5"])
def test_a_colon_that_dvc_cannot_read_is_named_where_it_stands(value: str) -> None:
    block, flow = f"vit:\n  weights: {value}\n", f"vit:\n  - {{weights: {value}}}\n"
    (fault,) = unquoted_faults(flow)
    expected = "in line 2 between braces without quotes; expected quotes where a value has a colon"
    assert str(fault) == f"'{value}' {expected}; write '{value}'"
    assert unquoted_faults(block) == unquoted_faults(flow.replace(value, f"'{value}'")) == []
    YAML(typ="safe").load(block)
    with pytest.raises(YAMLError):
        YAML(typ="safe").load(flow)


ONE_FAULT = [
    ({"export.formats": []}, "export.formats = []; expected at least 1 item; correct it"),
    ({"export.formats": ["keras", "onx"]}, "export.formats.1 = 'onx'"),
    ({"export.backbones": ["winner", "winner"]}, "export.backbones = ['winner', 'winner']; expected each name once"),
    ({"export.backbones": ["winner", "resnet5"]}, "export.backbones names 'resnet5'; expected 'winner' or a declared"),
    ({"export.tolerance": 2.0}, "export.tolerance = 2.0; expected at most 1; correct it"),
    ({"seed": True}, "seed = true; expected a whole number; correct it"),
    ({"threads": ABSENT}, "'threads' is missing; expected this key; add it, or restore params.yaml from git"),
    ({"data": ABSENT}, "'data' is missing; expected this key; add it, or restore params.yaml from git"),
    ({"data": []}, "data = []; expected a mapping; correct it"),
    ({"data": 3}, "data = 3; expected a mapping; correct it"),
    ({"data.source": None}, "data.source = null; expected text; correct it"),
    ({"data.max_megapixels": float("nan")}, "data.max_megapixels = nan; expected a finite number; correct it"),
    ({"split.test": 0.9}, "split.test = 0.9; expected validation and test below 1 together"),
    ({"preprocess": None}, "preprocess = null; expected a mapping; correct it"),
    ({"preprocess": ABSENT}, "'preprocess' is missing; expected this key"),
    ({"preprocess.sizes": 224}, "preprocess.sizes = 224; expected a list; correct it"),
    ({"preprocess.sizes": []}, "preprocess.sizes = []; expected at least 1 item; correct it"),
    ({"preprocess.sizes": ["x"]}, "preprocess.sizes.0 = 'x'; expected a whole number; correct it"),
    ({"preprocess.sizes": [10**30]}, f"preprocess.sizes.0 = {10**30}; expected at most 1024; correct it"),
    ({"preprocess.sizes": [96, 224, 299, 96]}, "preprocess.sizes = [96, 224, 299, 96]; expected each size once"),
    ({"preprocess.sizes": ABSENT}, "'preprocess.sizes' is missing"),
    ({"weights": "imagenet"}, "weights = 'imagenet'; expected a mapping; correct it"),
    ({"weights.source": ""}, "weights.source = ''; expected at least 1 character; correct it"),
    ({"weights.if_unreachable": "radnom"}, "expected 'stop' or 'random'; did you mean 'random'?"),
    ({"features.precision": "fp16"}, "features.precision = 'fp16'; expected 'auto', 'float32', 'bfloat16' or 'float"),
    ({"finetune": None}, "finetune = null; expected a mapping; correct it"),
    ({"finetune": [1]}, "finetune = [1]; expected a mapping; correct it"),
    ({"finetune": ABSENT}, "'finetune' is missing; expected this key; add it, or restore params.yaml from git"),
    ({"finetune.head": None}, "finetune.head = null; expected a mapping; correct it"),
    ({"finetune.head": ABSENT}, "'finetune.head' is missing"),
    ({"finetune.head.units": 512}, "finetune.head.units = 512; expected a list; correct it"),
    ({"finetune.head.l2": 10**400}, "...0000000000000000000; expected a number; correct it"),
    ({"finetune.head.dropout": 1}, "finetune.head.dropout = 1; expected less than 1; correct it"),
    ({"finetune.head.activation": "relo"}, "finetune.head.activation = 'relo'; expected 'relu', 'gelu', "),
    ({"finetune.optimizer.learning_rate": "1e-3x"}, "learning_rate = '1e-3x'; expected a number; correct it"),
    ({"finetune.optimizer.nesterov": True}, "unknown key 'finetune.optimizer.nesterov'; expected one of name, lear"),
    ({"finetune.schedule.warmup": 0.1}, "warmup = 0.1; expected 0 with schedule 'constant': only cosine warms up"),
    ({"finetune.schedule.boundaries": [0.5, 0.2]}, "boundaries = [0.5, 0.2]; expected rising fractions between 0"),
    ({"finetune.schedule.name": "cosine"}, "finetune.reduce_on_plateau.patience = 3; expected 0 with schedule.name"),
    ({"finetune.unfreeze.blocks": True}, "finetune.unfreeze.blocks = true; expected 0, 1, 2, ..., a fraction of the "),
    ({"finetune.unfreeze.blocks": -1}, "blocks = -1; expected 0, 1, 2, ..., a fraction of the blocks between 0 and 1"),
    ({"finetune.unfreeze.blocks": 1.5}, "finetune.unfreeze.blocks = 1.5; expected 0, 1, 2, ..., a fraction of the"),
    ({"finetune.unfreeze.blocks": 1.0}, "finetune.unfreeze.blocks = 1.0; expected 0, 1, 2, ..., a fraction of the"),
    ({"finetune.unfreeze.blocks": float("nan")}, "finetune.unfreeze.blocks = nan; expected 0, 1, 2, ..., a fraction"),
    ({"finetune.unfreeze.epochs": 0}, "finetune.unfreeze.epochs = 0; expected at least 1; correct it"),
    ({"finetune.unfreeze.decay": 0}, "finetune.unfreeze.decay = 0; expected more than 0; correct it"),
    ({"finetune.unfreeze.minutes": 0}, "finetune.unfreeze.minutes = 0; expected more than 0; correct it"),
    ({"finetune.unfreeze.repeats": 0}, "finetune.unfreeze.repeats = 0; expected at least 1; correct it"),
    ({"finetune.epochs": 0}, "finetune.epochs = 0; expected at least 1; correct it"),
    ({"finetune.linear.c": []}, "finetune.linear.c = []; expected at least 1 item; correct it"),
    ({"finetune.linear.c": [1, 10, 3]}, "finetune.linear.c = [1, 10, 3]; expected rising values, for instance [1, 10"),
    ({"finetune.linear.c": [1, 1]}, "finetune.linear.c = [1, 1]; expected rising values, for instance [1, 10, 100]; c"),
    ({"finetune.linear.c": [0, 1]}, "finetune.linear.c.0 = 0; expected more than 0; correct it"),
    ({"finetune.head.choose": "bset"}, "head.choose = 'bset'; expected 'best' or 'declared'; did you mean 'best'?"),
    ({"finetune.refit": 1}, "finetune.refit = 1; expected true or false; correct it"),
    ({"finetune.repeats": 0}, "finetune.repeats = 0; expected at least 1; correct it"),
    ({"finetune.training_shares": [0.5, 0.1]}, "training_shares = [0.5, 0.1]; expected rising fractions between 0"),
    ({"finetune.training_shares": [0.5, 1.0]}, "training_shares = [0.5, 1.0]; expected rising fractions between 0"),
    ({"finetune.training_draws": 0}, "finetune.training_draws = 0; expected"),
    ({"finetune.training_shares": 0.5}, "finetune.training_shares = 0.5; expected a list; correct it"),
    ({"evaluate.resamples": 50}, "evaluate.resamples = 50; expected at least 100; correct it"),
    ({"evaluate.confidence": 95}, "evaluate.confidence = 95; expected less than 1; correct it"),
    ({"benchmark.repeats": None}, "benchmark.repeats = null; expected a whole number; correct it"),
    (
        {"benchmark.batch_sizes": [16, 4]},
        "benchmark.batch_sizes = [16, 4]; expected each number once, the smallest first",
    ),
    ({"finetuned": {}}, "unknown section 'finetuned'; expected one of preset, seed, threads, "),
    ({"bakcbones": {}}, "did you mean 'backbones'?"),
    ({"zzz": 1}, "backbones; remove it"),
    ({"backbones": ABSENT}, "'backbones' is missing; expected this key; add it, or restore params.yaml from git"),
    ({"backbones": None}, "backbones = null; expected at least one line, such as 'resnet50: {}'; add one"),
    ({"backbones": []}, "backbones = []; expected at least one line, such as 'resnet50: {}'; add one"),
    ({"backbones": {}}, "backbones = {}; expected at least one line, such as 'resnet50: {}'; add one"),
    ({"backbones": ["vgg16"]}, "backbones = ['vgg16']; expected at least one line"),
    ({"backbones": "vgg16"}, "backbones = 'vgg16'; expected at least one line"),
]


@pytest.mark.parametrize(("changes", "message"), ONE_FAULT)
def test_a_fault_is_reported_once_whatever_refers_to_it(changes: dict[str, Any], message: str) -> None:
    (found,) = messages(changes)
    assert message in found
    assert "\n" not in found


def test_a_line_may_train_less_often_than_the_others() -> None:
    assert of_line({"repeats": 1, "training_shares": []}) == []


def test_keys_that_are_not_text_are_named() -> None:
    params = copy.deepcopy(SHIPPED) | {3: {}, None: 1, True: 2}
    params["data"][7] = 1
    params["finetune"]["head"][None] = 1
    starts = ["unknown section 3;", "unknown section null;", "unknown section true;", "key data.7;"]
    found = [str(fault) for fault in faults(params)]
    assert len(found) == 5
    assert all(message.startswith(start) for message, start in zip(found, starts, strict=False))
    assert found[-1] == "key finetune.head.None; expected keys that are text; quote it, or remove it"


def test_a_file_of_nothing_lacks_every_section() -> None:
    missing = [str(fault).split(" is missing; ")[0] for fault in faults({})]
    assert missing == [f"'{key}'" for key in TOP]


def test_many_faults_are_reported_together_each_once() -> None:
    found = messages(
        {
            "seed": -1,
            "data.source": 3,
            "split.test": ABSENT,
            "preprocess.fit": "padd",
            "weights.connect_timeout": float("inf"),
            "features.engine": None,
            "finetune.head.dropout": 2,
            "finetune.optimizer.name": "adm",
            "finetune.label_smoothing": -1,
            "finetune.schedule.name": "cosine",
            "finetune.foo": 1,
            "evaluate.top_k": 0,
            "benchmark.warmup": "x",
            "extra": {},
            "backbones.vgg16": {"head": {"poling": "max"}},
            "backbones.inception_v3.input_size": 224,
            "backbones.resnet51": {},
            "backbones.resnet50": {"optimizer": {"name": "sdg"}},
            "backbones.scratch.input_size": 100,
        }
    )
    beginnings = [
        "unknown section 'extra'",
        "seed = -1",
        "data.source = 3",
        "'split.test' is missing",
        "preprocess.fit = 'padd'",
        "weights.connect_timeout = inf",
        "features.engine = null",
        "finetune.head.dropout = 2",
        "finetune.optimizer.name = 'adm'",
        "finetune.label_smoothing = -1",
        "finetune.reduce_on_plateau.patience = 3",
        "unknown key 'finetune.foo'",
        "evaluate.top_k = 0",
        "benchmark.warmup = 'x'",
        "unknown key 'backbones.vgg16.head.poling'",
        "backbones.resnet50.optimizer.name = 'sdg'",
        "backbones.scratch.input_size = 100",
        "backbones.resnet51 names no builder",
    ]
    assert len(found) == len(beginnings)
    for message, beginning in zip(found, beginnings, strict=True):
        assert message.startswith(beginning)


def test_a_line_that_repeats_a_fault_of_finetune_has_a_fault_of_its_own() -> None:
    found = messages({"finetune.head.dropout": 2, "backbones": {"vgg16": {"head": {"dropout": 3}}, "resnet50": {}}})
    assert [message.split(";")[0] for message in found] == [
        "finetune.head.dropout = 2",
        "backbones.vgg16.head.dropout = 3",
    ]


def test_a_line_may_mend_what_would_be_a_fault_for_others() -> None:
    changes = {"finetune.head.units": "x", "backbones": {"vgg16": {"head": {"units": [64]}}}}
    assert [message.split(";")[0] for message in messages(changes)] == ["finetune.head.units = 'x'"]


def test_a_line_may_be_at_fault_only_together_with_finetune() -> None:
    (found,) = of_line({"schedule": {"name": "step"}})
    assert found.startswith("backbones.vgg16.reduce_on_plateau.patience = 3; expected 0 with schedule.name 'step'")


@pytest.mark.parametrize("blocks", [0, 1, 12, 0.5, "all"])
def test_a_count_of_blocks_a_share_of_them_or_all_may_be_unfrozen(blocks: object) -> None:
    assert messages({"backbones": {"vgg16": {"unfreeze": {"blocks": blocks}}}}) == []


# Lines of backbones -------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [None, {}])
def test_a_line_without_anything_takes_the_defaults(line: Any) -> None:
    assert of_line(line) == []


LINES = [
    ("x", "backbones.vgg16 = 'x'; expected a mapping, {} for the defaults; write {}"),
    (224, "backbones.vgg16 = 224; expected a mapping"),
    ([], "backbones.vgg16 = []; expected a mapping"),
    ({"inputsize": 96}, "unknown key 'backbones.vgg16.inputsize'; expected one of linear, head, "),
    ({"inputsize": 96}, "did you mean 'input_size'?"),
    ({"name": "other"}, "unknown key 'backbones.vgg16.name'"),
    ({7: 1}, "key backbones.vgg16.7; expected keys that are text"),
    (
        {"input_size": 128},
        "backbones.vgg16.input_size = 128; expected one of preprocess.sizes (64, 224, 299); add it th",
    ),
    ({"input_size": 16}, "backbones.vgg16.input_size = 16; expected at least 32; correct it"),
    ({"input_size": None}, "backbones.vgg16.input_size = null; expected a whole number"),
    ({"input_size": "224"}, "backbones.vgg16.input_size = '224'; expected a whole number"),
    (
        {"builder": "VGG61"},
        "backbones.vgg16.builder = 'VGG61' names no builder; expected 'scratch', a builder of kera",
    ),
    ({"builder": "ResNet50V3"}, "did you mean 'ResNet50V2'?"),
    ({"builder": None}, "backbones.vgg16.builder = null names no builder"),
    ({"builder": ["VGG16"]}, "backbones.vgg16.builder = ['VGG16'] names no builder"),
    ({"weights": None}, "backbones.vgg16.weights = null; expected text"),
    (
        {"weights": "own.pth"},
        "weights = 'own.pth'; expected imagenet, random, or a file that Keras wrote (.keras, .wei",
    ),
    ({"weights": "imagnet"}, "by its path or http(s) URL (did you mean 'imagenet'?)"),
    ({"weights": "s3://bucket/own.h5"}, "expected imagenet, random, or a file that Keras wrote"),
    ({"weights": "https://me:secret@host/own.h5"}, "expected an address without a password or token, which git would"),
    ({"weights": "own.h5", "checksum": "abc"}, "checksum = 'abc'; expected null, or sha256: and 64 hexadecimal digits"),
    ({"checksum": f"sha256:{'a' * 64}"}, "expected null with weights: imagenet, which is no file of your own"),
    (
        {"inputs": "tff"},
        "backbones.vgg16.inputs = 'tff'; expected raw, tf, torch, caffe, or {mean: [R, G, B], deviation",
    ),
    (
        {"inputs": {"mean": [1, 2], "deviation": [1, 1, 1]}},
        "of images of 0 to 255, with deviations above 0; correct it",
    ),
    ({"inputs": {"mean": [1, 2, 3], "deviation": [1, 0, 1]}}, "inputs = {'deviation': [1, 0, 1], 'mean': [1, 2, 3]}"),
    (
        {"builder": "scratch", "input_size": 64, "inputs": "tf"},
        "expected raw: scratch rescales its images itself; corr",
    ),
    ({"head": None}, "backbones.vgg16.head = null; expected a mapping"),
    (
        {"head": {"pooling": "avg"}},
        "backbones.vgg16.head.pooling = 'avg'; expected 'average', 'max' or 'flatten'; did y",
    ),
    ({"head": {"units": [64, "x"]}}, "backbones.vgg16.head.units.1 = 'x'; expected a whole number"),
    ({"optimizer": "rmsprop"}, "backbones.vgg16.optimizer = 'rmsprop'; expected a mapping"),
    ({"unfreeze": {"blocks": "al"}}, "backbones.vgg16.unfreeze.blocks = 'al'; expected 0, 1, 2, ..., a fraction"),
    ({"unfreeze": {"epochs": 0}}, "backbones.vgg16.unfreeze.epochs = 0; expected at least 1; correct it"),
    ({"epochs": 0}, "backbones.vgg16.epochs = 0; expected at least 1; correct it"),
    ({"linear": {"c": [3, 1]}}, "backbones.vgg16.linear.c = [3, 1]; expected rising values"),
    (
        {"builder": "scratch", "input_size": 64, "unfreeze": {"blocks": 2}},
        "backbones.vgg16.unfreeze.blocks = 2; expected 'all': scratch has no learned layers to keep frozen; leave it",
    ),
    ({"arguments": None}, "backbones.vgg16.arguments = null; expected a mapping"),
    ({"arguments": {1: 2}}, "key backbones.vgg16.arguments.1; expected keys that are text"),
    ({"arguments": {"weights": None, "name": "x"}}, "expected arguments without name, weights: the graph sets them"),
    (
        {"builder": "EfficientNetV2B0", "arguments": {"include_preprocessing": False}},
        "expected arguments without include_preprocessing: the graph sets them",
    ),
    ({"arguments": {"alpha": 0.5}}, "unknown key 'backbones.vgg16.arguments.alpha'; expected no keys there; remove it"),
    (
        {"builder": "MobileNetV2", "arguments": {"alhpa": 0.5}},
        "unknown key 'backbones.vgg16.arguments.alhpa'; expected one of alpha; did you mean 'alpha'?",
    ),
    (
        {"builder": "MobileNetV3Small", "arguments": {"alpha": "half"}},
        "backbones.vgg16.arguments.alpha = 'half'; expected a number; correct it",
    ),
    (
        {"builder": "scratch", "input_size": 64, "arguments": {"filters": [16, 0]}},
        "backbones.vgg16.arguments.filters.1 = 0; expected at least 1; correct it",
    ),
]


@pytest.mark.parametrize(("line", "message"), LINES)
def test_a_fault_of_a_line_names_the_line(line: Any, message: str) -> None:
    (found,) = of_line(line)
    assert message in found


def test_all_faults_of_a_line_are_reported_together() -> None:
    line = {"builder": "ResNet51", "input_size": 100, "epochs": -1, "arguments": {"classes": 3}, "foo": 1}
    keys = [fault.key for fault in faults(edited({"backbones": {"mine": line}}))]
    ends = ["arguments", "builder", "epochs", "foo", "input_size"]
    assert sorted(keys) == [f"backbones.mine.{end}" for end in ends]


def test_a_network_with_a_larger_least_size_says_so() -> None:
    params = edited({"preprocess.sizes": [32, 64], "backbones": {"inception_v3": {}, "xception": {}, "vgg16": {}}})
    assert [str(fault) for fault in faults(params)] == [
        "backbones.inception_v3.input_size = 64; expected at least 75 pixels for InceptionV3; correct it",
        "backbones.xception.input_size = 64; expected at least 71 pixels for Xception; correct it",
    ]


def test_a_name_that_is_no_builder_proposes_the_nearest() -> None:
    (found,) = of_line({}, "resnet_51")
    assert found.startswith("backbones.resnet_51 names no builder; expected 'scratch', a builder of keras.app")
    assert found.endswith(("did you mean 'ResNet50'?", "did you mean 'ResNet101'?"))


def test_a_name_like_no_builder_points_to_the_list() -> None:
    (found,) = of_line({}, "qqq")
    assert found.endswith("; see https://keras.io/api/applications/")


@pytest.mark.parametrize("name", ["a b", "a/b", "../x", "ü", "", "-x", "_x", "a.b", "a" * 65, "best", "x\n"])
def test_a_name_that_is_no_folder_or_stage_is_refused(name: str) -> None:
    (found,) = of_line({"builder": "VGG16"}, name)
    assert found.startswith("a backbone named '")
    assert found.endswith("; rename it and set its 'builder'")
    assert "\n" not in found


@pytest.mark.parametrize("name", ["winner", "best", "recommended", "measure", "costs", "preset"])
def test_a_name_that_stands_for_some_backbone_is_refused(name: str) -> None:
    (found,) = messages({"backbones": {name: {"builder": "VGG16"}}})
    assert found.startswith(f"a backbone named '{name}'")
    assert found.endswith("; rename it and set its 'builder'")


@pytest.mark.parametrize("name", ["vgg16", "VGG16", "vgg-16", "my_vgg_2", "a" * 64, "best_of_all", "3"])
def test_any_other_name_may_stand_for_a_builder(name: str) -> None:
    assert of_line({"builder": "VGG16"}, name) == []


@pytest.mark.parametrize(("name", "text"), [(3, "3"), (None, "null"), (True, "true"), (1.5, "1.5")])
def test_a_name_that_is_no_text_is_refused(name: Any, text: str) -> None:
    found = of_line({"builder": "VGG16"}, name)
    assert found == [f"a backbone named {text}; expected a name that is text; rename it, or quote it"]


@pytest.mark.parametrize(
    "source",
    ["imagenet", "random", "models/{backbone}/model.keras", "own.h5", "https://host/x/own.weights.h5?download=true"],
)
def test_weights_may_come_from_anywhere(source: str) -> None:
    assert messages({"weights.source": source, "backbones.vgg16.weights": source}) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preprocess": ABSENT}, "'preprocess' is missing"),
        ({"preprocess.sizes": 224}, "preprocess.sizes = 224; expected a list of whole numbers; correct it"),
        ({"weights.source": ABSENT}, "'weights.source' is missing"),
        ({"finetune": None}, "finetune = null; expected a mapping; restore it, for instance from git"),
        ({"backbones": None}, "backbone 'vgg16'; expected one of none declared; add it to 'backbones'"),
    ],
)
def test_a_stage_run_by_itself_on_a_broken_file_is_no_traceback_either(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        resolve("vgg16", edited(changes))
    assert message in str(caught.value)


# The command --------------------------------------------------------------------------------------------


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['check']\n"
    program += "import runpy; runpy.run_module('stages.check', run_name='__main__')"
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_writes_the_same_bytes_for_any_valid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / SHIPPED["data"]["source"]).mkdir(parents=True)
    (tmp_path / SHIPPED["weights"]["folder"]).mkdir(parents=True)
    done = check(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    written = (tmp_path / "data" / "checked.txt").read_bytes()
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(edited({"seed": 3, "backbones": {"xception": {}}})))
    monkeypatch.chdir(tmp_path)
    read.cache_clear()
    main()
    read.cache_clear()
    assert (tmp_path / "data" / "checked.txt").read_bytes() == written == b"params.yaml is valid\n"


@pytest.mark.parametrize(("measure", "hinted"), [("accuracy", True), ("cost", False)])
def test_costs_that_do_nothing_are_one_hint(
    measure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, hinted: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / SHIPPED["data"]["source"]).mkdir(parents=True)
    (tmp_path / SHIPPED["weights"]["folder"]).mkdir(parents=True)
    changes = {"report.measure": measure, "report.costs": {"tree": {"plank": 3}}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(edited(changes)))
    read.cache_clear()
    main()
    read.cache_clear()
    hint = "report.costs has no effect, since report.measure is accuracy: set that to cost to decide by it"
    assert [record.getMessage() for record in caplog.records] == [hint] * hinted


def test_the_command_writes_what_each_declared_backbone_is_made_of_and_forgets_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / SHIPPED["data"]["source"]).mkdir(parents=True)
    (tmp_path / SHIPPED["weights"]["folder"]).mkdir(parents=True)
    (tmp_path / "data/recipes/gone").mkdir(parents=True)
    own = [Path(folder) / name for folder in OF_BACKBONES for name in (".gitignore", "vgg16.json")]
    kept = [Path("data") / path for path in own] + [Path("data") / folder / "gone.json" for folder in OF_BACKBONES]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for path in (Path("data/models/gone/head.npz"), Path("data/models/resnet50/head.npz")):
        path.parent.mkdir(parents=True)
        path.touch()
    written = []
    for changes in ({}, {"finetune.head.dropout": 0.25}, {"finetune.head.dropout": 0.25, "tune.trials": 3}):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(edited(changes)))
        read.cache_clear()
        main()
        read.cache_clear()
        written.append({str(path): path.read_bytes() for path in Path("data/recipes").rglob("*.json")})
    parts = ("weights", "features", "probe", "views", "unfreeze", "finetune", "explain", "benchmark")
    names = SHIPPED["backbones"]
    assert sorted(written[0]) == sorted(
        ["data/recipes/names.json", *(f"data/recipes/{name}/{part}.json" for name in names for part in parts)]
    )
    assert read_names() == sorted(names)
    assert sorted(path.name for path in Path("data/models").iterdir()) == [".gitignore", "resnet50", "vgg16.json"]
    assert not Path("data/recipes/gone").exists()
    assert sorted(str(path.relative_to("data")) for path in kept if path.exists()) == sorted(map(str, own))
    assert Path("data/rankings/all.json").exists()
    # Only one line with a dense head has no dropout of its own, but with a search it may have an effect on all.
    changed = [{path for path, content in other.items() if content != written[0][path]} for other in written[1:]]
    scratch = {"data/recipes/scratch/finetune.json", "data/recipes/scratch/unfreeze.json"}
    dense = [name for name, line in names.items() if line and line.get("head", {}).get("units")]
    searched = {f"data/recipes/{name}/{part}.json" for name in names for part in ("finetune", "views")}
    assert changed == [scratch, scratch | searched - {f"data/recipes/{name}/views.json" for name in dense}]


def test_the_command_prints_a_line_for_each_fault_and_exits_with_1(tmp_path: Path) -> None:
    faulty = {"seed": -1, "finetune.epochs": "x", "backbones.vgg16": {"hed": {}}, "data.source": "imgaes"}
    text = yaml.safe_dump(edited(faulty))
    (tmp_path / "params.yaml").write_text(text)
    done = check(tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert [line.split(";")[0] for line in done.stderr.splitlines()] == [
        "params.yaml: seed = -1",
        "params.yaml: finetune.epochs = 'x'",
        "params.yaml: unknown key 'backbones.vgg16.hed'",
        "params.yaml: data.source = 'imgaes' does not exist",
    ]
    assert not (tmp_path / "data").exists()


def test_check_and_results_load_no_network_library() -> None:
    rooms = ("sources", "heads", "explanation", "statistics", "pages", "report")
    results = sorted(
        f"stages.{room}.{path.stem}" for room in rooms for path in (ROOT / f"stages/{room}").glob("[a-z]*.py")
    )
    assert results
    program = f"import sys, {', '.join(['stages.check', *results])}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {module.split(".")[0] for module in done.stdout.split()}
    assert "stages" in loaded
    assert not loaded & {"tensorflow", "keras", "openvino", "torch", "jax"}


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_key_that_was_renamed_says_what_it_is_called_now(old: str, new: str) -> None:
    (found,) = messages({old: 3})
    assert f"unknown key '{old}'" in found
    assert f"it is called '{new}' now: rename it" in found


@pytest.mark.parametrize(("old", "remedy"), REPLACED.items())
def test_a_key_that_is_gone_says_what_decides_instead(old: str, remedy: str) -> None:
    (found,) = messages({old: 3})
    assert f"unknown key '{old}'" in found
    assert remedy in found


def test_every_section_of_the_file_has_a_class() -> None:
    assert set(TOP) == set(SHIPPED) == {"preset", "seed", "threads", "backbones", *SECTIONS}


@pytest.mark.parametrize("value", ["best", "best/0", "best/1.5", "top/3", 3, None, ["all"]])
def test_candidates_are_contenders_all_or_a_number_of_the_best(value: Any) -> None:
    (found,) = messages({"rank.candidates": value})
    assert "expected contenders, all, or best/ and a number of 1 or more, such as best/3" in found


@pytest.mark.parametrize("value", ["contenders", "all", "best/1", "best/9"])
def test_any_of_these_may_say_who_the_candidates_are(value: str) -> None:
    assert messages({"rank.candidates": value}) == []


def test_there_are_not_more_candidates_than_backbones() -> None:
    assert messages({"rank.candidates": "best/10"}) == [
        "rank.candidates = 'best/10'; expected at most the 9 declared backbones; lower it, or set it to all"
    ]


def test_a_search_has_something_to_vary() -> None:
    space: dict[str, list[Any]] = {key: [] for key in SHIPPED["tune"]["space"]}
    assert messages({"tune.space": space}) == []
    (found,) = messages({"tune.space": space, "tune.trials": 20})
    assert found == (
        "tune.trials = 20 with nothing in tune.space to vary; expected a range or choices for a hyperparameter; "
        "give one, or set tune.trials to 0"
    )
    only_views = {"tune.space": space | {"views": [0]}, "tune.trials": 20}
    assert messages(only_views) == []
    (found,) = messages(only_views | {"preprocess.views": 0})
    assert "hyperparameter (there are no views: preprocess.views = 0); give one" in found
