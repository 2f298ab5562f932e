/** A Java for the search engines: the machine's own if it is new enough, else one in the cache folder. */
import { globSync } from "node:fs";
import { join } from "node:path";
import { command, onPath } from "../processes/command.ts";
import { debianAvailability, installDebian, type DebianRecipe, type Suite } from "./debian.ts";
import { releaseCodename } from "./debian-sources.ts";
import type { Download, ProgressListener } from "../service.ts";

export interface Java {
  readonly command: string;
  /** Arguments that precede Java's own. */
  readonly args: readonly string[];
}

export type JavaFound =
  | { readonly kind: "installed"; readonly java: Java }
  | { readonly kind: "packaged"; readonly recipe: DebianRecipe; readonly missing: readonly Download[] }
  | { readonly kind: "missing"; readonly reason: string };

/** The Java versions in the releases of Debian and Ubuntu. */
const PACKAGED: Readonly<Record<string, readonly number[]>> = {
  bookworm: [17],
  trixie: [21, 25],
  jammy: [17, 21],
  noble: [17, 21],
};
const PACKAGED_IN_SID = 25;
const MEGABYTES = 75;

export async function findJava(majorMin: number): Promise<JavaFound> {
  for (const path of candidates()) {
    const major = await majorOf(path);
    if (major !== undefined && major >= majorMin) return { kind: "installed", java: { command: path, args: [] } };
  }
  const own = PACKAGED[(await releaseCodename()) ?? ""]?.find((major) => major >= majorMin);
  const recipe = own === undefined ? recipeFor(PACKAGED_IN_SID, "sid") : recipeFor(own, "own");
  const available = await debianAvailability(recipe);
  if (available.kind === "native") return { kind: "packaged", recipe, missing: available.missing };
  return { kind: "missing", reason: `no Java ${majorMin} or newer here, and ${available.reason}` };
}

/** Fetches what `findJava` found, if necessary. */
export async function provideJava(
  found: Exclude<JavaFound, { kind: "missing" }>,
  onProgress: ProgressListener,
): Promise<Java> {
  if (found.kind === "installed") return found.java;
  const { root, run } = await installDebian(found.recipe, onProgress);
  const [program] = globSync("usr/lib/jvm/*/bin/java", { cwd: root });
  if (program === undefined) throw new Error(`${found.recipe.what} holds no java`);
  return run(program, "java");
}

function recipeFor(major: number, suite: Suite): DebianRecipe {
  return {
    what: `Java ${major}`,
    version: String(major),
    suite,
    packages: [`openjdk-${major}-jre-headless`],
    megabytes: MEGABYTES,
  };
}

function candidates(): string[] {
  const home = process.env["JAVA_HOME"];
  const program = onPath("java");
  return [
    ...(home === undefined || home === "" ? [] : [join(home, "bin", "java")]),
    ...(program === undefined ? [] : [program]),
    ...globSync(["/usr/lib/jvm/*/bin/java", "/Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java"]),
  ];
}

/** Parses a first line such as `openjdk 17.0.15 2025-04-15`. Java 8 lacks the option and is too old anyway. */
async function majorOf(path: string): Promise<number | undefined> {
  const text = await command(path, ["--version"]).catch(() => "");
  const major = /^\S+ (?<major>\d+)/.exec(text)?.groups?.["major"];
  return major === undefined ? undefined : Number(major);
}
