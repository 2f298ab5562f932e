/** The tables of a lake's sink that have lost data files. */
import { findMillraceError, type MillraceError } from "../../../src/core/errors.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Opened } from "../engine-sink.ts";
import { duckdbError } from "../errors.ts";
import { quoteName, targetKey, type TargetName, targetOf, quoteLiteral } from "../names.ts";
import type { Lake } from "./lake.ts";
import type { TargetForm } from "../../warehouse/own-columns.ts";
import { statSync } from "node:fs";
import { basename } from "node:path";
import { type EngineConnection, inTransaction, readTextRows } from "../engine/engine.ts";
import { METADATA } from "./engine.ts";
import type { LakePlace } from "./place.ts";
import { SPOILED } from "./rules.ts";

interface LostFilesOptions {
  readonly schema: string | undefined;
  readonly form: TargetForm;
}

interface Target {
  readonly key: string;
  /** Of the tables that it has rows of. */
  readonly ids: ReadonlySet<string>;
  readonly name: TargetName;
}

/**
 * A table with a lost file can be neither read nor merged into. A mirror's is reported as lost, as a table is that somebody
 * dropped: Millrace creates it again and fills it, while the others go on. What else has lost files waits for somebody.
 */
export class TablesWithLostFiles {
  readonly #options: LostFilesOptions;
  /** By target key, as last prepared. */
  readonly #targets = new Map<string, Target>();
  /** Keys of targets whose tables were reported as lost: each is created again when it is prepared next. */
  readonly #lost = new Set<string>();
  /** What maintenance met since the last look, by target key. */
  readonly #heard = new Map<string, MillraceError>();
  /** See `answerLost`. */
  #isDoubtful = false;

  constructor(options: LostFilesOptions) {
    this.#options = options;
  }

  /** Before the targets of these tables are prepared, or lose rows for a reset. Older snapshots keep what they have. */
  async preparing(
    tables: readonly TableVersion[],
    { connection, store, checkpoint }: Opened<Lake>,
    purpose: "prepare" | "reset",
  ): Promise<void> {
    for (const table of tables) {
      const name = this.#nameOf(table);
      if (name === null) continue;
      const key = targetKey(name);
      const others = table.scope === undefined ? [] : (this.#targets.get(key)?.ids ?? []);
      const ids = new Set([...others, table.id]);
      this.#targets.set(key, { key, ids, name });
      // Invariant: the sink has stored that it holds none of its tables, or stores it before it does anything else.
      const isHeld = purpose === "prepare" && [...ids].some((id) => checkpoint.held?.tables[id] !== undefined);
      if (!this.#lost.has(key) || isHeld) continue;
      const sql = `DROP TABLE IF EXISTS ${quoteName(store.catalogue, name.schema, name.table)}`;
      const drop = async () => void (await connection.run(sql));
      await store.exclusively(() => inTransaction(connection, () => checkpoint.fence(connection), drop));
      this.#lost.delete(key);
    }
  }

  /** Maintenance could not read a file of this table. */
  heardOf(target: TargetName, error: MillraceError): void {
    this.#heard.set(targetKey(target), error);
  }

  /**
   * The answer to a commit was lost. The catalogue may have taken it, now or later, and DuckLake removes the files of a
   * commit that seems to have failed.
   */
  answerLost(): void {
    this.#isDoubtful = true;
  }

  /** Reports tables that have lost files to such a commit, if they can be filled again. */
  async afterLostAnswer({ connection, store }: Opened<Lake>): Promise<void> {
    if (!this.#isDoubtful) return;
    const found = await findLostFiles(connection, store.settings.place, null);
    this.#isDoubtful = false;
    const { mode, deletes } = this.#options.form;
    if (mode === "history" || deletes === "soft") return;
    const lost = this.#tablesOf(found.lost);
    if (lost.length === 0) return;
    throw duckdbError(
      "MR3226",
      "reopen",
      `a commit whose answer was lost has no data files; filled again: ${lost.join(", ")}`,
      { hint: "nothing: Millrace creates the table again and fills it", lostTables: lost },
    );
  }

  /** Reports tables whose files maintenance could not read, if they can be filled again. */
  async verify(opened: Opened<Lake>): Promise<void> {
    await this.afterLostAnswer(opened);
    for (const [key, error] of this.#heard) {
      this.#heard.delete(key);
      const target = this.#targets.get(key);
      const known = target === undefined ? error : await this.#meaning(error, target, opened);
      if (known.kind === "reopen") throw known;
    }
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
    const { mode, deletes } = this.#options.form;
    if (!found.othersAreThere || !isLost || mode === "history") return ofAll(error, id);
    if (deletes === "soft") return ofOne(error, id);
    return readAgainError(error, this.#tablesOf(found.lost));
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

function readAgainError(error: MillraceError, lostTables: readonly string[]): MillraceError {
  return error.with({
    kind: "reopen",
    message: `${error.message}; filled again: ${lostTables.join(", ")}`,
    hint: "nothing: Millrace creates the table again and fills it",
    lostTables,
    table: undefined,
  });
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
  const rows = await readTextRows(connection, `SELECT a, b, c, d::VARCHAR FROM (${NAMED}) AS named (a, b, c, d)`);
  const isThere = place.bucket === null ? isInFolder : await inBucket(connection, place.data);
  const missing: LostFile[] = [];
  const ofFailed: LostFile[] = [];
  let othersAreThere = false;
  for (const [schema = "", table = "", path = "", isNeeded] of rows) {
    const file: LostFile = { target: { schema, table }, path: place.data + path };
    const isPresent = isThere(file.path);
    othersAreThere ||= isPresent;
    if (isNeeded !== "true") continue;
    if (!isPresent) missing.push(file);
    else if (failed !== null && targetKey(file.target) === targetKey(failed.target)) ofFailed.push(file);
  }
  const spoiled = failed === null ? [] : await spoiledOf(connection, ofFailed, failed.message);
  return { lost: [...missing, ...spoiled], othersAreThere };
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

/** False only if the system says that nothing is there. */
function isInFolder(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true;
  }
}

async function inBucket(connection: EngineConnection, data: string): Promise<(path: string) => boolean> {
  const rows = await readTextRows(connection, `SELECT file FROM glob(${quoteLiteral(`${data}**/*.parquet`)})`);
  const there = new Set(rows.flatMap(([file]) => file ?? []));
  return (path) => there.has(path);
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
