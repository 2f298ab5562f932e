/** The first rows of each table in a target, and how a person reads more. */
import type { Config, SinkConfig } from "../../config/config.ts";
import type { Reading, TableName } from "../../core/contracts/connector.ts";
import { findMillraceError } from "../../core/errors.ts";
import { count } from "../../core/figures.ts";
import { shellWord } from "../../core/shell-word.ts";
import { TableSelection } from "../../core/table-selection.ts";
import type { QueryResult } from "../../core/contracts/sink.ts";
import { ask } from "../commands/query.ts";
import { whileTrying } from "../commands/rules.ts";
import { exactJson } from "../../core/values/exact-json.ts";
import { printable } from "../printable.ts";
import { tableText } from "../table.ts";

const TABLE_COUNT_MAX = 10;
const ROW_COUNT = 3;
const CHARACTERS_MAX = 32;
const TIMEOUT_MS = 30_000;
const BYTES_MAX = 1024 * 1024;
/** What a target has beside the source's columns. */
const OWN_COLUMN = /^_millrace_/;
/** Where no terminal says its size. */
const WIDTH = 100;
/** Of a column: its border, and a blank on both sides. */
const FRAME = 3;

interface FirstRows {
  /** As the sinks call it. */
  readonly table: TableName;
  /** The sink whose target has these rows; null: they are the source's. */
  readonly sink: string | null;
  readonly columns: readonly string[];
  /** JSON texts; a function that failed leaves its column out. */
  readonly rows: readonly ReadonlyMap<string, string>[];
  /** How many more tables there are behind this list's last; why there are no rows. */
  readonly note: string | null;
}

export interface Sample {
  readonly tables: readonly FirstRows[];
  readonly tableCount: number;
  readonly readings: readonly { readonly sink: string; readonly kind: string; readonly command: string }[];
}

/**
 * Rows as the first sink has them whose target can be read. Where none can, as Kafka's topics, they are the source's, read by the
 * rules: no value is here which no sink gets. A table that can't be read leaves the others alone. `away`: sinks that can't be asked.
 */
export async function sampleOf(
  config: Config,
  { command, away }: { readonly command: string; readonly away: readonly string[] },
  signal: AbortSignal,
): Promise<Sample> {
  const until = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
  const sinks = config.sinks.filter(({ documents }) => documents === null);
  return await whileTrying(config, until, async ({ tables, tryTable, named }) => {
    const taken = tables.filter((shape) =>
      sinks.some((sink) => new TableSelection(sink.tables).matches(named(shape).schema, named(shape).table)),
    );
    const shown: FirstRows[] = [];
    const shapes = taken.slice(0, TABLE_COUNT_MAX);
    const asked = sinks.filter(({ name }) => !away.includes(name));
    const inTargets = await targetsRows(config, asked, shapes.map(named), until);
    for (const [at, shape] of shapes.entries()) {
      const { schema, table } = named(shape);
      const found = inTargets.get(at);
      if (found !== undefined) {
        shown.push({ table: { schema, table }, ...found, note: found.rows.length === 0 ? "no rows" : null });
        continue;
      }
      const about = { table: { schema, table }, sink: null };
      try {
        const trial = await tryTable(shape, ROW_COUNT);
        const rows = trial.rows.flatMap(({ after }) => (after === null ? [] : [after]));
        const note =
          rows.length > 0 ? null : trial.rows.length > 0 ? "the filter leaves out its first rows" : "no rows";
        shown.push({ ...about, columns: [...new Set(rows.flatMap((row) => [...row.keys()]))], rows, note });
      } catch (error) {
        signal.throwIfAborted();
        const known = findMillraceError(error);
        const note = known === undefined ? "it can't be read now" : `${known.code} ${known.message}`;
        shown.push({ ...about, columns: [], rows: [], note });
      }
    }
    const first = shown.find(({ rows }) => rows.length > 0) ?? shown[0];
    const readings = first === undefined ? [] : await readingsOf(sinks, first.table, command);
    return { tables: shown, tableCount: taken.length, readings };
  });
}

interface FoundRows extends Pick<FirstRows, "columns" | "rows"> {
  readonly sink: string;
}

/** By the table's place in the list. */
async function targetsRows(
  config: Config,
  sinks: readonly SinkConfig[],
  tables: readonly TableName[],
  signal: AbortSignal,
): Promise<ReadonlyMap<number, FoundRows>> {
  const found = new Map<number, FoundRows>();
  for (const sink of sinks) {
    const { connector } = sink;
    const selection = new TableSelection(sink.tables);
    const asked = [...tables.entries()].filter(
      ([at, { schema, table }]) => !found.has(at) && selection.matches(schema, table),
    );
    if (connector.firstRows === undefined || asked.length === 0) continue;
    const query = (sql: string): Promise<QueryResult> =>
      ask(config, sink, { sql, rowCountMax: ROW_COUNT, byteCountMax: BYTES_MAX }, TIMEOUT_MS);
    const names = asked.map(([, { schema, table }]) => ({ schema, table }));
    // What a sink does not tell now, another one or the source does.
    const answers = await connector.firstRows(names, { rowCount: ROW_COUNT, query }, signal).catch(() => []);
    signal.throwIfAborted();
    for (const [i, [at]] of asked.entries()) {
      const rows = answers[i]?.map((row) => new Map([...row].filter(([name]) => !OWN_COLUMN.test(name))));
      if (rows === undefined) continue;
      found.set(at, { sink: sink.name, columns: [...new Set(rows.flatMap((row) => [...row.keys()]))], rows });
    }
  }
  return found;
}

/** Of one table: the others are read in the same way. */
async function readingsOf(
  sinks: readonly SinkConfig[],
  table: TableName,
  command: string,
): Promise<Sample["readings"]> {
  const readings: { sink: string; kind: string; reading: Reading }[] = [];
  for (const { name, kind, tables, connector } of sinks) {
    if (!new TableSelection(tables).matches(table.schema, table.table)) continue;
    const reading = await connector.reading?.({ schema: table.schema, table: table.table });
    if (reading !== undefined) readings.push({ sink: name, kind, reading });
  }
  const isOne = readings.filter(({ reading }) => "sql" in reading).length === 1;
  return readings.map(({ sink, kind, reading }) => ({
    sink,
    kind,
    command:
      "shell" in reading
        ? reading.shell
        : `${command} query ${isOne ? "" : `--sink ${sink} `}${shellWord(reading.sql)}`,
  }));
}

/** For people. `width`: of the terminal. */
export function sampleText({ tables, tableCount, readings }: Sample, width = WIDTH): string {
  const rest = tableCount - tables.length;
  const widest = Math.max(0, ...readings.map(({ sink, kind }) => `${sink} (${kind})`.length));
  return [
    ...tables.map((one) => rowsText(one, width)),
    ...(rest > 0 ? [`and ${count(rest, "more table")}`, ""] : []),
    ...(readings.length === 0 ? [] : ["read more:"]),
    ...readings.map(({ sink, kind, command }) => `  ${`${sink} (${kind})`.padEnd(widest)}  ${command}`),
  ].join("\n");
}

export function sampleDocument({ tables, tableCount, readings }: Sample): object {
  return {
    tables: tables.map(({ table, sink, rows, note }) => ({
      table: `${table.schema}.${table.table}`,
      sink,
      rows: rows.map((row) => Object.fromEntries(Array.from(row, ([name, text]) => [name, exactJson(text)]))),
      note,
    })),
    tableCount,
    sinks: readings,
  };
}

function rowsText({ table, sink, columns, rows, note }: FirstRows, width: number): string {
  const place = sink === null ? " at the source" : ` in ${sink}`;
  const title = printable(`${table.schema}.${table.table}${place}`);
  if (note !== null) return `${title}: ${note}\n`;
  const cells = columns.map((name) => [name, ...rows.map((row) => row.get(name) ?? "")].map(cellText));
  let left = width - 1;
  const fitting = cells.filter((column) => (left -= Math.max(...column.map(({ length }) => length)) + FRAME) >= 0);
  const shown = fitting.length === 0 ? cells.slice(0, 1) : fitting;
  const [head, ...lines] = Array.from({ length: rows.length + 1 }, (_, i) => shown.map((column) => column[i] ?? ""));
  const more = columns.length - shown.length;
  return `${title}${more === 0 ? "" : `, without ${count(more, "more column")}`}\n${tableText(head ?? [], lines)}\n`;
}

/** Of a JSON text, or of a name. */
function cellText(text: string): string {
  const plain = text === "null" ? "NULL" : text.startsWith('"') ? String(JSON.parse(text)) : text;
  const shown = printable(plain.replaceAll(/\s/g, " "));
  return shown.length > CHARACTERS_MAX ? `${shown.slice(0, CHARACTERS_MAX - 1)}…` : shown;
}
