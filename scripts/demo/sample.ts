/** Reads the numbers that the demo shows from a running daemon over HTTP. */
import type { StatusDocument } from "../../src/core/contracts/status.ts";

export interface SinkSample {
  readonly name: string;
  readonly state: string;
  /** Rows made durable since this daemon started. */
  readonly rows: number;
  readonly lagSeconds: number | null;
  /** Sum and count of the times from commit to durable, over the timed transactions. */
  readonly commitToApplySeconds: number;
  readonly commitToApplyCount: number;
}

export interface Sample {
  readonly phase: string;
  readonly sinks: readonly SinkSample[];
}

const ANSWER_WITHIN_MS = 2_000;

/** Undefined if no daemon answers. */
export async function sample(url: string): Promise<Sample | undefined> {
  try {
    const [status, metrics] = await Promise.all([ask(`${url}/api/v1/status`), ask(`${url}/metrics`)]);
    // The daemon comes from this checkout, and so does its document.
    const { phase, sinks }: StatusDocument = JSON.parse(status);
    const sums = sumsBySink(metrics);
    return {
      phase,
      sinks: sinks.map(({ name, state, catchingUp, lagSeconds }) => ({
        name,
        state: catchingUp ? "catching up" : state,
        lagSeconds,
        rows: sums.get(`millrace_sink_rows_total ${name}`) ?? 0,
        commitToApplySeconds: sums.get(`millrace_commit_to_apply_seconds_sum ${name}`) ?? 0,
        commitToApplyCount: sums.get(`millrace_commit_to_apply_seconds_count ${name}`) ?? 0,
      })),
    };
  } catch {
    // The daemon is being killed and restarted; other code checks that it is back.
    return undefined;
  }
}

async function ask(url: string): Promise<string> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
  return await answer.text();
}

/** Every metric that has a sink, summed over its other labels, by `name sink`. */
function sumsBySink(text: string): Map<string, number> {
  const sums = new Map<string, number>();
  for (const line of text.split("\n")) {
    const match = /^(\w+)\{(?:[^}]*,)?sink="([^"]*)"[^}]*\} (\S+)/.exec(line);
    if (match === null) continue;
    const key = `${match[1]} ${match[2]}`;
    sums.set(key, (sums.get(key) ?? 0) + Number(match[3]));
  }
  return sums;
}
