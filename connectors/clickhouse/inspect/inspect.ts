/** Reads tables back over a separate client: see core/contracts/comparing. */
import type { Inspection, KeyPage, ListedKey, StoredRow } from "../../../src/core/contracts/comparing.ts";
import type { KeyText } from "../../../src/core/contracts/row-reads.ts";
import { rowIdOf } from "../../../src/core/model/row-id.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { literalLists } from "../../kit/literal-lists.ts";
import type { Client } from "../client.ts";
import { Reads } from "../current.ts";
import { classify } from "../errors.ts";
import { keyAtPageEnd, listedKeyOf } from "../../kit/listed-keys.ts";
import { inScope, quoteIdentifier, quoteLiteral } from "../names.ts";
import { type ClickhouseTarget, isReplicated, lookUpTargets } from "../tables/existing.ts";
import type { TableLayout } from "../tables/layout.ts";
import type { ClickhouseType } from "../types.ts";
import { liveRows } from "../tables/view.ts";
import { literalOf, tupleOf } from "../write/literal.ts";
import { expectedText, fitsKey, shownText, sourceText } from "./expected.ts";
import { EXACT_COLUMN, VERSION_COLUMN } from "../../warehouse/own-columns.ts";

const KEYS_PER_PAGE = 10_000;

export class ClickhouseInspection implements Inspection {
  readonly #client: Client;
  readonly #layoutFor: (table: TableVersion) => TableLayout;

  constructor(client: Client, layoutFor: (table: TableVersion) => TableLayout) {
    this.#client = client;
    this.#layoutFor = layoutFor;
  }

  expected(table: TableVersion, ordinal: number, text: string): string {
    return expectedText(table.columns[ordinal]!, table.key.includes(ordinal), text);
  }

  id(table: TableVersion, key: KeyText): string {
    return rowIdOf(key.map((text, part) => this.expected(table, table.key[part]!, text)));
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    try {
      const layout = this.#layoutFor(table);
      const there = await this.#existing(layout, signal);
      if (there === null) return [];
      const reads = this.#reads(there, signal);
      const columns = layout.columns.map(({ name, source }) =>
        there.columns.has(name) ? readable(name, source.type.kind === "bytes") : "NULL",
      );
      const fitting = keys.filter((key) => key.every((text, part) => fitsKey(layout.key[part]!.source, text)));
      const literals = fitting.map((key) => tupleOf(key.map((text, part) => literalOf(layout.key[part]!.type, text))));
      const names = tupleOf(layout.key.map(({ name }) => quoteIdentifier(name)));
      const rows: StoredRow[] = [];
      for (const list of literalLists(literals)) {
        const found = await reads.rows(
          layout.sqlName,
          `SELECT toString(${quoteIdentifier(VERSION_COLUMN)}), ${quoteIdentifier(EXACT_COLUMN)}, ${columns.join(", ")} ` +
            `FROM ${ownRows(layout, `${names} IN (${list.join(", ")})`)}`,
        );
        for (const row of found) rows.push(storedRow(table, row));
      }
      return rows;
    } catch (error) {
      throw classify(error, "reading rows to compare", signal);
    }
  }

  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    try {
      const layout = this.#layoutFor(table);
      const there = await this.#existing(layout, signal);
      if (there === null) return;
      const columns = layout.key.map(({ name, source }) => readable(name, source.type.kind === "bytes"));
      const sql = `SELECT ${columns.join(", ")} FROM ${ownRows(layout)} FORMAT JSONCompactEachRow`;
      let page: ListedKey[] = [];
      for await (const line of lines(await this.#reads(there, signal).bytes(layout.sqlName, sql))) {
        const row: unknown = JSON.parse(line);
        page.push(listedKey(table, Array.isArray(row) ? row.map(String) : []));
        if (page.length < KEYS_PER_PAGE) continue;
        yield page;
        page = [];
      }
      if (page.length > 0) yield page;
    } catch (error) {
      throw classify(error, `listing keys of ${table.id}`, signal);
    }
  }

  /** In the order of the table's sorting key. Two steps: a page of a history reads no rows behind its own. */
  async page(table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage> {
    try {
      const layout = this.#layoutFor(table);
      const there = await this.#existing(layout, signal);
      if (there === null) return { keys: [], next: null };
      const reads = this.#reads(there, signal);
      const parts = layout.key.flatMap(({ name, type }) => ordered(type, quoteIdentifier(name)));
      const key = tupleOf(parts);
      const tuple = (bound: KeyText): string =>
        tupleOf(layout.key.flatMap(({ type }, part) => ordered(type, boundLiteral(type, bound[part]!))));
      const from = after === null ? "1" : `${key} > ${tuple(keyAtPageEnd(after))}`;
      const behind = `${from}${inScope(table)}`;
      const bounds = layout.key.map(({ name, type }) => boundText(type, quoteIdentifier(name))).join(", ");
      const [last] = await reads.rows(
        layout.sqlName,
        `SELECT ${bounds} FROM ${layout.sqlName} WHERE ${behind} ORDER BY ${parts.join(", ")} LIMIT 1 OFFSET ${KEYS_PER_PAGE - 1}`,
      );
      const next = last === undefined ? null : last.map(String);
      const within = next === null ? behind : `${behind} AND ${key} <= ${tuple(next)}`;
      const columns = layout.key.map(({ name, source }) => readable(name, source.type.kind === "bytes"));
      const rows = await reads.rows(layout.sqlName, `SELECT ${columns.join(", ")} FROM ${ownRows(layout, within)}`);
      return {
        keys: rows.map((row) => listedKey(table, row.map(String))),
        next: next === null ? null : JSON.stringify(next),
      };
    } catch (error) {
      throw classify(error, `listing keys of ${table.id}`, signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }

  /** Null: there is no table of ours with this key. */
  async #existing(layout: TableLayout, signal: AbortSignal): Promise<ClickhouseTarget | null> {
    const existing = (await lookUpTargets(this.#client, [layout.target], signal)).get(layout.sqlName);
    if (existing === undefined || existing.form === null) return null;
    return layout.key.every(({ name }) => existing.columns.has(name)) ? existing : null;
  }

  #reads({ engine }: ClickhouseTarget, signal: AbortSignal): Reads {
    return new Reads(this.#client, { has: () => isReplicated(engine.name) }, signal);
  }
}

/** Of one table, where others share the target. */
function ownRows(layout: TableLayout, where = "1"): string {
  return liveRows(layout, `${where}${inScope(layout.table)}`);
}

/** What `>` compares as ORDER BY sorts: NaN is beside all numbers otherwise. */
function ordered({ form }: ClickhouseType, value: string): readonly string[] {
  return form.kind === "float" ? [`isNaN(${value})`, `if(isNaN(${value}), 0, ${value})`] : [value];
}

/** Somebody else's text may be no UTF-8: of a bound each byte counts. */
function boundText({ base }: ClickhouseType, quoted: string): string {
  return base === "String" ? `hex(${quoted})` : `toString(${quoted})`;
}

function boundLiteral({ name, base }: ClickhouseType, text: string): string {
  return base === "String" ? `unhex('${text}')` : `CAST(${quoteLiteral(text)} AS ${name})`;
}

/** As text. */
function readable(name: string, isBytes: boolean): string {
  const quoted = quoteIdentifier(name);
  return isBytes ? `'\\\\x' || lower(hex(${quoted}))` : `toString(${quoted})`;
}

function storedRow(table: TableVersion, [version, exact, ...values]: readonly (string | null)[]): StoredRow {
  const parsed: unknown = JSON.parse(exact || "{}");
  const beside = new Map<string, unknown>(typeof parsed === "object" && parsed !== null ? Object.entries(parsed) : []);
  const cells = values.map((value, i) => {
    const column = table.columns[i]!;
    const text = beside.get(column.name);
    // A column of vectors is not nullable.
    if (value !== null && !(column.type.kind === "vector" && value === "[]"))
      return shownText(column, table.key.includes(i), value);
    return typeof text === "string" ? text : null;
  });
  return {
    id: rowIdOf(table.key.map((ordinal) => cells[ordinal] ?? "")),
    cells,
    version: version == null ? null : BigInt(version),
  };
}

function listedKey(table: TableVersion, row: readonly string[]): ListedKey {
  const columns = table.key.map((ordinal) => table.columns[ordinal]!);
  const shown = row.map((text, part) => shownText(columns[part]!, true, text));
  const key = shown.map((text, part) => sourceText(columns[part]!, text));
  return listedKeyOf(table, shown, key);
}

export async function* lines(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of chunks) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
  if (rest !== "") yield rest;
}
