"""DVC notices that a file of one's own has changed, with nothing else edited."""

from tests.support.clone import Clone


def test_a_changed_file_of_weights_reruns_what_uses_it_and_nothing_else(tmp_path) -> None:
    clone = Clone.of_project(tmp_path)
    (clone.folder / "images").mkdir()
    clone.set({"data": {"source": "images"}})
    clone.backbones("vgg16: {weights: data/own_weights/mine.h5}", "resnet50: {}")
    file = clone.folder / "data/own_weights/mine.h5"
    file.write_bytes(b"one")
    assert clone.dvc("repro", "check").ran == {"check"}
    before = clone.digests("data/recipes")
    assert clone.dvc("repro", "check").ran == set()

    file.write_bytes(b"two")

    assert clone.dvc("repro", "check").ran == {"check"}
    after = clone.digests("data/recipes")
    assert {name for name in after if after[name] != before[name]} == {"data/recipes/vgg16/weights.json"}
