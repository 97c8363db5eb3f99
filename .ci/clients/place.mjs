// Where a JavaScript client meets the server: an empty project and home, and a recording in place of the model.

import assert from "node:assert/strict";
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
    rmSync(folder, { recursive: true, force: true });
  }
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
