/** DuckDB's extensions for the tests of lakes, from the wheels in which the Python package index has them. */
import { copyFile, glob, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached } from "./cache.ts";
import { command } from "../processes/command.ts";

/** The version of DuckDB in package.json: an extension fits one version only. */
const VERSION = "1.5.5";
const NAMES = ["ducklake", "sqlite_scanner", "postgres_scanner", "httpfs"];

/** A folder with NAME.duckdb_extension for each; fetched at first use. */
export async function duckdbExtensions(): Promise<string> {
  const given = process.env["MILLRACE_DUCKDB_EXTENSIONS"];
  if (given !== undefined && given !== "") return given;
  return await cached(`duckdb-extensions-${VERSION}`, async (folder) => {
    const work = join(folder, "wheels");
    const wheels = NAMES.map((name) => `duckdb-extension-${name.replace("_", "-")}==${VERSION}`);
    await command("python3", [
      "-m",
      "pip",
      "download",
      "--quiet",
      "--no-deps",
      "--only-binary",
      ":all:",
      "-d",
      work,
      ...wheels,
    ]);
    for await (const wheel of glob(join(work, "*.whl"))) await command("python3", ["-m", "zipfile", "-e", wheel, work]);
    for await (const file of glob(join(work, "**/*.duckdb_extension")))
      await copyFile(file, join(folder, basename(file)));
    await rm(work, { recursive: true });
  });
}
