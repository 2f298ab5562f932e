/**
 * The tree as a newcomer finds it: no imports in a circle, few packages at a command's start, and streamed results read
 * in one way.
 */
import { globSync, readFileSync } from "node:fs";
import { dirname, join, sep } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");
const files = globSync("{src,connectors}/**/*.{ts,tsx}", { cwd: root }).map((file) => file.split(sep).join("/"));
const texts = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));

const IMPORT = /^\s*(?:import|export)\b[^"';]*?\bfrom\s*["'](\.[^"']+)["']|^\s*import\s*["'](\.[^"']+)["']/gm;

/** What a file loads when it is imported: no types. */
const LOADED = /^\s*(?:import|export)\b(?!\s+type\b)[^"';]*?\bfrom\s*["']([^"']+)["']/gm;

test("no file is imported by what it imports, types included", () => {
  expect(circles(new Map(files.map((file) => [file, importsOf(file)])))).toEqual([]);
});

test("streamed results of DuckDB are read whole, or fail", () => {
  const streaming = globSync("{src,connectors,test}/**/*.ts", { cwd: root })
    .map((file) => [file, readFileSync(join(root, file), "utf8")] as const)
    .filter(([, text]) => /\.yield(?:Converted)?Row/.test(text) && text.includes("@duckdb/node-api"));
  expect(streaming.length).toBeGreaterThan(2);
  for (const [file, text] of streaming) {
    const direct = text
      .split("\n")
      .filter((line) => /\.yield(?:Converted)?Row/.test(line) && !/wholeResult\(/.test(line));
    expect(direct, `${file} reads a streamed result without wholeResult`).toEqual([]);
  }
});

test("a command starts with two packages; the others are loaded where they are needed", () => {
  // The program, and what it loads for every command except help and version.
  const [reached, packages] = [
    new Set(["main", "session", "options"].map((name) => `src/cli/${name}.ts`)),
    new Set<string>(),
  ];
  for (const file of reached)
    for (const [, from = ""] of texts.get(file)!.matchAll(LOADED)) {
      if (!from.startsWith(".")) packages.add(from);
      else reached.add(join(dirname(file), from).split(sep).join("/"));
    }
  expect([...packages].filter((name) => !name.startsWith("node:"))).toEqual(["commander", "pino"]);
});

test("a circle would be found", () => {
  const graph = new Map([
    ["a", ["b"]],
    ["b", ["c", "d"]],
    ["c", ["a"]],
    ["d", []],
  ]);
  expect(circles(graph).map((circle) => circle.toSorted())).toEqual([["a", "b", "c"]]);
});

function importsOf(file: string): readonly string[] {
  const found = [...texts.get(file)!.matchAll(IMPORT)].map(([, from, bare]) => join(dirname(file), from ?? bare ?? ""));
  return found.map((path) => path.split(sep).join("/")).filter((path) => texts.has(path));
}

/** Tarjan's: sets of files each of which is reached from each other. */
function circles(graph: ReadonlyMap<string, readonly string[]>): readonly (readonly string[])[] {
  const order = new Map<string, number>();
  const lowest = new Map<string, number>();
  const open: string[] = [];
  const found: string[][] = [];
  const visit = (file: string): void => {
    order.set(file, order.size);
    lowest.set(file, order.get(file)!);
    open.push(file);
    for (const next of graph.get(file) ?? []) {
      if (!order.has(next)) visit(next);
      if (open.includes(next)) lowest.set(file, Math.min(lowest.get(file)!, lowest.get(next)!));
    }
    if (lowest.get(file) !== order.get(file)) return;
    const circle = open.splice(open.indexOf(file));
    if (circle.length > 1) found.push(circle);
  };
  for (const file of graph.keys()) if (!order.has(file)) visit(file);
  return found;
}
