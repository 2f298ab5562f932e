/**
 * Makes sure that there is one daemon per name and one reader per server id: the server would end the stream of the first
 * of two readers. Named locks of the server identify the reader. The session of the dump holds them, so they exist exactly
 * as long as that session; they need no privilege.
 */
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { findMillraceError, type ErrorKind } from "../../../src/core/errors.ts";
import { quoteText } from "../quote.ts";
import type { SourceContext } from "./context.ts";
import type { Reader } from "./reader.ts";
import { answered } from "./database.ts";
import type { Session } from "./driver.ts";
import { errorNumber, sourceError } from "./errors.ts";

/** The session of a killed process ends with the next heartbeat. */
const WAIT_MS_MAX = 5_000;
const AGAIN_MS = 100;
const NAME_CHARACTERS = 40;
/** For servers that allow no locks: there, no reader is kept out. */
const NO_LOCKS = new Set([1105, 1235]);
const DOING = "claiming the log";

/** Before the dump begins on this session. */
export async function claimLog(session: Session, context: SourceContext, signal: AbortSignal): Promise<void> {
  const { reader } = context;
  const kind: ErrorKind = reader.hasRead ? "retryable" : "fatal";
  try {
    const deadlineMs = performance.now() + WAIT_MS_MAX;
    const ask: Ask = async (sql) => (await answered(session.query(sql), DOING, signal))[0] ?? [];
    for (const name of claimed(context)) await take(name, { ask, context, deadlineMs, kind }, signal);
    const [, number] = await ask(`SELECT GET_LOCK(${ownName(reader)}, 0), CONNECTION_ID()`);
    reader.reads(number ?? "");
  } catch (error) {
    if (!NO_LOCKS.has(errorNumber(findMillraceError(error)?.cause ?? error) ?? 0)) throw error;
  }
}

/** Before anything is created or stored. The next session of this reader ends a session that the reader left behind. */
export async function expectUnclaimed(context: SourceContext, signal: AbortSignal): Promise<void> {
  const deadlineMs = performance.now() + WAIT_MS_MAX;
  const ask: Ask = async (sql) => (await context.database.rows(DOING, sql, signal))[0] ?? [];
  const list = [ownName(context.reader), ...claimed(context)].map((name) => `IS_USED_LOCK(${name})`);
  for (;;) {
    const [own, ...holders] = await ask(`SELECT ${list.join(", ")}`);
    const holder = holders.find((number) => number !== null && number !== own);
    if (holder == null) return;
    if (performance.now() > deadlineMs) throw await taken(holder, ask, context, "fatal");
    await sleep(AGAIN_MS, undefined, { signal });
  }
}

type Ask = (sql: string) => Promise<readonly (string | null)[]>;

interface Claiming {
  readonly ask: Ask;
  readonly context: SourceContext;
  readonly deadlineMs: number;
  /** Of the error after the deadline. */
  readonly kind: ErrorKind;
}

async function take(name: string, { ask, context, deadlineMs, kind }: Claiming, signal: AbortSignal): Promise<void> {
  for (;;) {
    const [got] = await ask(`SELECT GET_LOCK(${name}, 0)`);
    if (got === "1") return;
    const [holder = null, own = null] = await ask(
      `SELECT IS_USED_LOCK(${name}), IS_USED_LOCK(${ownName(context.reader)})`,
    );
    if (holder !== null && holder === own) {
      await end(holder, ask);
      context.reader.replaces(holder);
    } else if (holder !== null && performance.now() > deadlineMs) {
      throw await taken(holder, ask, context, kind);
    }
    await sleep(AGAIN_MS, undefined, { signal });
  }
}

/** A session that is already gone, or belongs to another user, is left alone. */
async function end(holder: string, ask: Ask): Promise<void> {
  try {
    await ask(`KILL ${holder}`);
  } catch (error) {
    if (errorNumber(error) === undefined) throw error;
  }
}

async function taken(holder: string, ask: Ask, { serverId }: SourceContext, kind: ErrorKind): Promise<Error> {
  const [user, host] = await ask(`SELECT user, host FROM information_schema.processlist WHERE id = ${holder}`);
  const who = user == null || host == null ? "" : ` (${user} from ${host})`;
  return sourceError(
    "MR2134",
    kind,
    `another daemon of this name, or with the serverId ${serverId}, reads the log: connection ${holder} of the server${who}`,
    `Stop it, or give this one another \`name\` and \`source.serverId\`. To end an unused connection: KILL ${holder};`,
  );
}

function claimed({ markPrefix, serverId }: SourceContext): readonly string[] {
  return [lockName("name", markPrefix), lockName("serverId", String(serverId))];
}

function ownName({ id }: Reader): string {
  return lockName("reader", id);
}

/** Quoted. At most 64 characters, and case does not count. */
function lockName(kind: string, value: string): string {
  const hash = createHash("sha256").update(`${kind}/${value}`).digest("hex");
  return quoteText(`millrace/${hash.slice(0, NAME_CHARACTERS)}`);
}
