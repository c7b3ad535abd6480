"""Drive the page: ``browser.py URL SCREENSHOT``."""

from __future__ import annotations

import sys

from playwright.sync_api import Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def pixels(page: Page) -> str:
    return str(page.evaluate("document.getElementById('view').toDataURL()"))


def wait(page: Page, steps: int) -> None:
    page.wait_for_function(f"+document.body.dataset.steps >= {steps}", timeout=15000)


def main(url: str, screenshot: str) -> None:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        wait(page, 0)
        first = pixels(page)
        page.keyboard.down("d")
        wait(page, 3)
        page.keyboard.up("d")
        moved = pixels(page)
        assert moved != first
        page.wait_for_timeout(500)
        page.click("#fork")
        page.wait_for_function("document.body.dataset.branch === '1'")
        button = page.locator("[data-key=w]")
        button.hover()
        page.mouse.down()
        wait(page, 5)
        page.mouse.up()
        assert pixels(page) != moved
        page.wait_for_timeout(500)
        page.screenshot(path=screenshot)
        page.select_option("#branch", "0")
        page.wait_for_function("document.body.dataset.branch === '0'")
        page.click("#reset")
        page.wait_for_function("document.body.dataset.steps === '0'")
        page.wait_for_timeout(200)
        assert pixels(page) == first
        page.keyboard.press("Space")
        wait(page, 3)
        page.keyboard.press("Space")
        page.wait_for_timeout(500)
        page.keyboard.press("Enter")
        page.wait_for_function("document.body.dataset.branch === '1'")
        page.keyboard.press("1")
        page.wait_for_function("document.body.dataset.branch === '0'")
        page.click("#smooth")
        assert page.get_attribute("#view", "class") == "smooth"
        with page.expect_download() as download:
            page.click("#clip")
        assert download.value.suggested_filename == "openwfm.mp4"
        assert not faults, faults
        print("moved")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
