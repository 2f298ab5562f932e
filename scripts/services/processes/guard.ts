/**
 * Runs one server for a parent process and outlives it by just long enough to clean up. The parent holds the other end
 * of the IPC channel; when that closes, however the parent died, the server is stopped and its data deleted. The guard
 * and the server are each in a session of their own, so Ctrl-C in a terminal reaches only the parent.
 *
 * Run by `guarded.ts`; never imported.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { openSync, closeSync, rmSync } from "node:fs";
import type { GuardRequest, GuardReply, GuardSetup, ProcessSpec, StopStep } from "./guard-protocol.ts";
import { processTree, signalAll } from "./process-tree.ts";

// The only caller is guarded.ts.
const setup: GuardSetup = JSON.parse(process.argv[2] ?? "");
let server: ChildProcess | undefined;
let serverGone: Promise<void> = Promise.resolve();
let ending = false;

function start(spec: ProcessSpec): Promise<number> {
  const log = openSync(spec.logPath, "a");
  const child = spawn(spec.command, [...spec.args], {
    cwd: spec.cwd,
    env: spec.env,
    stdio: ["ignore", log, log],
    detached: true,
    ...(spec.user === undefined ? {} : { uid: spec.user.uid, gid: spec.user.gid }),
  });
  closeSync(log);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("spawn", () => {
      server = child;
      resolve(child.pid ?? -1);
    });
    serverGone = new Promise((gone) => {
      child.once("exit", (code, signal) => {
        server = undefined;
        tell({ kind: "exited", code, signal });
        gone();
      });
    });
  });
}

/** Sends each signal in turn, with time to react, until the server is gone. */
async function stop(steps: readonly StopStep[]): Promise<void> {
  for (const step of steps) {
    const pid = server?.pid;
    if (pid === undefined) return;
    // A frozen process reacts only to SIGKILL.
    signalAll(processTree(pid), "SIGCONT");
    signalAll([pid], step.signal);
    if (await goneWithin(step.waitMs)) return;
  }
  await kill();
}

async function kill(): Promise<void> {
  const pid = server?.pid;
  if (pid === undefined) return;
  const tree = processTree(pid);
  signalAll(tree, "SIGKILL");
  await serverGone;
  // Children of a killed Postgres hold its shared memory a moment longer, which would make the next start fail.
  while (signalAll(tree, 0) > 0) await delay(5);
}

function goneWithin(waitMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), waitMs);
    void serverGone.then(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function end(): Promise<void> {
  if (ending) return;
  ending = true;
  await stop(setup.endSteps);
  for (const dir of setup.removeDirs) rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  tell({ kind: "ended" });
  process.exit(0);
}

function tell(reply: GuardReply): void {
  if (process.connected) process.send?.(JSON.stringify(reply));
}

async function handle(request: GuardRequest): Promise<void> {
  switch (request.kind) {
    case "start":
      return tell({ kind: "done", pid: await start(request.spec) });
    case "stop":
      await stop(request.steps);
      return tell({ kind: "done", pid: undefined });
    case "kill":
      await kill();
      return tell({ kind: "done", pid: undefined });
    case "signal":
      if (server?.pid !== undefined) signalAll(processTree(server.pid), request.signal);
      return tell({ kind: "done", pid: server?.pid });
    case "end":
      return end();
    default: {
      const unknown: never = request;
      throw new Error(`unknown request ${JSON.stringify(unknown)}`);
    }
  }
}

process.on("message", (text) => {
  const request: GuardRequest = JSON.parse(String(text));
  handle(request).catch((error: unknown) => tell({ kind: "failed", message: String(error) }));
});
process.on("disconnect", () => void end());
process.on("SIGTERM", () => void end());
process.on("SIGINT", () => {});
process.on("SIGHUP", () => {});
