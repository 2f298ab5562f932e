/**
 * Runs programs from Debian's (or Ubuntu's) packages without installing them: apt, with its own lists and package
 * status, resolves and verifies them down to the C library; dpkg-deb unpacks them into the cache folder; and each is
 * started through that folder's own dynamic loader. Needs no root, and leaves the machine's own packages unchanged.
 */
import { mkdir, readdir, readlink, rm, stat, symlink, unlink, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { cached, isCached } from "./cache.ts";
import { command, onPath } from "../processes/command.ts";
import { aptSource, type AptSource } from "./debian-sources.ts";
import type { Availability, ProgressListener } from "../service.ts";

/**
 * "own" is the machine's own release, "sid" Debian's newest packages from the same mirror; the others are older
 * releases.
 */
export type Suite = "own" | "sid" | "bullseye" | "trixie";

/** Suites whose loader can't set the program's name: the program then has the loader's name. */
const WITHOUT_NAMES: ReadonlySet<string> = new Set(["bullseye"]);

export interface DebianRecipe {
  readonly what: string;
  readonly version: string;
  readonly suite: Suite;
  readonly packages: readonly string[];
  /** Approximate size of the download, including lists of packages. */
  readonly megabytes: number;
}

export interface DebianFolder {
  readonly root: string;
  readonly libraryDirs: readonly string[];
  /** How to run a program of the folder; `name` is the name that the program sees as its own. */
  readonly run: (path: string, name: string) => { readonly command: string; readonly args: readonly string[] };
}

const TRIPLETS: Readonly<Record<string, { libraries: string; loader: string }>> = {
  x64: { libraries: "x86_64-linux-gnu", loader: "ld-linux-x86-64.so.2" },
  arm64: { libraries: "aarch64-linux-gnu", loader: "ld-linux-aarch64.so.1" },
};
const triplet = TRIPLETS[process.arch];

/** Packages that only installation scripts use, and their large libraries. */
const FOR_INSTALLATION = /^lib(perl|pam|semanage|sepol|audit|gdbm|db5)|-perl$/;
const UNUSED_FOLDERS = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "var"];

export async function debianAvailability(
  recipe: DebianRecipe,
): Promise<Extract<Availability, { kind: "native" | "unavailable" }>> {
  if (process.platform !== "linux" || triplet === undefined) {
    return { kind: "unavailable", reason: `Debian's packages do not run on ${process.platform}-${process.arch}` };
  }
  for (const tool of ["apt-get", "dpkg-deb"]) {
    if (onPath(tool) === undefined) return { kind: "unavailable", reason: `${tool} is not on the PATH` };
  }
  const source = await aptSource(recipe.suite);
  if (source.kind === "missing") return { kind: "unavailable", reason: source.reason };
  const { what, version, megabytes } = recipe;
  const missing = isCached(cacheName(recipe, source)) ? [] : [{ what, from: "apt's mirror", megabytes }];
  return { kind: "native", version, missing };
}

export async function installDebian(recipe: DebianRecipe, onProgress: ProgressListener): Promise<DebianFolder> {
  const source = await aptSource(recipe.suite);
  if (source.kind === "missing" || triplet === undefined)
    throw new Error(`${recipe.what} can't be had from Debian here`);
  const { libraries, loader } = triplet;
  const folder = await cached(cacheName(recipe, source), async (dir) => {
    const receivedBytes = await fetchPackages(recipe, source, dir, onProgress);
    await unpack(dir);
    onProgress({ what: recipe.what, receivedBytes, totalBytes: receivedBytes, done: true });
  });
  const root = join(folder, "root");
  // Before the merge of /usr a library may be on either side.
  const libraryDirs = ["usr/lib", "lib"].map((side) => join(root, side, libraries));
  const ownLoader = libraryDirs.map((dir) => join(dir, loader)).find((path) => existsSync(path));
  if (ownLoader === undefined) throw new Error(`no dynamic loader among the packages of ${recipe.what}`);
  return {
    root,
    libraryDirs,
    run: (path, name) => ({
      command: ownLoader,
      args: [
        "--library-path",
        libraryDirs.join(":"),
        ...(WITHOUT_NAMES.has(source.suite) ? [] : ["--argv0", name]),
        join(root, path),
      ],
    }),
  };
}

function cacheName(recipe: DebianRecipe, source: Extract<AptSource, { kind: "found" }>): string {
  return `${recipe.packages[0] ?? ""}-${source.suite}-${process.arch}`;
}

async function fetchPackages(
  recipe: DebianRecipe,
  source: Extract<AptSource, { kind: "found" }>,
  dir: string,
  onProgress: ProgressListener,
): Promise<number> {
  const { what } = recipe;
  onProgress({ what, receivedBytes: 0, totalBytes: recipe.megabytes * 1_000_000, done: false });
  const options = await privateApt(source, join(dir, "apt"));
  await command("apt-get", [...options, "-qq", "update"]);
  const wanted = parseUris(await command("apt-get", [...options, "-y", "--print-uris", "install", ...recipe.packages]));
  const kept = wanted.filter(
    ({ name }) => recipe.packages.includes(name) || (/^(lib|lua-|zlib1g)/.test(name) && !FOR_INSTALLATION.test(name)),
  );
  const totalBytes = kept.reduce((sum, { byteCount }) => sum + byteCount, 0);
  const debs = join(dir, "debs");
  await mkdir(debs);
  const timer = setInterval(() => {
    void folderBytes(debs).then((receivedBytes) => onProgress({ what, receivedBytes, totalBytes, done: false }));
  }, 500);
  try {
    const exact = kept.map(({ name, version }) => `${name}=${version}`);
    await command("apt-get", [...options, "-qq", "download", ...exact], { cwd: debs });
  } finally {
    clearInterval(timer);
  }
  await rm(join(dir, "apt"), { recursive: true });
  return totalBytes;
}

/** Options that give apt a separate state below `dir`. With an empty status it resolves down to the C library. */
async function privateApt(source: Extract<AptSource, { kind: "found" }>, dir: string): Promise<string[]> {
  for (const path of ["lists/partial", "cache/archives/partial", "sources"])
    await mkdir(join(dir, path), { recursive: true });
  await writeFile(join(dir, "status"), "");
  await writeFile(join(dir, "sources", "millrace.list"), source.lines.join("\n") + "\n");
  const settings = {
    "Dir::State": dir,
    "Dir::State::status": join(dir, "status"),
    "Dir::State::lists": join(dir, "lists"),
    "Dir::Cache": join(dir, "cache"),
    "Dir::Etc::sourcelist": "/dev/null",
    "Dir::Etc::sourceparts": join(dir, "sources"),
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "APT::Install-Recommends": "false",
    // As root, apt would fetch as its own user, who may not write here.
    "APT::Sandbox::User": "root",
    // Otherwise missing lists would show up as a package that is not found.
    "APT::Update::Error-Mode": "any",
    "Acquire::Languages": "none",
    "Acquire::Retries": "3",
    // Signatures are checked; but a mirror with copies may have an expired date.
    "Acquire::Check-Valid-Until": "false",
  };
  return Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]);
}

interface Package {
  readonly name: string;
  readonly version: string;
  readonly byteCount: number;
}

/** Lines such as `'http://…' libssl3_3.0.22-1_amd64.deb 2039888 SHA256:…`, a colon of the version written %3a. */
function parseUris(text: string): Package[] {
  return [...text.matchAll(/^'[^']*' (?<name>[^_ ]+)_(?<version>[^_ ]+)_\S+\.deb (?<bytes>\d+)/gm)].map((match) => ({
    name: match.groups?.["name"] ?? "",
    version: decodeURIComponent(match.groups?.["version"] ?? ""),
    byteCount: Number(match.groups?.["bytes"]),
  }));
}

async function folderBytes(dir: string): Promise<number> {
  let sum = 0;
  for (const name of await readdir(dir).catch(() => [])) {
    sum += await stat(join(dir, name)).then(
      ({ size }) => size,
      () => 0,
    );
  }
  return sum;
}

async function unpack(dir: string): Promise<void> {
  const debs = join(dir, "debs");
  const root = join(dir, "root");
  for (const deb of await readdir(debs)) await command("dpkg-deb", ["-x", join(debs, deb), root]);
  for (const path of [debs, ...UNUSED_FOLDERS.map((unused) => join(root, unused))]) {
    await rm(path, { recursive: true, force: true });
  }
  await makeLinksRelative(root);
  await command("chmod", ["-R", "go+rX", dir]);
}

/** Makes a link to /etc/x point to the folder's own /etc/x, not to the machine's. */
async function makeLinksRelative(root: string): Promise<void> {
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) continue;
    const path = join(entry.parentPath, entry.name);
    const target = await readlink(path);
    if (!target.startsWith("/")) continue;
    await unlink(path);
    await symlink(relative(dirname(path), join(root, target)), path);
  }
}
