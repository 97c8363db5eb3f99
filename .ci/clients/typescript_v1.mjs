// The TypeScript SDK of MCP, first generation: sessions only.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { CallToolResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

import { run } from "./cases.mjs";

async function connect(here, _mode, answer) {
  const capabilities = answer ? { elicitation: {} } : {};
  const client = new Client({ name: "typescript-v1", version: "1" }, { capabilities });
  if (answer) {
    client.setRequestHandler(ElicitRequestSchema, (request) => answer(request.params));
  }
  await client.connect(new StdioClientTransport(here.server));
  client.call = (name, args, options) =>
    client.callTool({ name, arguments: args }, CallToolResultSchema, options);
  return client;
}

await run("typescript sdk 1", connect, ["legacy"]);
