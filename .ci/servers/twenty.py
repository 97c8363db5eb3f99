"""What twenty external servers add to the time until the first request reaches the model: `twenty.py PROGRAM`."""

import http.server
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = os.path.realpath(sys.argv[1])
ROUNDS = 9
# Milliseconds. What is wanted is 50; a busy machine gets some more.
MOST = 150


class Model(http.server.BaseHTTPRequestHandler):
    """Notes when it is asked, and says no."""

    asked = []

    def do_POST(self):
        self.asked.append(time.monotonic())
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"error": {"message": "no", "type": "invalid_request_error"}}'
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def took(folder: pathlib.Path, url: str) -> float:
    """Milliseconds from the start of the program to the request."""
    env = {"OPENOXIDE_HOME": str(folder / "home"), "PATH": os.environ["PATH"], "OPENAI_BASE_URL": url}
    Model.asked.clear()
    begun = time.monotonic()
    subprocess.run([PROGRAM, "-m", "x"], cwd=folder / "work", env=env, capture_output=True, timeout=60)
    return (Model.asked[0] - begun) * 1000


def median(count: int, url: str) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "work").mkdir()
        (folder / "home").mkdir()
        servers = (f"[mcp_servers.s{n}]\ncommand = {json.dumps(PROGRAM)}\nargs = ['mcp-server']\n" for n in range(count))
        (folder / "home/config.toml").write_text("".join(servers))
        # The first time they are waited for, since nobody knows what they offer.
        took(folder, url)
        return statistics.median(took(folder, url) for _ in range(ROUNDS))


model = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=model.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{model.server_port}/v1"
without, with_them = median(0, url), median(20, url)
print(f"the first request: {without:.0f} ms without external servers, {with_them:.0f} ms with twenty")
assert with_them - without < MOST
