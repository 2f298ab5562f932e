/** What `millrace up` says when it can't start: the errors of the first minute. test/integration/package has it at work. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { spawn } from "node:child_process";
import { expect, test } from "vitest";
import { runCli } from "../../support/daemon/cli.ts";
import { freshDatabase, freshMysqlDatabase, mysqlFlavours, mysqlUrl, ownPostgres } from "../../support/run/services.ts";
import { temporaryFolder } from "../../support/run/temporary-folder.ts";

const PASSWORD = "canary-of-up";

/** Ends by itself: nothing starts. */
async function refused(url: string, ...args: readonly string[]) {
  const folder = temporaryFolder();
  const { exitCode, stdout, stderr } = await runCli(["up", url, ...args], { folder: folder.path });
  expect(stdout + stderr).not.toContain(PASSWORD);
  const files = readdirSync(folder.path);
  folder[Symbol.dispose]();
  return { exitCode, said: stdout + stderr, files };
}

function changed(text: string, change: (url: URL) => void): string {
  const url = new URL(text);
  url.password = PASSWORD;
  change(url);
  return url.href;
}

test("Postgres: a URL that leads nowhere, or to nothing, is answered with the way out, and no file is written", async () => {
  await using empty = await freshDatabase();
  await using keyless = await freshDatabase();
  await keyless.query("create table loose (n int)");
  for (const [url, args, said] of [
    [changed(empty.url, (url) => (url.port = "1")), [], /MR2001: .*ECONNREFUSED[^]*Nothing listens at/],
    [changed(empty.url, (url) => (url.pathname = "/nowhere")), [], /^error MR2002: .*[^]*Create the database/],
    [changed(empty.url, (url) => (url.username = "nobody")), [], /CREATE ROLE "nobody"[^]*--admin-url[^]*error MR2002/],
    [changed(empty.url, () => {}), [], /MR1143: the database has no table that can be followed/],
    [changed(keyless.url, () => {}), [], /MR1143: [^]*no usable key: public\.loose/],
    [changed(keyless.url, () => {}), ["--tables", "sales.*"], /MR1143: no table that can be followed matches --tables/],
    [changed(keyless.url, () => {}), ["--sink", `amqp://u:${PASSWORD}@h`], /no kind is known for amqp:\/\/[^]*redis:/],
    [
      changed(keyless.url, () => {}),
      ["--admin-url", "mysql://root@h/d"],
      /--admin-url: expected the URL of the source/,
    ],
    ["oracle://h/d", [], /no kind is known for oracle:\/\/[^]*mysql:\/\//],
  ] as const)
    expect(await refused(url, ...args)).toMatchObject({ said: expect.stringMatching(said), files: [] });
});

test("Postgres: what check finds is shown with its fix, the grants too, and nothing is started", async () => {
  await using source = await freshDatabase();
  await source.query("create table orders (id int primary key); create table loose (n int)");
  const role = `up_${randomUUID().slice(0, 8)}`;
  await source.query(`create role "${role}" login; grant select on orders to "${role}"`);
  try {
    const url = changed(source.url, (one) => (one.username = role));
    const lacking = await refused(url);
    expect(lacking).toMatchObject({ exitCode: 1, files: expect.arrayContaining(["millrace.yaml"]) });
    expect(lacking.said).toMatch(
      /ERROR {3}source: MR2008: the role may not replicate[^]*public\.loose[^]*all that the login needs:[^]*CREATE PUBLICATION[^]*--admin-url[^]*nothing was started/,
    );
    const json = await refused(url, "--json");
    expect(JSON.parse(json.said)).toMatchObject({ ok: false, findings: expect.anything() });
  } finally {
    await source.query(`drop owned by "${role}"; drop role "${role}"`);
  }
  const noFolder = await refused(source.url, "--sink", "./missing/w.duckdb");
  expect(noFolder.said).toMatch(/ERROR {3}warehouse: .*[^]*mkdir -p .*missing[^]*nothing was started/);
});

test("a server whose log can't be followed yet is told with the statement and the restart", async () => {
  await using server = await ownPostgres({ settings: { wal_level: "replica" } });
  await using source = await freshDatabase(server);
  await source.query("create table orders (id int primary key)");
  const { exitCode, said } = await refused(source.url);
  expect({ exitCode, said }).toEqual({
    exitCode: 1,
    said: expect.stringMatching(
      /ERROR {3}source: MR2005: wal_level is replica\n +ALTER SYSTEM SET wal_level = logical; then restart the server[^]*nothing was started/,
    ),
  });
});

test("a file that another process has open is named with that process", async () => {
  await using source = await freshDatabase();
  await source.query("create table orders (id int primary key)");
  using folder = temporaryFolder();
  const program = `const { DuckDBInstance } = await import(${JSON.stringify(import.meta.resolve("@duckdb/node-api"))});
    globalThis.open = await (await DuckDBInstance.create("w.duckdb")).connect(); console.log("open"); setInterval(() => {}, 1000);`;
  const other = spawn(process.execPath, ["--input-type=module", "-e", program], { cwd: folder.path });
  using _ended = { [Symbol.dispose]: () => other.kill("SIGKILL") };
  await once(other.stdout, "data");
  const { stdout, stderr, exitCode } = await runCli(["up", source.url, "--sink", "./w.duckdb"], {
    folder: folder.path,
  });
  expect(exitCode).toBe(1);
  expect(stdout + stderr).toMatch(new RegExp(`ERROR {3}warehouse: .*${other.pid}`));
});

test("a config that is there must be that of the command line", async () => {
  await using source = await freshDatabase();
  await source.query("create table orders (id int primary key)");
  using folder = temporaryFolder();
  const config = `name: shop
source: { kind: postgres, url: "${source.url}", tables: [public.orders] }
sinks: { warehouse: { kind: duckdb, path: ./w.duckdb } }
admin: { listen: false }
`;
  writeFileSync(folder.file("millrace.yaml"), config);
  for (const [args, said] of [
    [[changed(source.url, (url) => (url.pathname = "/other"))], /MR1142: .*follows another source/],
    [[changed(source.url, (url) => (url.username = "other"))], /MR1142: .*follows another source/],
    [["mysql://h/shop"], /MR1142: .*follows another source/],
    [[source.url, "--sink", "./other.duckdb"], /MR1142: .*no such sink of kind duckdb/],
    [[source.url, "--tables", "public.*"], /MR1142: .*selects other tables/],
    [[source.url, "--name", "other"], /MR1142: .*is of the name shop/],
  ] as const) {
    const { exitCode, stderr } = await runCli(["up", ...args], { folder: folder.path });
    expect({ exitCode, stderr }).toEqual({ exitCode: 4, stderr: expect.stringMatching(said) });
  }
  expect(existsSync(folder.file(".millrace"))).toBe(false);
  using none = temporaryFolder();
  expect(await runCli(["up"], { folder: none.path })).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining("give the URL of the source"),
  });
});

test.each(mysqlFlavours)(
  "%s: a login or a database that is not there is answered with the way out",
  async (flavour) => {
    await using source = await freshMysqlDatabase(mysqlUrl(flavour));
    const at = (change: (url: URL) => void) =>
      refused(
        changed(mysqlUrl(flavour), (url) => {
          url.pathname = `/${source.name}`;
          change(url);
        }),
      );
    expect(await at((url) => (url.username = "nobody"))).toMatchObject({
      said: expect.stringMatching(/CREATE USER IF NOT EXISTS 'nobody'[^]*--admin-url[^]*MR2002/),
      files: [],
    });
    const absent = changed(mysqlUrl(flavour), (url) => (url.pathname = "/nowhere")).replace(`:${PASSWORD}`, "");
    expect(await refused(absent)).toMatchObject({
      said: expect.stringMatching(/^error MR2002: .*\n.*Create the database/),
    });
  },
);
