import { readFileSync } from "node:fs";
import type { Config } from "../../config/config.ts";
import { systemClock } from "../../core/clock.ts";
import type { DaemonOptions, DaemonResult } from "../../daemon/daemon.ts";
import { keepHeapSmall } from "../../ops/heap.ts";
import { underSupervisor } from "../../sharing/supervised.ts";
import type { CommandLine } from "../command-line.ts";
import { daemonExitCodeOf, EXIT, type ExitCode } from "../exit-codes.ts";
import type { Session } from "../session.ts";
import { inEachShare } from "../shares/each-share.ts";
import { expectSameDivision, runShares } from "../shares/run-shares.ts";

export function addRun({ program, action }: CommandLine): void {
  program
    .command("run")
    .description("the daemon: follow the source and keep every sink equal to it")
    .option("--once", "bring every sink to the position that the source has now, then end")
    .action(
      action("none", async (session, options) => {
        keepHeapSmall();
        const { exposure, shares } = await session.whole();
        if (exposure !== null) session.log.warn({ fix: exposure.fix }, exposure.what);
        const isOfAll = shares !== null && session.options.share === null;
        if (!options.has("--once"))
          return await asDaemon(session, isOfAll ? runShares : (own, signal) => runOne(own, signal));
        return isOfAll
          ? await inEachShare(session, { name: shares.name, count: shares.division.count }, { work: runOnce })
          : await runOnce(session);
      }),
    );
}

async function runOnce(session: Session): Promise<ExitCode> {
  const config = await session.config();
  await expectSameDivision(session);
  const { missing } = await runHere(config, { once: true, ...session.daemon });
  const text = missing.length === 0 ? "every sink is at the source's position" : missing.join("\n");
  session.print({ reached: missing.length === 0, missing }, text);
  return missing.length === 0 ? EXIT.done : EXIT.failed;
}

/** The daemon itself. `config`: that of the session, or one that differs from it for this run. */
export async function runOne(session: Session, signal: AbortSignal, given?: Config): Promise<void> {
  const config = given ?? (await session.config());
  const supervised = underSupervisor({ process, clock: systemClock, logger: session.log }, signal);
  const [{ runDaemon }, { untilHealed }] = await Promise.all([
    import("../../daemon/daemon.ts"),
    import("../../daemon/until-healed.ts"),
  ]);
  // Where processes can share the tables, one more than there are shares is ready to take over.
  const awaitsLease = supervised !== null || config.source.connector.group !== undefined;
  const until = supervised?.signal ?? signal;
  const run = async (serves: () => Promise<void>): Promise<void> => {
    await expectSameDivision(session, supervised === null ? null : session.options.share);
    await runDaemon(config, { once: false, awaitsLease, serves, ...session.daemon }, until);
  };
  await untilHealed({ config, clock: systemClock, ...session.daemon }, run, until);
}

export type Daemon = (session: Session, signal: AbortSignal) => Promise<void>;

/** Until a signal ends it. */
export async function asDaemon(session: Session, run: Daemon): Promise<ExitCode> {
  // For a bug outside of any awaited call, Node would print the stack and exit with 1, and a supervisor would not start
  // it again.
  process.once("uncaughtException", (error) => {
    session.failDaemon(error);
    process.exit(daemonExitCodeOf(error));
  });
  // The log's reader may end, or its disk be full: lines are lost then, and the daemon goes on.
  process.stderr.on("error", () => undefined);
  try {
    await run(session, untilSignal());
    return EXIT.done;
  } catch (error) {
    session.failDaemon(error);
    return daemonExitCodeOf(error);
  }
}

/**
 * Runs the daemon in this process until a signal ends it. Its code is loaded here, so that other commands start faster.
 */
export async function runHere(config: Config, options: DaemonOptions): Promise<DaemonResult> {
  const { runDaemon } = await import("../../daemon/daemon.ts");
  return await runDaemon(config, options, untilSignal());
}

const stopping = new AbortController();
const PARENT_LOOK_MS = 500;

/** SIGHUP: the terminal was closed. */
const STOPS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;
/** A terminal signals npm and the daemon, and npm passes its signal on: what comes so soon is the same stop. */
const SAME_STOP_MS = 1_000;

/**
 * Aborts at a signal; a second one, of any name, ends the process at once. Not that of a share: a stop of a group of
 * processes signals it too, and its supervisor does after it.
 */
export function untilSignal(): AbortSignal {
  const isOfShare = process.send !== undefined;
  const stop = (name: NodeJS.Signals): void => {
    stopping.abort(new DOMException(`stopped by ${name}`, "AbortError"));
    if (!isOfShare) setTimeout(() => STOPS.forEach((each) => process.removeListener(each, stop)), SAME_STOP_MS).unref();
  };
  for (const name of STOPS) if (process.listenerCount(name) === 0) process.on(name, stop);
  if (process.env["npm_lifecycle_event"] !== undefined) endWithParent();
  return stopping.signal;
}

/**
 * npm runs a program by a shell. It passes signals on to that shell, which ends and tells the program nothing; if npm is
 * killed, the shell goes on waiting for a program that nobody has any more.
 */
function endWithParent(): void {
  const parent = process.ppid;
  const npm = npmAbove(parent);
  const looking = setInterval(() => {
    if (process.ppid === parent && (npm === null || npm.isThere())) return;
    clearInterval(looking);
    stopping.abort(new DOMException("npm has ended", "AbortError"));
  }, PARENT_LOOK_MS);
  looking.unref();
}

/** Null: the parent is npm itself, or that can't be known. */
function npmAbove(parent: number): { readonly isThere: () => boolean } | null {
  const shell = processOf(parent);
  if (shell === null || !/^-?(?:\w*sh|busybox)$/.test(shell.name)) return null;
  const npm = shell.parent;
  return { isThere: () => processOf(parent)?.parent === npm };
}

/** By /proc, which Linux has. */
function processOf(pid: number): { readonly name: string; readonly parent: number } | null {
  try {
    const [, name = "", parent = ""] = /^\d+ \((.*)\) \S (\d+) /s.exec(readFileSync(`/proc/${pid}/stat`, "utf8")) ?? [];
    return { name, parent: Number(parent) };
  } catch {
    return null;
  }
}
