/** The parent's side of a guard: starts a server under it and offers the server as a RunningService. */
import { fork, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { GuardReply, GuardRequest, GuardSetup, ProcessSpec, StopStep } from "./guard-protocol.ts";
import type { RunningService } from "../service.ts";

const READY_WITHIN_MS = 120_000;
const LOG_TAIL_LINES = 25;

export interface GuardedSpec {
  readonly name: string;
  readonly url: string;
  readonly host: string;
  readonly port: number;
  readonly dataDir: string;
  /** Deleted at the end, also if this process dies. */
  readonly removeDirs: readonly string[];
  readonly process: ProcessSpec;
  /** An orderly shutdown that keeps the data. */
  readonly stopSteps: readonly StopStep[];
  /** The fastest shutdown that leaves nothing outside the data folder. */
  readonly endSteps: readonly StopStep[];
  /** Fills the folders before the first start. The guard runs already, so that a failure leaves nothing behind. */
  prepare?(): Promise<void>;
  /** Resolves once the server answers; rejects or is aborted when it never will. */
  ready(signal: AbortSignal): Promise<void>;
}

export interface ServerExit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface GuardedService extends RunningService {
  /** How it ended last; undefined before the first end. */
  readonly lastExit: ServerExit | undefined;
}

export async function startGuarded(spec: GuardedSpec): Promise<GuardedService> {
  const guard = new Guard(spec.name, { endSteps: spec.endSteps, removeDirs: spec.removeDirs });
  let pid: number | undefined;

  const start = async (): Promise<void> => {
    if (pid !== undefined) throw new Error(`${spec.name} is already up`);
    pid = (await guard.request({ kind: "start", spec: spec.process })).pid;
    try {
      await readyOrExited(spec, guard);
    } catch (error) {
      pid = undefined;
      await guard.request({ kind: "kill" });
      throw new Error(`${spec.name} did not start: ${String(error)}\n${logTail(spec.process.logPath)}`, {
        cause: error,
      });
    }
  };
  const ask = async (request: GuardRequest): Promise<void> => {
    await guard.request(request);
  };
  const service: GuardedService = {
    name: spec.name,
    url: spec.url,
    host: spec.host,
    port: spec.port,
    dataDir: spec.dataDir,
    logPath: spec.process.logPath,
    get pid() {
      return guard.serverUp ? pid : undefined;
    },
    get lastExit() {
      return guard.lastExit;
    },
    start,
    async stop() {
      await ask({ kind: "stop", steps: spec.stopSteps });
      pid = undefined;
    },
    async kill() {
      await ask({ kind: "kill" });
      pid = undefined;
    },
    pause: () => ask({ kind: "signal", signal: "SIGSTOP" }),
    resume: () => ask({ kind: "signal", signal: "SIGCONT" }),
    [Symbol.asyncDispose]: () => guard.end(),
  };
  try {
    await spec.prepare?.();
    await start();
    return service;
  } catch (error) {
    await guard.end();
    throw error;
  }
}

async function readyOrExited(spec: GuardedSpec, guard: Guard): Promise<void> {
  const giveUp = new AbortController();
  const timer = setTimeout(
    () => giveUp.abort(new Error(`no answer within ${READY_WITHIN_MS / 1000} s`)),
    READY_WITHIN_MS,
  );
  guard.onServerExit = (code, signal) => giveUp.abort(new Error(`it ended with ${signal ?? `code ${code}`}`));
  if (!guard.serverUp) giveUp.abort(new Error("it ended at once"));
  try {
    await spec.ready(giveUp.signal);
    giveUp.signal.throwIfAborted();
  } finally {
    clearTimeout(timer);
    guard.onServerExit = undefined;
  }
}

/** One guard process and its channel. Requests are answered in order, one at a time. */
class Guard {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #gone: Promise<void>;
  #last: Promise<unknown> = Promise.resolve();
  #answer: ((reply: GuardReply) => void) | undefined;
  serverUp = false;
  lastExit: ServerExit | undefined;
  onServerExit: ((code: number | null, signal: NodeJS.Signals | null) => void) | undefined;

  constructor(name: string, setup: GuardSetup) {
    this.#name = name;
    this.#child = fork(fileURLToPath(new URL("guard.ts", import.meta.url)), [JSON.stringify(setup)], {
      detached: true,
      execArgv: [],
      env: withoutNodeOptions(),
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    this.#gone = new Promise((resolve) => this.#child.once("exit", () => resolve()));
    void this.#gone.then(() => this.#answer?.({ kind: "failed", message: "the guard process is gone" }));
    this.#child.on("message", (text) => {
      if (typeof text === "string") this.#receive(JSON.parse(text));
    });
    this.#letGo();
  }

  request(request: GuardRequest): Promise<{ pid: number | undefined }> {
    const result = this.#last.then(() => this.#exchange(request));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async end(): Promise<void> {
    this.#hold();
    await this.#last;
    if (this.#child.connected) this.#send({ kind: "end" });
    await this.#gone;
  }

  #exchange(request: GuardRequest): Promise<{ pid: number | undefined }> {
    return new Promise((resolve, reject) => {
      this.#hold();
      this.#answer = (reply) => {
        this.#answer = undefined;
        this.#letGo();
        if (reply.kind === "done") resolve({ pid: reply.pid });
        else reject(new Error(`${this.#name}: ${reply.kind === "failed" ? reply.message : reply.kind}`));
      };
      if (request.kind === "start") this.serverUp = true;
      if (this.#child.connected) this.#send(request);
      else this.#answer({ kind: "failed", message: "the guard process is gone" });
    });
  }

  #send(request: GuardRequest): void {
    this.#child.send(JSON.stringify(request));
  }

  #receive(reply: GuardReply): void {
    if (reply.kind === "exited") {
      this.serverUp = false;
      this.lastExit = { code: reply.code, signal: reply.signal };
      this.onServerExit?.(reply.code, reply.signal);
    } else if (reply.kind !== "ended") {
      this.#answer?.(reply);
    }
  }

  /** An idle server must not keep its owner's process alive; one that is being awaited must. */
  #letGo(): void {
    this.#child.unref();
    this.#child.channel?.unref();
  }

  #hold(): void {
    this.#child.ref();
    this.#child.channel?.ref();
  }
}

/** Loaders and inspectors of a test runner must not reach a guard. */
function withoutNodeOptions(): NodeJS.ProcessEnv {
  const { NODE_OPTIONS: _, ...rest } = process.env;
  return rest;
}

function logTail(path: string): string {
  try {
    return readFileSync(path, "utf8").trimEnd().split("\n").slice(-LOG_TAIL_LINES).join("\n");
  } catch {
    return "(no log)";
  }
}
