/** A change that a mapping can't take: the next index is filled behind the back of those who read. */
import { describe, expect, test } from "vitest";
import { definition, factory } from "../../connectors/elasticsearch/config.ts";
import { type Batch } from "../../src/core/model/batch.ts";
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import {
  failure,
  patch,
  checkpointAt,
  put,
  remove,
  Reports,
  rowsBatch,
  timeout,
  UNCHANGED,
  type Write,
} from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { readDocuments, searchCall } from "../support/caches/search-rows.ts";
import { freshIndexPrefix, type FreshPrefix, searchEngines } from "../support/run/services.ts";

function users(version: number, score: string, other = "note"): TableVersion {
  const columns = [
    ["id", "int8"],
    ["score", score],
    [other, "text"],
  ] as const;
  return tableVersion({ table: "users", columns, key: ["id"], version });
}

const first = users(1, "int4");
const second = users(2, "text");
const third = users(3, "bool");
const OLD = "public.users-000001";

describe.each(searchEngines())("the next index on $name", ({ url }) => {
  async function opened(prefix: string, lease = 1): Promise<Opened> {
    const options = definition.parse({ url: url(), prefix, replicas: 0, refreshInterval: "-1" });
    const sink = await factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
    const held = await sink.open(lease, timeout());
    return Object.assign(sink, { held, [Symbol.asyncDispose]: () => sink.close() });
  }

  interface Opened extends Sink, AsyncDisposable {
    readonly held: Checkpoint | null;
  }

  async function apply(sink: Sink, batch: Batch): Promise<Reports> {
    const reports = new Reports();
    await sink.apply(batch, reports, timeout());
    return reports;
  }

  const write = (sink: Sink, table: TableVersion, at: bigint, ...entries: Write[]): Promise<Reports> =>
    apply(sink, rowsBatch(at, [table, entries]));

  const complete = (sink: Sink, table: TableVersion, at: bigint): Promise<Reports> =>
    apply(sink, { kind: "checkpoint", checkpoint: checkpointAt(at, { [table.id]: `${table.fingerprint}/1` }) });

  /** Two rows, complete; then the type changes, and one of them has been read again. */
  async function filling(indices: FreshPrefix): Promise<Opened> {
    const sink = await opened(indices.prefix);
    await sink.prepare([first], timeout());
    await write(sink, first, 10n, put(["1", "7", "a"]), put(["2", "8", "b"]));
    await complete(sink, first, 11n);
    await apply(sink, { kind: "checkpoint", checkpoint: checkpointAt(11n) });
    await sink.prepare([second], timeout());
    await write(sink, second, 20n, put(["1", "seven", "a"]));
    return sink;
  }

  /** What a reader of the alias sees. */
  async function seen(prefix: string): Promise<string[]> {
    const rows = await readDocuments(url(), prefix, second);
    return rows.map(({ cells }) => cells.join(" ").replaceAll(/number:|"/g, "")).toSorted();
  }

  /** Indices and their aliases, without the prefix. */
  async function layout(prefix: string): Promise<string[]> {
    const { text } = await searchCall(url(), "GET", `/_cat/indices/${prefix}public*?h=index&expand_wildcards=all`);
    const names = text.split("\n").map((line) => line.trim());
    const found = names
      .filter((name) => name !== "")
      .map(async (name) => {
        const answer = await searchCall(url(), "GET", `/${encodeURIComponent(name)}/_alias`);
        const aliases = [...answer.text.matchAll(/"(test-[^"]*)":\{(?!"aliases")/g)].map((match) => match[1]);
        const shown = aliases.filter((alias) => !alias?.includes("%WRITE-"));
        return [name, ...shown].map((text) => text?.slice(prefix.length)).join(" ");
      });
    return (await Promise.all(found)).toSorted();
  }

  const drop = (prefix: string, index: string): Promise<unknown> => searchCall(url(), "DELETE", `/${prefix}${index}`);

  /** The documents of the checkpoint, by id. */
  async function stored(prefix: string): Promise<Map<string, { content?: string }>> {
    await searchCall(url(), "POST", `/${prefix}millrace-progress/_refresh`);
    const { text } = await searchCall(url(), "GET", `/${prefix}millrace-progress/_search?size=100`);
    const found: { hits: { hits: { _id: string; _source: { content?: string } }[] } } = JSON.parse(text);
    return new Map(found.hits.hits.map(({ _id, _source }) => [_id, _source]));
  }

  async function store(prefix: string, documents: Awaited<ReturnType<typeof stored>>): Promise<void> {
    for (const [id, document] of documents) {
      const path = `/${prefix}millrace-progress/_doc/${encodeURIComponent(id)}`;
      await searchCall(url(), "PUT", path, JSON.stringify(document));
    }
  }

  const OLD_ROWS = ["1 7 a", "2 8 b"];
  const NEW_ROWS = ["1 seven a", "2 eight b"];
  const FILLED = ["public.users-000002 public.users"];

  async function finished(sink: Sink, prefix: string, table = second): Promise<void> {
    await write(sink, table, 30n, put(["1", "seven", "a"]), put(["2", "eight", "b"]));
    await apply(sink, { kind: "sweep", sweeps: [{ table, below: rowVersion(1, 30n) }], checkpoint: checkpointAt(31n) });
    await complete(sink, table, 31n);
    expect(await seen(prefix)).toEqual(NEW_ROWS);
  }

  test("readers see the old rows until all new ones are there, by alias and by wildcard", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await filling(indices);
    expect(await layout(prefix)).toEqual([`${OLD} public.users`, "public.users-000002 public.users%next"]);
    await write(sink, second, 21n, put(["3", "gone soon", "c"]));
    const reports = await write(sink, second, 22n, patch(["1", UNCHANGED, "A"]), patch(["2", UNCHANGED, "B"]));
    // Of the second row the new index has nothing yet.
    expect(reports.incompleteEntries).toEqual([1]);
    await write(sink, second, 23n, remove(["3", null, null]), put(["1", "seven", "a"]));
    expect(await seen(prefix)).toEqual(OLD_ROWS);
    const wild = await searchCall(url(), "POST", `/${prefix}public*/_count`);
    expect(wild.text).toContain('"count":2');
    await sink.verify(timeout());
    // Without a refresh by anybody else.
    await write(sink, second, 30n, put(["2", "eight", "b"]));
    await complete(sink, second, 31n);
    const { text } = await searchCall(url(), "POST", `/${prefix}public.users/_count`);
    expect(text).toContain('"count":2');
    expect(await layout(prefix)).toEqual(FILLED);
    expect(await seen(prefix)).toEqual(NEW_ROWS);
    const shown = await searchCall(url(), "POST", `/${prefix}public*/_count`);
    expect(shown.text).toContain('"count":2');
    await write(sink, second, 40n, remove(["1", null, null]));
    expect(await seen(prefix)).toEqual(NEW_ROWS.slice(1));
    await sink.verify(timeout());
  });

  test("a process that ends between making the next index and recording it", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await filling(indices);
    await sink.close();
    const documents = await stored(prefix);
    for (const document of documents.values()) document.content &&= document.content.replace(/,"next":\{[^}]*\}/, "");
    await store(prefix, documents);
    await using next = await opened(prefix, 2);
    await next.prepare([second], timeout());
    expect(await layout(prefix)).toEqual([`${OLD} public.users`, "public.users-000003 public.users%next"]);
    await finished(next, prefix);
    expect(await layout(prefix)).toEqual(["public.users-000003 public.users"]);
  });

  test("a process that ends between moving the alias and recording it", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await filling(indices);
    const record = await stored(prefix);
    await finished(sink, prefix);
    await sink.close();
    await store(prefix, record);
    await using next = await opened(prefix, 2);
    // Nothing that was read is lost, but whether all was nobody knows.
    expect(await next.presence!.missing([second], timeout())).toEqual([]);
    expect(next.held?.tables).toEqual({});
    await next.prepare([second], timeout());
    expect(await seen(prefix)).toEqual(NEW_ROWS);
    await complete(next, second, 32n);
    expect(await layout(prefix)).toEqual(FILLED);
    await next.verify(timeout());
  });

  test("a step whose answer was lost completes the table once", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await filling(indices);
    const record = await stored(prefix);
    await finished(sink, prefix);
    await store(prefix, record);
    await sink.open(2, timeout());
    await complete(sink, second, 31n);
    await write(sink, second, 40n, put(["2", "eight", "b"]));
    expect(await layout(prefix)).toEqual(FILLED);
    expect([...(await stored(prefix)).values()].map(({ content }) => content).join()).not.toContain("next");
  });

  test("the next index is dropped under way: the sink stops, and nothing makes it again", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await filling(indices);
    await drop(prefix, "public.users-000002");
    for (const entry of [put(["2", "b", null]), remove(["1", null, null]), patch(["1", "b", UNCHANGED])]) {
      const error = await failure(write(sink, second, 20n, entry));
      expect([error.code, error.kind]).toEqual(["MR3110", "reopen"]);
    }
    expect((await failure(complete(sink, second, 20n))).code).toBe("MR3110");
    expect((await failure(sink.verify(timeout()))).code).toBe("MR3110");
    expect(await layout(prefix)).toEqual([`${OLD} public.users`]);
    expect(await seen(prefix)).toEqual(OLD_ROWS);
  });

  test("the next index was dropped while nobody looked: its table is read again", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await filling(indices);
    await sink.close();
    await drop(prefix, "public.users-000002");
    // Twice: a process that dies in between must not take what was filled for kept.
    for (const lease of [2, 3]) {
      await using looking = await opened(prefix, lease);
      expect(await looking.presence!.missing([second], timeout())).toEqual([second]);
      // That it is gone is known: an idle sink that is looked at meanwhile does not stop for it.
      await looking.verify(timeout());
    }
    await using next = await opened(prefix, 4);
    await next.prepare([second], timeout());
    expect(await seen(prefix)).toEqual(OLD_ROWS);
    expect(await next.presence!.missing([second], timeout())).toEqual([]);
    await finished(next, prefix);
  });

  test("the old index was dropped while nobody looked: its table is read again", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await filling(indices);
    await drop(prefix, OLD);
    expect((await failure(sink.verify(timeout()))).code).toBe("MR3110");
    await sink.close();
    await using next = await opened(prefix, 2);
    expect(await next.presence!.missing([second], timeout())).toEqual([second]);
    await next.prepare([second], timeout());
    expect(await layout(prefix)).toHaveLength(1);
    await finished(next, prefix);
  });

  test("another type before the table is complete: what was filled goes, the old rows stay", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await filling(indices);
    await sink.prepare([third], timeout());
    expect(await layout(prefix)).toEqual([`${OLD} public.users`, "public.users-000003 public.users%next"]);
    await write(sink, third, 25n, put(["1", "t", "a"]), put(["2", "f", "b"]));
    expect(await seen(prefix)).toEqual(OLD_ROWS);
    // A field that is added goes into the index that is being filled.
    const wider = users(4, "bool", "further");
    await sink.prepare([wider], timeout());
    await complete(sink, wider, 31n);
    expect(await layout(prefix)).toEqual(["public.users-000003 public.users"]);
    expect(await seen(prefix)).toEqual(["1 true a", "2 false b"]);
  });

  test("a text becomes searchable by its words where the type was an enum", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await opened(prefix);
    const plain = users(1, "uuid");
    await sink.prepare([plain], timeout());
    await sink.prepare([second], timeout());
    await write(sink, second, 20n, put(["1", "two words", "a"]));
    expect(await layout(prefix)).toEqual([`${OLD} public.users`]);
    const query = { query: { match: { "score.text": "words" } } };
    await searchCall(url(), "POST", `/${prefix}public.users/_refresh`);
    const { text } = await searchCall(url(), "POST", `/${prefix}public.users/_search`, JSON.stringify(query));
    expect(text).toContain('"_id":"1"');
  });
});
