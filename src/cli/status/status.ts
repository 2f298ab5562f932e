import type { Place } from "../../config/load.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import {
  isRunning,
  letterFacts,
  pipelineStatus,
  type SinkStatus,
  snapshotStatus,
  type StatusDocument,
} from "../../core/contracts/status.ts";
import { statusDocument } from "../../core/conditions/conditions.ts";
import { isToBeTold } from "../../core/conditions/condition.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { NUMBERED } from "../../core/contracts/positions.ts";
import { withNest } from "../options.ts";
import { liveHolder, readState, storedPositions } from "../state.ts";
import type { Session } from "../session.ts";
import { roomsOfState } from "../../state/open.ts";
import { pastOf } from "../../reconcile/report/past.ts";
import { LEASE_MS } from "../../daemon/lease.ts";
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
  return answer ?? (await readState(place, async (state) => await storedStatus(place, state)));
}

const NOT_STORED = { paused: false, error: null, lost: null, covered: null, checkpoint: null };

/** Without a daemon: the last facts in the state store. */
async function storedStatus(place: Place, state: StateStore): Promise<StatusDocument> {
  const positions = await storedPositions(place, state);
  const spell = (commit: bigint | undefined, of = positions) => (commit === undefined ? null : of.format(commit));
  const record = await state.source.get();
  const position = spell(record?.acknowledged?.commit ?? record?.origin?.commit);
  const letters = await state.deadLetters.waiting();
  const records = await state.sinks.all();
  const sinks = withNest(place).sinks.map(({ name, isOfDocuments }) => {
    const { paused, error, lost = null, covered, checkpoint } = records.find((one) => one.name === name) ?? NOT_STORED;
    const stored: Partial<SinkStatus> = {
      state: paused ? "paused" : error === null ? "stopped" : "failed",
      position: spell((covered ?? checkpoint)?.commit, isOfDocuments ? NUMBERED : positions),
      error,
      needsPerson: error !== null,
      lost,
    };
    return [name, { ...stored, ...letterFacts(letters.get(name)) }] as const;
  });
  const suspended = (await state.suspensions.list()).map(({ tableId: table, sink, error }) => {
    return { table, sink, error, mayReturn: false };
  });
  const captured = (await state.schemas.list()).length - suspended.filter(({ sink }) => sink === null).length;
  const open = await state.snapshots.list();
  const heldBy = await liveHolder(state);
  const ended = heldBy === null ? await state.ending.get() : null;
  const unreleased = heldBy === null ? await state.lease.unreleased() : null;
  const known = pipelineStatus(
    { ...place, ...withNest(place) },
    {
      source: { position, acknowledged: position },
      sinks: new Map(sinks),
      tables: { captured, suspended },
      unfinishedSnapshots: open.length + (await state.snapshots.countKeys()),
      snapshots: open.map((snapshot) => snapshotStatus(snapshot)).filter(isRunning),
      ...(heldBy === null ? {} : { heldBy }),
      ...(ended === null ? {} : { ended }),
      ...(unreleased === null ? {} : { lastSeenAt: new Date(unreleased.expiresAtMs - LEASE_MS).toISOString() }),
    },
  );
  const reconcile = { next: null, failure: null, ...pastOf(await state.reports.list()) };
  return statusDocument(known, { state: { error: null, rooms: roomsOfState(place.state) }, reconcile });
}
