/** A server under a guard, with a small program in place of a server. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startGuarded, type GuardedSpec } from "../../scripts/services/processes/guarded.ts";
import { freePort } from "../../scripts/services/processes/port.ts";
import { signalAll } from "../../scripts/services/processes/process-tree.ts";
import { waitUntilReady } from "../../scripts/services/processes/ready.ts";
import type { RunningService } from "../../scripts/services/service.ts";
import { eventually } from "../support/run/waiting.ts";

/** Answers "yes", has a child of its own, and ignores SIGINT. */
const SERVER = `
  const { spawn } = require("node:child_process");
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { detached: true });
  process.on("SIGINT", () => console.log("not now"));
  process.on("SIGTERM", () => { child.kill("SIGKILL"); process.exit(0); });
  require("node:net").createServer((socket) => socket.end("yes " + child.pid)).listen(Number(process.argv[1]), "127.0.0.1");
`;

async function specOf(script: string, stopBatches: GuardedSpec["stopSteps"]): Promise<GuardedSpec> {
  const home = await mkdtemp(join(tmpdir(), "millrace-guard-"));
  await writeFile(join(home, "data"), "data");
  const port = await freePort();
  return {
    name: "redis",
    url: `tcp://127.0.0.1:${port}`,
    host: "127.0.0.1",
    port,
    dataDir: home,
    removeDirs: [home],
    process: {
      command: process.execPath,
      args: ["-e", script, String(port)],
      env: {},
      cwd: home,
      logPath: join(home, "server.log"),
      user: undefined,
    },
    stopSteps: stopBatches,
    endSteps: [],
    ready: (signal) => waitUntilReady(async () => void (await childOf(port)), signal),
  };
}

/** What the server says of its child. */
async function childOf(port: number): Promise<number> {
  const socket = createConnection(port, "127.0.0.1");
  const [answer]: unknown[] = await once(socket, "data");
  return Number(String(answer).split(" ")[1]);
}

function isAlive(pid: number | undefined): boolean {
  return pid !== undefined && signalAll([pid], 0) > 0;
}

const TERM = [{ signal: "SIGTERM", waitMs: 5_000 }] as const;

test("is stopped and started again on the same port, and deleted at the end", async () => {
  const spec = await specOf(SERVER, TERM);
  let first: number | undefined;
  {
    await using service = await startGuarded(spec);
    first = service.pid;
    await service.stop();
    expect(service.pid).toBeUndefined();
    expect(isAlive(first)).toBe(false);
    expect(existsSync(spec.dataDir)).toBe(true);
    await service.start();
    expect(service.pid).not.toBe(first);
    first = service.pid;
  }
  expect(isAlive(first)).toBe(false);
  expect(existsSync(spec.dataDir)).toBe(false);
});

test("a kill takes its children with it, also while it is frozen", async () => {
  const spec = await specOf(SERVER, TERM);
  await using service = await startGuarded(spec);
  const child = await childOf(spec.port);
  expect(isAlive(child)).toBe(true);
  await service.pause();
  await service.kill();
  expect(isAlive(child)).toBe(false);
});

test("a signal that it ignores is followed by SIGKILL", async () => {
  await using service: RunningService = await startGuarded(await specOf(SERVER, [{ signal: "SIGINT", waitMs: 50 }]));
  const { pid } = service;
  await service.stop();
  expect(isAlive(pid)).toBe(false);
});

test("a server that ends at once is reported with the end of its log, and nothing is left", async () => {
  const spec = await specOf("console.error('no such setting'); process.exit(3)", TERM);
  await expect(startGuarded(spec)).rejects.toThrow(/did not start: .*ended[^]*no such setting/);
  expect(existsSync(spec.dataDir)).toBe(false);
});

test("when its folder can't be filled nothing is left", async () => {
  const spec = await specOf(SERVER, TERM);
  const failing = { ...spec, prepare: () => Promise.reject(new Error("disk full")) };
  await expect(startGuarded(failing)).rejects.toThrow("disk full");
  expect(existsSync(spec.dataDir)).toBe(false);
});

test("a program that is not there is reported", async () => {
  const spec = await specOf(SERVER, TERM);
  const missing = { ...spec, process: { ...spec.process, command: "/nonexistent/server" } };
  await expect(startGuarded(missing)).rejects.toThrow("ENOENT");
});

test.for(["SIGKILL", "SIGINT"] as const)("when its owner dies by %s it is gone, with its data", async (signal) => {
  const spec = await specOf(SERVER, TERM);
  const owner = `
    import { startGuarded } from ${JSON.stringify(new URL("../../scripts/services/processes/guarded.ts", import.meta.url).href)};
    import { waitUntilReady } from ${JSON.stringify(new URL("../../scripts/services/processes/ready.ts", import.meta.url).href)};
    import { createConnection } from "node:net";
    import { once } from "node:events";
    const spec = ${JSON.stringify(spec)};
    const ready = (signal) => waitUntilReady(async () => {
      await once(createConnection(spec.port, "127.0.0.1"), "data");
    }, signal);
    const service = await startGuarded({ ...spec, ready });
    console.log(service.pid);
    setInterval(() => {}, 1000);
  `;
  const parent = spawn(process.execPath, ["--input-type=module-typescript", "-e", owner], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line]: unknown[] = await once(parent.stdout, "data");
  const pid = Number(String(line));
  const child = await childOf(spec.port);
  expect([isAlive(pid), isAlive(child)]).toEqual([true, true]);
  parent.kill(signal);
  await eventually(() => !isAlive(pid) && !isAlive(child) && !existsSync(spec.dataDir));
});
