"""Take the pictures of this folder from the real MLflow UI: ``python docs/images/take.py [WORKSPACE]``.

Needs Chromium (Debian: ``apt-get install chromium``) and Playwright, which drives it without a screen. The store of the
workspace is copied first and shown on loopback; nothing is changed.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import httpx
from mlflow import MlflowClient
from PIL import Image
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
EXPERIMENT, MODEL, CURVES, TABLE = "hscc", "hscc-brain-mri", "train-alexnet-grouped", "evaluate-grouped"
COLUMNS = ("Dataset", "Source", "Models", "accuracy", "kl", "macs_ratio", "speedup_b1")  # the first three are hidden
SIZE = {"width": 1360, "height": 760}
LINES = "^(train|val)_"  # charts to show
PATIENCE, SETTLED = 120_000, 3_000  # milliseconds; curves appear a little later than their titles
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def main(workspace: Path) -> None:
    """Start the UI over a copy of the workspace's store and photograph three pages."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "mlflow.db"
        with sqlite3.connect(workspace / "mlflow.db") as source, sqlite3.connect(store) as copy:
            source.backup(copy)
        uri = f"sqlite:///{store}"
        port = _free_port()
        command = ["ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", uri]
        server = subprocess.Popen([sys.executable, "-m", "mlflow", *command], env=_environment(), cwd=folder)
        try:
            _wait(f"http://127.0.0.1:{port}/health")
            _photograph(f"http://127.0.0.1:{port}/#", MlflowClient(uri))
        finally:
            server.terminate()
            server.wait(30)


def _photograph(root: str, client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None, f"the store holds no experiment {EXPERIMENT}"
    place = f"{root}/experiments/{experiment.experiment_id}/runs"
    curves, table = (_latest(client, experiment.experiment_id, name) for name in (CURVES, TABLE))
    rows = {
        "searchFilter": f"tags.`mlflow.parentRunId` = '{table}'",
        "orderByKey": "metrics.`accuracy`",
        "orderByAsc": "false",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        page = browser.new_page(viewport=SIZE)
        _clear(page, place)
        _choose_columns(page)
        _take(page, f"{place}?{urlencode(rows)}", "text=evaluate-", "mlflow-runs.png")
        _take(page, f"{place}/{curves}/model-metrics", "text=val_accuracy", "mlflow-chart.png", "accuracy|loss")
        _take(page, f"{root}/models/{MODEL}", "text=challenger", "mlflow-registry.png")
        browser.close()


def _latest(client: MlflowClient, experiment: str, name: str) -> str:
    named = f"attributes.run_name = '{name}' and attributes.status = 'FINISHED'"
    (run,) = client.search_runs([experiment], named, max_results=1)
    return str(run.info.run_id)


def _choose_columns(page: Page) -> None:
    """Show figures instead of the columns that are the same for every run."""
    page.get_by_role("button", name="Columns").click()
    for name in COLUMNS:
        page.get_by_placeholder("Search columns").fill(name)
        page.wait_for_timeout(SETTLED / 3)
        row = page.locator("[class*=tree-treenode]").filter(has_text=re.compile(rf"^\s*{name}\s*$")).last
        row.locator("span[class*=tree-checkbox]").first.click()
    page.wait_for_timeout(SETTLED / 3)


def _clear(page: Page, address: str) -> None:
    """Close what is not about this project: the assistant's panel and the pages on language models."""
    page.goto(address)
    page.get_by_text("Model training", exact=True).click(timeout=PATIENCE)
    close = page.get_by_role("button", name="Close")
    if close.count():
        close.first.click()
    page.wait_for_timeout(SETTLED)


def _take(page: Page, address: str, needed: str, name: str, search: str | None = None) -> None:
    page.goto("about:blank")  # else a change after the # does not reload the page
    page.goto(address)
    page.wait_for_selector(needed, timeout=PATIENCE)
    if search:
        page.get_by_placeholder("Search metric charts").fill(search)
    page.wait_for_timeout(SETTLED)
    path = HERE / name
    page.screenshot(path=path)
    with Image.open(path) as picture:  # few colours: small files
        picture.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(address: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(address, timeout=2).is_success:
                return
        except httpx.HTTPError:
            assert time.monotonic() < deadline, "the MLflow UI did not start"
        time.sleep(0.3)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
