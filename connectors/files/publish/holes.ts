/**
 * Finds files and manifests that somebody removed, so that readers would miss changes. Their tables are read again: their
 * rows come once more, behind what is gone. As soon as the checkpoint no longer calls these tables complete, the hole is
 * closed: the manifest lists only what is there, and says what is lost.
 *
 * Old files may be moved away by their date, and manifests from the oldest on: what lies before all that is there is no
 * hole.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import { namesOfTable } from "../../../src/core/model/schema.ts";
import { filesError } from "../errors.ts";
import { folderOf, manifestKey, MANIFESTS, numberOf } from "../names.ts";
import type { Store } from "../store/store.ts";

export interface Hole {
  readonly manifest: number;
  /** Files that the manifest lists; null: the manifest itself is gone. */
  readonly paths: readonly string[] | null;
  /** The folders of the tables whose changes are gone; null: they may be of any table. */
  readonly folders: ReadonlySet<string> | null;
}

/** What the log says of the manifests. */
export interface Published {
  /** The number that the next manifest gets. */
  readonly next: number;
  /** The last entry whose changes are in files. */
  readonly lastEntry: number;
}

/** Older manifests have been read by every reader that reads regularly. */
const MANIFESTS_WATCHED = 100;
/** Of one manifest. */
const FILES_MAX = 100_000;

const FILE = z.looseObject({ path: z.string() });
const MANIFEST = z.looseObject({ lastEntry: z.int(), files: z.array(FILE), lost: z.unknown().optional() });
type Manifest = z.infer<typeof MANIFEST>;

interface Looking {
  readonly manifest: number;
  readonly left: string[];
  readonly missing: string[];
}

/** Looks through the newest manifests and their files, some at each call, round after round. */
export class Holes {
  /** Old files go with their manifests: those of the oldest one may be half removed. */
  readonly #keeps: boolean;
  /** Manifests that were not looked at in this round; the newest first. */
  #numbers: number[] = [];
  #looking: Looking | null = null;
  /** Those below all that are there, of which no file is there either. */
  readonly #movedAway = new Set<number>();
  /** Found and told, and not closed. */
  #open: readonly Hole[] = [];

  constructor(keeps: boolean) {
    this.#keeps = keeps;
  }

  /** Throws if it finds holes, once for each. `countMax`: of objects that are looked at. */
  async expectNone(
    store: Store,
    published: Published,
    complete: readonly string[],
    countMax: number,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.#open.length > 0) return;
    const found = await this.look(store, published.next, countMax, signal);
    if (found.length === 0) return;
    this.#open = found;
    const lostTables = complete.filter((id) => this.#isOf(folderOf(namesOfTable(id))));
    const what = found.map(holeText).join("; ");
    throw filesError(
      "MR4218",
      "reopen",
      `${what}, below ${store.place}: ${lostText(lostTables)}`,
      undefined,
      lostTables,
    );
  }

  /** The tables of which changes are gone. */
  tablesOf(tables: readonly TableVersion[]): readonly TableVersion[] {
    return tables.filter((table) => this.#isOf(folderOf(table)));
  }

  /** Invariant: a hole is closed after the checkpoint without its tables is durable. */
  async close(
    store: Store,
    published: Published,
    complete: readonly string[],
    nowMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.#open.length === 0 || complete.some((id) => this.#isOf(folderOf(namesOfTable(id))))) return;
    for (const hole of this.#open.toSorted((a, b) => a.manifest - b.manifest)) {
      const there = await readManifest(store, hole.manifest, signal);
      if (there === null) await replaceManifest(store, hole.manifest, published, nowMs, signal);
      else await shortenManifest(store, hole, there, signal);
    }
    this.#open = [];
    this.#numbers = [];
  }

  #isOf(folder: string): boolean {
    return this.#open.some(({ folders }) => folders === null || folders.has(folder));
  }

  /** Goes on where the last call ended, and ends with the round. */
  async look(store: Store, next: number, countMax: number, signal: AbortSignal): Promise<readonly Hole[]> {
    const found: Hole[] = [];
    if (this.#looking === null && this.#numbers.length === 0) {
      const from = Math.max(1, next - MANIFESTS_WATCHED);
      const numbers = Array.from({ length: next - from }, (_, i) => next - 1 - i);
      this.#numbers = numbers.filter((number) => !this.#movedAway.has(number));
    }
    for (let count = 0; count < countMax; count++) {
      this.#looking ??= await this.#begun(store, next, found, signal);
      if (this.#looking === null) {
        if (this.#numbers.length === 0) break;
        continue;
      }
      const { manifest, left, missing } = this.#looking;
      const path = left.pop();
      if (path !== undefined) {
        if (!(await store.has(path, signal)) && !(await isMovedAway(store, path, signal))) missing.push(path);
        continue;
      }
      this.#looking = null;
      if (missing.length === 0 || (this.#keeps && manifest <= ((await oldest(store, signal)) ?? 0))) continue;
      const folders = new Set(missing.map((file) => file.split("/")[0]!));
      found.push({ manifest, paths: missing, folders });
    }
    return found;
  }

  async #begun(store: Store, next: number, found: Hole[], signal: AbortSignal): Promise<Looking | null> {
    const manifest = this.#numbers.shift();
    if (manifest === undefined) return null;
    const there = await readManifest(store, manifest, signal);
    if (there !== null) return { manifest, left: there.files.map(({ path }) => path), missing: [] };
    const places = await filesOf(store, manifest, signal);
    // The newest one always stays.
    const isOld = manifest !== next - 1 && manifest < ((await oldest(store, signal)) ?? next);
    if (isOld && (this.#keeps || places.length === 0)) this.#movedAway.add(manifest);
    else found.push({ manifest, paths: null, folders: foldersOf(places) });
    return null;
  }
}

async function oldest(store: Store, signal: AbortSignal): Promise<number | null> {
  const is = (key: string): boolean => numberOf(key, MANIFESTS) !== null;
  const [first] = await store.find(MANIFESTS, { is, countMax: 1 }, signal);
  return first === undefined ? null : numberOf(first, MANIFESTS);
}

/** Null also for what no reader can read. */
async function readManifest(store: Store, manifest: number, signal: AbortSignal): Promise<Manifest | null> {
  const bytes = await store.read(manifestKey(manifest), signal);
  try {
    return MANIFEST.safeParse(JSON.parse(bytes?.toString("utf8") ?? "null")).data ?? null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** All files of the table up to that day are gone, and later ones are there. */
async function isMovedAway(store: Store, path: string, signal: AbortSignal): Promise<boolean> {
  const folder = `${path.split("/")[0]}/`;
  const [first] = await store.find(folder, { is: (key) => dayOf(key) !== "", countMax: 1 }, signal);
  return first !== undefined && dayOf(first) > dayOf(path);
}

function dayOf(path: string): string {
  return /\/date=([\d-]+)\//.exec(path)?.[1] ?? "";
}

interface FilePlace {
  readonly folder: string;
  /** In its manifest. */
  readonly place: number;
}

/** The names of files end in the manifest's number and their place in it. */
async function filesOf(store: Store, manifest: number, signal: AbortSignal): Promise<readonly FilePlace[]> {
  const name = new RegExp(`^([^/]+)/date=[^/]+/\\d+-\\d+-${manifest}-(\\d+)\\.\\w+$`);
  const keys = await store.find("", { is: (key) => name.test(key), countMax: FILES_MAX }, signal);
  return keys.map((key) => ({ folder: key.split("/")[0]!, place: Number(name.exec(key)?.[2]) }));
}

/** Null if some seem to be gone too. */
function foldersOf(files: readonly FilePlace[]): ReadonlySet<string> | null {
  const places = files.map(({ place }) => place).toSorted((a, b) => a - b);
  if (files.length === 0 || places.some((place, i) => place !== i)) return null;
  return new Set(files.map(({ folder }) => folder));
}

/** So that readers who wait for this number go on. Behind the newest one the numbers of entries go on. */
async function replaceManifest(
  store: Store,
  manifest: number,
  { next, lastEntry }: Published,
  madeMs: number,
  signal: AbortSignal,
): Promise<void> {
  const before = manifest > 1 ? await readManifest(store, manifest - 1, signal) : null;
  const last = manifest === next - 1 ? lastEntry : (before?.lastEntry ?? 0);
  const value = { position: "", wholeBelow: "0", ...before, manifest, lastEntry: last, madeMs };
  await putManifest(store, manifest, { ...value, files: [], lost: "all" }, signal);
}

async function shortenManifest(store: Store, { manifest, paths }: Hole, there: Manifest, signal: AbortSignal) {
  const gone = new Set(paths);
  const lost = [...(Array.isArray(there.lost) ? there.lost : []), ...there.files.filter(({ path }) => gone.has(path))];
  const files = there.files.filter(({ path }) => !gone.has(path));
  await putManifest(store, manifest, { ...there, files, lost }, signal);
}

async function putManifest(store: Store, manifest: number, value: object, signal: AbortSignal): Promise<void> {
  const path = join(await store.scratch(), `manifest-${manifest}`);
  await writeFile(path, `${JSON.stringify(value)}\n`);
  await store.put(manifestKey(manifest), path, signal);
}

export function holeText({ manifest, paths }: Hole): string {
  if (paths === null) return `the manifest ${manifestKey(manifest)} is gone`;
  const others = paths.length === 1 ? "" : ` and ${paths.length - 1} more files`;
  return `${paths[0]}${others} of manifest ${manifest} ${paths.length === 1 ? "is" : "are"} gone`;
}

function lostText(tables: readonly string[]): string {
  return tables.length === 0 ? "no table of the sink lost changes by it" : `changes of ${tables.join(", ")} are lost`;
}
