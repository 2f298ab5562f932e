/**
 * The common breaks, each caused on a real server: what a person on call is told first leads to its cure; `status`, the exit
 * codes, the dashboard, `/readyz` and the webhook say the same; and all are green again afterwards.
 */
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RunningPostgres } from "../../../scripts/services/servers/postgres/postgres.ts";
import type { RunningService } from "../../../scripts/services/service.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { act, axeFindings } from "../../support/daemon/dashboard-browser.ts";
import { ACT, ACT_UNREADY, OnCall, UNREADY, type Verdict } from "../../support/daemon/on-call.ts";
import { expectExplained, firstSaid, literally, TOLD_WITHIN_MS } from "../../support/daemon/told.ts";
import { SmallDisk } from "../../support/faults/small-disk.ts";
import { type FreshDatabase, freshDatabase, ownPostgres, ownRedis } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

/** Where the source's password comes from. */
const VARIABLE = "MILLRACE_TEST_BREAKS_PASSWORD";

let server: RunningPostgres;
let redis: RunningService;
let source: FreshDatabase;
let target: FreshDatabase;
let onCall: OnCall;
let installation: Installation;

beforeAll(async () => {
  server = await ownPostgres({
    auth: ["host all,replication reader 127.0.0.1/32 scram-sha-256", "host all all 127.0.0.1/32 trust"],
  });
  redis = await ownRedis();
  source = await freshDatabase(server);
  target = await freshDatabase();
  await source.query(`create role reader superuser login password 'first';
    create table item (id int primary key, n int); insert into item select g, g from generate_series(1, 50) g;
    create table guarded (id int primary key); insert into guarded values (1);
    create table keyed (region text, "No" int, primary key (region, "No")); insert into keyed values ('eu', 1);
    create table indexed (id int primary key, code int not null); insert into indexed values (1, 1);
    create unique index indexed_code on indexed (code); alter table indexed replica identity using index indexed_code`);
  const url = new URL(source.url);
  process.env[VARIABLE] = "first";
  onCall = await OnCall.of({
    name: source.name,
    source: {
      kind: "postgres",
      url: `postgres://reader:\${${VARIABLE}}@${url.host}${url.pathname}`,
      heartbeat: "500ms",
    },
    sinks: { warehouse: { kind: "postgres", url: target.url }, cache: { kind: "redis", url: redis.url } },
    tables: { "public.guarded": { schemaChange: "pause" } },
  });
  ({ installation } = onCall);
  await installation.run().streaming();
  await onCall.lookAtPage();
});

afterAll(async () => {
  delete process.env[VARIABLE];
  await onCall?.[Symbol.asyncDispose]();
  await target?.[Symbol.asyncDispose]();
  await source?.[Symbol.asyncDispose]();
  await redis?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

const expectTold = async (parts: readonly RegExp[], code: string, verdict: Verdict): Promise<void> =>
  await onCall.expectTold(parts, code, verdict);
const expectWell = async (): Promise<void> => await onCall.expectWell();

test("rows that a sink refuses: how many, why, and the command that replays them", async () => {
  await target.query("alter table public.item add constraint small check (n < 1000)");
  await source.query("update item set n = 5000 where id in (1, 2)");
  await expectTold(
    [
      /sink warehouse refused 2 rows/i,
      /public\.item: MR3111 .*constraint "small"/,
      /millrace dlq replay --sink warehouse --all/,
    ],
    "MR3111",
    ACT,
  );
  await target.query("alter table public.item drop constraint small");
  expect(await installation.command("dlq", "replay", "--sink", "warehouse", "--all")).toMatchObject({ exitCode: 0 });
  await expectWell();
});

test("rows that were changed by hand in a sink: how many, and the command that repairs them", async () => {
  await target.query("update public.item set n = -1 where id in (5, 6)");
  expect(await installation.command("reconcile")).toMatchObject({ exitCode: 3 });
  await eventually(async () => {
    const said = await firstSaid(installation);
    expect(said).toMatch(/2 rows differed in the comparison \S+/);
    expect(said).toMatch(/millrace report show \S+, then millrace reconcile --repair/);
  });
  await onCall.page.locator(".attention").getByText("millrace reconcile --repair").waitFor({ timeout: TOLD_WITHIN_MS });
  expect(await installation.command("reconcile", "--repair")).toMatchObject({ exitCode: 3 });
  expect(await installation.command("reconcile")).toMatchObject({ exitCode: 0 });
  await expectWell();
});

test("a table that lost its key, or the index of its identity: the SQL, which helps as it is printed", async () => {
  for (const { lose, says, fix } of [
    {
      lose: "alter table keyed drop constraint keyed_pkey",
      says: /it has no usable key/,
      fix: 'ALTER TABLE "public"."keyed" ADD PRIMARY KEY ("region", "No");',
    },
    {
      lose: "drop index indexed_code",
      says: /the index that was its replica identity was dropped/,
      fix: 'ALTER TABLE "public"."indexed" REPLICA IDENTITY DEFAULT;',
    },
  ]) {
    await source.query(lose);
    await expectTold([/table public\.\w+ is suspended/i, /MR1309/, says, literally(fix)], "MR1309", ACT_UNREADY);
    if (lose.includes("index")) {
      // Another reason than before.
      await source.query("alter table indexed replica identity nothing");
      await expectTold([/its replica identity is NOTHING/, literally(fix)], "MR1309", ACT_UNREADY);
    }
    await source.query(fix);
    await expectWell();
  }
});

test("a change that waits for approval: the command, and the button beside it", async () => {
  await source.query("alter table guarded add column more text");
  await expectTold(
    [/table public\.guarded is suspended/i, /column added: "more"/, /millrace schema approve public\.guarded/],
    "MR1303",
    ACT_UNREADY,
  );
  expect(await axeFindings(onCall.page)).toEqual([]);
  await act(onCall.page, "Approve table public.guarded", true);
  await onCall.page.getByRole("status").getByText("Table public.guarded goes on.").waitFor({ timeout: 60_000 });
  await expectWell();
  await source.query("alter table guarded add column another text");
  await expectTold([/column added: "another"/], "MR1303", ACT_UNREADY);
  expect(await installation.command("schema", "approve", "public.guarded")).toMatchObject({ exitCode: 0 });
  await expectWell();
});

test(
  "an ALTER in an open transaction, at the source or the target: the pid, its age and statement",
  { tags: "heavy" },
  async () => {
    {
      await using holder = await source.connect();
      const { rows } = await holder.query<{ pid: number }>("select pg_backend_pid() as pid");
      await holder.query("begin; alter table item add column held text default 'canary-of-a-value'");
      await installation.command("snapshot", "start", "--tables", "public.item");
      await expectTold(
        [
          /table public\.item can't be read/i,
          new RegExp(`pid ${rows[0]!.pid} \\(role \\w+, .*its transaction is \\d+ (?:s|min) old, idle in transaction`),
          /last statement: begin; alter table item add column held text default \?\) holds it/,
          new RegExp(`pg_terminate_backend\\(${rows[0]!.pid}\\)`),
        ],
        "MR2026",
        ACT_UNREADY,
      );
      expect((await installation.command("status", "--json")).stdout).not.toContain("canary-of-a-value");
      await holder.query("rollback");
      await expectWell();
    }
    await using holder = await target.connect();
    const { rows } = await holder.query<{ pid: number }>("select pg_backend_pid() as pid");
    // The session has not written to this table before.
    await holder.query("begin; alter table public.guarded add column held int");
    await source.query("insert into guarded values (2)");
    await expectTold(
      [
        /sink warehouse does not take rows/i,
        new RegExp(
          `pid ${rows[0]!.pid} \\(role \\w+, .*last statement: begin; alter table public.guarded add column held int`,
        ),
      ],
      "MR2026",
      ACT_UNREADY,
    );
    await holder.query("rollback");
    await expectWell();
  },
);

test("a sink is down: which, where, since when, and what happens meanwhile", { tags: "heavy" }, async () => {
  await redis.stop();
  await source.query("update item set n = 8 where id = 3");
  await expectTold(
    [
      /sink cache does not take rows/i,
      literally(`MR2001 the connection to Redis at ${redis.host}:${redis.port} failed: ECONNREFUSED`),
      literally(`Nothing listens at ${redis.host}:${redis.port}: start the server there`),
      /it catches up by itself/,
      /for \d+ s|since/,
    ],
    "MR2001",
    UNREADY,
  );
  await redis.start();
  await expectWell();
});

test("the source's password was changed: whose, since when, and why a restart is needed", async () => {
  await source.query("alter role reader password 'second'");
  await source.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader'");
  await expectTold(
    [
      /source/i,
      literally(`MR2002 the source refuses the login while connecting to ${server.host}:${server.port}`),
      /password authentication failed for user "reader"/,
      literally(`a restart is needed: \`\${${VARIABLE}}\` is read at the start`),
    ],
    "MR2002",
    ACT_UNREADY,
  );
  await source.query("alter role reader password 'first'");
  await expectWell();
});

test("the disk of a target, then of the state, is full: the path and the free bytes", async ({ skip }) => {
  await using disk = await SmallDisk.mount("48m");
  await using stateDisk = await SmallDisk.mount("48m");
  skip(disk === null || stateDisk === null, "mounting a file system needs a privilege");
  if (disk === null || stateDisk === null) return;
  await using own = await OnCall.of({
    name: "full",
    source: { kind: "postgres", url: source.url, heartbeat: "500ms", tables: ["public.item"] },
    state: `sqlite:${join(stateDisk.folder, "state.db")}`,
    sinks: { files: { kind: "files", path: join(disk.folder, "changes") } },
  });
  await own.begin();
  for (const [{ folder }, parts, code, verdict] of [
    [disk, [/sink files does not take rows/i, /MR3213 the disk is full/], "MR3213", ACT_UNREADY],
    [
      stateDisk,
      [/the state can't be written/i, /MR1209 .*its disk is full/],
      "MR1209",
      { ...ACT_UNREADY, reaches: null },
    ],
  ] as const) {
    const filler = join(folder, "filler");
    fill(filler);
    await source.query("update item set n = n + 1");
    await own.expectTold([...parts, literally(folder), /\d[\d,]* bytes free/], code, verdict);
    truncateSync(filler);
    await own.expectWell();
  }
});

test(
  "the slot or the publication is gone: which, why, and that `recover` brings back every row",
  { tags: "heavy" },
  async () => {
    // A server of its own: a limit of the log is every slot's.
    await using lonely = await ownPostgres();
    await using lost = await freshDatabase(lonely);
    await lost.query("create table item (id int primary key); insert into item values (1)");
    const schema = "after_breaks";
    await using own = new Installation({
      name: lost.name,
      source: { kind: "postgres", url: lost.url, heartbeat: "500ms", slot: "breaks", publication: "breaks" },
      sinks: { warehouse: { kind: "postgres", url: target.url, schema } },
    });
    let daemon = own.run();
    await daemon.streaming();
    let id = 1;
    for (const { cause, says, code, fix = "" } of [
      {
        cause: async () => {
          await daemon.stop();
          await lost.query("select pg_drop_replication_slot('breaks')");
        },
        says: [/daemon has ended: MR2010 the slot breaks does not exist/, /millrace recover/],
        code: "MR2010",
      },
      {
        cause: async () => await lost.query("drop publication breaks"),
        says: [/daemon has ended: MR2017 the publication/, /millrace recover/],
        code: "MR2017",
      },
      {
        cause: async () => await lost.query("alter publication breaks drop table item"),
        says: [
          // The daemon itself may have put it back before it noticed.
          /daemon has ended: MR2017 the table public\.item (?:is no longer in|was taken out of) the publication breaks/,
          /millrace recover/,
        ],
        code: "MR2017",
      },
      {
        cause: async () => {
          await daemon.stop();
          await lost.query("alter system set max_slot_wal_keep_size = '1MB'");
          await lost.query("select pg_reload_conf()");
          for (let i = 0; i < 4; i += 1)
            await lost.query("select pg_logical_emit_message(false, 'm', 'm'), pg_switch_wal()");
          await lost.query("checkpoint");
        },
        says: [
          /daemon has ended: MR2010 the server gave up the slot breaks: .*max_slot_wal_keep_size allows \(now 1MB\)/,
          literally("SELECT pg_drop_replication_slot('breaks');"),
          /millrace recover/,
        ],
        code: "MR2010",
        fix: "select pg_drop_replication_slot('breaks')",
      },
    ]) {
      await cause();
      await lost.query(`insert into item values (${++id})`);
      if (code === "MR2010") daemon = own.run();
      await daemon.ended;
      const said = await firstSaid(own);
      for (const part of says) expect(said).toMatch(part);
      await expectExplained(own, code);
      if (fix !== "") await lost.query(fix);
      expect(await own.command("recover", "--yes")).toMatchObject({ exitCode: 0 });
      daemon = own.run();
      await daemon.streaming();
      await eventually(async () => expect((await target.query(`select id from ${schema}.item`)).rows).toHaveLength(id));
    }
  },
);

test("the source is stopped: until when it was connected, and that the sinks are fine", { tags: "heavy" }, async () => {
  await server.stop();
  await expectTold(
    [
      /no connection to the source, connected until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/i,
      /the sinks are fine/,
      literally(`${server.host}:${server.port}: ECONNREFUSED`),
      literally(`Nothing listens at ${server.host}:${server.port}`),
    ],
    "MR2001",
    UNREADY,
  );
  await server.start();
  await expectWell();
});

/** Takes all the room that there is. */
function fill(path: string): void {
  const piece = Buffer.alloc(64 * 1024);
  try {
    for (;;) writeFileSync(path, piece, { flag: "a" });
  } catch (error) {
    expect(error).toMatchObject({ code: "ENOSPC" });
  }
}
