"""A server of the Python SDK that speaks 2026-07-28."""

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("modern")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def version(context: Context) -> str:
    """Says which version of the protocol is spoken."""
    return str(context.request_context.protocol_version)


server.run()
