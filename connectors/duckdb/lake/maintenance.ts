/** Keeps a lake small beside the stream: what commits leave behind is joined, and old snapshots end. */
import { setTimeout as sleep } from "node:timers/promises";
import { type EngineConnection, inTransaction, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import type { MillraceError } from "../../../src/core/errors.ts";
import { groupsOf } from "../../../src/core/each-of.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { classify } from "../errors.ts";
import { FailedUpkeep } from "../failed-upkeep.ts";
import { META_SCHEMA, quoteIdentifier, quoteLiteral, type TargetName } from "../names.ts";
import { LAKE, METADATA } from "./engine.ts";
import type { Lake } from "./lake.ts";
import { findOrphans, KEEP_NAMED, markData, ownerOfData, SCHEDULED, scheduleOrphans } from "./orphans.ts";

/** A reader of a snapshot that has ended may still read its files. */
const READING = "1 day";
/** As many files are removed by one statement. */
const REMOVED_TOGETHER = 500;
/** A file is written again if this share of its rows is gone. */
const GONE_SHARE = 0.3;
/** If a table has more small files with deleted rows than this, they are, too, and with them all that lack as large a share. */
const SMALL_FILES_MAX = 8;
const SMALL_BYTES = 8 * 1024 * 1024;
/** The stream waits while files are written: as much is joined, or written again, at once. */
const PIECE_BYTES = 64 * 1024 * 1024;
/** After each piece of work the stream has the lake for so many times as long: batches that wait are behind by a quarter at most. */
const STREAM_SHARE = 3;
/**
 * Of one table, shapes in which rows lie in the catalogue. Each costs every statement on the table two queries there, so beyond
 * so many the rows become files before the next run; at each change of shape that would cost more than it saves.
 */
const SHAPES_MAX = 16;
/** The catalogue's database gives the files of all tables, whichever are asked for: so many tables are looked at together. */
const TABLES_TOGETHER = 100;
/** As many snapshots end by one statement. */
const ENDED_TOGETHER = 500;

export interface MaintenanceSettings {
  readonly everyMs: number;
  /** How long readers can go back in time. */
  readonly keepSnapshotsMs: number;
}

/** With its numbers in the catalogue. */
interface LakeTable {
  readonly name: TargetName;
  readonly id: string;
  readonly schemaId: string;
}

interface Maintained {
  readonly sink: string;
  readonly lake: Lake;
  /** Null: the lake is maintained by other means. */
  readonly settings: MaintenanceSettings | null;
  readonly logger: Logger;
  /** A data file of this table can't be read. */
  readonly onLost: (target: TargetName, error: MillraceError) => void;
  /** The connection to the catalogue, or the bucket, was lost in the middle. */
  readonly onLostAnswer: () => void;
}

/** The job that runs every so often while the lake is open. If it fails, the next run tries again; no batch fails. */
export class Maintenance {
  readonly #parts: Maintained;
  #timer: NodeJS.Timeout | undefined;
  readonly #closing = new AbortController();
  #connection: EngineConnection | null = null;
  #running: Promise<void> = Promise.resolve();
  #looksAtShapes = false;
  readonly failed = new FailedUpkeep();

  constructor(parts: Maintained) {
    this.#parts = parts;
    this.#running = this.#mark();
    this.#plan();
  }

  get #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    this.#connection?.interrupt();
    await this.#running;
  }

  /** A piece of work between the batches of the stream. Null: the sink is closing. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T | null> {
    const { lake } = this.#parts;
    if (this.#isClosed || lake.broken) return null;
    let [result, tookMs]: [T | null, number] = [null, 0];
    await lake.moving(async () => {
      const beganMs = performance.now();
      result = await work();
      tookMs = performance.now() - beganMs;
    }, this.#closing.signal);
    failpoint("ducklake.maintaining");
    await sleep(tookMs * STREAM_SHARE, undefined, { signal: this.#closing.signal, ref: false });
    return result;
  }

  async #each(connection: EngineConnection, statements: readonly string[]): Promise<void> {
    for (const sql of statements) await this.#inTurn(() => connection.run(sql));
  }

  /** Invariant: what is to be done is counted before, because what batches change meanwhile would keep it going for ever. */
  async #join(connection: EngineConnection, all: readonly LakeTable[]): Promise<void> {
    const written = await this.#forEach(all, (table) => this.#inTurn(() => writeOut(connection, table)));
    const gappy = await gappyFiles(connection, written);
    const rewritten = await this.#forEach(written, async (table) => {
      for (const share of cut(wornOf(gappy.get(table.id) ?? [])))
        await this.#inTurn(() => rewrite(connection, table, share));
    });
    const small = await countSmall(connection, rewritten);
    const joined = await this.#forEach(rewritten, async (table) => {
      for (let left = small.get(table.id) ?? 0; left > 1;)
        left -= (await this.#inTurn(() => joinSome(connection, table))) ?? left;
    });
    if (!this.#isClosed) for (const { name } of joined) this.failed.done(labelOf(name));
  }

  /** Of which tables it was done. Invariant: a table whose files can't be read or joined stops no other's. */
  async #forEach(
    all: readonly LakeTable[],
    work: (table: LakeTable) => Promise<unknown>,
  ): Promise<readonly LakeTable[]> {
    const done: LakeTable[] = [];
    for (const table of all) if (await this.#forTable(table.name, () => work(table))) done.push(table);
    return done;
  }

  /** Whether it was done. */
  async #forTable(target: TargetName, work: () => Promise<unknown>): Promise<boolean> {
    const { sink, lake, logger, onLost } = this.#parts;
    const table = labelOf(target);
    try {
      await work();
      return true;
    } catch (error) {
      const known = classify(error, "joining the lake's files");
      if (this.#isClosed || lake.broken || isOfLake(known)) throw error;
      const { code, message } = known;
      // A commit can be refused though nobody else writes.
      const isMet = mayPass(known);
      logger[isMet ? "debug" : "warn"]({ sink, table, code }, `its files are joined later: ${message}`);
      const what = `the small files of ${table} are not joined, and its readers get slower`;
      if (code === "MR3226") onLost(target, known);
      else this.failed.failed(table, what, known, isMet);
      return false;
    }
  }

  async #connected(work: (connection: EngineConnection) => Promise<void>): Promise<void> {
    const connection = await this.#parts.lake.connect();
    this.#connection = connection;
    try {
      if (!this.#isClosed) await work(connection);
    } finally {
      this.#connection = null;
      connection.disconnectSync();
    }
  }

  /** Beside the stream: a bucket may answer late. Where it can't be reached, the next opening tries again. */
  async #mark(): Promise<void> {
    const { sink, lake, logger } = this.#parts;
    try {
      await this.#connected((connection) => markData(connection, lake.settings.place));
    } catch (error) {
      if (!this.#isClosed) logger.debug({ sink, code: classify(error, "marking").code }, "the data are not marked yet");
    }
  }

  async #orphans(connection: EngineConnection): Promise<void> {
    const { sink, lake, logger } = this.#parts;
    if (this.#isClosed || lake.broken) return;
    const { place } = lake.settings;
    await markData(connection, place);
    const owner = await ownerOfData(connection, place);
    if (owner === "several lakes")
      logger.warn({ sink }, "another lake has its data in this folder: files that killed processes left stay there");
    if (owner !== "this lake") return;
    const orphans = await findOrphans(connection);
    const { signal } = this.#closing;
    const count = await lake.exclusively(() => scheduleOrphans(connection, place, orphans), signal);
    if (count > 0) logger.info({ sink, files: count }, "files that a killed process left are going to be removed");
  }

  #plan(): void {
    const { settings } = this.#parts;
    if (this.#isClosed || settings === null) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#running.then(() => this.#run(settings));
    }, settings.everyMs);
    this.#timer.unref();
  }

  async #run(settings: MaintenanceSettings): Promise<void> {
    const { sink, logger } = this.#parts;
    await this.#attempt(async (connection) => {
      const startedMs = performance.now();
      await this.#each(connection, await expireStatements(connection, settings.keepSnapshotsMs));
      await this.#inTurn(() => correctCounts(connection));
      await this.#inTurn(() => boundFiles(connection));
      const tables = await tablesOf(connection);
      this.failed.keepOnly(tables.map(({ name }) => labelOf(name)));
      for (const some of groupsOf(tables, TABLES_TOGETHER)) await this.#join(connection, some);
      for (let removed = REMOVED_TOGETHER; removed === REMOVED_TOGETHER;)
        removed = (await this.#inTurn(() => removeSome(connection))) ?? 0;
      await this.#orphans(connection);
      this.failed.done(null);
      logger.info({ sink, ms: Math.round(performance.now() - startedMs) }, "the lake's files were joined");
    });
    this.#plan();
  }

  /** Tables may have got other shapes: of those that the catalogue holds in too many, the rows become files. */
  shapesChanged(): void {
    if (this.#parts.settings === null || this.#looksAtShapes) return;
    this.#looksAtShapes = true;
    this.#running = this.#running.then(async () => {
      this.#looksAtShapes = false;
      await this.#attempt(async (connection) => {
        const many = await tablesOf(connection, `AND t.table_id IN (${IN_MANY_SHAPES})`);
        await this.#forEach(many, (table) => this.#inTurn(() => writeOut(connection, table)));
      });
    });
  }

  /** What fails is tried again in the next run. */
  async #attempt(work: (connection: EngineConnection) => Promise<void>): Promise<void> {
    try {
      if (!this.#isClosed) await this.#connected(work);
    } catch (error) {
      if (this.#isClosed) return;
      const { sink, logger, onLostAnswer } = this.#parts;
      const known = classify(error, "joining the lake's files");
      const { code, message, reason } = known;
      if (reason === "lost") onLostAnswer();
      logger.warn({ sink, code }, `the lake's files are joined later: ${message}`);
      const what = "the lake's small files are not joined, and what is not needed any more stays";
      this.failed.failed(null, what, known, reason === "lost" || mayPass(known));
    }
  }
}

function labelOf({ schema, table }: TargetName): string {
  return `${schema}.${table}`;
}

/** Another program writes, or seems to. */
function mayPass({ code, reason }: MillraceError): boolean {
  return code === "MR3220" || reason === "lock";
}

/** A failure that each table would meet: of a server, of the disk. */
function isOfLake({ code, kind, reason }: MillraceError): boolean {
  return reason === "lost" || kind === "aborted" || (kind === "blocked" && code !== "MR3226");
}

/** A row for each shape of a table in which rows lie in the catalogue. */
const SHAPES = `${METADATA}.ducklake_inlined_data_tables`;
const IN_MANY_SHAPES = `SELECT table_id FROM ${SHAPES} GROUP BY table_id HAVING count(*) > ${SHAPES_MAX}`;

/** `and`: on a table (t). */
async function tablesOf(connection: EngineConnection, and = ""): Promise<readonly LakeTable[]> {
  const rows = await readTextRows(
    connection,
    `SELECT s.schema_name, t.table_name, t.table_id::VARCHAR, t.schema_id::VARCHAR FROM ${METADATA}.ducklake_table AS t ` +
      `JOIN ${METADATA}.ducklake_schema AS s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL ` +
      `WHERE t.end_snapshot IS NULL ${and}`,
  );
  return rows.map(([schema = "", table = "", id = "", schemaId = ""]) => ({ name: { schema, table }, id, schemaId }));
}

/** How large files are joined at most, where nobody has said so: no call takes it, and DuckLake's default is 512 MB. */
async function boundFiles(connection: EngineConnection): Promise<void> {
  const said = await readTextRows(
    connection,
    `SELECT value FROM ${METADATA}.ducklake_metadata WHERE key = 'target_file_size' AND scope IS NULL`,
  );
  if (said.length === 0) await connection.run(`CALL ${LAKE}.set_option('target_file_size', '${PIECE_BYTES}B')`);
}

/** A table without rows. */
const MARK = `${LAKE}.${quoteIdentifier(META_SCHEMA)}.shapes_changed`;
/** DuckLake counts a comment as a change of shape, even if it says the same. */
const CHANGE_SHAPE = `CREATE TABLE IF NOT EXISTS ${MARK} (id INTEGER); COMMENT ON TABLE ${MARK} IS 'Millrace changes this comment'`;

/**
 * Files that have waited long enough; returns how many. DuckLake's own `older_than` has no bound, and compares days alone if the
 * catalogue is in SQLite: those that are due get a time that is before all others.
 */
async function removeSome(connection: EngineConnection): Promise<number> {
  await connection.run(KEEP_NAMED);
  const due = await readTextRows(
    connection,
    `SELECT data_file_id::VARCHAR FROM ${SCHEDULED} WHERE schedule_start::TIMESTAMPTZ < now() - INTERVAL '${READING}' ` +
      `ORDER BY schedule_start LIMIT ${REMOVED_TOGETHER}`,
  );
  if (due.length === 0) return 0;
  await connection.run(
    `UPDATE ${SCHEDULED} SET schedule_start = TIMESTAMPTZ '1970-01-01' WHERE data_file_id IN (${due.flat().join(", ")})`,
  );
  await connection.run(`CALL ducklake_cleanup_old_files('${LAKE}', older_than => TIMESTAMPTZ '1970-01-02')`);
  return due.length;
}

/** By number: DuckLake's own `older_than` ends all snapshots of a day if the catalogue is in SQLite, where it compares texts. */
async function expireStatements(connection: EngineConnection, keepMs: number): Promise<readonly string[]> {
  const snapshots = `${METADATA}.ducklake_snapshot`;
  const rows = await readTextRows(
    connection,
    `SELECT string_agg(id::VARCHAR, ', ') FROM (SELECT snapshot_id AS id, row_number() OVER (ORDER BY snapshot_id) AS n ` +
      `FROM ${snapshots} WHERE snapshot_time::TIMESTAMPTZ < now() - INTERVAL '${Math.round(keepMs / 1000)} seconds' ` +
      `AND snapshot_id < (SELECT max(snapshot_id) FROM ${snapshots})) GROUP BY (n - 1) // ${ENDED_TOGETHER}`,
  );
  return rows.map(([ids]) => `CALL ducklake_expire_snapshots('${LAKE}', versions => [${ids}])`);
}

/**
 * Rows of the table that are in the catalogue become files. DuckLake then removes the places of its former shapes, and programs
 * that know the catalogue from before would fail there for as long as they are attached: they look again only when some shape in
 * the lake changes.
 */
async function writeOut(connection: EngineConnection, { id, name: target }: LakeTable): Promise<void> {
  const [name, inSchema] = [quoteLiteral(target.table), quoteLiteral(target.schema)];
  const isFormer = (await readTextRows(connection, `SELECT 1 FROM ${SHAPES} WHERE table_id = ${id}`)).length > 1;
  const flush = `CALL ducklake_flush_inlined_data('${LAKE}', table_name => ${name}, schema_name => ${inSchema})`;
  // Invariant: in one commit, so that no program finds the places gone and the shapes as they were.
  await inTransaction(
    connection,
    () => connection.run("BEGIN TRANSACTION"),
    async () => {
      await connection.run(flush);
      failpoint("ducklake.maintaining");
      if (isFormer) await connection.run(CHANGE_SHAPE);
    },
  );
}

/**
 * Transactions of other programs that meet can leave a file of which more rows are counted as deleted than it has. DuckLake closes
 * the engine when it writes such a file again and no row of it is left.
 */
async function correctCounts(connection: EngineConnection): Promise<void> {
  const deleted = `${METADATA}.ducklake_delete_file`;
  const wrong = await readTextRows(
    connection,
    `SELECT delete_file_id::VARCHAR, record_count::VARCHAR FROM ${deleted} JOIN ${METADATA}.ducklake_data_file ` +
      "USING (data_file_id) WHERE delete_count > record_count",
  );
  for (const [id, count] of wrong)
    await connection.run(`UPDATE ${deleted} SET delete_count = ${count} WHERE delete_file_id = ${id}`);
}

/** A call that is prepared, as in an engine's own process, reads files when its own transaction has ended, and fails. */
async function within<T>(connection: EngineConnection, work: () => Promise<T>): Promise<T> {
  return await inTransaction(connection, () => connection.run("BEGIN TRANSACTION"), work);
}

/** The files of these tables as they are now (f), and what says which of their rows are gone (d). */
function filesOf(tables: readonly LakeTable[]): string {
  return (
    `FROM ${METADATA}.ducklake_data_file AS f LEFT JOIN ${METADATA}.ducklake_delete_file AS d ` +
    `ON d.data_file_id = f.data_file_id AND d.end_snapshot IS NULL ` +
    `WHERE f.table_id IN (${tables.map(({ id }) => id).join(", ")}) AND f.end_snapshot IS NULL`
  );
}

/** What DuckLake goes by: what is set for the table (t), or else for its schema, or for the lake. */
const TARGET_BYTES =
  `SELECT arg_max(value::BIGINT, coalesce(scope, '')) FROM ${METADATA}.ducklake_metadata WHERE key = 'target_file_size' ` +
  "AND (scope IS NULL OR scope_id = CASE scope WHEN 'table' THEN t.id ELSE t.schema_id END)";

/** By the table's number, how many files can be joined: those without deleted rows that are not large enough. */
async function countSmall(
  connection: EngineConnection,
  tables: readonly LakeTable[],
): Promise<ReadonlyMap<string, number>> {
  if (tables.length === 0) return new Map();
  const rows = await readTextRows(
    connection,
    `SELECT t.id::VARCHAR, count(*)::VARCHAR FROM (VALUES ${tables.map(({ id, schemaId }) => `(${id}, ${schemaId})`).join(", ")}) ` +
      `AS t (id, schema_id) JOIN (SELECT f.table_id, f.file_size_bytes AS bytes ${filesOf(tables)} AND d.data_file_id IS NULL) AS f ` +
      `ON f.table_id = t.id WHERE f.bytes < (${TARGET_BYTES}) GROUP BY t.id`,
  );
  return new Map(rows.map(([id = "", count]) => [id, Number(count)]));
}

/** Makes one file; returns of how many. Null: there are none left. */
async function joinSome(connection: EngineConnection, table: LakeTable): Promise<number | null> {
  const sql = `CALL ducklake_merge_adjacent_files(${argumentsFor(table)}, max_compacted_files => 1)`;
  const [joined] = await within(connection, () => readTextRows(connection, sql));
  return joined === undefined ? null : Number(joined[2]);
}

function argumentsFor({ name: { schema, table } }: LakeTable): string {
  return `'${LAKE}', ${quoteLiteral(table)}, schema => ${quoteLiteral(schema)}`;
}

/** Files that lack this share of their rows, or more. */
async function rewrite(connection: EngineConnection, table: LakeTable, share: number): Promise<void> {
  // A quotient, which its text may not give exactly.
  const threshold = (share * (1 - 1e-9)).toFixed(12);
  const sql = `CALL ducklake_rewrite_data_files(${argumentsFor(table)}, delete_threshold => ${threshold})`;
  await within(connection, () => connection.run(sql));
}

interface GappyFile {
  readonly bytes: number;
  /** Of its rows, those that are gone. */
  readonly share: number;
}

/** By the table's number, files of which rows are gone, by falling share. */
async function gappyFiles(
  connection: EngineConnection,
  tables: readonly LakeTable[],
): Promise<ReadonlyMap<string, readonly GappyFile[]>> {
  if (tables.length === 0) return new Map();
  const gone = "d.delete_count::DOUBLE / f.record_count";
  const rows = await readTextRows(
    connection,
    `SELECT f.table_id::VARCHAR, f.file_size_bytes::VARCHAR, (${gone})::VARCHAR ${filesOf(tables)} ` +
      `AND d.data_file_id IS NOT NULL ORDER BY ${gone} DESC`,
  );
  const files = rows.map(([id = "", bytes, share]) => ({ id, bytes: Number(bytes), share: Number(share) }));
  return Map.groupBy(files, ({ id }) => id);
}

/** What is to be written again. */
function wornOf(files: readonly GappyFile[]): readonly GappyFile[] {
  const small = files.filter(({ bytes }) => bytes < SMALL_BYTES);
  const least = small.length > SMALL_FILES_MAX ? Math.min(GONE_SHARE, small.at(-1)!.share) : GONE_SHARE;
  return files.filter(({ share }) => share >= least);
}

/**
 * Pieces, each by the least share of its files: DuckLake makes one file of all that lack as much. So those that lack exactly
 * the same share are one piece.
 */
function cut(files: readonly GappyFile[]): readonly number[] {
  const shares: number[] = [];
  let sum = 0;
  for (const [i, { bytes, share }] of files.entries()) {
    sum += bytes;
    const next = files[i + 1];
    if (next !== undefined && (next.share === share || sum + next.bytes <= PIECE_BYTES)) continue;
    shares.push(share);
    sum = 0;
  }
  return shares;
}
