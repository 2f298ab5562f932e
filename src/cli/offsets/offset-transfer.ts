/** `offsets export` and `offsets import` move a daemon to another machine. */
import { count } from "../../core/figures.ts";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import * as z from "zod";
import type { ConfigPart, Place } from "../../config/load.ts";
import { findMillraceError, reasonOf } from "../../core/errors.ts";
import { parsePosition, comparePositions, type Position } from "../../core/model/position.ts";
import type { Positions } from "../../core/contracts/positions.ts";
import type { Sink } from "../../core/contracts/sink.ts";
import type { Source } from "../../core/contracts/source.ts";
import type { StateDump, StateRow } from "../../core/contracts/state-store.ts";
import { PRODUCER } from "../../version.ts";
import { cliError } from "../errors.ts";
import { expectNoFile, writeNamedFile } from "../files.ts";
import { answered, whileOpen } from "../opened.ts";
import { NOT_DONE } from "../options.ts";
import { alone, auditedLater, readState, storedPositions } from "../state.ts";
import type { Session } from "../session.ts";
import type { Config, SinkConfig } from "../../config/config.ts";
import { reachable, unreachable } from "./chosen-offset.ts";

const FORMAT_VERSION = 1;

const ROW = z.record(z.string(), z.union([z.string(), z.number(), z.null()]));
const BODY = z.strictObject({
  format: z.literal("millrace-offsets"),
  formatVersion: z.number(),
  name: z.string(),
  sourceKind: z.string(),
  exportedAt: z.string(),
  producer: z.string(),
  state: z.strictObject({
    migration: z.number(),
    leaseNumber: z.number(),
    relations: z.record(z.string(), z.array(ROW)),
  }),
});
const FILE = BODY.extend({ sha256: z.string() });
type Body = z.output<typeof BODY>;

interface Transfer {
  readonly name: string;
  readonly epoch: number | null;
  readonly sinks: readonly { readonly name: string; readonly position: string | null }[];
  readonly tables: number;
  readonly snapshots: number;
  readonly deadLetters: number;
}

interface ImportPlan extends Transfer {
  readonly applied: boolean;
  readonly exportedAt: string;
  /** The existing state that the import would replace; null if there is none. */
  readonly replaces: Transfer | null;
}

/** Works beside a running daemon too: at the import each sink reports how far it went after the export. */
export async function exportOffsets(place: Place, file: string, isForced: boolean): Promise<Transfer> {
  if (!isForced) expectNoFile(file);
  const { dump, positions } = await readState(place, async (state) => {
    return { dump: await state.dump(), positions: await storedPositions(place, state) };
  });
  const body: Body = {
    format: "millrace-offsets",
    formatVersion: FORMAT_VERSION,
    name: place.name,
    sourceKind: place.source.kind,
    exportedAt: new Date().toISOString(),
    producer: PRODUCER,
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same rows, read-only here and not in zod's words
    state: dump as Body["state"],
  };
  // Dead letters hold rows of the source.
  writeNamedFile(file, `${JSON.stringify({ ...body, sha256: digestOf(body) })}\n`, isForced);
  return summaryOf(place.name, dump, positions);
}

export async function importOffsets(session: Session, file: string, isConfirmed: boolean): Promise<ImportPlan> {
  const place = await session.place();
  const body = read(file);
  if (body.name !== place.name)
    throw cliError("MR1122", `the export is of ${JSON.stringify(body.name)}, this configuration is ${place.name}`);
  if (body.sourceKind !== place.source.kind)
    throw cliError("MR1122", `the export is of a ${body.sourceKind} source, this one is ${place.source.kind}`);
  // A sink that can't be asked, for want of a variable too, is where the export says.
  const config = await session.part({ sinks: [], others: true });
  return await whileOpen(config.source.connector.create(session.log), async (source) => {
    await expectSameLog(source, body.state);
    const present = await presentIn(place);
    const spelled = (dump: StateDump): Transfer => summaryOf(config.name, dump, source.positions);
    const replaces = present === null || isEmpty(present) ? null : spelled(present);
    if (isConfirmed) await replace(session, place, { config, source, dump: body.state });
    return { ...spelled(body.state), applied: isConfirmed, exportedAt: body.exportedAt, replaces };
  });
}

interface Replaced {
  readonly config: ConfigPart;
  readonly source: Source;
  readonly dump: StateDump;
}

/** Invariant: an import never replaces the state by one that no daemon can start from. */
async function replace(session: Session, place: Place, { config, source, dump }: Replaced): Promise<void> {
  const names = place.sinks.map(({ name }) => name);
  await alone(
    place,
    async (state) => {
      await expectReachable(session, config, source, dump, names);
      await state.restore(dump);
    },
    { create: true },
  );
  // The imported state has its own audit log; this is its next entry.
  const { leaseNumber, migration } = dump;
  await auditedLater(place, "offsets import", { leaseNumber, migration }, {});
}

function read(file: string): Body {
  try {
    const { sha256, ...body } = FILE.parse(JSON.parse(readFileSync(file, "utf8")));
    if (body.formatVersion > FORMAT_VERSION) throw cliError("MR1140", `${file} was written by a newer Millrace`);
    if (sha256 !== digestOf(body)) throw cliError("MR1140", `the checksum of ${file} is wrong: it was changed or cut`);
    return body;
  } catch (error) {
    if (findMillraceError(error) !== undefined) throw error;
    throw cliError("MR1140", `${file} can't be read as an export of offsets`, { cause: error });
  }
}

/** Hash of the body as it is written: JSON keeps the order of the fields. */
function digestOf(body: Body): string {
  const { format, formatVersion, name, sourceKind, exportedAt, producer, state } = body;
  const { migration, leaseNumber, relations } = state;
  const ordered = [format, formatVersion, name, sourceKind, exportedAt, producer, migration, leaseNumber];
  const rows = Object.entries(relations).map(([relation, list]) => [relation, list.map((row) => Object.entries(row))]);
  return createHash("sha256")
    .update(JSON.stringify([ordered, rows]))
    .digest("hex");
}

/** Throws if the server does not have the log of the export. */
async function expectSameLog({ admin, log }: Pick<Source, "admin" | "log">, dump: StateDump): Promise<void> {
  const record = rowsOf(dump, "source")[0];
  const identity = textOf(record, "identity");
  const place = textOf(record, "acknowledged") ?? textOf(record, "origin");
  if (identity === null || place === null) return;
  const { signal } = new AbortController();
  const stored = parsePosition(place);
  const first = await log.earliest(signal);
  // The source may have dropped log since; the sinks may hold it. The start asks them.
  const from = first !== null && first > stored.commit ? { ...stored, commit: first } : stored;
  const parsed = z.record(z.string(), z.string()).parse(JSON.parse(identity));
  try {
    await admin.resume(parsed, { from, reached: from }, signal);
  } catch (error) {
    const known = findMillraceError(error);
    if (known?.kind !== "fatal") throw error;
    throw cliError("MR1122", `the source does not have the log of this export: ${known.code} ${known.message}`, {
      cause: error,
    });
  }
}

/** What the state holds now; null if there is no state. */
async function presentIn(place: Place): Promise<StateDump | null> {
  try {
    return await readState(place, (state) => state.dump());
  } catch (error) {
    if (reasonOf(error) === "absent") return null;
    throw error;
  }
}

function isEmpty(dump: StateDump): boolean {
  return rowsOf(dump, "source").length === 0 && rowsOf(dump, "sink").length === 0;
}

function summaryOf(name: string, dump: StateDump, positions: Positions): Transfer {
  const epoch = rowsOf(dump, "source")[0]?.["epoch"];
  const open = (row: StateRow): boolean => row["state"] === "waiting" || row["state"] === "running";
  return {
    name,
    epoch: typeof epoch === "number" ? epoch : null,
    sinks: rowsOf(dump, "sink").map((row) => {
      const position = textOf(row, "covered") ?? textOf(row, "written");
      const spelled = position === null ? null : positions.format(parsePosition(position).commit);
      return { name: String(row["name"]), position: spelled };
    }),
    tables: new Set(rowsOf(dump, "table_version").map((row) => row["table_id"])).size,
    snapshots: rowsOf(dump, "snapshot").filter(open).length,
    deadLetters: rowsOf(dump, "dead_letter").filter((row) => row["state"] === "waiting").length,
  };
}

function rowsOf({ relations }: StateDump, relation: string): readonly StateRow[] {
  return relations[relation] ?? [];
}

function textOf(row: StateRow | undefined, column: string): string | null {
  const value = row?.[column];
  return typeof value === "string" ? value : null;
}

export function importText(plan: ImportPlan): string {
  const { applied, exportedAt, replaces } = plan;
  return [
    `import of ${plan.name}, exported at ${exportedAt}`,
    ...lines(plan),
    ...(replaces === null ? ["there is no state yet"] : ["replaces this state:", ...lines(replaces)]),
    applied
      ? "imported: the daemon continues from there when it starts"
      : `${NOT_DONE}; the daemon that went on before must be stopped for good`,
  ].join("\n");
}

function lines({ epoch, sinks, tables, snapshots, deadLetters }: Transfer): string[] {
  return [
    `  epoch ${epoch ?? "-"}, ${count(tables, "table")}, ${count(snapshots, "unfinished read")}, ${count(deadLetters, "dead letter")}`,
    ...sinks.map(({ name, position }) => `  ${name}: ${position ?? "nothing"}`),
  ];
}

const ANOTHER_EXPORT =
  "Export again from the state that the sinks were written with last. Or start without a state: a new epoch begins then, and all tables are read again.";

/**
 * Throws if the source has dropped log that a sink lacks, or if a sink has a later epoch than the export. A sink that
 * went on after the export reports its own position; for one that does not answer the position in the export counts. If
 * no sink has a position, the daemon starts at the source's. `names`: also of sinks that can't be asked here.
 */
export async function expectReachable(
  session: Pick<Session, "clock" | "log">,
  config: Pick<Config, "sinks">,
  source: Pick<Source, "log" | "positions">,
  dump: StateDump,
  names: readonly string[] = config.sinks.map(({ name }) => name),
): Promise<void> {
  const { signal } = new AbortController();
  const range = await reachable(source.log, signal);
  const beyond = (what: string): Error => unreachable(source.positions, what, range, ANOTHER_EXPORT);
  const at = ({ commit }: Position): string => source.positions.format(commit);
  const record = dump.relations["source"]?.[0];
  const acknowledged = placeIn(record, "acknowledged") ?? placeIn(record, "origin");
  let isAnyPlaced = false;
  for (const name of names) {
    const row = dump.relations["sink"]?.find((one) => one["name"] === name);
    const written = placeIn(row, "written");
    // A sink that is not in the export is filled.
    if (row === undefined || written === null) continue;
    const covered = placeIn(row, "covered") ?? written;
    const sink = config.sinks.find((one) => one.name === name);
    const own = sink === undefined ? null : await heldBy(session, sink);
    if (own !== null && acknowledged !== null && own.epoch > acknowledged.epoch) {
      throw beyond(`sink ${name} is in epoch ${own.epoch}: epoch ${acknowledged.epoch} of the export`);
    }
    const isAsExported = own === null || comparePositions(own, written) === 0;
    const place = isAsExported ? covered : own;
    if (place.commit < range.first) throw beyond(`sink ${name} at ${at(place)}`);
    isAnyPlaced = true;
  }
  if (!isAnyPlaced && acknowledged !== null && acknowledged.commit < range.first)
    throw beyond(`position ${at(acknowledged)}`);
}

/** By its own checkpoint, without taking the sink over. */
async function heldBy(
  { clock, log }: Pick<Session, "clock" | "log">,
  { connector }: SinkConfig,
): Promise<Position | null> {
  try {
    const look = (sink: Sink) => answered(clock, (signal) => sink.look(signal));
    return (await whileOpen(connector.create(log), look))?.position ?? null;
  } catch (error) {
    if (findMillraceError(error) === undefined) throw error;
    return null;
  }
}

function placeIn(row: StateRow | undefined, column: string): Position | null {
  const value = row?.[column];
  return typeof value === "string" ? parsePosition(value) : null;
}
