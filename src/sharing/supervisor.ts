/** One of the processes that share the tables: it has a daemon for each share that the group gives it. */
import { abortOf, type Clock, pause, type Scope, scopeOf } from "../core/clock.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import type { Group, GroupMember } from "../core/sharing/group.ts";
import type { ChildProcess } from "node:child_process";
import { type EventEmitter, once } from "node:events";
import { untilSilent } from "./supervised.ts";

/** A process that the group does not hear ends its shares after so long: others are to have them. */
const CUT_OFF_MS_MAX = 60_000;

/** A broker that starts, or moves the group, is back earlier. */
const TOLD_AFTER_MS = 5_000;

interface SupervisorParts {
  readonly group: Group;
  /** Called when the group has said what this process has. Where it fails, all ends. */
  readonly joined: () => Promise<void>;
  /** Runs the daemon of a share until aborted; resolves when it has ended. Where it fails, all ends. */
  readonly keepRunning: (share: number, signal: AbortSignal) => Promise<void>;
  readonly logger: Logger;
}

interface Running {
  readonly scope: Scope;
  readonly ended: Promise<void>;
}

/** Until aborted, or until the group can't be joined or a part fails; then it stops all shares in order, and leaves. */
export async function supervise(
  { group, joined, keepRunning, logger }: SupervisorParts,
  signal: AbortSignal,
): Promise<void> {
  const failed = Promise.withResolvers<never>();
  const shares = new Shares(keepRunning, failed.reject, logger);
  using membership = scopeOf();
  using staying = scopeOf(signal);
  let isSilent = false;
  const member: GroupMember = {
    held: () => shares.held,
    leaves: () => staying.signal.aborted,
    assign: (numbers) => {
      if (staying.signal.aborted) return;
      joined().catch(failed.reject);
      isSilent = false;
      shares.assign(numbers);
    },
    cutOff: (ms, error) => {
      if (ms < TOLD_AFTER_MS) return;
      if (!isSilent) logger.warn({ code: "code" in error ? error.code : null, error }, "the group can't be reached");
      isSilent = true;
      if (ms > CUT_OFF_MS_MAX && shares.held.length > 0) shares.assign([]);
    },
  };
  const running = group.run(member, membership.signal);
  try {
    await Promise.race([running, failed.promise, abortOf(signal)]);
  } finally {
    staying.end();
    // Nobody gets a share before it has ended here.
    await shares.end();
    membership.end();
    await running.catch(() => undefined);
  }
}

class Shares {
  readonly #keepRunning: SupervisorParts["keepRunning"];
  readonly #onFailure: (error: unknown) => void;
  readonly #logger: Logger;
  readonly #running = new Map<number, Running>();
  #wanted: ReadonlySet<number> = new Set();

  constructor(keepRunning: SupervisorParts["keepRunning"], onFailure: (error: unknown) => void, logger: Logger) {
    this.#keepRunning = keepRunning;
    this.#onFailure = onFailure;
    this.#logger = logger;
  }

  /** Those that run, or have not ended yet. */
  get held(): readonly number[] {
    return [...this.#running.keys()];
  }

  assign(numbers: readonly number[]): void {
    const before = this.#wanted;
    this.#wanted = new Set(numbers);
    if (before.size !== numbers.length || numbers.some((one) => !before.has(one)))
      this.#logger.info({ shares: [...numbers].toSorted((a, b) => a - b) }, "this process has these shares");
    for (const [number, { scope }] of this.#running) if (!this.#wanted.has(number)) scope.end();
    for (const number of numbers) if (!this.#running.has(number)) this.#begin(number);
  }

  #begin(number: number): void {
    const scope = scopeOf();
    const over = (): void => void this.#running.delete(number);
    const ended = this.#keepRunning(number, scope.signal).then(
      () => {
        over();
        // It was given back, and given again meanwhile.
        if (this.#wanted.has(number)) this.#begin(number);
      },
      (error: unknown) => {
        over();
        this.#onFailure(error);
      },
    );
    this.#running.set(number, { scope, ended });
  }

  async end(): Promise<void> {
    this.assign([]);
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
  }
}

/** The daemon of one share as a process of its own: whatever happens to it, the other shares go on. */
/** A daemon that does not turn its event loop for so long hangs, or was stopped. */
const SILENT_SECONDS_MAX = 30;
/** For a stop in order: to finish a batch, and to give the lease back. */
const STOP_MS_MAX = 25_000;
const FIRST_PAUSE_MS = 1_000;
const PAUSE_MS_MAX = 60_000;
/** A daemon that has run for so long did not fail at its start. */
const STEADY_MS = 60_000;

/** What is asked of the process. */
export interface ShareChild extends EventEmitter, Pick<ChildProcess, "pid" | "exitCode" | "signalCode"> {
  kill(signal: "SIGTERM" | "SIGKILL"): unknown;
  send(message: string, sent: () => void): unknown;
}

interface ShareProcessParts {
  readonly number: number;
  /** Starts it, with a channel. */
  readonly start: () => ShareChild;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Runs it until aborted, and starts it again when it ends, with growing pauses. Also over an error that needs a person: once
 * the person has done what it takes, the share goes on by itself.
 */
export async function keepShareRunning(parts: ShareProcessParts, signal: AbortSignal): Promise<void> {
  const { number: share, clock, logger } = parts;
  let failureCount = 0;
  while (!signal.aborted) {
    const startedMs = clock.elapsed();
    // Where a process can't be started at all, that is tried again too.
    const ended = await runShare(parts, signal).catch((error: unknown) => ({ error }));
    if (signal.aborted) return;
    if (clock.elapsed() - startedMs > STEADY_MS) failureCount = 0;
    const pauseMs = Math.min(PAUSE_MS_MAX, FIRST_PAUSE_MS * 2 ** failureCount++);
    logger.warn({ share, ...ended, pauseMs }, "the daemon of a share has ended; it is started again");
    await pause(clock, pauseMs, signal);
  }
}

interface Ended {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** To its end. When aborted, it is stopped in order. */
async function runShare(
  { number: share, start, clock, logger }: ShareProcessParts,
  signal: AbortSignal,
): Promise<Ended> {
  const child = start();
  // The exit tells of it too.
  child.on("error", (error) => logger.warn({ share, error }, "the daemon of a share can't be reached"));
  const exit = once(child, "exit").catch(() => undefined);
  using over = scopeOf();
  void exit.then(() => over.end());
  const stop = (): void => {
    child.kill("SIGTERM");
    void pause(clock, STOP_MS_MAX, over.signal).then(() => child.kill("SIGKILL"));
  };
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  const ask = (): void => void child.send("?", () => undefined);
  // Many daemons that start at once on few cores take their time before the first sign of life.
  child.once("message", () => {
    void untilSilent(child, { clock, silentCountMax: SILENT_SECONDS_MAX, ask }, over.signal).then(() => {
      if (over.signal.aborted) return;
      logger.error({ share, pid: child.pid }, "the daemon of a share does not answer; it is ended");
      child.kill("SIGKILL");
    });
  });
  await exit;
  signal.removeEventListener("abort", stop);
  return { exitCode: child.exitCode, signal: child.signalCode };
}
