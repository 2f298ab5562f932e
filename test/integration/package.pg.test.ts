/**
 * The package as it is published: packed, installed with npm into an empty prefix, and run from there.
 * @module-tag heavy
 */
import { spawn } from "node:child_process";
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
import { installPackage, type InstalledPackage, ownEnvironment } from "../support/run/package.ts";
import { isRunning } from "../support/kafka/shared-tables.ts";
import { freshDatabase } from "../support/run/services.ts";
import { freePort } from "../../scripts/services/processes/port.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";

const prefix = temporaryFolder();
let installed: InstalledPackage;

beforeAll(async () => {
  installed = await installPackage(prefix.path);
});
afterAll(() => prefix[Symbol.dispose]());

const run = (folder: string, ...args: readonly string[]): Promise<CliResult> =>
  runCli(args, { folder, program: installed.program });

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
    /^(LICENSE|README\.md|package\.json|millrace\.schema\.json|docs\/errors\.md|bin\/.+\.js|dist\/.+\.js|dist\/dashboard\.html|dist\/sbom\.cdx\.json|migrations\/.+\.sql)$/;
  expect(own.filter((path) => !kinds.test(path))).toEqual([]);
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

test("it is a command, not a module", async () => {
  const importer = join(installed.folder, "../importer.mjs");
  writeFileSync(importer, 'await import("millrace").catch((error) => console.log(error.code));');
  const { stdout } = await runCli([], { folder: prefix.path, program: importer });
  expect(stdout).toBe("ERR_PACKAGE_PATH_NOT_EXPORTED\n");
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
  ["npx", "millrace", "run"],
  ["npm", "run", "daemon"],
] as const)("a daemon that npm has started stops in order when npm is told to: %s %s", async ([program, ...args]) => {
  await using source = await freshDatabase();
  await source.query("create table orders (id int primary key)");
  using folder = temporaryFolder();
  const bin = folder.file("node_modules/.bin");
  mkdirSync(bin, { recursive: true });
  symlinkSync(join(installed.folder, "bin/millrace.js"), join(bin, "millrace"));
  writeFileSync(folder.file("package.json"), '{ "scripts": { "daemon": "millrace run" } }');
  await run(folder.path, "init", "--source", source.url, "--sink", "./w.duckdb");
  const npm = spawn(program, args, { cwd: folder.path, env: ownEnvironment(), stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  npm.stderr.on("data", (text) => (said += String(text)));
  await eventually(async () => expect((await run(folder.path, "status", "--exit-code")).exitCode).toBe(0));
  const { pid } = JSON.parse((await run(folder.path, "status", "--json")).stdout).daemon;
  using _ended = { [Symbol.dispose]: () => isRunning(pid) && process.kill(pid, "SIGKILL") };
  npm.kill("SIGTERM");
  await eventually(() => expect(isRunning(pid)).toBe(false));
  expect(said).toContain('"msg":"millrace has stopped"');
  const { exitCode, stderr } = await run(folder.path, "run", "--once");
  expect(exitCode).toBe(0);
  expect(stderr).not.toMatch(/was not stopped|another daemon/);
});

test("every command works from it", async () => {
  await using source = await freshDatabase();
  await using replica = await freshDatabase();
  using folder = temporaryFolder();
  await source.query("create table orders (id int primary key); insert into orders select generate_series(1, 30)");
  const tried = new Set<string>();
  const done = async (...args: readonly [string, ...string[]]): Promise<string> => {
    tried.add(args[0]);
    const { exitCode, stdout, stderr } = await run(folder.path, ...args);
    expect({ args, exitCode, stderr: exitCode === 0 ? "" : stderr }).toEqual({ args, exitCode: 0, stderr: "" });
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
  await done("recover");
  await done("teardown", "--yes");
  const { stdout } = await run(folder.path, "help");
  const commands = [...stdout.slice(stdout.indexOf("Commands:")).matchAll(/^ {2}(\w+)/gm)].map(([, name]) => name);
  expect(new Set(commands)).toEqual(new Set([...tried, "help"]));
});
