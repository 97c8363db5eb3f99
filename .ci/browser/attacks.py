"""Pages that mean harm, in a real browser, against the network service; and the same pages where the owner lets them in.

Three pages run one script (`page.html`). The first rebinds its name: it is loaded as `http://evil.test:PORT` from a server
of the attacker, which then leaves the port to the service, so that what the browser holds for the page's own host is us.
The second comes from another port, the third from a sandbox, whose origin is `null`.
"""

import contextlib
import http.server
import json
import os
import pathlib
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "clients"))
from place import place  # noqa: E402

PAGE = pathlib.Path(__file__).with_name("page.html").read_bytes()
TOKEN = "a-token-that-the-page-found-0123456789"
PATIENCE = 30
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --no-proxy-server""".split()

HOST = "403 this host is not served here; its owner may name it with `--public-host`"
PATHS = ["healthz", "metrics", "call", "simple", "blind"]
SOCKETS = ["socket", "mcp"]
ATTACKS = PATHS + SOCKETS
# What a page sees that is refused: by its name it may read why, from elsewhere it may read nothing.
REBOUND = dict.fromkeys(PATHS, HOST) | dict.fromkeys(SOCKETS, "refused")
ELSEWHERE = dict.fromkeys(PATHS, "unreadable") | dict.fromkeys(SOCKETS, "refused")


class Attacker(http.server.ThreadingHTTPServer):
    """Serves the page and hears what it saw. Nothing that a browser opened to it outlives it."""

    daemon_threads = True

    def __init__(self):
        self.open, self.served, self.ready, self.seen = [], threading.Event(), threading.Event(), queue.Queue()
        super().__init__(("127.0.0.1", 0), Visit)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def process_request(self, request, address):
        self.open.append(request)
        super().process_request(request, address)

    def leave(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Visit(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/ready":
            self.server.ready.wait(PATIENCE)
            return self.answer(b"")
        sandbox = [("Content-Security-Policy", "sandbox allow-scripts")] if self.path.startswith("/null") else []
        self.answer(PAGE, *sandbox)
        self.server.served.set()

    def do_POST(self):
        self.server.seen.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer(b"")

    def answer(self, body: bytes, *headers: tuple) -> None:
        self.send_response(200)
        # All pages report here, whatever they were loaded as.
        common = [("Content-Type", "text/html"), ("Content-Length", len(body)), ("Access-Control-Allow-Origin", "*")]
        for name, value in [*common, *headers]:
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def browser(url: str):
    """Chromium at `url`; it and all that it started are gone at the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, open(f"{folder}/log", "w") as log:
        process = subprocess.Popen(
            ["chromium", *FLAGS, f"--user-data-dir={folder}/data", "--host-resolver-rules=MAP evil.test 127.0.0.1", url],
            env={"PATH": os.environ["PATH"], "HOME": folder, "TMPDIR": folder},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        except queue.Empty:
            sys.exit(f"the page at {url} told nothing:\n{pathlib.Path(log.name).read_text()}")
        finally:
            # Its own session, so its helpers too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def visit(attacker: Attacker, page: str, at: str, then=None) -> dict:
    """What `page` saw when it attacked the service at `at`; `then` is done when it is loaded."""
    told = urllib.parse.urlencode({"at": at, "tell": f"http://127.0.0.1:{attacker.port}", "token": TOKEN})
    with browser(f"{page}?{told}"):
        if then:
            then()
        attacker.ready.set()
        return attacker.seen.get(timeout=PATIENCE)


class Victim:
    """The service on a port that it gets from the attacker."""

    def __init__(self, here, flags: list):
        self.here, self.flags, self.process = here, flags, None
        self.log = here.work.parent / "log"

    def start(self, port: int) -> None:
        door, *rest = self.here.args
        self.process = subprocess.Popen(
            [self.here.command, door, "--http", f"127.0.0.1:{port}", *rest, *self.flags],
            env={**self.here.env, "OPENOXIDE_TOKENS": f"page:{TOKEN}"},
            cwd=self.here.work,
            stderr=self.log.open("w"),
        )
        until(lambda: "serves MCP at" in self.log.read_text(), "the service listens")

    def refusals(self, why: str) -> int:
        return len(re.findall(f"refused a request {why}", self.log.read_text()))

    def threads(self) -> int:
        command = [self.here.command, "threads", "list", "--json"]
        listed = subprocess.run(command, env=self.here.env, cwd=self.here.work, capture_output=True, text=True, check=True)
        return len(json.loads(listed.stdout))

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            assert self.process.wait(PATIENCE) == 0, self.log.read_text()


def until(holds, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)


@contextlib.contextmanager
def attacked(flags):
    """What each page saw of a service with `flags(rebinding port, other port)`, and the service after it."""
    rebinding, other = Attacker(), Attacker()
    evil, ours = f"evil.test:{rebinding.port}", f"127.0.0.1:{rebinding.port}"
    with place("task") as here:
        victim = Victim(here, flags(rebinding.port, other.port))

        def rebind():
            assert rebinding.served.wait(PATIENCE), "the page is loaded"
            rebinding.leave()
            victim.start(rebinding.port)

        try:
            yield victim, {
                "rebound": visit(other, f"http://{evil}/page", evil, rebind),
                "elsewhere": visit(other, f"http://127.0.0.1:{other.port}/page", ours),
                "null": visit(other, f"http://127.0.0.1:{other.port}/null", ours),
            }
        finally:
            other.leave()
            victim.stop()


def check(found, expected, what: str) -> None:
    assert found == expected, f"{what}: found {found}, expected {expected}"


def refused(name: str, flags: list) -> None:
    with attacked(lambda *_: flags) as (victim, seen):
        for page, expected in [("rebound", REBOUND), ("elsewhere", ELSEWHERE), ("null", ELSEWHERE)]:
            check(seen[page], expected, f"{name}: {page}")
        # A page cannot tell a refusal from an answer that it may not read, the service's log can.
        check(victim.refusals("for another host"), len(ATTACKS), f"{name}: refused by Host")
        check(victim.refusals("from a web page"), 2 * len(ATTACKS), f"{name}: refused by Origin")
        check((victim.threads(), victim.here.has("made.txt")), (0, False), f"{name}: threads, a file")
    print(f"browser: {name}: {len(ATTACKS)} attacks of 3 pages are refused and leave nothing")


def let_in() -> None:
    """The same script where the owner named the pages: so a refusal above is one of the door."""

    def flags(rebinding, other):
        pages = f"server.origins=['http://evil.test:{rebinding}', 'http://127.0.0.1:{other}']"
        return ["--no-auth", "--public-host", "evil.test", "-c", pages]

    with attacked(flags) as (victim, seen):
        rebound = seen["rebound"]
        check(rebound["healthz"], "200 ok", "a page that is let in")
        assert rebound["metrics"].startswith("200 "), rebound
        check([rebound[way] for way in ["call", *SOCKETS]], ["completed"] * 3, "a page that is let in calls")
        # No answer allows another origin to read it, also where that is let in; sockets need no leave.
        check(seen["elsewhere"], ELSEWHERE | dict.fromkeys(SOCKETS, "completed"), "a page of another port that is let in")
        check(seen["null"], ELSEWHERE, "a page that is not let in")
        check(victim.refusals("from a web page"), len(ATTACKS), "only that page is refused")
        check((victim.threads(), victim.here.has("made.txt")), (5, True), "threads, a file")
    print("browser: the same pages come in where the owner names them")


# However this ends, nothing that it started stays.
signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
refused("without tokens", ["--no-auth"])
refused("with a token that the pages know", [])
let_in()
