/**
 * Finds rows whose documents are, byte for byte, what Millrace writes. It searches them by id: a page of a search costs
 * the engine a fifth of reading the same documents one by one. A document with another spelling of the same JSON is not
 * found here.
 */
import { NO_TUPLE } from "../../src/core/model/block.ts";
import type { EqualRows, RowsInOrder } from "../../src/core/contracts/comparing.ts";
import { invariant } from "../../src/core/invariant.ts";
import { JsonFields } from "../../src/core/targets/json-fields.ts";
import { spelledJson } from "../../src/core/targets/expected-json.ts";
import { documentField } from "../../src/core/targets/names.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import { CELL_BINARY, CELL_TEXT, CellMap } from "../../src/core/model/tuple.ts";
import { readText } from "../../src/core/values/text.ts";
import { TIME_FIELD, VERSION_FIELD } from "./write/document.ts";
import type { Answer } from "./http.ts";

/** A page ends at whichever limit comes first; the engines' index.max_result_window is 10,000. */
const ROWS_PER_PAGE = 1_000;
const CHARACTERS_PER_PAGE = 4 * 1024 * 1024;
/** Never inside a string of the answer: quotes are escaped there. */
const HITS = Buffer.from('"hits":[');
const CLOSE = 0x5d;
const COMMA = 0x2c;

const HIT = new JsonFields(["_id", "_version", "_source", "_routing"]);
const [ID, VERSION, SOURCE, ROUTING] = [0, 1, 2, 3];
/** The start of a document, before the columns; the time is not compared. */
const HEAD = new RegExp(String.raw`^\{"${VERSION_FIELD}":(\d+),"${TIME_FIELD}":"[^"\\]*"(?=,)`);

const cells = new CellMap();

/** Rows from `from` on, as many as fit on one page. */
interface Page {
  readonly from: number;
  /** By id in JSON: the row's index, and the expected document from the first column to its end. */
  readonly rows: ReadonlyMap<string, { readonly i: number; readonly rest: string }>;
}

/** `search` sends a search and returns its answer; null: the engine refuses it. */
export async function equalDocuments(
  table: TableVersion,
  asked: RowsInOrder,
  search: (body: object) => Promise<Answer | null>,
): Promise<EqualRows | null> {
  const names = table.columns.map(({ name }) => `,${JSON.stringify(documentField(name))}:`);
  const isEqual = new Uint8Array(asked.ids.length);
  let byteCount = 0;
  const ask = (from: number) => {
    if (from >= asked.ids.length) return null;
    const page = pageOf(table, names, asked, from);
    const answer = search(searchFor(asked.ids.slice(from, from + page.rows.size)));
    // The failure surfaces where the answer is awaited.
    answer.catch(() => undefined);
    return { page, answer };
  };
  for (let next = ask(0); next !== null;) {
    const { page, answer } = next;
    // The engine searches while this process compares the previous page.
    next = ask(page.from + page.rows.size);
    const found = await answer;
    if (found === null) return null;
    byteCount += meet(found.body, page, asked.versionMax, isEqual);
  }
  return { isEqual, byteCount };
}

function searchFor(values: readonly string[]): object {
  const size = values.length;
  return { size, version: true, track_total_hits: false, sort: ["_doc"], query: { ids: { values } } };
}

function pageOf(table: TableVersion, names: readonly string[], { block, rows, ids }: RowsInOrder, from: number): Page {
  const expected = new Map<string, { i: number; rest: string }>();
  let characters = 0;
  for (let i = from; i < ids.length && expected.size < ROWS_PER_PAGE && characters < CHARACTERS_PER_PAGE; i++) {
    const tuple = block.after[rows[i]!]!;
    invariant(tuple !== NO_TUPLE, "only existing rows are compared in order");
    cells.read(block.bytes, tuple);
    let rest = "";
    for (let c = 0; c < names.length; c++) rest += names[c]! + jsonOf(table, block.bytes, c);
    expected.set(JSON.stringify(ids[i]), { i, rest: `${rest}}` });
    characters += rest.length;
  }
  return { from, rows: expected };
}

/** From the tuple that is mapped now. */
function jsonOf({ columns }: TableVersion, bytes: Uint8Array, ordinal: number): string {
  const kind = cells.kind[ordinal]!;
  if (kind !== CELL_TEXT && kind !== CELL_BINARY) return "null";
  const { type } = columns[ordinal]!;
  return spelledJson(type, readText(type, kind, bytes, cells.start[ordinal]!, cells.length[ordinal]!));
}

/** Marks the rows whose documents are in this answer; returns the number of bytes read. */
function meet(body: Buffer, { rows }: Page, versionMax: bigint, isEqual: Uint8Array): number {
  let byteCount = 0;
  const hits = body.indexOf(HITS);
  if (hits < 0) return byteCount;
  for (let at = hits + HITS.length; body[at] !== CLOSE;) {
    at = HIT.read(body, at);
    if (body[at] === COMMA) at++;
    if (!HIT.has(ID) || !HIT.has(VERSION) || !HIT.has(SOURCE)) continue;
    const source = textOf(body, SOURCE);
    byteCount += HIT.end[SOURCE]! - HIT.start[SOURCE]!;
    const row = rows.get(textOf(body, ID));
    // A document with its own routing is not where the sink writes it.
    if (row === undefined || HIT.has(ROUTING)) continue;
    const [head = "", version = ""] = HEAD.exec(source) ?? [];
    const isRow = source.length === head.length + row.rest.length && source.endsWith(row.rest);
    // The engine guards writes by its own version: the field must agree with it.
    if (isRow && version === textOf(body, VERSION) && BigInt(version) <= versionMax) isEqual[row.i] = 1;
  }
  return byteCount;
}

function textOf(body: Buffer, field: number): string {
  return body.toString("utf8", HIT.start[field], HIT.end[field]);
}
