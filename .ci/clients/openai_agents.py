"""An agent of the OpenAI Agents SDK that delegates to the server, with a scripted model on its side too."""

import asyncio
import json

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from place import TOOLS, place

set_tracing_disabled(True)


class Scripted(Model):
    """Makes these calls one after the other, then says so. Keeps what it is shown."""

    def __init__(self, *calls):
        self.calls = list(calls)
        self.seen = []
        self.tools = []

    async def get_response(self, system_instructions, input, model_settings, tools, *others, **more):
        self.tools = [tool.name for tool in tools]
        self.seen = [item["output"] for item in input if isinstance(item, dict) and "output" in item]
        if self.calls:
            name, arguments = self.calls.pop(0)
            output = ResponseFunctionToolCall(
                type="function_call", call_id=f"call_{len(self.calls)}", name=name, arguments=json.dumps(arguments)
            )
        else:
            text = ResponseOutputText(type="output_text", text="Delegated.", annotations=[])
            output = ResponseOutputMessage(
                id="m", type="message", role="assistant", status="completed", content=[text]
            )
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *arguments, **more):
        raise NotImplementedError


async def delegate(here, model: Model, **options) -> list[str]:
    """What the model on the client's side was shown of each call."""
    parameters = {"command": here.command, "args": here.args, "env": here.env, "cwd": here.work}
    async with MCPServerStdio(params=parameters, **options) as server:
        agent = Agent(name="coordinator", instructions="Delegate.", model=model, mcp_servers=[server])
        result = await Runner.run(agent, "Have it made.")
        assert result.final_output == "Delegated.", result
    assert model.tools == TOOLS, model.tools
    return [output if isinstance(output, str) else json.dumps(output) for output in model.seen]


async def task() -> None:
    model = Scripted(
        ("openoxide", {"prompt": "make it"}),
        ("openoxide-reply", {"thread_id": "last", "prompt": "go on"}),
    )
    with place("task") as here:
        first, second = await delegate(here, model, client_session_timeout_seconds=60)
        for said in ("Made it.", "thread_id: ", "status: completed", "made.txt (added +1"):
            assert said in first, first
        assert "Second turn." in second, second
        assert here.read("made.txt") == "hi\n"


async def structured() -> None:
    model = Scripted(("openoxide", {"prompt": "make it"}))
    with place("task") as here:
        (shown,) = await delegate(here, model, client_session_timeout_seconds=60, use_structured_content=True)
        for said in ("thread_id", "completed", "made.txt", "Made it."):
            assert said in shown, shown


async def late() -> None:
    """The SDK gives up after 5 seconds unless told otherwise; here it is told 1."""
    model = Scripted(
        ("openoxide", {"prompt": "sleep"}),
        ("openoxide-reply", {"thread_id": "last", "wait_seconds": 0}),
    )
    with place("late") as here:
        first, second = await delegate(here, model, client_session_timeout_seconds=1)
        # The SDK keeps the reason from the model.
        assert "error" in first and "status" not in first, first
        assert "status: running" in second, second
        # The next agent, with more patience, gets what the first one asked for. The turn was stopped with its server.
        model = Scripted(("openoxide-reply", {"thread_id": "last"}))
        (last,) = await delegate(here, model, client_session_timeout_seconds=60)
        assert "I slept." in last, last


async def main() -> None:
    await task()
    await structured()
    await late()
    print("openai-agents: a task, a reply, structured content, and a time-out that was picked up")


asyncio.run(asyncio.wait_for(main(), 120))
