/** A daemon under load that is killed at failpoints, and what it must be like afterwards. */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { patient } from "../run/waiting.ts";
import type { Load, Victim } from "./fault-load.ts";

interface Until {
  readonly withinMs: number;
  readonly everyMs: number;
  /** Makes a running daemon pass there; done again until it does. */
  readonly provoke?: ((round: number) => Promise<unknown>) | undefined;
}

/** `entry`: a failpoint and its passage, as the daemon reads it. */
export async function killAt(victim: Victim, entry: string, { withinMs, everyMs, provoke }: Until): Promise<void> {
  const daemon = victim.run({ MILLRACE_FAILPOINTS: entry });
  const deadline = performance.now() + patient(withinMs);
  for (let round = 0; !daemon.exited && performance.now() < deadline; round++) {
    await provoke?.(round);
    await Promise.race([daemon.ended, sleep(everyMs)]);
  }
  expect({ entry, exited: daemon.exited }, daemon.said.slice(-2_000)).toEqual({ entry, exited: true });
  const { signal, stderr } = await daemon.ended;
  expect({ entry, signal }, stderr.slice(-2_000)).toEqual({ entry, signal: "SIGKILL" });
}

/** After the last kill: it starts, takes 50 more transactions, and then the load ends. Returns what is wrong. */
export async function faultsAfter(load: Load, victim: Victim): Promise<readonly string[]> {
  const last = victim.run();
  await last.streaming();
  await load.workload.written(50);
  await load.stop();
  return (await victim.verdict(last)).faults;
}
