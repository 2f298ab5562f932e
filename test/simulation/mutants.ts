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

interface Hunk {
  readonly before: string;
  readonly after: string;
}

export function mutants(): readonly Mutant[] {
  const names = globSync("*.patch", { cwd: FOLDER }).map((file) => file.replace(/\.patch$/, ""));
  return names.toSorted().map((name) => parse(name, readFileSync(join(FOLDER, `${name}.patch`), "utf8")));
}

function parse(name: string, text: string): Mutant {
  const changes = new Map<string, Hunk[]>();
  const about: string[] = [];
  let hunks: Hunk[] | null = null;
  let lines: { before: string[]; after: string[] } | null = null;
  const close = (): void => {
    if (lines !== null) hunks!.push({ before: lines.before.join("\n"), after: lines.after.join("\n") });
    lines = null;
  };
  for (const line of text.replace(/\n$/, "").split("\n")) {
    if (line.startsWith("--- ")) {
      close();
      hunks = null;
    } else if (line.startsWith("+++ b/")) changes.set(line.slice(6), (hunks = []));
    else if (line.startsWith("@@")) {
      close();
      lines = { before: [], after: [] };
    } else if (lines !== null) {
      if (!line.startsWith("+")) lines.before.push(line.slice(1));
      if (!line.startsWith("-")) lines.after.push(line.slice(1));
    } else if (hunks === null && !line.startsWith("diff ") && !line.startsWith("index ")) about.push(line);
  }
  close();
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

/** The source of a file with the mutant's changes; throws where one of them does not fit exactly once. */
export function mutated(mutant: Mutant, file: string): string {
  let source = readFileSync(join(ROOT, file), "utf8");
  for (const { before, after } of mutant.changes.get(file) ?? []) {
    if (source.split(before).length !== 2)
      throw new Error(`mutant ${mutant.name} does not fit ${file} any more:\n${before}`);
    source = source.replace(before, () => after);
  }
  return source;
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
