// Compiles the checkout after `npm ci`; an installed package has no sources and nothing to compile.
import { existsSync } from "node:fs";
import { spawnSync } from "node:child_process";

if (existsSync("tsconfig.build.json") && existsSync("src")) {
  const result = spawnSync("tsc", ["-p", "tsconfig.build.json"], { stdio: "inherit", shell: true });
  process.exit(result.status ?? 1);
}
