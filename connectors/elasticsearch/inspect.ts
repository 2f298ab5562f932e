/** Reads the index by id, by search and by scrolling over separate connections: see core/contracts/comparing. */
import type {
  EqualRows,
  Inspection,
  KeyPage,
  ListedKey,
  RowsInOrder,
  StoredRow,
} from "../../src/core/contracts/comparing.ts";
import {
  digitsOf,
  exactJson,
  expectedJson,
  normalOf,
  sourceText,
  unmarked,
} from "../../src/core/targets/expected-json.ts";
import { documentField } from "../../src/core/targets/names.ts";
import { rowIdOf } from "../../src/core/model/row-id.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { KeyText } from "../../src/core/contracts/row-reads.ts";
import { keyInRow, listedKeys } from "../kit/listed-keys.ts";
import { VERSION_FIELD } from "./write/document.ts";
import { equalDocuments } from "./equal-documents.ts";
import { classifyEngine, searchError } from "./errors.ts";
import {
  type Answer,
  engineError,
  expectEveryShard,
  expectOk,
  fieldOf,
  parsed,
  pathOf,
  type Request,
  type SearchClient,
  WHOLE_SEARCH,
} from "./http.ts";

/** Below the engines' index.max_result_window. */
const PAGE = 5_000;
/** Each slice costs the engine a look at the ids of the whole index. */
const KEYS_PER_PAGE = 50_000;
/** The engines' index.max_slices_per_scroll. */
const SLICES_MAX = 1_024;
const ALL_ROWS = new URLSearchParams(WHOLE_SEARCH).toString();
const IDS_ALONE = { filter_path: "_scroll_id,timed_out,_shards.total,_shards.failed,hits.total.value,hits.hits._id" };
const READING = "reading documents to compare";
/** The index does not exist, or the search exceeds its settings. */
const REFUSED = [400, 404];

interface FoundDocument extends StoredRow {
  readonly key: KeyText | null;
}

export class ElasticsearchInspection implements Inspection {
  readonly #client: SearchClient;
  readonly #alias: (table: TableVersion) => string;
  readonly #keysPerPage: number;

  constructor(client: SearchClient, alias: (table: TableVersion) => string, keysPerPage = KEYS_PER_PAGE) {
    this.#client = client;
    this.#alias = alias;
    this.#keysPerPage = keysPerPage;
  }

  expected(table: TableVersion, ordinal: number, text: string): string | null {
    return expectedJson(table.columns[ordinal]!.type, text);
  }

  id(_table: TableVersion, key: KeyText): string {
    return rowIdOf(key);
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    return await this.#byIds(table, keys.map(rowIdOf), signal);
  }

  /**
   * A search does not see fresh writes, so this refreshes first. Rows whose search the engine refuses are read by id.
   */
  async equal(table: TableVersion, asked: RowsInOrder, signal: AbortSignal): Promise<EqualRows | null> {
    const index = pathOf(this.#alias(table));
    const refreshed = await this.#search(`${index}/_refresh`, undefined, signal);
    if (refreshed === null) return null;
    const path = `${index}/_search?${ALL_ROWS}`;
    return await equalDocuments(table, asked, (body) => this.#search(path, body, signal, REFUSED));
  }

  /** Durable rows may not be searchable yet, so this refreshes first. */
  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    const alias = this.#alias(table);
    const refreshed = await this.#search(`${pathOf(alias)}/_refresh`, undefined, signal);
    if (refreshed === null) return;
    for await (const { hits } of this.#ids(alias, {}, signal))
      yield await listedKeys(table, hits, (unknown) => this.#byIds(table, unknown, signal));
  }

  /**
   * An index has no order that lasts. Its slices do: the engine tells by the hash of an id in which of so many it is, in an
   * index of so many shards.
   */
  async page(table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage> {
    const alias = this.#alias(table);
    const index = pathOf(alias);
    const refreshed = await this.#search(`${index}/_refresh`, undefined, signal);
    if (refreshed === null) return { keys: [], next: null };
    const [id = 0, max = await this.#slices(index, signal), knownShards = null] = after?.split("/").map(Number) ?? [];
    const which = max === 1 ? {} : { slice: { field: "_id", id, max } };
    let shards = knownShards;
    const all: string[] = [];
    let isFirst = true;
    for await (const { hits, shards: now } of this.#ids(alias, which, signal)) {
      shards ??= now;
      if (isFirst && now !== shards) return { ...(await this.page(table, null, signal)), isNew: true };
      isFirst = false;
      for (const one of hits) all.push(one);
    }
    const keys = await listedKeys(table, all, (unknown) => this.#byIds(table, unknown, signal));
    return { keys, next: id + 1 < max ? `${id + 1}/${max}/${shards}` : null };
  }

  async #slices(index: string, signal: AbortSignal): Promise<number> {
    const answer = await this.#search(`${index}/_count`, undefined, signal);
    const count = answer === null ? 0 : Number(fieldOf(parsed(answer.body), "count"));
    return Math.min(Math.max(Math.ceil(count / this.#keysPerPage), 1), SLICES_MAX);
  }

  /** The ids of a search's documents, and how many shards it asked: once at least. */
  #ids(index: string, which: object, signal: AbortSignal): AsyncGenerator<IdPage> {
    const body = { ...which, size: PAGE, _source: false, sort: ["_doc"] };
    const ask = async (request: Request): Promise<Answer> => {
      const answer = await this.#client.request(request, signal);
      if (answer.status === 404)
        throw searchError("MR2027", "retryable", "an index went away while its documents were listed");
      expectEveryShard(answer, READING);
      return answer;
    };
    return this.#client.pages(index, { query: IDS_ALONE, body }, pageOf, ask, signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }

  /** Reads by id, which sees fresh writes. */
  async #byIds(table: TableVersion, ids: readonly string[], signal: AbortSignal): Promise<readonly FoundDocument[]> {
    if (ids.length === 0) return [];
    const answer = await this.#search(`${pathOf(this.#alias(table))}/_mget`, { ids }, signal, [404], expectOk);
    // Numbers as in core/targets/expected-json.
    const documents = answer === null ? [] : listIn(exactJson(answer.body.toString("utf8")), "docs");
    return documents.flatMap((document) => {
      const fields = mapOf(document);
      const error = fields.get("error");
      if (error !== undefined) {
        const failure = engineError(404, error);
        if (failure.type === "index_not_found_exception") return [];
        throw classifyEngine(failure, READING);
      }
      return fields.get("found") === true ? [foundDocument(table, fields)] : [];
    });
  }

  /** Null for these statuses. */
  async #search(
    path: string,
    body: object | undefined,
    signal: AbortSignal,
    nothing: readonly number[] = [404],
    expect = expectEveryShard,
  ): Promise<Answer | null> {
    const request = { method: "POST", path, ...(body === undefined ? {} : { body }) } as const;
    const answer = await this.#client.request(request, signal);
    if (nothing.includes(answer.status)) return null;
    expect(answer, READING);
    return answer;
  }
}

function foundDocument(table: TableVersion, document: ReadonlyMap<string, unknown>): FoundDocument {
  const id = unmarked(String(document.get("_id")));
  const fields = mapOf(document.get("_source"));
  const names = table.columns.map(({ name }) => documentField(name));
  const cells = names.map((name) => {
    const value = fields.get(name) ?? null;
    return value === null ? null : normalOf(value);
  });
  const digits = digitsOf(normalOf(fields.get(VERSION_FIELD) ?? null));
  const surplus = [...fields.keys()].filter((name) => !name.startsWith("_millrace_") && !names.includes(name));
  // The engine guards writes by its own version: the field must agree with it.
  if (digits !== null && digitsOf(normalOf(document.get("_version") ?? null)) !== digits) surplus.push("_version");
  return {
    id,
    cells,
    surplus,
    version: digits !== null && /^\d+$/.test(digits) ? BigInt(digits) : null,
    key: keyInRow(table, id, (ordinal) => sourceText(table.columns[ordinal]!.type, cells[ordinal] ?? "null")),
  };
}

interface IdPage {
  /** Their ids. */
  readonly hits: readonly string[];
  readonly shards: number;
}

function pageOf(answer: Answer): IdPage {
  const whole = mapOf(parsed(answer.body));
  const shards = Number(fieldOf(whole.get("_shards"), "total"));
  return { hits: listIn(whole.get("hits"), "hits").map((hit) => String(fieldOf(hit, "_id"))), shards };
}

export function mapOf(value: unknown): ReadonlyMap<string, unknown> {
  return new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);
}

export function listIn(value: unknown, name: string): readonly unknown[] {
  const found = mapOf(value).get(name);
  return Array.isArray(found) ? found : [];
}
