"""Networks from ONNX files through the whole graph: a CNN, and tokens in a file that takes single images."""

import csv
import io
import json

import numpy as np
import onnxruntime
import pytest

from tests.support import onnx_files
from tests.support.clone import Clone, Done
from tests.support.images import draw
from tests.whole.test_smoke import SMALL

CNN = "cnn: {file: data/own_weights/cnn.onnx, output: pooled, input_size: 32, inputs: torch}"
TOKENS = (
    "tokens: {file: data/own_weights/tokens.onnx, pooling: class_token, input_size: 32, inputs: tf, head: {units: []}}"
)
# The stages of the CNN that handle its network, and what they write.
AGAIN = {"weights@cnn": "data/weights/cnn", "features@cnn": "data/features/cnn", "export@cnn": "data/exports/cnn"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Done]:
    """Return a clone in which the graph has run for both, with what it said."""
    clone = Clone.of_project(tmp_path_factory.mktemp("onnx"))
    draw(clone.folder / "images")
    onnx_files.cnn(clone.folder / "data/own_weights/cnn.onnx", normalised=True)
    onnx_files.tokens(clone.folder / "data/own_weights/tokens.onnx", batch=1)
    clone.set(SMALL)
    clone.set({"export": {"backbones": ["cnn"], "formats": ["keras", "openvino"]}})
    clone.backbones(CNN, TOKENS)
    done = clone.dvc("repro")
    assert done.code == 0, done.errors
    return clone, done


@pytest.fixture
def project(ran: tuple[Clone, Done]) -> Clone:
    return ran[0]


def test_heads_stand_on_frozen_features_and_no_block_is_trained(project: Clone) -> None:
    for name, kept in (("cnn", "dense"), ("tokens", "linear")):
        assert json.loads(project.text(f"data/unfrozen/{name}/attempt.json")) == {"kind": None}
        assert json.loads(project.text(f"data/models/{name}/provenance.json"))["head"]["kept"] == kept
        assert json.loads(project.text(f"data/benchmarks/{name}.json"))["flops"] > 0
        assert not (project.folder / f"data/weights/{name}/backbone.keras").exists()


def test_heatmaps_are_drawn_where_there_is_a_feature_map_and_the_log_says_where_not(ran: tuple[Clone, Done]) -> None:
    project, done = ran
    for name, has_map in (("cnn", True), ("tokens", False)):
        examples = list(csv.DictReader(io.StringIO(project.text(f"data/explanations/{name}/examples.csv"))))
        assert examples
        assert all(bool(row["overlay"]) == has_map for row in examples)
        told = f"{name}: the network has no feature map, so its examples have no heatmaps"
        assert (told in done.errors + done.output) != has_map


def test_an_export_has_the_forms_that_an_onnx_file_allows_and_the_log_says_which_not(ran: tuple[Clone, Done]) -> None:
    project, done = ran
    rows = list(csv.DictReader(io.StringIO(project.text("data/exports/cnn/comparison.csv"))))
    assert [row["format"] for row in rows] == ["onnx", "openvino"]
    assert float(rows[1]["largest_difference"]) < 1e-4
    assert "cnn: not exported as keras: a network from an ONNX file" in done.errors + done.output
    assert "there are no forms of Keras" in project.text("data/exports/cnn/README.md")


def test_the_exported_onnx_file_gives_the_probabilities_that_were_evaluated(project: Clone) -> None:
    session = onnxruntime.InferenceSession(str(project.folder / "data/exports/cnn/model.onnx"))
    images = np.load(project.folder / "data/prepared/32/test.npy")
    found = session.run(["probabilities"], {"images": images})[0]
    temperature = json.loads(project.text("data/evaluations/cnn/metrics.json"))["temperature"]
    rows = list(csv.DictReader(io.StringIO(project.text("data/models/cnn/predictions.csv"))))
    evaluated = [[float(value) for key, value in row.items() if key.startswith("p:")] for row in rows
                 if row["split"] == "test"]  # fmt: skip
    scaled = np.array(evaluated) ** (1 / temperature)
    np.testing.assert_allclose(found, scaled / scaled.sum(axis=1, keepdims=True), atol=2e-2)


def test_the_report_states_its_file_its_checksum_and_its_pixels(project: Clone) -> None:
    report = project.text("data/report/comparison.html")
    provenance = json.loads(project.text("data/models/cnn/provenance.json"))
    assert provenance["weights"]["file"] == "cnn.onnx"
    assert provenance["weights"]["checksum"] in report
    assert (provenance["inputs"]["declared"], provenance["inputs"]["layer"]) == ("torch", "first_norm")
    assert json.loads(project.text("data/models/tokens/provenance.json"))["inputs"]["distance"] is None


def test_stages_that_run_again_write_the_same_bytes(project: Clone) -> None:
    before = project.digests(*AGAIN.values())
    project.run_again(*AGAIN)
    assert project.digests(*AGAIN.values()) == before


def test_a_changed_file_reruns_its_backbone_alone_and_a_damaged_one_is_one_line(project: Clone) -> None:
    file = project.folder / "data/own_weights/cnn.onnx"
    before, recipes = file.read_bytes(), project.digests("data/recipes")
    onnx_files.cnn(file)
    assert project.dvc("repro", "check").ran == {"check"}
    after = project.digests("data/recipes")
    assert {name for name in after if after[name] != recipes[name]} == {"data/recipes/cnn/weights.json"}
    file.write_bytes(before[:300])
    done = project.program("-m", "stages.check")
    assert (done.code, done.errors.count("\n")) == (1, 1)
    assert done.errors.startswith("weights: 'data/own_weights/cnn.onnx' cannot be read")
