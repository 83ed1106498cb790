"""Where the weights of a backbone came from, as its results say."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Origin:
    """Where weights came from: "imagenet", "random", "none" (nothing to load), a preset, or the path or URL of a file.

    `licence` is that of the weights, where they state one.
    """

    source: str
    reason: str = ""
    file: str = ""
    checksum: str = ""
    licence: str = ""
