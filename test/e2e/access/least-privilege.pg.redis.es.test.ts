/**
 * What `check` prints is enough, in one round: roles that may log in and nothing else come to a running daemon by it.
 */
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import { Client } from "pg";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { administer, type Checked } from "../../support/postgres/administer.ts";
import { freshDatabase, type FreshDatabase, postgres } from "../../support/run/services.ts";
import { RunningPipeline } from "../../support/daemon/running-pipeline.ts";
import { SinkSet } from "../../support/daemon/sink-set.ts";
import { eventually } from "../../support/run/waiting.ts";

interface PlainRole extends AsyncDisposable {
  readonly name: string;
  /** The same database, as this role. */
  url(database: Pick<FreshDatabase, "url">): string;
}

/** Dropped at the end, which must come after the end of the databases in which it was given anything. */
async function plainRole(label = "least", server: { readonly url: string } = postgres()): Promise<PlainRole> {
  const name = `${label}_${randomUUID().slice(0, 8)}`;
  const quoted = `"${name.replaceAll('"', '""')}"`;
  await asAdministrator(server, `create role ${quoted} login`);
  return {
    name,
    url(database) {
      const url = new URL(database.url);
      url.username = encodeURIComponent(name);
      return url.href;
    },
    [Symbol.asyncDispose]: () => asAdministrator(server, `drop role if exists ${quoted}`),
  };
}

async function asAdministrator({ url }: { readonly url: string }, sql: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}

async function checked(installation: Installation): Promise<Checked> {
  const { stdout, stderr } = await installation.command("check", "--json");
  if (stdout === "") throw new Error(`check printed nothing: ${stderr}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the program's own output, in its documented shape
  return JSON.parse(stdout) as Checked;
}

const TABLES = `
  create table public.customers (id int primary key, name text, body text);
  insert into public.customers select g, 'c' || g, repeat(md5(g::text), 200) from generate_series(1, 300) g;
  create schema "Sales Dept";
  create table "Sales Dept"."Or""ders" (id int primary key, total numeric(12,2));
  insert into "Sales Dept"."Or""ders" select g, g * 1.5 from generate_series(1, 200) g;
  create table public.secrets (id int primary key, owner_name text);
  insert into public.secrets select g, 'x' from generate_series(1, 20) g;
  alter table public.secrets enable row level security;
  create policy own_rows on public.secrets using (owner_name = current_user);
  create table public.events (id int, at date, note text, primary key (id, at)) partition by range (at);
  create table public.events_2025 partition of public.events for values from ('2025-01-01') to ('2026-01-01');
  create table public.events_2026 partition of public.events for values from ('2026-01-01') to ('2027-01-01');
  insert into public.events select g, date '2025-06-01' + g, 'e' from generate_series(1, 300) g;`;

const NAMES = [
  { schema: "public", table: "customers" },
  { schema: "public", table: "secrets" },
  { schema: "public", table: "events" },
  { schema: "Sales Dept", table: 'Or"ders' },
];

test("two roles without any right become a working daemon by the statements that one check prints", async () => {
  const server = postgres();
  await using owner = await plainRole("app", server);
  await using reader = await plainRole('reader "quoted"', server);
  await using writer = await plainRole("writer", server);
  await using source = await freshDatabase();
  await using sinks = await SinkSet.create(["duckdb", "postgres", "redis", "elasticsearch"]);
  const target = sinks.target!;
  // The tables are somebody else's, and what a server gives to everybody is taken away.
  await source.query(`grant create on database ${source.name} to "${owner.name}";
    alter schema public owner to "${owner.name}"; revoke all on schema public from public;
    revoke temporary on database ${source.name} from public; set role "${owner.name}"; ${TABLES}`);
  await target.query(`revoke temporary on database ${target.name} from public; create schema "Sales Dept"`);
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: reader.url(source), heartbeat: "500ms" },
    sinks: { ...sinks.config, postgres: { kind: "postgres", url: writer.url(target) } },
  });
  const databases = { source, postgres: target };

  await source.query("reset role");
  const before = await checked(installation);
  expect(before.ok).toBe(false);
  const ran = await administer(before.findings, databases);
  const after = await checked(installation);
  const left = after.findings.filter(
    ({ part, id, level }) => part in databases && level !== "ok" && id !== "postgres.max_slot_wal_keep_size",
  );
  expect({ ok: after.ok, left }).toEqual({ ok: true, left: [] });
  // No more than what is needed: neither role owns, inherits or may change anything of the application.
  expect(ran.join("\n")).not.toMatch(/SUPERUSER|INSERT|UPDATE|DELETE|ALL|pg_/);

  let daemon = installation.run();
  await daemon.streaming();
  const equal = async (names = NAMES): Promise<void> => {
    const answer = await installation.ask<{ reached: boolean }>("POST", "/api/v1/wait", { timeoutMs: 40_000 });
    expect({ answer, said: daemon.said.slice(-2_000) }).toMatchObject({ answer: { reached: true } });
    expect(await sinks.differences(source.url, installation.folder, names)).toEqual([]);
  };
  await source.query(`set role "${owner.name}"`);
  await equal();
  await source.query(`update public.customers set name = 'n' where id % 3 = 0; delete from public.customers where id % 7 = 0;
    update public.customers set id = id + 1000 where id % 5 = 0; insert into public.secrets values (99, 'nobody');
    update "Sales Dept"."Or""ders" set total = total + 1; insert into public.events values (1, '2026-03-01', 'late')`);
  await equal();
  await source.query('truncate "Sales Dept"."Or""ders"; insert into "Sales Dept"."Or""ders" values (1, 2)');
  await source.query(`create table public.events_2027 (id int, at date, note text, primary key (id, at));
    insert into public.events_2027 values (1, '2027-05-05', 'filled before');
    alter table public.events attach partition public.events_2027 for values from ('2027-01-01') to ('2028-01-01');
    truncate public.events_2025`);
  await equal();

  // A table of somebody else's that appears while the daemon runs: what is missing is said, and is enough.
  await source.query(
    "create table public.late (id int primary key, note text); insert into public.late values (1, 'a')",
  );
  const refused = await eventually(async () => {
    const { tables } = await installation.status();
    expect(tables.refused).toHaveLength(1);
    return tables.refused[0]!;
  });
  expect(refused).toMatchObject({ table: "public.late", fix: expect.stringContaining('TO "reader ""quoted""') });
  await source.query("reset role");
  const late = await administer((await checked(installation)).findings, databases);
  expect(late.filter((fix) => fix.includes('"late"'))).toHaveLength(2);
  const all = [...NAMES, { schema: "public", table: "late" }];
  await eventually(async () => expect((await installation.status()).tables.refused).toEqual([]));
  await source.query("insert into public.late values (2, 'b')");
  await equal(all);

  const again = await installation.command(
    "snapshot",
    "start",
    "--tables",
    "public.secrets",
    "--tables",
    "public.events",
  );
  expect(again.stderr + again.exitCode).toBe("0");
  await source.query("delete from public.late where id = 1");
  await equal(all);
  expect((await daemon.stop()).exitCode).toBe(0);
  await source.query("insert into public.late values (3, 'while it was away')");
  daemon = installation.run();
  await daemon.streaming();
  await equal(all);
  const { ok } = await checked(installation);
  expect(ok).toBe(true);
  expect((await daemon.stop()).exitCode).toBe(0);
});

/** `closed`: what takes away that the role may read the table. */
const LACKS: readonly {
  readonly table: string;
  readonly closed: string;
  readonly opened: string;
  readonly fix: RegExp;
}[] = [
  {
    table: "public.revoked",
    closed: "revoke select on revoked from READER",
    opened: "grant select on revoked to READER",
    fix: /GRANT SELECT ON "public"."revoked" TO/,
  },
  {
    table: "public.columns",
    closed: "revoke select on columns from READER; grant select (id) on columns to READER",
    opened: "grant select on columns to READER",
    fix: /GRANT SELECT ON "public"."columns" TO/,
  },
  {
    table: "public.secured",
    closed: "alter table secured enable row level security; create policy one on secured using (id = 1)",
    opened: "alter table secured disable row level security",
    fix: /ALTER ROLE .* BYPASSRLS/,
  },
  {
    table: "public.forced",
    closed: `alter table forced enable row level security; alter table forced force row level security;
      create policy one on forced using (id = 1)`,
    opened: "alter table forced no force row level security",
    fix: /ALTER ROLE .* BYPASSRLS/,
  },
  {
    table: "apart.unused",
    closed: "revoke usage on schema apart from READER",
    opened: "grant usage on schema apart to READER",
    fix: /GRANT USAGE ON SCHEMA "apart" TO/,
  },
];

test(
  "a table that the role may not read whole any more is suspended alone, and is read again when it may",
  { tags: "heavy" },
  async () => {
    await using reader = await plainRole("reader");
    const as = (sql: string): string => sql.replaceAll("READER", `"${reader.name}"`);
    let url = "";
    await using pipeline = await RunningPipeline.start(
      async (source) => {
        url = reader.url(source);
        await source.query(
          as("alter role READER replication; create schema apart; grant usage on schema apart to READER"),
        );
        for (const table of [...LACKS.map((one) => one.table), "public.free"])
          await source.query(
            as(`create table ${table} (id int primary key, n int); grant select on ${table} to READER;
          insert into ${table} values (1, 1), (2, 2)`),
          );
        await source.query(as("alter table forced owner to READER; create publication everything for all tables"));
      },
      {
        kinds: ["duckdb"],
        configure: (config) => ({
          ...config,
          source: { ...config.source, publication: "everything", url },
        }),
      },
    );
    const suspended = async () =>
      new Map((await pipeline.installation.status()).tables.suspended.map(({ table, error }) => [table, error]));
    const tables = LACKS.map(({ table }) => ({ schema: table.split(".")[0]!, table: table.split(".")[1]! }));
    await pipeline.expectEqual([...tables, "free"]);
    for (const { table, closed } of LACKS)
      await pipeline.run(as(`${closed}; update ${table} set n = n + 1; update free set n = n + 1`));
    await eventually(async () => {
      const found = await suspended();
      for (const { table, fix } of LACKS)
        expect(found.get(table)).toMatchObject({ code: "MR1309", hint: expect.stringMatching(fix) });
    });
    await eventually(async () => {
      const { sinks, source, installation } = pipeline;
      expect(await sinks.differences(source.url, installation.folder, ["free"])).toEqual([]);
    });
    for (const { table, opened } of LACKS) await pipeline.run(as(`delete from ${table} where id = 2; ${opened}`));
    await eventually(async () => expect((await suspended()).size).toBe(0));
    await pipeline.expectEqual([...tables, "free"]);
  },
);
