"""A caller with hands of its own (`--workspace-tools`): finds, analyses and runs, without a model, in both generations."""

import asyncio

from mcp import Client, types
from mcp.client.stdio import StdioServerParameters, stdio_client

from place import TOOLS, assert_rising, place

HANDS = ["search_codebase", "run_command", "analyze_file"]

BROKEN = '''"""Sums."""

import sys


# TODO: the last one is left out
def total(values):
    result = 0
    for value in values[:-1]:
        if value and value is not None:
            result += value
    return result


if __name__ == "__main__":
    print(total([int(word) for word in sys.argv[1:]]))
'''


def connect(here, mode, *flags, **options):
    # No recording: nothing of this needs a model.
    args = ["mcp-server", "--workspace-tools", *flags]
    parameters = StdioServerParameters(command=here.command, args=args, env=here.env, cwd=here.work)
    return Client(stdio_client(parameters), mode=mode, **options)


async def found_analysed_and_run(mode: str) -> None:
    progress = []

    async def note(value, total, message):
        progress.append(value)

    with place("task") as here:
        (here.work / "sums.py").write_text(BROKEN)
        async with connect(here, mode) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert list(tools) == TOOLS + HANDS, tools
            assert [tools[name].annotations.read_only_hint for name in HANDS] == [True, False, True], tools
            found = await client.call_tool("search_codebase", {"pattern": r"TODO|FIXME", "glob": "*.py"})
            where = found.structured_content["matches"]
            assert [(match["path"], match["line"]) for match in where] == [("sums.py", 6)], found
            analysed = await client.call_tool("analyze_file", {"path": where[0]["path"]})
            report = analysed.structured_content
            assert report["language"] == "Python" and report["todos"][0]["line"] == 6, report
            function = report["functions"][0]
            assert (function["name"], function["line"], function["complexity"]) == ("total", 7, 4), report
            assert report["imports"] == [{"line": 3, "text": "import sys"}], report
            # The client checks each result against the schema that was listed.
            ran = await client.call_tool("run_command", {"command": "python3 sums.py 1 2 3"}, progress_callback=note)
            assert ran.structured_content["output"] == "3\n", ran
            assert ran.structured_content["exit_code"] == 0, ran
            assert_rising(progress)
            failed = await client.call_tool("run_command", {"command": "python3 sums.py x"})
            assert failed.structured_content["exit_code"] == 1 and not failed.is_error, failed
            refused = await client.call_tool("analyze_file", {"path": "/etc/passwd"})
            assert refused.is_error and "outside" in refused.content[0].text, refused


async def asked(mode: str) -> None:
    """Under `untrusted` the person behind the client is asked; without one the answer is no at once."""

    async def answer(context, params):
        assert "touch made" in params.message, params
        return types.ElicitResult(action="accept", content={"decision": "approve"})

    with place("task") as here:
        command = {"command": "touch made"}
        async with connect(here, mode, "--approval-policy", "untrusted") as client:
            denied = await client.call_tool("run_command", command)
            assert denied.is_error and "nobody could be asked" in denied.content[0].text, denied
        assert not here.has("made")
        async with connect(here, mode, "--approval-policy", "untrusted", elicitation_callback=answer) as client:
            done = await client.call_tool("run_command", command)
            assert done.structured_content["exit_code"] == 0, done
        assert here.has("made")


async def main() -> None:
    for mode in ("legacy", "auto"):
        await found_analysed_and_run(mode)
        await asked(mode)
    print("python sdk: search, analysis and commands by hand, with and without a person to ask")


asyncio.run(asyncio.wait_for(main(), 120))
