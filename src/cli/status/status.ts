import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import type { Session } from "../session.ts";
import { isToBeTold } from "../../core/conditions/condition.ts";
import type { StatusDocument } from "../../core/contracts/status.ts";
import { sharesText, statusText } from "./status-text.ts";

export function addStatus({ program, action }: CommandLine): void {
  program
    .command("status")
    .description("what lags and why: the source, each sink, tables and rows that need a decision")
    .option("--tables", "also each table's columns: where their values go, and under which mask")
    .option("--exit-code", "exit with 3 if somebody has to act or it is not ready, with 1 if no daemon runs")
    .action(
      action({ summary: sharesText }, async (session, options) => {
        const status = await statusOf(session);
        const text = statusText(status, Date.now());
        const exitCode = options.has("--exit-code") ? exitCodeOf(status) : EXIT.done;
        if (!options.has("--tables")) {
          session.print(status, text);
          return exitCode;
        }
        const { lineageText, storedLineage } = await import("./lineage.ts");
        const lineage = await storedLineage(await session.place());
        session.print({ ...status, tables: { ...status.tables, lineage } }, `${text}\n${lineageText(lineage)}`);
        return exitCode;
      }),
    );
}

/**
 * For monitors: 0 exactly while `/readyz` says ready and nothing needs a person; 1 no daemon runs here, and the lease names
 * none elsewhere; 3 all else.
 */
export function exitCodeOf(status: StatusDocument): ExitCode {
  if (status.daemon === null && status.heldBy === undefined) return EXIT.failed;
  return status.conditions.some(isToBeTold) ? EXIT.drift : EXIT.done;
}

/** Of the running daemon; without one, what the state store knows. */
export async function statusOf(session: Session): Promise<StatusDocument> {
  const place = await session.place();
  const answer = await new DaemonClient(place.state).ask<StatusDocument>("GET", "/api/v1/status");
  if (answer !== undefined) return answer;
  const { storedStatus } = await import("./stored-status.ts");
  return await storedStatus(place);
}
