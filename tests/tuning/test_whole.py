"""A study from file to bundle, plots and MLflow record, as shown in a browser."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from helpers import run_bundle
from mlflow import MlflowClient

from qcanet_monai.bundle.bundle import SHIPPED, Bundle
from qcanet_monai.promotion.promote import promote
from qcanet_monai.registry.studies import run_page
from qcanet_monai.tuning.study import Study
from qcanet_monai.tuning.warm_start import known_trials

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.slow


def test_every_trial_is_in_mlflow_once_and_none_is_left_running(done):
    parent, trials = done.runs()
    assert parent.info.status == "FINISHED"
    assert len(trials) == 6
    assert {run.info.status for run in trials} == {"FINISHED", "FAILED"}


def test_a_loss_that_is_no_number_and_a_lack_of_memory_fail_their_trials_only(done):
    failed = {r.data.params["channels"]: r for r in done.runs()[1] if r.info.status == "FAILED"}
    assert set(failed) == {"3", "100000"}
    assert "the loss became" in failed["3"].data.tags["failure"]
    assert failed["100000"].data.tags["failure"].startswith("out of memory")


def test_asha_stops_trials_and_the_epochs_they_had_are_recorded(done):
    stopped = [run for run in done.runs()[1] if run.data.tags["status"] == "stopped"]
    assert stopped
    for run in stopped:
        assert 1 <= int(run.data.tags["epochs"]) < 4
        assert done.steps(run) == list(range(1, int(run.data.tags["epochs"]) + 1))


def test_a_trial_records_settings_configuration_cost_origin_and_every_epoch(done):
    run = next(run for run in done.runs()[1] if run.data.tags["status"] == "finished")
    assert run.data.params["betas.0"] == "0.9"
    assert int(run.data.params["parameters"]) > 1000
    assert int(run.data.params["multiply_adds"]) > 10**9
    for tag in ("git_commit", "data_sha256", "version.torch", "version.ray", "seconds", "study"):
        assert run.data.tags[tag]
    assert done.steps(run) == done.steps(run, "loss") == [1, 2, 3, 4]
    assert run.data.params["betas.1"] == "0.999"
    assert run.data.params["epochs"] == "4"
    assert run.data.tags["searched"] == "channels, optimizer, betas#0, learning_rate"
    parent = done.runs()[0]
    assert parent.data.params["channels"] == "2, 3, 100000"
    client = MlflowClient(done.uri)
    config = yaml.safe_load(Path(client.download_artifacts(parent.info.run_id, "config.yaml")).read_text())
    assert config["network_def"]["_target_"] == "qcanet_monai.nn.unet.UNet3D"


def test_the_study_keeps_plots_that_share_one_script_a_table_and_the_best_overlay(done):
    client = MlflowClient(done.uri)
    artifacts = {item.path for item in client.list_artifacts(done.runs()[0].info.run_id)}
    assert artifacts >= {"plots.html", "trials.csv", "best.yaml", "summary.json"}
    page = (done.root / "plots.html").read_text()
    titles = ("History", "Learning curves", "Workers", "Importance", "Parallel coordinates", "Slices", "Rank")
    for title in (*titles, "Importance for the best trials (PED-ANOVA)", "Pareto front"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("plotly.js v") == 1
    assert "src=" not in page.split("<body>")[0]
    assert len((done.root / "trials.csv").read_text().splitlines()) == 7


def test_a_stopped_or_failed_trial_is_not_the_best(done):
    summary = json.loads((done.root / "summary.json").read_text())
    best = next(run for run in done.runs()[1] if run.data.tags["trial_id"] == summary["best_trial"])
    assert best.data.tags["status"] == "finished"
    assert summary["trials"]["failed"] == 2


def test_monai_trains_with_the_best_settings_as_an_overlay(done, tmp_path):
    options = {"dataset_dir": done.data, "output_dir": tmp_path / "out", "epochs": 1}
    run_bundle(SHIPPED / "nsn", "train", str(done.root / "best.yaml"), **options)
    assert "channels: 3" in (tmp_path / "out/configs/inference.yaml").read_text()


def test_the_winner_is_promoted_and_segments_by_name(done, tmp_path, qcanet):
    own = ["--tracking-uri", done.uri]
    promoted = qcanet("promote", "nsn", "--study", "tiny", *own)
    assert promoted.returncode == 0, promoted.stderr
    assert "models:/nsn@champion is version 1: iou" in promoted.stdout
    images = done.data / "Images/train/Images"
    segmented = qcanet("segment", images, "--nsn", "models:/nsn@champion", "--out", tmp_path, *own)
    assert segmented.returncode == 0, segmented.stderr
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["models"]["nsn"]["reference"] == "models:/nsn@champion"


def test_a_trial_that_was_stopped_early_cannot_be_promoted(done, qcanet):
    stopped = next(run for run in done.runs()[1] if run.data.tags["status"] == "stopped")
    own = ["--tracking-uri", done.uri, "--trial", stopped.data.tags["trial_id"]]
    ran = qcanet("promote", "nsn", "--study", "tiny", *own)
    assert ran.returncode == 2
    assert "only a trial with its full budget can be promoted" in ran.stderr


def test_the_same_name_again_needs_resume(done, qcanet):
    again = qcanet(*done.command()[1:])
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith("qcanet: study tiny exists in ")
    assert "--resume" in again.stderr


def test_resuming_a_study_that_is_done_changes_nothing(done):
    before = {run.info.run_id: run.info.end_time for run in done.runs()[1]}
    again = done.run("--resume")
    assert again.returncode == 0, again.stderr
    assert {run.info.run_id: run.info.end_time for run in done.runs()[1]} == before


def test_a_study_that_changed_is_not_resumed(done, qcanet):
    text = done.file.read_text()
    try:
        done.file.write_text(text.replace("isotropic_spacing_um: 4.0", "isotropic_spacing_um: 5.0"))
        again = qcanet(*done.command("--resume")[1:])
    finally:
        done.file.write_text(text)
    assert again.returncode == 2
    assert "settings changed since" in again.stderr


@pytest.fixture(scope="module")
def page(done):
    """Serve `qcanet ui` and return its address."""
    promote("nsn", study="tiny", tracking_uri=done.uri)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [done.command()[0], "ui", "--tracking-uri", done.uri, "--port", str(port)]
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
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver, as Debian packages them")
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
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    def there(driver):
        text = driver.find_element(By.TAG_NAME, "body").text
        return all(word in text for word in words)

    WebDriverWait(browser, 60, ignored_exceptions=()).until(there, f"{words} not on the page")


def keep(browser, name):
    """Save a screenshot where QCANET_SCREENSHOTS names a folder, as for docs/images."""
    from selenium.webdriver.common.by import By

    folder = os.environ.get("QCANET_SCREENSHOTS")
    if folder:
        for button in browser.find_elements(By.CSS_SELECTOR, "[data-component-id$='chat_panel.close']"):
            button.click()
        browser.save_screenshot(str(Path(folder) / name))


def winner_of(done):
    parent, trials = done.runs()
    best = next(run for run in trials if run.data.tags["trial_id"] == parent.data.tags["best_trial"])
    return parent, best


def test_the_studys_page_shows_its_runs_best_first_with_searched_settings_data_and_source(
    browser, page, done, qcanet
):
    listed = qcanet("runs", "--tracking-uri", done.uri).stdout
    address = next(line for line in listed.splitlines() if line.startswith("tiny: ")).removeprefix("tiny: ")
    browser.set_window_size(2400, 900)
    browser.get(address.replace("http://127.0.0.1:5000", page))
    _, trials = done.runs()
    shows(browser, *(run.info.run_name for run in trials))
    shows(browser, "Model training", "best_iou", "channels", "optimizer", "betas.0", "learning_rate")
    shows(browser, "data train", "tiny.yaml", "v1")
    keep(browser, "mlflow-runs.png")


def test_names_of_trials_tell_their_settings(done):
    names = {run.data.tags["trial_id"]: run.info.run_name for run in done.runs()[1]}
    assert names["001"] == "001 c3 adam"
    assert names["006"] == "006 c2 sgd"


def test_the_studys_run_states_what_won_how_sure_that_is_and_on_which_data(browser, page, done):
    parent, best = winner_of(done)
    browser.get(f"{page}/{run_page(parent.info.experiment_id, parent.info.run_id)}")
    shows(browser, f"Best: {best.info.run_name}", "data train", "Training", "tiny.yaml", "Created by")
    note = parent.data.tags["mlflow.note.content"]
    assert f"[{best.info.run_name}](#/experiments/" in note
    for words in ("How sure", "digest `", "nuclei", "Load it", "commit", "torch", "Searched"):
        assert words in note
    keep(browser, "mlflow-study.png")


def test_a_trial_leads_to_its_model_and_pictures(browser, page, done):
    parent, best = winner_of(done)
    browser.get(f"{page}/{run_page(parent.info.experiment_id, best.info.run_id)}")
    shows(browser, best.info.run_name, f"nsn-{best.data.tags['trial_id']}", "data validation")
    browser.get(f"{page}/#/experiments/{parent.info.experiment_id}/runs/{best.info.run_id}/model-metrics")
    shows(browser, "best_iou", "001 c3 adam (best_iou)")
    assert {"validation_iou", "voxels_per_second", "epoch_seconds", "loss"} <= best.data.metrics.keys()
    browser.get(f"{page}/#/experiments/{parent.info.experiment_id}/runs/{best.info.run_id}/system-metrics")
    shows(browser, "cpu_utilization_percentage")


def test_a_picture_of_the_best_trial_is_on_its_page(browser, page, done):
    from selenium.webdriver.support.ui import WebDriverWait

    parent, best = winner_of(done)
    client = MlflowClient(done.uri)
    images = [item.path for item in client.list_artifacts(best.info.run_id, "images")]
    path = next(path for path in images if path.endswith(".png"))
    base = f"{page}/#/experiments/{parent.info.experiment_id}/runs/{best.info.run_id}/artifacts"
    browser.get(f"{base}/{path}")

    def drawn(driver):
        wide = "return [...document.images].some(image => image.naturalWidth > 300)"
        return driver.execute_script(wide)

    WebDriverWait(browser, 60).until(drawn)
    keep(browser, "mlflow-picture.png")


def test_the_models_tab_leads_from_trials_to_registered_versions(browser, page, done):
    parent, best = winner_of(done)
    browser.get(f"{page}/#/experiments/{parent.info.experiment_id}/models?workflowType=machine_learning")
    shows(browser, f"nsn-{best.data.tags['trial_id']}", best.info.run_name, "nsn", "v1", "Ready")
    browser.get(f"{page}/#/models/nsn/versions/1")
    shows(browser, best.info.run_name, f"nsn-{best.data.tags['trial_id']}", "champion", "iou")
    keep(browser, "mlflow-version.png")


def test_trials_are_compared_by_their_searched_settings(browser, page, done):
    parent, trials = done.runs()
    runs = json.dumps([run.info.run_id for run in trials])
    chosen = urllib.parse.urlencode({"runs": runs, "experiments": json.dumps([parent.info.experiment_id])})
    browser.get(f"{page}/#/compare-runs?{chosen}")
    shows(browser, "Comparing 6 Runs", "Parallel Coordinates Plot", "channels", "learning_rate", "best_iou")


def test_only_the_best_models_have_files_and_these_are_stored_once(done):
    client = MlflowClient(done.uri)
    _, best = winner_of(done)
    models = client.search_logged_models([best.info.experiment_id])
    finished = [run for run in done.runs()[1] if run.data.tags["status"] == "finished"]
    assert {model.source_run_id for model in models} == {run.info.run_id for run in finished}
    weights = list(Path(done.folder, "mlartifacts").rglob("model.pt"))
    assert 1 <= len(weights) <= len(finished)
    assert not [item for run in finished for item in client.list_artifacts(run.info.run_id, "bundle")]


def test_the_champion_is_on_the_page(browser, page):
    browser.get(f"{page}/#/models/nsn")
    shows(browser, "champion", "Version 1", "qcanet segment IMAGES")
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
        wide = "const page = document.documentElement; return [page.scrollWidth, page.clientWidth]"
        needed, there = browser.execute_script(wide)
        assert needed <= there  # nothing to scroll sideways
    finally:
        browser.switch_to.default_content()
    keep(browser, "mlflow-plots.png")


def test_the_page_is_served_on_loopback_only(page):
    port = int(page.rpartition(":")[2])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        route.connect(("192.0.2.1", 9))  # sends nothing, but gives the address that others would reach
        host = route.getsockname()[0]
    if host.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), timeout=5)


def test_a_study_learns_from_the_trials_that_mlflow_has(done, capsys):
    space = {
        "channels": {"choices": [2, 3]},
        "optimizer": {"choices": ["adam", "sgd"]},
        "betas#0": {"when": {"optimizer": "adam"}, "low": 0.8, "high": 0.95},
        "learning_rate": {"low": 1.0e-7, "high": 1.0e-2, "log": True},
    }
    settings = yaml.safe_load(done.file.read_text())["settings"]
    study = Study.model_validate({"bundle": "nsn", "space": space, "settings": settings, "epochs": 4})
    found = known_trials([done.root.name], "nowhere", done.uri, study, Bundle.find("nsn"))
    local = known_trials([done.root], "nowhere", done.uri, study, Bundle.find("nsn"))
    assert len(found) == 4  # without those that failed
    assert all(one.settings in [other.settings for other in local] for one in found)
    assert [one.result["iou"] for one in found] == [
        next(o.result["iou"] for o in local if o.settings == one.settings) for one in found
    ]
    assert "warm start with 4 trials of tiny" in capsys.readouterr().err
