import { closeSync, openSync, readSync } from "node:fs";
import { basename } from "node:path";
import { type Engine, type EngineConnection, readTextRows } from "../../kit/duckdb-engine/engine.ts";
import { openEngine } from "../open-engine.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { classify, duckdbError } from "../errors.ts";
import { FilePlace, resolved, stampOf } from "../../kit/file-target.ts";
import { expectJoinable, Writers } from "../joining.ts";
import { copyFile, logBytesOf, removeCopies } from "./copy-file.ts";
import { Folding } from "./folding.ts";
import { quoteLiteral, type TargetName } from "../names.ts";
import { MemoryLimit } from "../write/memory.ts";
import { StageFile } from "../write/stage-file.ts";
import type { Store } from "../store.ts";
import { Turn } from "../../../src/core/waiting.ts";
import { type DuckdbTarget, lookUpTargets, type NotedTable, tablesIn } from "../tables/existing.ts";
import { walBytesMax } from "./wal-size.ts";

export interface DatabaseSettings {
  readonly path: string;
  /** In DuckDB's form: `512MB`. */
  readonly memoryLimit: string;
  readonly threads: number;
  /** Whether the engine runs in a process of its own. Of several users of a file the first decides. */
  readonly inOwnProcess?: boolean;
}

/**
 * For a new file; an existing file keeps its own size. A quarter of DuckDB's default: equally large and fast with
 * millions of rows, and hundreds of small tables take a quarter of the memory and the disk.
 */
const BLOCK_BYTES = 64 * 1024;

/** The file's headers, of which DuckDB writes one with a higher number each time that it folds its log in. */
const HEADERS_BYTES = 3 * 4096;

/** How much log may accumulate while the file is copied, in multiples of the size at which it is normally folded in. */
const LOGS_PER_COPY = 4;

const NEVER = new AbortController().signal;

/**
 * One open DuckDB file. A process opens a file only once for all its users: two instances over one file would not see
 * each other, and closing one of them drops the lock of both (POSIX locks belong to the process). For the same reason
 * nothing in this process may open and close the file in another way; checking its name is harmless.
 */
export class Database implements Store {
  readonly path: string;
  readonly settings: DatabaseSettings;
  /** Two, so that one can be filled while the other is read. Only used inside `exclusively`. */
  readonly stages: readonly [StageFile, StageFile];
  /** For the table of the file that is being rewritten. */
  readonly touched: StageFile;
  readonly folding: Folding;
  catalogue = "";
  /** DuckDB has given up this instance: it must be opened again. */
  broken = false;
  readonly #engine: Engine;
  readonly #memory: MemoryLimit;
  readonly writers = new Writers();
  #place: FilePlace | null = null;
  /** For reading alone, and closed after the engine: see the locks above. */
  #descriptor: number | null = null;
  /** The file and its log, as the last turn left them: in between nothing of ours writes into them. */
  #left = { file: "", log: "" };
  #isWritten = false;
  #users = 0;
  #rewriter: object | null = null;
  readonly #turn = new Turn();

  private constructor(
    path: string,
    settings: DatabaseSettings,
    engine: Engine,
    stages: [StageFile, StageFile],
    touched: StageFile,
  ) {
    this.path = path;
    this.settings = settings;
    this.#engine = engine;
    this.stages = stages;
    this.touched = touched;
    this.#memory = new MemoryLimit(settings.memoryLimit, stages);
    this.folding = new Folding({ path, memoryLimit: settings.memoryLimit, inTurn: (work) => this.#inTurn(work) });
  }

  static async acquire(settings: DatabaseSettings): Promise<Database> {
    const path = await resolved(settings.path, "DuckDB file", duckdbError);
    for (let closing = closings.get(path); closing !== undefined; closing = closings.get(path)) await closing;
    const opening = opened.get(path) ?? Database.#open(path, settings);
    opened.set(path, opening);
    let database: Database;
    try {
      database = await opening;
    } catch (error) {
      if (opened.get(path) === opening) opened.delete(path);
      throw classify(error, "opening the file");
    }
    database.#join(settings);
    return database;
  }

  static async #open(path: string, settings: DatabaseSettings): Promise<Database> {
    const { inOwnProcess = false } = settings;
    const options = {
      memory_limit: settings.memoryLimit,
      threads: String(settings.threads),
      checkpoint_threshold: `${walBytesMax(settings.memoryLimit)}B`,
      preserve_insertion_order: "false",
      default_block_size: String(BLOCK_BYTES),
      // Staged files change without changing their names.
      enable_external_file_cache: "false",
      autoinstall_known_extensions: "false",
      autoload_known_extensions: "false",
    };
    const engine = await openEngine(path, options, inOwnProcess);
    const staged = (): StageFile => new StageFile(inOwnProcess ? "another" : "self");
    const touched = staged();
    const database = new Database(path, settings, engine, [staged(), staged()], touched);
    const { stages } = database;
    let connection: EngineConnection | undefined;
    try {
      connection = await engine.connect();
      // From here on no SQL, including users' queries, can access another file.
      await connection.run(
        `SET allowed_paths = [${[...stages, touched].map((stage) => quoteLiteral(stage.path)).join(", ")}]`,
      );
      await connection.run("SET enable_external_access = false");
      const rows = await readTextRows(connection, "SELECT current_database()");
      database.catalogue = rows[0]![0]!;
      database.#place = new FilePlace(path);
      database.#descriptor = openSync(path, "r");
      database.#left = database.#stamps();
      removeCopies(path);
      connection.disconnectSync();
      return database;
    } catch (error) {
      connection?.disconnectSync();
      await database.#close();
      throw error;
    }
  }

  async connect(): Promise<EngineConnection> {
    const connection = await this.#engine.connect();
    await connection.run("SET TimeZone = 'UTC'");
    return connection;
  }

  async tables(connection: EngineConnection): Promise<readonly NotedTable[]> {
    return await tablesIn(connection, this.catalogue);
  }

  async find(connection: EngineConnection, targets: readonly TargetName[]): Promise<ReadonlyMap<string, DuckdbTarget>> {
    return await lookUpTargets(connection, this.catalogue, targets);
  }

  /** No other process can have the file open, and in this one writers take turns. */
  async lastCommit(): Promise<string> {
    return "";
  }

  async version(): Promise<string> {
    const { file, log } = this.#stamps();
    return `${file} ${log}`;
  }

  /** False if another user of this file is rewriting a table. */
  claimRewriting(who: object): boolean {
    this.#rewriter ??= who;
    return this.#rewriter === who;
  }

  releaseRewriting(who: object): void {
    if (this.#rewriter === who) this.#rewriter = null;
  }

  async whole<T>(read: () => Promise<T>): Promise<T> {
    return await read();
  }

  async listed(_connection: EngineConnection, sql: string): Promise<string> {
    return sql;
  }

  async exclusively<T>(work: () => Promise<T>, signal: AbortSignal = NEVER): Promise<T> {
    using _ = await this.#turn.take(signal);
    // Invariant: rows that go into a log without a name do not count as durable.
    this.verifyPlace();
    this.#isWritten = true;
    try {
      return await work();
    } finally {
      this.#isWritten = false;
      this.#left = this.#stamps();
    }
  }

  #stamps(): { readonly file: string; readonly log: string } {
    return { file: `${stampOf(this.path)} ${this.#headers()}`, log: stampOf(`${this.path}.wal`) };
  }

  #headers(): string {
    if (this.#descriptor === null) return "";
    const headers = Buffer.alloc(HEADERS_BYTES);
    readSync(this.#descriptor, headers, 0, HEADERS_BYTES, 0);
    return headers.toString("latin1");
  }

  /** The file without its log. */
  #isFileKept({ file } = this.#stamps()): boolean {
    return this.#place?.isKept() === true && (this.#isWritten || file === this.#left.file);
  }

  async #inTurn(work: (connection: EngineConnection) => Promise<unknown>): Promise<void> {
    await this.exclusively(async () => {
      if (this.broken || this.#users === 0) return;
      const connection = await this.#engine.connect();
      await work(connection);
      connection.disconnectSync();
    });
  }

  async makeRoom(connection: EngineConnection, rowBytes: number): Promise<void> {
    await this.#memory.makeRoom(connection, rowBytes);
  }

  /** DuckDB holds all written rows, and their neighbours, while it folds its log in. */
  async makeMoreRoom(connection: EngineConnection): Promise<void> {
    await this.#memory.makeMoreRoom(connection);
  }

  /** Called after a batch. What is still held is folded in first; if that is impossible now, after the next batch. */
  async giveBack(connection: EngineConnection): Promise<void> {
    if (!this.broken) await this.#memory.giveBack(connection, () => this.folding.now(connection));
  }

  async freeMemory(connection: EngineConnection): Promise<boolean> {
    return await this.folding.now(connection);
  }

  /** Copies the committed data into a new folder, which the caller removes. The writer waits only for a moment. */
  async copy(signal: AbortSignal): Promise<string> {
    const connection = await this.connect();
    const limits = { logBytes: 0, logBytesMax: LOGS_PER_COPY * walBytesMax(this.settings.memoryLimit) };
    let isHeldOff = false;
    try {
      await this.exclusively(async () => {
        this.verifyPlace();
        isHeldOff = true;
        await this.folding.holdOff(connection);
        limits.logBytes = logBytesOf(this.path);
      });
      return await copyFile(this.path, limits, signal);
    } finally {
      if (isHeldOff) await this.folding.letGo(connection);
      connection.disconnectSync();
    }
  }

  /**
   * Throws if the file that we write, or its log, is no longer the one under its name, or somebody else has written into one of
   * them: of an older copy that was written over the file the engine would not know. It still knows what a removed log
   * had: that is folded in when the file is closed.
   */
  verifyPlace(): void {
    const stamps = this.#stamps();
    if (this.#isFileKept(stamps) && (this.#isWritten || stamps.log === this.#left.log)) return;
    // The next `open` then opens the file with that name.
    this.broken = true;
    const what = `the DuckDB file ${this.path}, or its log beside it (.wal), was removed, replaced or written over while it was open`;
    throw duckdbError("MR3110", "reopen", what, {
      hint: "put it back, or fill a new one: millrace snapshot start --sink NAME",
    });
  }

  /** The last user closes the file. The log is folded in, so that the file can be opened or copied at once. */
  async release(): Promise<void> {
    invariant(this.#users > 0, "a database is not released twice");
    if (--this.#users > 0) return;
    this.folding.stop();
    // Invariant: a file is open only once. New users wait until it is closed.
    const closing = this.#foldAndClose();
    closings.set(
      this.path,
      closing.catch(() => undefined),
    );
    opened.delete(this.path);
    try {
      await closing;
    } finally {
      closings.delete(this.path);
    }
  }

  async #foldAndClose(): Promise<void> {
    let connection: EngineConnection | undefined;
    // Whoever writes ends first.
    (await this.#turn.take(NEVER))[Symbol.dispose]();
    try {
      connection = await this.#engine.connect();
      if (this.#isFileKept()) await connection.run("CHECKPOINT");
      // Closing would fold the log into a file without a name, or into an older copy, and delete the log of what replaced it.
      else await connection.run("PRAGMA disable_checkpoint_on_shutdown");
    } catch (error) {
      // All commits are in the log: the next process reads them from there.
      if (classify(error, "closing").kind === "fatal") throw error;
    } finally {
      connection?.disconnectSync();
      await this.#close();
    }
  }

  async #close(): Promise<void> {
    await this.#engine.close();
    if (this.#descriptor !== null) closeSync(this.#descriptor);
    this.#descriptor = null;
    for (const stage of [...this.stages, this.touched]) stage.close();
  }

  #join(settings: DatabaseSettings): void {
    expectJoinable(this, settings, basename(this.path));
    if (this.#users > 0) this.verifyPlace();
    this.#users++;
  }
}

/** The files that this process has open or is closing. */
const opened = new Map<string, Promise<Database>>();
const closings = new Map<string, Promise<unknown>>();
