// MCP Inspector's command line: each call is a process of its own, and so a server of its own.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";

import { TOOLS, assertMade, place } from "./place.mjs";

const INSPECTOR = new URL("./node_modules/.bin/mcp-inspector", import.meta.url).pathname;

/** What the method gives. Fails where the Inspector does, with its words. */
function inspect(here, era, method, ...more) {
  const { command, args, env, cwd } = here.server;
  const home = ["-e", `OPENOXIDE_HOME=${env.OPENOXIDE_HOME}`];
  const how = ["--protocol-era", era, "--cwd", cwd, "--method", method, ...more];
  const output = execFileSync(
    process.execPath,
    [INSPECTOR, "--cli", ...home, command, ...args, ...how],
    { env: { ...env, HOME: `${cwd}/..` }, encoding: "utf8", timeout: 60_000 },
  );
  return JSON.parse(output);
}

for (const era of ["legacy", "modern"]) {
  await place("task", async (here) => {
    // `--strict` is the Inspector's own opinion of our schemas.
    const tools = inspect(here, era, "tools/list", "--strict").tools;
    assert.deepEqual(tools.map((tool) => tool.name), TOOLS);
    const call = ["--tool-name", "openoxide", "--tool-arg", "prompt=make it"];
    const result = inspect(here, era, "tools/call", ...call);
    assertMade(here, result);
    const uri = `openoxide://threads/${result.structuredContent.thread_id}/diff`;
    assert.equal(inspect(here, era, "resources/list").resources.length, 2);
    assert.equal(inspect(here, era, "resources/templates/list").resourceTemplates.length, 5);
    const diff = inspect(here, era, "resources/read", "--uri", uri);
    assert.match(diff.contents[0].text, /\+hi/);
    const reply = ["--tool-name", "openoxide-reply", "--tool-arg", "thread_id=last", "--tool-arg", "prompt=go on"];
    const again = inspect(here, era, "tools/call", ...reply);
    assert.equal(again.structuredContent.content, "Second turn.");
  });
}
console.log("inspector: lists, strict schemas, a task, a reply and resources in legacy, modern");
