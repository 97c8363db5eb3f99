"""LangChain's adapters, which start a new server for each call, with a scripted chat model."""

import asyncio

from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_mcp_adapters.client import MultiServerMCPClient

from place import TOOLS, assert_made, place


def calls(name: str, arguments: dict) -> AIMessage:
    return AIMessage(content="", tool_calls=[{"name": name, "args": arguments, "id": f"call_{name}"}])


def client(here) -> MultiServerMCPClient:
    stdio = {"transport": "stdio", "command": here.command, "args": here.args, "env": here.env, "cwd": str(here.work)}
    return MultiServerMCPClient({"openoxide": stdio})


async def converse(tools: list, replies: list[AIMessage]) -> list[ToolMessage]:
    """The plainest agent: what the model calls is called, until it only speaks. Gives the results."""
    model = FakeMessagesListChatModel(responses=replies)
    by_name = {tool.name: tool for tool in tools}
    messages = [HumanMessage("Have it made.")]
    results = []
    while True:
        said = await model.ainvoke(messages)
        messages.append(said)
        if not said.tool_calls:
            return results
        for call in said.tool_calls:
            results.append(await by_name[call["name"]].ainvoke({**call, "type": "tool_call"}))
            messages.append(results[-1])


def text(result: ToolMessage) -> str:
    return "".join(block["text"] for block in result.content) if isinstance(result.content, list) else result.content


async def task() -> None:
    with place("task") as here:
        tools = await client(here).get_tools()
        assert [tool.name for tool in tools] == TOOLS, tools
        replies = [
            calls("openoxide", {"prompt": "make it"}),
            # Another process: the thread is found on the disk.
            calls("openoxide-reply", {"thread_id": "last", "prompt": "go on"}),
            AIMessage("Delegated."),
        ]
        first, second = await converse(tools, replies)
        assert_made(here, first.artifact["structured_content"])
        assert "Made it." in text(first) and "status: completed" in text(first), first
        assert "Second turn." in text(second), second


async def late() -> None:
    """A call that does not wait ends its process and so interrupts its turn; the next call resumes it."""
    with place("late") as here:
        tools = await client(here).get_tools()
        replies = [
            calls("openoxide", {"prompt": "sleep", "wait_seconds": 0.2}),
            calls("openoxide-reply", {"thread_id": "last"}),
            AIMessage("Delegated."),
        ]
        first, second = await converse(tools, replies)
        assert "status: running" in text(first), first
        assert "I slept." in text(second), second


async def main() -> None:
    await task()
    await late()
    print("langchain-mcp-adapters: a task, a reply in another process, and a turn that was resumed in a third")


asyncio.run(asyncio.wait_for(main(), 120))
