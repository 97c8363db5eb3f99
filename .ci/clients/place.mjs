// Where a JavaScript client meets the server: an empty project and home, and a recording in place of the model.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const BINARY = resolve(process.argv[2]);
const RECORDINGS = new URL("./recordings/", import.meta.url).pathname;
export const TOOLS = ["openoxide", "openoxide-reply", "openoxide-query"];

/** Runs `body` with an empty project and the way to start a server in it; removes both after. */
export async function place(recording, body) {
  const folder = mkdtempSync(join(tmpdir(), "openoxide-client-"));
  const work = join(folder, "work");
  mkdirSync(work);
  const server = {
    command: BINARY,
    args: ["mcp-server", "--model", `recorded:${RECORDINGS}${recording}.json`],
    env: { OPENOXIDE_HOME: join(folder, "home"), PATH: process.env.PATH },
    cwd: work,
  };
  const here = {
    server,
    has: (name) => existsSync(join(work, name)),
    read: (name) => readFileSync(join(work, name), "utf8"),
  };
  try {
    await body(here);
  } finally {
    await here.service?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

const TOKEN = "a-token-of-the-clients-0123456789";

/** The network service of a place, started when it is first wanted: its address, and what lets a client in. */
export async function serve(here) {
  here.service ??= await start(here.server);
  return here.service;
}

async function start({ command, args, env, cwd }) {
  const [door, ...rest] = args;
  const child = spawn(command, [door, "--http", "127.0.0.1:0", ...rest], {
    env: { ...env, OPENOXIDE_TOKENS: `clients:${TOKEN}` },
    cwd,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = new Promise((resolve) => child.once("exit", (code) => resolve(code)));
  const address = await new Promise((resolve, reject) => {
    let said = "";
    child.stderr.on("data", (piece) => {
      said += piece;
      const found = said.match(/at http:\/\/(\S+)\/mcp/);
      if (found) resolve(found[1]);
    });
    ended.then(() => reject(new Error(said)));
  });
  return {
    address,
    headers: { authorization: `Bearer ${TOKEN}` },
    async stop() {
      child.kill("SIGTERM");
      assert.equal(await ended, 0);
    },
  };
}

/** The outcome of `task.json`, and what it left. */
export function assertMade(here, result) {
  const outcome = result.structuredContent;
  assert.equal(outcome.status, "completed", JSON.stringify(result));
  assert.equal(outcome.content, "Made it.");
  assert.deepEqual(outcome.changes.map((change) => change.path), ["made.txt"]);
  assert.equal(outcome.commands[0].exit_code, 0);
  assert.match(result.content[0].text, /status: completed/);
  assert.equal(here.read("made.txt"), "hi\n");
}

export function assertRising(values) {
  assert.ok(values.length > 0);
  values.slice(1).forEach((value, at) => assert.ok(value > values[at], `${values}`));
}
