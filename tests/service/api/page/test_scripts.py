"""The scripts of the page by themselves: what pure functions promise, sizes, imports."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "service" / "api" / "page"
SCRIPTS = sorted(PAGE.rglob("*.js"))
CHECKS = Path(__file__).with_name("checks.js")
RUN = """
const { checks } = await import(process.argv[1]);
const faults = {};
for (const [name, check] of Object.entries(checks)) {
  try { check(); faults[name] = null; } catch (error) { faults[name] = String(error); }
}
console.log(JSON.stringify(faults));
"""
MAX_LINES, MAX_COLUMNS = 300, 100


def test_pure_functions_keep_their_promises() -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("there is no node here; the tests in the browser run the same checks")
    command = [node, "--input-type=module", "--eval", RUN, CHECKS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    faults = json.loads(done.stdout)
    assert len(faults) > 10
    assert {name: fault for name, fault in faults.items() if fault} == {}


def test_scripts_stay_short() -> None:
    assert len(SCRIPTS) > 10
    lines = {path: path.read_text().splitlines() for path in SCRIPTS}
    assert {path for path, of in lines.items() if len(of) > MAX_LINES} == set()
    assert {path for path, of in lines.items() if max(map(len, of)) > MAX_COLUMNS} == set()


def test_scripts_import_only_what_is_there_and_use_it() -> None:
    wrong = []
    for path in SCRIPTS:
        text = path.read_text()
        for names, source in re.findall(r"import (?:\{([^}]*)\} from )?\"(.*?)\";", text):
            target = (path.parent / source).resolve()
            if not target.is_relative_to(PAGE) or not target.is_file():
                wrong.append((path.name, source))
            for name in filter(None, (part.strip() for part in names.split(","))):
                is_used = len(re.findall(rf"\b{name}\b", text)) > 1
                if not is_used or not re.search(rf"export .*\b{name}\b", target.read_text()):
                    wrong.append((path.name, name))
    assert wrong == []


def test_nothing_of_the_page_comes_from_elsewhere() -> None:
    """No other host, no inline script or style: the policy of the service would block them."""
    files = [path for path in PAGE.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg")]
    text = "".join(path.read_text() for path in files)
    text = re.sub(r"<code>.*?</code>", "", text)  # what people are told to type
    namespace = "http://www.w3.org/2000/svg"
    assert set(re.findall(r"https?://[^\"'\s)]+", text)) == {namespace}
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|<script>|\son\w+=", page)
    assert "eval(" not in text
    assert "innerHTML" not in text
