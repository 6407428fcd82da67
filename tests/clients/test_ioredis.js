// ioredis against the server: publish and subscribe, values of keys, as an application uses it.
//
// The server is the binary that TERRACE_BIN names, started here on a free port with a folder of its own. Without ioredis
// nothing is tested, and a line says so.

"use strict";

const { spawn } = require("node:child_process");
const assert = require("node:assert");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");

let Redis;
try {
  Redis = require("ioredis");
} catch {
  console.log("skipped: ioredis is not installed");
  process.exit(77);
}

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Collects what a connection hears, and waits until so much has come. */
function listen(connection, event) {
  const heard = [];
  connection.on(event, (...words) => heard.push(words));
  return async (count) => {
    const deadline = Date.now() + 10000;
    while (heard.length < count && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return heard.splice(0);
  };
}

/** Waits until the server takes connections. */
async function ready(port) {
  for (;;) {
    const connected = await new Promise((resolve) => {
      const socket = net.connect(port, "127.0.0.1", () => socket.end(() => resolve(true)));
      socket.on("error", () => resolve(false));
    });
    if (connected) {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function test(port) {
  await ready(port);
  const conn = new Redis(port, "127.0.0.1");
  const subscriber = new Redis(port, "127.0.0.1");
  const messages = listen(subscriber, "message");
  const byPattern = listen(subscriber, "pmessage");
  assert.strictEqual(await subscriber.subscribe("news", "sport"), 2);
  assert.strictEqual(await subscriber.psubscribe("n*"), 3);
  assert.strictEqual(await conn.publish("news", "one"), 2);
  assert.strictEqual(await conn.publish("sport", "two"), 1);
  assert.deepStrictEqual(await messages(2), [["news", "one"], ["sport", "two"]]);
  assert.deepStrictEqual(await byPattern(1), [["n*", "news", "one"]]);
  assert.strictEqual(await subscriber.punsubscribe("n*"), 2);
  assert.strictEqual(await subscriber.unsubscribe("news", "sport"), 0);
  assert.strictEqual(await conn.publish("news", "nobody hears"), 0);

  await conn.set("k", "v");
  await subscriber.subscribe("__keyvalue@0__:k", "__keyspace@0__:k");
  await conn.append("k", "w");
  const heard = (await messages(3)).map(([channel, text]) => [channel.slice(5, 10), text.replace(/ \d+ /, " ")]);
  heard.sort();
  assert.deepStrictEqual(heard, [
    ["space", "append"],
    ["value", "append value\nvw"],
    ["value", "now value\nv"],
  ]);

  const sharded = new Redis(port, "127.0.0.1");
  const shardMessages = listen(sharded, "smessage");
  await sharded.ssubscribe("s");
  assert.strictEqual(await conn.spublish("s", "three"), 1);
  assert.deepStrictEqual(await shardMessages(1), [["s", "three"]]);
  for (const connection of [conn, subscriber, sharded]) {
    connection.disconnect();
  }
}

async function main() {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "terrace-js-"));
  const port = await freePort();
  const server = spawn(process.env.TERRACE_BIN, ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", dir], {
    stdio: "ignore",
  });
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error("no end within a minute")), 60000).unref());
  try {
    await Promise.race([test(port), late]);
    console.log("ok");
  } finally {
    server.kill();
    await new Promise((resolve) => server.on("exit", resolve));
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
