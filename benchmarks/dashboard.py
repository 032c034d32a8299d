"""How long the site of many published runs takes, and how long its first page: `python -m benchmarks.dashboard`.

Publishes runs of 4 systems, 6 metrics and 50 utterances, each name again and again with a quality that moves a little.
Then whole commands take turns: `evalkit dashboard STORE --no-reports` into an empty folder, and the baseline, a Python
that reads every publication.json and summary.parquet with pandas and ends. Then Chromium, where it is there, opens
index.html and the largest other page: seconds until it is loaded and its scripts have run. Medians of the rounds; CPU
seconds too, as on a machine that others use only these tell two versions apart.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import print_figure
from evalkit.history.publish import publish
from tests.published_runs import write_run

READ = """
import json, sys
from pathlib import Path
import pandas as pd
for path in Path(sys.argv[1]).glob("published/*/*/publication.json"):
    json.loads(path.read_text())
    pd.read_parquet(path.with_name("summary.parquet"))
"""


def fill_store(store: Path, runs: int, names: int, scratch: Path) -> float:
    """Publish `runs` runs under `names` names; seconds a run, publishing alone."""
    seconds = 0.0
    for number in range(runs):
        name, day = f"codec-{number % names}", number // names
        quality = {"rhombic": 0.05 * day, "rvq": -0.5 if day > 20 else 0.0}
        run = write_run(scratch / "run", name=name, day=day, quality=quality, utterances=50)
        started = time.perf_counter()
        publish(run, store)
        seconds += time.perf_counter() - started
        shutil.rmtree(run)
    return seconds / runs


def run_seconds(command: list[str]) -> tuple[float, float]:
    """Seconds, and CPU seconds, that a command takes."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.perf_counter() - started, used


def open_seconds(pages: list[Path], rounds: int) -> dict[str, float] | None:
    """Page -> median seconds that Chromium takes to load it and run its scripts; None without Chromium."""
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        return None
    from playwright.sync_api import sync_playwright

    times: dict[str, list[float]] = {page.name: [] for page in pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(rounds):
            for page in pages:
                tab = browser.new_page()
                started = time.perf_counter()
                tab.goto(page.as_uri(), wait_until="load")
                tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
                times[page.name].append(time.perf_counter() - started)
                tab.close()
        browser.close()
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument(
        "--names", type=int, default=25, help="names that they share; as many as runs: all systems differ"
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store, site = root / "store", root / "site"
        print_figure("publish_seconds", fill_store(store, options.runs, options.names, root))
        build = [sys.executable, "-m", "evalkit", "dashboard", str(store), "--no-reports", "--out", str(site)]
        commands = {"build": build, "read": [sys.executable, "-c", READ, str(store)]}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                if name == "build":
                    shutil.rmtree(site, ignore_errors=True)
                times[name].append(run_seconds(command))
        for name, pairs in times.items():
            print_figure(f"{name}_seconds", statistics.median(seconds for seconds, _ in pairs))
            print_figure(f"{name}_cpu_seconds", statistics.median(used for _, used in pairs))
        pages = list(site.rglob("*.html"))
        print_figure("pages", len(pages))
        print_figure("index_kilobytes", (site / "index.html").stat().st_size / 1e3)
        print_figure("all_megabytes", sum(page.stat().st_size for page in pages) / 1e6)
        largest = max((page for page in pages if page.name != "index.html"), key=lambda page: page.stat().st_size)
        print_figure("largest_other_kilobytes", largest.stat().st_size / 1e3)
        opened = open_seconds([site / "index.html", largest], options.rounds)
        if opened is None:
            print("no Chromium here: opening was not measured")
        else:
            print_figure("open_index_seconds", opened["index.html"])
            print_figure("open_largest_other_seconds", opened[largest.name])


if __name__ == "__main__":
    main()
