import { Command, Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Argument, Commands, Reply } from "../../connectors/redis/connection.ts";
import { Owners } from "../../connectors/redis/owners.ts";
import { TombstoneKeys } from "../../connectors/redis/keys.ts";
import { definition, factory } from "../../connectors/redis/config.ts";
import { type Batch, tablesOf } from "../../src/core/model/batch.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { AllTargets, Sink } from "../../src/core/contracts/sink.ts";
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
import { tcpProxy } from "../support/network/proxy.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { keysUnder } from "../support/caches/redis-rows.ts";
import { caches, freshKeyPrefix } from "../support/run/services.ts";

const users = tableVersion({ table: "users", columns: { id: "text", name: "text", doc: "jsonb" } });

const prepared = new WeakMap<Sink, Set<TableVersion>>();

describe.each(caches())("redis sink on $name", ({ url }) => {
  let client: Redis;
  beforeAll(() => {
    client = new Redis(url());
  });
  afterAll(() => client.disconnect());

  async function sinkOn(prefix: string, more: object = {}, daemon = "shop"): Promise<Sink> {
    const options = definition.parse({ url: url(), prefix, ...more });
    return await factory.create({ name: "cache", daemon, folder: "/", options }, quietLog);
  }

  async function opened(
    prefix: string,
    more: object = {},
    { lease = 1, daemon = "shop" } = {},
  ): Promise<Sink & AsyncDisposable> {
    const sink = await sinkOn(prefix, more, daemon);
    await sink.open(lease, timeout());
    return Object.assign(sink, { [Symbol.asyncDispose]: () => sink.close() });
  }

  async function checked(prefix: string, more: object = {}): Promise<[level: string, what: string][]> {
    const options = definition.parse({ url: url(), prefix, ...more });
    const found = await factory.check({ name: "cache", daemon: "shop", folder: "/", options }, timeout());
    return found.map(({ level, what }) => [level, what]);
  }

  /** Prepares the tables first that the sink has not seen. */
  async function apply(sink: Sink, batch: Batch): Promise<Reports> {
    const known = prepared.get(sink) ?? new Set();
    prepared.set(sink, known);
    for (const table of tablesOf(batch)) {
      if (!known.has(table)) await sink.prepare([table], timeout());
      known.add(table);
    }
    const reports = new Reports();
    await sink.apply(batch, reports, timeout());
    return reports;
  }

  test("a batch makes no buffers: it writes into those of the batches before it", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    using made = vi.spyOn(Buffer, "allocUnsafeSlow");
    for (const version of [20n, 30n, 40n]) await apply(sink, rowsBatch(version, [users, [put(["1", "b", null])]]));
    expect(made.mock.calls.filter(([byteCount]) => byteCount >= 64 * 1024)).toEqual([]);
  });

  test("a change to a row from before leaves nothing of a column that was dropped since", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", '"long"'])]]));
    const narrower = tableVersion({
      table: "users",
      columns: { id: "text", doc: "jsonb", later: "text" },
      key: ["id"],
      identities: { doc: 3, later: 4 },
      version: 2,
    });
    const reports = await apply(sink, rowsBatch(20n, [narrower, [patch(["1", UNCHANGED, "x"])]]));
    expect(reports.incompletes).toEqual([]);
    const {
      _millrace_version: _,
      _millrace_commit_time: __,
      ...fields
    } = await client.hgetall(`${keys.prefix}public:users:1`);
    expect(fields).toEqual({ id: "1", doc: '"long"', later: "x" });
  });

  test("keys and fields are those of the contract", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    const table = tableVersion({
      schema: "a:b",
      table: "c%d",
      columns: { k: "text", n: "int8", v: "text" },
      key: ["k", "n"],
    });
    await apply(sink, rowsBatch(10n, [table, [put(["x:y", "7", null]), put(["", "8", "v"])]]));
    expect(await client.hgetall(`${keys.prefix}a%3Ab:c%25d:x%3Ay:7`)).toEqual({
      _millrace_version: String(rowVersion(1, 10n)),
      _millrace_commit_time: "2026-11-18T11:06:40.000000Z",
      k: "x:y",
      n: "7",
    });
    expect(await client.hget(`${keys.prefix}a%3Ab:c%25d:%:8`, "v")).toBe("v");
  });

  test.each(["hash", "json"])("a row that was deleted is not brought back by an older change (%s)", async (format) => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix, { format });
    const ids = ["plain", "{tag}", "a{b}c", "open{", "close}", "}{", "{}", "{}{x}", "{{a}}"];
    await apply(sink, rowsBatch(10n, [users, ids.map((id) => put([id, "a", null]))]));
    await apply(sink, rowsBatch(30n, [users, ids.map((id) => remove([id, null, null]))]));
    expect(await rowKeys(keys.prefix)).toEqual([]);
    const reports = await apply(sink, rowsBatch(20n, [users, ids.map((id) => put([id, "old", null]))]));
    await apply(sink, rowsBatch(20n, [users, [patch(["plain", "old", UNCHANGED])]]));
    expect(reports.incompleteEntries).toEqual([]);
    expect(await rowKeys(keys.prefix)).toEqual([]);
    await apply(sink, rowsBatch(40n, [users, ids.map((id) => put([id, "new", null]))]));
    expect(await rowKeys(keys.prefix)).toHaveLength(ids.length);
    const graves = (await keysUnder(client, keys.prefix)).filter((key) => key.includes("_millrace::"));
    expect(graves).toHaveLength(ids.length);
    for (const grave of graves) expect(await client.ttl(grave)).toBeGreaterThan(3000);
  });

  test("JSON is carried from the base as it is written, digit by digit", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix, { format: "json" });
    const doc = '{"n": 123456789012345678901234567890.10, "e": 1e400, "a\\"\\\\": ["}", "\\u00e9"], "x": {"id": 1}}';
    await apply(sink, rowsBatch(10n, [users, [put(["1", 'a"}\\', doc]), put(["2", "b", null])]]));
    await apply(sink, rowsBatch(20n, [users, [patch(["1", UNCHANGED, UNCHANGED]), patch(["2", "c", UNCHANGED])]]));
    const time = "2026-11-18T11:06:40.000000Z";
    const head = `{"_millrace_version":${rowVersion(1, 20n)},"_millrace_commit_time":"${time}"`;
    expect(await client.get(`${keys.prefix}public:users:1`)).toBe(`${head},"id":"1","name":"a\\"}\\\\","doc":${doc}}`);
    expect(await client.get(`${keys.prefix}public:users:2`)).toBe(`${head},"id":"2","name":"c","doc":null}`);
  });

  test("a step whose answer was lost is given again and holds", async () => {
    await using keys = freshKeyPrefix(url());
    await using proxy = await tcpProxy(url());
    await using sink = await opened(keys.prefix, { url: proxy.url(url()) });
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    const batch = rowsBatch(20n, [users, [patch(["1", "b", UNCHANGED]), put(["2", "c", null])]]);
    proxy.stall("toClient");
    const lost = failure(apply(sink, batch));
    await expect.poll(() => client.hget(`${keys.prefix}public:users:1`, "name")).toBe("b");
    proxy.cut();
    expect((await lost).kind).toBe("retryable");
    await proxy.resume();
    await apply(sink, batch);
    await apply(sink, rowsBatch(30n, [users, [put(["1", "d", null])]]));
    expect(await client.hget(`${keys.prefix}public:users:1`, "name")).toBe("d");
  });

  test("a server that forgot the script gets it again", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    await client.script("FLUSH");
    const many = Array.from({ length: 5_000 }, (_, i) => put([`${i}`, "a", null]));
    await apply(sink, rowsBatch(10n, [users, many]));
    expect(await rowKeys(keys.prefix)).toHaveLength(5_000);
  });

  test("a cache that went back to an older state is found, and not written to", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    const key = `${keys.prefix}_millrace:shop.cache`;
    // Several steps stand at one position.
    for (const [field, older] of [
      ["position", "1/5/0"],
      ["bond", "ab/cd/6/3"],
    ] as const) {
      const own = (await client.hget(key, field))!;
      await client.hset(key, field, older);
      expect((await failure(sink.verify(timeout()))).code).toBe("MR1308");
      const error = await failure(apply(sink, rowsBatch(20n, [users, [put(["1", "b", null])]])));
      expect([error.code, error.kind]).toEqual(["MR1308", "reopen"]);
      expect(await client.hget(`${keys.prefix}public:users:1`, "name")).toBe("a");
      await client.hset(key, field, own);
    }
  });

  test("a progress key that another program has overwritten stops the sink, by name", async () => {
    await using keys = freshKeyPrefix(url());
    const key = `${keys.prefix}_millrace:shop.cache`;
    const writes: Record<string, () => Promise<unknown>> = {
      text: () => client.set(key, "garbage"),
      list: async () => await client.multi().del(key).lpush(key, "garbage").exec(),
      lease: () => client.hset(key, "lease", "garbage"),
      position: () => client.hset(key, "position", "garbage"),
      tables: () => client.hset(key, "tables", "garbage"),
    };
    for (const [what, overwrite] of Object.entries(writes)) {
      await client.del(key);
      await using sink = await opened(keys.prefix);
      const write = async (at: bigint): Promise<unknown> =>
        await apply(sink, rowsBatch(at, [users, [put(["1", what, null])]]));
      await write(10n);
      await overwrite();
      expect(await checked(keys.prefix)).toContainEqual(["error", expect.stringContaining(`MR3315: key ${key}`)]);
      const attempts = [
        () => opened(keys.prefix, {}, { lease: 2 }),
        ...(/tables|lease/.test(what) ? [] : [() => write(20n)]),
      ];
      for (const attempt of attempts) {
        const { code, kind, message } = await failure(attempt());
        expect({ what, code, kind, message }).toEqual({
          what,
          code: "MR3315",
          kind: "fatal",
          message: expect.stringContaining(key),
        });
      }
    }
  });

  test("a list of owners that another program has overwritten stops the sink, by name", async () => {
    await using keys = freshKeyPrefix(url());
    const key = `${keys.prefix}_millrace:owners`;
    await using sink = await opened(keys.prefix);
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    await client.set(key, "garbage");
    const refusal = { code: "MR3315", kind: "fatal", message: expect.stringContaining(key) };
    expect(await failure(sink.verify(timeout()))).toMatchObject(refusal);
    await using later = await opened(keys.prefix, {}, { lease: 2 });
    expect(await failure(later.prepare([users], timeout()))).toMatchObject(refusal);
    await client.del(key);
    await later.prepare([users], timeout());
    await later.verify(timeout());
  });

  test("another format means that every table is read again, and rows change over", async () => {
    await using keys = freshKeyPrefix(url());
    const checkpoint = checkpointAt(11n, { "public.users": "rules" });
    {
      await using hash = await opened(keys.prefix, { format: "hash" });
      await apply(hash, { ...rowsBatch(10n, [users, [put(["1", "a", null]), put(["2", "a", null])]]), checkpoint });
    }
    expect((await checked(keys.prefix)).filter(([, what]) => /format/.test(what))).toEqual([]);
    expect(await checked(keys.prefix, { format: "json" })).toContainEqual([
      "warning",
      "the keys hold rows in format hash: the start reads all of them again, in format json",
    ]);
    const json = await sinkOn(keys.prefix, { format: "json" });
    await using _ = { [Symbol.asyncDispose]: () => json.close() };
    expect(await json.open(2, timeout())).toEqual({ ...checkpoint, tables: {} });
    const reports = await apply(json, rowsBatch(20n, [users, [put(["1", "b", null]), patch(["2", "b", UNCHANGED])]]));
    expect(reports.incompleteEntries).toEqual([1]);
    expect(await client.type(`${keys.prefix}public:users:1`)).toBe("string");
    const old = await apply(json, rowsBatch(30n, [users, [put(["2", "old", null], { at: 5n })]]));
    expect(old.poisons).toEqual([]);
    expect(await client.hget(`${keys.prefix}public:users:2`, "name")).toBe("a");
  });

  test("a key that holds something else makes its row poison, and no other", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    await client.lpush(`${keys.prefix}public:users:2`, "not ours");
    const reports = await apply(
      sink,
      rowsBatch(10n, [users, [put(["1", "secret", null]), put(["2", "secret", null]), put(["3", "secret", null])]]),
    );
    expect(reports.poisons.map(({ entry, error }) => [entry, error.code, error.kind])).toEqual([
      [1, "MR3111", "poison"],
    ]);
    expect(reports.poisons[0]?.error.message).not.toContain("secret");
    expect(await client.hget(`${keys.prefix}public:users:3`, "name")).toBe("secret");
    expect(await client.lrange(`${keys.prefix}public:users:2`, 0, -1)).toEqual(["not ours"]);
  });

  test("what another program has put in a tombstone's place stops no row", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    const ids = ["1", "2", "3"];
    await apply(sink, rowsBatch(10n, [users, ids.map((id) => remove([id, null, null]))]));
    const tombstones = new TombstoneKeys(keys.prefix);
    const [list, long, short] = ids.map((id) => tombstones.of(`${keys.prefix}public:users:${id}`));
    await client.multi().del(list!).rpush(list!, "not ours").set(long!, "9".repeat(30)).set(short!, "ours?").exec();
    const reports = await apply(sink, rowsBatch(20n, [users, ids.map((id) => put([id, "a", null]))]));
    expect(reports.poisons).toEqual([]);
    for (const id of ids) expect(await client.hget(`${keys.prefix}public:users:${id}`, "name")).toBe("a");
    await apply(sink, rowsBatch(30n, [users, [remove(["1", null, null])]]));
    expect(await client.get(list!)).toBe(String(rowVersion(1, 30n)));
  });

  test("of texts of digits only a tombstone is a version", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    const highest = async () => await sink.rows!.highestVersion("own", timeout());
    const others = ["1732812345678901234", "9".repeat(20), String(rowVersion(7, 1n))];
    for (const [i, digits] of others.entries()) await client.set(`${keys.prefix}visits:${i}`, digits);
    await client.set(new TombstoneKeys(keys.prefix).of(`${keys.prefix}public:users:0`), "9".repeat(20));
    expect(await highest()).toBe(0n);
    const ids = ["plain", "{tag}", "close}"];
    for (const [i, id] of ids.entries()) {
      const at = BigInt(10 * (i + 1));
      await apply(sink, rowsBatch(at, [users, [put([id, "a", null])]]));
      expect(await highest()).toBe(rowVersion(1, at));
      await apply(sink, rowsBatch(at + 5n, [users, [remove([id, null, null])]]));
      expect(await highest()).toBe(rowVersion(1, at + 5n));
    }
  });

  test("of rows and tombstones of other sinks under the same prefix no version counts", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    const options = definition.parse({ url: url(), prefix: keys.prefix });
    const other = await factory.create({ name: "cache", daemon: "office", folder: "/", options }, quietLog);
    await other.open(1, timeout());
    const staff = tableVersion({ table: "staff", columns: { id: "text", name: "text" } });
    await apply(other, rowsBatch(90n, [staff, [put(["1", "a"]), remove(["{2}", null])]]));
    const highest = async (tables: readonly TableVersion[] | AllTargets) =>
      await sink.rows!.highestVersion(tables, timeout());
    expect([await highest([users]), await highest("own")]).toEqual([0n, 0n]);
    expect(await highest([staff])).toBe(rowVersion(1, 90n));
    await apply(sink, rowsBatch(10n, [users, [remove(["1", null, null])]]));
    expect([await highest([users]), await highest("own")]).toEqual([rowVersion(1, 10n), rowVersion(1, 10n)]);
    await other.close();
  });

  test("a reset forgets that rows of its tables were deleted later, and of no others", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    const spared = tableVersion({ table: "users:2", columns: { id: "text", name: "text" }, key: ["id"] });
    const ids = ["plain", "{tag}", "a{b}c", "open{", "close}", "}{", "{}", "{}{x}", "{{a}}"];
    await apply(
      sink,
      rowsBatch(30n, [users, ids.map((id) => remove([id, null, null]))], [spared, [remove(["1", null])]]),
    );
    const graves = async () => (await keysUnder(client, keys.prefix)).filter((key) => key.includes("_millrace::"));
    const own = new TombstoneKeys(keys.prefix).of(`${keys.prefix}public:users:1`);
    await client.set(own, "not ours");
    await sink.rows!.expel([users], rowVersion(1, 30n), timeout());
    expect(await graves()).toHaveLength(ids.length + 2);
    await sink.rows!.expel([users], rowVersion(1, 20n), timeout());
    const left = [own, new TombstoneKeys(keys.prefix).of(`${keys.prefix}public:users%3A2:1`)];
    expect((await graves()).toSorted()).toEqual(left.toSorted());
  });

  test("truncate and sweep take a table's own rows, whatever its name matches", async () => {
    await using keys = freshKeyPrefix(url());
    const columns = [
      ["id", "text"],
      ["v", "text"],
    ] as const;
    const names = ["*", "?", "[a-z]", "a", "ab", String.raw`\*`, "u^", "-"];
    const tables = names.map((table) => tableVersion({ table, columns, key: ["id"] }));
    await using sink = await opened(keys.prefix);
    const long = "x".repeat(600);
    const rows = [put(["1", "v"]), put(["*", "v"]), put([long, "v"])];
    await apply(sink, rowsBatch(10n, ...tables.map((table) => [table, rows] as const)));
    for (const [i, table] of tables.entries()) {
      const at = BigInt(20 + i);
      const batch: Batch =
        i % 2 === 0
          ? { kind: "truncate", table, version: rowVersion(1, 15n), checkpoint: checkpointAt(at) }
          : { kind: "sweep", sweeps: [{ table, below: rowVersion(1, 15n) }], checkpoint: checkpointAt(at) };
      await apply(sink, batch);
      expect(await rowKeys(keys.prefix)).toHaveLength(3 * (names.length - i - 1));
    }
  });

  test("another pipeline's table below ours is spared", async () => {
    await using keys = freshKeyPrefix(url());
    const inner = tableVersion({ schema: "x", table: "y", columns: { id: "text" } });
    await using ours = await opened(keys.prefix);
    await using theirs = await opened(`${keys.prefix}public:users:`);
    await apply(ours, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    await apply(theirs, rowsBatch(10n, [inner, [put(["1"])]]));
    await apply(ours, { kind: "truncate", table: users, version: rowVersion(1, 50n), checkpoint: checkpointAt(51n) });
    expect(await rowKeys(keys.prefix)).toEqual([`${keys.prefix}public:users:x:y:1`]);
  });

  test("a table as wide as MySQL allows", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    const columns = Array.from({ length: 4_095 }, (_, i) => [`c${i}`, "text"] as const);
    const wide = tableVersion({ table: "wide", columns: [["id", "int4"], ...columns], key: ["id"] });
    const cells = (mark: string) => wide.columns.map((_, i) => (i === 0 ? "1" : `${mark}${i}`));
    await apply(sink, rowsBatch(10n, [wide, [put(cells("a"))]]));
    await apply(sink, rowsBatch(20n, [wide, [patch(cells("b").map((cell, i) => (i === 7 ? UNCHANGED : cell)))]]));
    const found = await client.hmget(`${keys.prefix}public:wide:1`, "c0", "c6", "c4094");
    expect(found).toEqual(["b1", "a7", "b4095"]);
    const none = wide.columns.map((_, i) => (i === 0 ? "1" : null));
    await apply(sink, rowsBatch(30n, [wide, [put(none)]]));
    expect(await client.hlen(`${keys.prefix}public:wide:1`)).toBe(3);
    await apply(sink, rowsBatch(40n, [wide, [put(cells("c"))]]));
    const nulled = none.map((cell, i) => (i === 7 ? UNCHANGED : cell));
    await apply(sink, rowsBatch(50n, [wide, [patch(nulled)]]));
    expect(await client.hlen(`${keys.prefix}public:wide:1`)).toBe(4);
  });

  test("a column that became null leaves no field behind, in any size of step", async () => {
    await using keys = freshKeyPrefix(url());
    await using sink = await opened(keys.prefix);
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", "{}"]), put(["2", "a", "{}"])]]));
    await apply(sink, rowsBatch(20n, [users, [put(["1", null, "1"]), patch(["2", null, UNCHANGED])]]));
    expect(Object.keys(await client.hgetall(`${keys.prefix}public:users:1`)).toSorted()).toEqual([
      "_millrace_commit_time",
      "_millrace_version",
      "doc",
      "id",
    ]);
    expect(await client.hexists(`${keys.prefix}public:users:2`, "name")).toBe(0);
    expect(await client.hget(`${keys.prefix}public:users:2`, "doc")).toBe("{}");
  });

  test("rows read back as they are, in whatever form the server is given them", async () => {
    await using keys = freshKeyPrefix(url());
    await using packs = await opened(`${keys.prefix}a:`);
    const login = `${keys.prefix.replaceAll(/\W/g, "")}plain`;
    await client.call("ACL", "SETUSER", login, "on", ">secret", "~*", "+@all", "-restore");
    const plainUrl = url().replace("redis://", `redis://${login}:secret@`);
    await using plain = await opened(`${keys.prefix}b:`, { url: plainUrl });
    const texts = ["", "42", "-1", "é".repeat(31), ...[62, 63, 64, 65, 127, 128, 5_000].map((n) => "x".repeat(n))];
    for (const [prefix, sink] of [
      ["a:", packs],
      ["b:", plain],
    ] as const) {
      const rows = texts.map((text, i) => put([`${i}`, text, i % 2 === 0 ? null : "[1, 2]"], { fresh: true }));
      await apply(sink, rowsBatch(10n, [users, rows]));
      // Every second row is behind the one that is there, though the log took it for new.
      const again = texts.map((text, i) => put([`${i}`, `${text}+`, null], { fresh: i % 3 === 0 }));
      await apply(sink, rowsBatch(5n, [users, again.filter((_, i) => i % 2 === 1)]));
      await apply(sink, rowsBatch(20n, [users, again.filter((_, i) => i % 2 === 0)]));
      for (const [i, text] of texts.entries()) {
        const { _millrace_version: version, ...row } = await client.hgetall(`${keys.prefix}${prefix}public:users:${i}`);
        const isNew = i % 2 === 0;
        expect(version).toBe(String(rowVersion(1, isNew ? 20n : 10n)));
        expect(row).toEqual({
          _millrace_commit_time: row["_millrace_commit_time"],
          id: `${i}`,
          name: isNew ? `${text}+` : text,
          ...(isNew ? {} : { doc: "[1, 2]" }),
        });
      }
    }
    await client.call("ACL", "DELUSER", login);
  });

  async function rowKeys(prefix: string): Promise<string[]> {
    return (await keysUnder(client, prefix)).filter((key) => !key.includes("_millrace:"));
  }

  test("who owns a table is not changed by what an ended sink sent", async () => {
    await using keys = freshKeyPrefix();
    let late: (() => Promise<unknown>) | null = null;
    let isLost = false;
    const send = (name: string, ...args: readonly Argument[]): Promise<Reply> =>
      Promise.resolve(client.sendCommand(new Command(name, [...args], { replyEncoding: null })));
    const connection: Commands = {
      async command(name, ...args) {
        if (!isLost || name !== "eval") return await send(name, ...args);
        late = () => send(name, ...args);
        throw new Error("lost");
      },
    };
    const owners = (name: string) => new Owners(keys.prefix, name, ({ id }) => id);
    const lost = async (work: () => Promise<unknown>): Promise<() => Promise<unknown>> => {
      isLost = true;
      await expect(work()).rejects.toThrow("lost");
      isLost = false;
      return late!;
    };
    const [first, second] = [owners("a/cache"), owners("b/cache")];
    await first.take(connection, [users]);
    const taken = await lost(() => first.take(connection, [users]));
    await second.take(connection, [users]);
    await taken();
    await second.compare(connection);
    await expect(first.compare(connection)).rejects.toMatchObject({ code: "MR3121" });
    // The former owner had seen the second one, which has prepared the table again since.
    const back = await lost(() => first.take(connection, [users]));
    await second.take(connection, [users]);
    await back();
    await second.compare(connection);
    const own = { ...users, id: "public.own", table: "own" };
    await second.take(connection, [own]);
    const forgotten = await lost(() => second.forget(connection));
    await owners("b/cache").take(connection, [own]);
    await forgotten();
    expect(await first.foreign(connection, [own])).toEqual([{ table: own, owner: "b/cache" }]);
    await owners("b/cache").forget(connection);
    expect(await first.foreign(connection, [own])).toEqual([]);
  });

  test("a sink that is removed leaves word of the tables that it took from another one, and of no others", async () => {
    await using keys = freshKeyPrefix();
    const connection: Commands = {
      command: (name, ...args) =>
        Promise.resolve(client.sendCommand(new Command(name, [...args], { replyEncoding: null }))),
    };
    const owners = (name: string) => new Owners(keys.prefix, name, ({ id }) => id);
    const [first, second, third] = [owners("a/cache"), owners("b/cache"), owners("c/cache")];
    const own = { ...users, id: "public.own", table: "own" };
    await first.take(connection, [users]);
    await second.take(connection, [users, own]);
    const taken = [{ table: users, owner: "b/cache" }];
    await second.forget(connection);
    expect(await first.foreign(connection, [users, own])).toEqual(taken);
    // Under its name comes another one, which is torn down without having written there.
    expect(await owners("b/cache").foreign(connection, [own])).toEqual([]);
    await owners("b/cache").expelled(connection, [users]);
    await owners("b/cache").forget(connection);
    expect(await first.foreign(connection, [users, own])).toEqual(taken);
    await first.take(connection, [users]);
    expect(await first.foreign(connection, [users])).toEqual(taken);
    await first.expelled(connection, [users]);
    expect(await first.foreign(connection, [users])).toEqual([]);
    expect(await third.foreign(connection, [users, own])).toEqual([{ table: users, owner: "a/cache" }]);
  });

  const named = (schema: string, table: string): TableVersion =>
    tableVersion({ schema, table, columns: { a: "text", b: "text" }, key: ["a", "b"] });
  test.each([
    ["a schema goes on with what the other prefix ends in", "", named("eu", "orders"), "e", named("u", "orders")],
    ["keys of one row begin as those of a table", ":", named("eu", "orders"), ":eu:", named("orders", "1")],
  ])("two daemons whose prefixes begin alike know each other's tables: %s", async (_, short, outer, long, inner) => {
    await using keys = freshKeyPrefix(url());
    const [around, within] = [`${keys.prefix}${short}`, `${keys.prefix}${long}`];
    await using first = await opened(around, {}, { daemon: "first" });
    await using second = await opened(within, {}, { daemon: "second" });
    const other = named("else", "orders");
    await first.prepare([outer, other], timeout());
    expect(await second.presence!.foreign!([inner, other], timeout())).toEqual([
      { table: inner, owner: "first/cache" },
    ]);
    await second.prepare([inner, other], timeout());
    expect(await second.presence!.foreign!([inner, other], timeout())).toEqual([
      { table: inner, owner: "first/cache" },
    ]);
    await second.rows!.expel([inner], 0n, timeout());
    expect(await second.presence!.foreign!([inner, other], timeout())).toEqual([]);
    await expect(first.verify(timeout())).rejects.toMatchObject({ code: "MR3121", table: outer.id });
    await Promise.all([first.verify(timeout()), second.verify(timeout())]);
    expect(await first.presence!.foreign!([outer, other], timeout())).toEqual([
      { table: outer, owner: "second/cache" },
    ]);
    await first.prepare([outer], timeout());
    await expect(second.verify(timeout())).rejects.toMatchObject({ code: "MR3121", table: inner.id });
    await first.verify(timeout());
    for (const [prefix, sink] of [
      [around, "second/cache"],
      [within, "first/cache"],
    ] as const)
      expect(await checked(prefix)).toContainEqual(["warning", expect.stringContaining(`that of ${sink},`)]);
    await first.forget(timeout());
    expect(await second.presence!.foreign!([inner, other], timeout())).toEqual([
      { table: inner, owner: "first/cache" },
    ]);
    expect((await checked(within)).filter(([, what]) => what.includes("first/cache"))).toEqual([]);
    await second.forget(timeout());
  });

  test("a user without a right to the key that all sinks have in common writes, and `check` gives the right", async () => {
    await using keys = freshKeyPrefix(url());
    const login = keys.prefix.replaceAll(/\W/g, "");
    await client.call("ACL", "SETUSER", login, "on", ">secret", `~${keys.prefix}*`, "+@all");
    const as = new URL(url());
    as.username = login;
    as.password = "secret";
    const more = { url: as.href };
    await using sink = await opened(keys.prefix, more);
    await apply(sink, rowsBatch(10n, [users, [put(["1", "a", null])]]));
    await sink.verify(timeout());
    expect(await checked(keys.prefix, more)).toContainEqual(["warning", expect.stringContaining("_millrace:prefixes")]);
    await sink.forget(timeout());
    await client.call("ACL", "DELUSER", login);
  });
});
