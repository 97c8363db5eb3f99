"""The Python SDK of MCP, in both generations of the protocol: `python_sdk.py PROGRAM [http]`."""

import asyncio
import sys

from mcp import Client, MCPError, types
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from place import TOOLS, assert_made, assert_rising, place

# What each mode of the client comes to.
MODES = {"legacy": "2025-11-25", "auto": "2026-07-28"}


OVER_HTTP = sys.argv[2:] == ["http"]


def connect(here, mode, **options):
    if OVER_HTTP:
        service = here.serve()
        http = create_mcp_http_client(headers=service.headers)
        return Client(streamable_http_client(service.url, http_client=http), mode=mode, **options)
    parameters = StdioServerParameters(command=here.command, args=here.args, env=here.env, cwd=here.work)
    return Client(stdio_client(parameters), mode=mode, **options)


async def task(mode: str) -> None:
    progress = []

    async def note(value, total, message):
        progress.append(value)

    with place("task") as here:
        async with connect(here, mode) as client:
            assert client.protocol_version == MODES[mode], client.protocol_version
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == TOOLS, tools
            first = await client.call_tool("openoxide", {"prompt": "make it"}, progress_callback=note)
            outcome = first.structured_content
            assert not first.is_error, first
            assert_made(here, outcome)
            assert_rising(progress)
            assert "status: completed" in first.content[0].text, first
            await resources(client, outcome["thread_id"])
        # Another process goes on with the thread.
        async with connect(here, mode) as client:
            again = await client.call_tool("openoxide-reply", {"thread_id": outcome["thread_id"], "prompt": "go on"})
            assert again.structured_content["content"] == "Second turn.", again
            wrong = await client.call_tool("openoxide", {"prompt": 5})
            assert wrong.is_error and "prompt" in wrong.content[0].text, wrong


async def resources(client, thread_id: str) -> None:
    listed = [str(resource.uri) for resource in (await client.list_resources()).resources]
    assert listed == ["openoxide://threads", f"openoxide://threads/{thread_id}"], listed
    diff = await client.read_resource(f"openoxide://threads/{thread_id}/diff")
    assert "+hi" in diff.contents[0].text, diff


async def asked(mode: str) -> None:
    """A client that declares elicitation is asked, and its answer counts."""
    for action, written in (("accept", True), ("decline", False), ("cancel", False)):
        questions = []

        async def answer(context, params):
            questions.append(params)
            content = {"decision": "approve"} if action == "accept" else None
            return types.ElicitResult(action=action, content=content)

        with place("task") as here:
            async with connect(here, mode, elicitation_callback=answer) as client:
                arguments = {"prompt": "make it", "approval_policy": "untrusted"}
                result = await client.call_tool("openoxide", arguments)
                assert result.structured_content["status"] == "completed", result
                assert len(questions) == 2, questions
                assert here.has("made.txt") == written, result
                assert bool(result.structured_content.get("denied")) != written, result


async def late(mode: str) -> None:
    """A client that runs out of time does not stop the turn; the next call picks it up."""
    with place("late") as here:
        async with connect(here, mode) as client:
            try:
                await client.call_tool("openoxide", {"prompt": "sleep"}, read_timeout_seconds=1)
                raise AssertionError("it did not run out of time")
            except MCPError as error:
                assert "timed out" in str(error), error
            result = await client.call_tool("openoxide-reply", {"thread_id": "last"})
            assert result.structured_content["content"] == "I slept.", result
            assert here.has("slept.txt")


async def main() -> None:
    for mode in MODES:
        await task(mode)
        # Over HTTP a client of 2026 closes its stream when it runs out of time, which cancels.
        if not (OVER_HTTP and mode == "auto"):
            await late(mode)
        await asked(mode)
    road = " over http" if OVER_HTTP else ""
    print(f"python sdk{road}: tasks, resources, time-outs and questions in {', '.join(MODES)}")


asyncio.run(asyncio.wait_for(main(), 120))
