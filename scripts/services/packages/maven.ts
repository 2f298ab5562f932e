/**
 * Fetches jars by checked-in lists: `jars/<name>.txt` has a line per file, `sha256 bytes path-in-a-maven-repository`.
 * They come from Maven Central, or from MILLRACE_MAVEN_URL. If neither is reachable and `mvn` is installed, they come
 * through mvn, whose settings may name a mirror.
 */
import { createHash } from "node:crypto";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { command, onPath } from "../processes/command.ts";
import type { ProgressListener } from "../service.ts";

const CENTRAL = "https://repo.maven.apache.org/maven2";
const PARALLEL_MAX = 4;
const ATTEMPTS_MAX = 3;
const FILE_WITHIN_MS = 300_000;

export interface Jar {
  readonly sha256: string;
  readonly byteCount: number;
  /** `group/with/slashes/artifact/version/artifact-version[-classifier].type` */
  readonly path: string;
}

export function jarListPath(name: string): string {
  return join(import.meta.dirname, "..", "jars", `${name}.txt`);
}

export async function readJarList(name: string): Promise<Jar[]> {
  const text = await readFile(jarListPath(name), "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => {
      const [sha256 = "", bytes = "", path = ""] = line.split(/\s+/);
      return { sha256, byteCount: Number(bytes), path };
    });
}

export function totalBytes(jars: readonly Jar[]): number {
  return jars.reduce((sum, { byteCount }) => sum + byteCount, 0);
}

/** Puts the jars into a folder under their file names, and checks each one's sum. */
export async function fetchJars(
  what: string,
  jars: readonly Jar[],
  dir: string,
  onProgress: ProgressListener,
): Promise<void> {
  await mkdir(dir, { recursive: true });
  const total = totalBytes(jars);
  let receivedBytes = 0;
  onProgress({ what, receivedBytes, totalBytes: total, done: false });
  const queue = [...jars];
  const work = async (): Promise<void> => {
    for (let jar = queue.shift(); jar !== undefined; jar = queue.shift()) {
      await writeFile(join(dir, basename(jar.path)), await download(jar));
      receivedBytes += jar.byteCount;
      onProgress({ what, receivedBytes, totalBytes: total, done: false });
    }
  };
  try {
    await Promise.all(Array.from({ length: PARALLEL_MAX }, work));
  } catch (error) {
    queue.length = 0;
    if (onPath("mvn") === undefined) throw error;
    await fetchByMaven(jars, dir);
  }
  onProgress({ what, receivedBytes: total, totalBytes: total, done: true });
}

async function download(jar: Jar): Promise<Buffer> {
  const base = process.env["MILLRACE_MAVEN_URL"] ?? CENTRAL;
  const url = `${base.replace(/\/+$/, "")}/${jar.path}`;
  for (let attempt = 1; ; attempt += 1) {
    try {
      const answer = await fetch(url, { signal: AbortSignal.timeout(FILE_WITHIN_MS) });
      if (!answer.ok) throw new Error(`${jar.path}: the repository answered ${answer.status}`);
      const bytes = Buffer.from(await answer.arrayBuffer());
      checkSum(jar, bytes);
      return bytes;
    } catch (error) {
      if (attempt < ATTEMPTS_MAX) continue;
      const fix = "set MILLRACE_MAVEN_URL to a mirror of Maven Central, or install mvn with one in its settings";
      throw new Error(`${url} can't be fetched (${reasonOf(error)}); ${fix}`, { cause: error });
    }
  }
}

/** fetch only says "fetch failed"; the reason is in the cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}

function checkSum(jar: Jar, bytes: Buffer): void {
  const sum = createHash("sha256").update(bytes).digest("hex");
  if (sum !== jar.sha256) throw new Error(`${jar.path}: not the file that the list names (sha256 ${sum})`);
}

/** One call for all jars: each is a dependency without dependencies of its own. */
async function fetchByMaven(jars: readonly Jar[], dir: string): Promise<void> {
  const work = join(dir, ".mvn");
  await mkdir(work);
  const dependencies = jars.map((jar) => `${dependency(jar)}<exclusions>${EXCLUDE_ALL}</exclusions>`);
  await copyDependencies(dependencies, work);
  for (const jar of jars) {
    const file = join(work, jar.path);
    checkSum(jar, await readFile(file));
    await copyFile(file, join(dir, basename(jar.path)));
  }
  await rm(work, { recursive: true });
}

const EXCLUDE_ALL = "<exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion>";

function dependency({ path }: Jar): string {
  const version = basename(dirname(path));
  const artifact = basename(dirname(dirname(path)));
  const group = dirname(dirname(dirname(path))).replaceAll("/", ".");
  const [, classifier, type = "jar"] =
    /^(?:-([^.]+))?\.(.+)$/.exec(basename(path).slice(`${artifact}-${version}`.length)) ?? [];
  return [
    `<groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version>`,
    type === "jar" ? "" : `<type>${type}</type>`,
    classifier === undefined ? "" : `<classifier>${classifier}</classifier>`,
  ].join("");
}

/** Copies the resolved dependencies into `dir`, in the layout of a repository. */
export async function copyDependencies(dependencies: readonly string[], dir: string): Promise<void> {
  const pom = join(dir, "pom.xml");
  await writeFile(
    pom,
    `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>millrace</groupId><artifactId>jars</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>${dependencies.map((each) => `<dependency>${each}</dependency>`).join("\n")}</dependencies></project>\n`,
  );
  await command("mvn", [
    "-B",
    "-q",
    "-f",
    pom,
    "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies",
    `-DoutputDirectory=${dir}`,
    "-DincludeScope=runtime",
    "-Dmdep.useRepositoryLayout=true",
  ]);
}
