/** Reads of rows that others build on, where a balancer sends each statement to another of two replicas. */
import { expect, test } from "vitest";
import type { Sink } from "../../src/core/contracts/sink.ts";
import { findMillraceError, type MillraceError } from "../../src/core/errors.ts";
import { checkpointAt, patch, put, remove, Reports, rowsBatch, timeout, type Write } from "../conformance/stage.ts";
import type { Reply } from "../support/network/http-gateway.ts";
import { clickhouseGateway, refusal, type Statement } from "../support/warehouses/clickhouse-gateway.ts";
import { clickhouseTarget, type ClickhouseTarget } from "../support/warehouses/clickhouse-target.ts";
import { tableVersion, UNCHANGED } from "../support/model/blocks.ts";
import { clickhouseUrl } from "../support/run/services.ts";
import { rowVersion } from "../../src/core/model/position.ts";
import { definition, factory } from "../../connectors/clickhouse/config.ts";
import { quietLog } from "../support/run/quiet-log.ts";

const DONE = { status: 200, headers: { "x-clickhouse-summary": "{}" }, body: Buffer.alloc(0) };

const users = tableVersion({ table: "users", columns: { id: "int4", name: "text", note: "text" } });
const renamed = tableVersion({ table: "users", columns: { id: "int8", name: "text", note: "text" }, version: 2 });

const CODES = { behind: 159, noSession: 372 } as const;
const READS = /^(?:WITH|SELECT) (?!revision|tables)[^]* FROM `public`/;
const REWRITES = /^INSERT INTO[^]*SELECT[^]* FROM `public`/;

/**
 * Two replicas before one engine, with tables that the catalogue calls replicated. The second may be behind: it has no rows
 * until it catches up. Statements of each kind go to the two in turn, reads to the second first.
 */
async function replicas(options: { readonly catchesUp?: boolean } = {}) {
  const { catchesUp = true } = options;
  const state = { isBehind: false, hidesRows: false, answersBehind: 0, syncs: 0, settings: [] as URLSearchParams[] };
  const sessions = [new Set<string>(), new Set<string>()];
  let [turn, syncTurn] = [1, 0];
  const sync = async (settings: URLSearchParams): Promise<Reply> => {
    state.syncs++;
    const replica = syncTurn++ % 2;
    if (replica === 1 && !catchesUp)
      return refusal(CODES.behind, "SYNC REPLICA users: command timed out. (TIMEOUT_EXCEEDED)");
    if (replica === 1) state.isBehind = false;
    sessions[replica]!.add(settings.get("session_id")!);
    return DONE;
  };
  const read = async ({ settings, pass }: Statement): Promise<Reply> => {
    state.settings.push(settings);
    const replica = turn++ % 2;
    const isChecked = settings.get("session_check") === "1";
    if (isChecked && !sessions[replica]!.has(settings.get("session_id")!))
      return refusal(CODES.noSession, "Session not found. (SESSION_NOT_FOUND)");
    if (replica === 0 || !state.isBehind) return await pass();
    state.answersBehind++;
    return DONE;
  };
  const gateway = await clickhouseGateway(clickhouseUrl(), async (statement) => {
    const { sql, settings, pass } = statement;
    if (sql.startsWith("SYSTEM SYNC REPLICA `public`.`users` LIGHTWEIGHT")) return await sync(settings);
    if (READS.test(sql) || REWRITES.test(sql)) return await read(statement);
    const reply = await pass();
    if (!/ FROM system\.(tables|columns)/.test(sql)) return reply;
    const body = reply.body.toString("latin1").replaceAll('"ReplacingMergeTree', '"ReplicatedReplacingMergeTree');
    // Of `total_rows > 0`.
    const shown = state.hidesRows ? body.replaceAll(/\b1(,\s*[01],\s*"Repl)/g, "0$1") : body;
    return { ...reply, body: Buffer.from(shown, "latin1") };
  });
  return { ...gateway, state };
}

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
  await using gateway = await replicas();
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
  await using gateway = await replicas();
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
  await using gateway = await replicas();
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
  await using gateway = await replicas();
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await begun(target);
  await write(sink, 10n, [put(ANN), put(["2", "bob", "short"])]);
  gateway.state.isBehind = true;
  await sink.prepare([renamed], timeout());
  expect((await target.readRows(renamed)).map(({ cells }) => cells)).toEqual([ANN, ["2", "bob", "short"]]);
  await sink.close();
});

test("rows that are compared are not missing because a replica is behind", async () => {
  await using gateway = await replicas();
  await using target = await clickhouseTarget({ deletes: "hard", mode: "mirror" }, gateway.url);
  const sink = await begun(target);
  await write(sink, 10n, [put(ANN)]);
  await using inspection = await sink.comparison!.inspect(timeout());
  gateway.state.isBehind = true;
  expect((await inspection.rows(users, [["1"]], timeout())).map(({ cells }) => cells)).toEqual([ANN]);
  expect(await sink.rows!.highestVersion([users], timeout())).toBe(rowVersion(1, 10n));
  await sink.close();
});

test(
  "a table whose rows a replica does not show was not emptied; one that was is told",
  { tags: "heavy" },
  async () => {
    await using gateway = await replicas();
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

test("where a replica does not catch up nothing is written, and the batch is tried again", async () => {
  await using gateway = await replicas({ catchesUp: false });
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
  await using gateway = await replicas();
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
