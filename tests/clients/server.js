// The server that the Node tests run against: the binary that TERRACE_BIN names, on a free port with a folder of its own.

"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
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

/** Runs a test on a server of its own, and ends the program: with 1 if it fails, or is not over in time. */
async function run(test, secondsMost) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), "terrace-js-"));
  const port = await freePort();
  const server = spawn(process.env.TERRACE_BIN, ["--port", `${port}`, "--bind", "127.0.0.1", "--dir", dir], {
    stdio: "ignore",
  });
  const late = new Promise((_, reject) =>
    setTimeout(() => reject(new Error(`no end within ${secondsMost} seconds`)), secondsMost * 1000).unref(),
  );
  let failed = false;
  try {
    await ready(port);
    await Promise.race([test(port), late]);
    console.log("ok");
  } catch (error) {
    console.error(error);
    failed = true;
  } finally {
    server.kill();
    await new Promise((resolve) => server.on("exit", resolve));
    fs.rmSync(dir, { recursive: true, force: true });
  }
  process.exit(failed ? 1 : 0);
}

/** A package, or the end of the program with a line that says that it is not there. */
function need(name) {
  try {
    return require(name);
  } catch {
    console.log(`skipped: ${name} is not installed`);
    process.exit(77);
  }
}

module.exports = { need, run };
