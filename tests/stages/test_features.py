"""Stage features on a small network: what it writes, from a process of its own."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from stages.core.files import read_json, write_json
from tests.support.clone import environment
from tests.support.tiny_backbone import write_small_cnn

ROOT = Path(__file__).parents[2]
COUNTS = {"train": 7, "validation": 3, "test": 2}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> tuple[Path, keras.Model]:
    """Return a project with prepared images and a small network, and the network."""
    root = tmp_path_factory.mktemp("features")
    network = write_small_cnn(root / "data/weights/small", "random")
    write_small_cnn(root / "data/weights/untrained", "none")
    (root / "data/prepared/32").mkdir(parents=True)
    for split, count in COUNTS.items():
        np.save(root / f"data/prepared/32/{split}.npy", images(count))
    features = {"engine": "openvino", "precision": "float32", "batch_size": 3}
    (root / "params.yaml").write_text("backbones: {small: {}, untrained: {}}\n", encoding="utf-8")
    for name in ("small", "untrained"):
        write_json(root / f"data/recipes/{name}/features.json", {"seed": 1, "threads": 1, "features": features})
    return root, network


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def compute(root: Path, name: str) -> Path:
    """Run the stage, which must not load TensorFlow, and return what it wrote."""
    code = "import sys; from stages.features import main; main(); print({'tensorflow', 'keras'} & set(sys.modules))"
    command, settings = [sys.executable, "-c", code, name], environment(root) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=root, env=settings, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr
    return root / "data/features" / name


def test_every_prepared_image_has_its_features(project) -> None:
    root, network = project
    folder = compute(root, "small")
    assert {path.name for path in folder.iterdir()} == {"train.npy", "validation.npy", "test.npy", "features.json"}
    for split, count in COUNTS.items():
        found = np.load(folder / f"{split}.npy")
        assert found.dtype == np.float32
        expected = np.asarray(network(images(count).astype(np.float32)))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    facts = read_json(root / "data/weights/small/backbone.json")
    computed = {"engine": "openvino", "precision": "float32", "threads": 1, "network": facts}
    inputs = {"declared": "raw", "layer": None, "images": 0, "distance": None}
    assert read_json(folder / "features.json") == computed | {"inputs": inputs}


def test_the_stage_says_at_its_start_how_much_work_it_is(project) -> None:
    root, _ = project
    command, settings = (
        [sys.executable, "-m", "stages.features", "small"],
        environment(root) | {"PYTHONPATH": str(ROOT)},
    )
    done = subprocess.run(command, cwd=root, env=settings, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[0] == (
        f"INFO small: {sum(COUNTS.values())} images, openvino in float32 on 1 threads"
    )


def test_another_process_writes_the_same_bytes(project) -> None:
    root, _ = project
    before = {path.name: path.read_bytes() for path in compute(root, "small").iterdir()}
    assert {path.name: path.read_bytes() for path in compute(root, "small").iterdir()} == before


def test_a_network_that_is_trained_from_nothing_has_no_features(project) -> None:
    root, _ = project
    folder = compute(root, "untrained")
    assert {path.name for path in folder.iterdir()} == {"features.json"}
    found = read_json(folder / "features.json")
    assert (found["engine"], found["precision"], found["network"]["frozen"]) == ("none", "float32", False)
