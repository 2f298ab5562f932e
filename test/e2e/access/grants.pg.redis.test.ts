/** What `grants` prints, run as it is, is all that the daemon needs: roles and users that did not exist before. */
import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { runCli } from "../../support/daemon/cli.ts";
import { Installation } from "../../support/daemon/daemon-process.ts";
import { freshDatabase, freshKeyPrefix, redisUrl } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

interface Script {
  readonly part: string;
  readonly script: string;
}

const scriptsOf = async (installation: Installation, ...args: readonly string[]): Promise<readonly Script[]> => {
  const { stdout, stderr } = await installation.command("grants", ...args, "--json");
  if (stdout === "") throw new Error(stderr);
  const { scripts }: { scripts: readonly Script[] } = JSON.parse(stdout);
  return scripts;
};

test("Postgres and Redis: logins that are made by the scripts copy and follow", async () => {
  const [reader, writer, keeper] = ["reader", "wri'ter", "keeper"].map(
    (label) => `${label}_${randomUUID().slice(0, 8)}`,
  );
  await using administrator = await freshDatabase();
  await using _roles = {
    [Symbol.asyncDispose]: async () => {
      for (const name of [reader, writer, keeper]) await administrator.query(`drop role if exists "${name}"`);
    },
  };
  await using source = await freshDatabase();
  await using target = await freshDatabase();
  await using prefix = freshKeyPrefix();
  const as = (url: string, user = "") => {
    const changed = new URL(url);
    changed.username = encodeURIComponent(user);
    return changed;
  };
  await source.query(`create table public.orders (id int primary key, note text);
    insert into public.orders values (1, 'a'), (2, 'b');
    create schema "Sales Dept"; create table "Sales Dept"."li""nes" (id int primary key, note text);
    insert into "Sales Dept"."li""nes" values (1, 'x');
    alter table "Sales Dept"."li""nes" enable row level security;
    revoke all on schema public from public; revoke all on database ${source.name} from public`);
  await target.query(`revoke all on schema public from public; revoke all on database ${target.name} from public`);
  const cacheUrl = as(redisUrl(), reader);
  cacheUrl.password = "canary-of-cache";
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: as(source.url, reader).href },
    state: as(target.url, keeper).href,
    sinks: {
      replica: { kind: "postgres", url: as(target.url, writer).href, schema: "copy" },
      cache: { kind: "redis", url: cacheUrl.href, prefix: prefix.prefix },
    },
  });

  const [first] = await scriptsOf(installation, "--source");
  expect(first?.script).toContain("run this again");
  // As on RDS, where nobody may give REPLICATION.
  await source.query(`begin; create role rds_replication; ${first?.script}`);
  const { rows } = await source.query(
    `select pg_has_role(oid, 'rds_replication', 'member') and not rolreplication as is from pg_roles where rolname = '${reader}'`,
  );
  await source.query("rollback");
  expect(rows).toEqual([{ is: true }]);
  await source.query(first?.script ?? "");

  const scripts = await scriptsOf(installation);
  using empty = temporaryFolder();
  const withPassword = as(source.url, reader);
  withPassword.password = "canary-of-source";
  const alone = await runCli(["grants", "--for", withPassword.href, "--json"], { folder: empty.path });
  expect(JSON.parse(alone.stdout)).toEqual({ scripts: scripts.filter(({ part }) => part === "source") });
  const shown = await runCli(["grants", "--for", withPassword.href], { folder: empty.path });
  expect(shown.stdout).toMatch(/^-- source \(postgres\), to be run by a superuser, in database /);
  expect(readdirSync(empty.path)).toEqual([]);
  expect(scripts.map(({ part }) => part)).toEqual(["source", "state", "replica", "cache"]);
  const all = scripts.map(({ script }) => script).join("\n");
  expect(all).not.toMatch(/SUPERUSER|INSERT|UPDATE|DELETE|CREATE ON DATABASE|\bALL\b|canary/);
  const scriptOf = (part: string) => scripts.find((script) => script.part === part)?.script ?? "";
  await source.query(scriptOf("source"));
  await target.query(scriptOf("state"));
  await target.query(scriptOf("replica"));
  const redis = new Redis(redisUrl());
  try {
    const words =
      /ACL SETUSER (.*)/
        .exec(scriptOf("cache"))?.[1]
        ?.split(" ")
        .map((word) => word.replaceAll("'", "")) ?? [];
    await redis.call("ACL", "SETUSER", ...words, ">canary-of-cache");

    const copied = await installation.command("run", "--once", "--log-level", "error");
    expect(copied).toMatchObject({ exitCode: 0, stderr: "" });
    await source.query(`update public.orders set note = 'new' where id = 2; delete from public.orders where id = 1;
      insert into "Sales Dept"."li""nes" values (2, 'y')`);
    const followed = await installation.command("run", "--once", "--log-level", "error");
    expect(followed).toMatchObject({ exitCode: 0, stderr: "" });
    expect((await target.query("select id, note from copy.orders")).rows).toEqual([{ id: 2, note: "new" }]);
    expect((await target.query('select id from copy."li""nes" order by id')).rows).toEqual([{ id: 1 }, { id: 2 }]);
    expect(await redis.hget(`${prefix.prefix}public:orders:2`, "note")).toBe("new");
    expect(await redis.exists(`${prefix.prefix}public:orders:1`)).toBe(0);
    const again = await scriptsOf(installation, "--source");
    await source.query(again[0]?.script ?? "");
    await installation.command("teardown", "--yes");
  } finally {
    await redis.call("ACL", "DELUSER", reader ?? "");
    redis.disconnect();
  }
});
