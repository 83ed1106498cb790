"""Where the weights of a backbone come from: `weights` of a line of `backbones`, and section `weights`."""

from urllib.parse import urlsplit

from stages.core.addresses import holds_secret
from stages.core.params import nearest

# Formats of weights that Keras writes: whole models, `.weights.h5` and Keras 2's `.h5`.
WEIGHT_FILES = (".keras", ".h5")
# Sources of weights that are no file of the user's own.
PUBLISHED = frozenset({"imagenet", "random"})


def known_source(value: str) -> str:
    """Return `value` if it is a valid source of weights. Raise ValueError with the nearest match otherwise."""
    if holds_secret(value):
        raise ValueError("an address without a password or token, which git would keep; fetch the file yourself")
    if value in PUBLISHED or (is_fetchable(value) and urlsplit(value).path.endswith(WEIGHT_FILES)):
        return value
    hint = nearest(value, ["imagenet", "random"])
    raise ValueError(
        "imagenet, random, or a file that Keras wrote (.keras, .weights.h5, .h5), by its path or http(s) URL"
        f"{f' ({hint})' if hint else ''}"
    )


def is_fetchable(source: str) -> bool:
    """Return whether a source can be read: a path, or an address of HTTP."""
    return "://" not in source or source.startswith(("http://", "https://"))


def is_local_file(source: str) -> bool:
    """Return whether a known source of weights is a file on this machine."""
    return source not in PUBLISHED and "://" not in source
