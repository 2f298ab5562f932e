/**
 * Sinks whose names, joined, are the same text: they do not fence each other, and do not write into each other's topics. And
 * topics that can't take what a sink writes.
 */
import { afterAll, expect, test } from "vitest";
import { definition, factory } from "../../connectors/kafka/config.ts";
import type { KeyedTable } from "../../src/core/model/schema.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { checkpointAt, failure, put, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { KafkaTopics } from "../support/kafka/kafka-topics.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { kafkaBroker } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";
import { checkpointOf, complete } from "../support/daemon/complete.ts";
import { origin } from "../support/kafka/kafka-scene.ts";

const topics = new KafkaTopics(kafkaBroker());
afterAll(async () => await topics[Symbol.asyncDispose]());

const item = tableVersion({ table: "item", columns: { id: "int8" } });

interface Named {
  readonly prefix: string;
  readonly daemon: string;
  readonly name: string;
  readonly [option: string]: unknown;
}

function contextOf({ prefix, daemon, name, ...rest }: Named) {
  const options = definition.parse({
    brokers: [topics.broker],
    prefix: `${topics.prefix}${prefix}`,
    ...(rest["format"] === "log" ? {} : { topics: { partitions: 1 } }),
    ...rest,
  });
  return { name, daemon, folder: "/", options, origin };
}

async function sinkOf(named: Named): Promise<Sink> {
  return await factory.create(contextOf(named), quietLog);
}

async function opened(named: Named): Promise<Sink> {
  const sink = await sinkOf(named);
  await sink.open(1, timeout());
  return sink;
}

async function write(sink: Sink, table: KeyedTable, at: bigint, id: string): Promise<void> {
  await sink.prepare([table], timeout());
  const batch = rowsBatch(at, [table, [put([id])]]);
  await sink.apply(batch.kind === "rows" ? { ...batch, order: new Uint16Array(1) } : batch, new Reports(), timeout());
}

async function checked(named: Named, tables: readonly { schema: string; table: string }[] = []): Promise<string> {
  const findings = await factory.check(contextOf(named), timeout(), tables);
  return findings.flatMap(({ level, what }) => (level === "error" ? [what] : [])).join();
}

test.each([
  [
    { prefix: "a-", daemon: "eu", name: "kafka" },
    { prefix: "", daemon: "a", name: "eu-kafka" },
  ],
  [
    { prefix: "b-", daemon: "eu", name: "k", format: "log" },
    { prefix: "b-", daemon: "eu", name: "k-answers" },
  ],
])("two sinks whose ids joined by hyphens would be one write beside each other", async (one, other) => {
  const [first, second] = [await opened(one), await opened(other)];
  for (let at = 10n; at < 13n; at++) {
    for (const sink of [first, second]) {
      if (sink.form === "log")
        await sink.apply(
          { kind: "checkpoint", checkpoint: checkpointOf({ epoch: 1, commit: at, index: 0 }) },
          new Reports(),
          timeout(),
        );
      else await write(sink, item, at, String(at));
    }
  }
  for (const sink of [first, second]) await sink.close();
});

test.each(["kafka", "another"])(
  "prefix and name that together are those of another daemon are refused, by check too, for a sink %s",
  async (name) => {
    const first = await opened({ prefix: name, daemon: "eu", name: "kafka" });
    await write(first, item, 10n, "1");
    const second = { prefix: "", daemon: `${name}eu`, name };
    expect(await checked(second)).toMatch(/MR3121.*sink kafka of eu/);
    const sink = await sinkOf(second);
    const refusal = await failure(sink.open(1, timeout()));
    expect(refusal).toMatchObject({ code: "MR3121", kind: "fatal" });
    await write(first, item, 11n, "2");
    for (const one of [first, sink]) await one.close();
    // What belongs together goes on, also as a new process.
    const again = await opened({ prefix: name, daemon: "eu", name: "kafka" });
    await write(again, item, 12n, "3");
    await again.close();
    const names = (await topics.names()).filter((topic) => topic.includes(`${name}eu._checkpoint`));
    expect(names).toHaveLength(1);
  },
);

test("of two daemons, a table whose name has dots does not get the topic of another one's", async () => {
  const first = await opened({ prefix: "x.", daemon: "shop", name: "kafka" });
  await write(first, item, 10n, "1");
  const dotted = tableVersion({ schema: "shop", table: "public.item", columns: { id: "int8" } });
  const second = { prefix: "", daemon: "x", name: "kafka" };
  const sink = await opened(second);
  const refusal = await failure(sink.prepare([dotted], timeout()));
  expect(refusal).toMatchObject({ code: "MR3121", kind: "fatal", table: dotted.id });
  expect(await checked(second, [{ schema: "shop", table: "public.item" }])).toContain("MR3121");
  expect(await checked(second, [{ schema: "public", table: "item" }])).toBe("");
  await write(sink, item, 10n, "1");
  for (const one of [first, sink]) await one.close();
});

test("… nor when the other one has come since it was opened", async () => {
  const second = await opened({ prefix: "", daemon: "y", name: "kafka" });
  await write(second, item, 10n, "1");
  const first = await opened({ prefix: "y.", daemon: "shop", name: "kafka" });
  await write(first, item, 10n, "1");
  const dotted = tableVersion({ schema: "shop", table: "public.item", columns: { id: "int8" } });
  const refusal = await failure(second.prepare([dotted], timeout()));
  expect(refusal).toMatchObject({ code: "MR3121", kind: "fatal", table: dotted.id });
  await write(second, item, 11n, "1");
  for (const one of [first, second]) await one.close();
});

test.each(["requests", "answers"])(
  "a table whose topic is for the %s about another daemon's log is refused",
  async (what) => {
    const own = tableVersion({ schema: "public", table: `_${what}`, columns: { id: "int8" } });
    const log = await opened({ prefix: `${what}.`, daemon: "public", name: "log", format: "log" });
    const named = { prefix: "", daemon: what, name: "kafka" };
    expect(await checked(named, [own])).toContain("MR3121");
    const sink = await opened(named);
    expect(await failure(sink.prepare([own], timeout()))).toMatchObject({ code: "MR3121", table: own.id });
    await write(sink, item, 10n, "1");
    await log.close();
    await sink.close();
  },
);

test.each(["requests", "answers"])(
  "a log whose topic for %s is that of another daemon's table is refused",
  async (what) => {
    const own = tableVersion({ schema: "public", table: `_${what}`, columns: { id: "int8" } });
    const sink = await opened({ prefix: "", daemon: `t${what}`, name: "kafka" });
    await write(sink, own, 10n, "1");
    const log = { prefix: `t${what}.`, daemon: "public", name: "log", format: "log" };
    expect(await checked(log)).toContain("MR3121");
    const late = await sinkOf(log);
    expect(await failure(late.open(1, timeout()))).toMatchObject({ code: "MR3121", kind: "fatal" });
    for (const one of [late, sink]) await one.close();
  },
);

test.each(["before", "after"] as const)(
  "a table whose topic is another daemon's log, which was there %s, is refused alone",
  async (when) => {
    const prefix = `${when}.`;
    const own = tableVersion({ schema: "public", table: "_log", columns: { id: "int8" } });
    const openLog = async () => {
      const log = await opened({ prefix, daemon: "public", name: "log", format: "log" });
      const checkpoint = checkpointOf({ epoch: 1, commit: 10n, index: 0 });
      await log.apply({ kind: "checkpoint", checkpoint }, new Reports(), timeout());
      return log;
    };
    const open = async () => await opened({ prefix: "", daemon: when, name: "kafka" });
    const first = when === "after" ? await open() : null;
    const log = await openLog();
    const sink = first ?? (await open());
    expect(await failure(sink.prepare([own], timeout()))).toMatchObject({ code: "MR3121", table: own.id });
    await write(sink, item, 10n, "1");
    for (const one of [log, sink]) await one.close();
  },
);

test("a log whose topic is that of another daemon's table is refused, by check too", async () => {
  const own = tableVersion({ schema: "public", table: "_log", columns: { id: "int8" } });
  const sink = await opened({ prefix: "", daemon: "held", name: "kafka" });
  await write(sink, own, 10n, "1");
  const log = { prefix: "held.", daemon: "public", name: "log", format: "log" };
  expect(await checked(log)).toContain("MR3121");
  const late = await sinkOf(log);
  expect(await failure(late.open(1, timeout()))).toMatchObject({ code: "MR3121", kind: "fatal" });
  await write(sink, own, 11n, "2");
  for (const one of [late, sink]) await one.close();
});

test("topics that the brokers take for one, as they read dots as underscores, suspend the second table alone, and check names both", async () => {
  const named: Named = { prefix: "dots-", daemon: "shop", name: "kafka" };
  const columns = [["id", "int8"]] as const;
  const one = tableVersion({ schema: "app", table: "v2_users", columns, key: ["id"] });
  const other = tableVersion({ schema: "app_v2", table: "users", columns, key: ["id"] });
  const told = (first: string, second: string): string =>
    `MR3509: topic ${topics.prefix}dots-shop.${first} can't be there beside ${topics.prefix}dots-shop.${second}: Kafka counts dots as underscores`;
  expect(await checked(named, [item, one, other])).toBe(told(other.id, one.id));
  const sink = await opened(named);
  await write(sink, one, 10n, "1");
  const refused = await failure(sink.prepare([other], timeout()));
  expect(refused).toMatchObject({ code: "MR3509", kind: "blocked", table: other.id });
  expect(`${refused.code}: ${refused.message}`).toBe(told(other.id, one.id));
  expect(await checked(named, [item, one, other])).toBe(told(other.id, one.id));
  await write(sink, one, 20n, "2");
  await sink.close();
  await topics.remove([`${topics.prefix}dots-shop.${one.id}`]);
  await eventually(async () => expect(await checked(named, [other])).toBe(""));
});

test("a prefix that the brokers take for another sink's is refused with that one's topic, by check too", async () => {
  const sink = await opened({ prefix: "eu.", daemon: "shop", name: "kafka" });
  const named: Named = { prefix: "eu_", daemon: "shop", name: "kafka" };
  const told = `topic ${topics.prefix}eu_shop._checkpoint.kafka can't be there beside ${topics.prefix}eu.shop._checkpoint.kafka`;
  const late = await sinkOf(named);
  expect(await failure(late.open(1, timeout()))).toMatchObject({
    code: "MR3509",
    message: expect.stringContaining(told),
  });
  expect(await checked(named)).toContain(told);
  for (const one of [late, sink]) await one.close();
});

test("a table in a schema with the name of Millrace's own topics has a topic of its own", async () => {
  const own = tableVersion({ schema: "_checkpoint", table: "kafka", columns: { id: "int8" } });
  const sink = await opened({ prefix: "own-", daemon: "shop", name: "kafka" });
  await write(sink, own, 10n, "1");
  await sink.close();
  const again = await sinkOf({ prefix: "own-", daemon: "shop", name: "kafka" });
  expect((await again.open(2, timeout()))?.position.commit).toBe(11n);
  await again.close();
});

test("the log is refused in a compacted topic, and `check` names topics that take no TRUNCATE", async () => {
  const log = { prefix: "compacted-", daemon: "shop", name: "log", format: "log" };
  const configs = [{ name: "cleanup.policy", value: "compact" }];
  const names = ["_log", "public.item"].map((name) => `${topics.prefix}compacted-shop.${name}`);
  await topics.admin.createTopics({ topics: names, partitions: 1, replicas: 1, configs });
  expect(await checked(log)).toMatch(/MR3519.*_log is compacted/);
  const sink = await sinkOf(log);
  expect(await failure(sink.open(1, timeout()))).toMatchObject({ code: "MR3519", kind: "blocked" });
  await sink.close();
  for (const [format, found] of [
    ["debezium", 1],
    ["cloudevents", 1],
    ["debezium-flat", 0],
    ["millrace", 0],
  ] as const) {
    const context = contextOf({ prefix: "compacted-", daemon: "shop", name: "stream", format });
    const findings = await factory.check(context, timeout(), [{ schema: "public", table: "item" }]);
    const warnings = findings.filter(({ id, level }) => id === "kafka.compaction" && level === "warning");
    expect({ format, found: warnings.length }).toEqual({ format, found });
  }
});

test("a log whose topic is compacted between two looks waits, and goes on when it is not", async () => {
  const sink = await opened({ prefix: "squeezed-", daemon: "shop", name: "log", format: "log" });
  const topic = `${topics.prefix}squeezed-shop._log`;
  const at = (commit: bigint) => ({ epoch: 1, commit, index: 0 });
  const lost = { kind: "lost", tableId: item.id } as const;
  const writeFrame = async (): Promise<void> => {
    const log = { from: at(10n), entries: [lost] };
    await sink.apply({ kind: "checkpoint", checkpoint: checkpointOf(at(12n)), log }, new Reports(), timeout());
  };
  await setTo(topic, "cleanup.policy", "compact");
  const refused = await eventually(async () => await failure(writeFrame()));
  expect(refused).toMatchObject({ code: "MR3509", kind: "blocked" });
  expect(await failure(sink.open(1, timeout()))).toMatchObject({ code: "MR3519", kind: "blocked" });
  await setTo(topic, "cleanup.policy", "delete");
  await eventually(async () => await sink.open(1, timeout()));
  await writeFrame();
  await sink.close();
});

test.each(["debezium", "cloudevents"])(
  "TRUNCATE for %s in a topic that is compacted between two looks suspends its table, and nothing else",
  async (format) => {
    const sink = await opened({ prefix: `late-${format}-`, daemon: "shop", name: "stream", format });
    await write(sink, item, 10n, "1");
    const topic = `${topics.prefix}late-${format}-shop.public.item`;
    await setTo(topic, "cleanup.policy", "compact");
    const truncate = {
      kind: "truncate",
      table: item,
      version: rowVersion(1, 20n),
      checkpoint: checkpointAt(20n),
    } as const;
    expect(await failure(sink.apply(truncate, new Reports(), timeout()))).toMatchObject({
      code: "MR3519",
      kind: "fatal",
      table: item.id,
      reason: "untold",
    });
    await sink.open(1, timeout());
    const note = tableVersion({ table: "note", columns: { id: "int8" } });
    await write(sink, note, 30n, "1");
    await sink.close();
  },
);

async function made(name: string, settings: Readonly<Record<string, string>>): Promise<string> {
  const topic = `${topics.prefix}${name}`;
  const configs = Object.entries(settings).map(([key, value]) => ({ name: key, value }));
  await topics.admin.createTopics({ topics: [topic], partitions: 1, replicas: 1, configs });
  return topic;
}

async function setTo(topic: string, name: string, value: string): Promise<void> {
  const configs = [{ name, value, configOperation: SET }];
  await topics.admin.incrementalAlterConfigs({ resources: [{ resourceType: TOPIC, resourceName: topic, configs }] });
}

/** As in the protocol. */
const [TOPIC, SET] = [2, 0] as const;

test("a checkpoint topic that deletes records is refused until it does not, at the start, by check and while it runs", async () => {
  for (const [i, policy] of ["delete", "compact,delete"].entries()) {
    const named: Named = { prefix: `k${i}-`, daemon: "shop", name: "stream" };
    const topic = await made(`k${i}-shop._checkpoint.stream`, { "cleanup.policy": policy });
    const sink = await sinkOf(named);
    const refused = { code: "MR3519", kind: "blocked", message: expect.stringContaining(topic) };
    expect(await failure(sink.open(1, timeout()))).toMatchObject(refused);
    expect(await checked(named)).toContain("deletes records that must stay");
    await setTo(topic, "cleanup.policy", "compact");
    await eventually(async () => expect(await sink.open(1, timeout())).toBeNull());
    expect(await checked(named)).toBe("");
    await write(sink, item, 10n, "1");
    await setTo(topic, "cleanup.policy", policy);
    await eventually(async () => expect(await failure(sink.verify(timeout()))).toMatchObject(refused));
    await sink.close();
  }
});

test("a checkpoint topic without a limit deletes nothing", async () => {
  const settings = { "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1" };
  await made("l-shop._checkpoint.stream", settings);
  const sink = await opened({ prefix: "l-", daemon: "shop", name: "stream" });
  await sink.close();
});

test("a checkpoint of which retention has deleted a part is none, and no foreign data", async () => {
  const topic = await made("m-shop._checkpoint.stream", { "cleanup.policy": "compact" });
  const position = { lease: 3, position: "1/4711/0", bond: "", open: "" };
  const value = `\u0003${JSON.stringify(position)}`;
  await topics.write([{ topic, partition: 0, offset: 0n, key: "position", value, headers: new Map() }]);
  const named: Named = { prefix: "m-", daemon: "shop", name: "stream" };
  const sink = await sinkOf(named);
  expect(await failure(sink.open(2, timeout()))).toMatchObject({ code: "MR3109" });
  expect(await sink.open(4, timeout())).toBeNull();
  await sink.close();
  expect(await checked(named)).toBe("");
});

test.each([
  [{ format: "cloudevents" }, { format: "cloudevents", decimals: "string" }],
  [{ format: "cloudevents", schemas: false }, { format: "cloudevents" }],
  [{ format: "debezium-flat" }, { format: "debezium-flat", schemas: false }],
  [{ format: "debezium" }, { format: "debezium", decimals: "double" }],
])("records of another form are refused, at the start and by check: %o, then %o", async (before, after) => {
  const prefix = `f${JSON.stringify(before).length}${JSON.stringify(after).length}-`;
  const named: Named = { prefix, daemon: "shop", name: "stream" };
  const sink = await opened({ ...named, ...before });
  await sink.close();
  const other = await sinkOf({ ...named, ...after });
  expect(await failure(other.open(2, timeout()))).toMatchObject({ code: "MR3120", kind: "fatal" });
  await other.close();
  expect(await checked({ ...named, ...after })).toContain("the topics hold");
  expect(await checked({ ...named, ...before })).toBe("");
});

test("a sink that has forgotten its checkpoint, or has another name now, writes no other form into its topics", async () => {
  const former: Named = { prefix: "former-", daemon: "shop", name: "a", format: "debezium-flat" };
  const sink = await opened(former);
  await write(sink, item, 10n, "1");
  await sink.close();
  const renamed: Named = { ...former, name: "b", format: "millrace" };
  const other = await opened(renamed);
  expect(await failure(other.prepare([item], timeout()))).toMatchObject({ code: "MR3120", table: item.id });
  await other.close();
  expect(await checked(renamed, [item])).toContain("of sink a of shop");
  const same: Named = { ...former, name: "c" };
  expect(await checked(same, [item])).toBe("");
  const again = await sinkOf(former);
  await again.open(2, timeout());
  await again.forget(timeout());
  await again.close();
  const changed = { ...former, format: "millrace" };
  const refused = await sinkOf(changed);
  expect(await failure(refused.open(3, timeout()))).toMatchObject({ code: "MR3120", kind: "fatal" });
  await refused.close();
  expect(await checked(changed)).toContain("MR3120");
});

test("what is wrong with the topic of one table, or with its schema, is told of that table", async () => {
  const sink = await opened({ prefix: "one-", daemon: "shop", name: "stream" });
  await write(sink, item, 10n, "1");
  await setTo(`${topics.prefix}one-shop.public.item`, "message.timestamp.before.max.ms", "1000");
  await setTo(`${topics.prefix}one-shop._schemas`, "max.message.bytes", "3000");
  await eventually(async () => {
    await sink.open(1, timeout());
    const refused = await failure(write(sink, item, 11n, "2"));
    expect(refused).toMatchObject({ code: "MR3509", kind: "blocked", table: item.id });
  });
  const columns = Array.from({ length: 200 }, (_, i) => [`column_${i}`, "int8"] as const);
  const wide = tableVersion({ table: "wide", columns, key: ["column_0"] });
  await eventually(async () => {
    await sink.open(1, timeout());
    const refused = await failure(sink.prepare([item, wide], timeout()));
    expect(refused).toMatchObject({ code: "MR2006", kind: "blocked", table: wide.id });
  });
  const note = tableVersion({ table: "note", columns: { id: "int8" } });
  await write(sink, note, 12n, "1");
  await sink.close();
});

test("a checkpoint of many tables is stored in a topic of small records", async () => {
  const name = await made("small-shop._checkpoint.stream", {
    "cleanup.policy": "compact",
    "max.message.bytes": "1000",
  });
  const sink = await opened({ prefix: "small-", daemon: "shop", name: "stream" });
  const tables = complete(Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`public.table_${i}`, "1"])));
  const checkpoint = checkpointOf({ epoch: 1, commit: 20n, index: 0 }, tables);
  await sink.apply({ kind: "checkpoint", checkpoint }, new Reports(), timeout());
  expect(await sink.open(2, timeout())).toMatchObject({ tables: checkpoint.tables });
  await sink.close();
  expect((await topics.read(name)).length).toBeLessThan(300);
});

test("settings that topics do not have are named by check", async () => {
  const named: Named = { prefix: "settings-", daemon: "shop", name: "stream" };
  const sink = await opened(named);
  await write(sink, item, 10n, "1");
  await sink.close();
  const settings = { "max.message.bytes": 5_000_000 };
  const findings = await factory.check(contextOf({ ...named, topics: { settings } }), timeout(), [item]);
  expect(findings.filter(({ level }) => level === "warning")).toMatchObject([
    { id: "kafka.settings", what: expect.stringContaining("has max.message.bytes=1048588") },
  ]);
});

test("partitions that were added are named by check", async () => {
  const named: Named = { prefix: "p-", daemon: "shop", name: "stream" };
  const sink = await opened(named);
  await write(sink, item, 10n, "1");
  await sink.apply(
    {
      kind: "checkpoint",
      checkpoint: checkpointOf({ epoch: 1, commit: 20n, index: 0 }, complete({ [item.id]: "1" })),
    },
    new Reports(),
    timeout(),
  );
  await sink.close();
  const table = { schema: item.schema, table: item.table };
  expect(await checked(named, [table])).toBe("");
  await topics.admin.createPartitions({ topics: [{ name: `${topics.prefix}p-shop.public.item`, count: 3 }] });
  await eventually(async () => expect(await checked(named, [table])).toContain("has 3 partitions, and had 1"));
});

test("a limit that becomes smaller is taken over at the next look; a row above it is a dead letter, and the sink goes on", async () => {
  const sink = await opened({ prefix: "s-", daemon: "shop", name: "stream" });
  const wide = tableVersion({ table: "wide", columns: { id: "text" } });
  await write(sink, wide, 10n, "1");
  await setTo(`${topics.prefix}s-shop.public.wide`, "max.message.bytes", "20000");
  const reports = new Reports();
  const large = rowsBatch(20n, [wide, [put(["x".repeat(30_000)]), put(["2"])]]);
  await eventually(async () => {
    await sink.verify(timeout());
    await sink.apply(large.kind === "rows" ? { ...large, order: new Uint16Array(2) } : large, reports, timeout());
    expect(reports.poisons).toMatchObject([{ error: { code: "MR3111" } }]);
  });
  // A report may end the batch, which is then given again with another checkpoint.
  const many = rowsBatch(30n, [
    wide,
    [...Array.from({ length: 600 }, (_, i) => put([`${i}${"y".repeat(4_000)}`])), put(["x".repeat(30_000)])],
  ]);
  const ordered = many.kind === "rows" ? { ...many, order: new Uint16Array(601) } : many;
  const ending = new Reports();
  ending.poison = () => Promise.reject(new Error("the checkpoint does not count it"));
  await expect(sink.apply(ordered, ending, timeout())).rejects.toThrow("does not count");
  await sink.apply(ordered, new Reports(), timeout());
  const written = await topics.read(`${topics.prefix}s-shop.public.wide`);
  expect(written.filter(({ key }) => key?.includes("yyy"))).toHaveLength(600);
  await sink.close();
});
