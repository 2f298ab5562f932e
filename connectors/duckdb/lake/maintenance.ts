/** Keeps a lake small beside the stream: what commits leave behind is joined, and old snapshots end. */
import type { DuckDBConnection } from "@duckdb/node-api";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { classify } from "../errors.ts";
import { META_SCHEMA, quoteIdentifier, quoteLiteral, type TargetName } from "../names.ts";
import { readTextRows } from "../write/text-rows.ts";
import { LAKE } from "./engine.ts";
import type { Lake } from "./lake.ts";
import { tablesIn } from "../tables/existing.ts";

/** A reader of a snapshot that has ended may still read its files. */
const READING_SECONDS = 60 * 60;
/** A file is written again if this share of its rows is gone. */
const GONE_SHARE = 0.3;
/** If a table has more small files with deleted rows than this, all of its files with deleted rows are. */
const SMALL_FILES_MAX = 8;
const SMALL_BYTES = 8 * 1024 * 1024;

export interface MaintenanceSettings {
  readonly everyMs: number;
  /** How long readers can go back in time. */
  readonly keepSnapshotsMs: number;
}

export interface Maintained {
  readonly sink: string;
  readonly lake: Lake;
  readonly settings: MaintenanceSettings;
  readonly logger: Logger;
}

/** The job that runs every so often while the lake is open. If it fails, the next run tries again; no step fails. */
export class Maintenance {
  readonly #parts: Maintained;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #connection: DuckDBConnection | null = null;
  #running: Promise<void> = Promise.resolve();

  constructor(parts: Maintained) {
    this.#parts = parts;
    this.#plan();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#connection?.interrupt();
    await this.#running;
  }

  /** Between two statements a step gets its turn. */
  async #inTurns(connection: DuckDBConnection, statements: readonly string[]): Promise<void> {
    const { lake } = this.#parts;
    for (const sql of statements) {
      if (this.#isClosed || lake.broken) return;
      await lake.exclusively(async () => void (await connection.run(sql)));
      failpoint("ducklake.maintaining");
    }
  }

  #plan(): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => {
      this.#running = this.#run();
    }, this.#parts.settings.everyMs);
    this.#timer.unref();
  }

  async #run(): Promise<void> {
    const { sink, lake, logger, settings } = this.#parts;
    try {
      const startedMs = performance.now();
      const connection = await lake.connect();
      this.#connection = connection;
      try {
        await lake.exclusively(() => writeOut(connection));
        await this.#inTurns(connection, [expire(settings.keepSnapshotsMs)]);
        for (const { name: table } of await tablesIn(connection, LAKE))
          await this.#inTurns(connection, await joinStatements(connection, table));
        await this.#inTurns(connection, [CLEAN_UP]);
      } finally {
        this.#connection = null;
        connection.disconnectSync();
      }
      logger.info({ sink, ms: Math.round(performance.now() - startedMs) }, "the lake's files were joined");
    } catch (error) {
      if (this.#isClosed) return;
      const { code, message } = classify(error, "joining the lake's files");
      logger.warn({ sink, code }, `the lake's files are joined later: ${message}`);
    } finally {
      this.#plan();
    }
  }
}

const before = (seconds: number): string => `older_than => now() - INTERVAL '${seconds} seconds'`;

/** A table that is only made and dropped. */
const MARK = `${LAKE}.${quoteIdentifier(META_SCHEMA)}.shapes_changed`;

const CLEAN_UP = `CALL ducklake_cleanup_old_files('${LAKE}', ${before(READING_SECONDS)})`;

const expire = (keepSnapshotsMs: number): string =>
  `CALL ducklake_expire_snapshots('${LAKE}', ${before(Math.round(keepSnapshotsMs / 1000))})`;

/** Of tables that had another shape, the catalogue keeps rows in several places. */
const HAS_FORMER_PLACES =
  `SELECT table_id FROM __ducklake_metadata_${LAKE}.ducklake_inlined_data_tables ` +
  "GROUP BY table_id HAVING count(*) > 1 LIMIT 1";

/**
 * Rows in the catalogue become files. DuckLake then removes the places of former shapes, and programs that know the catalogue
 * from before would fail there for as long as they are attached: they look again only when some shape in the lake changes.
 */
async function writeOut(connection: DuckDBConnection): Promise<void> {
  const former = await readTextRows(connection, HAS_FORMER_PLACES);
  await connection.run(`CALL ducklake_flush_inlined_data('${LAKE}')`);
  failpoint("ducklake.maintaining");
  // A process that was killed may have left it. Made and dropped in one transaction it would change nothing.
  if (former.length > 0) await connection.run(`CREATE OR REPLACE TABLE ${MARK} (id INTEGER); DROP TABLE ${MARK}`);
}

/** Only files without deleted rows can be joined. */
async function joinStatements(connection: DuckDBConnection, { schema, table }: TargetName): Promise<readonly string[]> {
  const at = `'${LAKE}', ${quoteLiteral(table)}, schema => ${quoteLiteral(schema)}`;
  const [row = []] = await readTextRows(
    connection,
    `SELECT count(*)::VARCHAR FROM ducklake_list_files(${at}) ` +
      `WHERE delete_file IS NOT NULL AND data_file_size_bytes < ${SMALL_BYTES}`,
  );
  const share = Number(row[0]) > SMALL_FILES_MAX ? 0 : GONE_SHARE;
  return [
    `CALL ducklake_rewrite_data_files(${at}, delete_threshold => ${share})`,
    `CALL ducklake_merge_adjacent_files(${at})`,
  ];
}
