/**
 * What a person on call is told first of each common break, by `status`, the dashboard and `explain` alone.
 * @module-tag heavy
 */
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../scripts/services/processes/port.ts";
import type { RunningPostgres } from "../../scripts/services/servers/postgres/postgres.ts";
import type { RunningService } from "../../scripts/services/service.ts";
import { DashboardBrowser } from "../support/daemon/dashboard-browser.ts";
import { Installation } from "../support/daemon/daemon-process.ts";
import { type FreshDatabase, freshDatabase, ownPostgres, ownRedis } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const TOKEN = "token-that-acts-0123456789abcdefg";
const PASSWORD = "BREAKS_SOURCE_PASSWORD";

let server: RunningPostgres;
let redis: RunningService;
let source: FreshDatabase;
let target: FreshDatabase;
let installation: Installation;
let browser: DashboardBrowser;

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
    create table keyed (id int primary key); insert into keyed values (1)`);
  process.env[PASSWORD] = "first";
  const port = await freePort();
  const url = new URL(source.url);
  url.username = "reader";
  url.password = "PW";
  installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: url.href.replace("PW", `\${${PASSWORD}}`), heartbeat: "500ms" },
    sinks: { warehouse: { kind: "postgres", url: target.url }, cache: { kind: "redis", url: redis.url } },
    tables: { "public.guarded": { schemaChange: "pause" } },
    admin: { listen: `127.0.0.1:${port}`, tokens: [{ role: "operator", token: TOKEN }] },
  });
  await installation.run().streaming();
  browser = await DashboardBrowser.connect(`http://127.0.0.1:${port}`);
});

afterAll(async () => {
  await browser?.[Symbol.asyncDispose]();
  await installation?.[Symbol.asyncDispose]();
  await target?.[Symbol.asyncDispose]();
  await source?.[Symbol.asyncDispose]();
  await redis?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

async function show(what: string) {
  const { stdout } = await installation.command("status");
  await using seen = await browser.open(TOKEN);
  await seen.page.getByRole("heading", { level: 2 }).first().waitFor();
  await new Promise((r) => setTimeout(r, 2500));
  const page = await seen.page.locator(".attention").innerText();
  console.log(`===== ${what}\n${stdout.slice(0, 3000)}\n-----\n${page}`);
}
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));

test("explore", { timeout: 500_000 }, async () => {
  await target.query("alter table public.item add constraint small check (n < 1000)");
  await source.query("update item set n = 5000 where id in (1, 2)");
  await sleep(3000);
  await show("poison");
  await target.query("alter table public.item drop constraint small");
  await installation.command("dlq", "replay", "--all");
  await source.query("alter table keyed drop constraint keyed_pkey");
  await source.query("alter table guarded add column more text");
  await sleep(4000);
  await show("key lost, approval");
  await source.query("alter table keyed add primary key (id)");
  await installation.command("schema", "approve", "public.guarded");
  await sleep(3000);
  await show("after");
  {
    await using holder = await source.connect();
    await holder.query("begin; alter table item add column held int");
    await installation.command("snapshot", "start", "--tables", "public.item");
    await sleep(20000);
    await show("ALTER in open transaction of the source");
    await holder.query("rollback");
  }
  {
    await using holder = await target.connect();
    await holder.query("begin; lock table public.item");
    await source.query("update item set n = 7 where id = 3");
    await sleep(40000);
    await show("lock in the target");
    await holder.query("rollback");
  }
  await redis.stop();
  await source.query("update item set n = 8 where id = 3");
  await sleep(5000);
  await show("redis down");
  await redis.start();
  await source.query("alter role reader password 'second'");
  await source.query("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'reader'");
  await sleep(6000);
  await show("password");
  await source.query("alter role reader password 'first'");
  await sleep(15000);
  await server.stop();
  await sleep(6000);
  await show("source stopped");
  await server.start();
});
