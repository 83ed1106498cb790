"""Copies and near copies share a group; an image with two labels contradicts itself."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from stages.core.dataset.duplicates import colours, groups, perceptual_hash
from stages.core.settings.data import HASH_BITS
from stages.sources.manifest import conflicts

LIMIT = 16
# The colours of an image without any.
GREY = "80" * 8


def scene(seed: int, side: int = 160) -> Image.Image:
    """A random image with the spectrum of photographs: half the contrast at twice the frequency."""
    draw = np.random.default_rng(seed)
    image = np.full((side, side, 3), 128.0)
    for octave in range(2, 7):
        noise = Image.fromarray(draw.integers(0, 256, (2**octave, 2**octave, 3)).astype(np.uint8))
        smooth = np.asarray(noise.resize((side, side), Image.Resampling.BICUBIC), dtype=float)
        image += (smooth - 128) * 2 / 2**octave
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def hashed(*bits: int) -> str:
    """Return a hash in which these bits are set."""
    return f"{sum(1 << bit for bit in bits):0{HASH_BITS // 4}x}"


def table(*rows: tuple[str, str], groups: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return a table of one digest (a letter) and one hash for each image."""
    found = pd.DataFrame(list(rows), columns=["pixels_sha256", "phash"])
    return found.assign(pixels_sha256=found["pixels_sha256"] * 64, source_group=groups or "", colours=GREY)


def together(rows: pd.DataFrame, limit: int | None = LIMIT) -> set[frozenset[int]]:
    return {frozenset(members.index) for _, members in rows.groupby(groups(rows, limit))}


def labelled(*triples: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(list(triples), columns=["path", "label", "pixels_sha256"])


# --- perceptual hashes ---


def distance(one: Image.Image, other: Image.Image) -> int:
    return (int(perceptual_hash(one), 16) ^ int(perceptual_hash(other), 16)).bit_count()


def recompressed(image: Image.Image) -> Image.Image:
    stream = BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(BytesIO(stream.getvalue())).convert("RGB")


@pytest.mark.parametrize(
    "change",
    [
        recompressed,
        lambda image: image.resize((90, 90)),
        lambda image: image.resize((320, 320)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        lambda image: image.convert("L").convert("RGB"),
    ],
    ids=["recompressed", "smaller", "larger", "brighter", "grey"],
)
@pytest.mark.parametrize("seed", range(4))
def test_a_image_that_was_only_re_encoded_is_a_near_copy(change, seed: int) -> None:
    assert distance(scene(seed), change(scene(seed))) <= LIMIT


def test_other_images_and_mirrored_ones_are_no_near_copies() -> None:
    scenes = [scene(seed) for seed in range(8)]
    mirrored = scenes[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    distances = [distance(scenes[0], other) for other in [*scenes[1:], mirrored]]
    assert min(distances) > 4 * LIMIT


# --- colours ---


def looks(images: list[Image.Image]) -> pd.DataFrame:
    rows = {"phash": map(perceptual_hash, images), "colours": map(colours, images)}
    return pd.DataFrame(rows).assign(pixels_sha256=[f"{n:032x}" * 2 for n in range(len(images))], source_group="")


def plain(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (80, 80), colour)


def gradient(colour: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray((np.linspace(0, 1, 80)[None, :, None] * np.ones((80, 1, 1)) * colour).astype(np.uint8))


def disc(colour: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (80, 80), (230, 230, 230))
    ImageDraw.Draw(image).ellipse((20, 20, 60, 60), fill=colour)
    return image


def tinted(colour: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray((np.asarray(scene(3).convert("L"))[..., None] * (np.array(colour) / 255)).astype(np.uint8))


@pytest.mark.parametrize("draw", [plain, gradient, disc, tinted])
def test_images_that_differ_in_colour_alone_are_no_near_copies(draw) -> None:
    images = [draw(colour) for colour in [(220, 40, 30), (60, 180, 50), (40, 60, 200), (230, 200, 40), (120, 40, 160)]]
    assert len(together(looks(images))) == len(images)


def test_classes_of_plain_colours_have_as_many_images_as_there_are_colours() -> None:
    images = [plain((200 + n, 40, 30)) for n in range(20)] + [plain((60, 170 + n, 50)) for n in range(20)]
    assert len(together(looks(images))) == 40


@pytest.mark.parametrize("size", [(40, 40), (200, 100)])
@pytest.mark.parametrize("colour", [(220, 40, 30), (0, 0, 0), (255, 255, 255)])
def test_plain_images_of_one_colour_are_near_copies_whatever_their_size(
    size: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    assert len(together(looks([plain(colour), plain(colour).resize(size)]))) == 1


@pytest.mark.parametrize("draw", [gradient, disc, tinted])
def test_a_limit_of_nothing_tells_images_of_slightly_different_colours_apart(draw) -> None:
    images = [draw((200 + 3 * n, 40, 30)) for n in range(10)]
    assert len(together(looks(images), 0)) > 5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "change",
    [
        recompressed,
        lambda image: image.resize((90, 90)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        lambda image: ImageEnhance.Contrast(image).enhance(1.15),
        lambda image: ImageEnhance.Color(image).enhance(0.7),
        lambda image: image.convert("L").convert("RGB"),
    ],
    ids=["recompressed", "smaller", "brighter", "more contrast", "paler", "grey"],
)
def test_a_retouched_image_is_a_near_copy_in_its_colours_too(change, seed: int) -> None:
    assert len(together(looks([scene(seed), change(scene(seed))]))) == 1


# --- groups ---


def test_a_group_is_named_by_the_smallest_digest_in_it() -> None:
    found = groups(table(("b", hashed(1)), ("a", hashed(2)), ("c", hashed(*range(99)))), LIMIT)
    assert found.tolist() == ["a" * 32, "a" * 32, "c" * 32]


def test_equal_pixels_are_together_whatever_the_limit() -> None:
    rows = table(("a", hashed(1)), ("b", hashed(1)), ("a", hashed(1)))
    assert together(rows, None) == {frozenset({0, 2}), frozenset({1})}


@pytest.mark.parametrize(("different", "count"), [(0, 1), (15, 1), (16, 1), (17, 2), (40, 2)])
def test_hashes_within_the_limit_are_together(different: int, count: int) -> None:
    rows = table(("a", hashed()), ("b", hashed(*range(0, 3 * different, 3))))
    assert len(together(rows)) == count


def test_a_limit_of_nothing_joins_equal_hashes_only() -> None:
    rows = table(("a", hashed(5)), ("b", hashed(5)), ("c", hashed(5, 6)))
    assert together(rows, 0) == {frozenset({0, 1}), frozenset({2})}


def test_groups_are_transitive() -> None:
    rows = table(("a", hashed()), ("b", hashed(*range(12))), ("c", hashed(*range(24))), ("d", hashed(*range(99))))
    assert together(rows) == {frozenset({0, 1, 2}), frozenset({3})}


def test_what_the_source_puts_together_is_together() -> None:
    far = [hashed(*range(start, start + 60)) for start in (0, 60, 120, 180)]
    rows = table(*zip("abcd", far, strict=True), groups=("anna", "", "anna", ""))
    assert together(rows) == {frozenset({0, 2}), frozenset({1}), frozenset({3})}


def test_all_near_pairs_of_many_are_found() -> None:
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2, (300, HASH_BITS))
    # Copies at every distance around the limit, their differences anywhere.
    for row in range(200, 300):
        bits[row] = bits[row - 200]
        bits[row, draw.choice(HASH_BITS, row % 34, replace=False)] ^= 1
    hashes = ["".join(map(str, row)) for row in bits.tolist()]
    rows = pd.DataFrame({"phash": [f"{int(row, 2):064x}" for row in hashes]})
    rows = rows.assign(pixels_sha256=[f"{number:032x}" * 2 for number in range(300)], source_group="", colours=GREY)
    pairs = (bits[:, None] != bits[None]).sum(axis=2) <= LIMIT
    found = groups(rows, LIMIT).to_numpy()
    np.testing.assert_array_equal(found[:, None] == found[None], pairs)


def test_many_near_copies_of_one_image_are_one_group() -> None:
    # 61 hashes, of which any two differ in 2 bits: far more pairs than hashes, found in band after band.
    rows = table(*((f"{number % 10}", hashed(number)) for number in range(0, 244, 4)), ("a", hashed(*range(99))))
    assert [len(members) for members in sorted(together(rows), key=len)] == [1, 61]


def test_no_images_have_no_groups() -> None:
    assert groups(table(), LIMIT).tolist() == []


# --- contradictions ---


def test_a_image_under_two_labels_is_left_out_with_the_others_named() -> None:
    rows = labelled(("t/1", "tree", "a"), ("t/2", "tree", "a"), ("p/1", "plank", "a"))
    assert {reject.path: (reject.reason, reject.label) for reject in conflicts(rows)} == {
        "t/1": ("two labels: the same image as 'p/1'", "tree"),
        "t/2": ("two labels: the same image as 'p/1'", "tree"),
        "p/1": ("two labels: the same image as 't/1', 't/2'", "plank"),
    }


def test_many_copies_are_counted_not_listed() -> None:
    rows = labelled(("p/1", "plank", "a"), *[(f"t/{n}", "tree", "a") for n in range(5)])
    assert conflicts(rows)[0].reason == "two labels: the same image as 't/0', 't/1', 't/2' and 2 more"


def test_an_empty_table_contradicts_nothing() -> None:
    assert conflicts(labelled()) == []
