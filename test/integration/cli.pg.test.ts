import { once } from "node:events";
import { createServer } from "node:net";
import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { freePort } from "../../scripts/services/processes/port.ts";
import { openState } from "../../src/state/open.ts";
import { runCli } from "../support/daemon/cli.ts";
import { freshDatabase } from "../support/run/services.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

interface Checked {
  readonly ok: boolean;
  readonly findings: readonly { part: string; id: string; level: string; what: string; fix: string | null }[];
}

const at = (url: string, change: (parsed: URL) => void) => {
  const parsed = new URL(url);
  change(parsed);
  return parsed.href;
};

test("init looks at the source, and what it writes passes check", async () => {
  await using database = await freshDatabase();
  await using target = await freshDatabase();
  await database.query(`create table customers (id int primary key, name text);
    create table "no key" (id int);
    create table named (code text not null unique);
    create table "line\nbreak: x" (id int primary key)`);
  using folder = temporaryFolder();
  const made = await runCli(
    ["init", "--source", database.url, "--sink", "./w.duckdb", "--sink", target.url, "--json"],
    {
      folder: folder.path,
    },
  );
  expect(made.stderr).toBe("");
  expect(made.exitCode).toBe(0);
  const report = JSON.parse(made.stdout);
  expect(report).toMatchObject({ name: database.name, refused: [{ id: "public.named" }, { id: "public.no key" }] });
  expect(report.tables).toContain("public.customers");
  const config = readFileSync(folder.file("millrace.yaml"), "utf8");
  expect(config).toMatch(
    /2 tables can be followed, 2 can't[^]*public +customers, line break: x[^]*no usable key: public\.named, public\.no key/,
  );
  const checked = await runCli(["check", "--json"], { folder: folder.path });
  const { ok, findings }: Checked = JSON.parse(checked.stdout);
  expect(findings.filter((f) => f.level === "error")).toEqual([]);
  expect({ ok, exitCode: checked.exitCode }).toEqual({ ok: true, exitCode: 0 });
  expect(findings.find((f) => f.what.startsWith("public.named "))?.fix).toBe(
    'ALTER TABLE "public"."named" REPLICA IDENTITY USING INDEX "named_code_key";',
  );
  expect(new Set(findings.map((f) => f.part))).toEqual(new Set(["source", "state", "admin", "warehouse", "replica"]));
});

test("init of a source that does not answer fails and writes nothing", async () => {
  using folder = temporaryFolder();
  const source = "postgres://u:pw-canary@127.0.0.1:1/d";
  const { exitCode, stderr, stdout } = await runCli(["init", "--source", source], { folder: folder.path });
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/error MR20\d\d: /);
  expect(stderr + stdout).not.toContain("pw-canary");
  expect(() => statSync(folder.file("millrace.yaml"))).toThrow("ENOENT");
});

test("check tells of tables that would meet in one target, in the sinks in which they do", async () => {
  await using database = await freshDatabase();
  await using target = await freshDatabase();
  await database.query(`create table person (id int primary key); create table "Person" (id int primary key)`);
  using folder = temporaryFolder();
  await runCli(["init", "--source", database.url, "--sink", "./w.duckdb", "--sink", target.url], {
    folder: folder.path,
  });
  const { ok, findings }: Checked = JSON.parse((await runCli(["check", "--json"], { folder: folder.path })).stdout);
  expect(ok).toBe(false);
  expect(findings.filter((f) => f.level === "error")).toEqual([
    expect.objectContaining({
      part: "warehouse",
      id: "MR1305",
      what: expect.stringMatching(/Person and public\.person/),
    }),
  ]);
});

test("check says of each part what would fail, exit 1, and shows no password", async () => {
  await using database = await freshDatabase();
  using folder = temporaryFolder();
  mkdirSync(folder.file("state"));
  writeFileSync(folder.file("state/s.db"), "not a database at all, and long enough to be one".repeat(10));
  const config = `name: shop
source: { kind: postgres, url: "${at(database.url, (u) => ((u.username = "nobody"), (u.password = "pw-canary")))}" }
state: sqlite:state/s.db
sinks:
  cache: { kind: redis, url: "redis://:\${REDIS_PASSWORD}@127.0.0.1:1/0" }
  warehouse: { kind: duckdb, path: none/such/folder/w.duckdb }
`;
  writeFileSync(folder.file("millrace.yaml"), config);
  const environment = { REDIS_PASSWORD: "canary-of-redis" };
  const json = await runCli(["check", "--json"], { folder: folder.path, environment });
  expect(json.exitCode).toBe(1);
  const { ok, findings }: Checked = JSON.parse(json.stdout);
  expect(ok).toBe(false);
  const failing = findings.filter((f) => f.level === "error");
  expect(new Set(failing.map((f) => f.part))).toEqual(new Set(["source", "state", "cache", "warehouse"]));
  const text = await runCli(["check"], { folder: folder.path, environment });
  expect(text.exitCode).toBe(1);
  expect(text.stdout).toMatch(/ERROR {3}source: /);
  for (const { stdout, stderr } of [json, text]) expect(stdout + stderr).not.toMatch(/pw-canary|canary-of-redis/);
});

test("check finds an admin address that another process has", async () => {
  await using database = await freshDatabase();
  using folder = temporaryFolder();
  const port = await freePort();
  await using other = createServer().listen({ host: "127.0.0.1", port });
  await once(other, "listening");
  const found = async (listen: string) => {
    const config = `name: shop\nsource: { kind: postgres, url: "${database.url}" }\nsinks: {}\nadmin: { listen: "${listen}" }\n`;
    writeFileSync(folder.file("millrace.yaml"), config);
    const { stdout, exitCode } = await runCli(["check", "--json"], { folder: folder.path });
    const { findings }: Checked = JSON.parse(stdout);
    return { exitCode, findings: findings.filter(({ part }) => part === "admin") };
  };
  const taken = { part: "admin", id: "MR1154", level: "error" };
  expect(await found(`127.0.0.1:${port}`)).toMatchObject({
    exitCode: 1,
    findings: [{ ...taken, what: expect.stringContaining(`127.0.0.1:${port} can't be listened on (EADDRINUSE)`) }],
  });
  expect(await found("127.0.0.1:1")).toMatchObject({ exitCode: 0, findings: [{ id: "admin", level: "ok" }] });
});

test("check beside a running daemon names it", async () => {
  await using database = await freshDatabase();
  using folder = temporaryFolder();
  writeFileSync(
    folder.file("millrace.yaml"),
    `name: shop\nsource: { kind: postgres, url: "${database.url}" }\nsinks: {}\n`,
  );
  const state = await openState(`sqlite:${folder.file(".millrace/shop.db")}`, { name: "shop" });
  await state.lease.acquire("host-a pid 42", 15_000);
  const { stdout } = await runCli(["check", "--json"], { folder: folder.path });
  const { findings }: Checked = JSON.parse(stdout);
  expect(findings.find((f) => f.part === "state")?.what).toContain("host-a pid 42");
  expect(findings.find((f) => f.part === "sinks")?.level).toBe("warning");
  await state.close();
});

test("check warns where `tables` matches nothing, and counts one table as one", async () => {
  await using database = await freshDatabase();
  await database.query("create table customers (id int primary key)");
  using folder = temporaryFolder();
  const found = async (tables: string) => {
    const source = `{ kind: postgres, url: "${database.url}", tables: ["${tables}"] }`;
    writeFileSync(folder.file("millrace.yaml"), `name: ${database.name}\nsource: ${source}\nsinks: {}\n`);
    const { stdout, exitCode } = await runCli(["check", "--json"], { folder: folder.path });
    const { findings }: Checked = JSON.parse(stdout);
    const { level, what } = findings.find(({ id }) => id === "postgres.tables") ?? {};
    return { exitCode, level, what };
  };
  expect(await found("public.*")).toEqual({ exitCode: 0, level: "ok", what: "1 table is captured" });
  expect(await found("pubic.*")).toMatchObject({
    exitCode: 0,
    level: "warning",
    what: expect.stringMatching(/no table is captured/),
  });
});
