/** What is there already, and what templates of the engine add: it is overruled, or refused by name, by check as by the start. */
import { describe, expect, test } from "vitest";
import { definition, factory } from "../../connectors/elasticsearch/config.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { failure, checkpointAt, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { readDocuments, searchCall } from "../support/caches/search-rows.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { tcpProxy } from "../support/network/proxy.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { freshIndexPrefix, searchEngines } from "../support/run/services.ts";

const users = tableVersion({ table: "users", columns: { id: "int8", name: "text" } });
const orders = { ...users, table: "orders", id: "public.orders" };
const BATCH = rowsBatch(10n, [users, [put(["1", "a"])]]);
const INDEX = "public.users-000001";
/** Findings that indices of other tests, in the same cluster, are part of. */
const OF_THE_CLUSTER = new Set(["elasticsearch.health", "elasticsearch.shards"]);

describe.each(searchEngines())("a search sink and what is there already, on $name", ({ url }) => {
  const contextOf = (prefix: string, name = "search", at = url()) => ({
    name,
    daemon: "shop",
    folder: "/",
    options: definition.parse({ url: at, prefix, replicas: 0 }),
  });

  async function sinkOn(prefix: string): Promise<Sink & AsyncDisposable> {
    const sink = await factory.create(contextOf(prefix), quietLog);
    return Object.assign(sink, { [Symbol.asyncDispose]: () => sink.close() });
  }

  async function call(method: string, path: string, body?: object): Promise<void> {
    const { status, text } = await searchCall(url(), method, path, body && JSON.stringify(body));
    if (status >= 300) throw new Error(text);
  }

  async function refusals(prefix: string): Promise<readonly string[]> {
    const findings = await factory.check(contextOf(prefix), timeout(), [users]);
    return findings
      .filter(({ id, level }) => level !== "ok" && !OF_THE_CLUSTER.has(id))
      .map(({ level, what }) => `${level}: ${what}`);
  }

  /** As long as it is used, indices with these names begin with it. */
  async function template(name: string, body: object): Promise<AsyncDisposable> {
    await call("PUT", `/_index_template/${name}`, { priority: 500, ...body });
    return { [Symbol.asyncDispose]: async () => void (await searchCall(url(), "DELETE", `/_index_template/${name}`)) };
  }

  test("two sinks with two addresses of one cluster, and one prefix: the second is refused", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using proxy = await tcpProxy(url());
    const second = await factory.create(contextOf(prefix, "second", proxy.url(url())), quietLog);
    const elsewhere = await factory.create(contextOf(`${prefix}x-`, "third", proxy.url(url())), quietLog);
    await using sink = await sinkOn(prefix);
    await sink.open(1, timeout());
    const known = failure(second.open(1, timeout()));
    expect(await known).toMatchObject({
      code: "MR3121",
      kind: "fatal",
      message: expect.stringContaining("sink search"),
    });
    await elsewhere.open(1, timeout());
    await elsewhere.close();
    await factory.check(contextOf(prefix), timeout(), [users]);
    const findings = await factory.check(contextOf(prefix, "second", proxy.url(url())), timeout(), [users]);
    expect(findings).toContainEqual(
      expect.objectContaining({ level: "error", what: expect.stringContaining("one cluster") }),
    );
    // One that takes the place of the first, which is gone.
    await sink.close();
    await second.open(1, timeout());
    await second.close();
  });

  test("a template that would change documents, or not keep them, has no effect on new indices", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await call("PUT", `/_ingest/pipeline/${prefix}drop`, { processors: [] });
    const settings = {
      "index.default_pipeline": `${prefix}drop`,
      "index.final_pipeline": `${prefix}drop`,
      "index.translog.durability": "async",
      "index.number_of_shards": 2,
    };
    const mappings = { dynamic: "strict", _source: { enabled: false } };
    await using _ = await template(`${prefix}all`, {
      index_patterns: [`${prefix}*`],
      template: { settings, mappings },
    });
    await using sink = await sinkOn(prefix);
    await sink.open(1, timeout());
    await sink.prepare([users], timeout());
    await sink.apply(BATCH, new Reports(), timeout());
    expect((await readDocuments(url(), prefix, users)).map(({ cells }) => cells)).toEqual([["1", '"a"']]);
    await sink.verify(timeout());
    expect(await refusals(prefix)).toEqual([]);
  });

  test("a template that requires a routing is found as soon as an index is made", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const mappings = { _routing: { required: true } };
    await using _ = await template(`${prefix}all`, { index_patterns: [`${prefix}public*`], template: { mappings } });
    await using sink = await sinkOn(prefix);
    await sink.open(1, timeout());
    const error = await failure(sink.prepare([users], timeout()));
    expect([error.code, error.kind, error.table]).toEqual(["MR3107", "fatal", users.id]);
  });

  test("settings that somebody gave to an index are refused by name, and no longer when they are gone", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    {
      await using sink = await sinkOn(prefix);
      await sink.open(1, timeout());
      await sink.prepare([users], timeout());
      await sink.apply({ ...BATCH, checkpoint: checkpointAt(11n, { [users.id]: "x" }) }, new Reports(), timeout());
    }
    await call("PUT", `/_ingest/pipeline/${prefix}drop`, { processors: [] });
    const at = `/${prefix}${INDEX}`;
    const set = async (name: string, value: unknown): Promise<void> =>
      await call("PUT", `${at}/_settings`, { [name]: value });
    const filtered = (filter?: object) => ({
      actions: [
        { add: { index: `${prefix}${INDEX}`, alias: `${prefix}public.users`, is_write_index: true, ...filter } },
      ],
    });
    const cases: readonly (readonly [said: string, change: () => Promise<void>, back: () => Promise<void>])[] = [
      ...(
        [
          ["index.final_pipeline", `${prefix}drop`, "_none"],
          ["index.default_pipeline", `${prefix}drop`, "_none"],
          ["index.translog.durability", "async", "request"],
          ["index.max_result_window", 10, null],
        ] as const
      ).map(([name, value, back]) => [name, () => set(name, value), () => set(name, back)] as const),
      [
        "a filter or a routing of the alias",
        () => call("POST", "/_aliases", filtered({ filter: { term: { id: 1 } } })),
        () => call("POST", "/_aliases", filtered()),
      ],
    ];
    let lease = 1;
    for (const [said, change, back] of cases) {
      await change();
      await using sink = await sinkOn(prefix);
      await sink.open(++lease, timeout());
      const error = await failure(sink.prepare([users], timeout()));
      expect([error.code, error.table, said]).toEqual(["MR3107", users.id, said]);
      expect(error.message).toContain(said);
      expect(await refusals(prefix)).toEqual([expect.stringMatching(/^error: MR3107: /)]);
      await back();
      await sink.prepare([users], timeout());
      expect(await refusals(prefix)).toEqual([]);
    }
    // Documents have no other fields than those that are mapped.
    await call("PUT", `${at}/_mapping`, { dynamic: "strict" });
    await using sink = await sinkOn(prefix);
    await sink.open(++lease, timeout());
    await sink.prepare([users], timeout());
    await sink.apply(rowsBatch(20n, [users, [put(["2", "b"])]]), new Reports(), timeout());
    expect(await readDocuments(url(), prefix, users)).toHaveLength(2);
  });

  test("a template that makes data streams is named", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using sink = await sinkOn(prefix);
    await sink.open(1, timeout());
    await using _ = await template(`${prefix}streams`, { index_patterns: [`${prefix}*-*1`], data_stream: {} });
    const error = await failure(sink.prepare([users], timeout()));
    expect([error.code, error.kind, error.table]).toEqual(["MR3106", "fatal", users.id]);
    expect(await refusals(prefix)).toEqual([
      expect.stringContaining(`the template ${prefix}streams makes data streams`),
    ]);
  });

  /** As long as it is used, a data stream has this name, and these aliases. */
  async function dataStream(name: string, ...aliases: readonly string[]): Promise<AsyncDisposable> {
    const made = await template(`${name}-template`, {
      index_patterns: [name],
      priority: 600,
      data_stream: {},
      template: { settings: { "index.number_of_replicas": 0 } },
    });
    await call("POST", `/${name}/_doc`, { "@timestamp": "2026-01-01T00:00:00Z" });
    for (const alias of aliases) await call("POST", "/_aliases", { actions: [{ add: { index: name, alias } }] });
    return {
      [Symbol.asyncDispose]: async () => {
        await searchCall(url(), "DELETE", `/_data_stream/${name}`);
        await made[Symbol.asyncDispose]();
      },
    };
  }

  const NONE: AsyncDisposable = { [Symbol.asyncDispose]: async () => {} };

  test.for<readonly [what: string, said: string, make: (prefix: string) => Promise<AsyncDisposable>]>([
    ["a data stream", "is a data stream", (prefix) => dataStream(`${prefix}public.users`)],
    [
      "an alias of a data stream",
      "is an alias of the data stream",
      (prefix) => dataStream(`${prefix}logs`, `${prefix}public.users`),
    ],
    ["a data stream under its index's name", "", (prefix) => dataStream(`${prefix}${INDEX}`)],
    [
      "an index",
      "was not made by Millrace",
      async (prefix) => {
        await call("PUT", `/${prefix}public.users`);
        return NONE;
      },
    ],
    [
      "an alias with several indices",
      "leads to 2 indices",
      async (prefix) => {
        const alias = `${prefix}public.users`;
        await call("PUT", `/${prefix}one`, { aliases: { [alias]: { is_write_index: true } } });
        await call("PUT", `/${prefix}two`, { aliases: { [alias]: {} } });
        return NONE;
      },
    ],
    [
      "an alias of another index besides",
      "leads to 2 indices",
      async (prefix) => {
        await using sink = await sinkOn(prefix);
        await sink.open(1, timeout());
        await sink.prepare([users], timeout());
        const add = { index: `${prefix}two`, alias: `${prefix}public.users`, is_write_index: false };
        await call("PUT", `/${prefix}two`);
        await call("POST", "/_aliases", { actions: [{ add: { ...add, index: `${prefix}${INDEX}` } }, { add }] });
        return NONE;
      },
    ],
  ])("where a table's name is %s, the table is refused and told", async ([, said, make]) => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using _ = await make(prefix);
    await using sink = await sinkOn(prefix);
    await sink.open(2, timeout());
    const error = await failure(sink.prepare([users], timeout()));
    await sink.prepare([orders], timeout());
    expect([error.code, error.kind, error.table]).toEqual(["MR3106", "fatal", users.id]);
    expect(error.message).toContain(said);
    expect(await refusals(prefix)).toEqual([expect.stringMatching(/^error: (MR3106: |the template )/)]);
    await sink.apply(rowsBatch(10n, [orders, [put(["1", "a"])]]), new Reports(), timeout());
  });

  test("a data stream under the name of the checkpoints is refused", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    await using _ = await dataStream(`${prefix}millrace-progress`);
    await using sink = await sinkOn(prefix);
    const error = await failure(sink.open(1, timeout()));
    expect([error.code, error.kind]).toEqual(["MR3106", "fatal"]);
    expect(await refusals(prefix)).toContainEqual(expect.stringMatching(/^error: MR3106: /));
  });

  test("of many tables a step writes what it changes", async () => {
    await using indices = freshIndexPrefix(url());
    await using proxy = await tcpProxy(url());
    const context = contextOf(indices.prefix);
    const options = definition.parse({ ...context.options, url: proxy.url(url()) });
    const sink = await factory.create({ ...context, options }, quietLog);
    await sink.open(1, timeout());
    await sink.prepare([users], timeout());
    const held = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`public.table_${i}`, `shape/${i}`]));
    const written = async (at: bigint, tables: Record<string, string>): Promise<number> => {
      const before = proxy.counters.bytesToServer;
      await sink.apply({ kind: "checkpoint", checkpoint: checkpointAt(at, tables) }, new Reports(), timeout());
      return proxy.counters.bytesToServer - before;
    };
    expect(await written(10n, held)).toBeGreaterThan(300_000);
    expect(await written(11n, { ...held })).toBeLessThan(5_000);
    expect(await written(12n, { ...held, "public.table_7": "other/7" })).toBeLessThan(20_000);
    const { "public.table_7": _, ...rest } = held;
    expect(await written(13n, rest)).toBeLessThan(20_000);
    await sink.close();
    await using next = await sinkOn(indices.prefix);
    expect(await next.open(2, timeout())).toEqual(checkpointAt(13n, rest));
    await next.forget(timeout());
    await searchCall(url(), "POST", `/${indices.prefix}millrace-progress/_refresh`);
    const left = await searchCall(url(), "GET", `/${indices.prefix}millrace-progress/_count`);
    // Of each part that changed again, what its last number has replaced.
    expect(Number(/"count":(\d+)/.exec(left.text)?.[1])).toBeLessThanOrEqual(2);
  });

  test("an index of checkpoints that is not Millrace's, and a checkpoint that is not, stop the sink; one that is gone does not", async () => {
    await using indices = freshIndexPrefix(url());
    const { prefix } = indices;
    const checkpoint = `${prefix}millrace-progress`;
    const opens = async (lease: number): Promise<unknown> => {
      await using sink = await sinkOn(prefix);
      return await sink.open(lease, timeout());
    };
    const refused = async (code: string): Promise<void> => {
      const error = await failure(opens(9));
      expect([error.code, error.kind]).toEqual([code, "fatal"]);
    };
    await call("PUT", `/${checkpoint}`);
    await refused("MR3106");
    expect(await refusals(prefix)).toEqual([expect.stringContaining("MR3106")]);
    await call("DELETE", `/${checkpoint}`);
    await call("PUT", `/${prefix}other`, { aliases: { [checkpoint]: {} } });
    await refused("MR3106");
    expect(await refusals(prefix)).toEqual([expect.stringContaining("MR3106")]);
    await call("DELETE", `/${prefix}other`);
    expect(await opens(1)).toBeNull();
    {
      await using sink = await sinkOn(prefix);
      await sink.open(2, timeout());
      await sink.prepare([users], timeout());
      await sink.apply({ ...BATCH, checkpoint: checkpointAt(11n, { [users.id]: "x" }) }, new Reports(), timeout());
    }
    await call("POST", `/${checkpoint}/_refresh`);
    const { text } = await searchCall(url(), "GET", `/${checkpoint}/_search?size=100`);
    const [part] = [...text.matchAll(/"_id":"(shop\.search\/\d+\/2)"/g)].map((match) => encodeURIComponent(match[1]!));
    const { text: kept } = await searchCall(url(), "GET", `/${checkpoint}/_source/shop.search`);
    const head: object = JSON.parse(kept);
    for (const garbage of [{ lease: "x" }, { ...head, position: "here" }, {}]) {
      await call("PUT", `/${checkpoint}/_doc/shop.search`, garbage);
      await refused("MR3315");
    }
    await call("PUT", `/${checkpoint}/_doc/shop.search`, head);
    expect(await opens(3)).toMatchObject({ tables: { [users.id]: "x" } });
    await call("PUT", `/${checkpoint}/_doc/${part}`, { content: "garbage" });
    await refused("MR3315");
    await call("DELETE", `/${checkpoint}/_doc/${part}`);
    expect(await opens(4)).toBeNull();
    await call("DELETE", `/${checkpoint}/_doc/shop.search`);
    expect(await opens(1)).toBeNull();
    await call("PUT", `/${checkpoint}/_settings`, { "index.translog.durability": "async" });
    await refused("MR3107");
    expect(await refusals(prefix)).toEqual([expect.stringContaining("MR3107")]);
  });
});
