/**
 * docs/quickstart.md, followed by its own commands: from an empty folder and the packed tarball to rows in the sinks.
 * @module-tag long
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Redis } from "ioredis";
import { expect, test } from "vitest";
import { ownEnvironment, packPackage } from "../support/run/package.ts";
import { type FreshDatabase, freshDatabase, redisUrl } from "../support/run/services.ts";
import { type TemporaryFolder, temporaryFolder } from "../support/run/temporary-folder.ts";
import { eventually } from "../support/run/waiting.ts";

const PASSWORD = "quick start";
/** Nothing else of the tests is in this database of the server. */
const CACHE = "11";

/** The code blocks of each section, in the language asked for. */
function blocks(section: string, language: "sh" | "sql"): readonly string[] {
  const text = readFileSync("docs/quickstart.md", "utf8");
  const from = text.indexOf(`\n## ${section}`);
  expect(from, section).toBeGreaterThan(0);
  const part = text.slice(from + 1).split("\n## ")[0]!;
  return [...part.matchAll(/```(\w+)\n([^]*?)```/g)].flatMap(([, name, code = ""]) =>
    name === language ? [code] : [],
  );
}

/** A newcomer's terminal, whose role, database and servers have other names than those on the page. */
class Terminal {
  readonly #folder: TemporaryFolder;
  readonly #names: readonly (readonly [string, string])[];
  readonly #environment: NodeJS.ProcessEnv;

  constructor(folder: TemporaryFolder, source: FreshDatabase, role: string) {
    const { host, port, pathname, username } = new URL(source.url);
    this.#folder = folder;
    this.#names = [
      ["millrace:…@127.0.0.1:5432/mydb", `${role}:${encodeURIComponent(PASSWORD)}@${host || port}${pathname}`],
      ["postgres:…@127.0.0.1:5432/mydb", `${username}@${host || port}${pathname}`],
      ["redis://127.0.0.1:6379", cacheUrl()],
      ["ROLE millrace", `ROLE ${role}`],
      ["TO millrace;", `TO ${role};`],
      ["'…'", `'${PASSWORD}'`],
    ];
    this.#environment = ownEnvironment();
  }

  inOwnNames(text: string): string {
    return this.#names.reduce((done, [written, own]) => done.replaceAll(written, own), text);
  }

  /** The variables that a line exports are those of the lines after it. */
  async run(commands: string): Promise<{ exitCode: number; output: string }> {
    const [, name, value] = /^export (\w+)='(.*)'$/m.exec(this.inOwnNames(commands)) ?? [];
    if (name !== undefined) this.#environment[name] = value;
    const child = this.start(commands);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text) => (output += String(text)));
    const [exitCode] = await once(child, "close");
    return { exitCode, output };
  }

  start(commands: string): ChildProcess {
    return spawn("bash", ["-e", "-o", "pipefail", "-c", this.inOwnNames(commands)], {
      cwd: this.#folder.path,
      env: this.#environment,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
  }
}

function cacheUrl(): string {
  const url = new URL(redisUrl());
  url.pathname = `/${CACHE}`;
  return url.href;
}

test("its commands lead from an empty folder to rows in the sinks, and back", async () => {
  await using source = await freshDatabase();
  await source.query(`create table customers (id int primary key, name text);
    create table orders (id int primary key, amount numeric);
    create table nokey (n int);
    insert into orders values (1, 12.50)`);
  const role = `quick_${source.name}`;
  const cache = new Redis(cacheUrl());
  using folder = temporaryFolder();
  await packPackage(folder.path);
  const terminal = new Terminal(folder, source, role);
  const done = async (commands: string): Promise<string> => {
    const { exitCode, output } = await terminal.run(commands);
    expect({ commands, exitCode, output: exitCode === 0 ? "" : output }).toMatchObject({ exitCode: 0, output: "" });
    return output;
  };
  const publication = `millrace_${source.name}`;
  try {
    for (const commands of blocks("0.", "sh")) await done(commands);
    const [up = ""] = blocks("In one command", "sh");
    const shortcut = terminal.start(up);
    let said = "";
    for (const stream of [shortcut.stdout, shortcut.stderr]) stream?.on("data", (text) => (said += String(text)));
    await eventually(() => expect(said).toContain("following every change"), { withinMs: 60_000 });
    expect(said).toMatch(/1 +│ 12\.50/);
    const shortcutEnds = once(shortcut, "close");
    process.kill(-shortcut.pid!, "SIGINT");
    await shortcutEnds;
    await done("npx millrace teardown --yes && rm -r millrace.yaml .millrace warehouse.duckdb*");
    await source.query(`drop publication if exists "${publication}"; drop owned by "${role}"; drop role "${role}"`);

    for (const statements of blocks("1.", "sql")) await source.query(terminal.inOwnNames(statements));
    for (const commands of blocks("2.", "sh")) expect(await done(commands)).toContain("no usable key: public.nokey");
    const [check = ""] = blocks("3.", "sh");
    const first = await terminal.run(check);
    expect(first.exitCode).toBe(1);
    const statement = /^ +(CREATE PUBLICATION .*;)$/m.exec(first.output)?.[1];
    await source.query(statement ?? `no statement: ${first.output}`);
    expect(await done(check)).toContain("ready to run");

    const [run = "", beside = ""] = blocks("4.", "sh");
    const daemon = terminal.start(run);
    const ended = once(daemon, "close");
    try {
      let hasShown = false;
      const shown = eventually(() => done(beside), { withinMs: 60_000 }).finally(() => (hasShown = true));
      await eventually(
        async () => {
          await source.query("update orders set amount = amount + 1 where id = 1");
          return hasShown;
        },
        { withinMs: 60_000, everyMs: 500 },
      );
      expect(await shown).toContain("all is well: 2 sinks follow");
      expect(await shown).toContain('"op":"u"');
      expect(await cache.hget("public:orders:1", "_millrace_version")).toMatch(/^\d+$/);
    } finally {
      process.kill(-daemon.pid!, "SIGTERM");
      await ended;
    }
    const [teardown = ""] = blocks("5.", "sh");
    const [plan = "", removal = ""] = teardown.trim().split("\n");
    expect((await terminal.run(plan)).exitCode).toBe(4);
    await done(removal);
    const { rowCount } = await source.query("select from pg_replication_slots where database = current_database()");
    expect(rowCount).toBe(0);
  } finally {
    await cache.flushdb();
    cache.disconnect();
    await source.query(
      `drop publication if exists "${publication}"; drop owned by "${role}"; drop role if exists "${role}"`,
    );
  }
});
