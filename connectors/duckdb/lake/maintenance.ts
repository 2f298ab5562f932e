/** Keeps a lake small beside the stream: what commits leave behind is joined, and old snapshots end. */
import type { DuckDBConnection } from "@duckdb/node-api";
import type { Logger } from "../../../src/core/contracts/telemetry.ts";
import { failpoint } from "../../../src/core/failpoint.ts";
import { classify } from "../errors.ts";
import { quoteLiteral, type TargetName } from "../names.ts";
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
        await this.#inTurns(connection, startStatements(settings.keepSnapshotsMs));
        for (const table of await tablesIn(connection, LAKE))
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

const CLEAN_UP = `CALL ducklake_cleanup_old_files('${LAKE}', ${before(READING_SECONDS)})`;

function startStatements(keepSnapshotsMs: number): readonly string[] {
  return [
    `CALL ducklake_flush_inlined_data('${LAKE}')`,
    `CALL ducklake_expire_snapshots('${LAKE}', ${before(Math.round(keepSnapshotsMs / 1000))})`,
  ];
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
