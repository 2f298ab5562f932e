/** `npm run sbom`: what the package runs on, by the lock file, as CycloneDX in dist/. `prepack` runs it. */
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "..");
const FORM = ["--sbom-format", "cyclonedx", "--sbom-type", "application"];
const WHAT = ["--package-lock-only", "--omit", "dev", "--workspaces=false"];

interface Sbom {
  readonly metadata: { readonly component: { name: string } };
}

const { stdout } = await promisify(execFile)("npm", ["sbom", ...FORM, ...WHAT], { cwd: ROOT, maxBuffer: 2 ** 26 });
const sbom: Sbom = JSON.parse(stdout);
// npm names it like the folder.
sbom.metadata.component.name = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).name;
writeFileSync(join(ROOT, "dist/sbom.cdx.json"), `${JSON.stringify(sbom, null, 1)}\n`);
