// Both generations of the TypeScript SDK over the network: Streamable HTTP, and WebSocket where it has that.

import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { WebSocketClientTransport } from "@modelcontextprotocol/sdk/client/websocket.js";
import { CallToolResultSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

import { run } from "./cases.mjs";
import { serve } from "./place.mjs";

/** A client of the first generation over what `transport` makes of the service. */
function first(transport) {
  return async (here, _mode, answer) => {
    const capabilities = answer ? { elicitation: {} } : {};
    const client = new ClientV1({ name: "typescript-v1", version: "1" }, { capabilities });
    if (answer) {
      client.setRequestHandler(ElicitRequestSchema, (request) => answer(request.params));
    }
    await client.connect(transport(await serve(here)));
    client.call = (name, args, options) =>
      client.callTool({ name, arguments: args }, CallToolResultSchema, options);
    return client;
  };
}

async function second(here, mode, answer) {
  const capabilities = answer ? { elicitation: { form: {} } } : {};
  const versionNegotiation = mode === "legacy" ? undefined : { mode };
  const client = new Client({ name: "typescript-v2", version: "2" }, { capabilities, versionNegotiation });
  if (answer) {
    client.setRequestHandler("elicitation/create", (request) => answer(request.params));
  }
  const { address, headers } = await serve(here);
  const url = new URL(`http://${address}/mcp`);
  await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }));
  client.call = (name, args, options) => client.callTool({ name, arguments: args }, options);
  return client;
}

const http = ({ address, headers }) => new HttpV1(new URL(`http://${address}/mcp`), { requestInit: { headers } });

const Plain = globalThis.WebSocket;
function socket({ address, headers }) {
  // The transport takes no headers, Node's own WebSocket does.
  globalThis.WebSocket = class extends Plain {
    constructor(url, protocols) {
      super(url, { protocols, headers });
    }
  };
  return new WebSocketClientTransport(new URL(`ws://${address}/ws`));
}

await run("typescript sdk 1 over http", first(http), ["legacy"]);
await run("typescript sdk 1 over websocket", first(socket), ["legacy"]);
await run("typescript client 2 over http", second, ["legacy", "auto"], { closing: ["auto"] });
