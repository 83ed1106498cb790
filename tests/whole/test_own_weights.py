"""DVC notices that a file of one's own has changed, with nothing else edited, and shares one that is added to it."""

import shutil
from pathlib import Path

from dvc.repo import Repo

from tests.support.clone import ROOT, Clone


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


def test_weights_that_are_added_to_dvc_are_pushed_and_pulled_without_being_named(tmp_path: Path) -> None:
    for rule in (".gitignore", ".dvc/.gitignore", ".dvc/config", "data/.gitignore"):
        (tmp_path / "own" / rule).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / rule, tmp_path / "own" / rule)
    clone, added = Clone.begun(tmp_path / "own"), ["data/own_weights/mine.keras", "data/own_weights/my_preset"]
    files = {added[0]: b"learnt", f"{added[1]}/model.weights.h5": b"by a preset"}
    (clone.folder / added[1]).mkdir(parents=True)
    for name, content in files.items():
        (clone.folder / name).write_bytes(content)
    for command in (("remote", "add", "-d", "store", str(tmp_path / "store")), ("add", *added), ("push",)):
        done = clone.dvc(*command)
        assert done.code == 0, done.errors
    assert {out.fs_path for out in Repo(str(clone.folder)).index.outs} == {str(clone.folder / name) for name in added}
    clone.commit("weights")
    assert not {*files, *added} & {*clone.git("ls-files").split()}

    colleague = clone.clone(tmp_path / "colleague")
    assert colleague.dvc("pull").code == 0
    assert {name: (colleague.folder / name).read_bytes() for name in files} == files
