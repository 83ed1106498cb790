"""Drift and its reference: other images are flagged, the same kind is not, and large numbers do not matter."""

import numpy as np
import pytest

from stages.exports.reference import COLUMNS, Reference, fit, hashed
from stages.predict.drift import Sample, judge

CLASSES, SEEDS = ("a", "b", "c"), range(8)


def images(draw: np.random.Generator, count: int, width: int, shift: float = 0) -> tuple[np.ndarray, list[str]]:
    """Return embeddings around a centre for each class, all moved by `shift`, and their labels."""
    centres = np.random.default_rng(99).normal(0, 3, (len(CLASSES), width))
    position = np.arange(count) % len(CLASSES)
    found = centres[position] + draw.normal(shift, 1, (count, width))
    return found.astype(np.float32), [CLASSES[number] for number in position]


def confident(draw: np.random.Generator, count: int, power: float = 8) -> np.ndarray:
    return draw.beta(power, 1, count).astype(np.float32)


def reference(draw: np.random.Generator, width: int = 16, training: int = 300, validation: int = 200) -> Reference:
    (trained, labels), (held_out, _) = images(draw, training, width), images(draw, validation, width)
    return fit(hashed(trained), labels, hashed(held_out), confident(draw, validation))


def sample(confidences: np.ndarray, distances: np.ndarray) -> Sample:
    found = Sample()
    found.add(confidences.tolist(), distances.tolist())
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("width", [16, 300])
def test_images_of_the_same_kind_are_not_flagged(seed: int, width: int) -> None:
    draw = np.random.default_rng(seed)
    known = reference(draw, width)
    new, _ = images(draw, 250, width)
    verdict = judge(known, sample(confident(draw, 250), known.measure(new)))
    assert not verdict.found
    assert verdict.sentence.startswith("none found: confidence as before (median 0.9")
    assert verdict.sentence.endswith(", 250 images")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("width", [16, 300])
def test_images_that_lie_elsewhere_are_flagged_by_their_distance(seed: int, width: int) -> None:
    draw = np.random.default_rng(seed)
    known = reference(draw, width)
    new, _ = images(draw, 100, width, shift=1.5)
    verdict = judge(known, sample(confident(draw, 100), known.measure(new)))
    assert verdict.found
    assert verdict.sentence.startswith("found: the images differ from those of its training: confidence as bef")
    assert "distance differs (median" in verdict.sentence


@pytest.mark.parametrize("seed", SEEDS)
def test_a_classifier_that_is_less_sure_is_flagged(seed: int) -> None:
    draw = np.random.default_rng(seed)
    known = reference(draw)
    new, _ = images(draw, 200, 16)
    verdict = judge(known, sample(confident(draw, 200, power=3), known.measure(new)))
    assert verdict.found
    assert "confidence differs (median" in verdict.sentence
    assert "distance as before" in verdict.sentence


def test_a_difference_that_matters_to_nobody_is_not_flagged_however_sure_it_is() -> None:
    draw = np.random.default_rng(0)
    known = reference(draw, validation=5000)
    new, _ = images(draw, 20_000, 16)
    verdict = judge(known, sample(confident(draw, 20_000, power=6), known.measure(new)))
    assert not verdict.found
    p = float(verdict.sentence.split("p = ")[1].split(")")[0])
    assert p < 0.001


def test_without_validation_images_training_images_would_look_nearer_than_new_ones() -> None:
    draw = np.random.default_rng(0)
    trained, labels = images(draw, 90, 64)
    new, _ = images(draw, 200, 64)
    known = fit(hashed(trained), labels, hashed(trained), confident(draw, 90))
    assert judge(known, sample(confident(draw, 200), known.measure(new))).found


@pytest.mark.parametrize(
    ("new", "validation", "said"), [(19, 200, "19 new"), (200, 19, "19 validation"), (0, 50, "0 new")]
)
def test_too_few_images_are_not_judged(new: int, validation: int, said: str) -> None:
    draw = np.random.default_rng(0)
    verdict = judge(reference(draw, validation=validation), sample(np.zeros(new), np.zeros(new)))
    assert not verdict.found
    assert verdict.sentence == f"not judged: {said} images, expected at least 20"


def test_a_reference_is_of_bounded_size_whatever_the_images_and_their_width() -> None:
    known = reference(np.random.default_rng(0), width=2048, validation=4000)
    assert (len(known.means), len(known.means[0])) == (len(CLASSES), COLUMNS)
    assert (len(known.whitening), len(known.whitening[0])) == (COLUMNS, COLUMNS)
    assert len(known.distances) == len(known.confidences) == 1000
    assert sorted(known.distances) == list(known.distances)


def test_a_distance_is_that_of_mahalanobis_where_images_are_many() -> None:
    draw = np.random.default_rng(0)
    known = reference(draw, width=4, training=30_000)
    new, _ = images(draw, 50, 4)
    means = np.array(known.means)
    expected = np.min([np.linalg.norm(new - mean, axis=1) for mean in means], axis=0)
    np.testing.assert_allclose(known.measure(new), expected, rtol=0.05)


def test_features_that_never_vary_and_classes_with_one_image_have_a_reference() -> None:
    embeddings = np.zeros((3, 5), np.float32)
    embeddings[:, 0] = [1, 2, 3]
    known = fit(hashed(embeddings), ["a", "a", "b"], hashed(embeddings), np.array([0.5, 0.6, 0.7]))
    assert np.isfinite(known.measure(embeddings)).all()
    still = fit(hashed(embeddings[:1]), ["a"], hashed(embeddings[:1]), np.array([0.5]))
    assert still.measure(embeddings[:1]).tolist() == [0]


def test_hashing_keeps_distances_on_average() -> None:
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(400, 1000))
    ratio = np.linalg.norm(hashed(vectors), axis=1) / np.linalg.norm(vectors, axis=1)
    assert abs(ratio.mean() - 1) < 0.05
    assert np.array_equal(hashed(vectors[:, :COLUMNS]), vectors[:, :COLUMNS])


def test_a_sample_is_bounded_repeatable_and_of_all_that_came() -> None:
    first, second = Sample(), Sample()
    values = np.arange(40_000) / 40_000
    for one in (first, second):
        for part in np.split(values, 400):
            one.add(part.tolist(), part.tolist())
    assert first.values().shape == (5000, 2)
    assert np.array_equal(first.values(), second.values())
    assert abs(first.values().mean() - 0.5) < 0.02
    assert first.seen == 40_000
