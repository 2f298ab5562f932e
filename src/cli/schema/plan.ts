/** For the team that owns the source: what a migration does to each sink, before it runs. */
import { count } from "../../core/figures.ts";
import type { Command } from "commander";
import type { Config } from "../../config/config.ts";
import type { CapturedTables, ColumnFacts, TableShape } from "../../core/contracts/catalog.ts";
import type { TableSize } from "../../core/contracts/connector.ts";
import { SILENT } from "../../core/contracts/telemetry.ts";
import { findMillraceError } from "../../core/errors.ts";
import { TableSelection } from "../../core/table-selection.ts";
import { policyOf } from "../../rules/merged-rule.ts";
import { RuleBook } from "../../rules/rule-book.ts";
import { RuledTables } from "../../rules/ruled-tables.ts";
import { withFunctions } from "../../rules/with-rules.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { readNamedFile, writeNamedFile } from "../files.ts";
import { whileOpen } from "../opened.ts";
import type { Session } from "../session.ts";
import { tableText } from "../table.ts";
import type { SinkForm } from "../../core/contracts/sink.ts";
import { describeChange, type SchemaChange, schemaChanges, type SchemaPolicy } from "../../core/model/schema-change.ts";
import type { TableVersion } from "../../core/model/schema.ts";
import { carriesRows, mayCarry } from "../../core/targets/carrying.ts";
import { waitingChanges } from "../../runtime/schema/table-gate.ts";

const LOOK_TIMEOUT_MS = 30_000;
const LOCK_MS_MAX = 1_000;
const SCRIPT_BYTES_MAX = 16 * 1024 * 1024;

export function addOutlooks(schema: Command, action: CommandLine["action"]): void {
  schema
    .command("plan <file>")
    .description(
      "try a migration (SQL) and take it back: what each sink will do; exits with 3 if it stops following a table",
    )
    .option("--on <url>", "the database to try it on, a copy without rows for instance; default: the source")
    .option("--timeout <duration>", "how long the migration may run, and so hold its locks", "10s")
    .action(
      action("none", async (session, options, [file = ""]) => {
        const config = await session.config();
        const url = options.text("--on");
        const script = readNamedFile(file, SCRIPT_BYTES_MAX, "MR1110");
        const tried = await tryOut(config, url, script, options.durationMs("--timeout"));
        return await report(session, config, { ...tried, isOneDatabase: true });
      }),
    );
  schema
    .command("check")
    .description("compare the source's tables with earlier ones: what each sink will do; exits with 3 as `plan` does")
    .requiredOption("--against <file|url>", "the shapes before: a file of `schema export`, or another database")
    .action(
      action("none", async (session, options) => {
        const config = await session.config();
        const against = options.text("--against") ?? "";
        const before = against.includes("://") ? await tablesAt(config, against) : readBaseline(against);
        const after = await tablesAt(config, null);
        const named = { before: byNames(before), after: byNames(after), sizes: new Map<string, TableSize>() };
        return await report(session, config, { ...named, isOneDatabase: false });
      }),
    );
  schema
    .command("export <file>")
    .description("write the shapes of the source's tables as they are now, for `schema check --against`")
    .option("--force", "replace the file if it exists")
    .action(
      action("none", async (session, options, [file = ""]) => {
        const tables = await tablesAt(await session.config(), null);
        writeBaseline(file, tables, options.has("--force"));
        session.print(
          { file, tables: tables.tables.map(({ id }) => id) },
          `wrote ${file}: ${count(tables.tables.length, "table")}`,
        );
        return EXIT.done;
      }),
    );
}

async function tablesAt({ source: { connector } }: Config, url: string | null): Promise<CapturedTables> {
  const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
  const at = url === null ? connector : connector.at(url);
  return await whileOpen(at.create(SILENT), ({ catalog }) => catalog.tables(signal));
}

async function tryOut({ source }: Config, url: string | null, script: string, runMsMax: number) {
  const { trial } = url === null ? source.connector : source.connector.at(url);
  if (trial === undefined)
    throw cliError("MR1141", `a source of kind ${source.kind} can't take a change of a table back`);
  const signal = AbortSignal.timeout(runMsMax + LOOK_TIMEOUT_MS);
  try {
    return await trial({ script, runMsMax: Math.ceil(runMsMax), lockMsMax: LOCK_MS_MAX }, signal);
  } catch (error) {
    const known = findMillraceError(error);
    if (known === undefined) throw error;
    throw cliError("MR1141", `the migration can't be tried: ${known.code} ${known.message}${ofShapes(known.cause)}`);
  }
}

/** The server's own words, if they are about names and syntax; other errors may quote values. */
function ofShapes(cause: unknown): string {
  const isOfShapes = cause instanceof Error && "code" in cause && /^(42|3F|0A|2B)/.test(String(cause.code));
  return isOfShapes ? `: ${cause.message}` : "";
}

async function report(session: Session, config: Config, compared: Omit<Comparison, "policyOf">): Promise<ExitCode> {
  const { rules } = config;
  const views: SinkView[] = [];
  for (const sink of config.sinks) {
    const { name, tables: taken, connector } = sink;
    const { form, onLost } = await whileOpen(connector.create(SILENT), (made) => made);
    // What can be filled again at any time is a cache or an index: it has no columns of its own.
    views.push({ name, form, hasColumns: onLost === "fail", selection: new TableSelection(taken) });
  }
  // One book for both: a table whose changes are ignored keeps the shape that it has before.
  const tables = new RuledTables(new RuleBook(withFunctions(rules)));
  const ruled = (captured: CapturedTables): CapturedTables => {
    if (rules.tables.length === 0) return captured;
    tables.look(captured);
    return tables.captured(captured);
  };
  const [before, after] = [ruled(compared.before), ruled(compared.after)];
  const found = outlooks({ ...compared, before, after, policyOf: (table) => policyOf(rules, table) }, views);
  const isBroken = found.some(({ outcome }) => outcome === "suspend");
  session.print({ breaks: isBroken, outlooks: found }, describe(found, compared.isOneDatabase));
  return isBroken ? EXIT.drift : EXIT.done;
}

function describe(found: readonly Outlook[], isOneDatabase: boolean): string {
  const head = ["table", "sink", "what it does", "reads", "why"];
  const rows = found.map(({ table, sink, outcome, reads, why }) => [table, sink, WORDS[outcome], sizeText(reads), why]);
  const table = tableText(head, rows, "nothing changes for any sink");
  const assumed = found.some(({ outcome, why }) => outcome === "follow" && why.includes("column added"));
  const note = "An added column with a default, or one that is computed, makes every sink read the table again.";
  return isOneDatabase || !assumed ? table : `${table}\n${note}`;
}

const WORDS: Readonly<Record<Outlook["outcome"], string>> = {
  follow: "follows, without a read",
  resync: "follows, and reads the table again",
  copy: "copies the table",
  leave: "keeps what it has",
  suspend: "SUSPENDS the table",
};

function sizeText(size: TableSize | null): string {
  if (size === null || (size.rows === 0 && size.bytes === 0)) return "-";
  const rows = size.rows.toLocaleString("en-US", { maximumSignificantDigits: 3 });
  return `about ${rows} rows, ${(size.bytes / 1024 ** 2).toFixed(1)} MB`;
}

/** Shapes of tables in a file, to compare a later database with. */

const FORMAT = "millrace shapes 1";
const FILE_BYTES_MAX = 256 * 1024 * 1024;

function writeBaseline(file: string, { tables }: CapturedTables, mayReplace: boolean): void {
  writeNamedFile(file, `${JSON.stringify({ format: FORMAT, tables }, null, 2)}\n`, mayReplace);
}

function readBaseline(file: string): CapturedTables {
  const text = readNamedFile(file, FILE_BYTES_MAX, "MR1140");
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw cliError("MR1140", `${file} can't be read (it is not JSON)`);
  }
  if (!isBaseline(document)) throw cliError("MR1140", `${file} was not written by schema export`);
  return { tables: document.tables, refused: [], generations: new Map() };
}

function isBaseline(value: unknown): value is { readonly tables: readonly TableShape[] } {
  if (typeof value !== "object" || value === null || !("format" in value && "tables" in value)) return false;
  return value.format === FORMAT && Array.isArray(value.tables);
}

/** As shapes of one table in two databases: names identify table and columns. */
function byNames({ tables, ...rest }: CapturedTables): CapturedTables {
  const named = tables.map((table) => ({
    ...table,
    relation: 0,
    columns: table.columns.map((column) => ({ ...column, identity: 0 })),
  }));
  return { ...rest, tables: named };
}

/** What each sink will do about changed tables: follow, read again, or stop following. */
/** A sink, as far as it matters here. */
interface SinkView {
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
type Outcome = "follow" | "resync" | "copy" | "leave" | "suspend";

interface Outlook {
  readonly table: string;
  readonly sink: string;
  readonly outcome: Outcome;
  readonly why: string;
  /** What is read from the source; null: nothing, or not known. */
  readonly reads: TableSize | null;
}

interface Comparison {
  readonly before: CapturedTables;
  readonly after: CapturedTables;
  readonly sizes: ReadonlyMap<string, TableSize>;
  /** Whether both are of one database, which numbers tables and columns; else names identify them. */
  readonly isOneDatabase: boolean;
  readonly policyOf: (table: TableShape) => SchemaPolicy;
}

/** Only what changes: a table without an entry stays as it is in that sink. */
function outlooks(compared: Comparison, sinks: readonly SinkView[]): readonly Outlook[] {
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
