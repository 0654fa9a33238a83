"""The report in a real browser, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

CHROMIUM = shutil.which("chromium")
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
WIDE, PHONE = (1280, 900), (390, 844)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield opened
        opened.close()


class Visit:
    """A page opened from disk, with what went wrong on it."""

    def __init__(self, browser: Browser, path: Path, size: tuple[int, int] = WIDE, **context: object) -> None:
        self.problems: list[str] = []
        self._context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **context)  # type: ignore[arg-type]
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(900_000)  # ms: no test fails because a machine is busy
        self.page.on("console", lambda message: self.problems.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.route("**/*", self._only_the_file)
        self._path = path

    def _only_the_file(self, route: Route) -> None:
        address = route.request.url
        if address.startswith("data:") or address.partition("#")[0] == self._path.as_uri():
            route.continue_()
        else:
            self.problems.append(f"asked for {address}")
            route.abort()

    def __enter__(self) -> Visit:
        self.page.goto(self._path.as_uri())
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()
        assert self.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_it_opens_offline_without_a_word_on_the_console(
    browser: Browser, page: Path, size: tuple[int, int], scheme: str
) -> None:
    with Visit(browser, page, size, color_scheme=scheme) as visit:
        width = visit.page.evaluate("document.documentElement.scrollWidth")
        assert width <= size[0]
        ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == {"light": "rgb(251, 250, 247)", "dark": "rgb(20, 24, 28)"}[scheme]
        broken = "[...document.images].filter((image) => !image.complete || !image.naturalWidth).length"
        assert visit.page.evaluate(broken) == 0
        beyond = (
            "[...document.querySelectorAll('figure > svg')].filter(it => it.getBoundingClientRect().right > innerWidth)"
        )
        assert visit.page.evaluate(f"{beyond}.length") == 0


def test_a_column_sorts_both_ways_by_mouse_and_keyboard(browser: Browser, page: Path) -> None:
    with Visit(browser, page) as visit:
        table = visit.page.locator("#results-table")
        head = table.locator("thead th", has_text="accuracy, %").first
        place = head.evaluate("(cell) => cell.cellIndex")

        def column() -> list[float]:
            shown = table.locator(f"tbody tr:visible td:nth-child({place + 1})")
            return [float(cell.get_attribute("data-sort") or "nan") for cell in shown.all()]

        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "descending"
        assert column() == sorted(column(), reverse=True) and len(column()) > 10
        head.locator("button").focus()
        visit.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert column() == sorted(column())
        other = table.locator("thead th", has_text="fewer MACs")
        other.locator("button").click()
        assert head.get_attribute("aria-sort") is None and other.get_attribute("aria-sort") == "descending"


def test_cells_without_a_figure_sort_last(browser: Browser, page: Path) -> None:
    with Visit(browser, page) as visit:
        button = visit.page.locator("#results-table thead th", has_text="p, Holm").first.locator("button")
        for _ in range(2):
            button.click()
            assert visit.page.locator("#results-table tbody tr:visible th").last.inner_text() == "Dense baseline"


def test_rows_and_columns_are_shown_on_demand(browser: Browser, page: Path) -> None:
    with Visit(browser, page) as visit:
        shown = visit.page.locator("#results-table tbody tr:visible")
        before = shown.count()
        for label in ("controls", "each seed", "int8 variants"):
            visit.page.get_by_label(label).check()
        assert shown.count() == visit.page.locator("#results-table tbody tr").count() > 2 * before
        score = visit.page.locator("#results-table thead th", has_text="Brier")
        assert score.is_hidden()
        visit.page.get_by_label("more scores").check()
        assert score.is_visible()


def test_a_point_says_its_figures_under_mouse_and_keyboard(browser: Browser, page: Path) -> None:
    with Visit(browser, page) as visit:
        tip, points = visit.page.locator("#tip"), visit.page.locator("svg[aria-label^='Test accuracy'] .point")
        assert tip.is_hidden()
        points.nth(3).scroll_into_view_if_needed()
        visit.page.wait_for_timeout(100)  # the words go away while the page scrolls
        points.nth(3).hover(force=True)
        assert tip.is_visible() and "accuracy" in tip.inner_text()
        visit.page.keyboard.press("Escape")
        assert tip.is_hidden()
        points.first.focus()
        first = tip.inner_text()
        assert first.startswith("Dense baseline")
        visit.page.keyboard.press("ArrowRight")
        assert tip.inner_text() != first
        box = tip.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= WIDE[0]


def test_a_finger_is_enough(browser: Browser, page: Path) -> None:
    with Visit(browser, page, PHONE, has_touch=True, is_mobile=True) as visit:
        point = visit.page.locator("svg[aria-label^='Test accuracy'] .point").nth(2)
        point.scroll_into_view_if_needed()
        visit.page.wait_for_timeout(100)  # the words go away while the page scrolls
        box = point.bounding_box()
        assert box is not None
        visit.page.touchscreen.tap(box["x"] + box["width"] / 2 + 5, box["y"] + box["height"] / 2)
        assert visit.page.locator("#tip").is_visible()


def test_without_scripts_everything_is_there(browser: Browser, page: Path) -> None:
    with Visit(browser, page, java_script_enabled=False) as visit:
        rows = visit.page.locator("#results-table tbody tr")
        assert rows.last.is_visible() and visit.page.locator("#results-table th", has_text="Brier").is_visible()
        assert visit.page.locator(".controls").is_hidden()
        assert visit.page.locator(".point title").count() > 50
