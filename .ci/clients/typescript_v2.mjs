// The TypeScript client of MCP, second generation: both generations of the protocol.

import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

import { run } from "./cases.mjs";

async function connect(here, mode, answer) {
  const capabilities = answer ? { elicitation: { form: {} } } : {};
  const versionNegotiation = mode === "legacy" ? undefined : { mode };
  const client = new Client({ name: "typescript-v2", version: "2" }, { capabilities, versionNegotiation });
  if (answer) {
    client.setRequestHandler("elicitation/create", (request) => answer(request.params));
  }
  await client.connect(new StdioClientTransport(here.server));
  client.call = (name, args, options) => client.callTool({ name, arguments: args }, options);
  return client;
}

await run("typescript client 2", connect, ["legacy", "auto"]);
