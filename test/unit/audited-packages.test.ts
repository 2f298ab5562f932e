/** Continuous integration asks for vulnerabilities of all that the program loads. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { asInstalled } from "../../scripts/audit.ts";
import { command } from "../../scripts/services/processes/command.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

test("optional peers and what they need are audited, and what builds and tests is not", async () => {
  using folder = temporaryFolder();
  asInstalled(folder.path);
  const args = ["ls", "--omit=dev", "--package-lock-only", "--all", "--parseable"];
  const listed = await command("npm", args, { cwd: folder.path });
  const { dependencies, peerDependencies } = JSON.parse(readFileSync("package.json", "utf8"));
  for (const name of [...Object.keys(dependencies), ...Object.keys(peerDependencies), "@duckdb/node-bindings"])
    expect(listed).toContain(`/node_modules/${name}\n`);
  for (const name of ["vitest", "typescript", "oxlint"]) expect(listed).not.toContain(`/node_modules/${name}\n`);
});
