"""The screenshot in the README: the first screen of data/report/comparison.html in Chromium.

    python -m docs.screenshot

Writes docs/report.webp. Another version of Chromium or of its fonts gives other bytes.
"""

import base64
import tempfile
from pathlib import Path

from tests.support.browser import Browser, Page

REPORT = Path("data/report/comparison.html")
SCREENSHOT = Path(__file__).parent / "report.webp"
# At 90 text stays sharp, and the file is well below 150 kB.
_QUALITY = 90


def main() -> None:
    """Open the report in a window of 1280 x 900 pixels, wait until it is drawn, and write what is visible."""
    if not REPORT.is_file():
        raise SystemExit(f"no {REPORT}: run 'dvc repro', or 'dvc pull'")
    with tempfile.TemporaryDirectory() as profile, Browser(Path(profile)) as browser:
        page = Page(browser, REPORT, width=1280)
        page.evaluate("document.fonts.ready.then(() => new Promise(requestAnimationFrame)).then(() => null)")
        image = page.call("Page.captureScreenshot", format="webp", quality=_QUALITY)["data"]
    SCREENSHOT.write_bytes(base64.b64decode(image))


if __name__ == "__main__":
    main()
