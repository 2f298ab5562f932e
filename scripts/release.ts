/**
 * `npm run release -- VERSION`: everything that a release is, in release/, without publishing any of it. It makes the commit
 * and the tag (`npm version`), the package, its SBOM, the container image where Docker or Podman is, their provenance and their
 * checksums. Then it prints what a person does to publish them. A second run after a failure goes on with the tag that is there.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";

const ROOT = join(import.meta.dirname, "..");
const OUT = join(ROOT, "release");
const run = async (program: string, ...args: readonly string[]): Promise<string> => {
  const { stdout } = await promisify(execFile)(program, args, { cwd: ROOT, maxBuffer: 2 ** 26 });
  return stdout.trim();
};

const { positionals } = parseArgs({ allowPositionals: true });
try {
  process.stdout.write(await release(positionals));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function release([version = "", ...rest]: readonly string[]): Promise<string> {
  if (!/^\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?$/.test(version) || rest.length > 0)
    throw new Error("usage: npm run release -- VERSION, such as 0.1.0");
  if ((await run("git", "status", "--porcelain")) !== "") throw new Error("there are changes that are not committed");
  if (!new RegExp(`^## \\[${RegExp.escape(version)}\\]`, "m").test(readFileSync(join(ROOT, "CHANGELOG.md"), "utf8")))
    throw new Error(`CHANGELOG.md has no section "## [${version}]"`);
  const startedOn = new Date().toISOString();
  await tag(version);
  rmSync(OUT, { recursive: true, force: true });
  mkdirSync(OUT);
  // Compiles, and makes the SBOM (prepack).
  await run("npm", "pack", "--silent", "--pack-destination", OUT);
  copyFileSync(join(ROOT, "dist/sbom.cdx.json"), join(OUT, `millrace-${version}.cdx.json`));
  const image = await makeImage(version);
  const statement = provenanceOf(version, {
    startedOn,
    files: readdirSync(OUT).toSorted(),
    commit: await run("git", "rev-parse", "HEAD"),
  });
  writeFileSync(join(OUT, `millrace-${version}.intoto.json`), `${JSON.stringify(statement, null, 1)}\n`);
  const files = readdirSync(OUT).toSorted();
  const sums = files.map((file) => `${sha256Of(join(OUT, file))}  ${file}\n`);
  writeFileSync(join(OUT, "SHA256SUMS"), sums.join(""));
  return [
    `release/: ${[...files, "SHA256SUMS"].join(", ")}`,
    ...(image === null ? ["No image: neither Docker nor Podman is here."] : []),
    "",
    "To publish it:",
    `  git push origin main v${version}`,
    `  npm publish release/millrace-${version}.tgz`,
    ...(image === null
      ? []
      : [`  ${image} load -i release/millrace-${version}-image.tar`, `  ${image} push millrace:${version}`]),
    `  in deploy/homebrew/millrace.rb: url, and sha256 ${sums.find((line) => line.endsWith(".tgz\n"))?.slice(0, 64)}`,
    "",
  ].join("\n");
}

interface Made {
  readonly startedOn: string;
  /** In the folder of the release. */
  readonly files: readonly string[];
  readonly commit: string;
}

/** What the files were made of, and by what: a statement of in-toto with SLSA's predicate. It is not signed. */
function provenanceOf(version: string, { startedOn, files, commit }: Made): object {
  return {
    _type: "https://in-toto.io/Statement/v1",
    subject: files.map((name) => ({ name, digest: { sha256: sha256Of(join(OUT, name)) } })),
    predicateType: "https://slsa.dev/provenance/v1",
    predicate: {
      buildDefinition: {
        buildType: "urn:millrace:release:1",
        externalParameters: { command: "npm run release", version },
        internalParameters: { node: process.version, platform: `${process.platform}-${process.arch}` },
        resolvedDependencies: [
          { name: "source", digest: { gitCommit: commit } },
          { name: "package-lock.json", digest: { sha256: sha256Of(join(ROOT, "package-lock.json")) } },
        ],
      },
      runDetails: {
        builder: { id: "urn:millrace:scripts/release.ts" },
        metadata: { startedOn, finishedOn: new Date().toISOString() },
      },
    },
  };
}

function sha256Of(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

/** One that is there has to be of this commit. */
async function tag(version: string): Promise<void> {
  const name = `v${version}`;
  if ((await run("git", "tag", "--list", name)) !== "") {
    const [tagged, head] = [await run("git", "rev-parse", `${name}^{commit}`), await run("git", "rev-parse", "HEAD")];
    if (tagged !== head) throw new Error(`the tag ${name} is of another commit`);
    return;
  }
  await run("npm", "version", version, "--allow-same-version", "--message", "Release %s");
}

async function makeImage(version: string): Promise<string | null> {
  for (const program of ["docker", "podman"]) {
    try {
      await run(program, "version");
    } catch {
      continue;
    }
    await run(program, "build", "--tag", `millrace:${version}`, ".");
    await run(program, "save", "--output", join(OUT, `millrace-${version}-image.tar`), `millrace:${version}`);
    return program;
  }
  return null;
}
