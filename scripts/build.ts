/**
 * `npm run build`: the program in one piece with its dependencies, in dist/ (docs/decisions/0013). `npm ci` runs it in a
 * checkout, and a run of tests before its first file.
 */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { rolldown } from "rolldown";

const ROOT = join(import.meta.dirname, "..");
const DIST = join(ROOT, "dist");
/** The one has a native part; pg asks for the other and does without it. */
const APART = [/^@duckdb\//, "pg-native"];

if (import.meta.main) await build();

export async function build(): Promise<void> {
  const bundle = await rolldown({
    input: { millrace: join(ROOT, "src/cli/main.ts") },
    platform: "node",
    external: APART,
  });
  rmSync(DIST, { recursive: true, force: true });
  const { output } = await bundle.write({ dir: DIST, format: "esm", chunkFileNames: "[name].js" });
  await bundle.close();
  const folders = new Set(
    output.flatMap((file) =>
      file.type === "chunk" ? file.moduleIds.map(packageOf).filter((name) => name !== null) : [],
    ),
  );
  writeFileSync(join(DIST, "licenses.txt"), [...folders].toSorted().map(licenseOf).join("\n"));
}

/** The folder of the package that a module is of; null: our own. */
function packageOf(module: string): string | null {
  return /^.*[/\\]node_modules[/\\](?:@[^/\\]+[/\\])?[^/\\]+/.exec(module)?.[0] ?? null;
}

/** What the package wants to be said wherever a copy of it is. */
function licenseOf(folder: string): string {
  const { name, version, license }: Record<string, string> = JSON.parse(
    readFileSync(join(folder, "package.json"), "utf8"),
  );
  const texts = readdirSync(folder).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file));
  const whole = texts.map((file) => readFileSync(join(folder, file), "utf8").trim());
  return [`${name} ${version} (${license})`, ...whole, ""].join("\n\n");
}
