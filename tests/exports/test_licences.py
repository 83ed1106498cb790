"""Every builder that a backbone may name has a licence for its published weights."""

import pytest

from stages.core.builders.families import FAMILY_OF, SCRATCH
from stages.exports.licences import licence_of


@pytest.mark.parametrize("builder", [builder for builder in FAMILY_OF if builder != SCRATCH])
def test_published_weights_have_a_licence_and_an_origin(builder: str) -> None:
    found = licence_of(builder, "imagenet")
    assert found is not None
    assert found.origin.startswith("https://")


@pytest.mark.parametrize(
    ("builder", "name"),
    [("ResNet50", "MIT"), ("ResNet50V2", "BSD-3-Clause"), ("VGG16", "CC-BY-4.0"), ("InceptionResNetV2", "Apache-2.0")],
)
def test_builders_of_like_names_keep_their_own_licences(builder: str, name: str) -> None:
    found = licence_of(builder, "imagenet")
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("source", ["random", "none", "old/vgg16/model.keras"])
def test_other_weights_have_none_of_keras(source: str) -> None:
    assert licence_of("VGG16", source) is None
