import { describe, expect, test } from "vitest";
import { definition, factory } from "../../connectors/elasticsearch/config.ts";
import { SearchClient } from "../../connectors/elasticsearch/http.ts";
import { ElasticsearchInspection } from "../../connectors/elasticsearch/inspect.ts";
import type { Batch } from "../../src/core/model/batch.ts";
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
} from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { httpGateway } from "../support/network/http-gateway.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { readDocuments, searchCall } from "../support/caches/search-rows.ts";
import { freshIndexPrefix, searchEngines } from "../support/run/services.ts";

const users = tableVersion({ table: "users", columns: { id: "int8", name: "text", doc: "json" } });

describe.each(searchEngines())("search sink on $name", ({ url }) => {
  async function opened(prefix: string, more: object = {}, lease = 1): Promise<Sink & AsyncDisposable> {
    const options = definition.parse({ url: url(), prefix, replicas: 0, ...more });
    const sink = await factory.create({ name: "search", daemon: "shop", folder: "/", options }, quietLog);
    await sink.open(lease, timeout());
    return Object.assign(sink, { [Symbol.asyncDispose]: () => sink.close() });
  }

  async function apply(sink: Sink, batch: Batch): Promise<Reports> {
    const reports = new Reports();
    await sink.apply(batch, reports, timeout());
    return reports;
  }

  async function source(prefix: string, alias: string, id: string): Promise<string> {
    const { text } = await searchCall(url(), "GET", `/${prefix}${alias}/_source/${id}`);
    return text;
  }

  async function hits(prefix: string, alias: string, query: object): Promise<string[]> {
    await searchCall(url(), "POST", `/${prefix}${alias}/_refresh`);
    const { text } = await searchCall(url(), "POST", `/${prefix}${alias}/_search`, JSON.stringify({ query }));
    return [...text.matchAll(/"_id":"([^"]*)"/g)].map((match) => match[1]!).toSorted();
  }

  async function ids(prefix: string, table: TableVersion): Promise<number> {
    return (await readDocuments(url(), prefix, table)).length;
  }

  test("a document that was deleted is not brought back by an older change", async () => {
    await using indices = freshIndexPrefix(url());
    await using sink = await opened(indices.prefix);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    await apply(sink, rowsBatch(30n, [users, [remove(["1", null, null]), remove(["2", null, null])]]));
    await apply(sink, rowsBatch(20n, [users, [put(["1", "old", null]), put(["2", "old", null])]]));
    expect(await ids(indices.prefix, users)).toBe(0);
    await apply(sink, rowsBatch(40n, [users, [put(["1", "new", null])]]));
    expect(await ids(indices.prefix, users)).toBe(1);
  });

  test("JSON is stored and carried as it is written; of a field named twice the last one counts", async () => {
    await using indices = freshIndexPrefix(url());
    await using sink = await opened(indices.prefix);
    await sink.prepare([users], timeout());
    const doc = '{"n": 123456789012345678901234567890.10,  "e": 1e400, "a\\"}": ["}", "\\u00e9"], "id": {"id": 1}}';
    const twice = '{"a": 1, "b": {"c": 1, "c": 2.50}, "a": 3}';
    const reports = await apply(sink, rowsBatch(10n, [users, [put(["1", 'x"}\n', doc]), put(["2", "x", twice])]]));
    expect(reports.poisons).toEqual([]);
    await apply(sink, rowsBatch(20n, [users, [patch(["1", UNCHANGED, UNCHANGED]), patch(["2", "y", UNCHANGED])]]));
    const time = "2026-11-18T11:06:40.000000Z";
    const head = `{"_millrace_version":${rowVersion(1, 20n)},"_millrace_commit_time":"${time}"`;
    const alias = "public.users";
    expect(await source(indices.prefix, alias, "1")).toBe(`${head},"id":1,"name":"x\\"}\\n","doc":${doc}}`);
    expect(await source(indices.prefix, alias, "2")).toBe(`${head},"id":2,"name":"y","doc":{"b":{"c":2.50},"a":3}}`);
    // To reconcile both are what the source has.
    const tls = { ca: undefined, cert: undefined, certKey: undefined, serverName: undefined };
    const client = new SearchClient({ urls: [url()], apiKey: undefined, tls });
    await using inspection = new ElasticsearchInspection(client, () => `${indices.prefix}${alias}`);
    const rows = await inspection.rows(users, [["1"], ["2"]], timeout());
    expect(rows.map(({ cells }) => cells[2])).toEqual([doc, twice].map((text) => inspection.expected(users, 2, text)));
  });

  test("documents are found by number, range, date, word and exact text", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const things = tableVersion({
      table: "things",
      columns: {
        id: "int4",
        price: "numeric",
        made: "timestamp with time zone",
        title: "text",
        "size.in.cm": "double precision",
        tags: "text[]",
      },
    });
    await using sink = await opened(prefix);
    await sink.prepare([things], timeout());
    await apply(
      sink,
      rowsBatch(10n, [
        things,
        [
          put(["1", "12.50", "2026-11-20 06:43:15.123456+00", "The quick Fox", "1.5", "{a,b}"]),
          put(["2", "99999999999999999999.99", "0044-03-15 12:00:00+00 BC", "fox", "NaN", "{b}"]),
          put(["3", "NaN", "infinity", "x".repeat(100_000), "Infinity", null]),
        ],
      ]),
    );
    const alias = "public.things";
    const found = (query: object): Promise<string[]> => hits(prefix, alias, query);
    expect(await found({ range: { "price.number": { lt: 100 } } })).toEqual(["1"]);
    expect(await found({ term: { price: "12.50" } })).toEqual(["1"]);
    expect(await found({ range: { made: { gte: "2026-11-20", lt: "2026-11-21" } } })).toEqual(["1"]);
    expect(await found({ match: { "title.text": "fox" } })).toEqual(["1", "2"]);
    expect(await found({ term: { title: "fox" } })).toEqual(["2"]);
    expect(await found({ range: { "size%2Ein%2Ecm": { gt: 1 } } })).toEqual(["1"]);
    expect(await found({ term: { tags: "b" } })).toEqual(["1", "2"]);
    expect(await found({ range: { id: { gte: 2 } } })).toEqual(["2", "3"]);
  });

  test("of a progress that lacks a part, the parts that are left do not come back beside later ones", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const other = tableVersion({ table: "other", columns: { id: "int8" } });
    const write = async (sink: Sink, at: bigint, tables: Readonly<Record<string, string>>) => {
      await sink.prepare([users, other], timeout());
      const batch = rowsBatch(at, [users, [put(["1", "a", null])]], [other, [put(["1"])]]);
      await apply(sink, { ...batch, checkpoint: checkpointAt(at + 1n, tables) });
    };
    await using first = await opened(prefix);
    await write(first, 10n, { [users.id]: "rules", [other.id]: "rules" });
    await first.close();
    const progress = `/${prefix}millrace-progress`;
    await searchCall(url(), "POST", `${progress}/_refresh`);
    const { text } = await searchCall(url(), "POST", `${progress}/_search`, JSON.stringify({ size: 100 }));
    const parts: { _id: string; _source: { content?: string } }[] = JSON.parse(text).hits.hits;
    const gone = parts.filter(({ _source: { content = "" } }) => content.includes(users.id));
    expect(gone).not.toEqual([]);
    for (const { _id } of gone) await searchCall(url(), "DELETE", `${progress}/_doc/${encodeURIComponent(_id)}`);
    await using second = await opened(prefix, {}, 2);
    expect(await second.look(timeout())).toBeNull();
    await write(second, 20n, { [users.id]: "rules" });
    await second.close();
    await using third = await opened(prefix, {}, 3);
    expect(Object.keys((await third.look(timeout()))?.tables ?? {})).toEqual([users.id]);
  });

  test("an index that was dropped while nobody looked is no longer complete", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const other = tableVersion({ table: "other", columns: { id: "int4" } });
    const checkpoint = checkpointAt(11n, { "public.users": "rules", "public.other": "rules" });
    {
      await using sink = await opened(prefix);
      for (const table of [users, other]) await sink.prepare([table], timeout());
      await apply(sink, { ...rowsBatch(10n, [users, [put(["1", "a", null])]], [other, [put(["1"])]]), checkpoint });
    }
    await searchCall(url(), "DELETE", `/${prefix}public.users-000001`);
    // Twice: a process that dies between the two must not take the new, empty index for the old one.
    for (const lease of [2, 3]) {
      await using sink = await opened(prefix, {}, lease);
      const held = await sink.open(lease, timeout());
      expect(held).toEqual({ ...checkpoint, tables: { "public.other": "rules" } });
      await sink.prepare([users], timeout());
    }
    expect(await ids(prefix, users)).toBe(0);
  });

  test("an index that is dropped under way stops the sink, and is not made by a deletion", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await opened(prefix);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    await searchCall(url(), "DELETE", `/${prefix}public.users-000001`);
    for (const entry of [put(["2", "b", null]), remove(["1", null, null]), patch(["1", "b", UNCHANGED])]) {
      const error = await failure(apply(sink, rowsBatch(20n, [users, [entry]])));
      expect([error.code, error.kind]).toEqual(["MR3110", "reopen"]);
    }
    for (const batch of [
      { kind: "truncate", table: users, version: 1n << 60n, checkpoint: checkpointAt(20n) },
      { kind: "sweep", sweeps: [{ table: users, below: 1n << 60n }], checkpoint: checkpointAt(20n) },
    ] as const) {
      expect((await failure(apply(sink, batch))).code).toBe("MR3110");
    }
    expect((await failure(sink.verify(timeout()))).code).toBe("MR3110");
    expect((await searchCall(url(), "GET", `/${prefix}public.users`)).status).toBe(404);
  });

  test("where somebody leads the alias to a second index, the sink writes on to its own", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await opened(prefix);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    const alias = `${prefix}public.users`;
    await searchCall(url(), "PUT", `/${alias}-other`);
    const add = (index: string) => ({ add: { index, alias, is_write_index: false } });
    const actions = JSON.stringify({ actions: [add(`${alias}-000001`), add(`${alias}-other`)] });
    expect((await searchCall(url(), "POST", "/_aliases", actions)).status).toBe(200);
    await apply(sink, rowsBatch(20n, [users, [put(["2", "b", null]), remove(["1", null, null])]]));
    await sink.verify(timeout());
    expect(await hits(prefix, "public.users-000001", { match_all: {} })).toEqual(["2"]);
    expect(await hits(prefix, "public.users-other", { match_all: {} })).toEqual([]);
  });

  test("a closed index is waited for and refuses no row", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await opened(prefix);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    await searchCall(url(), "POST", `/${prefix}public.users-000001/_close`);
    const batch = rowsBatch(20n, [users, [put(["1", "b", null]), put(["2", "b", null])]]);
    const reports = new Reports();
    const { code, kind, table, message } = await failure(sink.apply(batch, reports, timeout()));
    expect([code, kind, table, message]).toEqual(["MR3310", "blocked", users.id, expect.stringContaining("is closed")]);
    expect(reports.poisons).toEqual([]);
    await searchCall(url(), "POST", `/${prefix}public.users-000001/_open`);
    await apply(sink, batch);
    expect(await ids(prefix, users)).toBe(2);
  });

  test("a closed or blocked index is told although no row moves, until it is as before", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await opened(prefix);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    const index = `${prefix}public.users-000001`;
    const told = async () => {
      await sink.verify(timeout());
      return sink.hints?.map(({ table, what, needsPerson }) => ({ table, what, needsPerson }));
    };
    expect(await told()).toEqual([]);
    await searchCall(url(), "POST", `/${index}/_close`);
    const closed = expect.stringContaining(`${index} is closed`);
    expect(await told()).toEqual([{ table: users.id, what: closed, needsPerson: true }]);
    await searchCall(url(), "POST", `/${index}/_open`);
    expect(await told()).toEqual([]);
    await searchCall(url(), "PUT", `/${index}/_settings`, JSON.stringify({ "index.blocks.read_only": true }));
    const blocked = expect.stringContaining("index.blocks.read_only");
    expect(await told()).toEqual([{ table: users.id, what: blocked, needsPerson: true }]);
    await searchCall(url(), "PUT", `/${index}/_settings`, JSON.stringify({ "index.blocks.read_only": null }));
    expect(await told()).toEqual([]);
  });

  test("an index that was restored over its closed self is another one, also with its former UUID", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const call = async (method: string, path: string, body?: object): Promise<void> => {
      const { status, text } = await searchCall(url(), method, path, body && JSON.stringify(body));
      expect({ status, text }).toMatchObject({ status: 200 });
    };
    const repository = `/_snapshot/${prefix}restored`;
    await call("PUT", repository, { type: "fs", settings: { location: `${prefix}restored` } });
    await using sink = await opened(prefix);
    const complete = (at: bigint, name: string) => ({
      ...rowsBatch(at, [users, [put(["1", name, null])]]),
      checkpoint: checkpointAt(at + 1n, { [users.id]: "rules" }),
    });
    await sink.prepare([users], timeout());
    await apply(sink, complete(10n, "old"));
    const index = `${prefix}public.users-000001`;
    const of = { indices: index, include_global_state: false };
    await call("PUT", `${repository}/one?wait_for_completion=true`, of);
    await apply(sink, complete(20n, "new"));
    await sink.verify(timeout());
    await call("POST", `/${index}/_close`);
    await call("POST", `${repository}/one/_restore?wait_for_completion=true`, of);
    expect(await source(prefix, "public.users", "1")).toContain("old");
    expect(await failure(sink.verify(timeout()))).toMatchObject({ code: "MR3110", kind: "reopen" });
    await sink.open(2, timeout());
    expect(await sink.presence!.missing([users], timeout())).toEqual([users]);
    await call("DELETE", repository);
  });

  test("a step whose answer was lost is given again and holds", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    let isLost = false;
    await using gateway = await httpGateway(url(), async ({ method, path, pass }) => {
      const reply = await pass();
      return isLost && method === "PUT" && path.includes("millrace-progress/_doc/shop.search") ? "lost" : reply;
    });
    await using sink = await opened(prefix, { url: gateway.url });
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    const batch: Batch = { kind: "checkpoint", checkpoint: checkpointAt(21n) };
    isLost = true;
    expect((await failure(apply(sink, batch))).kind).toBe("retryable");
    isLost = false;
    expect(await source(prefix, "millrace-progress", "shop.search")).toContain('"1/21/0"');
    await apply(sink, batch);
    await apply(sink, rowsBatch(30n, [users, [put(["1", "b", null])]]));
    expect(await source(prefix, "public.users", "1")).toContain('"name":"b"');
  });

  test("a restored progress is found", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await opened(prefix);
    await sink.prepare([users], timeout());
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    const held: unknown = JSON.parse(await source(prefix, "millrace-progress", "shop.search"));
    const older = JSON.stringify({ ...Object(held), position: "1/5/0" });
    await searchCall(url(), "PUT", `/${prefix}millrace-progress/_doc/shop.search`, older);
    const error = await failure(apply(sink, rowsBatch(20n, [users, [put(["1", "b", null])]])));
    expect([error.code, error.kind]).toEqual(["MR1308", "reopen"]);
    expect(await source(prefix, "public.users", "1")).toContain('"name":"a"');
  });

  test("many indices are made together, and one that can't be made is named", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const tables = Array.from({ length: 12 }, (_, i) => tableVersion({ table: `t${i}`, columns: { id: "int8" } }));
    const taken = tables[5]!;
    await using sink = await opened(prefix);
    const revision = async (): Promise<number> => {
      const { text } = await searchCall(url(), "GET", `/${prefix}millrace-progress/_doc/shop.search`);
      return Number(/"_version":(\d+)/.exec(text)?.[1]);
    };
    await searchCall(url(), "PUT", `/${prefix}${taken.id}-000001`);
    const { code, table } = await failure(sink.prepare(tables, timeout()));
    expect([code, table]).toEqual(["MR3106", taken.id]);
    const before = await revision();
    const others = tables.filter((one) => one !== taken);
    await sink.prepare(others, timeout());
    expect((await revision()) - before).toBe(1);
    await apply(sink, rowsBatch(10n, ...others.map((one) => [one, [put(["1"])]] as const)));
    for (const one of others) expect(await ids(prefix, one)).toBe(1);
  });

  test("an index of another pipeline is refused by name", async () => {
    await using indices = freshIndexPrefix(url());
    await using sink = await opened(indices.prefix);
    await sink.prepare([users], timeout());
    const options = definition.parse({ url: url(), prefix: indices.prefix });
    const stranger = await factory.create({ name: "search", daemon: "other", folder: "/", options }, quietLog);
    await stranger.open(1, timeout());
    expect((await failure(stranger.prepare([users], timeout()))).code).toBe("MR3106");
    await stranger.close();
  });

  test("a table as wide as Postgres allows", async () => {
    await using indices = freshIndexPrefix(url());
    const columns = (count: number) => Array.from({ length: count }, (_, i) => [`c${i}`, "text"] as const);
    const narrow = tableVersion({ table: "wide", columns: [["id", "int4"], ...columns(900)], key: ["id"] });
    const wide = tableVersion({ table: "wide", columns: [["id", "int4"], ...columns(1_599)], key: ["id"], version: 2 });
    await using sink = await opened(indices.prefix);
    await sink.prepare([narrow], timeout());
    await sink.prepare([wide], timeout());
    const cells = wide.columns.map((_, i) => String(i));
    await apply(sink, rowsBatch(10n, [wide, [put(cells)]]));
    await apply(sink, rowsBatch(20n, [wide, [patch(cells.map((cell, i) => (i % 2 === 1 ? UNCHANGED : cell)))]]));
    const [row] = await readDocuments(url(), indices.prefix, wide);
    expect(row?.cells.slice(1)).toEqual(cells.slice(1).map((cell) => JSON.stringify(cell)));
  });

  test("names, keys and texts of characters with many bytes", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await opened(prefix, { refreshInterval: "-1" });
    // As many as one request line would take if a character were a byte.
    const tables = Array.from({ length: 30 }, (_, i) =>
      tableVersion({
        schema: "日".repeat(21),
        table: `${i}${"é".repeat(80)}`,
        columns: { id: "text", body: "text" },
        key: ["id"],
      }),
    );
    const [first] = tables;
    await sink.prepare([first!], timeout());
    const [fits, isLonger] = ["日".repeat(170), "日".repeat(171)];
    const bodies = ["日".repeat(8_191), "日".repeat(8_192), "😀".repeat(4_095)];
    const rows = bodies.map((body, i) => put([[fits, isLonger, "é"][i]!, body]));
    const reports = await apply(sink, rowsBatch(10n, [first!, rows]));
    expect(reports.poisons).toEqual([]);
    const alias = sink.target(first!);
    const term = (body: string): Promise<string[]> => hits("", encodeURIComponent(alias), { term: { body } });
    expect(await term(bodies[0]!)).toEqual([fits]);
    expect(await term(bodies[1]!)).toEqual([]);
    expect(await term(bodies[2]!)).toEqual(["é"]);
    expect(await sink.rows?.highestVersion(tables, timeout())).toBe(rowVersion(1, 10n));
    await apply(sink, rowsBatch(20n, [first!, [remove([fits, null]), remove([isLonger, null]), remove(["é", null])]]));
    expect(await ids(prefix, first!)).toBe(0);
  });

  test("a truncate goes on over many pages and spares what is newer", async () => {
    await using indices = freshIndexPrefix(url());
    await using sink = await opened(indices.prefix, { refreshInterval: "-1" });
    const plain = tableVersion({ table: "plain", columns: { id: "int4" } });
    await sink.prepare([plain], timeout());
    const many = Array.from({ length: 11_000 }, (_, i) => put([`${i}`], { at: i % 1_000 === 7 ? 30n : 10n }));
    await apply(sink, rowsBatch(30n, [plain, many]));
    await apply(sink, { kind: "truncate", table: plain, version: rowVersion(1, 20n), checkpoint: checkpointAt(31n) });
    expect(await ids(indices.prefix, plain)).toBe(11);
  });

  test("a blocked index is waited for", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await opened(prefix);
    await sink.prepare([users], timeout());
    const block = (value: boolean | null): Promise<unknown> =>
      searchCall(
        url(),
        "PUT",
        `/${prefix}public.users/_settings`,
        JSON.stringify({ "index.blocks.read_only_allow_delete": value }),
      );
    await block(true);
    const error = await failure(apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]])));
    expect([error.code, error.kind]).toEqual(["MR3310", "blocked"]);
    // This block is the one of a full disk.
    expect(error.message).toMatch(/the disks have: \/\S+ of node \S+ \([\d,]+ bytes free\)/);
    await block(null);
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
  });

  test("no server", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const found = async (more: object): Promise<unknown[]> => {
      const error = await failure(opened(prefix, more));
      expect(error.hint).toBeTruthy();
      return [error.code, error.kind];
    };
    expect(await found({ url: "http://127.0.0.1:1" })).toEqual(["MR2001", "retryable"]);
    expect(await found({ url: "http://no-such-host.invalid" })).toEqual(["MR2001", "retryable"]);
  });

  test("the check tells the server and what it can't reach", async () => {
    const context = (address: string) => ({
      name: "search",
      daemon: "shop",
      folder: "/",
      options: definition.parse({ url: address }),
    });
    const well = await factory.check(context(url()), timeout());
    expect(well.map(({ level }) => level)).not.toContain("error");
    expect(well[0]?.what).toMatch(/Elasticsearch|OpenSearch/);
    const none = await factory.check(context("http://user:canary-7f3a@127.0.0.1:1"), timeout());
    expect(none.map(({ level }) => level)).toEqual(["error"]);
    expect(JSON.stringify(none)).not.toContain("canary");
  });
});
