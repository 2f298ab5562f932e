/** A configuration whose tables are shared among several daemons. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { connectors } from "../../connectors/registry.ts";
import type { Config } from "../../src/config/config.ts";
import { loadConfig } from "../../src/config/load.ts";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { divisionText, shareOf } from "../../src/core/sharing/share.ts";
import { runCli } from "../support/daemon/cli.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const BROKER = "127.0.0.1:1";

interface Given {
  readonly name?: string;
  readonly shares?: number;
  readonly sinks?: object;
  readonly state?: string;
  readonly listen?: string;
  readonly tables?: object;
}

function textOf({ name = "shop", shares = 4, sinks = {}, state, listen, tables }: Given): string {
  const source = { kind: "kafka", brokers: [BROKER], from: "capture", shares };
  const admin = listen === undefined ? {} : { admin: { listen } };
  return JSON.stringify({ name, source, sinks, ...(state === undefined ? {} : { state }), ...admin, tables });
}

async function load(given: Given, share: number | null): Promise<Config> {
  using folder = temporaryFolder();
  writeFileSync(folder.file("millrace.yaml"), textOf(given), { mode: 0o600 });
  const options = { connectors, environment: {}, secrets: new Secrets(), share };
  const config = await loadConfig(folder.file("millrace.yaml"), options);
  return { ...config, state: { ...config.state, url: config.state.url.replace(folder.path, "") } };
}

const CACHE = { cache: { kind: "redis", url: "redis://127.0.0.1" } };
const WAREHOUSE = { warehouse: { kind: "postgres", url: "postgres://127.0.0.1/w", schema: "all" } };

test("each share is a daemon with its own name, state and address", async () => {
  const whole = await load({ sinks: CACHE }, null);
  expect(whole).toMatchObject({ name: "shop", shares: { number: null, division: { count: 4, by: "id" } } });
  const second = await load({ sinks: CACHE, listen: "127.0.0.1:9000" }, 2);
  expect(second).toMatchObject({
    name: "shop-2",
    state: { url: "sqlite:/.millrace/shop-2.db" },
    shares: { name: "shop" },
  });
  expect(second.admin.listen).toEqual({ host: "127.0.0.1", port: 9001 });
  expect((await load({ state: "sqlite:a.b/own" }, 3)).state.url).toBe("sqlite:/a.b/own-3");
  expect((await load({ state: "postgres://127.0.0.1/s" }, 3)).state.url).toBe(
    "postgres://127.0.0.1/s#/.millrace/shop-3.db",
  );
});

test("where a sink puts several schemas into one, tables are divided by their names alone", async () => {
  const { shares } = await load({ sinks: { ...CACHE, ...WAREHOUSE } }, null);
  expect(shares?.division).toEqual({ count: 4, by: "name" });
});

test.each([
  [{ sinks: { lake: { kind: "duckdb", path: "x" } } }, /sinks\.lake: a duckdb sink is written by one daemon/],
  [{ sinks: { out: { kind: "kafka", brokers: [BROKER] } } }, /sinks\.out: a kafka sink is written by one daemon/],
  [{ sinks: { out: { kind: "files", path: "x" } } }, /sinks\.out: a files sink is written by one daemon/],
  [{ name: "a".repeat(39) }, /name: with 4 shares expected at most 38 characters/],
  [{ listen: "127.0.0.1:65533" }, /admin\.listen: with 4 shares expected a port up to 65532/],
  [{ shares: 65 }, /source\.shares: .*64/],
])("%j does not go together with shares", async (given, message) => {
  await expect(load(given, null)).rejects.toThrow(message);
});

test.each([
  [["tail"], "choose a share: --share with 1 to 4"],
  [["top"], "choose a share"],
  [["offsets", "export", "x"], "choose a share"],
  [["offsets", "import", "x"], "choose a share"],
  [["dlq", "show", "1"], "choose a share"],
  [["dlq", "replay", "1"], "choose a share"],
  [["dlq", "discard", "1"], "choose a share"],
  [["snapshot", "cancel", "1"], "choose a share"],
  [["status", "--share", "5"], "the shares are 1 to 4"],
  [["status", "--share", "0"], "expected the number of a share"],
])("%j has to name one of the shares", async (args, message) => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("millrace.yaml"), textOf({ sinks: CACHE }), { mode: 0o600 });
  const { exitCode, stderr } = await runCli(args, { folder: folder.path });
  expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringContaining(message) });
});

test("what is wrong with all shares is said once, what differs for each", async () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("millrace.yaml"), textOf({ sinks: CACHE }), { mode: 0o600 });
  const { exitCode, stdout } = await runCli(["wait", "--timeout", "0s", "--json"], { folder: folder.path });
  const missing = ["no daemon is running"];
  expect({ exitCode, ...JSON.parse(stdout) }).toEqual({
    exitCode: 5,
    name: "shop",
    shares: [1, 2, 3, 4].map((share) => ({ share, reached: false, missing })),
  });
  const wrong = await runCli(["pause", "--sink", "none", "--json"], { folder: folder.path });
  expect(wrong.exitCode).toBe(2);
  expect(JSON.parse(wrong.stdout)).toEqual({ error: expect.objectContaining({ code: "MR1110" }) });
});

test("tables that `into` puts into one target are in one share", async () => {
  const into = { "tenant_*.*": { into: "shared.$2", add: { tenant: "$1" } }, "public.*_old": { into: "public.$1" } };
  const { division } = (await load({ sinks: CACHE, tables: into }, null)).shares!;
  const names = ["users", "orders", "lines", "visits"];
  for (const table of names) {
    const own = shareOf({ schema: "tenant_a", table }, division);
    expect(shareOf({ schema: "tenant_b", table }, division)).toBe(own);
    expect(shareOf({ schema: "public", table: `${table}_old` }, division)).toBe(
      shareOf({ schema: "public", table }, division),
    );
  }
  // Other names are another division; columns alone are not.
  const text = async (tables: object) => divisionText((await load({ sinks: CACHE, tables }, null)).shares!.division);
  expect(await text({ "a.*": { into: "b.$1" } })).not.toBe(await text({ "a.*": { into: "c.$1" } }));
  expect(await text({ "a.*": { add: { of: "a" } } })).toBe("4");
});

test("--share without shares is refused", async () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("millrace.yaml"), textOf({}).replace(',"shares":4', ""), { mode: 0o600 });
  const { exitCode, stderr } = await runCli(["status", "--share", "1"], { folder: folder.path });
  expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringContaining("source.shares") });
});
