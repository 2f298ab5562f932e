/**
 * The package as it is published: packed, installed with npm into an empty prefix, and run from there.
 * @module-tag heavy
 */
import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type CliResult, runCli } from "../support/daemon/cli.ts";
import { AGAIN, installPackage, type InstalledPackage, ownEnvironment } from "../support/run/package.ts";
import { isRunning } from "../support/kafka/shared-tables.ts";
import {
  freshDatabase,
  freshMysqlDatabase,
  type MysqlFlavour,
  mysqlFlavours,
  mysqlUrl,
} from "../support/run/services.ts";
import { freePort } from "../../scripts/services/processes/port.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";

const prefix = temporaryFolder();
let installed: InstalledPackage;

beforeAll(async () => {
  installed = await installPackage(prefix.path);
});
afterAll(() => prefix[Symbol.dispose]());

const run = (folder: string, ...args: readonly string[]): Promise<CliResult> =>
  runCli(args, { folder, program: installed.program });

/** As `npm install` in the folder would. */
function linkCommand(folder: TemporaryFolder): void {
  const bin = folder.file("node_modules/.bin");
  mkdirSync(bin, { recursive: true });
  symlinkSync(join(installed.folder, "bin/millrace.js"), join(bin, "millrace"));
}

test("it carries JavaScript, what that reads and what it runs on, no Node and nothing that runs at its installation", () => {
  const { scripts, ...manifest } = JSON.parse(readFileSync(join(installed.folder, "package.json"), "utf8"));
  expect(manifest.optionalDependencies).toBeUndefined();
  expect(Object.keys(scripts).filter((name) => /^(pre|post)?install$|^prepare$/.test(name))).toEqual([]);
  const packages = readdirSync(join(installed.folder, "node_modules"));
  expect(packages).toEqual(expect.arrayContaining(["pg", "zod"]));
  expect(packages.filter((name) => name.startsWith("node-"))).toEqual([]);
  expect(existsSync(join(installed.folder, "node_modules/.bin/node"))).toBe(false);
  const own = globSync("**/*", { cwd: installed.folder, exclude: ["node_modules"] }).filter((path) =>
    /\.\w+$/.test(path),
  );
  const kinds =
    /^(LICENSE|README\.md|package\.json|millrace\.schema\.json|docs\/errors\.md|bin\/.+\.js|dist\/.+\.js|dist\/rules\.d\.ts|dist\/(src|connectors)\/.+\.d\.ts|dist\/dashboard\.html|dist\/sbom\.cdx\.json|migrations\/.+\.sql)$/;
  expect(own.filter((path) => !kinds.test(path))).toEqual([]);
});

test("without what is large it is small, names what a configuration lacks, and takes it from the command that it names", async () => {
  await using source = await freshDatabase();
  await source.query("create table orders (id int primary key); insert into orders values (1)");
  using folder = temporaryFolder();
  writeFileSync(folder.file("package.json"), '{ "name": "app" }');
  const npm = (command: string) => {
    const options = { cwd: folder.path, env: ownEnvironment(), encoding: "utf8" } as const;
    const { status, stderr } = spawnSync("bash", ["-c", command], options);
    expect({ command, status, stderr: status === 0 ? "" : stderr }).toEqual({ command, status: 0, stderr: "" });
  };
  npm(`npm install --prefer-offline --no-audit ${AGAIN} --omit=dev "${installed.tarball}"`);
  const files = globSync("node_modules/**", { cwd: folder.path }).map((path) => statSync(folder.file(path)));
  expect(files.reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0)).toBeLessThan(60e6);

  const command = (...args: readonly string[]) =>
    runCli(args, { folder: folder.path, program: folder.file("node_modules/millrace/bin/millrace.js") });
  const made = await command("init", "--source", source.url);
  expect(made).toMatchObject({ exitCode: 0, stderr: expect.stringContaining("not installed: @duckdb/node-api") });
  expect(readFileSync(folder.file("millrace.yaml"), "utf8")).toContain("path: ./replica.sqlite");
  expect(await command("run", "--once")).toMatchObject({ exitCode: 0 });
  expect((await command("query", 'select count(*) n from "public.orders"', "--json")).stdout).toContain("1");

  appendFileSync(folder.file("millrace.yaml"), `\ntelemetry: { otlp: { endpoint: "http://127.0.0.1:9" } }\n`);
  const config = readFileSync(folder.file("millrace.yaml"), "utf8");
  writeFileSync(
    folder.file("millrace.yaml"),
    config.replace(/^sinks:$/m, "sinks:\n  lake: { kind: ducklake, catalog: sqlite:./l.db, data: s3://bucket/lake }"),
  );
  const refused = await command("check", "--json");
  const findings: readonly { id: string; part: string; fix: string }[] = JSON.parse(refused.stdout).findings;
  const lacks = findings.filter(({ id }) => id === "MR1011");
  expect(lacks.map(({ part }) => part).toSorted()).toEqual(["lake", "telemetry"]);
  const started = await command("run", "--once");
  expect(started).toMatchObject({ exitCode: 2, stderr: expect.stringContaining("error MR1011: telemetry.otlp: not") });
  for (const { fix } of lacks) npm(`${/`(npm install [^`]+)`/.exec(fix)?.[1]} --prefer-offline --no-audit --omit=dev`);
  const after: typeof findings = JSON.parse((await command("check", "--json")).stdout).findings;
  expect(after.filter(({ id }) => id === "MR1011")).toEqual([]);
});

test("its SBOM lists what it runs on, in the versions that are installed with it, and nothing that only builds it", () => {
  const { bomFormat, metadata, components } = JSON.parse(
    readFileSync(join(installed.folder, "dist/sbom.cdx.json"), "utf8"),
  );
  expect({ bomFormat, name: metadata.component.name }).toEqual({ bomFormat: "CycloneDX", name: "millrace" });
  const listed = new Map<string, string>(
    components.map(({ name, version }: { name: string; version: string }) => [name, version]),
  );
  const { dependencies } = JSON.parse(readFileSync(join(installed.folder, "package.json"), "utf8"));
  expect([...listed]).toEqual(expect.arrayContaining(Object.entries(dependencies)));
  for (const builder of ["vitest", "typescript", "playwright-core"]) expect(listed.has(builder)).toBe(false);
});

test("a program imports its library, and nothing else of it", async () => {
  const importer = join(installed.folder, "../importer.mjs");
  writeFileSync(
    importer,
    `console.log(Object.keys(await import("millrace")).join());
     await import("millrace/dist/main.js").catch((error) => console.log(error.code));`,
  );
  const { stdout } = await runCli([], { folder: prefix.path, program: importer });
  expect(stdout).toBe(
    "MillraceError,changesOf,checkpointOf,checkpointText,follow,run\nERR_PACKAGE_PATH_NOT_EXPORTED\n",
  );
});

test("functions of rules find their types in it", async () => {
  using folder = temporaryFolder();
  mkdirSync(folder.file("node_modules"));
  symlinkSync(installed.folder, folder.file("node_modules/millrace"));
  const text = (result: string) =>
    `import type { Computed, Row } from "millrace/rules";\nexport const f: Computed = (row: Row) => ${result};\n`;
  const compiler = join(import.meta.dirname, "../../node_modules/typescript/bin/tsc");
  const options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "esnext", "--types", ""];
  const check = (file: string) =>
    runCli([...options, file], { folder: folder.path, program: compiler, timeoutMs: 120_000 });
  writeFileSync(folder.file("right.mts"), text('row["a"] === null ? null : 1n'));
  expect(await check("right.mts")).toMatchObject({ exitCode: 0 });
  writeFileSync(folder.file("wrong.mts"), text("() => row"));
  const wrong = await check("wrong.mts");
  expect({ failed: wrong.exitCode !== 0, stdout: wrong.stdout }).toEqual({
    failed: true,
    stdout: expect.stringContaining("wrong.mts(2"),
  });
});

test("an older Node is told in one line", async () => {
  const older = 'Object.defineProperty(process,"versions",{value:{node:"20.20.2"}});';
  const preload = `data:text/javascript,${encodeURIComponent(older)}`;
  const { exitCode, stderr, stdout } = await runCli(["version"], {
    folder: prefix.path,
    program: installed.program,
    environment: { NODE_OPTIONS: `--import=${preload}` },
  });
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
  expect(stderr).toMatch(/^millrace needs Node 24 or newer; .+\n$/);
});

test("its commands start in a few times what Node itself takes", () => {
  using folder = temporaryFolder();
  writeFileSync(
    folder.file("millrace.yaml"),
    "name: shop\nsource: { kind: postgres, url: postgres://h/d }\nsinks: { w: { kind: duckdb, path: w.duckdb } }\n",
  );
  // Of processor time: the machine may have other work. The quickest of several is that of a warm cache.
  const millisecondsOf = (...args: readonly string[]): number => {
    const timed = `TIMEFORMAT='%U %S'; time "$@" > /dev/null 2>&1`;
    const run = () => {
      const { stderr } = spawnSync("bash", ["-c", timed, "bash", process.execPath, ...args], { cwd: folder.path });
      const [user = 0, system = 0] = String(stderr).trim().split(" ").map(Number);
      return 1000 * (user + system);
    };
    return Math.min(...Array.from({ length: 5 }, run));
  };
  const node = Math.max(10, millisecondsOf("-e", "0"));
  // On a quiet machine node takes 25 to 40 ms, version may take 150, and status 400.
  expect(millisecondsOf(installed.program, "version") / node).toBeLessThan(5);
  expect(millisecondsOf(installed.program, "status") / node).toBeLessThan(16);
});

test("what Node compiles is kept in a folder of the user that nobody else can enter, and in no other", async () => {
  using home = temporaryFolder();
  const environment = { HOME: home.path, NODE_COMPILE_CACHE: "" };
  const start = () => runCli(["version"], { folder: home.path, program: installed.program, environment });
  expect(await start()).toMatchObject({ exitCode: 0, stderr: "" });
  const kept = home.file(".cache/millrace");
  expect(statSync(kept).mode & 0o777).toBe(0o700);
  expect(readdirSync(kept)).toHaveLength(1);

  using open = temporaryFolder();
  mkdirSync(open.file(".cache/millrace"), { recursive: true });
  chmodSync(open.file(".cache/millrace"), 0o777);
  environment.HOME = open.path;
  expect(await start()).toMatchObject({ exitCode: 0, stderr: "" });
  expect(readdirSync(open.file(".cache/millrace"))).toEqual([]);

  environment.HOME = open.file("missing");
  expect(await start()).toMatchObject({ exitCode: 0, stderr: "" });
});

test.for([
  ["SIGTERM", "npx", "millrace", "run"],
  ["SIGTERM", "npm", "run", "daemon"],
  ["SIGKILL", "npx", "millrace", "run"],
] as const)(
  "a daemon that npm has started stops in order when npm ends: %s %s %s",
  async ([signal, program, ...args]) => {
    await using source = await freshDatabase();
    await source.query("create table orders (id int primary key)");
    using folder = temporaryFolder();
    linkCommand(folder);
    writeFileSync(folder.file("package.json"), '{ "scripts": { "daemon": "millrace run" } }');
    await run(folder.path, "init", "--source", source.url, "--sink", "./w.duckdb");
    appendFileSync(folder.file("millrace.yaml"), `\nadmin: { listen: "127.0.0.1:${await freePort()}" }\n`);
    const npm = spawn(program, args, { cwd: folder.path, env: ownEnvironment(), stdio: ["ignore", "ignore", "pipe"] });
    let said = "";
    npm.stderr.on("data", (text) => (said += String(text)));
    const pid = await eventually(async () => {
      const { stdout } = await run(folder.path, "status", "--json");
      return JSON.parse(stdout).daemon?.pid ?? false;
    });
    using _ended = { [Symbol.dispose]: () => isRunning(pid) && process.kill(pid, "SIGKILL") };
    const tail = spawn("npx", ["millrace", "tail"], {
      cwd: folder.path,
      env: ownEnvironment(),
      stdio: ["ignore", "pipe", "ignore"],
    });
    let printed = "";
    tail.stdout.on("data", (text) => (printed += String(text)));
    await eventually(async () => {
      await source.query("insert into orders select coalesce(max(id), 0) + 1 from orders");
      expect(printed).toContain('"op":"c"');
    });
    tail.kill(signal);
    const slots = "select slot_name from pg_replication_slots where temporary and database = current_database()";
    await eventually(async () => expect((await source.query(slots)).rows).toEqual([]));
    npm.kill(signal);
    await eventually(() => expect(isRunning(pid)).toBe(false));
    expect(said).toContain('"msg":"millrace has stopped"');
    const { exitCode, stderr } = await run(folder.path, "run", "--once");
    expect(exitCode).toBe(0);
    expect(stderr).not.toMatch(/was not stopped|another daemon/);
  },
);

const PASSWORD = "pw-of-newcomer";

/** A database with three tables, the URL of a login that does not exist yet, and an administrator's. */
async function newcomersSource(kind: "postgres" | MysqlFlavour) {
  const user = `newcomer_${randomUUID().slice(0, 8)}`;
  const postgres = kind === "postgres" ? await freshDatabase() : null;
  const mysql = kind === "postgres" ? null : await freshMysqlDatabase(mysqlUrl(kind));
  const name = postgres?.name ?? mysql?.name ?? "";
  const query = async (sql: string) => void (await (postgres?.query(sql) ?? mysql?.connection.query(sql)));
  for (const sql of [
    "create table people (id int primary key, name varchar(20))",
    "insert into people values (1, 'ada'), (2, 'bob')",
    "create table nokey (n int)",
    "create table a_table (id int primary key)",
  ])
    await query(sql);
  const administrator = postgres?.url ?? mysqlUrl(kind === "mariadb" ? "mariadb" : "mysql");
  const url = new URL(administrator);
  url.pathname = `/${name}`;
  url.username = user;
  url.password = PASSWORD;
  return {
    url: url.href,
    administrator,
    schema: postgres === null ? name : "public",
    async [Symbol.asyncDispose]() {
      const roles = [
        `select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = 'millrace_${name}'`,
        `drop owned by "${user}"; drop role "${user}"`,
      ];
      for (const sql of postgres === null ? [`drop user if exists '${user}'@'%'`] : roles) await query(sql);
      await (postgres ?? mysql)?.[Symbol.asyncDispose]();
    },
  };
}

test.each(["postgres", ...mysqlFlavours] as const)(
  "%s: `npx millrace up` leads from an empty folder to the first rows within a minute, and stays the daemon",
  async (kind) => {
    await using source = await newcomersSource(kind);
    using folder = temporaryFolder();
    linkCommand(folder);
    const start = (...args: readonly string[]) =>
      spawn("npx", ["millrace", "up", ...args], {
        cwd: folder.path,
        env: ownEnvironment(),
        stdio: ["ignore", "pipe", "pipe"],
      });
    const shown = async (...args: readonly string[]) => {
      const startedMs = performance.now();
      const npx = start(...args);
      let said = "";
      for (const stream of [npx.stdout, npx.stderr]) stream.on("data", (text) => (said += String(text)));
      await eventually(() => expect(said).toContain("following every change"), { withinMs: 60_000 });
      const { pid } = JSON.parse((await run(folder.path, "status", "--json")).stdout).daemon;
      const stop = async () => {
        const closed = once(npx, "close");
        process.kill(pid, "SIGINT");
        await closed;
        return said;
      };
      return { said, pid, seconds: (performance.now() - startedMs) / 1000, stop };
    };

    // Of a file with the name of a schema, which MySQL's is the database's, DuckDB wants longer names.
    const sink = kind === "mariadb" ? ["--sink", `./${source.schema}.duckdb`] : [];
    const first = await shown(source.url, "--admin-url", source.administrator, ...sink);
    expect(first.said).toMatch(/1 +│ ada/);
    expect(first.said).toContain(": no rows");
    expect(first.said).toMatch(/no usable key: \S+nokey/);
    expect(readFileSync(`/proc/${first.pid}/cmdline`, "utf8")).toMatch(/^millrace up\0*$/);
    const [, query = ""] = /(npx millrace query .+)/.exec(first.said) ?? [];
    const asked = spawnSync("bash", ["-c", query], { cwd: folder.path, env: ownEnvironment(), encoding: "utf8" });
    expect(`${asked.stdout}${asked.stderr}`).toMatch(/1 +│ ada/);
    const [, dashboard = ""] = /dashboard: (\S+)/.exec(first.said) ?? [];
    expect((await fetch(dashboard)).status).toBe(200);
    const said = await first.stop();
    expect(said).toContain("`npx millrace run` goes on from here");
    expect(await run(folder.path, "run", "--once")).toMatchObject({ exitCode: 0 });

    const config = readFileSync(folder.file("millrace.yaml"), "utf8");
    expect(said + config).not.toContain(PASSWORD);
    const masked = `\ntables: { "${source.schema}.people": { columns: { name: { mask: redact } } } }\n`;
    writeFileSync(folder.file("millrace.yaml"), config + masked);
    const second = await shown(source.url);
    expect(second.said).toMatch(/1 +│/);
    expect(second.said).not.toContain("ada");
    await second.stop();
    for (const [change, why] of [
      [(url: URL) => (url.pathname = "/another"), "follows another source"],
      [(url: URL) => (url.password = "pw-of-another"), "has another password"],
    ] as const) {
      const other = new URL(source.url);
      change(other);
      const refused = await run(folder.path, "up", other.href);
      expect(refused).toMatchObject({ exitCode: 4, stderr: expect.stringContaining(why) });
      expect(refused.stderr).not.toContain("pw-of");
    }
  },
);

test("every command works from it", async () => {
  await using source = await freshDatabase();
  await using replica = await freshDatabase();
  using folder = temporaryFolder();
  await source.query("create table orders (id int primary key); insert into orders select generate_series(1, 30)");
  const tried = new Set<string>();
  const done = async (...args: readonly [string, ...string[]]): Promise<string> => {
    tried.add(args[0]);
    const { exitCode, stdout, stderr } = await run(folder.path, ...args);
    expect({ args, exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({
      args,
      exitCode: 0,
      stderr: "",
    });
    return stdout;
  };
  expect(await done("version")).toBe(`${JSON.parse(readFileSync("package.json", "utf8")).version}\n`);
  expect(await done("explain", "MR1203")).toMatch(/^MR1203: /);
  expect(await done("completion", "bash")).toContain("millrace");
  await done("init", "--source", source.url, "--sink", "./w.duckdb", "--sink", replica.url);
  const port = await freePort();
  appendFileSync(folder.file("millrace.yaml"), `\nadmin: { listen: "127.0.0.1:${port}" }\n`);
  await done("check");
  await done("grants");
  await done("rules", "try", "public.orders", "--limit", "3");
  expect(await done("documents", "plan")).toContain("there are no documents");
  writeFileSync(folder.file("c.json"), '{"connector.class": "PostgresConnector", "database.hostname": "db"}');
  expect(await done("import", "debezium", "c.json")).toContain("kind: postgres");
  await done("run", "--once");
  {
    const daemon = spawn(process.execPath, [installed.program, "run"], { cwd: folder.path, stdio: "ignore" });
    using _ended = { [Symbol.dispose]: () => daemon.kill("SIGKILL") };
    await eventually(async () => expect((await run(folder.path, "status", "--exit-code")).exitCode).toBe(0));
    await source.query("insert into orders values (31)");
    await done("wait", "--timeout", "60s");
    await done("pause", "--sink", "replica");
    await done("resume", "--sink", "replica");
    await done("snapshot", "list");
    expect(await done("audit", "list")).toContain("resume");
    const page = await fetch(`http://127.0.0.1:${port}/`);
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining("<title>Millrace</title>")]);
    await done("reconcile");
    let hasCome = false;
    const tailing = done("tail", "--limit", "1").finally(() => (hasCome = true));
    await eventually(async () => {
      await source.query("update orders set id = id where id = 31");
      return hasCome;
    });
    expect(await tailing).toContain("orders");
    daemon.kill("SIGTERM");
    expect(await once(daemon, "exit")).toEqual([0, null]);
  }
  expect(await done("query", "select count(*) as n from public.orders", "--json")).toContain("31");
  await done("status");
  await done("top", "--once");
  await done("offsets", "show");
  await done("dlq", "list");
  await done("schema", "list");
  await done("report", "list");
  await done("proofs", "list");
  await done("recover");
  expect(await done("verify", "--source", source.url, "--target", replica.url)).toContain("orders");
  expect(await done("drill", "--minutes", "0.01", "--yes")).toContain("kill");
  await done("teardown", "--yes");
  const { stdout } = await run(folder.path, "help");
  const commands = [...stdout.slice(stdout.indexOf("Commands:")).matchAll(/^ {2}(\w+)/gm)].map(([, name]) => name);
  // `up` has a test of its own.
  expect(new Set(commands)).toEqual(new Set([...tried, "help", "up"]));
});
