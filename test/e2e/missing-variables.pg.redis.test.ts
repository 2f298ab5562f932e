/**
 * A shell without the variables of another sink: each command needs what it uses itself, and beside a daemon nothing.
 * @module-tag heavy
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { type CommandResult, Installation } from "../support/daemon/daemon-process.ts";
import { PROGRAM } from "../support/run/program.ts";
import { freshDatabase, freshKeyPrefix, redisUrl } from "../support/run/services.ts";
import { eventually } from "../support/run/waiting.ts";

const DONE = 0;
const REFUSED = 4;

test("a missing variable of another sink stops no command", async () => {
  await using source = await freshDatabase();
  await source.query("create table t (id int primary key, v text); insert into t values (1, 'a')");
  await using keys = freshKeyPrefix();
  await using installation = new Installation({
    name: source.name,
    source: { kind: "postgres", url: "${SOURCE_URL}" },
    sinks: {
      warehouse: { kind: "duckdb", path: "./w.duckdb" },
      cache: { kind: "redis", url: "${CACHE_URL}", prefix: keys.prefix },
    },
    notify: { webhook: "${WEBHOOK_URL}" },
  });
  const all = { SOURCE_URL: source.url, CACHE_URL: redisUrl(), WEBHOOK_URL: "http://127.0.0.1:9/" };
  const ran = async (environment: Readonly<Record<string, string>>, ...args: readonly string[]) =>
    await installation.runProgram(PROGRAM, environment, ...args).ended;
  const said = ({ exitCode, stdout, stderr }: CommandResult): string => `${exitCode}\n${stdout}\n${stderr}`;

  const daemon = installation.run(all);
  await daemon.streaming();
  await eventually(async () => (await installation.ask<{ reached: boolean }>("POST", "/api/v1/wait", {}))?.reached);
  const queried = await ran({}, "query", "--json", "select v from public.t");
  expect(JSON.parse(queried.stdout)).toMatchObject({ rows: [{ v: "a" }] });
  const file = join(installation.folder, "offsets.json");
  expect((await ran({}, "offsets", "export", file)).exitCode).toBe(DONE);
  // What can't be done beside it says so, before it asks for anything.
  for (const args of [
    ["teardown", "--yes"],
    ["recover", "--yes"],
    ["offsets", "reset", "--to", "latest", "--yes"],
  ])
    expect(said(await ran({}, ...args)), args.join(" ")).toMatch(/^4\n[^]*MR1213/);
  await daemon.stop();
  await source.query("insert into t values (2, 'b')");

  const own = { SOURCE_URL: source.url };
  for (const [expected, ...args] of [
    [DONE, "query", "select v from public.t"],
    [DONE, "tail", "--from", "earliest", "--limit", "1"],
    [REFUSED, "offsets", "reset", "--to", "latest", "--sink", "warehouse"],
    [REFUSED, "offsets", "import", file],
    [REFUSED, "recover", "--sink", "warehouse"],
    [DONE, "pause", "--sink", "warehouse"],
    [DONE, "pause", "--sink", "warehouse", "--tables", "public.t"],
    [DONE, "resume", "--sink", "warehouse", "--tables", "public.t"],
    [DONE, "resume"],
    [DONE, "snapshot", "start", "--tables", "public.t", "--sink", "warehouse"],
    [REFUSED, "teardown"],
  ] as const) {
    const result = await ran(own, ...args);
    expect(result.exitCode, `${args.join(" ")}: ${said(result)}`).toBe(expected);
  }
  // A sink that the command works on itself is needed.
  expect(said(await ran(own, "offsets", "reset", "--to", "latest", "--sink", "cache"))).toMatch(/MR1007[^]*CACHE_URL/);
  expect(said(await ran(own, "teardown", "--sink-metadata"))).toMatch(/MR1007[^]*CACHE_URL/);
  expect((await ran(own, "teardown", "--yes")).exitCode).toBe(DONE);
});
