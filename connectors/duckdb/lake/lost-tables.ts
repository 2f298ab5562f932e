/** The tables of a lake's sink that have lost data files. */
import { findMillraceError, type MillraceError } from "../../../src/core/errors.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Opened } from "../engine-sink.ts";
import { classify, duckdbError } from "../errors.ts";
import { quoteName, targetKey, type TargetName, targetOf, quoteLiteral } from "../names.ts";
import type { Lake } from "./lake.ts";
import type { TargetForm } from "../../warehouse/own-columns.ts";
import { statSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename } from "node:path";
import { type EngineConnection, inTransaction, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { METADATA } from "./engine.ts";
import type { LakePlace } from "./place.ts";
import { SPOILED } from "./rules.ts";

interface LostFilesOptions {
  readonly schema: string | undefined;
  readonly form: TargetForm;
  /** How often the files are listed; default: LISTED_MS. */
  readonly listedMs?: number | undefined;
}

/** How often the files are listed at most: each thousand of a bucket's is a request that is paid for. */
const LISTED_MS = { folder: 30_000, bucket: 600_000 } as const;
/** A look takes at most this part of the time. */
const LOOK_RESTS = 100;

interface Target {
  readonly key: string;
  /** Of the tables that it has rows of. */
  readonly ids: ReadonlySet<string>;
  readonly name: TargetName;
}

/**
 * A table with a lost file can be neither read nor merged into. A mirror's is reported as lost, as a table is that somebody
 * dropped: Millrace creates it again and fills it, while the others go on. What else has lost files waits for somebody.
 * Lost files are met where they are read; those of tables whose rows do not move are looked for when the sink is opened, and
 * now and then: one listing, whatever the number of files.
 */
export class TablesWithLostFiles {
  readonly #options: LostFilesOptions;
  /** By target key, as last prepared. */
  readonly #targets = new Map<string, Target>();
  /** Keys of targets whose tables were reported as lost: each is created again when it is prepared next. */
  readonly #lost = new Set<string>();
  /** What maintenance met since the last look, by target key. */
  readonly #heard = new Map<string, MillraceError>();
  /** By target key, a data file that is missing, as the last look found it. */
  #missing = new Map<string, LostFile>();
  /** If not, it is rather their folder, disk or bucket that is missing. */
  #othersAreThere = true;
  /** See `answerLost`: what is missing then need not have been there. */
  #isDoubtful = false;
  /** When the next look is due, by `performance.now()`. */
  #looksAtMs = -Infinity;

  constructor(options: LostFilesOptions) {
    this.#options = options;
  }

  /** Before the targets of these tables are prepared, or lose rows for a reset. Older snapshots keep what they have. */
  async preparing(
    tables: readonly TableVersion[],
    { connection, store, checkpoint }: Opened<Lake>,
    purpose: "prepare" | "reset",
    signal: AbortSignal,
  ): Promise<void> {
    for (const table of tables) {
      const name = this.#nameOf(table);
      if (name === null) continue;
      const key = targetKey(name);
      const others = table.scope === undefined ? [] : (this.#targets.get(key)?.ids ?? []);
      const ids = new Set([...others, table.id]);
      this.#targets.set(key, { key, ids, name });
      this.#missing.delete(key);
      // Invariant: the sink has stored that it holds none of its tables, or stores it before it does anything else.
      if (!this.#lost.has(key) || (purpose === "prepare" && isHeld({ ids }, checkpoint))) continue;
      const sql = `DROP TABLE IF EXISTS ${quoteName(store.catalogue, name.schema, name.table)}`;
      const drop = async () => void (await connection.run(sql));
      await store.exclusively(() => inTransaction(connection, () => checkpoint.fence(connection), drop), signal);
      this.#lost.delete(key);
    }
  }

  /** Maintenance could not read a file of this table. */
  heardOf(target: TargetName, error: MillraceError): void {
    this.#heard.set(targetKey(target), error);
  }

  /** Files may have gone since the last look. */
  lookAgain(): void {
    this.#looksAtMs = -Infinity;
  }

  /**
   * The answer to a commit was lost. The catalogue may have taken it, now or later, and DuckLake removes the files of a
   * commit that seems to have failed.
   */
  answerLost(): void {
    this.#isDoubtful = true;
    this.lookAgain();
  }

  /** Which of these tables have lost files, and are created again. Throws if that would lose rows, or if no file is there. */
  async missing(tables: readonly TableVersion[], opened: Opened<Lake>): Promise<readonly TableVersion[]> {
    const keyOf = (table: TableVersion): string => {
      const name = this.#nameOf(table);
      return name === null ? "" : targetKey(name);
    };
    const fileOf = (table: TableVersion): LostFile | undefined => this.#missing.get(keyOf(table));
    // A bucket may answer late: it is asked while the sink is idle.
    if (opened.store.settings.place.bucket === null) await this.#look(opened);
    // Somebody may have put them back since the last look.
    if (tables.some(fileOf)) {
      this.lookAgain();
      await this.#look(opened);
    }
    for (const table of tables) {
      const file = fileOf(table);
      const refusal = file === undefined ? null : this.#unfilled(missingError(file), table.id, this.#othersAreThere);
      if (refusal !== null) throw refusal;
    }
    for (const table of tables.filter(fileOf)) this.#lost.add(keyOf(table));
    // What was reported stays so until it is created again.
    return tables.filter((table) => this.#lost.has(keyOf(table)));
  }

  /** Reports tables that have lost files: those that maintenance could not read, and those that are missing. */
  async verify(opened: Opened<Lake>): Promise<void> {
    for (const [key, error] of this.#heard) {
      this.#heard.delete(key);
      const target = this.#targets.get(key);
      const known = target === undefined ? error : await this.#meaning(error, target, opened);
      if (known.kind === "reopen") throw known;
    }
    await this.#look(opened);
    const held = [...this.#targets.values()].filter((target) => isHeld(target, opened.checkpoint));
    const [first, ...others] = held.flatMap(({ key }) => this.#missing.get(key) ?? []);
    if (first === undefined) return;
    this.lookAgain();
    const [id = ""] = this.#targets.get(targetKey(first.target))!.ids;
    const error = missingError(first);
    throw this.#unfilled(error, id, this.#othersAreThere) ?? readAgainError(error, this.#tablesOf([first, ...others]));
  }

  /** Compares the files that the catalogue names with those that are there. A bucket that does not answer is asked again later. */
  async #look({ connection, store }: Opened<Lake>): Promise<void> {
    const begunMs = performance.now();
    if (begunMs < this.#looksAtMs) return;
    this.#missing = new Map();
    const { place } = store.settings;
    try {
      // A listing may take long: nobody waits for it.
      const found = await store.whole(() => findLostFiles(connection, place, null));
      this.#missing = new Map(found.lost.map((file) => [targetKey(file.target), file]));
      this.#othersAreThere = found.othersAreThere || this.#isDoubtful;
      if (found.lost.length === 0) this.#isDoubtful = false;
    } catch (error) {
      const { kind, connector } = classify(error, "listing the lake's files");
      if (place.bucket === null || kind === "aborted" || connector?.part === "catalogue") throw error;
    }
    const everyMs = this.#options.listedMs ?? LISTED_MS[place.bucket === null ? "folder" : "bucket"];
    const endedMs = performance.now();
    this.#looksAtMs = endedMs + Math.max(everyMs, (endedMs - begunMs) * LOOK_RESTS);
  }

  /** What a failure over a data file means: for which tables, and what becomes of them. */
  async meaning(error: MillraceError, opened: Opened<Lake>): Promise<MillraceError> {
    const target = [...this.#targets.values()].find(({ ids }) => error.table !== undefined && ids.has(error.table));
    if (error.code !== "MR3226" || error.kind !== "blocked" || target === undefined) return error;
    try {
      return await this.#meaning(error, target, opened);
    } catch (failure) {
      // The catalogue, or the bucket, does not answer now.
      if (findMillraceError(failure) !== undefined) throw failure;
      return error;
    }
  }

  async #meaning(error: MillraceError, target: Target, { connection, store }: Opened<Lake>): Promise<MillraceError> {
    const { message } = error;
    const found = await findLostFiles(connection, store.settings.place, { target: target.name, message });
    const [id = ""] = target.ids;
    const isLost = found.lost.some((file) => targetKey(file.target) === target.key);
    if (!isLost) return ofAll(error, id);
    return this.#unfilled(error, id, found.othersAreThere) ?? readAgainError(error, this.#tablesOf(found.lost));
  }

  /** Why a table that has lost files is not created again and filled; null: it is. */
  #unfilled(error: MillraceError, id: string, othersAreThere: boolean): MillraceError | null {
    const { mode, deletes } = this.#options.form;
    if (!othersAreThere) return ofAll(error.with({ message: `${error.message}, and so are all others` }), id);
    if (mode === "history") return ofAll(error, id);
    return deletes === "soft" ? ofOne(error, id) : null;
  }

  /** Ids of the tables that are created again and filled. */
  #tablesOf(files: readonly { readonly target: TargetName }[]): readonly string[] {
    const targets = new Set(files.flatMap((file) => this.#targets.get(targetKey(file.target)) ?? []));
    for (const { key } of targets) this.#lost.add(key);
    return [...targets].flatMap(({ ids }) => [...ids]);
  }

  /** Null: it can't have that name, as its own preparation says. */
  #nameOf(table: TableVersion): TargetName | null {
    try {
      return targetOf(table, this.#options.schema);
    } catch {
      return null;
    }
  }
}

/** Whether the sink says of one of its tables that it is complete. */
function isHeld({ ids }: Pick<Target, "ids">, { held }: Opened<Lake>["checkpoint"]): boolean {
  return [...ids].some((id) => held?.tables[id] !== undefined);
}

function missingError({ path }: LostFile): MillraceError {
  return duckdbError("MR3226", "blocked", `the data file ${path} of the lake is missing`);
}

function readAgainError({ message, cause }: MillraceError, lostTables: readonly string[]): MillraceError {
  const hint = "nothing: Millrace creates the table again and fills it";
  const told = `${message}; filled again: ${lostTables.join(", ")}`;
  return duckdbError("MR3226", "reopen", told, { hint, lostTables, cause });
}

/** The table is suspended. Its rows that are deleted at the source can't be read again, so Millrace does not drop it. */
function ofOne(error: MillraceError, table: string): MillraceError {
  const hint = "put the file back; if it is lost, drop the table in the lake: Millrace creates and fills it again";
  return error.with({ hint, table });
}

/** The sink waits: all files are missing, or a history can't be filled again. */
function ofAll(error: MillraceError, table: string): MillraceError {
  return error.with({ message: `${error.message}; the table is ${table}`, table: undefined });
}

/** Data files that a lake's catalogue names, and that somebody removed or spoiled. */
interface LostFile {
  readonly target: TargetName;
  readonly path: string;
}

interface LostFiles {
  readonly lost: readonly LostFile[];
  /** Whether files of the lake are there. If not, it is rather their folder, disk or bucket that is missing. */
  readonly othersAreThere: boolean;
}

/** Whether the present snapshot needs them, too. Files that other programs added are elsewhere. */
const NAMED = ["ducklake_data_file", "ducklake_delete_file"]
  .map(
    (files) =>
      "SELECT s.schema_name, t.table_name, s.path || t.path || f.path, " +
      "coalesce(f.end_snapshot, t.end_snapshot, s.end_snapshot) IS NULL " +
      `FROM ${METADATA}.${files} AS f JOIN ${METADATA}.ducklake_table AS t USING (table_id) JOIN ${METADATA}.ducklake_schema AS s USING (schema_id) ` +
      "WHERE f.path_is_relative::BOOLEAN AND t.path_is_relative::BOOLEAN AND s.path_is_relative::BOOLEAN",
  )
  .join(" UNION ALL ");

/** `failed`: the table that could not be read, and what was said about it. Null: files that are there are not looked into. */
async function findLostFiles(
  connection: EngineConnection,
  place: LakePlace,
  failed: { readonly target: TargetName; readonly message: string } | null,
): Promise<LostFiles> {
  // The names come first: a file that is named afterwards is not looked for.
  const named = await namedFiles(connection, place);
  const there = await (place.bucket === null ? inFolder(place.data) : inBucket(connection, place.data));
  const needed = named.filter(({ isNeeded }) => isNeeded);
  const othersAreThere = named.some(({ path }) => there.has(path));
  let missing: readonly LostFile[] = needed.filter(({ path }) => !there.has(path));
  if (missing.length > 0) {
    // Another program may have removed what was not needed any more.
    const still = new Set(
      (await namedFiles(connection, place)).flatMap(({ path, isNeeded }) => (isNeeded ? path : [])),
    );
    missing = missing.filter(({ path }) => still.has(path));
  }
  if (failed === null) return { lost: missing, othersAreThere };
  const ofFailed = needed.filter(
    ({ path, target }) => there.has(path) && targetKey(target) === targetKey(failed.target),
  );
  return { lost: [...missing, ...(await spoiledOf(connection, ofFailed, failed.message))], othersAreThere };
}

async function namedFiles(
  connection: EngineConnection,
  { data }: LakePlace,
): Promise<readonly (LostFile & { readonly isNeeded: boolean })[]> {
  const rows = await readTextRows(connection, `SELECT a, b, c, d::VARCHAR FROM (${NAMED}) AS named (a, b, c, d)`);
  return rows.map(([schema = "", table = "", path = "", isNeeded]) => ({
    target: { schema, table },
    path: data + path,
    isNeeded: isNeeded === "true",
  }));
}

/** DuckDB does not always say in which file it met what it can't read. */
async function spoiledOf(
  connection: EngineConnection,
  files: readonly LostFile[],
  message: string,
): Promise<readonly LostFile[]> {
  const said = files.filter(({ path }) => message.includes(basename(path)));
  if (said.length > 0 || message.includes(".parquet")) return said;
  const spoiled: LostFile[] = [];
  for (const file of files) if (!(await isReadable(connection, file.path))) spoiled.push(file);
  return spoiled;
}

interface Listing {
  has(path: string): boolean;
}

/** What a listing lacks, such as what lies behind a link, is missing only if the system says so. */
async function inFolder(data: string): Promise<Listing> {
  const names = await readdir(data, { recursive: true }).catch(() => []);
  const there = new Set(names.map((name) => data + name));
  return { has: (path) => there.has(path) || isInFolder(path) };
}

/** False only if the system says that nothing is there. */
function isInFolder(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true;
  }
}

async function inBucket(connection: EngineConnection, data: string): Promise<Listing> {
  const pattern = `${data.replaceAll(/[*[]/g, "[$&]")}**/*.parquet`;
  const rows = await readTextRows(connection, `SELECT file FROM glob(${quoteLiteral(pattern)})`);
  return new Set(rows.flatMap(([file]) => file ?? []));
}

async function isReadable(connection: EngineConnection, path: string): Promise<boolean> {
  try {
    await connection.run(`SELECT bit_xor(hash(f)) FROM read_parquet(${quoteLiteral(path)}) AS f`);
    return true;
  } catch (error) {
    return !isSpoiled(error);
  }
}

function isSpoiled(error: unknown): boolean {
  return error instanceof Error && SPOILED.test(error.message);
}
