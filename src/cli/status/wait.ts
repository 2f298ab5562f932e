import { setTimeout as sleep } from "node:timers/promises";
import type { Place } from "../../config/load.ts";
import { blocks, sentenceOf } from "../../core/conditions/condition.ts";
import type { FreshRequest, WaitAnswer } from "../../core/contracts/orders.ts";
import { findMillraceError } from "../../core/errors.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { EXIT } from "../exit-codes.ts";
import type { Session } from "../session.ts";
import { statusOf } from "./status.ts";

/** How often to look for a daemon that is not there yet. */
const LOOK_MS = 200;
/** Extra time for the daemon to report the timeout. */
const GRACE_MS = 10_000;

export function addWait({ program, action }: CommandLine): void {
  program
    .command("wait")
    .description("return when every sink has made durable all that was committed at the source before the call")
    .option("--at <token>", "what was committed before this instead: a position, or the name of a transaction (GTID)")
    .option("--sink <name>", "this sink alone")
    .option("--tables <tables...>", "these tables alone, as schema.table")
    .option("--timeout <duration>", "give up after this, with exit code 5", "60s")
    .action(
      action("each", async (session, options) => {
        const place = await session.place();
        const timeoutMs = options.durationMs("--timeout");
        const asked = { at: options.text("--at"), sink: options.text("--sink"), tables: options.texts("--tables") };
        const answer = (await waitFor(session, place, asked, timeoutMs)) ?? (await nobodyHere(session));
        const who = asked.sink === null ? "every sink" : `sink ${asked.sink}`;
        const text = answer.reached ? `${who} is up to date` : ["timed out:", ...answer.missing].join("\n  ");
        session.print(answer, text);
        return answer.reached ? EXIT.done : EXIT.timedOut;
      }),
    );
}

/** Undefined: no daemon listened before the timeout. */
async function waitFor(
  session: Session,
  { state }: Place,
  asked: FreshRequest,
  timeoutMs: number,
): Promise<WaitAnswer | undefined> {
  const client = new DaemonClient(state);
  const deadlineMs = performance.now() + timeoutMs;
  const isPlain = asked.at === null && asked.sink === null && asked.tables.length === 0;
  let isRight = false;
  for (;;) {
    const leftMs = Math.max(0, deadlineMs - performance.now());
    const asking = isPlain
      ? client.ask<WaitAnswer>("POST", "/api/v1/wait", { timeoutMs: leftMs }, leftMs + GRACE_MS)
      : client.ask<WaitAnswer>("GET", freshPath(asked, leftMs), undefined, leftMs + GRACE_MS);
    const answer = await asking.catch(notYet);
    if (answer !== undefined) return answer;
    // With a file that is wrong no daemon comes.
    if (!isRight) await session.config();
    isRight = true;
    if (leftMs === 0) return undefined;
    await sleep(Math.min(LOOK_MS, leftMs));
  }
}

/** A daemon that waits for a server of its own is like one that has not begun, and so is one that ends, or begins, meanwhile. */
function notYet(error: unknown): undefined {
  if (findMillraceError(error)?.kind !== "retryable") throw error;
  return undefined;
}

function freshPath({ at, sink, tables }: FreshRequest, timeoutMs: number): string {
  const query = new URLSearchParams();
  for (const table of tables) query.append("table", table);
  if (at !== null) query.set("at", at);
  if (sink !== null) query.set("sink", sink);
  query.set("timeout", `${Math.ceil(timeoutMs)}ms`);
  return `/api/v1/fresh?${query.toString()}`;
}

/** As `status` says it; without a state there is nothing more to say. */
async function nobodyHere(session: Session): Promise<WaitAnswer> {
  try {
    const { conditions } = await statusOf(session);
    return { reached: false, missing: conditions.filter((one) => blocks(one, "wait")).map(sentenceOf) };
  } catch (error) {
    const known = findMillraceError(error);
    const why = known === undefined || known.reason === "absent" ? "" : `: ${known.code} ${known.message}`;
    return { reached: false, missing: [`no daemon is running${why}`] };
  }
}
