/** A Postgres warehouse: what the source prints, the target prints too. */
import { Client } from "pg";
import { type Kept, liveRows } from "./live-rows.ts";
import { rowId, type SinkReader, type SinkRow, VERSION, versionFlaws } from "./reader.ts";
import { AS_TEXT, type Cells, PRINTING, quoted, type SourceTable } from "./source-table.ts";

export interface PostgresSinkAddress {
  readonly kind: "postgres";
  readonly url: string;
  readonly schema?: string;
  /** What it keeps beside the rows that are there; these alone are compared. */
  readonly kept?: Kept;
}

const ROWS_PER_FETCH = 2_000;

export async function postgresReader({ url, schema, kept }: PostgresSinkAddress): Promise<SinkReader> {
  const client = new Client({ connectionString: url });
  await client.connect();
  await client.query(PRINTING);
  return {
    mayRepeat: false,
    // An array where the target has not pgvector's extension, as in these tests.
    expected: ({ type }, text) => (type.kind === "vector" && type.form !== "sparse" ? `{${text.slice(1, -1)}}` : text),
    idOf: (_key, landed) => rowId(landed),
    rows: (table) => readRows(client, schema ?? table.schema, table, kept),
    [Symbol.asyncDispose]: () => client.end(),
  };
}

async function* readRows(client: Client, schema: string, table: SourceTable, kept?: Kept): AsyncGenerator<SinkRow[]> {
  const found = await client.query<{ attname: string }>(
    `select a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped`,
    [schema, table.table],
  );
  const there = new Set(found.rows.map(({ attname }) => attname));
  if (there.size === 0) return;
  const names = table.columns.map(({ name }) => name);
  const surplus = [...there].filter((name) => !names.includes(name) && !name.startsWith("_millrace_"));
  const list = [VERSION, ...names, ...surplus].map((name) => (there.has(name) ? quoted(name) : "null")).join(", ");
  await client.query("begin isolation level repeatable read read only");
  const keys = table.key.map((ordinal) => quoted(names[ordinal]!));
  const live = liveRows(`${quoted(schema)}.${quoted(table.table)}`, keys, kept);
  await client.query(`declare compared no scroll cursor for select ${list} from ${live}`);
  for (;;) {
    const { rows } = await client.query<(string | null)[]>({
      text: `fetch ${ROWS_PER_FETCH} from compared`,
      rowMode: "array",
      types: AS_TEXT,
    });
    if (rows.length === 0) break;
    yield rows.map((row) => sinkRow(table, row, surplus));
  }
  await client.query("commit");
}

/** `surplus`: columns behind the table's own. They may stay when the source has dropped them, and are null then. */
export function sinkRow(table: SourceTable, [version, ...all]: Cells, surplus: readonly string[]): SinkRow {
  const cells = all.slice(0, table.columns.length);
  const key = table.key.map((ordinal) => cells[ordinal] ?? null);
  const filled = surplus.filter((_, i) => all[table.columns.length + i] != null);
  return { id: rowId(key), cells, flaws: [...versionFlaws(version), ...filled] };
}
