// ioredis against the server: publish and subscribe, values of keys, as an application uses it.

"use strict";

const assert = require("node:assert");
const { need, run } = require("./server.js");

const Redis = need("ioredis");

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

async function test(port) {
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

run(test, 60);
