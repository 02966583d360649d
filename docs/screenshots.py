"""Writes the pictures of docs/img from a report. In: the page's path. Out: one WebP file for each part and theme.

    rankscope demo -o demo.html
    python docs/screenshots.py demo.html

Needs Debian's chromium and chromium-driver, and the test extra (selenium).
"""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path

from selenium import webdriver

FOLDER = Path(__file__).parent / "img"
PARTS = {"verdict": 900, "performance": 1500, "frontier": 1000, "forgetting": 1500, "flipped": 1100, "within": 1300,
         "money": 1500, "next": 800, "method": 1000}  # fmt: skip
"""What is taken of the page, and how much of its height at most (pixels)."""
SCALE, QUALITY = 0.72, 70


def browser(theme: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                 "--window-size=1280,1000"):  # fmt: skip
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    return driver


def main() -> None:
    page = Path(sys.argv[1]).resolve().as_uri()
    FOLDER.mkdir(exist_ok=True)
    for theme in ("light", "dark"):
        driver = browser(theme)
        try:
            driver.get(page)
            while driver.execute_script("return document.documentElement.getAttribute('data-charts')") != "done":
                time.sleep(0.2)
            driver.execute_script("document.querySelector('header.top').style.position = 'static'")
            for name, most in PARTS.items():
                box = "var b = document.getElementById(arguments[0]).getBoundingClientRect();"
                top, height = driver.execute_script(f"{box} return [b.top + window.scrollY, b.height]", name)
                start = 0 if name == "verdict" else max(0, top - 12)
                clip = {"x": 0, "y": start, "width": 1280, "height": min(height + top - start, most), "scale": SCALE}
                taken = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": QUALITY,
                                               "clip": clip, "captureBeyondViewport": True})  # fmt: skip
                (FOLDER / f"{name}-{theme}.webp").write_bytes(base64.b64decode(taken["data"]))
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
