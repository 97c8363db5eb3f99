"""Where a Python client meets the server: an empty project and home, and a recording in place of the model."""

import contextlib
import os
import pathlib
import re
import subprocess
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
        self.service = None
        self.env = {"OPENOXIDE_HOME": str(folder / "home"), "PATH": os.environ["PATH"]}

    def serve(self) -> "Service":
        """The network service of this place, started when it is first wanted."""
        self.service = self.service or Service(self)
        return self.service

    def has(self, name: str) -> bool:
        return (self.work / name).exists()

    def read(self, name: str) -> str:
        return (self.work / name).read_text()


class Service:
    """The network service, and what lets a client in."""

    def __init__(self, here: Place):
        token = "a-token-of-the-clients-0123456789"
        door, *rest = here.args
        self.process = subprocess.Popen(
            [here.command, door, "--http", "127.0.0.1:0", *rest],
            env={**here.env, "OPENOXIDE_TOKENS": f"clients:{token}"},
            cwd=here.work,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stderr.readline()
        self.url = re.search(r"http://\S+/mcp", line).group()
        self.headers = {"authorization": f"Bearer {token}"}

    def stop(self) -> None:
        self.process.terminate()
        self.process.stderr.read()
        assert self.process.wait(30) == 0


@contextlib.contextmanager
def place(recording: str):
    with tempfile.TemporaryDirectory() as folder:
        here = Place(pathlib.Path(folder), recording)
        try:
            yield here
        finally:
            if here.service:
                here.service.stop()


def assert_made(here: Place, outcome: dict) -> None:
    """The outcome of `task.json`, and what it left."""
    assert outcome["status"] == "completed", outcome
    assert outcome["content"] == "Made it.", outcome
    assert [change["path"] for change in outcome["changes"]] == ["made.txt"], outcome
    assert outcome["commands"][0]["exit_code"] == 0, outcome
    assert here.read("made.txt") == "hi\n"


def assert_rising(values: list) -> None:
    assert values and values == sorted(set(values)), values
