/**
 * Planted faults: patches of the product's sources, applied as the sources are loaded. A patch is a unified diff with a
 * sentence before it that says what is wrong, and a second one (`Found in dense plans.`) where small plans do not find it.
 */
import { globSync, readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(import.meta.dirname, "../..");
const FOLDER = join(import.meta.dirname, "mutants");

const FOUND_IN = /^Found in (\w+) plans\.$/;

export interface Mutant {
  readonly name: string;
  /** What is wrong with it. */
  readonly about: string;
  /** The size of plans that finds it; null: small ones do. */
  readonly foundIn: string | null;
  /** By file. */
  readonly changes: ReadonlyMap<string, readonly Hunk[]>;
}

/** `header`: says how many lines there are before and after. */
interface Hunk {
  readonly header: string;
  readonly before: readonly string[];
  readonly after: readonly string[];
}

export function mutants(): readonly Mutant[] {
  const names = globSync("*.patch", { cwd: FOLDER }).map((file) => file.replace(/\.patch$/, ""));
  return names.toSorted().map((name) => parse(name, readFileSync(join(FOLDER, `${name}.patch`), "utf8")));
}

function parse(name: string, text: string): Mutant {
  const changes = new Map<string, Hunk[]>();
  const about: string[] = [];
  let hunks: Hunk[] | null = null;
  let hunk: { readonly header: string; readonly before: string[]; readonly after: string[] } | null = null;
  for (const line of text.replace(/\n$/, "").split("\n")) {
    if (line.startsWith("--- ")) hunk = hunks = null;
    else if (line.startsWith("+++ b/")) changes.set(line.slice(6), (hunks = []));
    else if (line.startsWith("@@")) hunks!.push((hunk = { header: line, before: [], after: [] }));
    else if (hunk !== null) {
      if (!line.startsWith("+")) hunk.before.push(line.slice(1));
      if (!line.startsWith("-")) hunk.after.push(line.slice(1));
    } else if (hunks === null && !line.startsWith("diff ") && !line.startsWith("index ")) about.push(line);
  }
  const foundIn = about.map((line) => FOUND_IN.exec(line)?.[1]).find((size) => size !== undefined) ?? null;
  return {
    name,
    about: about
      .filter((line) => !FOUND_IN.test(line))
      .join(" ")
      .trim(),
    foundIn,
    changes,
  };
}

/**
 * The source of a file with the mutant's changes; throws where one of them does not fit exactly once, or where its header counts
 * other lines, which `git apply` refuses.
 */
export function mutated(mutant: Mutant, file: string): string {
  let source = `\n${readFileSync(join(ROOT, file), "utf8")}`;
  for (const { header, before, after } of mutant.changes.get(file) ?? []) {
    if (!HEADER.test(header) || countedIn(header).join() !== [before.length, after.length].join())
      throw new Error(`mutant ${mutant.name}: ${header} has ${before.length} lines before, ${after.length} after`);
    const old = `\n${whole(before)}`;
    if (source.split(old).length !== 2)
      throw new Error(`mutant ${mutant.name} does not fit ${file} any more:\n${whole(before)}`);
    source = source.replace(old, () => `\n${whole(after)}`);
  }
  return source.slice(1);
}

const HEADER = /^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@/;

/** Lines before, and after. Left out: one. */
function countedIn(header: string): readonly number[] {
  return HEADER.exec(header)!
    .slice(1)
    .map((count) => Number(count ?? 1));
}

function whole(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}

/** From here on the sources are loaded with the mutant's changes. */
export function plant(name: string): void {
  const mutant = mutants().find((one) => one.name === name);
  if (mutant === undefined) throw new Error(`there is no mutant ${name}`);
  registerHooks({
    load(url, context, nextLoad) {
      const file = url.startsWith("file:")
        ? fileURLToPath(url)
            .slice(ROOT.length + 1)
            .split(sep)
            .join("/")
        : "";
      if (!mutant.changes.has(file)) return nextLoad(url, context);
      return { format: "module-typescript", source: mutated(mutant, file), shortCircuit: true };
    },
  });
}
