/** The tables of a lake's sink that have lost data files. */
import { findMillraceError, type MillraceError } from "../../../src/core/errors.ts";
import type { TableVersion } from "../../../src/core/model/schema.ts";
import type { Opened } from "../engine-sink.ts";
import { duckdbError } from "../errors.ts";
import { quoteName, targetKey, type TargetName, targetOf } from "../names.ts";
import type { Lake } from "./lake.ts";
import { findLostFiles } from "./lost-files.ts";
import type { TargetForm } from "../../warehouse/own-columns.ts";

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
      await store.exclusively(async () => void (await connection.run(sql)));
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
