"""Drift and its reference: other images are flagged, the same kind is not, whatever their number and mix of classes."""

import numpy as np
import pytest

from stages.exports.reference import COLUMNS, Reference, fit, hashed
from stages.predict.drift import Sample, Verdict, judge
from stages.predict.label_shift import weigh
from tests.support.drifting import verdicts

CLASSES, SEEDS = ("a", "b", "c"), range(8)


def images(draw: np.random.Generator, count: int, width: int, shift: float = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings around a centre for each class, all moved by `shift`, and their classes."""
    centres = np.random.default_rng(99).normal(0, 3, (len(CLASSES), width))
    position = np.arange(count) % len(CLASSES)
    found = centres[position] + draw.normal(shift, 1, (count, width))
    return found.astype(np.float32), position


def confident(draw: np.random.Generator, count: int, power: float = 8) -> np.ndarray:
    """Return confidences of which each is the largest of three probabilities."""
    return np.maximum(draw.beta(power, 1, count), 0.4).astype(np.float32)


def known_of(trained: np.ndarray, labels: np.ndarray, held_out: np.ndarray, confidences: np.ndarray) -> Reference:
    """Return the reference of a classifier that is right on all validation images, whose classes take turns."""
    actual = np.arange(len(held_out)) % len(CLASSES)
    probabilities = np.repeat((1 - confidences)[:, None] / 2, len(CLASSES), axis=1)
    probabilities[np.arange(len(actual)), actual] = confidences
    return fit(hashed(trained), labels.tolist(), hashed(held_out), actual.tolist(), probabilities)


def reference(draw: np.random.Generator, width: int = 16, training: int = 300, validation: int = 200) -> Reference:
    (trained, labels), (held_out, _) = images(draw, training, width), images(draw, validation, width)
    return known_of(trained, labels, held_out, confident(draw, validation))


def judged(known: Reference, confidences: np.ndarray, distances: np.ndarray) -> Verdict:
    """Return the verdict on images whose predicted classes take turns."""
    found = Sample()
    found.add(np.arange(len(distances)) % len(CLASSES), confidences, distances)
    return judge(known, found, CLASSES)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("width", [16, 300])
def test_images_of_the_same_kind_are_not_flagged(seed: int, width: int) -> None:
    draw = np.random.default_rng(seed)
    known = reference(draw, width)
    new, _ = images(draw, 250, width)
    verdict = judged(known, confident(draw, 250), known.measure(new))
    assert not verdict.found
    assert verdict.sentence.startswith("none found: confidence as before (median 0.9")
    assert verdict.sentence.endswith(", 250 images")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("width", [16, 300])
def test_images_that_lie_elsewhere_are_flagged_by_their_distance(seed: int, width: int) -> None:
    draw = np.random.default_rng(seed)
    known = reference(draw, width)
    new, _ = images(draw, 100, width, shift=1.5)
    verdict = judged(known, confident(draw, 100), known.measure(new))
    assert verdict.found
    assert verdict.sentence.startswith("found: the images differ from those of its training: confidence as bef")
    assert "distance differs (median" in verdict.sentence


@pytest.mark.parametrize("seed", SEEDS)
def test_a_classifier_that_is_less_sure_is_flagged(seed: int) -> None:
    draw = np.random.default_rng(seed)
    known = reference(draw)
    new, _ = images(draw, 200, 16)
    verdict = judged(known, confident(draw, 200, power=3), known.measure(new))
    assert verdict.found
    assert "confidence differs (median" in verdict.sentence
    assert "distance as before" in verdict.sentence


def test_a_difference_that_matters_to_nobody_is_not_flagged_however_sure_it_is() -> None:
    draw = np.random.default_rng(0)
    known = reference(draw, validation=5000)
    new, _ = images(draw, 20_000, 16)
    verdict = judged(known, confident(draw, 20_000, power=6), known.measure(new))
    assert not verdict.found
    p = float(verdict.sentence.split("p = ")[1].split(")")[0])
    assert p < 0.01


def test_without_validation_images_training_images_would_look_nearer_than_new_ones() -> None:
    draw = np.random.default_rng(0)
    trained, labels = images(draw, 90, 64)
    new, _ = images(draw, 200, 64)
    known = known_of(trained, labels, trained, confident(draw, 90))
    assert judged(known, confident(draw, 200), known.measure(new)).found


@pytest.mark.parametrize(
    ("new", "validation", "said"), [(19, 200, "19 new"), (200, 19, "19 validation"), (0, 50, "0 new")]
)
def test_too_few_images_are_not_judged(new: int, validation: int, said: str) -> None:
    draw = np.random.default_rng(0)
    verdict = judged(reference(draw, validation=validation), np.zeros(new), np.zeros(new))
    assert not verdict.found
    assert verdict.sentence == f"not judged: {said} images, expected at least 20"


def test_a_reference_keeps_every_validation_image_and_bounds_the_width_of_embeddings() -> None:
    known = reference(np.random.default_rng(0), width=2048, validation=600)
    assert (len(known.means), len(known.means[0])) == (len(CLASSES), COLUMNS)
    assert (len(known.whitening), len(known.whitening[0])) == (COLUMNS, COLUMNS)
    assert len(known.validation) == 600
    assert {(actual, predicted) for actual, predicted, *_ in known.validation} == {(0, 0), (1, 1), (2, 2)}


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
    known = fit(hashed(embeddings), [0, 0, 1], hashed(embeddings), [0, 0, 1], np.full((3, 2), 0.5))
    assert np.isfinite(known.measure(embeddings)).all()
    still = fit(hashed(embeddings[:1]), [0], hashed(embeddings[:1]), [0], np.ones((1, 1)))
    assert still.measure(embeddings[:1]).tolist() == [0]


# Compared without weights, 1 to 20 of 20 would be found.
@pytest.mark.parametrize(
    ("population", "mix", "most"),
    [
        ("alike, 91 % right", "60 % of one class", 0),
        ("alike, 91 % right", "one class alone", 0),
        ("unlike, 55 % right", "60 % of one class", 1),
        # Fourteen validation images hardly say how such a class is confused with the others.
        ("unlike, 55 % right", "one class alone", 5),
    ],
)
def test_another_mix_of_classes_is_said_and_is_no_drift_of_the_looks(population: str, mix: str, most: int) -> None:
    found = verdicts(population, mix, "as before", 100, studies=20)
    assert sum(one.found for one in found) <= most
    for one in found:
        said = one.sentence.startswith("none found, but another mix of classes: ")
        assert said == ("mix of classes differs (" in one.sentence and "none found" in one.sentence)
    assert sum("mix of classes differs (" in one.sentence for one in found) >= 4


def test_of_the_same_images_one_comparison_in_a_hundred_says_otherwise() -> None:
    found = verdicts("alike, 91 % right", "as before", "as before", 100, studies=100)
    assert sum(one.found for one in found) <= 3
    assert sum("mix of classes differs" in one.sentence for one in found) <= 3


def test_other_looks_are_found_in_another_mix_as_well() -> None:
    found = verdicts("alike, 91 % right", "60 % of one class", "noise added", 100, studies=10)
    assert sum(one.found for one in found) >= 9


def test_images_of_a_class_with_few_validation_images_are_not_judged_by_their_looks() -> None:
    draw = np.random.default_rng(0)
    known = reference(draw, validation=24)
    new, _ = images(draw, 300, 16)
    alone = Sample()
    alone.add(np.zeros(100), confident(draw, 100), known.measure(new[:: len(CLASSES)]))
    verdict = judge(known, alone, ("an\napple", "b", "c"))
    assert not verdict.found
    assert verdict.sentence == (
        "not judged: hardly any validation images of these classes, mix of classes differs (100% 'an\\napple', "
        "was 33%; difference 0.67, p = 0.001), 100 images"
    )


def test_weights_recover_the_mix_that_a_classifier_which_errs_was_shown() -> None:
    draw, right = np.random.default_rng(0), 0.7
    actual, truth = np.repeat([0, 1, 2], 2000), draw.choice(3, 6000, p=[0.6, 0.3, 0.1])
    guessed = draw.integers(3, size=(2, 6000))
    predicted, new = np.where(draw.random((2, 6000)) < right, [actual, truth], guessed)
    weights = weigh(actual, predicted, new)
    np.testing.assert_allclose(np.bincount(actual, weights), [0.6, 0.3, 0.1], atol=0.03)


def test_no_weight_is_put_on_classes_that_do_not_occur_any_more() -> None:
    actual = predicted = np.repeat([0, 1], 10)
    expected = [0.1] * 10 + [0] * 10
    np.testing.assert_allclose(weigh(actual, predicted, np.zeros(5, np.int64)), expected)
    # A class that no validation image is predicted as says nothing about the others.
    np.testing.assert_allclose(weigh(actual, predicted, np.array([0, 2, 2])), expected)


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
            one.add(np.zeros(len(part)), part, part)
    assert first.values().shape == (5000, 3)
    assert np.array_equal(first.values(), second.values())
    assert abs(first.values()[:, 1:].mean() - 0.5) < 0.02
    assert first.seen == 40_000
