"""`qcanet ui` in a real browser: a study, its trials, its champion."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from qcanet_monai.workflows.promote import promote

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
QCANET = Path(sys.executable).with_name("qcanet")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver, as Debian packages them"
    ),
]


@pytest.fixture(scope="module")
def page(done):
    """The address of `qcanet ui`."""
    promote("nsn", study="tiny", tracking_uri=done.uri)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(QCANET), "ui", "--tracking-uri", done.uri, "--port", str(port)]
    server = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/health", timeout=2)
                break
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("chromium")
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"):
        options.add_argument(f"--{flag}")
    for flag in ("background-networking", "component-update", "sync"):
        options.add_argument(f"--disable-{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument("--window-size=1400,800")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def shows(browser, *words):
    """Wait until all words are on the page."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def there(driver):
        text = driver.find_element(By.TAG_NAME, "body").text
        return all(word in text for word in words)

    WebDriverWait(browser, 60, ignored_exceptions=()).until(there, f"{words} not on the page")


def keep(browser, name):
    """Picture the page where QCANET_SCREENSHOTS names a folder; docs/images holds the last ones."""
    from selenium.webdriver.common.by import By

    folder = os.environ.get("QCANET_SCREENSHOTS")
    if folder:
        for button in browser.find_elements(By.CSS_SELECTOR, "[data-component-id$='chat_panel.close']"):
            button.click()
        browser.save_screenshot(str(Path(folder) / name))


def test_the_experiment_and_its_nested_runs_are_on_the_page(browser, page, done):
    from selenium.webdriver.common.by import By

    parent, trials = done.runs()
    browser.get(f"{page}/#/experiments/{parent.info.experiment_id}/runs")
    shows(browser, "qcanet-nsn", "tiny")
    names = [run.info.run_name for run in trials]
    assert not any(name in browser.find_element(By.TAG_NAME, "body").text for name in names)
    browser.find_element(By.CSS_SELECTOR, "[data-component-id*='runnamecellrenderer']").click()  # unfold
    shows(browser, "tiny", *names)
    keep(browser, "mlflow-runs.png")


def test_the_champion_is_on_the_page(browser, page):
    browser.get(f"{page}/#/models/nsn")
    shows(browser, "champion", "Version 1")
    keep(browser, "mlflow-champion.png")


def test_the_plots_are_drawn_on_the_page(browser, page, done):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    run = done.runs()[0].info
    browser.get(f"{page}/#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts/plots.html")
    frame = WebDriverWait(browser, 60).until(lambda b: b.find_elements(By.TAG_NAME, "iframe"))
    browser.switch_to.frame(frame[0])
    try:
        WebDriverWait(browser, 60).until(lambda b: len(b.find_elements(By.CSS_SELECTOR, ".main-svg")) > 4)
    finally:
        browser.switch_to.default_content()
    keep(browser, "mlflow-plots.png")


def test_the_page_is_served_on_loopback_only(page):
    port = int(page.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect(("192.0.2.1", 9))  # sends nothing, but tells the address that others would reach
        host = route.getsockname()[0]
    if host.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=5)
