/** The commands as an operator uses them, against a real daemon: docs/cli.md is true. */
import { userInfo } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { freePort } from "../../../scripts/services/processes/port.ts";
import { type CommandResult, Installation } from "../../support/daemon/daemon-process.ts";
import { isLeastMode } from "../../support/postgres/least-mode.ts";
import { freshDatabase, type FreshDatabase, freshKeyPrefix, redisUrl } from "../../support/run/services.ts";
import { eventually } from "../../support/run/waiting.ts";

interface Place extends AsyncDisposable {
  readonly source: FreshDatabase;
  readonly installation: Installation;
  readonly prefix: string;
  readonly adminUrl: string;
}

/** A table of ten rows, a warehouse and a cache. */
async function place(): Promise<Place> {
  await using stack = new AsyncDisposableStack();
  const source = stack.use(await freshDatabase());
  await source.query(`create table customers (id int primary key, name text);
    insert into customers select n, 'c' || n from generate_series(1, 10) n`);
  const { prefix } = stack.use(freshKeyPrefix());
  const port = await freePort();
  const installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: source.url, heartbeat: "500ms" },
    sinks: {
      warehouse: { kind: "duckdb", path: "./w.duckdb" },
      cache: { kind: "redis", url: redisUrl(), prefix },
    },
    admin: { listen: `127.0.0.1:${port}` },
  });
  stack.use(installation);
  const kept = stack.move();
  const adminUrl = `http://127.0.0.1:${port}`;
  return { source, installation, prefix, adminUrl, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** Shows what was said where it is not. */
async function expectCaughtUp({ installation }: Place): Promise<void> {
  const { exitCode, stdout, stderr } = await installation.command("run", "--once");
  expect({ exitCode, said: exitCode === 0 ? "" : stdout + stderr }).toEqual({ exitCode: 0, said: "" });
}

function json({ stdout }: CommandResult): Record<string, unknown> {
  return JSON.parse(stdout);
}

test("a second daemon is refused with the name of the first, and so is run --once", async () => {
  await using at = await place();
  const daemon = at.installation.run();
  await daemon.streaming();
  for (const args of [["run"], ["run", "--once"]]) {
    const second = await at.installation.command(...args);
    expect(second.exitCode).toBe(4);
    expect(second.stderr).toContain(`pid ${daemon.pid}`);
  }
  expect((await daemon.stop()).exitCode).toBe(0);
});

test(
  "a daemon of the same name and source in another folder is refused before it touches anything, and check says so",
  { tags: "heavy" },
  async () => {
    await using at = await place();
    const daemon = at.installation.run();
    await daemon.streaming();
    const config = {
      name: at.source.name,
      source: { kind: "postgres", url: at.source.url, tables: ["public.customers"] },
      sinks: { cache: { kind: "redis", url: redisUrl(), prefix: at.prefix } },
    };
    await using other = new Installation(config);
    // Between two of its connections a daemon does not hold the slot.
    await eventually(async () => {
      const check = await other.command("check", "--json");
      expect(check).toMatchObject({ exitCode: 1 });
      expect(json(check)["findings"]).toContainEqual(
        expect.objectContaining({ id: "log", level: "error", what: expect.stringContaining("MR2012") }),
      );
    });
    const second = await other.command("run");
    expect(second.exitCode).toBe(4);
    expect(second.stderr).toMatch(
      /MR2012: the slot \S+ is in use by process \d+ of the server \(millrace as \S+ .*since /,
    );
    await at.source.query("insert into customers values (11, 'new')");
    expect(await at.installation.command("wait", "--timeout", "240s")).toMatchObject({ exitCode: 0 });
    expect(json(await at.installation.command("check", "--json"))).toMatchObject({ ok: true });
  },
);

test("run --once brings every sink up to date, then ends; a paused sink makes it fail by name", async () => {
  await using at = await place();
  expect(await at.installation.command("run", "--once")).toMatchObject({ exitCode: 0 });
  await at.source.query("insert into customers values (11, 'new')");
  expect(await at.installation.command("run", "--once")).toMatchObject({ exitCode: 0 });
  const redis = new Redis(redisUrl());
  expect(await redis.hget(`${at.prefix}public:customers:11`, "name")).toBe("new");
  redis.disconnect();
  expect(await at.installation.command("pause", "--sink", "cache")).toMatchObject({ exitCode: 0 });
  const refused = await at.installation.command("run", "--once");
  expect(refused, refused.stderr).toMatchObject({ exitCode: 1, stdout: expect.stringContaining("cache") });
});

test("check, status, wait, pause, resume, snapshot, tail and dlq speak with the running daemon", async () => {
  await using at = await place();
  const { installation } = at;
  expect(await installation.command("wait", "--timeout", "100ms")).toMatchObject({ exitCode: 5 });
  const daemon = installation.run();
  await daemon.streaming();
  expect(await installation.command("wait")).toMatchObject({ exitCode: 0 });

  // What the daemon itself has open is no fault.
  expect(json(await installation.command("check", "--json"))).toMatchObject({ ok: true });

  const status = json(await installation.command("status", "--json"));
  const top = await installation.command("top", "--once");
  expect(top.stdout).toMatch(/all is well: 2 sinks follow\n[^]*\nwarehouse \(duckdb\) +streaming /);
  expect(status).toMatchObject({
    name: at.source.name,
    phase: "streaming",
    source: { kind: "postgres", lagBytes: expect.any(Number), retainedBytes: expect.any(Number) },
    sinks: [
      { name: "warehouse", kind: "duckdb", state: "streaming", deadLetters: 0, error: null },
      { name: "cache", kind: "redis", state: "streaming", deadLetters: 0, error: null },
    ],
  });
  expect(await (await fetch(`${at.adminUrl}/api/v1/status`)).json()).toMatchObject({ phase: "streaming" });

  expect(await installation.command("pause", "--sink", "cache")).toMatchObject({ exitCode: 0 });
  await at.source.query("update customers set name = 'changed' where id = 1");
  const late = await installation.command("wait", "--timeout", "3s");
  expect(late).toMatchObject({ exitCode: 5, stdout: expect.stringContaining("cache is paused") });
  expect(await installation.command("resume", "--sink", "cache")).toMatchObject({ exitCode: 0 });
  expect(await installation.command("wait")).toMatchObject({ exitCode: 0 });

  const redis = new Redis(redisUrl());
  await redis.hset(`${at.prefix}public:customers:1`, "name", "by hand");
  const asked = await installation.command("snapshot", "start", "--tables", "public.customers", "--sink", "cache");
  expect(asked).toMatchObject({ exitCode: 0 });
  expect(await installation.command("wait")).toMatchObject({ exitCode: 0 });
  expect((await installation.command("snapshot", "list")).stdout).toContain("public.customers");
  expect(await redis.hget(`${at.prefix}public:customers:1`, "name")).toBe("changed");
  redis.disconnect();

  const tail = installation.command("tail", "--tables", "public.customers", "--limit", "1");
  let writing = true;
  void tail.then(() => (writing = false));
  // The tail begins at the log's end, wherever that is when it gets there.
  await eventually(async () => {
    await at.source.query("update customers set name = name || '.' where id = 2");
    return !writing;
  });
  expect(json(await tail)).toMatchObject({ op: "u", key: { id: 2 }, source: { table: "customers" } });
  expect(await installation.command("dlq", "list")).toMatchObject({ exitCode: 0, stdout: "none\n" });
  expect((await daemon.stop()).exitCode).toBe(0);
});

test("a pause survives a restart, and health, readiness and metrics tell of it", async () => {
  await using at = await place();
  const first = at.installation.run();
  await first.streaming();
  await at.installation.command("pause", "--sink", "warehouse");
  await first.kill();
  // Without a daemon: into the state.
  expect(await at.installation.command("resume", "--sink", "warehouse")).toMatchObject({ exitCode: 0 });
  expect(await at.installation.command("pause", "--sink", "warehouse")).toMatchObject({ exitCode: 0 });
  const second = at.installation.run();
  await eventually(async () => {
    const answer = await fetch(`${at.adminUrl}/metrics`);
    expect(await answer.text()).toMatch(/millrace_sink_state\{[^}]*warehouse[^}]*paused[^}]*\} 1/);
  });
  expect((await fetch(`${at.adminUrl}/healthz`)).status).toBe(200);
  await eventually(async () => (await fetch(`${at.adminUrl}/readyz`)).status === 200);
  const { entries } = json(await at.installation.command("audit", "list", "--json", "--limit", "9"));
  const { username } = userInfo();
  const by = { who: username, via: "command line", error: null, endedAt: expect.any(String) };
  const subject = { sinks: ["warehouse"] };
  const facts = (fact: object) => ({ sinks: expect.objectContaining({ warehouse: expect.objectContaining(fact) }) });
  expect(entries).toEqual([
    expect.objectContaining({
      ...by,
      action: "pause",
      subject,
      before: facts({ paused: false }),
      after: facts({ paused: true }),
    }),
    expect.objectContaining({
      ...by,
      action: "resume",
      subject,
      before: facts({ paused: true }),
      after: facts({ paused: false }),
    }),
    expect.objectContaining({
      ...by,
      action: "pause",
      subject,
      before: facts({ paused: false }),
      after: facts({ paused: true }),
    }),
  ]);
  expect((await second.stop()).exitCode).toBe(0);
});

test(
  "a table that loses its key while no row moves in it is suspended, named by wait, status and run --once",
  { tags: "heavy" },
  async ({ skip }) => {
    skip(isLeastMode, "somebody else's publication still has the table, and the log tells of the lost key");
    await using at = await place();
    const { installation, source } = at;
    await source.query("create table quiet (id int primary key); insert into quiet values (1)");
    const daemon = installation.run();
    await daemon.streaming();
    expect(await installation.command("wait")).toMatchObject({ exitCode: 0 });
    await source.query("alter table quiet drop constraint quiet_pkey");
    await eventually(async () => {
      const { tables } = json(await installation.command("status", "--json"));
      expect(tables).toMatchObject({ suspended: [{ table: "public.quiet", error: { code: "MR1309" } }] });
    });
    await source.query("insert into quiet values (2)");
    const late = await installation.command("wait", "--timeout", "3s");
    expect(late).toMatchObject({ exitCode: 5, stdout: expect.stringContaining("public.quiet") });
    const seen = await installation.command("status", "--exit-code");
    expect(seen.exitCode).toBe(3);
    expect(seen.stdout).toMatch(/! table public\.quiet is suspended[^]*-> ALTER TABLE/);
    expect((await daemon.stop()).exitCode).toBe(0);
    const once = await installation.command("run", "--once");
    expect(once).toMatchObject({ exitCode: 1, stdout: expect.stringContaining("public.quiet") });

    await source.query("alter table quiet add primary key (id)");
    await expectCaughtUp(at);
    const redis = new Redis(redisUrl());
    expect(await redis.hget(`${at.prefix}public:quiet:2`, "id")).toBe("2");
    redis.disconnect();
  },
);

test(
  "a table that lost its key and has it again is reinstated by itself, whether its log shows rows without key or not",
  { tags: "long" },
  async () => {
    await using at = await place();
    const { installation, source } = at;
    await source.query("create table quiet (id int primary key, n int); insert into quiet values (1, 1)");
    await expectCaughtUp(at);
    // Published until a daemon looks: the log has a row of the table as it was without a key.
    await source.query("alter table quiet drop constraint quiet_pkey; insert into quiet values (2, 2)");
    const keyless = await installation.command("run", "--once");
    expect(keyless, keyless.stderr).toMatchObject({ exitCode: 1, stdout: expect.stringContaining("public.quiet") });
    await source.query("alter table quiet add primary key (id); update quiet set n = 3 where id = 1");
    await expectCaughtUp(at);
    // It is taken out of the publication meanwhile, and the daemon ends over that.
    for (const failpoint of ["publication.leaving", "publication.left"]) {
      await source.query("alter table quiet drop constraint quiet_pkey");
      const killed = installation.run({ MILLRACE_FAILPOINTS: `${failpoint}=kill` });
      expect((await killed.ended).signal, failpoint).toBe("SIGKILL");
      await source.query("alter table quiet add primary key (id); update quiet set n = 30 where id = 1");
      await expectCaughtUp(at);
    }
    // All of it while nobody looks.
    await source.query("alter table quiet drop constraint quiet_pkey; insert into quiet values (3, 3)");
    await source.query("alter table quiet add primary key (id); update quiet set n = 4 where id = 2");
    await expectCaughtUp(at);
    const daemon = installation.run();
    await daemon.streaming();
    await source.query("alter table quiet drop constraint quiet_pkey");
    await source.query("insert into quiet values (4, 4)");
    await source.query("alter table quiet add primary key (id)");
    await eventually(async () => expect((await installation.status()).tables.suspended).toEqual([]));
    expect(await installation.command("wait")).toMatchObject({ exitCode: 0 });
    expect((await daemon.stop()).exitCode).toBe(0);
    const redis = new Redis(redisUrl());
    for (const [id, n] of Object.entries({ 1: "30", 2: "4", 3: "3", 4: "4" })) {
      expect(await redis.hget(`${at.prefix}public:quiet:${id}`, "n")).toBe(n);
    }
    redis.disconnect();
  },
);

test("tail writes a change as the contract does, with the position of its own record and the daemon's epoch", async () => {
  await using at = await place();
  const { installation, source } = at;
  expect(await installation.command("run", "--once")).toMatchObject({ exitCode: 0 });
  const slots = await source.query(
    `select confirmed_flush_lsn::text as lsn from pg_replication_slots where database = '${source.name}'`,
  );
  const from = String(slots.rows[0]?.["lsn"]);
  await source.query(
    "begin; insert into customers values (12, 'x'); update customers set id = 13 where id = 12; commit",
  );
  await source.query("truncate customers");
  const args = ["tail", "--from", from, "--limit", "3"];
  const read = await installation.command(...args);
  expect(read.exitCode).toBe(0);
  const [created, moved, emptied] = read.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const lsn = expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/);
  expect(created).toMatchObject({ op: "c", source: { lsn, commitLsn: lsn, index: 0 }, schema: { version: 1 } });
  expect(moved).toMatchObject({ op: "u", key: { id: 13 }, before: { id: 12 }, source: { lsn, index: 1 } });
  expect(emptied).toMatchObject({ op: "t", key: null, before: null, after: null, source: { lsn } });
  expect(created.id).toBe(`${source.name}/1/${created.source.commitLsn.replace("/", "-")}/0`);
  expect(await installation.command(...args)).toMatchObject({ stdout: read.stdout });

  const gone = await installation.command("tail", "--from", "0/1", "--json");
  expect(gone.exitCode).toBe(4);
  expect(json(gone)).toMatchObject({ error: { code: "MR1118", hint: expect.stringContaining(`from ${from} on`) } });
});

test("a daemon that hangs is named with its process, so that somebody can look at it", { tags: "long" }, async () => {
  await using at = await place();
  const daemon = at.installation.run();
  await daemon.streaming();
  daemon.signal("SIGSTOP");
  at.installation.endLease();
  const asked = await at.installation.command("status", "--json");
  daemon.signal("SIGCONT");
  expect(asked.exitCode).toBe(1);
  const message = expect.stringContaining(`pid ${daemon.pid} `);
  expect(json(asked)).toMatchObject({ error: { code: "MR1116", message } });
  expect((await daemon.stop()).exitCode).toBe(0);
});

test("a daemon that ends while it is asked is no longer running; what it was told is not taken for done", async () => {
  await using at = await place();
  const { installation } = at;
  const daemon = installation.run();
  await daemon.streaming();
  daemon.signal("SIGSTOP");
  const asked = installation.ask("GET", "/api/v1/status");
  const told = installation.ask("POST", "/api/v1/pause", { sink: "cache" });
  const outcomes = Promise.allSettled([asked, told]);
  // Both stand in the socket's queue, which the daemon leaves behind.
  await sleep(200);
  await daemon.kill();
  expect(await outcomes).toMatchObject([
    { status: "fulfilled", value: undefined },
    { status: "rejected", reason: { code: "MR1116" } },
  ]);
});
