"""Backbones of KerasHub through the whole graph, tiny and with random weights."""

import csv
import io
import json

import pytest

from tests.support.clone import Clone
from tests.support.images import draw
from tests.whole.test_smoke import SMALL

pytest.importorskip("keras_hub", reason="the extra 'hub' is not installed")
pytestmark = pytest.mark.hub
VIT = (
    "vit: {builder: 'keras_hub:ViTBackbone', input_size: 32, weights: random, arguments: "
    "{patch_size: 8, num_layers: 2, num_heads: 2, hidden_dim: 16, mlp_dim: 32}}"
)
CNN = (
    "cnn: {builder: 'keras_hub:ResNetBackbone', input_size: 32, weights: random, arguments: "
    "{input_conv_filters: [64], input_conv_kernel_sizes: [3], stackwise_num_filters: [64, 16], "
    "stackwise_num_blocks: [1, 1], stackwise_num_strides: [1, 2], block_type: basic_block}}"
)
# Stages of the first backbone that handle its network, and what they write.
AGAIN = {
    "weights@vit": "data/weights/vit", "features@vit": "data/features/vit", "unfreeze@vit": "data/unfrozen/vit",
    "explain@vit": "data/explanations/vit", "export@vit": "data/exports/vit",
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Return a clone in which the graph has run for both."""
    clone = Clone.of_project(tmp_path_factory.mktemp("hub"))
    draw(clone.folder / "images")
    clone.set(SMALL)
    clone.set({
        "finetune": {"head": {"units": [], "choose": "best"}, "unfreeze": {"blocks": 1, "epochs": 2}},
        "export": {"backbones": ["vit"], "formats": ["keras", "openvino", "litert"]},
    })  # fmt: skip
    clone.backbones(VIT, CNN)
    done = clone.dvc("repro")
    assert done.code == 0, done.errors
    return clone


def test_blocks_of_both_are_trained_and_a_map_is_drawn_where_there_is_one(project: Clone) -> None:
    for name, has_map in (("vit", False), ("cnn", True)):
        attempt = json.loads(project.text(f"data/unfrozen/{name}/attempt.json"))
        facts = attempt["facts"]
        assert (attempt["kind"], facts["blocks"], facts["start"]) == ("unfrozen", 1, "block_1")
        examples = list(csv.DictReader(io.StringIO(project.text(f"data/explanations/{name}/examples.csv"))))
        assert all(bool(row["overlay"]) == has_map for row in examples)
        assert json.loads(project.text(f"data/benchmarks/{name}.json"))["flops"] > 0


def test_each_form_that_is_exported_agrees_with_keras(project: Clone) -> None:
    rows = list(csv.DictReader(io.StringIO(project.text("data/exports/vit/comparison.csv"))))
    assert [row["format"] for row in rows] == ["keras", "openvino", "litert"]
    assert all(float(row["largest_difference"]) < 1e-4 for row in rows)


def test_stages_that_run_again_write_the_same_bytes(project: Clone) -> None:
    before = project.digests(*AGAIN.values())
    project.run_again(*AGAIN)
    assert project.digests(*AGAIN.values()) == before
