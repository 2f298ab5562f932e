/** One of the processes that share the tables: it has a daemon for each share that the group gives it. */
import { abortOf, scopeOf, type Scope } from "../core/clock.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import type { Group, GroupMember } from "../core/sharing/group.ts";

/** A process that the group does not hear ends its shares after so long: others are to have them. */
const CUT_OFF_MS_MAX = 60_000;

/** A broker that starts, or moves the group, is back earlier. */
const TOLD_AFTER_MS = 5_000;

interface SupervisorParts {
  readonly group: Group;
  /** Called when the group has said what this process has. */
  readonly joined: () => void;
  /** Runs the daemon of a share until aborted; resolves when it has ended. */
  readonly keepRunning: (share: number, signal: AbortSignal) => Promise<void>;
  readonly logger: Logger;
}

interface Running {
  readonly scope: Scope;
  readonly ended: Promise<void>;
}

/** Until aborted, or until the group can't be joined; then it stops all shares in order, and leaves. */
export async function supervise(
  { group, joined, keepRunning, logger }: SupervisorParts,
  signal: AbortSignal,
): Promise<void> {
  const shares = new Shares(keepRunning, logger);
  using membership = scopeOf();
  let isSilent = false;
  const member: GroupMember = {
    held: () => shares.held,
    leaves: () => signal.aborted,
    assign: (numbers) => {
      if (signal.aborted) return;
      joined();
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
    await Promise.race([running, abortOf(signal)]);
  } finally {
    // Nobody gets a share before it has ended here.
    await shares.end();
    membership.end();
    await running.catch(() => undefined);
  }
}

class Shares {
  readonly #keepRunning: SupervisorParts["keepRunning"];
  readonly #logger: Logger;
  readonly #running = new Map<number, Running>();
  #wanted: ReadonlySet<number> = new Set();

  constructor(keepRunning: SupervisorParts["keepRunning"], logger: Logger) {
    this.#keepRunning = keepRunning;
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
    const ended = this.#keepRunning(number, scope.signal).finally(() => {
      this.#running.delete(number);
      // It was given back, and given again meanwhile.
      if (this.#wanted.has(number)) this.#begin(number);
    });
    this.#running.set(number, { scope, ended });
  }

  async end(): Promise<void> {
    this.assign([]);
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
  }
}
