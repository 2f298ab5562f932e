/** Indices that another tool fills, for `millrace verify`: documents as they were sent, looked up by their ids. */
import * as z from "zod";
import type {
  Readable,
  ReadableColumn,
  ReadableTable,
  ReadableTables,
  TextRow,
} from "../../src/core/contracts/readable.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { digitsOf, exactJson, normalOf, plainText, unmarked } from "../../src/core/targets/expected-json.ts";
import { groupsOf } from "../../src/core/each-of.ts";
import { classifyEngine, searchError } from "./errors.ts";
import { listIn, mapOf } from "./inspect.ts";
import {
  type Answer,
  engineError,
  expectEveryShard,
  parsed,
  pathOf,
  type Request,
  type SearchClient,
  WHOLE_SEARCH,
} from "./http.ts";

const SAMPLE = 20;
/** Documents are read at once until they have about this many bytes. */
const PAGE_BYTES = 4 * 1024 * 1024;
const PAGE_MAX = 5_000;
const READING = "reading documents to compare";

const FIELD = z.looseObject({ type: z.string().default("object"), format: z.string().default("") });
const INDICES = z.record(
  z.string(),
  z.object({
    aliases: z.record(z.string(), z.record(z.string(), z.unknown())).default({}),
    mappings: z.object({ properties: z.record(z.string(), FIELD).default({}) }).prefault({}),
  }),
);
type Fields = Readonly<Record<string, z.output<typeof FIELD>>>;

interface Shape {
  readonly fields: Fields;
  readonly pageSize: number;
  /** A document is then found by a search alone: its id does not tell its shard. */
  readonly isRouted: boolean;
}

export class ReadableIndices implements Readable {
  readonly #client: SearchClient;
  readonly #shapes = new Map<string, Shape>();

  constructor(client: SearchClient) {
    this.#client = client;
  }

  async tables(signal: AbortSignal): Promise<ReadableTables> {
    const query = { expand_wildcards: "open", filter_path: "*.aliases,*.mappings.properties" };
    const answer = await this.#client.ask({ method: "GET", path: "/*", query }, READING, signal);
    const indices = Object.entries(INDICES.parse(parsed(answer.body) ?? {}));
    const named = new Map<string, Fields[]>();
    for (const [index, { aliases, mappings }] of indices) {
      // A filtered alias shows a part.
      const whole = Object.entries(aliases).filter(([, settings]) => settings["filter"] === undefined);
      for (const name of [index, ...whole.map(([alias]) => alias)])
        named.set(name, [...(named.get(name) ?? []), mappings.properties]);
    }
    const tables: ReadableTable[] = [];
    for (const [name, [fields, ...others]] of named) {
      if (name.startsWith(".") || others.length > 0) continue;
      const table = await this.#table(name, fields!, signal);
      if (table !== null) tables.push(table);
    }
    return { tables, refused: [] };
  }

  /** Null: it is gone by now, or the login may not read it. */
  async #table(index: string, fields: Fields, signal: AbortSignal): Promise<ReadableTable | null> {
    const request = { method: "POST", path: `${pathOf(index)}/_search`, query: WHOLE_SEARCH } as const;
    const answer = await this.#client.request({ ...request, body: { size: SAMPLE } }, signal);
    if ([403, 404].includes(answer.status)) return null;
    expectEveryShard(answer, READING);
    const hits = hitsIn(answer).map(mapOf);
    const bytesEach = answer.body.length / Math.max(hits.length, 1);
    this.#shapes.set(index, {
      fields,
      pageSize: Math.max(1, Math.min(PAGE_MAX, Math.floor(PAGE_BYTES / bytesEach))),
      isRouted: hits.some((hit) => hit.has("_routing")),
    });
    const names = new Set([...Object.keys(fields), ...hits.flatMap((hit) => [...mapOf(hit.get("_source")).keys()])]);
    const columns = [...names].map((name): ReadableColumn => ({
      name,
      native: fields[name]?.type ?? "field",
      type: { kind: "untyped", hasNulls: true },
    }));
    const some = hits.map((hit) => unmarked(String(hit.get("_id"))));
    return { id: index, schema: "", table: index, columns, key: [], names: { start: "", some } };
  }

  async *rows(
    table: ReadableTable,
    columns: readonly number[],
    signal: AbortSignal,
  ): AsyncGenerator<readonly TextRow[]> {
    const body = { size: this.#shapeOf(table).pageSize, sort: ["_doc"] };
    const ask = (request: Request) => this.#client.askEveryShard(request, READING, signal);
    const pageOf = (answer: Answer) => ({ hits: hitsIn(answer) });
    for await (const { hits } of this.#client.pages(table.id, { body }, pageOf, ask, signal))
      yield hits.map((hit) => this.#row(table, columns, mapOf(hit)));
  }

  /** By id, which sees fresh writes, where the ids tell it. */
  async rowsAt(
    table: ReadableTable,
    columns: readonly number[],
    keys: readonly KeyText[],
    signal: AbortSignal,
  ): Promise<readonly TextRow[]> {
    const { isRouted, pageSize } = this.#shapeOf(table);
    const found: TextRow[] = [];
    for (const some of groupsOf(keys, pageSize)) {
      const ids = some.map(([id]) => id!);
      const documents = isRouted
        ? await this.#searched(table.id, ids, signal)
        : await this.#fetched(table.id, ids, signal);
      for (const document of documents) found.push(this.#row(table, columns, document));
    }
    return found;
  }

  async #searched(index: string, ids: readonly string[], signal: AbortSignal) {
    const body = { size: ids.length, query: { ids: { values: ids } } };
    const path = `${pathOf(index)}/_search`;
    const request = { method: "POST", path, query: WHOLE_SEARCH, body } as const;
    return hitsIn(await this.#client.askEveryShard(request, READING, signal)).map(mapOf);
  }

  async #fetched(index: string, ids: readonly string[], signal: AbortSignal) {
    const request = { method: "POST", path: `${pathOf(index)}/_mget`, body: { ids } } as const;
    const answer = await this.#client.ask(request, READING, signal);
    const documents = listIn(exactJson(answer.body.toString("utf8")), "docs").map(mapOf);
    const error = documents.find((one) => one.has("error"))?.get("error");
    if (error !== undefined) throw classifyEngine(engineError(404, error), READING);
    return documents.filter((one) => one.get("found") === true);
  }

  #row(table: ReadableTable, columns: readonly number[], document: ReadonlyMap<string, unknown>): TextRow {
    const { fields } = this.#shapeOf(table);
    const source = document.get("_source");
    if (source === undefined)
      throw searchError("MR2027", "fatal", `documents of ${table.id} have no _source, and can't be compared`);
    const values = mapOf(source);
    const texts = columns.map((ordinal) => {
      const { name } = table.columns[ordinal]!;
      const value = values.get(name) ?? null;
      return value === null ? null : (dateIn(value, fields[name]) ?? plainText(value));
    });
    return [...texts, unmarked(String(document.get("_id")))];
  }

  #shapeOf({ id }: ReadableTable): Shape {
    return this.#shapes.get(id)!;
  }

  async close(): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }
}

/** A number in a field of dates counts milliseconds, or what the field's format says. */
function dateIn(value: unknown, field: Fields[string] | undefined): string | null {
  if (field === undefined || !/^date(_nanos)?$/.test(field.type)) return null;
  const digits = digitsOf(normalOf(value));
  if (digits === null || !/^-?\d+$/.test(digits)) return null;
  const ms = Number(digits) * (field.format.includes("epoch_second") ? 1_000 : 1);
  return Math.abs(ms) > 8.64e15 ? null : new Date(ms).toISOString();
}

function hitsIn({ body }: Answer): readonly unknown[] {
  return listIn(mapOf(exactJson(body.toString("utf8"))).get("hits"), "hits");
}
