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
import { byKind, carryOut, chosenTables, readState } from "../state.ts";
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
        const globs = options.tableGlobs();
        const sink = options.text("--sink");
        const where = options.text("--where");
        const place = await session.place();
        chosenSinks(withNest(place), sink);
        const tables = await chosenTables(place, globs);
        const tableIds = tables.map(({ id }) => id);
        const isWhole = globs.length === 0;
        await start(place, { sink, tableIds, where, isWhole }, async () => {
          if (where !== null) await tryOffline(await session.part({ sinks: [] }), tables, where);
          if (sink !== null) await expectReadableOffline(session, place, sink, isWhole && where === null);
        });
        session.print({ tables: tableIds }, `reading again: ${tableIds.join(", ")}`);
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
  await start(place, { sink: null, tableIds: [id], where: null, isWhole: false });
}

interface Start extends Pick<StoppedRequest, "tableIds" | "where" | "isWhole"> {
  readonly sink: string | null;
}

async function start(place: Place, { sink, ...asked }: Start, prepare?: () => Promise<void>): Promise<void> {
  const { tableIds, where, isWhole } = asked;
  const sinks = chosenSinks(withNest(place), sink);
  await carryOut(place, {
    path: "/api/v1/snapshots",
    body: { sinks: sink === null ? [] : [sink], tables: isWhole ? [] : tableIds, where },
    action: "snapshot start",
    subject: { sinks, tables: tableIds, isPart: where !== null },
    prepare,
    work: async (state) => {
      for (const part of byKind(place, sinks, tableIds)) await askWhileStopped(state, { ...asked, ...part });
      return {};
    },
    mayRepeat: true,
  });
}

/** From the running daemon if there is one: it knows more than it has stored. */
async function list(config: Place): Promise<readonly SnapshotStatus[]> {
  const answer = await new DaemonClient(config.state).ask<readonly SnapshotStatus[]>("GET", "/api/v1/snapshots");
  if (answer !== undefined) return answer;
  return (await readState(config, ({ snapshots }) => snapshots.list(true))).map((snapshot) => snapshotStatus(snapshot));
}

async function cancel(place: Place, id: number): Promise<boolean> {
  const { cancelled } = await carryOut(place, {
    method: "DELETE",
    path: `/api/v1/snapshots/${id}`,
    action: "snapshot cancel",
    subject: { id },
    work: async ({ snapshots }) => ({ cancelled: await cancelSnapshot(snapshots, id) }),
  });
  return cancelled;
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
