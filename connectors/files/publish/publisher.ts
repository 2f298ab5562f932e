/**
 * Makes files of entries of the log. The same entries always give the same files under the same names, so that a process
 * that was killed in between is repeated by the next process that opens the sink: readers never see a change twice.
 */
import { appendFile, mkdtemp, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { eachOf } from "../../../src/core/each-of.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { Turn } from "../../../src/core/waiting.ts";
import { denialThere, filesError } from "../errors.ts";
import type { Part, RowText, Shape } from "../log/entry.ts";
import { readEntry } from "../log/log.ts";
import { fileKey, logKey, manifestKey } from "../names.ts";
import type { Store } from "../store/store.ts";
import { lostTables, manifestBytes, type ManifestHead, type PublishedFile, readManifest } from "./manifest.ts";
import type { ParquetMaker } from "./parquet.ts";

export interface Publication {
  readonly since: number;
  /** The last entry. */
  readonly until: number;
  readonly head: ManifestHead;
  readonly text: RowText;
}

/** A folder took no files of the table. */
export interface Withheld {
  readonly tableId: string;
  readonly error: MillraceError;
}

/** Changes of one shape of a table and one day, which become one file. */
interface Group {
  readonly shape: Shape;
  readonly date: string;
  /** On this machine. */
  readonly path: string;
  from: bigint;
  until: bigint;
  rows: number;
  bytes: number;
  rowBytesMax: number;
}

interface MadeFile {
  readonly made: string;
  readonly file: PublishedFile;
}

/** Of the text of one file: DuckDB holds about as much in memory while it makes it. */
const FILE_BYTES_MAX = 128 * 1024 * 1024;
/** Each file costs a bucket's delay: those of so many tables are written at once. */
const TABLES_AT_ONCE = 10;
/** A larger file, of which a bucket's client holds a part in memory, is sent alone. */
const SMALL_BYTES = 1024 * 1024;

export class Publisher {
  readonly #store: Store;
  readonly #parquet: ParquetMaker;
  readonly #making = new Turn();
  readonly #sending = new Turn();

  constructor(store: Store, parquet: ParquetMaker) {
    this.#store = store;
    this.#parquet = parquet;
  }

  /**
   * When it resolves, the manifest is there: the place takes what is the sink's own. The tables whose folders refused files lack
   * those that the manifest lists as lost.
   */
  async publish(publication: Publication, signal: AbortSignal): Promise<readonly Withheld[]> {
    const folder = await mkdtemp(join(await this.#store.scratch(), "publish-"));
    try {
      const { head, text } = publication;
      const { number } = head.manifest;
      const written: (readonly [ordinal: number, PublishedFile])[] = [];
      const left: typeof written = [];
      const withheld = new Map<string, MillraceError>();
      const groups = await this.#gathered(publication, folder, signal);
      const byTable = Map.groupBy(groups.entries(), ([, { shape }]) => shape.id);
      // What follows a file that was refused is not written either.
      await eachOf(byTable, TABLES_AT_ONCE, async ([id, own]) => {
        for (const [i, group] of own) {
          const { file, made } = await this.#made(group, `${number}-${i}`, text, signal);
          const refused = withheld.get(id) ?? (await this.#refusal(file, made, signal));
          if (refused !== null) withheld.set(id, refused);
          (refused === null ? written : left).push([i, file]);
          failpoint("files.file-written");
        }
      });
      const inOrder = (list: typeof written) => list.toSorted(([a], [b]) => a - b).map(([, file]) => file);
      const format = text === "csv" ? "parquet" : "ndjson";
      failpoint("files.before-manifest");
      const bytes = manifestBytes(head, { files: inOrder(written), lost: inOrder(left) }, format);
      const isNew = await this.#store.create(manifestKey(number), [bytes], signal);
      failpoint("files.manifest-written");
      // Of a process that was killed behind it: what readers may have read counts.
      if (!isNew)
        for (const id of lostTables(await readManifest(this.#store, number, signal)))
          if (!withheld.has(id)) withheld.set(id, leftOut(number));
      return Array.from(withheld, ([tableId, error]) => ({ tableId, error }));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** One entry at a time is in memory. */
  async #gathered({ since, until }: Publication, folder: string, signal: AbortSignal): Promise<readonly Group[]> {
    const groups = new Groups(folder);
    for (let sequence = since; sequence <= until; sequence++) {
      const entry = await readEntry(this.#store, sequence, signal);
      if (entry === null) throw filesError("MR3110", "reopen", `${logKey(sequence)} is gone before it became files`);
      for (const [i, part] of entry.head.parts.entries()) {
        await appendFile(groups.of(entry.head.shapes[part.shape]!, part).path, entry.parts[i]!);
      }
    }
    return groups.all;
  }

  /** On this machine. */
  async #made(group: Group, number: string, text: RowText, signal: AbortSignal): Promise<MadeFile> {
    const { shape, date, from, until, rows } = group;
    signal.throwIfAborted();
    let made = group.path;
    if (text === "csv") {
      made = `${group.path}.parquet`;
      using _ = await this.#making.take(signal);
      await this.#parquet.make(shape, group, made);
      await rm(group.path);
    }
    const { size: bytes } = await stat(made);
    const path = fileKey(shape, { from, until, date }, number, text === "csv" ? "parquet" : "ndjson");
    return { made, file: { path, shape, date, rows, bytes, from: String(from), until: String(until) } };
  }

  /** Why the table's folder takes no files; null: the file is there. */
  async #refusal({ path, bytes }: PublishedFile, made: string, signal: AbortSignal): Promise<MillraceError | null> {
    try {
      using _ = bytes > SMALL_BYTES ? await this.#sending.take(signal) : null;
      await this.#store.put(path, made, signal);
      return null;
    } catch (error) {
      const denial = denialThere(error);
      if (denial === null) throw error;
      await rm(made, { force: true });
      return denial;
    }
  }
}

function leftOut(manifest: number): MillraceError {
  return filesError("MR3203", "blocked", `${manifestKey(manifest)} lacks files whose folder took none`);
}

class Groups {
  readonly all: Group[] = [];
  readonly #folder: string;
  /** Those that have room. */
  readonly #open = new Map<string, Group>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The group that the part belongs to, which counts it. */
  of(shape: Shape, { date, rows, bytes, rowBytesMax, ...range }: Part): Group {
    const id = JSON.stringify([shape.id, shape.fingerprint, date]);
    const [from, until] = [BigInt(range.from), BigInt(range.until)];
    let group = this.#open.get(id);
    if (group === undefined || group.bytes + bytes > FILE_BYTES_MAX) {
      const path = join(this.#folder, String(this.all.length));
      group = { shape, date, path, from, until, rows: 0, bytes: 0, rowBytesMax: 0 };
      this.all.push(group);
      this.#open.set(id, group);
    }
    if (from < group.from) group.from = from;
    if (until > group.until) group.until = until;
    group.rows += rows;
    group.bytes += bytes;
    group.rowBytesMax = Math.max(group.rowBytesMax, rowBytesMax);
    return group;
  }
}
