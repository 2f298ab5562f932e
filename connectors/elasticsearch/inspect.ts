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
import { expectEveryShard, expectOk } from "./indices/ddl.ts";
import { VERSION_FIELD } from "./write/document.ts";
import { equalDocuments } from "./equal-documents.ts";
import { classifyConnection, classifyEngine, searchError } from "./errors.ts";
import { type Answer, engineError, fieldOf, parsed, pathOf, type SearchClient, WHOLE_SEARCH } from "./http.ts";

/** Below the engines' index.max_result_window. */
const PAGE = 5_000;
/** Each slice costs the engine a look at the ids of the whole index. */
const KEYS_PER_PAGE = 50_000;
/** The engines' index.max_slices_per_scroll. */
const SLICES_MAX = 1_024;
const KEPT_FOR = "1m";
const SCROLL = "/_search/scroll";
const ALL_ROWS = new URLSearchParams(WHOLE_SEARCH).toString();
const IDS_ALONE = "filter_path=_scroll_id,timed_out,_shards.total,_shards.failed,hits.hits._id";
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
    const index = pathOf(this.#alias(table));
    const refreshed = await this.#search(`${index}/_refresh`, undefined, signal);
    if (refreshed === null) return;
    for await (const { ids } of this.#ids(index, {}, signal))
      yield await listedKeys(table, ids, (unknown) => this.#byIds(table, unknown, signal));
  }

  /**
   * An index has no order that lasts. Its slices do: the engine tells by the hash of an id in which of so many it is, in an
   * index of so many shards.
   */
  async page(table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage> {
    const index = pathOf(this.#alias(table));
    const refreshed = await this.#search(`${index}/_refresh`, undefined, signal);
    if (refreshed === null) return { keys: [], next: null };
    const [id = 0, max = await this.#slices(index, signal), knownShards = null] = after?.split("/").map(Number) ?? [];
    const which = max === 1 ? {} : { slice: { field: "_id", id, max } };
    let shards = knownShards;
    const all: string[] = [];
    for await (const { ids, shards: now } of this.#ids(index, which, signal)) {
      shards ??= now;
      if (now !== shards) return { ...(await this.page(table, null, signal)), isNew: true };
      for (const one of ids) all.push(one);
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
  async *#ids(
    index: string,
    which: object,
    signal: AbortSignal,
  ): AsyncGenerator<{ readonly ids: readonly string[]; readonly shards: number }> {
    const first = { ...which, size: PAGE, _source: false, sort: ["_doc"] };
    const search = `${index}/_search?scroll=${KEPT_FOR}&${ALL_ROWS}&${IDS_ALONE}`;
    let page = pageOf(await this.#search(search, first, signal));
    const { shards } = page;
    try {
      do {
        const on = { scroll: KEPT_FOR, scroll_id: page.scroll };
        const next = this.#search(`${SCROLL}?${IDS_ALONE}`, on, signal);
        // The engine reads on while these are counted; a failure surfaces where it is awaited.
        next.catch(() => undefined);
        yield { ids: page.ids, shards };
        page = pageOf(await next);
      } while (page.ids.length > 0);
    } finally {
      await this.#client.request({ method: "DELETE", path: SCROLL, body: { scroll_id: page.scroll } }, signal);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client[Symbol.asyncDispose]();
  }

  /** Reads by id, which sees fresh writes. */
  async #byIds(table: TableVersion, ids: readonly string[], signal: AbortSignal): Promise<readonly FoundDocument[]> {
    if (ids.length === 0) return [];
    const answer = await this.#send(`${pathOf(this.#alias(table))}/_mget`, { ids }, signal);
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
    nothing?: readonly number[],
  ): Promise<Answer | null> {
    const answer = await this.#send(path, body, signal, nothing);
    if (answer !== null) expectEveryShard(answer, READING);
    return answer;
  }

  async #send(
    path: string,
    body: object | undefined,
    signal: AbortSignal,
    nothing: readonly number[] = [404],
  ): Promise<Answer | null> {
    let answer: Answer;
    try {
      answer = await this.#client.request({ method: "POST", path, ...(body === undefined ? {} : { body }) }, signal);
    } catch (error) {
      throw classifyConnection(error, signal, this.#client.server);
    }
    if (nothing.includes(answer.status)) return null;
    expectOk(answer, READING);
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
  readonly ids: readonly string[];
  readonly scroll: string;
  readonly shards: number;
}

function pageOf(answer: Answer | null): IdPage {
  if (answer === null) throw searchError("MR2027", "retryable", "an index went away while its documents were listed");
  const whole = mapOf(parsed(answer.body));
  const hits = listIn(whole.get("hits"), "hits");
  const scroll = whole.get("_scroll_id");
  if (typeof scroll !== "string") throw searchError("MR2027", "retryable", "listing documents got no list of them");
  const shards = Number(fieldOf(whole.get("_shards"), "total"));
  return { ids: hits.map((hit) => String(fieldOf(hit, "_id"))), scroll, shards };
}

export function mapOf(value: unknown): ReadonlyMap<string, unknown> {
  return new Map(typeof value === "object" && value !== null ? Object.entries(value) : []);
}

export function listIn(value: unknown, name: string): readonly unknown[] {
  const found = mapOf(value).get(name);
  return Array.isArray(found) ? found : [];
}
