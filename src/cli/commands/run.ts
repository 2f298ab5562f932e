import type { Config } from "../../config/config.ts";
import type { DaemonOptions, DaemonResult } from "../../daemon.ts";
import { keepHeapSmall } from "../../ops/heap.ts";
import type { CommandLine } from "../command-line.ts";
import { daemonExitCodeOf, EXIT, type ExitCode } from "../exit-codes.ts";
import type { Session } from "../session.ts";

export function addRun({ program, action }: CommandLine): void {
  program
    .command("run")
    .description("the daemon: follow the source and keep every sink equal to it")
    .option("--once", "bring every sink to the position that the source has now, then end")
    .action(
      action(async (session, options) => {
        keepHeapSmall();
        const config = await session.config();
        if (config.exposure !== null) session.log.warn({ fix: config.exposure.fix }, config.exposure.what);
        const once = options["once"] === true;
        if (!once) return await asDaemon(session, config);
        const { missing } = await runHere(config, { once, ...session.daemon });
        const text = missing.length === 0 ? "every sink is at the source's position" : missing.join("\n");
        session.print({ reached: missing.length === 0, missing }, text);
        return missing.length === 0 ? EXIT.done : EXIT.failed;
      }),
    );
}

async function asDaemon(session: Session, config: Config): Promise<ExitCode> {
  // For a bug outside of any awaited call, Node would print the stack and exit with 1, and a supervisor would not start
  // it again.
  process.once("uncaughtException", (error) => {
    session.failDaemon(error);
    process.exit(daemonExitCodeOf(error));
  });
  try {
    await runHere(config, { once: false, ...session.daemon });
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
  const { runDaemon } = await import("../../daemon.ts");
  return await runDaemon(config, options, untilSignal());
}

/** Aborts at SIGTERM or SIGINT; a second signal ends the process at once. */
export function untilSignal(): AbortSignal {
  const stopping = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () => stopping.abort(new DOMException(`stopped by ${name}`, "AbortError")));
  }
  return stopping.signal;
}
