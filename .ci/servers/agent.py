"""The agent under a scripted model, with external servers of its own: an empty project and home, and what each call gave."""

import json
import os
import pathlib
import subprocess
import tempfile

# What a turn may take, in seconds; servers in Node and Python take a second to start.
PATIENCE = 90


class Agent:
    """A project and a home, with the external servers of `config` (TOML)."""

    def __init__(self, program: str, folder: str, config: str):
        self.program = program
        self.folder = pathlib.Path(folder)
        self.work = self.folder / "work"
        self.work.mkdir()
        home = self.folder / "home"
        home.mkdir()
        (home / "config.toml").write_text(config)
        self.env = {
            "OPENOXIDE_HOME": str(home),
            "HOME": str(self.folder),
            "PATH": os.environ["PATH"],
            "OPENAI_API_KEY": "sk-must-not-be-seen",
        }

    def command(self, calls: list, *words: str) -> list:
        """The program with a model that makes `calls`, one after the other, and is done."""
        samples = [{"calls": [{"name": name, "arguments": arguments}]} for name, arguments in calls]
        recording = self.folder / "recording.json"
        recording.write_text(json.dumps({"model": "script", "samples": [*samples, {"text": "Done."}]}))
        return [self.program, *words, "--model", f"recorded:{recording}"]

    def run(self, calls: list) -> list:
        """What each call gave to the model."""
        command = self.command(calls, "-m", "go", "--output", "stream-json")
        ran = subprocess.run(command, cwd=self.work, env=self.env, capture_output=True, text=True, timeout=PATIENCE)
        assert ran.returncode == 0, (ran.stdout, ran.stderr)
        events = [json.loads(line) for line in ran.stdout.splitlines()]
        assert events[-1]["outcome"]["status"] == "completed", events[-1]
        items = [event["item"] for event in events if event["type"] == "item.completed"]
        outputs = [item for item in items if item["type"] == "tool_output"]
        assert len(outputs) == len(calls), (outputs, ran.stderr)
        return outputs


def agent(program: str, config: str) -> tuple:
    """An agent, and the folder that goes with it when it is closed."""
    folder = tempfile.TemporaryDirectory()
    return Agent(program, folder.name, config), folder
