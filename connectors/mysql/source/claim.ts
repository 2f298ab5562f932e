/**
 * Makes sure that there is one daemon per name and one reader per server id: the server would end the stream of the first
 * of two readers. Named locks of the server identify the reader. The session of the dump holds them, so they exist exactly
 * as long as that session; they need no privilege.
 */
import { createHash, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { findMillraceError, type ErrorKind } from "../../../src/core/errors.ts";
import { quoteText } from "../quote.ts";
import { errorNumber, sourceError } from "./errors.ts";
import type { Session } from "./wire/driver.ts";
import { answered, type Server } from "./wire/server.ts";

/** The session of a killed process ends with the next heartbeat. */
const WAIT_MS_MAX = 5_000;
const AGAIN_MS = 100;
const NAME_CHARACTERS = 40;
/** For servers that allow no locks: there, no reader is kept out. */
const NO_LOCKS = new Set([1105, 1235]);
const DOING = "claiming the log";

type Ask = (sql: string) => Promise<readonly (string | null)[]>;

export class LogClaim {
  readonly #server: Server;
  /** Of the daemon's name, and of the server id under which it reads. */
  readonly #names: readonly string[];
  /** Identifies the reader across all processes that use the same state one after the other. */
  #id: string = randomUUID();
  /** The server's id of the session with which this process last read. */
  #session = "";

  constructor(server: Server, daemon: string) {
    this.#server = server;
    this.#names = [lockName("name", daemon), lockName("serverId", String(server.readerId))];
  }

  get id(): string {
    return this.#id;
  }

  /** `id`: as an earlier process has stored it. */
  load(id: string | undefined): void {
    if (id !== undefined && this.#session === "") this.#id = id;
  }

  /** Before the dump begins on this session. */
  async take(session: Session, signal: AbortSignal): Promise<void> {
    const kind: ErrorKind = this.#session === "" ? "fatal" : "retryable";
    try {
      const deadlineMs = performance.now() + WAIT_MS_MAX;
      const ask: Ask = async (sql) => (await answered(session.query(sql), DOING, signal))[0] ?? [];
      for (const name of this.#names) await this.#takeOne(name, ask, deadlineMs, kind, signal);
      const [, number] = await ask(`SELECT GET_LOCK(${this.#ownName}, 0), CONNECTION_ID()`);
      this.#session = number ?? "";
    } catch (error) {
      if (!NO_LOCKS.has(errorNumber(findMillraceError(error)?.cause) ?? 0)) throw error;
    }
  }

  /** Before anything is created or stored. The next session of this reader ends a session that the reader left behind. */
  async expectFree(signal: AbortSignal): Promise<void> {
    const deadlineMs = performance.now() + WAIT_MS_MAX;
    const ask: Ask = async (sql) => (await this.#server.rows(DOING, sql, signal))[0] ?? [];
    const list = [this.#ownName, ...this.#names].map((name) => `IS_USED_LOCK(${name})`);
    for (;;) {
      const [own, ...holders] = await ask(`SELECT ${list.join(", ")}`);
      const holder = holders.find((number) => number !== null && number !== own);
      if (holder == null) return;
      if (performance.now() > deadlineMs) throw await this.#taken(holder, ask, "fatal");
      await sleep(AGAIN_MS, undefined, { signal });
    }
  }

  /** `kind`: of the error after the deadline. */
  async #takeOne(name: string, ask: Ask, deadlineMs: number, kind: ErrorKind, signal: AbortSignal): Promise<void> {
    for (;;) {
      const [got] = await ask(`SELECT GET_LOCK(${name}, 0)`);
      if (got === "1") return;
      const [holder = null, own = null] = await ask(`SELECT IS_USED_LOCK(${name}), IS_USED_LOCK(${this.#ownName})`);
      if (holder !== null && holder === own) {
        await end(holder, ask);
        // That session may belong to an earlier process of this state. If that process was only frozen, or this state is a
        // copy, the other process is a stranger from now on, and can't replace this one in the same way.
        if (holder !== this.#session) this.#id = randomUUID();
      } else if (holder !== null && performance.now() > deadlineMs) {
        throw await this.#taken(holder, ask, kind);
      }
      await sleep(AGAIN_MS, undefined, { signal });
    }
  }

  async #taken(holder: string, ask: Ask, kind: ErrorKind): Promise<Error> {
    const [user, host] = await ask(`SELECT user, host FROM information_schema.processlist WHERE id = ${holder}`);
    const who = user == null || host == null ? "" : ` (${user} from ${host})`;
    return sourceError(
      "MR2012",
      kind,
      `another daemon of this name, or with the serverId ${this.#server.readerId}, reads the log: connection ${holder} of the server${who}`,
      {
        hint: `Stop it, or give this one another \`name\` and \`source.serverId\`. To end an unused connection: KILL ${holder};`,
      },
    );
  }

  get #ownName(): string {
    return lockName("reader", this.#id);
  }
}

/** A session that is already gone, or belongs to another user, is left alone. */
async function end(holder: string, ask: Ask): Promise<void> {
  try {
    await ask(`KILL ${holder}`);
  } catch (error) {
    if (errorNumber(findMillraceError(error)?.cause) === undefined) throw error;
  }
}

/** Quoted. At most 64 characters, and case does not count. */
function lockName(kind: string, value: string): string {
  const hash = createHash("sha256").update(`${kind}/${value}`).digest("hex");
  return quoteText(`millrace/${hash.slice(0, NAME_CHARACTERS)}`);
}
