/** The source's server ends in one way after another under a daemon that has to go on by itself when it is back. */
import { expect } from "vitest";
import type { Daemon, Installation } from "../daemon/daemon-process.ts";
import type { PatientWriter } from "../load/patient-writer.ts";
import { eventually } from "../run/waiting.ts";

export type ServerEnd = "kill" | "stop" | "pause";

interface EndingServer extends Record<ServerEnd, () => Promise<unknown>> {
  start(): Promise<unknown>;
  resume(): Promise<unknown>;
}

interface Watched {
  readonly installation: Installation;
  readonly daemon: Daemon;
}

const COMMITS = 50;
/** The longest pause between the daemon's attempts is half a minute. */
const BACK_WITHIN_MS = 60_000;

/** `errors`: the code that `status` shows while the server is away. */
export async function endAndComeBack(
  ends: readonly ServerEnd[],
  server: EndingServer,
  writer: PatientWriter,
  { installation, daemon }: Watched,
  errors: RegExp,
): Promise<void> {
  const error = async () => (await installation.status()).source.error?.code ?? null;
  for (const end of ends) {
    await writer.commits(COMMITS);
    await server[end]();
    await eventually(async () => expect(await error()).toMatch(errors), { withinMs: BACK_WITHIN_MS });
    await (end === "pause" ? server.resume() : server.start());
    await writer.commits(COMMITS, BACK_WITHIN_MS);
    await eventually(async () => expect(await error()).toBeNull(), { withinMs: BACK_WITHIN_MS });
    expect(daemon.exited).toBe(false);
  }
}
