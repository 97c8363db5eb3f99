"""The client of the conformance suite: `conformance.py PROGRAM URL` lets the agent, under a scripted model, ask the
suite's server what the scenario wants asked, with a person behind it who takes the defaults of every form."""

import json
import os
import subprocess
import sys

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


def calls() -> list:
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    wanted = [(call["name"], call["arguments"]) for call in context.get("toolCalls", [])]
    return wanted or CALLS.get(os.environ.get("MCP_CONFORMANCE_SCENARIO", ""), [])


def answered(message: dict) -> dict | None:
    """What a person says to a form."""
    if message.get("method") != "elicitation/create":
        return None
    result = {"action": "accept", "content": {}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def main(program: str, url: str) -> None:
    newer = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "") >= "2026-07-28"
    protocol = "modern" if newer else "legacy"
    one, folder = agent(program, f"[mcp_servers.s]\nurl = '{url}'\nprotocol = '{protocol}'\nauto = ['*']\nstartup_seconds = 40\n")
    with folder:
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
