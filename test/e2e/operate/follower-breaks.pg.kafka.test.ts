/**
 * The breaks as they look from a daemon behind a log in Kafka, each caused on a real server: what a person on call is told
 * there first leads to its cure, and `status`, the exit codes, `wait`, `/readyz` and the webhook say the same.
 * @module-tag heavy
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RunningService } from "../../../scripts/services/service.ts";
import { type Daemon, Installation } from "../../support/daemon/daemon-process.ts";
import { ACT, ACT_UNREADY, OnCall, UNREADY } from "../../support/daemon/on-call.ts";
import { literally } from "../../support/daemon/told.ts";
import { type FreshDatabase, freshDatabase, ownKafka } from "../../support/run/services.ts";

let server: RunningService;
let source: FreshDatabase;
let target: FreshDatabase;
let capture: Installation;
let capturing: Daemon;
let onCall: OnCall;
let broker: string;

beforeAll(async () => {
  server = await ownKafka();
  source = await freshDatabase();
  target = await freshDatabase();
  broker = `127.0.0.1:${server.port}`;
  await source.query(`create table item (id int primary key, n int); insert into item select g, g from generate_series(1, 50) g;
    create table guarded (id int primary key); insert into guarded values (1);
    create table keyed (region text, "No" int, primary key (region, "No")); insert into keyed values ('eu', 1)`);
  capture = new Installation({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: { log: { kind: "kafka", brokers: [broker], format: "log" } },
  });
  capturing = capture.run();
  await capturing.streaming();
  onCall = await OnCall.of({
    name: `${source.name}_a`,
    source: { kind: "kafka", brokers: [broker], from: source.name, heartbeat: "500ms" },
    sinks: { warehouse: { kind: "postgres", url: target.url } },
    tables: { "public.guarded": { schemaChange: "pause" } },
  });
  onCall.installation.run();
  await onCall.expectWell();
});

afterAll(async () => {
  await onCall?.[Symbol.asyncDispose]();
  await capture?.[Symbol.asyncDispose]();
  await target?.[Symbol.asyncDispose]();
  await source?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

test("rows that a sink refuses", async () => {
  await target.query("alter table public.item add constraint small check (n < 1000)");
  await source.query("update item set n = 5000 where id in (1, 2)");
  const command = "dlq replay --sink warehouse --all";
  await onCall.expectTold(
    [/sink warehouse refused 2 rows/i, /public\.item: MR3111 .*constraint "small"/, literally(`millrace ${command}`)],
    "MR3111",
    ACT,
  );
  await target.query("alter table public.item drop constraint small");
  expect(await onCall.installation.command(...command.split(" "))).toMatchObject({ exitCode: 0 });
  await onCall.expectWell();
});

test("a table that lost its key at the source", async () => {
  await source.query("alter table keyed drop constraint keyed_pkey");
  const fix = 'ALTER TABLE "public"."keyed" ADD PRIMARY KEY ("region", "No");';
  await onCall.expectTold([/table public\.keyed is suspended/i, /MR1309/, literally(fix)], "MR1309", ACT_UNREADY);
  await source.query(fix);
  await onCall.expectWell();
});

test("a change that waits for approval here", async () => {
  await source.query("alter table guarded add column more text");
  await source.query("insert into guarded values (2, 'two')");
  const command = "schema approve public.guarded";
  await onCall.expectTold(
    [/table public\.guarded is suspended/i, /MR1303 .*column added: "more"/, literally(`millrace ${command}`)],
    "MR1303",
    ACT_UNREADY,
  );
  expect(await onCall.installation.command(...command.split(" "))).toMatchObject({ exitCode: 0 });
  await onCall.expectWell();
});

test("a table that another session holds at the source", async () => {
  await using holder = await source.connect();
  const { rows } = await holder.query<{ pid: number }>("select pg_backend_pid() as pid");
  await holder.query("begin; alter table item add column held text");
  await onCall.installation.command("snapshot", "start", "--tables", "public.item");
  await onCall.expectTold(
    [
      /table public\.item can't be read for warehouse/i,
      /MR2026/,
      new RegExp(`pg_terminate_backend\\(${rows[0]!.pid}\\)`),
    ],
    "MR2026",
    ACT_UNREADY,
  );
  await holder.query("rollback");
  await onCall.expectWell();
});

test("the capturing daemon is gone", async () => {
  await capturing.kill();
  await onCall.expectTold([/source/i, /capturing daemon/i, literally(source.name)], "MR3522", UNREADY);
  capturing = capture.run();
  await onCall.expectWell();
});

test("the broker is stopped", async () => {
  await server.stop();
  await onCall.expectTold(
    [
      /no connection to the source, connected until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/i,
      /the sinks are fine/,
      literally(`${broker} failed: ECONNREFUSED`),
      literally(`Nothing listens at ${broker}`),
    ],
    "MR2001",
    UNREADY,
  );
  await server.start();
  await onCall.expectWell();
});
