"""The client of the conformance suite: `conformance.py PROGRAM URL` lets the agent, under a scripted model, ask the
suite's server what the scenario wants asked, with a person behind it who takes the defaults of every form, and signs in
where the agent says that somebody must."""

import json
import os
import subprocess
import sys
import urllib.request

from agent import PATIENCE, agent

# What a scenario wants called. What is not here wants a handshake and a list.
CALLS = {
    "tools_call": [("add_numbers", {"a": 5, "b": 3})],
    "elicitation-sep1034-client-defaults": [("test_client_elicitation_defaults", {})],
    "sse-retry": [("test_reconnection", {})],
    "http-standard-headers": [("test_headers", {})],
    "http-invalid-tool-headers": [("valid_tool", {"region": "us"})],
    "sep-2322-client-request-state": [
        ("test_mrtr_echo_state", {}),
        ("test_mrtr_no_state", {}),
        ("test_mrtr_unrelated", {}),
        ("test_mrtr_no_result_type", {}),
    ],
}


SCENARIO = os.environ.get("MCP_CONFORMANCE_SCENARIO", "")
CONTEXT = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
# The document that the suite wants a client to be known by; that of openoxide's owner, if they have one.
DOCUMENT = "https://conformance-test.local/client-metadata.json"
# Times that a person signs in before they give up.
PATIENT = 3


def calls() -> list:
    wanted = [(call["name"], call["arguments"]) for call in CONTEXT.get("toolCalls", [])]
    return wanted or CALLS.get(SCENARIO, [])


def answered(message: dict) -> dict | None:
    """What a person says to a form."""
    if message.get("method") != "elicitation/create":
        return None
    result = {"action": "accept", "content": {}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def sign_in(one) -> None:
    """What a person does where the agent says so: they go where they are sent, and on from there."""
    login = subprocess.Popen([one.program, "mcp", "login", "s"], cwd=one.work, env=one.env, text=True,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for line in login.stderr:
        print(line, end="")
        if line.startswith("http"):
            urllib.request.urlopen(line.strip(), timeout=PATIENCE).read()
    login.wait(PATIENCE)


def sign_in_where_wanted(one) -> None:
    tools = [("s__test-tool", {})]
    for _ in range(PATIENT):
        ran = subprocess.run(one.command(tools, "-m", "go", "--output", "stream-json"), cwd=one.work, env=one.env,
                             capture_output=True, text=True, timeout=PATIENCE)
        said = ran.stdout + ran.stderr
        print(said)
        if "openoxide mcp login s" not in said:
            return
        sign_in(one)


def main(program: str, url: str) -> None:
    newer = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "") >= "2026-07-28"
    protocol = "modern" if newer else "legacy"
    config = f"[mcp_servers.s]\nurl = '{url}'\nprotocol = '{protocol}'\nauto = ['*']\nstartup_seconds = 40\n"
    if SCENARIO == "auth/basic-cimd":
        config += f"oauth = {{ client_id = '{DOCUMENT}' }}\n"
    elif SCENARIO == "auth/pre-registration":
        config += f"oauth = {{ client_id = '{CONTEXT['client_id']}', client_secret_env = 'CLIENT_SECRET' }}\n"
    one, folder = agent(program, config)
    one.env["CLIENT_SECRET"] = CONTEXT.get("client_secret", "")
    with folder:
        if SCENARIO.startswith("auth/"):
            return sign_in_where_wanted(one)
        command = one.command([(f"s__{name}", arguments) for name, arguments in calls()], "mcp-server")
        server = subprocess.Popen(command, cwd=one.work, env=one.env, text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)

        def say(message: dict) -> None:
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            server.stdin.flush()

        say({"id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}},
            "clientInfo": {"name": "conformance", "version": "1"}}})
        say({"method": "notifications/initialized"})
        arguments = {"prompt": "go", "wait_seconds": PATIENCE}
        say({"id": 1, "method": "tools/call", "params": {"name": "openoxide", "arguments": arguments}})
        for line in server.stdout:
            message = json.loads(line)
            if answer := answered(message):
                say(answer)
            if message.get("id") == 1 and "result" in message:
                print(message["result"]["content"][0]["text"])
                break
        server.stdin.close()
        server.wait(PATIENCE)


main(sys.argv[1], sys.argv[2])
