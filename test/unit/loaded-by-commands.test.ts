/** What a command beside a daemon loads: each file costs as much as it takes to find, read and link it. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openState } from "../../src/state/open.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const root = join(import.meta.dirname, "../..");
/** Prints what was loaded when the command ends. */
const RECORDING = `
  import { registerHooks } from "node:module";
  import { writeFileSync } from "node:fs";
  const loaded = new Set();
  registerHooks({ load(url, context, next) { loaded.add(url); return next(url, context); } });
  process.on("exit", () => writeFileSync("loaded.json", JSON.stringify([...loaded])));`;

test.each(["postgres", "mysql"])(
  "`status` of a %s source loads no driver, no server and no part of a daemon",
  async (kind) => {
    using folder = temporaryFolder();
    writeFileSync(folder.file("record.mjs"), RECORDING);
    writeFileSync(
      folder.file("millrace.yaml"),
      `name: shop\nsource: { kind: ${kind}, url: "${kind}://nobody@127.0.0.1:1/shop" }\nsinks: { cache: { kind: redis, url: "redis://127.0.0.1:1" } }\n`,
    );
    await (await openState({ url: `sqlite:${folder.file(".millrace/shop.db")}` })).close();
    const args = ["--import", folder.file("record.mjs"), join(root, "bin/millrace.js"), "status"];
    execFileSync(process.execPath, args, { cwd: folder.path, stdio: "ignore" });
    const loaded: readonly string[] = JSON.parse(readFileSync(folder.file("loaded.json"), "utf8"));
    const packages = new Set(loaded.flatMap((url) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ?? []));
    const unneeded = ["pg", "pg-logical-replication", "mysql2", "ioredis", "fastify", "prom-client", "undici"];
    expect(unneeded.filter((name) => packages.has(name))).toEqual([]);
    const sources = loaded
      .filter((url) => url.startsWith("file:") && url.includes("/dist/") && !url.includes("node_modules"))
      .flatMap((url) => [...readFileSync(new URL(url), "utf8").matchAll(/^\/\/ ((?:src|connectors)\/.+\.ts)$/gm)])
      .map(([, source]) => source!);
    expect(sources).toContain("src/cli/status/status.ts");
    expect(
      sources.filter((source) => /^src\/(runtime|state\/postgres|config\/daemon)|\/source\/source\.ts$/.test(source)),
    ).toEqual([]);
  },
);
