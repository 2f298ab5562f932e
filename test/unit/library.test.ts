/** What programs may rely on: the entry's types, and what it loads. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Transaction } from "../../src/library/api.ts";
import { Handover } from "../../src/library/handover.ts";
import { parseExact, valueOf } from "../../src/library/changes.ts";
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import { CELL_BINARY, CELL_TEXT } from "../../src/core/model/tuple.ts";
import type { ColumnType } from "../../src/core/model/types.ts";

const root = join(import.meta.dirname, "../..");
/** Where the text of a source begins in a compiled file. */
const SOURCE = /^\/\/ (?:#region )?(connectors\/[^/]+|src\/[^/]+)\/.+\.ts$/gm;
const built = (path: string): string => readFileSync(join(root, "dist/src/library", path), "utf8");

// What is there may be extended. `npx vitest run test/unit/library.test.ts -u` writes the file again.
test("the types of the package's entry", async () => {
  const report = ["millrace.d.ts", "api.d.ts"].map((path) => `// ${path}\n${built(path)}`).join("\n");
  await expect(report).toMatchFileSnapshot("../golden/library-types.txt");
});

test("a program that follows Postgres loads the driver of Postgres alone", () => {
  const program = `
    import { registerHooks } from "node:module";
    const loaded = new Set();
    registerHooks({ load(url, context, next) { loaded.add(url); return next(url, context); } });
    const { follow } = await import("millrace");
    const nowhere = "postgres://nobody@127.0.0.1:1/none";
    const following = follow({ source: nowhere, signal: AbortSignal.timeout(1500) });
    for await (const transaction of following) void transaction;
    for (const url of Object.keys(process.getBuiltinModule("module").createRequire(import.meta.url).cache)) loaded.add(url);
    process.stdout.write(JSON.stringify([...loaded]));`;
  const out = execFileSync(process.execPath, ["--input-type=module", "--eval", program], {
    cwd: root,
    encoding: "utf8",
  });
  const loaded: string[] = JSON.parse(out);
  const packages = new Set(loaded.flatMap((url) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ?? []));
  const own = loaded.filter((url) => /\/dist\/[^/]+\.js$/.test(url) && !url.includes("node_modules"));
  const sources = own.flatMap((url) => [...readFileSync(new URL(url), "utf8").matchAll(SOURCE)]);
  const folders = new Set(sources.map(([, folder]) => folder!));
  const foreign = [...packages].filter(
    (name) =>
      !/^(pg|pg-.*|postgres-.*|pgpass|split2|xtend|zod|yaml|eventemitter2|fastest-levenshtein|croner)$/.test(name),
  );
  expect(foreign).toEqual([]);
  expect([...folders].filter((folder) => folder.startsWith("connectors/")).toSorted()).toEqual([
    "connectors/kit",
    "connectors/postgres",
  ]);
  expect(folders.has("src/ops")).toBe(false);
  expect(folders.has("src/reconcile")).toBe(false);
});

const text = (type: ColumnType, value: string) => {
  const bytes = Buffer.from(value);
  return valueOf(type, CELL_TEXT, bytes, 0, bytes.length);
};

test("no number loses digits", () => {
  expect(text({ kind: "int", bits: 64, signed: true }, "5")).toBe(5n);
  expect(text({ kind: "int", bits: 64, signed: false }, "18446744073709551615")).toBe(18446744073709551615n);
  expect(text({ kind: "int", bits: 32, signed: false }, "4294967295")).toBe(4294967295);
  expect(text({ kind: "decimal", precision: null, scale: null }, "1.10")).toBe("1.10");
  expect(text({ kind: "array", of: { kind: "int", bits: 64, signed: true } }, "{1,NULL,9007199254740993}")).toEqual([
    1n,
    null,
    9007199254740993n,
  ]);
  expect(
    parseExact(
      '{"a":9007199254740993,"b":0.1,"c":0.10000000000000000,"d":0.12345678901234567890123,"e":1e400,"g":1e2,"f":[1.0,12345678901234567890]}',
    ),
  ).toEqual({
    a: 9007199254740993n,
    b: 0.1,
    c: 0.1,
    d: "0.12345678901234567890123",
    e: "1e400",
    g: 100,
    f: [1, 12345678901234567890n],
  });
});

test("a float in binary is the number that its text is", () => {
  const type = { kind: "float", bits: 64 } as const;
  const bytes = Buffer.alloc(8);
  for (const value of [0.1, -0, 5e-324, 1.7976931348623157e308, 1 / 3]) {
    bytes.writeDoubleBE(value);
    expect(valueOf(type, CELL_BINARY, bytes, 0, 8)).toBe(value);
  }
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    bytes.writeDoubleBE(value);
    expect(valueOf(type, CELL_BINARY, bytes, 0, 8)).toBe(String(value));
  }
  bytes.writeFloatBE(0.1);
  expect(valueOf({ kind: "float", bits: 32 }, CELL_BINARY, bytes, 0, 4)).toBe(0.1);
});

test("transactions that are done at once are stored at once", async () => {
  const handover = new Handover();
  const kept: Checkpoint[] = [];
  handover.keepIn({ load: async () => null, keep: async (checkpoint) => void kept.push(checkpoint) });
  const { signal } = new AbortController();
  const bond = { state: "a", session: "1", batch: 1, obligation: 0, resets: [] };
  const checkpointAt = (index: number): Checkpoint => ({
    position: { epoch: 1, commit: 1n, index },
    tables: {},
    place: "",
    bond,
  });
  const facts = { isLast: true, isSnapshot: false, version: "1", commitTime: null, hasNext: true };
  const given: Transaction[] = [];
  for (let i = 0; i < 5; i++) {
    const asked = handover.take();
    await handover.give({ ...facts, make: () => [], checkpoint: checkpointAt(i), position: () => "" }, signal);
    given.push((await asked)!);
  }
  await Promise.all(given.slice(0, 4).map((one) => one.done()));
  expect(kept.map(({ position }) => position.index)).toEqual([3]);
  await given[4]!.done();
  expect(kept.map(({ position }) => position.index)).toEqual([3, 4]);
});
