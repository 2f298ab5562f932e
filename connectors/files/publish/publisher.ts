/**
 * Makes files of entries of the log. The same entries always give the same files under the same names, so that a process
 * that was killed in between is repeated by the next process that opens the sink: readers never see a change twice.
 */
import { appendFile, mkdtemp, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { failpoint } from "../../../src/core/failpoint.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
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

export class Publisher {
  readonly #store: Store;
  readonly #parquet: ParquetMaker;

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
      const files: PublishedFile[] = [];
      const lost: PublishedFile[] = [];
      const withheld = new Map<string, MillraceError>();
      for (const [i, group] of (await this.#gathered(publication, folder, signal)).entries()) {
        const { file, made } = await this.#made(group, `${number}-${i}`, text, signal);
        const { id } = group.shape;
        const refused = withheld.get(id) ?? (await this.#refusal(file.path, made, signal));
        if (refused !== null) withheld.set(id, refused);
        (refused === null ? files : lost).push(file);
        failpoint("files.file-written");
      }
      const format = text === "csv" ? "parquet" : "ndjson";
      failpoint("files.before-manifest");
      const bytes = manifestBytes(head, { files, lost }, format);
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
      await this.#parquet.make(shape, group, made);
      await rm(group.path);
    }
    const { size: bytes } = await stat(made);
    const path = fileKey(shape, { from, until, date }, number, text === "csv" ? "parquet" : "ndjson");
    return { made, file: { path, shape, date, rows, bytes, from: String(from), until: String(until) } };
  }

  /** Why the table's folder takes no files; null: the file is there. */
  async #refusal(path: string, made: string, signal: AbortSignal): Promise<MillraceError | null> {
    try {
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
