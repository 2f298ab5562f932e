/** A statement that the ClickHouse sink gave up reaches the server after what the sink has written since. */
import { describe, expect, test } from "vitest";
import { definition, factory } from "../../connectors/clickhouse/config.ts";
import type { Batch } from "../../src/core/model/batch.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { failure, checkpointAt, put, remove, Reports, rowsBatch, timeout } from "../conformance/stage.ts";
import { tableVersion } from "../support/model/blocks.ts";
import { lateGateway, type LateRequest } from "../support/network/http-gateway.ts";
import { quietLog } from "../support/run/quiet-log.ts";
import { clickhouseUrl, freshColumns } from "../support/run/services.ts";
import { askClickhouse } from "../support/warehouses/clickhouse-values.ts";

type Form = Pick<ReturnType<typeof definition.parse>, "deletes" | "mode">;

const HARD: Form = { deletes: "hard", mode: "mirror" };

const isInsert = (what: string): boolean => /INSERT INTO `test_\w+`\.`users` \(.*FORMAT RowBinary/.test(what);
const isRemoval = (what: string): boolean => /INSERT INTO `test_\w+`\.`users` \([^]*SELECT/.test(what);

async function scene(form: Form = HARD) {
  const gateway = await lateGateway(clickhouseUrl());
  const columns = freshColumns();
  const { prefix: schema } = columns;
  const sinks: Sink[] = [];
  const users = (version: number, type: "text" | "int4"): TableVersion => {
    const [id, name] = [["id", "int8"] as const, ["name", type] as const];
    return tableVersion({ schema, table: "users", columns: [id, name], key: ["id"], version });
  };
  const query = (sql: string) => askClickhouse(clickhouseUrl(), sql);
  return {
    first: users(1, "text"),
    numbered: users(2, "int4"),
    again: users(3, "text"),
    added: tableVersion({ schema, table: "users", columns: { id: "int8", name: "text", more: "text" }, version: 2 }),
    wide: tableVersion({
      schema,
      table: "users",
      columns: { id: "int8", name: "text", more: "text", last: "text" },
      version: 3,
    }),
    table: `${schema}.users`,
    query,
    lose: (isIt: (what: string) => boolean) => gateway.lose(isIt),
    hold: (isIt: (what: string) => boolean) => gateway.hold(isIt),
    async opened(lease: number, asked = form): Promise<Sink> {
      const options = definition.parse({ url: gateway.url, fsync: false, ...asked });
      const sink = await factory.create({ name: schema, daemon: "shop", folder: "/", options }, quietLog);
      sinks.push(sink);
      await sink.open(lease, timeout());
      return sink;
    },
    async rows(): Promise<string[]> {
      return (await query(`SELECT id, name FROM ${schema}.users_current ORDER BY id`)).map((row) => row.join(" "));
    },
    async [Symbol.asyncDispose]() {
      for (const sink of sinks) await sink.close();
      await columns[Symbol.asyncDispose]();
      await gateway[Symbol.asyncDispose]();
    },
  };
}

const HISTORY = (table: string): string =>
  `SELECT id, _millrace_version, _millrace_offset, _millrace_op FROM ${table} FINAL ORDER BY ALL`;

const apply = (sink: Sink, batch: Batch): Promise<void> => sink.apply(batch, new Reports(), timeout());

/** The sink gives the batch up, and applies it again. */
async function givenUp(sink: Sink, batch: Batch, late: LateRequest): Promise<void> {
  expect((await failure(apply(sink, batch))).kind).toBe("retryable");
  await late.lost;
  await apply(sink, batch);
}

describe.each(["hard", "soft"] as const)("deletes: %s", (deletes) => {
  test("a TRUNCATE of the transaction that filled the table again removes none of its rows", async () => {
    await using at = await scene({ deletes, mode: "mirror" });
    const sink = await at.opened(1);
    await sink.prepare([at.first], timeout());
    await apply(sink, rowsBatch(10n, [at.first, [put(["1", "a"]), put(["2", "b"])]]));
    const late = at.lose(isRemoval);
    const version = rowVersion(1, 20n);
    await givenUp(sink, { kind: "truncate", table: at.first, version, checkpoint: checkpointAt(20n) }, late);
    await apply(sink, rowsBatch(20n, [at.first, [put(["1", "A"]), put(["2", "B"])]]));
    expect((await late.deliver()).status).not.toBe(200);
    expect(await at.rows()).toEqual(["1 A", "2 B"]);
  });

  test("of two batches of a transaction the first does not come back", async () => {
    await using at = await scene({ deletes, mode: "mirror" });
    const sink = await at.opened(1);
    await sink.prepare([at.first], timeout());
    const late = at.lose(isInsert);
    await givenUp(sink, rowsBatch(10n, [at.first, [put(["1", "first"]), put(["2", "first"])]]), late);
    await apply(sink, rowsBatch(10n, [at.first, [put(["1", "second"]), remove(["2", null])]]));
    expect((await late.deliver()).status).not.toBe(200);
    expect(await at.rows()).toEqual(["1 second"]);
  });
});

test.each(["after its sender has lost it", "while it is on its way"])(
  "what was sent before the sink was opened again, %s, does not come after it",
  async (when) => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([at.first], timeout());
    await apply(sink, rowsBatch(5n, [at.first, [put(["3", "c"])]]));
    const isLost = when === "after its sender has lost it";
    const [lost, held] = isLost ? [at.lose(isInsert), null] : [null, at.hold(isInsert)];
    const first = failure(apply(sink, rowsBatch(10n, [at.first, [put(["1", "first"]), put(["2", "first"])]])));
    await (lost?.lost ?? held?.met);
    if (isLost) await first;
    await sink.open(1, timeout());
    expect((await first).kind).toBe("retryable");
    await apply(sink, rowsBatch(10n, [at.first, [put(["1", "second"]), remove(["2", null])]]));
    held?.release();
    const late = await (lost?.deliver() ?? held?.answered);
    expect(late?.status).not.toBe(200);
    expect(await at.rows()).toEqual(["1 second", "3 c"]);
  },
);

test("rows that were deleted before types changed do not come back", async () => {
  await using at = await scene();
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  const late = at.lose(isInsert);
  await givenUp(sink, rowsBatch(10n, [at.first, [put(["1", "7"]), put(["2", "8"])]]), late);
  await apply(sink, rowsBatch(20n, [at.first, [remove(["1", null])]]));
  for (const table of [at.numbered, at.again]) await sink.prepare([table], timeout());
  await late.deliver();
  expect(await at.rows()).toEqual(["2 8"]);
  await apply(sink, rowsBatch(30n, [at.again, [put(["3", "9"])]]));
  expect(await at.rows()).toEqual(["2 8", "3 9"]);
});

test("rows whose deletion somebody has cleaned up do not come back", async () => {
  await using at = await scene();
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  const late = at.lose(isInsert);
  await givenUp(sink, rowsBatch(10n, [at.first, [put(["1", "a"]), put(["2", "b"])]]), late);
  await apply(sink, rowsBatch(20n, [at.first, [remove(["1", null])]]));
  await at.query(`ALTER TABLE ${at.table} MODIFY SETTING allow_experimental_replacing_merge_with_cleanup = 1`);
  await at.query(`OPTIMIZE TABLE ${at.table} FINAL CLEANUP`);
  expect(await at.query(`SELECT count() FROM ${at.table}`)).toEqual([["1"]]);
  await late.deliver();
  expect(await at.rows()).toEqual(["2 b"]);
});

test("what a process sent before another took its sink over does not come after it", async () => {
  await using at = await scene();
  const before = await at.opened(1);
  await before.prepare([at.first], timeout());
  await apply(before, rowsBatch(10n, [at.first, [put(["1", "a"]), put(["2", "b"])]]));
  const late = at.lose(isInsert);
  await failure(apply(before, rowsBatch(20n, [at.first, [put(["1", "first"]), put(["2", "first"])]])));
  await late.lost;
  const after = await at.opened(2);
  await after.prepare([at.first], timeout());
  await apply(after, rowsBatch(20n, [at.first, [put(["1", "second"]), remove(["2", null])]]));
  expect((await late.deliver()).status).not.toBe(200);
  expect(await at.rows()).toEqual(["1 second"]);
  // The first one, which only slept, writes nothing either.
  expect((await failure(apply(before, rowsBatch(20n, [at.first, [put(["1", "first"])]])))).code).toBe("MR3109");
  await apply(after, rowsBatch(30n, [at.first, [put(["3", "c"])]]));
  expect(await at.rows()).toEqual(["1 second", "3 c"]);
});

test("of a history neither changes nor sweeps come late", async () => {
  await using at = await scene({ deletes: "hard", mode: "history" });
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  const changes = at.lose(isInsert);
  await givenUp(sink, rowsBatch(10n, [at.first, [put(["1", "a"], { fresh: true })]]), changes);
  const sweep = at.lose(isRemoval);
  const below = rowVersion(1, 20n);
  await givenUp(sink, { kind: "sweep", sweeps: [{ table: at.first, below }], checkpoint: checkpointAt(20n) }, sweep);
  const held = await at.query(HISTORY(at.table));
  for (const late of [changes, sweep]) expect((await late.deliver()).status).not.toBe(200);
  expect(await at.query(HISTORY(at.table))).toEqual(held);
});

test("changes of a table, and the removal of foreign rows, have no effect when they come late", async () => {
  await using at = await scene();
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  await apply(sink, rowsBatch(10n, [at.first, [put(["1", "7"])]]));
  const late = [
    at.lose((what) => what.includes("` DELETE WHERE")),
    at.lose((what) => what.includes("EXCHANGE TABLES")),
  ];
  await failure(sink.rows!.expel([at.first], 0n, timeout()));
  await failure(sink.prepare([at.numbered], timeout()));
  await sink.prepare([at.numbered], timeout());
  await apply(sink, rowsBatch(20n, [at.numbered, [put(["2", "8"])]]));
  for (const each of late) await each.deliver();
  expect(await at.rows()).toEqual(["1 7", "2 8"]);
  await sink.verify(timeout());
});

test("a question without an answer ends no run: no table has to be entered again", async () => {
  await using at = await scene();
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  await apply(sink, rowsBatch(10n, [at.first, [put(["1", "a"])]]));
  const runs = async () =>
    await at.query(
      `SELECT name FROM system.columns WHERE database = '${at.first.schema}' AND startsWith(name, '_millrace_run')`,
    );
  const before = await runs();
  const late = at.lose((what) => what.includes("system.disks"));
  await expect(sink.rooms!(timeout())).rejects.toThrow();
  await late.lost;
  await apply(sink, rowsBatch(20n, [at.first, [put(["1", "b"])]]));
  expect(await runs()).toEqual(before);
  expect(before).toHaveLength(1);
});

test("a checkpoint that comes late, before the next one, is not taken for it", async () => {
  await using at = await scene();
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  const late = at.lose((what) => what.includes("INSERT INTO `millrace`.`progress`"));
  await failure(apply(sink, { kind: "checkpoint", checkpoint: checkpointAt(10n) }));
  const reports = new Reports();
  // The rows are there, and the checkpoint is not.
  reports.poison = async () => void (await late.deliver());
  await sink.apply(rowsBatch(20n, [at.first, [put(["1", "a"])]]), reports, timeout());
  expect((await sink.look(timeout()))?.position.commit).toBe(21n);
  await apply(sink, { kind: "checkpoint", checkpoint: checkpointAt(30n) });
  expect((await sink.look(timeout()))?.position.commit).toBe(30n);
});

test("the view of live rows does not lose a column that came since", async () => {
  await using at = await scene();
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  const late: LateRequest[] = [];
  for (const step of [/CREATE VIEW /, /EXCHANGE TABLES .*_current/, /DROP TABLE [^I]/]) {
    const one = at.lose((what) => step.test(what));
    late.push(one);
    await failure(sink.prepare([at.added], timeout()));
    await one.lost;
  }
  await sink.prepare([at.wide], timeout());
  await apply(sink, rowsBatch(20n, [at.wide, [put(["1", "a", "b", "c"])]]));
  for (const one of late) await one.deliver();
  expect(await at.query(`SELECT id, name, more, last FROM ${at.table}_current`)).toEqual([["1", "a", "b", "c"]]);
});

test("what a killed process noted of a table that was made again since does not make it lost", async () => {
  await using at = await scene();
  const first = await at.opened(1);
  await first.prepare([at.first], timeout());
  const late = at.lose((what) => what.includes("INSERT INTO `millrace`.`targets`"));
  await failure(apply(first, rowsBatch(10n, [at.first, [put(["1", "7"])]])));
  await late.lost;
  const second = await at.opened(2);
  await second.prepare([at.numbered], timeout());
  await late.deliver();
  const third = await at.opened(3);
  expect(await third.presence!.missing([at.numbered], timeout())).toEqual([]);
});

test("a rebuilt copy does not take the table's place once the form that was asked for is given up", async () => {
  await using at = await scene({ deletes: "soft", mode: "mirror" });
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  await apply(sink, rowsBatch(10n, [at.first, [put(["1", "a"]), put(["2", "b"])]]));
  const late = at.lose((what) => what.includes("EXCHANGE TABLES"));
  const hard = await at.opened(2, HARD);
  expect((await failure(hard.prepare([at.first], timeout()))).kind).toBe("retryable");
  await late.lost;
  await hard.close();
  const after = await at.opened(3);
  await after.prepare([at.first], timeout());
  await apply(after, rowsBatch(20n, [at.first, [put(["3", "c"]), remove(["1", null])]]));
  expect((await late.deliver()).status).not.toBe(200);
  await after.verify(timeout());
  await apply(after, rowsBatch(30n, [at.first, [put(["4", "d"])]]));
  expect(await at.rows()).toEqual(["2 b", "3 c", "4 d"]);
  expect(await at.query(`SELECT count() FROM system.tables WHERE database = '${at.table.split(".")[0]}'`)).toEqual([
    ["2"],
  ]);
});

test("nor does that of a process which was stopped until another one wrote the table", async () => {
  await using at = await scene({ deletes: "soft", mode: "mirror" });
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  await apply(sink, rowsBatch(10n, [at.first, [put(["1", "a"]), put(["2", "b"])]]));
  const hard = await at.opened(2, HARD);
  const held = at.hold((what) => /CREATE TABLE[^]*_millrace_rebuilt_/.test(what));
  const preparing = failure(hard.prepare([at.first], timeout()));
  await held.met;
  const after = await at.opened(3);
  await after.prepare([at.first], timeout());
  await apply(after, rowsBatch(20n, [at.first, [put(["3", "c"])]]));
  held.release();
  expect((await preparing).kind).toBe("retryable");
  await after.verify(timeout());
  await apply(after, rowsBatch(30n, [at.first, [put(["4", "d"])]]));
  expect(await at.rows()).toEqual(["1 a", "2 b", "3 c", "4 d"]);
});

test("nor does one that was made while the other process entered the table", async () => {
  await using at = await scene({ deletes: "soft", mode: "mirror" });
  const sink = await at.opened(1);
  await sink.prepare([at.first], timeout());
  await apply(sink, rowsBatch(10n, [at.first, [put(["1", "a"]), put(["2", "b"])]]));
  const hard = await at.opened(2, HARD);
  const making = at.hold((what) => /CREATE TABLE[^]*_millrace_rebuilt_/.test(what));
  const exchange = at.hold((what) => what.includes("EXCHANGE TABLES"));
  const preparing = failure(hard.prepare([at.first], timeout()));
  await making.met;
  const after = await at.opened(3);
  await after.prepare([at.first], timeout());
  const entering = at.hold((what) => /ALTER TABLE[^]*ADD COLUMN `_millrace_run_/.test(what));
  const applied = apply(after, rowsBatch(20n, [at.first, [put(["3", "c"])]]));
  await entering.met;
  making.release();
  await exchange.met;
  entering.release();
  await applied;
  exchange.release();
  expect((await preparing).kind).toBe("reopen");
  await after.verify(timeout());
  await apply(after, rowsBatch(30n, [at.first, [put(["4", "d"])]]));
  expect(await at.rows()).toEqual(["1 a", "2 b", "3 c", "4 d"]);
});

test.each(["this process", "the next one"])(
  "a rebuilt copy that has taken the table's place without an answer is the sink's own: to %s",
  async (which) => {
    await using at = await scene();
    const sink = await at.opened(1);
    await sink.prepare([at.first], timeout());
    await apply(sink, rowsBatch(10n, [at.first, [put(["1", "7"]), put(["2", "8"])]]));
    const complete = { kind: "checkpoint", checkpoint: checkpointAt(12n, { [at.first.id]: "1" }) } as const;
    await apply(sink, complete);
    const exchange = at.lose((what) => what.includes("EXCHANGE TABLES"));
    expect((await failure(sink.prepare([at.numbered], timeout()))).kind).toBe("retryable");
    await exchange.lost;
    expect((await exchange.deliver()).status).toBe(200);
    const after = which === "the next one" ? await at.opened(2) : sink;
    if (after === sink) await sink.open(2, timeout());
    else expect(await after.presence!.missing([at.numbered], timeout())).toEqual([]);
    await after.prepare([at.numbered], timeout());
    await apply(after, rowsBatch(20n, [at.numbered, [put(["3", "9"])]]));
    await after.verify(timeout());
    expect(await at.rows()).toEqual(["1 7", "2 8", "3 9"]);
  },
);
