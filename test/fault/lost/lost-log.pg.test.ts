/** The log was lost, cut or exchanged: the daemon exits 1 with a numbered error and a way out, and never streams on. */
import { execFile } from "node:child_process";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import type { CommandResult } from "../../support/daemon/daemon-process.ts";
import { createFreshDatabase, type FreshDatabase } from "../../support/run/fresh-database.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { freshDatabase, needsPostgres, ownPostgres } from "../../support/run/services.ts";
import type { SinkKind } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";
import { openState } from "../../../src/state/open.ts";
import { parseLsn } from "../../../connectors/postgres/source/wire/lsn.ts";
import { isLongForm } from "../../support/run/service-suffixes.ts";

const PREPARE = "create table t (id int primary key, body text); insert into t values (1, 'first')";
const ENDS_WITHIN_MS = 60_000;

interface Loss {
  readonly what: string;
  readonly code: RegExp;
  readonly harm: (source: FreshDatabase) => Promise<unknown>;
  /** The Postgres that can do this first. */
  readonly major?: number;
}

const slotOf = (source: FreshDatabase) => `millrace_${source.name}`;
const publicationOf = (source: FreshDatabase) => `millrace_${source.name}`;
const change = (source: FreshDatabase) => source.query("insert into t select max(id) + 1, 'unseen' from t");

/** A slot in use can't be dropped, and a daemon that is alive comes back at once: end its session and drop until it works. */
async function dropSlot(source: FreshDatabase): Promise<void> {
  await eventually(
    () =>
      source.query(
        `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '${slotOf(source)}' and active_pid is not null;
         select pg_drop_replication_slot('${slotOf(source)}')`,
      ),
    { everyMs: 1 },
  );
}

const losses: readonly Loss[] = [
  {
    what: "the slot was dropped",
    code: /MR2010/,
    harm: async (source) => {
      await dropSlot(source);
      await change(source);
    },
  },
  {
    what: "the slot was dropped and made again by hand",
    code: /MR2010/,
    harm: async (source) => {
      await dropSlot(source);
      await change(source);
      await source.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [slotOf(source)]);
    },
  },
  {
    what: "the publication was dropped",
    code: /MR2017/,
    harm: async (source) => {
      await source.query(`drop publication ${publicationOf(source)}`);
      await change(source);
    },
  },
  {
    what: "the publication was dropped and made again by hand",
    code: /MR2017/,
    harm: async (source) => {
      await source.query(`drop publication ${publicationOf(source)}`);
      await change(source);
      await source.query(`create publication ${publicationOf(source)} for table t`);
    },
  },
  {
    what: "the publication lost a table",
    code: /MR2017/,
    harm: async (source) => {
      await source.query(`alter publication ${publicationOf(source)} drop table t`);
      await change(source);
    },
  },
  {
    what: "the publication was without a table for a while",
    code: /MR2017/,
    harm: async (source) => {
      await source.query(`alter publication ${publicationOf(source)} drop table t`);
      await change(source);
      await source.query(`alter publication ${publicationOf(source)} add table t`);
    },
  },
  {
    what: "the publication lost kinds of change",
    code: /MR2017/,
    harm: async (source) => {
      await source.query(`alter publication ${publicationOf(source)} set (publish = 'update, delete')`);
      await change(source);
    },
  },
  {
    what: "the publication filters rows",
    major: 15,
    code: /MR2017/,
    harm: async (source) => {
      await source.query(`alter publication ${publicationOf(source)} set table t where (id < 2)`);
      await change(source);
    },
  },
];

/** The others are found by the same look at each connect: each is in integration/postgres-start. */
const SHORT = { down: "the slot was dropped", running: "the publication was without a table for a while" };

describe.concurrent("while the daemon is down", () => {
  test.for([...losses])("$what", async ({ what, code, harm, major = 14 }, context) => {
    context.skip(!isLongForm() && what !== SHORT.down, "it is part of the long form");
    needsPostgres(major, context);
    await using pipeline = await started();
    await pipeline.daemon.stop();
    await harm(pipeline.source);
    await expectForeseen(pipeline, code);
    expectEnded(await pipeline.installation.run().ended, code);
  });
});

describe.concurrent("while the daemon runs", () => {
  test.for([...losses])("$what", async ({ what, code, harm, major = 14 }, context) => {
    context.skip(!isLongForm() && what !== SHORT.running, "it is part of the long form");
    needsPostgres(major, context);
    await using pipeline = await started();
    const { source } = pipeline;
    await harm(source);
    const deadline = performance.now() + ENDS_WITHIN_MS;
    // What the daemon does not see at once it must see with a later change, or with a heartbeat.
    while (!pipeline.daemon.exited && performance.now() < deadline) {
      await change(source);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect({ exited: pipeline.daemon.exited, said: pipeline.complaints() }).toMatchObject({ exited: true });
    expectEnded(await pipeline.daemon.ended, code);
    const { stdout, exitCode } = await pipeline.installation.command("status", "--exit-code");
    expect({ exitCode, stdout }).toMatchObject({ exitCode: 1, stdout: expect.stringMatching(code) });
    expect(stdout).toMatch(/the daemon has ended[^]*-> .*millrace recover/);
    // Nor does it go on after another start.
    expectEnded(await pipeline.installation.run().ended, code);
  });
});

/** `check` says what the start will say, and the way out. */
async function expectForeseen({ installation }: RunningPipeline, code: RegExp): Promise<void> {
  const { exitCode, stdout } = await installation.command("check", "--json");
  expect(exitCode).toBe(1);
  const { findings }: { findings: readonly object[] } = JSON.parse(stdout);
  expect(findings).toContainEqual({
    part: "source",
    id: "log",
    level: "error",
    what: expect.stringMatching(code),
    fix: expect.stringContaining("millrace recover"),
  });
}

test.concurrent("the server gave the slot up", { tags: "heavy" }, async () => {
  await using server = await ownPostgres({
    settings: { max_slot_wal_keep_size: "1MB", min_wal_size: "32MB", max_wal_size: "48MB" },
  });
  await using pipeline = await started(await createFreshDatabase(server));
  await pipeline.daemon.stop();
  for (let i = 0; i < 8; i++) {
    await pipeline.source.query("insert into t select max(id) + 1, 'unseen' from t");
    await pipeline.source.query("select pg_switch_wal()");
  }
  await pipeline.source.query("checkpoint");
  expectEnded(await pipeline.installation.run().ended, /MR2010: .*gave up the slot/);
});

test.concurrent("a file of its log was removed, and the server calls the slot good", async () => {
  await using server = await ownPostgres();
  const { dataDir } = server;
  if (dataDir === undefined) throw new Error("a server of the native kind is needed");
  await using pipeline = await started(await createFreshDatabase(server));
  const { installation, source } = pipeline;
  await pipeline.daemon.stop();
  await change(source);
  const { rows } = await source.query<{ file: string }>(
    `select pg_walfile_name(restart_lsn) as file, pg_switch_wal() from pg_replication_slots where slot_name = '${slotOf(source)}'`,
  );
  await change(source);
  await server.stop();
  await rm(join(dataDir, "pg_wal", rows[0]!.file));
  await server.start();
  await expectForeseen(pipeline, /MR2010/);
  expectEnded(await installation.run().ended, /MR2010/);
  expect(await installation.command("recover", "--yes")).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^lost: MR2010/),
  });
  await pipeline.start();
  await pipeline.expectEqual(["t"]);
});

test.concurrent(
  "a file of a table is gone: that table waits, and the log is not called lost",
  { tags: "heavy" },
  async () => {
    await using server = await ownPostgres();
    const { dataDir } = server;
    if (dataDir === undefined) throw new Error("a server of the native kind is needed");
    const source = await createFreshDatabase(server);
    await source.query("create table damaged (id int primary key); insert into damaged values (1)");
    await using pipeline = await started(source);
    const { rows } = await source.query<{ file: string }>("select pg_relation_filepath('damaged') as file");
    await pipeline.daemon.stop();
    await server.stop();
    await rm(join(dataDir, rows[0]!.file));
    await server.start();
    await pipeline.start();
    const { exitCode } = await pipeline.installation.command("snapshot", "start", "--tables", "public.damaged");
    expect(exitCode).toBe(0);
    await eventually(async () => {
      const { tables } = await pipeline.installation.status();
      expect(tables.unreadable).toMatchObject([{ table: "public.damaged", error: { code: "MR2027" } }]);
    });
    await using session = await source.connect();
    await session.query("insert into t values (77, 'seen')");
    await eventually(async () =>
      expect(await pipeline.sinks.differences(source.url, pipeline.installation.folder, ["t"])).toEqual([]),
    );
  },
);

test.concurrent(
  "another server, and another database of the same server, under the same name",
  { tags: "heavy" },
  async () => {
    await using other = await ownPostgres();
    await using elsewhere = await createFreshDatabase(other);
    await using sibling = await freshDatabase();
    await using pipeline = await started();
    await pipeline.daemon.stop();
    for (const { url } of [elsewhere, sibling]) {
      pipeline.installation.configure({
        name: pipeline.source.name,
        source: { kind: "postgres", url },
        sinks: pipeline.sinks.config,
      });
      expectEnded(await pipeline.installation.run().ended, /MR2013/);
    }
  },
);

test.concurrent("the server was put back to an older copy of itself", async () => {
  await using server = await ownPostgres();
  const { dataDir } = server;
  if (dataDir === undefined) throw new Error("a server of the native kind is needed");
  await using pipeline = await started(await createFreshDatabase(server));
  const { source } = pipeline;
  await pipeline.daemon.stop();
  await server.stop();
  await copyFolder(dataDir, `${dataDir}-copy`);
  await server.start();
  await using session = await source.connect();
  await session.query("insert into t select g, repeat('later', 100) from generate_series(100, 5000) g");
  pipeline.daemon = pipeline.installation.run();
  await pipeline.daemon.streaming();
  await pipeline.settled();
  // Under the running daemon, which meets the older server when it connects again.
  await server.stop();
  await rm(dataDir, { recursive: true });
  await copyFolder(`${dataDir}-copy`, dataDir);
  await server.start();
  expectEnded(await pipeline.daemon.ended, /MR2016/);
  expectEnded(await pipeline.installation.run().ended, /MR2016/);
});

test.concurrent.for([
  ["the slot had moved", ["postgres"], /MR2016: the slot keeps its log from/],
  ["a paused sink held the slot", ["postgres", "duckdb"], /MR2016: the log has another transaction at/],
] as const)(
  "the server was put back to an older copy of itself, and its log has passed the stored position since: %s",
  { tags: "heavy" },
  async ([, kinds, code]) => {
    const isHeld = kinds.length > 1;
    await using server = await ownPostgres();
    const { dataDir } = server;
    if (dataDir === undefined) throw new Error("a server of the native kind is needed");
    await using pipeline = await started(await createFreshDatabase(server), kinds);
    const { source, installation } = pipeline;
    if (isHeld) expect(await installation.command("pause", "--sink", "duckdb")).toMatchObject({ exitCode: 0 });
    await pipeline.daemon.stop();
    await server.stop();
    await copyFolder(dataDir, `${dataDir}-copy`);
    await server.start();
    const [before, after] = [await source.connect(), source];
    const restart = async (): Promise<bigint> => {
      const { rows } = await before.query<{ lsn: string }>(
        "select (restart_lsn - '0/0')::text as lsn from pg_replication_slots where slot_name = $1",
        [slotOf(source)],
      );
      return BigInt(rows[0]!.lsn);
    };
    const copied = await restart();
    await pipeline.start(!isHeld);
    const { rows } = await before.query<{ lsn: string }>("select pg_current_wal_lsn()::text as lsn");
    await before.query("update t set body = 'of the former server'; insert into t values (100, 'too')");
    if (!isHeld) {
      await eventually(async () => {
        await before.query("checkpoint");
        return (await restart()) > copied;
      });
      // Two looks at the slot.
      for (let i = 0; i < 3; i++) await pipeline.settled();
    } else {
      await eventually(async () => parseLsn(await landmarkOf(pipeline)) >= parseLsn(rows[0]!.lsn), {
        withinMs: 60_000,
      });
    }
    await before[Symbol.asyncDispose]();
    await pipeline.daemon.stop();
    await server.stop();
    await rm(dataDir, { recursive: true });
    await copyFolder(`${dataDir}-copy`, dataDir);
    await server.start();
    await using session = await after.connect();
    await session.query("create table noise as select repeat(md5(g::text), 30) as v from generate_series(1, 9000) g");
    await expectForeseen(pipeline, /MR2016/);
    expectEnded(await pipeline.installation.run().ended, code);
  },
);

test.concurrent("an idle database's slot keeps moving while another is busy, and a start after an idle night goes on", async () => {
  await using busy = await freshDatabase();
  await busy.query("create table noise (id int, body text)");
  await using pipeline = await started();
  const { source } = pipeline;
  const confirmed = async (): Promise<bigint> => {
    const { rows } = await source.query<{ lsn: string }>(
      "select (confirmed_flush_lsn - '0/0')::text as lsn from pg_replication_slots where slot_name = $1",
      [slotOf(source)],
    );
    return BigInt(rows[0]!.lsn);
  };
  const makeNoise = async (): Promise<bigint> => {
    await busy.query("insert into noise select g, repeat('n', 1000) from generate_series(1, 5000) g");
    const { rows } = await busy.query<{ lsn: string }>("select (pg_current_wal_lsn() - '0/0')::text as lsn");
    return BigInt(rows[0]!.lsn);
  };
  const reached = await makeNoise();
  await eventually(async () => (await confirmed()) >= reached);
  for (const end of ["stop", "kill"] as const) {
    await pipeline.daemon[end]();
    await makeNoise();
    await busy.query("checkpoint");
    await pipeline.start();
    const next = await makeNoise();
    await eventually(async () => (await confirmed()) >= next);
  }
  await change(source);
  await pipeline.expectEqual(["t"]);
});

async function started(source?: FreshDatabase, kinds: readonly SinkKind[] = ["postgres"]): Promise<RunningPipeline> {
  const pipeline = await RunningPipeline.start(PREPARE, {
    kinds,
    ...(source === undefined ? {} : { source }),
  });
  await change(pipeline.source);
  await pipeline.settled();
  return pipeline;
}

/** Of the transaction by which the daemon knows the log again. */
async function landmarkOf({ installation }: RunningPipeline): Promise<string> {
  const state = await openState(`sqlite:${join(installation.folder, ".millrace", `${installation.name}.db`)}`, {
    name: installation.name,
  });
  try {
    return (await state.source.get())?.identity?.["landmark"]?.split("@")[0] ?? "0/0";
  } finally {
    await state.close();
  }
}

/** Owners and modes as they are; the copy lies in the server's own folder and goes with it. */
async function copyFolder(from: string, to: string): Promise<void> {
  await promisify(execFile)("cp", ["-a", "--", from, to]);
}

/** With the reason, its number and what to do. */
function expectEnded({ exitCode, stderr }: CommandResult, code: RegExp): void {
  expect({ exitCode, stderr: stderr.slice(-1_500) }).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(code),
  });
  expect(stderr).toMatch(/"error":\{"code":"MR\d+","kind":"\w+","message":"[^"].*","hint":"[^"].*"/);
}
