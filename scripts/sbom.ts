/** `npm run sbom`: what the package runs on, by the lock file, as CycloneDX in dist/. `prepack` runs it. */
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "..");
const OUT = join(ROOT, "dist/sbom.cdx.json");
const FORM = ["--sbom-format", "cyclonedx", "--sbom-type", "application", "--package-lock-only"];

interface Sbom {
  readonly metadata: { readonly component: { name: string; readonly "bom-ref": string } };
  readonly components: readonly { readonly name: string; readonly "bom-ref": string }[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

const { name, dependencies, devDependencies, peerDependencies } = JSON.parse(
  readFileSync(join(ROOT, "package.json"), "utf8"),
);
/** Optional peers in the versions that are tested. */
const extras = Object.keys(peerDependencies).map((extra) => [extra, devDependencies[extra]]);
const { stdout } = await promisify(execFile)("npm", ["sbom", ...FORM], { cwd: ROOT, maxBuffer: 2 ** 26 });
const all: Sbom = JSON.parse(stdout);
// npm names it like the folder.
all.metadata.component.name = name;
writeFileSync(
  OUT,
  `${JSON.stringify(withoutBuilders(all, { ...dependencies, ...Object.fromEntries(extras) }), null, 1)}\n`,
);

/** With `--omit dev` npm also leaves out what is needed to run and is an optional peer of something that builds. */
function withoutBuilders(sbom: Sbom, direct: Readonly<Record<string, string>>): Sbom {
  const needs = new Map(sbom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
  const root = sbom.metadata.component["bom-ref"];
  const refs = Object.entries(direct).map(([name, version]) => `${name}@${version}`);
  const reached = new Set(refs);
  for (const ref of reached) for (const next of needs.get(ref) ?? []) reached.add(next);
  return {
    ...sbom,
    components: sbom.components.filter((component) => reached.has(component["bom-ref"])),
    dependencies: [
      { ref: root, dependsOn: refs },
      ...sbom.dependencies.filter(({ ref }) => ref !== root && reached.has(ref)),
    ],
  };
}
