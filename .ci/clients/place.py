"""Where a Python client meets the server: an empty project and home, and a recording in place of the model."""

import contextlib
import os
import pathlib
import sys
import tempfile

BINARY = str(pathlib.Path(sys.argv[1]).resolve())
RECORDINGS = pathlib.Path(__file__).parent / "recordings"
TOOLS = ["openoxide", "openoxide-reply", "openoxide-query"]


class Place:
    """One empty project, and how a server in it is started."""

    def __init__(self, folder: pathlib.Path, recording: str):
        self.work = folder / "work"
        self.work.mkdir()
        self.command = BINARY
        self.args = ["mcp-server", "--model", f"recorded:{RECORDINGS / recording}.json"]
        self.env = {"OPENOXIDE_HOME": str(folder / "home"), "PATH": os.environ["PATH"]}

    def has(self, name: str) -> bool:
        return (self.work / name).exists()

    def read(self, name: str) -> str:
        return (self.work / name).read_text()


@contextlib.contextmanager
def place(recording: str):
    with tempfile.TemporaryDirectory() as folder:
        yield Place(pathlib.Path(folder), recording)


def assert_made(here: Place, outcome: dict) -> None:
    """The outcome of `task.json`, and what it left."""
    assert outcome["status"] == "completed", outcome
    assert outcome["content"] == "Made it.", outcome
    assert [change["path"] for change in outcome["changes"]] == ["made.txt"], outcome
    assert outcome["commands"][0]["exit_code"] == 0, outcome
    assert here.read("made.txt") == "hi\n"


def assert_rising(values: list) -> None:
    assert values and values == sorted(set(values)), values
