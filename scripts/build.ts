/**
 * `npm run build`: the program in few JavaScript files in dist/, its packages beside it (docs/decisions/0020), and the
 * dashboard as one page (docs/decisions/0027). `npm ci` runs it in a checkout, and a run of tests before its first file.
 * `npm run check` checks the types.
 */
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const PREACT = "/*! preact, MIT License, Copyright (c) 2015-present Jason Miller */";
const ROOT = join(import.meta.dirname, "..");
const ENTRY = join("src", "library", "millrace.d.ts");
/** The command line, the library, and what they start beside themselves as processes of their own. */
const PROGRAMS = [
  "src/cli/main.ts",
  "src/library/millrace.ts",
  "src/cli/drill/through.ts",
  "connectors/kit/duckdb-engine/engine-host.ts",
  "connectors/sqlite/inspect/query-host.ts",
];
const IMPORTED = /(from "|import\(")(\.[^"]+)\.ts"/g;

if (import.meta.main) await build();

export async function build(): Promise<void> {
  await buildPrograms();
  for (const [path, text] of await libraryTypes()) {
    mkdirSync(join(ROOT, "dist", dirname(path)), { recursive: true });
    writeFileSync(join(ROOT, "dist", path), text);
  }
  // What `import type … from "millrace/rules"` finds.
  copyFileSync(join(ROOT, "src/rules/rules.d.ts"), join(ROOT, "dist/rules.d.ts"));
  await buildDashboard();
}

/** Node takes about as long to find and link a file as to compile it. What is imported on demand stays in files of its own. */
async function buildPrograms(): Promise<void> {
  const { rolldown } = await import("rolldown");
  const input = PROGRAMS.map((path) => join(ROOT, path));
  const bundle = await rolldown({ input, platform: "node", external: /^[^./]/ });
  await bundle.write({ dir: join(ROOT, "dist"), format: "es", cleanDir: true });
  await bundle.close();
}

/** What `import … from "millrace"` finds: the entry's types and all that they name, by their paths in dist/. */
async function libraryTypes(): Promise<ReadonlyMap<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-types-"));
  try {
    const compiler = join(ROOT, "node_modules/typescript/bin/tsc");
    const types = ["--declaration", "--emitDeclarationOnly", "--outDir", folder];
    const arguments_ = [compiler, "--project", join(ROOT, "tsconfig.build.json"), ...types];
    await promisify(execFile)(process.execPath, arguments_);
    const found = new Map<string, string>();
    const collect = (path: string): void => {
      if (found.has(path)) return;
      const text = readFileSync(join(folder, path), "utf8").replaceAll(IMPORTED, '$1$2.js"');
      found.set(path, text);
      for (const [, , name = ""] of text.matchAll(/(from|import\() ?"(\.[^"]+)\.js"/g))
        collect(join(dirname(path), `${name}.d.ts`));
    };
    collect(ENTRY);
    return found;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Script and style in one file: a browser that has no token yet gets all of it with the answer 401. */
async function buildDashboard(): Promise<void> {
  const { rolldown } = await import("rolldown");
  const folder = join(ROOT, "src/dashboard");
  const bundle = await rolldown({
    input: join(folder, "main.tsx"),
    tsconfig: join(folder, "tsconfig.json"),
  });
  const { output } = await bundle.generate({ format: "es", minify: true, banner: PREACT });
  await bundle.close();
  const script = output[0].code;
  // The end of a script element inside of a text would end the script.
  if (/<\/script|<!--/i.test(script)) throw new Error("the dashboard's script can't be put into a page");
  const page = readFileSync(join(folder, "page.html"), "utf8")
    .replace("/* style.css */", () => readFileSync(join(folder, "style.css"), "utf8"))
    .replace("/* main.js */", () => script);
  writeFileSync(join(ROOT, "dist/dashboard.html"), page);
}
