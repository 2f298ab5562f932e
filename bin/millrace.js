#!/usr/bin/env node
// Says in one line what an older Node would say in a stack trace; the command line itself is src/cli/main.ts.
import { existsSync, lstatSync, mkdirSync, statSync } from "node:fs";
import module from "node:module";
import { homedir } from "node:os";
import { join } from "node:path";

const major = Number(process.versions.node.split(".")[0]);
if (major < 24) {
  process.stderr.write(
    `millrace needs Node 24 or newer; this is ${process.version}. In a checkout, "npm ci" brings one and "npx millrace" uses it.\n`,
  );
  process.exit(1);
}
// A daemon starts once, and would hold what it has read of it for as long as it runs.
if (!process.env["NODE_COMPILE_CACHE"] && !["run", "up"].some((daemon) => process.argv.includes(daemon)))
  keepCompiled();
await import("../dist/main.js");

/**
 * Node keeps what it has compiled for the next start. It runs what it finds there: the folder and the home above it belong
 * to this user, and nobody else can enter it. Where that can't be had, each start compiles.
 */
function keepCompiled() {
  try {
    const home = homedir();
    if (statSync(home).uid !== process.getuid?.()) return;
    const cache = join(home, ".cache");
    const folder = join(cache, "millrace");
    for (const path of [cache, folder]) if (!existsSync(path)) mkdirSync(path, 0o700);
    const { uid, mode } = lstatSync(folder);
    if (uid === process.getuid() && (mode & 0o170077) === 0o040000) module.enableCompileCache(folder);
  } catch {
    // A home that is missing, full or read-only.
  }
}
