// The cases of both generations of the TypeScript SDK; `connect(here, mode, answer)` gives a client that offers the same
// few verbs. `answer`, where given, declares elicitation.

import assert from "node:assert/strict";

import { TOOLS, assertMade, assertRising, place } from "./place.mjs";

async function task(connect, mode) {
  await place("task", async (here) => {
    const client = await connect(here, mode);
    const tools = await client.listTools();
    assert.deepEqual(tools.tools.map((tool) => tool.name), TOOLS);
    const progress = [];
    const result = await client.call("openoxide", { prompt: "make it" }, {
      onprogress: (step) => progress.push(step.progress),
    });
    assertMade(here, result);
    assertRising(progress);
    const thread_id = result.structuredContent.thread_id;
    const listed = await client.listResources();
    assert.deepEqual(
      listed.resources.map((resource) => resource.uri),
      ["openoxide://threads", `openoxide://threads/${thread_id}`],
    );
    const diff = await client.readResource({ uri: `openoxide://threads/${thread_id}/diff` });
    assert.match(diff.contents[0].text, /\+hi/);
    await client.close();
    // Another process goes on with the thread.
    const other = await connect(here, mode);
    const again = await other.call("openoxide-reply", { thread_id, prompt: "go on" });
    assert.equal(again.structuredContent.content, "Second turn.");
    await other.close();
  });
}

async function asked(connect, mode) {
  for (const [action, written] of [["accept", true], ["decline", false], ["cancel", false]]) {
    await place("task", async (here) => {
      const questions = [];
      const client = await connect(here, mode, (question) => {
        questions.push(question);
        return action === "accept" ? { action, content: { decision: "approve" } } : { action };
      });
      const result = await client.call("openoxide", { prompt: "make it", approval_policy: "untrusted" });
      assert.equal(result.structuredContent.status, "completed");
      assert.equal(questions.length, 2);
      assert.equal(here.has("made.txt"), written);
      assert.equal(Boolean(result.structuredContent.denied), !written);
      await client.close();
    });
  }
}

async function late(connect, mode) {
  await place("late", async (here) => {
    const client = await connect(here, mode);
    const call = client.call("openoxide", { prompt: "sleep" }, { timeout: 1000 });
    await assert.rejects(call, /timed out/i);
    const result = await client.call("openoxide-reply", { thread_id: "last" });
    assert.equal(result.structuredContent.content, "I slept.");
    assert.ok(here.has("slept.txt"));
    await client.close();
  });
}

/** Every mode does a task, runs out of time, and carries questions. Where `closing` is what cancels, who runs out of
 * time has cancelled. */
export async function run(name, connect, modes, { closing = [] } = {}) {
  for (const mode of modes) {
    await task(connect, mode);
    if (!closing.includes(mode)) await late(connect, mode);
    await asked(connect, mode);
  }
  console.log(`${name}: tasks, resources, time-outs and questions in ${modes.join(", ")}`);
}
