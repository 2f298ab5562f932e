import { setTimeout as sleep } from "node:timers/promises";
import type { Place } from "../../config/load.ts";
import { durationOf } from "../arguments.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { EXIT } from "../exit-codes.ts";
import { holderOf } from "../read-state.ts";
import type { Session } from "../session.ts";

/** How often to look for a daemon that is not there yet. */
const LOOK_MS = 200;
/** Extra time for the daemon to report the timeout. */
const GRACE_MS = 10_000;

interface WaitAnswer {
  readonly reached: boolean;
  readonly missing: readonly string[];
}

export function addWait({ program, action }: CommandLine): void {
  program
    .command("wait")
    .description("return when every sink has made durable all that was committed at the source before the call")
    .option("--timeout <duration>", "give up after this, with exit code 5", "60s")
    .action(
      action(async (session, options) => {
        const place = await session.place();
        const timeoutMs = durationOf("--timeout", options["timeout"]);
        const answer = (await waitFor(session, place, timeoutMs)) ?? (await nobodyHere(place));
        const text = answer.reached ? "every sink is up to date" : ["timed out:", ...answer.missing].join("\n  ");
        session.print(answer, text);
        return answer.reached ? EXIT.done : EXIT.timedOut;
      }),
    );
}

/** Undefined: no daemon listened before the timeout. */
async function waitFor(session: Session, { state }: Place, timeoutMs: number): Promise<WaitAnswer | undefined> {
  const client = new DaemonClient(state);
  const deadlineMs = performance.now() + timeoutMs;
  let isRight = false;
  for (;;) {
    const leftMs = Math.max(0, deadlineMs - performance.now());
    const answer = await client.ask<WaitAnswer>("POST", "/api/v1/wait", { timeoutMs: leftMs }, leftMs + GRACE_MS);
    if (answer !== undefined) return answer;
    // With a file that is wrong no daemon comes.
    if (!isRight) await session.config();
    isRight = true;
    if (leftMs === 0) return undefined;
    await sleep(Math.min(LOOK_MS, leftMs));
  }
}

async function nobodyHere(place: Place): Promise<WaitAnswer> {
  const holder = await holderOf(place);
  const missing = holder === null ? "no daemon is running" : `no daemon listens here; the lease is held by ${holder}`;
  return { reached: false, missing: [missing] };
}
