// Compiles the checkout after `npm ci`; an installed package has no sources and nothing to compile.
import { existsSync } from "node:fs";
import { spawnSync } from "node:child_process";

if (existsSync("scripts/build.ts") && existsSync("src")) {
  const result = spawnSync("node", ["scripts/build.ts"], { stdio: "inherit", shell: true });
  process.exit(result.status ?? 1);
}
