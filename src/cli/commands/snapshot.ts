import type { ConfigPart, Place } from "../../config/load.ts";
import { systemClock } from "../../core/clock.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { type SnapshotStatus, snapshotStatus } from "../../core/contracts/status.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { openSource, memoryOf } from "../../daemon/ruled-source.ts";
import { cancelSnapshot, expectReadable, tryCondition } from "../../runtime/snapshot/snapshots.ts";
import { askWhileStopped, type StoppedRequest } from "../../runtime/control/while-stopped.ts";
import type { CommandLine } from "../command-line.ts";
import type { Session } from "../session.ts";
import { DaemonClient } from "../daemon-client.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { whileOpen } from "../opened.ts";
import { chosenSinks, withNest } from "../options.ts";
import { auditedHere, byKind, chosenTables, readState, writeState } from "../state.ts";
import { tableText } from "../table.ts";

export function addSnapshot({ program, action }: CommandLine): void {
  const snapshot = program.command("snapshot").description("read tables again beside the stream");
  snapshot
    .command("start")
    .description("read tables again; continues after an interruption")
    .option("--tables <globs...>", "schema.table globs; default: all")
    .option("--sink <name>", "for this sink only; an emptied or failed sink is filled again")
    .option(
      "--where <condition>",
      "only the rows that match this SQL condition of the source; where rules hide something, a condition as in `tables`",
    )
    .action(
      action("each", async (session, options) => {
        const tables = options.tableGlobs();
        const sink = options.text("--sink");
        const where = options.text("--where");
        const started = await start(session, { tables, sink, where });
        session.print({ tables: started }, `reading again: ${started.join(", ")}`);
        return EXIT.done;
      }),
    );
  snapshot
    .command("list")
    .description("tables that are read again, and those of the past")
    .action(
      action("each", async (session) => {
        const snapshots = await list(await session.place());
        session.print({ snapshots: snapshots }, describe(snapshots));
        return EXIT.done;
      }),
    );
  snapshot
    .command("cancel <id>")
    .description("cancel an unfinished one; rows that were read stay")
    .action(
      action("one", async (session, _options, [id]) => {
        const cancelled = await cancel(await session.place(), Number(id));
        if (!cancelled) throw cliError("MR1114", `there is no unfinished snapshot ${id}`);
        session.print({ cancelled: Number(id) }, `cancelled: ${id}`);
        return EXIT.done;
      }),
    );
}

interface Start {
  readonly tables: readonly string[];
  readonly sink: string | null;
  readonly where: string | null;
}

/** Through the running daemon; without one, in the state store for the next start. */
async function start(session: Session, { tables, sink, where }: Start): Promise<readonly string[]> {
  const place = await session.place();
  const chosen = chosenSinks(withNest(place), sink);
  const meant = await chosenTables(place, tables);
  const ids = meant.map(({ id }) => id);
  const body = { sinks: sink === null ? [] : [sink], tables: tables.length === 0 ? [] : ids, where };
  await new DaemonClient(place.state).tell("/api/v1/snapshots", body, async () => {
    if (where !== null) await tryOffline(await session.part({ sinks: [] }), meant, where);
    if (sink !== null) await expectReadableOffline(session, place, sink, tables.length === 0 && where === null);
    await store(place, { sinks: chosen, tableIds: ids, where, isWhole: tables.length === 0 });
  });
  return ids;
}

async function expectReadableOffline(session: Session, place: Place, name: string, isWhole: boolean): Promise<void> {
  const record = await readState(place, (state) => state.sinks.get(name));
  if (record?.error == null) return;
  const [sink] = await session.sinks([name]);
  if (sink !== undefined) expectReadable({ name, form: sink.connector.form ?? "mirror", error: record.error }, isWhole);
}

async function tryOffline(config: ConfigPart, tables: readonly TableVersion[], where: string): Promise<void> {
  const memory = await readState(config, (state) => memoryOf(config, state));
  await whileOpen(openSource(config, memory, SILENT), ({ rows }) => tryCondition(systemClock, rows, tables, where));
}

/** Requests a resync of this table in every sink. A suspended table is reinstated. */
export async function readAgain(place: Place, id: string): Promise<void> {
  const names = chosenSinks(withNest(place), null);
  const body = { sinks: [], tables: [id], where: null };
  await new DaemonClient(place.state).tell("/api/v1/snapshots", body, () =>
    store(place, { sinks: names, tableIds: [id], where: null, isWhole: false }),
  );
}

async function store(
  place: Pick<Place, "name" | "state" | "sinks" | "nestSink">,
  request: Omit<StoppedRequest, "takers">,
): Promise<void> {
  const { sinks, tableIds, where } = request;
  const subject = { sinks, tables: tableIds, isPart: where !== null };
  await writeState(place, async (state) => {
    await auditedHere(state, "snapshot start", subject, async () => {
      for (const part of byKind(place, sinks, tableIds)) await askWhileStopped(state, { ...request, ...part });
    });
  });
}

/** From the running daemon if there is one: it knows more than it has stored. */
async function list(config: Place): Promise<readonly SnapshotStatus[]> {
  const answer = await new DaemonClient(config.state).ask<readonly SnapshotStatus[]>("GET", "/api/v1/snapshots");
  if (answer !== undefined) return answer;
  return (await readState(config, ({ snapshots }) => snapshots.list(true))).map((snapshot) => snapshotStatus(snapshot));
}

async function cancel(config: Place, id: number): Promise<boolean> {
  const answer = await new DaemonClient(config.state).ask<{ cancelled: boolean }>("DELETE", `/api/v1/snapshots/${id}`);
  if (answer !== undefined) return answer.cancelled;
  return await writeState(config, async (state) => {
    const cancelled = async () => await cancelSnapshot(state.snapshots, id);
    return await auditedHere(state, "snapshot cancel", { id }, cancelled, (done) => ({ cancelled: done }));
  });
}

function describe(snapshots: readonly SnapshotStatus[]): string {
  const head = ["id", "table", "sink", "scope", "state", "rows", "chunks", "since", "why"];
  const rows = snapshots.map((one) => {
    const { id, tableId, sink, scope, state, rowsDone, chunksDone, startedAt, reason } = one;
    const again = one.restartedCount > 0 ? `, begun again ${one.restartedCount} times` : "";
    const resumed = one.resumedCount > 0 ? `, resumed ${one.resumedCount} times` : "";
    const since = `${startedAt ?? "-"}${resumed}${again}`;
    const stands = one.error === null ? state : `${state}, ${one.error.code}`;
    return [id, tableId, sink, scope.kind, stands, rowsDone, chunksDone, since, reason];
  });
  return [tableText(head, rows, "none"), ...snapshots.flatMap(refusalLines)].join("\n");
}

/** Formatted like an entry of `status`. */
function refusalLines({ id, tableId, sink, error }: SnapshotStatus): readonly string[] {
  if (error === null) return [];
  const what = `  ! ${id}: ${tableId} can't be read for ${sink}: ${error.code} ${error.message} (it is tried again by itself)`;
  return error.hint === null ? [what] : [what, `    -> ${error.hint}`];
}
