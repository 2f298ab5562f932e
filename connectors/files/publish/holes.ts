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
import type { MillraceError } from "../../../src/core/errors.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { TargetHint } from "../../../src/core/contracts/sink.ts";
import { filesError, READ_AGAIN, refusalThere } from "../errors.ts";
import { manifestKey, manifestOf, MANIFESTS, numberOf } from "../names.ts";
import type { Store } from "../store/store.ts";
import { type Manifest, type Published, readManifest } from "./manifest.ts";

interface Hole {
  readonly manifest: number;
  /** Files that the manifest lists; null: the manifest itself is gone. */
  readonly paths: readonly string[] | null;
  /**
   * Ids of the tables whose changes are gone; null: they may be of any table. Of a manifest that is gone nobody knows how many
   * files it listed, so files that are there do not tell that no others were.
   */
  readonly tables: ReadonlySet<string> | null;
}

/** Where a round stands. */
interface Round {
  /** The next manifest; 0: there is none before. */
  number: number;
  left: number;
}

/** Older manifests have been read by every reader that reads regularly. */
const MANIFESTS_WATCHED = 100;

type File = Manifest["files"][number];

interface Looking {
  readonly manifest: number;
  readonly left: File[];
  readonly missing: File[];
}

/** Looks through the newest manifests and their files, some at each call, round after round. */
export class Holes {
  /** Old files go with their manifests: those of the oldest one may be half removed. */
  readonly #keeps: boolean;
  /** From the newest manifest to those before it. */
  #round: Round | null = null;
  #looking: Looking | null = null;
  /** This manifest and those before it are gone, with their files. */
  #movedAway = 0;
  /** By table: why nobody knows whether files are there. */
  readonly #unseen = new Map<string, MillraceError>();
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
    const found = await this.look(store, published.number, countMax, signal);
    if (found.length === 0) return;
    this.#open = found;
    const lostTables = complete.filter((id) => this.#isOf(id));
    const what = found.map(holeText).join("; ");
    throw filesError("MR3110", "reopen", `${what}, below ${store.location}: ${lostText(lostTables)}`, {
      lostTables,
      hint: READ_AGAIN,
    });
  }

  /** Tables whose files the login may not see. */
  get hints(): readonly TargetHint[] {
    return Array.from(this.#unseen, ([table, { code, message, hint = "" }]) => ({
      table,
      what: `whether files are gone can't be seen: ${code} ${message}`,
      fix: hint,
    }));
  }

  /** The tables of which changes are gone. */
  tablesOf(tables: readonly TableVersion[]): readonly TableVersion[] {
    return tables.filter((table) => this.#isOf(table.id));
  }

  /** Invariant: a hole is closed after the checkpoint without its tables is durable. */
  async close(
    store: Store,
    published: Published,
    complete: readonly string[],
    nowMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.#open.length === 0 || complete.some((id) => this.#isOf(id))) return;
    for (const hole of this.#open.toSorted((a, b) => a.manifest - b.manifest)) {
      const there = await readManifest(store, hole.manifest, signal);
      if (there === null) await replaceManifest(store, hole.manifest, published, nowMs, signal);
      else await shortenManifest(store, hole, there, signal);
    }
    this.#open = [];
    this.#round = null;
  }

  #isOf(id: string): boolean {
    return this.#open.some(({ tables }) => tables === null || tables.has(id));
  }

  /** Goes on where the last call ended, and ends with the round. */
  async look(store: Store, newest: number, countMax: number, signal: AbortSignal): Promise<readonly Hole[]> {
    const found: Hole[] = [];
    const round = (this.#round ??= { number: newest, left: MANIFESTS_WATCHED });
    for (let count = 0; count < countMax; count++) {
      if (this.#looking === null) {
        if (round.left === 0 || round.number <= this.#movedAway) {
          this.#round = null;
          break;
        }
        this.#looking = await this.#begun(store, round, newest, found, signal);
        if (this.#looking === null) continue;
      }
      const { manifest, left, missing } = this.#looking;
      const file = left.pop();
      if (file !== undefined) {
        if (await this.#isGone(store, file, signal)) missing.push(file);
        continue;
      }
      this.#looking = null;
      if (missing.length === 0 || (this.#keeps && manifest <= ((await oldest(store, signal)) ?? 0))) continue;
      const tables = new Set(missing.map(({ table }) => table));
      found.push({ manifest, paths: missing.map(({ path }) => path), tables });
    }
    return found;
  }

  /** Of what may not be seen nobody knows. */
  async #isGone(store: Store, { path, table }: File, signal: AbortSignal): Promise<boolean> {
    try {
      const isGone = !(await store.has(path, signal)) && !(await isMovedAway(store, path, signal));
      this.#unseen.delete(table);
      return isGone;
    } catch (error) {
      const refusal = refusalThere(error);
      if (refusal === null) throw error;
      this.#unseen.set(table, refusal);
      return false;
    }
  }

  async #begun(
    store: Store,
    round: Round,
    newest: number,
    found: Hole[],
    signal: AbortSignal,
  ): Promise<Looking | null> {
    const manifest = round.number;
    round.left--;
    const there = await readManifest(store, manifest, signal);
    if (there !== null) {
      round.number = there.previous;
      return { manifest, left: [...there.files], missing: [] };
    }
    const before = await newestBefore(store, manifest, signal);
    round.number = before;
    // The newest one always stays.
    const isOld = manifest !== newest && before === 0;
    if (isOld && (this.#keeps || !(await hasFiles(store, manifest, signal)))) this.#movedAway = manifest;
    else found.push({ manifest, paths: null, tables: null });
    return null;
  }
}

async function oldest(store: Store, signal: AbortSignal): Promise<number | null> {
  const is = (key: string): boolean => numberOf(key, MANIFESTS) !== null;
  const [first] = await store.find(MANIFESTS, { is, countMax: 1 }, signal);
  return first === undefined ? null : numberOf(first, MANIFESTS);
}

/** 0: there is none. */
async function newestBefore(store: Store, manifest: number, signal: AbortSignal): Promise<number> {
  const keys = await store.list(MANIFESTS, signal);
  const numbers = keys.flatMap((key) => numberOf(key, MANIFESTS) ?? []);
  return numbers.findLast((number) => number < manifest) ?? 0;
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

/** Of manifests up to this one: the names of files end in the manifest's number and their place in it. */
async function hasFiles(store: Store, manifest: number, signal: AbortSignal): Promise<boolean> {
  const is = (key: string): boolean => (manifestOf(key) ?? Infinity) <= manifest;
  try {
    return (await store.find("", { is, countMax: 1 }, signal)).length > 0;
  } catch (error) {
    if (refusalThere(error) === null) throw error;
    return true;
  }
}

/** So that readers who wait for this number go on. Behind the newest one the numbers go on. */
async function replaceManifest(
  store: Store,
  manifest: number,
  { number, ordinal, lastSequence }: Published,
  madeMs: number,
  signal: AbortSignal,
): Promise<void> {
  const previous = await newestBefore(store, manifest, signal);
  const before = previous === 0 ? null : await readManifest(store, previous, signal);
  const isNewest = manifest === number;
  const value = {
    position: "",
    wholeBelow: "0",
    ...before,
    manifest,
    ordinal: isNewest ? ordinal : (before?.ordinal ?? 0) + 1,
    previous,
    lastSequence: isNewest ? lastSequence : (before?.lastSequence ?? 0),
    madeMs,
  };
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
