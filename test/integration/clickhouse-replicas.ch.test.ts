/** Reads of rows that others build on, where a balancer sends each statement to another of two replicas. */
import { expect, test } from "vitest";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { findMillraceError, type MillraceError } from "../../src/core/errors.ts";
import { checkpointAt, patch, put, remove, Reports, rowsBatch, timeout, type Write } from "../conformance/stage.ts";
import { clickhouseReplicas } from "../support/warehouses/clickhouse-replicas.ts";
import { clickhouseTarget, type ClickhouseTarget } from "../support/warehouses/clickhouse-target.ts";
import { tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { definition, factory } from "../../connectors/clickhouse/config.ts";
import { quietLog } from "../support/run/quiet-log.ts";

const users = tableVersion({ table: "users", columns: { id: "int4", name: "text", note: "text" } });
const renamed = tableVersion({ table: "users", columns: { id: "int8", name: "text", note: "text" }, version: 2 });

async function begun(target: ClickhouseTarget): Promise<Sink> {
  const sink = await target.makeSink();
  await sink.open(1, timeout());
  await sink.prepare([users], timeout());
  return sink;
}

async function write(sink: Sink, at: bigint, entries: readonly Write[]): Promise<Reports> {
  const reports = new Reports();
  await sink.apply(rowsBatch(at, [users, entries]), reports, timeout());
  return reports;
}

const ANN = ["1", "ann", "long"];

async function refused(work: Promise<unknown>): Promise<MillraceError | undefined> {
  return findMillraceError(await work.then(() => undefined).catch((error: unknown) => error));
}

test("unchanged cells and rows that are kept come from a replica that has all rows", async () => {
  await using gateway = await clickhouseReplicas();
  await using target = await clickhouseTarget({ deletes: "soft", mode: "mirror" }, gateway.url);
  const sink = await begun(target);
  const { state } = gateway;
  await write(sink, 10n, [put(ANN)]);
  state.isBehind = true;
  const { incompletes } = await write(sink, 11n, [patch(["1", "bob", UNCHANGED])]);
  expect(incompletes).toEqual([]);
  expect((await target.readMarked!(users)).map(({ cells }) => cells)).toEqual([["1", "bob", "long"]]);
  state.isBehind = true;
  await write(sink, 12n, [remove(["1", null, null])]);
  expect((await target.readMarked!(users)).map(({ isDeleted }) => isDeleted)).toEqual([true]);
  expect([state.answersBehind, state.syncs > 2]).toEqual([0, true]);
  await sink.close();
});

test("a change of a history finds its row on a replica that has all rows", async () => {
  await using gateway = await clickhouseReplicas();
  await using target = await clickhouseTarget({ deletes: "hard", mode: "history" }, gateway.url);
  const sink = await begun(target);
  await write(sink, 10n, [put(ANN)]);
  gateway.state.isBehind = true;
  const { incompletes } = await write(sink, 11n, [patch(["1", "bob", UNCHANGED])]);
  const last = (await target.readHistory!(users)).at(-1);
  expect([incompletes, last?.cells, last?.unchanged]).toEqual([[], ["1", "bob", "long"], []]);
  await sink.close();
});

test.for(["truncate", "sweep"] as const)("a %s removes what a replica that is behind does not show", async (kind) => {
  await using gateway = await clickhouseReplicas();
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await begun(target);
  await write(sink, 10n, [put(ANN)]);
  gateway.state.isBehind = true;
  const version = rowVersion(1, 20n);
  const checkpoint = checkpointAt(21n);
  await sink.apply(
    kind === "truncate"
      ? { kind, table: users, version, checkpoint }
      : { kind, sweeps: [{ table: users, below: version }], checkpoint },
    new Reports(),
    timeout(),
  );
  expect(await target.readRows(users)).toEqual([]);
  await sink.close();
});

test("a table that is made again takes all rows with it", async () => {
  await using gateway = await clickhouseReplicas();
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await begun(target);
  await write(sink, 10n, [put(ANN), put(["2", "bob", "short"])]);
  gateway.state.isBehind = true;
  await sink.prepare([renamed], timeout());
  expect((await target.readRows(renamed)).map(({ cells }) => cells)).toEqual([ANN, ["2", "bob", "short"]]);
  await sink.close();
});

test("rows that are compared are not missing because a replica is behind", async () => {
  await using gateway = await clickhouseReplicas();
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await begun(target);
  await write(sink, 10n, [put(ANN)]);
  await using inspection = await sink.comparison!.inspect(timeout());
  gateway.state.isBehind = true;
  expect((await inspection.rows(users, [["1"]], timeout())).map(({ cells }) => cells)).toEqual([ANN]);
  expect(await sink.rows!.highestVersion([users], timeout())).toBe(rowVersion(1, 10n));
  await sink.close();
});

test("a checkpoint that somebody looks at is the last one, although a replica shows none, or one of before", async () => {
  let moment: "remembered" | "between" | "behind" = "remembered";
  const [isOld, keeps] = [() => moment === "behind", () => moment === "remembered"];
  await using gateway = await clickhouseReplicas({ isOld, keeps });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await begun(target);
  for (const [before, at] of [
    [undefined, 10n],
    [10n, 11n],
  ] as const) {
    moment = "remembered";
    expect((await sink.look(timeout()))?.position.commit).toBe(before);
    moment = "between";
    await sink.apply({ kind: "checkpoint", checkpoint: checkpointAt(at) }, new Reports(), timeout());
    moment = "behind";
    expect((await sink.look(timeout()))?.position.commit).toBe(at);
  }
  await sink.close();
});

test(
  "a table whose rows a replica does not show was not emptied; one that was is told",
  { tags: "heavy" },
  async () => {
    await using gateway = await clickhouseReplicas();
    await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
    const sink = await begun(target);
    await write(sink, 10n, [put(ANN)]);
    gateway.state.hidesRows = true;
    await sink.verify(timeout());
    expect(await sink.presence!.missing([users], timeout())).toEqual([]);
    await target.query("TRUNCATE TABLE public.users");
    await expect(sink.verify(timeout())).rejects.toMatchObject({ code: "MR3110", lostTables: ["public.users"] });
    await sink.close();
  },
);

test("of rows that no replica shows when they are written, the next start still sees that they are gone", async () => {
  await using gateway = await clickhouseReplicas();
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await begun(target);
  gateway.state.hidesRows = true;
  await write(sink, 10n, [put(ANN)]);
  await sink.close();
  gateway.state.hidesRows = false;
  await target.query("TRUNCATE TABLE public.users");
  const next = await target.makeSink();
  await next.open(2, timeout());
  expect(await next.presence!.missing([users], timeout())).toEqual([users]);
  await next.close();
});

test("where a replica does not catch up nothing is written, and the batch is tried again", async () => {
  await using gateway = await clickhouseReplicas({ catchesUp: false });
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await begun(target);
  await write(sink, 10n, [put(ANN)]);
  gateway.state.isBehind = true;
  const error = await refused(write(sink, 11n, [patch(["1", "bob", UNCHANGED])]));
  expect(error).toMatchObject({ code: "MR2006", kind: "retryable" });
  expect((await target.readRows(users)).map(({ cells }) => cells)).toEqual([ANN]);
  await sink.close();
});

test("with a quorum the server refuses such reads itself, and nothing is waited for", async () => {
  await using gateway = await clickhouseReplicas();
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const options = definition.parse({ url: gateway.url, fsync: false, quorum: 2 });
  const name = target.sink.replace("shop/", "");
  const sink = await factory.create({ name, daemon: "shop", folder: "/", options }, quietLog);
  await sink.open(1, timeout());
  await sink.prepare([users], timeout());
  await write(sink, 10n, [put(ANN)]);
  await write(sink, 11n, [patch(["1", "bob", UNCHANGED])]);
  const { syncs, settings } = gateway.state;
  expect([syncs, settings.map((one) => one.get("select_sequential_consistency"))]).toEqual([0, ["1"]]);
  await sink.close();
});
