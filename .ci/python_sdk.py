"""One session of the Python `mcp` SDK against the binary, in both generations of the protocol."""

import asyncio
import json
import os
import pathlib
import sys
import tempfile

from mcp import Client, types
from mcp.client.stdio import StdioServerParameters, stdio_client

BINARY = str(pathlib.Path(sys.argv[1]).resolve())

RECORDING = {
    "model": "sdk",
    "samples": [
        {"text": "I make the file.", "calls": [{"name": "write_file", "arguments": {"path": "made.txt", "content": "hi\n"}}]},
        {"calls": [{"name": "shell", "arguments": {"command": "sh -c 'cat made.txt'"}}]},
        {"text": "Made it."},
        {"text": "Second turn."},
    ],
}


def server(folder: pathlib.Path) -> StdioServerParameters:
    recording = folder / "replies.json"
    recording.write_text(json.dumps(RECORDING))
    work = folder / "work"
    work.mkdir(exist_ok=True)
    return StdioServerParameters(
        command=BINARY,
        args=["mcp-server", "--model", f"recorded:{recording}"],
        env={"OPENOXIDE_HOME": str(folder / "home"), "PATH": os.environ["PATH"]},
        cwd=work,
    )


async def session(mode: str, version: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        parameters = server(folder)
        progress = []

        async def note(value, total, message):
            progress.append((value, message))

        async with Client(stdio_client(parameters), mode=mode) as client:
            assert client.protocol_version == version, client.protocol_version
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == ["openoxide", "openoxide-reply", "openoxide-query"], tools
            first = await client.call_tool("openoxide", {"prompt": "make it"}, progress_callback=note)
            outcome = first.structured_content
            assert not first.is_error and outcome["status"] == "completed", first
            assert [change["path"] for change in outcome["changes"]] == ["made.txt"], outcome
            assert outcome["commands"][0]["exit_code"] == 0, outcome
            assert (folder / "work" / "made.txt").read_text() == "hi\n"
            values = [value for value, _ in progress]
            assert values and values == sorted(set(values)), progress
        # Another process goes on with the thread.
        async with Client(stdio_client(parameters), mode=mode) as client:
            again = await client.call_tool("openoxide-reply", {"thread_id": outcome["thread_id"], "prompt": "go on"})
            assert again.structured_content["content"] == "Second turn.", again
            wrong = await client.call_tool("openoxide", {"prompt": 5})
            assert wrong.is_error and "prompt" in wrong.content[0].text, wrong


async def asked() -> None:
    """A client that declares elicitation is asked, and its answer counts."""
    for action, written in (("accept", True), ("decline", False), ("cancel", False)):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            questions = []

            async def answer(context, params):
                questions.append(params)
                content = {"decision": "approve"} if action == "accept" else None
                return types.ElicitResult(action=action, content=content)

            async with Client(stdio_client(server(folder)), mode="legacy", elicitation_callback=answer) as client:
                arguments = {"prompt": "make it", "approval_policy": "untrusted"}
                result = await client.call_tool("openoxide", arguments)
                assert result.structured_content["status"] == "completed", result
                assert len(questions) == 2, questions
                assert (folder / "work" / "made.txt").exists() == written, result
                assert bool(result.structured_content.get("denied")) != written, result


async def main() -> None:
    await session("legacy", "2025-11-25")
    await session("auto", "2026-07-28")
    await asked()
    print("python sdk: 5 sessions as expected")


asyncio.run(asyncio.wait_for(main(), 120))
