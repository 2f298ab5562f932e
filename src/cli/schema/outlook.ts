/** What each sink will do about changed tables: follow, read again, or stop following. */
import type { CapturedTables, ColumnFacts, TableShape } from "../../core/contracts/catalog.ts";
import type { TableSize } from "../../core/contracts/connector.ts";
import type { SinkForm } from "../../core/contracts/sink.ts";
import { describeChange, type SchemaChange, schemaChanges, type SchemaPolicy } from "../../core/model/schema-change.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { carriesRows, mayCarry } from "../../core/targets/carrying.ts";
import type { TableSelection } from "../../core/table-selection.ts";
import { waitingChanges } from "../../runtime/schema/table-gate.ts";

/** A sink, as far as it matters here. */
export interface SinkView {
  readonly name: string;
  readonly form: SinkForm;
  /** Its targets have columns: it renames and adds them with the rows that are there. */
  readonly hasColumns: boolean;
  readonly selection: TableSelection;
}

/**
 * `follow`: its target changes, and no row is read. `resync`: the target changes, and all rows are read again beside the
 * stream. `copy`: a new table, read as a whole. `leave`: the target stays as it is. `suspend`: changes of the table are
 * passed over until somebody acts.
 */
export type Outcome = "follow" | "resync" | "copy" | "leave" | "suspend";

export interface Outlook {
  readonly table: string;
  readonly sink: string;
  readonly outcome: Outcome;
  readonly why: string;
  /** What is read from the source; null: nothing, or not known. */
  readonly reads: TableSize | null;
}

export interface Comparison {
  readonly before: CapturedTables;
  readonly after: CapturedTables;
  readonly sizes: ReadonlyMap<string, TableSize>;
  /** Whether both are of one database, which numbers tables and columns; else names identify them. */
  readonly isOneDatabase: boolean;
  readonly policyOf: (table: TableShape) => SchemaPolicy;
}

/** Only what changes: a table without an entry stays as it is in that sink. */
export function outlooks(compared: Comparison, sinks: readonly SinkView[]): readonly Outlook[] {
  const now = new Map(compared.after.tables.map((table) => [table.id, table]));
  const past = new Map(compared.before.tables.map((table) => [table.id, table]));
  const found: Outlook[] = [];
  for (const table of new Set([...past.keys(), ...now.keys()])) {
    const shape = now.get(table) ?? past.get(table)!;
    const takers = sinks.filter(({ selection }) => selection.matches(shape.schema, shape.table));
    for (const sink of takers) {
      const outlook = outlookOf(compared, past.get(table), now.get(table), sink);
      const reads =
        outlook?.outcome === "resync" || outlook?.outcome === "copy" ? compared.sizes.get(table) : undefined;
      if (outlook !== null) found.push({ table, sink: sink.name, ...outlook, reads: reads ?? null });
    }
  }
  return found;
}

type Finding = Pick<Outlook, "outcome" | "why">;

function outlookOf(
  compared: Comparison,
  before: TableShape | undefined,
  after: TableShape | undefined,
  sink: SinkView,
): Finding | null {
  if (after === undefined) return before === undefined ? null : gone(compared, before);
  if (before === undefined) return { outcome: "copy", why: "a new table" };
  const policy = compared.policyOf(after);
  if (policy.schemaChange !== "ignore") {
    const waiting = waitingChanges(before, after, policy);
    if (waiting.length > 0)
      return { outcome: "suspend", why: `MR1303: it waits for approval: ${waiting.map(describeChange).join("; ")}` };
  }
  const changes = schemaChanges(before, after);
  const isRewritten = compared.isOneDatabase && !sameGeneration(compared, after.id);
  if (changes.length === 0) return isRewritten ? { outcome: "resync", why: "its rows are rewritten" } : null;
  const why = changes.map(describeChange).join("; ");
  if (sink.form === "history" && changes.some(({ kind }) => kind === "key changed"))
    return { outcome: "suspend", why: `a history can't follow a changed key: ${why}` };
  if (sink.form === "stream") return { outcome: "follow", why };
  const isKept =
    !isRewritten && rowsStay(compared, before, after) && changes.every((change) => carried(change, sink, policy));
  return { outcome: isKept ? "follow" : "resync", why };
}

function gone({ after }: Comparison, { id }: TableShape): Finding {
  const refused = after.refused.find((table) => table.id === id);
  if (refused !== undefined) return { outcome: "suspend", why: `it can't be captured any more: ${refused.reason}` };
  return { outcome: "leave", why: "the source has no such table any more: the target keeps its rows" };
}

function sameGeneration({ before, after }: Comparison, id: string): boolean {
  return before.generations.get(id) === after.generations.get(id);
}

/** Whether the rows of the source certainly stay as they are. */
function rowsStay({ after, isOneDatabase }: Comparison, before: TableShape, now: TableShape): boolean {
  // Which value an added column has in existing rows is not in the shapes of two databases.
  if (!isOneDatabase) return true;
  const [from, to] = [versionOf(before, 1), versionOf(now, 2)];
  const facts: ColumnFacts | undefined = after.columns?.get(now.id);
  return facts !== undefined && mayCarry(from, to) && carriesRows([from, to], facts);
}

function versionOf(shape: TableShape, version: number): TableVersion {
  return { ...shape, version, since: { epoch: 1, commit: 0n, index: 0 } };
}

/** Whether the sink's rows follow this change without being read: docs/schema.md, "Changes that cost no read". */
function carried(change: SchemaChange, { hasColumns, form }: SinkView, { droppedColumns }: SchemaPolicy): boolean {
  switch (change.kind) {
    case "column added":
      return change.nullable;
    case "null allowed":
    case "null forbidden":
      return true;
    case "column renamed":
      return hasColumns;
    case "column dropped":
      return hasColumns && (form === "history" || droppedColumns === "drop");
    case "type changed":
    case "key changed":
    case "table replaced":
      return false;
    default:
      return change satisfies never;
  }
}
