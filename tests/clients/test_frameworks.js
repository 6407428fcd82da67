// Small programs on Node frameworks that keep their state in Redis: a job queue (bullmq, all of whose steps are scripts),
// sessions (express-session), a lock (redlock). Each does its job, and what came of it is counted.

"use strict";

const assert = require("node:assert");
const { need, run } = require("./server.js");

const Redis = need("ioredis");
const { Queue, QueueEvents, Worker, FlowProducer } = need("bullmq");
const express = need("express");
const session = need("express-session");
const { RedisStore } = need("connect-redis");
const { createClient } = need("redis");
const Redlock = need("redlock");

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until something is so, for half a minute. */
async function eventually(isSo, what) {
  for (let tries = 0; tries < 3000; tries++) {
    if (await isSo()) {
      return;
    }
    await sleep(10);
  }
  assert.fail(`never: ${what}`);
}

/** A queue with its worker and its events; `close` ends all of them. */
async function start(port, name, work, options = {}) {
  const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };
  const queue = new Queue(name, { connection });
  queue.setMaxListeners(0); // one for each job that is waited for
  const events = new QueueEvents(name, { connection });
  const worker = new Worker(name, work, { connection, ...options });
  worker.on("error", (error) => assert.fail(error));
  await Promise.all([events.waitUntilReady(), worker.waitUntilReady()]);
  const close = () => Promise.all([worker.close(), events.close(), queue.close()]);
  return { queue, events, worker, close };
}

async function eachJobIsDoneOnce(port) {
  const done = [];
  const { queue, events, close } = await start(
    port,
    "squares",
    async (job) => {
      done.push(job.data.n);
      await job.updateProgress(50);
      return job.data.n ** 2;
    },
    { concurrency: 8 },
  );
  const jobs = await queue.addBulk(Array.from({ length: 300 }, (_, n) => ({ name: "square", data: { n } })));
  const results = await Promise.all(jobs.map((job) => job.waitUntilFinished(events, 30000)));
  assert.deepStrictEqual(results, jobs.map((_, n) => n ** 2));
  assert.deepStrictEqual(done.sort((a, b) => a - b), jobs.map((_, n) => n));
  assert.deepStrictEqual(await queue.getJobCounts("waiting", "active", "completed", "failed"), {
    waiting: 0,
    active: 0,
    completed: 300,
    failed: 0,
  });
  await queue.obliterate({ force: true });
  await close();
}

async function retriesDelaysAndPriorities(port) {
  const order = [];
  const { queue, events, worker, close } = await start(port, "steps", async (job) => {
    order.push(job.name);
    if (job.name === "unsteady" && job.attemptsMade < 2) {
      throw new Error("not yet");
    }
    if (job.name === "broken") {
      throw new Error("always");
    }
    return job.attemptsMade;
  });
  const backoff = { type: "exponential", delay: 20 };
  const unsteady = await queue.add("unsteady", {}, { attempts: 5, backoff });
  const broken = await queue.add("broken", {}, { attempts: 2, backoff });
  assert.strictEqual(await unsteady.waitUntilFinished(events, 30000), 2);
  await assert.rejects(broken.waitUntilFinished(events, 30000), /always/);
  assert.deepStrictEqual((await queue.getFailed()).map((job) => [job.name, job.attemptsMade]), [["broken", 2]]);

  const began = Date.now();
  const late = await queue.add("late", {}, { delay: 300 });
  await late.waitUntilFinished(events, 30000);
  assert.ok(Date.now() - began >= 290);

  await queue.pause();
  order.length = 0;
  await queue.add("third", {}, { priority: 9 });
  await queue.add("second", {}, { priority: 3 });
  await queue.add("first", {}, { priority: 1 });
  await sleep(100);
  assert.deepStrictEqual(order, []);
  await queue.resume();
  await eventually(() => order.length === 3, "three jobs after the pause");
  assert.deepStrictEqual(order, ["first", "second", "third"]);
  assert.ok(worker.isRunning());
  await close();
}

async function flowsSchedulesAndRates(port) {
  const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };
  const times = [];
  const work = async (job) => {
    times.push(Date.now());
    if (job.name !== "sum") {
      return job.data.n;
    }
    const values = Object.values(await job.getChildrenValues());
    return values.reduce((sum, n) => sum + n, 0);
  };
  const { queue, events, close } = await start(port, "flows", work, { limiter: { max: 5, duration: 200 } });
  const flow = new FlowProducer({ connection });
  const children = Array.from({ length: 10 }, (_, n) => ({ name: "part", queueName: "flows", data: { n } }));
  const tree = await flow.add({ name: "sum", queueName: "flows", children });
  assert.strictEqual(await tree.job.waitUntilFinished(events, 30000), 45);
  assert.ok(times.at(-1) - times[0] >= 180, "more than five jobs take more than one window");

  times.length = 0;
  await queue.upsertJobScheduler("tick", { every: 100 }, { name: "part", data: { n: 1 } });
  await eventually(() => times.length >= 3, "three ticks");
  await queue.removeJobScheduler("tick");
  assert.strictEqual((await queue.getJobSchedulers()).length, 0);

  const same = { jobId: "only-one" };
  await queue.add("part", { n: 1 }, same);
  await queue.add("part", { n: 2 }, same);
  await eventually(async () => (await queue.getJob("only-one")).finishedOn, "the job's end");
  assert.strictEqual((await queue.getJob("only-one")).returnvalue, 1);
  await flow.close();
  await close();
}

/** A worker that dies with a job in its hands: another one does it when the lock's time is over. */
async function stalledJobsAreTakenOver(port) {
  const connection = { host: "127.0.0.1", port, maxRetriesPerRequest: null };
  const queue = new Queue("stalled", { connection });
  const job = await queue.add("heavy", {});
  const stuck = new Worker("stalled", () => new Promise(() => {}), { connection, lockDuration: 300, skipLockRenewal: true });
  stuck.on("error", () => {});
  await eventually(async () => (await job.getState()) === "active", "the job is taken");
  await stuck.close(true);
  const other = new Worker("stalled", async () => "done", { connection, stalledInterval: 200, lockDuration: 5000 });
  await eventually(async () => (await job.getState()) === "completed", "the job is done by another worker");
  assert.strictEqual((await queue.getJob(job.id)).returnvalue, "done");
  await other.close();
  await queue.close();
}

async function sessions(port) {
  const client = await createClient({ url: `redis://127.0.0.1:${port}` }).connect();
  const app = express();
  const store = new RedisStore({ client, prefix: "shop:", ttl: 100 });
  app.use(session({ store, secret: "not one", resave: false, saveUninitialized: false }));
  app.post("/basket/:item", (request, response) => {
    request.session.basket = [...(request.session.basket ?? []), request.params.item];
    response.json(request.session.basket);
  });
  app.get("/basket", (request, response) => response.json(request.session.basket ?? []));
  app.post("/leave", (request, response) => request.session.destroy(() => response.json([])));
  const server = await new Promise((resolve) => {
    const listening = app.listen(0, "127.0.0.1", () => resolve(listening));
  });
  const url = `http://127.0.0.1:${server.address().port}`;
  const ask = async (method, path, cookie) => {
    const answer = await fetch(url + path, { method, headers: cookie ? { cookie } : {} });
    return [await answer.json(), answer.headers.get("set-cookie")?.split(";")[0]];
  };
  const [basket, cookie] = await ask("POST", "/basket/tea");
  assert.deepStrictEqual(basket, ["tea"]);
  assert.deepStrictEqual((await ask("POST", "/basket/milk", cookie))[0], ["tea", "milk"]);
  assert.deepStrictEqual((await ask("GET", "/basket", cookie))[0], ["tea", "milk"]);
  assert.deepStrictEqual((await ask("GET", "/basket"))[0], []);
  assert.strictEqual(await store.length(), 1);
  const [key] = await store.ids();
  const ttl = await client.ttl(`shop:${key}`);
  assert.ok(ttl > 0 && ttl <= 100, `${ttl}`);
  await ask("POST", "/leave", cookie);
  assert.deepStrictEqual((await ask("GET", "/basket", cookie))[0], []);
  assert.strictEqual(await store.length(), 0);
  server.closeAllConnections();
  server.close();
  await client.close();
}

async function locks(port) {
  const conn = new Redis(port, "127.0.0.1");
  const redlock = new Redlock([conn], { retryCount: 1000, retryDelay: 5 });
  await conn.set("n", 0);
  const add = async () => {
    for (let i = 0; i < 10; i++) {
      const lock = await redlock.lock("lock:n", 10000);
      const n = Number(await conn.get("n"));
      await sleep(1);
      await conn.set("n", n + 1);
      await lock.unlock();
    }
  };
  await Promise.all(Array.from({ length: 6 }, add));
  assert.strictEqual(await conn.get("n"), "60");
  const lock = await redlock.lock("lock:a", 100);
  await lock.extend(200);
  assert.ok((await conn.pttl("lock:a")) > 100);
  await sleep(250);
  await assert.rejects(lock.unlock());
  conn.disconnect();
}

async function test(port) {
  const programs = [
    eachJobIsDoneOnce,
    retriesDelaysAndPriorities,
    flowsSchedulesAndRates,
    stalledJobsAreTakenOver,
    sessions,
    locks,
  ];
  for (const program of programs) {
    await program(port);
    console.log(`${program.name}: ok`);
  }
}

run(test, 180);
