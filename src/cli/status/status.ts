import type { Config } from "../../config/config.ts";
import { NOT_COUNTED } from "../../core/contracts/source-counters.ts";
import type { PipelineStatus, SinkStatus, StatusDocument } from "../../core/contracts/status.ts";
import { isRunning, snapshotStatus } from "../../runtime/snapshot/snapshots.ts";
import { statusDocument } from "../../core/conditions/conditions.ts";
import { isToBeTold } from "../../core/conditions/condition.ts";
import { openState } from "../../state/open.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { liveHolder } from "../read-state.ts";
import type { Session } from "../session.ts";
import { pastOf } from "../../reconcile/report/past.ts";
import { lineageText, storedLineage } from "./lineage.ts";
import { sharesText, statusText } from "./status-text.ts";

export function addStatus({ program, actionFor }: CommandLine): void {
  program
    .command("status")
    .description("what lags and why: the source, each sink, tables and rows that need a decision")
    .option("--tables", "also each table's columns: where their values go, and under which mask")
    .option("--exit-code", "exit with 3 if somebody has to act or it is not ready, with 1 if no daemon runs")
    .action(
      actionFor({ summary: sharesText }, async (session, options) => {
        const status = await statusOf(session);
        const text = statusText(status, Date.now());
        const exitCode = options["exitCode"] === true ? exitCodeOf(status) : EXIT.done;
        if (options["tables"] !== true) {
          session.print(status, text);
          return exitCode;
        }
        const lineage = await storedLineage(await session.config());
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
  const { state } = await session.place();
  const answer = await new DaemonClient(state).ask<StatusDocument>("GET", "/api/v1/status");
  return answer ?? (await storedStatus(await session.config()));
}

/** Without a daemon: the last facts in the state store. */
async function storedStatus(config: Config): Promise<StatusDocument> {
  const state = await openState(config.state, { name: config.name, readOnly: true });
  const source = await config.source.connector.create(SILENT);
  try {
    const record = await state.source.get();
    if (record?.identity != null) source.positions.recall?.(record.identity);
    const letters = await state.deadLetters.waiting();
    const spell = (commit: bigint | undefined) => (commit === undefined ? null : source.positions.format(commit));
    const position = spell(record?.acknowledged?.commit ?? record?.origin?.commit);
    const sinks: SinkStatus[] = [];
    for (const { name, kind } of config.sinks) {
      const known = await state.sinks.get(name);
      sinks.push({
        name,
        kind,
        state: known?.paused === true ? "paused" : known?.error == null ? "stopped" : "failed",
        position: spell((known?.covered ?? known?.written)?.commit),
        lagSeconds: null,
        lagBytes: null,
        deadLetters: letters.get(name)?.count ?? 0,
        lastRefusal: letters.get(name)?.last ?? null,
        error: known?.error ?? null,
        needsPerson: known?.error != null,
        catchingUp: false,
        waitsFor: [],
      });
    }
    const aside = [...(await state.schemas.suspended())].map(([table, error]) => ({ table, error }));
    const suspended = (await state.suspensions.list()).map(({ tableId, ...rest }) => ({ table: tableId, ...rest }));
    const open = await state.refills.list();
    const heldBy = await liveHolder(state);
    const ended = heldBy === null ? await state.ending.get() : null;
    const stored: PipelineStatus = {
      name: config.name,
      phase: "stopped",
      source: {
        kind: config.source.kind,
        up: false,
        position,
        acknowledged: position,
        lagBytes: null,
        lagSeconds: null,
        retainedBytes: null,
        safeBytes: null,
        safeSeconds: null,
        warnings: [],
        ...NOT_COUNTED,
        error: null,
        needsPerson: false,
        goneBack: null,
        copy: null,
      },
      sinks,
      tables: {
        captured: (await state.schemas.list()).length - aside.length,
        aside,
        refused: [],
        unreadable: [],
        suspended,
      },
      refills: open.length + (await state.refills.countKeys()),
      snapshots: open.map((refill) => snapshotStatus(refill)).filter(isRunning),
      daemon: null,
      ...(heldBy === null ? {} : { heldBy }),
      ...(ended === null ? {} : { ended }),
    };
    const reconcile = { next: null, failure: null, ...pastOf(await state.reports.list()) };
    return statusDocument(stored, { state: { error: null }, reconcile });
  } finally {
    await source.close();
    await state.close();
  }
}
