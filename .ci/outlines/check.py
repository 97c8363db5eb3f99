"""What the outline of each package must show: what every reader of it knows, early, with true lines, within its budget."""

import json
import pathlib
import re
import subprocess
import sys
import time

PROGRAM, SCRATCH = sys.argv[1], pathlib.Path(sys.argv[2])
BUDGET = 2000

# Of each package: definitions that must be shown.
EXPECTED = {
    "rust": ["pub struct Glob", "pub struct GlobSet", "pub struct GlobBuilder"],
    "python": ["class Flask", "class Blueprint", "def render_template"],
    "npm": ["function createApplication"],
}


def outline(folder: pathlib.Path, arguments: dict) -> str:
    calls = [{"name": "outline", "arguments": arguments}]
    recording = SCRATCH / "recording.json"
    recording.write_text(json.dumps({"model": "outline", "samples": [{"calls": calls}, {"text": "Seen."}]}))
    command = [PROGRAM, "--model", f"recorded:{recording}", "--sandbox", "read-only", "--output", "stream-json", "-m", "Look."]
    env = {"OPENOXIDE_HOME": str(SCRATCH / "home"), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran
    for line in ran.stdout.splitlines():
        event = json.loads(line)
        item = event.get("item", {})
        if item.get("type") == "tool_output":
            return item["content"]
    raise AssertionError(ran.stdout)


def assert_true(folder: pathlib.Path, text: str) -> int:
    """Every line that is told says what stands there."""
    path, checked = None, 0
    for line in text.splitlines():
        if title := re.fullmatch(r"(\S.*) \(\d+ lines\)", line):
            path = folder / title[1]
        elif shown := re.fullmatch(r" *(\d+): +(.*)", line):
            there = path.read_text(errors="replace").splitlines()[int(shown[1]) - 1].strip()
            begin = there[: min(len(there), 20)].rstrip("{:;=( ")
            assert shown[2].startswith(begin[:len(shown[2])]), (path, line, there)
            checked += 1
    return checked


for kind, expected in EXPECTED.items():
    folder = SCRATCH / kind
    began = time.monotonic()
    text = outline(folder, {"budget": BUDGET})
    first = time.monotonic() - began
    assert len(text) <= 4 * BUDGET, len(text)
    for definition in expected:
        assert definition in text, (kind, definition, text)
    checked = assert_true(folder, text)
    assert checked > 10, text
    again = outline(folder, {"budget": BUDGET})
    assert again == text, (kind, again)
    print(f"{kind}: {checked} definitions in {len(text)} bytes after {first:.2f} s, the same again")
print("outlines of a crate, a Python package and an npm package")
