import { existsSync } from "node:fs";
import type { Engine, EngineConnection } from "../../kit/duckdb-engine/engine.ts";
import { invariant } from "../../../src/core/invariant.ts";
import { Turn } from "../../../src/core/waiting.ts";
import { classify, duckdbError } from "../errors.ts";
import { expectJoinable, Writers } from "../joining.ts";
import { MemoryLimit } from "../write/memory.ts";
import { StageFile } from "../write/stage-file.ts";
import { type TargetName, targetKey } from "../names.ts";
import type { Store } from "../store.ts";
import type { DuckdbTarget, NotedTable } from "../tables/existing.ts";
import {
  type Access,
  INLINED_ROW_BYTES_MAX,
  isNoLake,
  LAKE,
  type LakeSettings,
  loginOf,
  setInlining,
  startEngine,
} from "./engine.ts";
import type { LakeLogin } from "./bucket.ts";
import { untilUnmoved } from "./moved.ts";
import type { FilePlace } from "../../kit/file-target.ts";
import { SharedTurn } from "./shared-turn.ts";
import { catalogFile, type LakePlace, shownCatalog } from "./place.ts";
import { findInLake, newestSnapshot, notedInLake, shapesVersion, tablesOfLake } from "./tables.ts";

/**
 * One open lake, shared by all its users in this process: a catalogue in a DuckDB file lets no second instance in, and
 * writers of one lake that take turns need not repeat each other's batches. Other processes may write to it too.
 */
export class Lake implements Store {
  readonly catalogue = LAKE;
  readonly stages: readonly [StageFile, StageFile];
  broken = false;
  readonly settings: LakeSettings;
  readonly #engine: Engine;
  /** Null: the data are in a folder. */
  readonly #login: LakeLogin | null;
  readonly #memory: MemoryLimit;
  readonly #turn = new Turn();
  readonly #moves: Turn;
  /** Null: the catalogue is not in SQLite. */
  readonly #shared: SharedTurn | null;
  readonly writers = new Writers();
  readonly #place: FilePlace | null;
  #looking: Promise<EngineConnection> | null = null;
  /** By `targetKey`, as the lake's shapes were last; null: no table. */
  #notes: { readonly version: string; readonly byTarget: Map<string, NotedTable | null> } = {
    version: "",
    byTarget: new Map(),
  };
  #users = 0;
  #isInlining = true;

  private constructor(settings: LakeSettings, engine: Engine, login: LakeLogin | null) {
    this.settings = settings;
    this.#engine = engine;
    this.#login = login;
    const staged = (): StageFile => new StageFile(settings.inOwnProcess === true ? "another" : "self");
    this.stages = [staged(), staged()];
    this.#memory = new MemoryLimit(settings.memoryLimit, this.stages);
    this.#place = catalogFile(settings.place);
    this.#shared = settings.place.kind === "sqlite" ? new SharedTurn(settings.place.catalog) : null;
    const key = keyOf(settings.place);
    this.#moves = moves.get(key) ?? new Turn();
    moves.set(key, this.#moves);
  }

  static async acquire(settings: LakeSettings): Promise<Lake> {
    const key = keyOf(settings.place);
    const opening = opened.get(key) ?? Lake.#open(settings, "write");
    opened.set(key, opening);
    let lake: Lake;
    try {
      lake = await opening;
    } catch (error) {
      if (opened.get(key) === opening) opened.delete(key);
      throw classify(error, "opening the lake");
    }
    lake.#join(settings);
    return lake;
  }

  /** The lake for looking, unless this process has it open; null: there is none. Creates nothing. */
  static async acquireExisting(settings: LakeSettings): Promise<Lake | null> {
    const { kind, catalog } = settings.place;
    if (kind !== "postgres" && !existsSync(catalog)) return null;
    if (opened.has(keyOf(settings.place))) return await Lake.acquire(settings);
    try {
      return await Lake.#apart(settings);
    } catch (error) {
      if (isNoLake(error)) return null;
      throw classify(error, "opening the lake");
    }
  }

  /** For reading, in an engine of its own. */
  static async acquireApart(settings: LakeSettings): Promise<Lake> {
    return await Lake.#apart(settings).catch((error: unknown) => {
      throw classify(error, "opening the lake");
    });
  }

  static async #apart(settings: LakeSettings): Promise<Lake> {
    const lake = await Lake.#open(settings, "read");
    lake.#users++;
    return lake;
  }

  static async #open(settings: LakeSettings, access: Access): Promise<Lake> {
    const login = loginOf(settings);
    return new Lake(settings, await startEngine(settings, access, login), login);
  }

  async connect(): Promise<EngineConnection> {
    const connection = await this.#engine.connect();
    await connection.run("SET TimeZone = 'UTC'");
    return connection;
  }

  async lastCommit(connection: EngineConnection): Promise<string> {
    return await newestSnapshot(connection);
  }

  async version(connection: EngineConnection): Promise<string> {
    return await newestSnapshot(connection);
  }

  async tables(connection: EngineConnection): Promise<readonly NotedTable[]> {
    return await tablesOfLake(connection);
  }

  /** In a session of its own: that of a batch would hold a lock in the catalogue until its commit, which waits for it. */
  async noted(targets: readonly TargetName[]): Promise<ReadonlyMap<string, NotedTable>> {
    this.#looking ??= this.connect().catch((error: unknown) => {
      this.#looking = null;
      throw error;
    });
    const connection = await this.#looking;
    const version = await shapesVersion(connection);
    // A note is a table's comment, which is part of its shape.
    if (this.#notes.version !== version) this.#notes = { version, byTarget: new Map() };
    const { byTarget } = this.#notes;
    const unseen = targets.filter((target) => !byTarget.has(targetKey(target)));
    const found = await notedInLake(connection, unseen);
    for (const key of unseen.map(targetKey)) byTarget.set(key, found.get(key) ?? null);
    return new Map(
      targets.flatMap((target) => {
        const note = byTarget.get(targetKey(target));
        return note == null ? [] : [[targetKey(target), note] as const];
      }),
    );
  }

  async find(connection: EngineConnection, targets: readonly TargetName[]): Promise<ReadonlyMap<string, DuckdbTarget>> {
    return await findInLake(connection, targets);
  }

  async exclusively<T>(work: () => Promise<T>, signal: AbortSignal = NEVER): Promise<T> {
    using _own = await this.#turn.take(signal);
    using _shared = await this.#shared?.take(signal);
    return await this.#loggedIn(work);
  }

  /** With a login that is valid now. */
  async #loggedIn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#login === null) return await work();
    try {
      await this.#login.renew(() => this.connect());
      return await work();
    } catch (error) {
      const { code, connector } = classify(error, "");
      if (code === "MR2002" && connector?.part === "bucket") this.#login.refused();
      throw error;
    }
  }

  /** Like `exclusively`, for what moves rows between catalogue and files. */
  async moving(work: () => Promise<unknown>, signal: AbortSignal): Promise<void> {
    using _ = await this.#moves.take(signal);
    await this.exclusively(work, signal);
  }

  async whole<T>(read: () => Promise<T>): Promise<T> {
    return await this.#loggedIn(() => untilUnmoved(read));
  }

  /** At once, and while this process moves no rows: who reads the list may take long, or wait for batches. */
  async listed(connection: EngineConnection, sql: string, signal: AbortSignal): Promise<string> {
    using _ = await this.#moves.take(signal);
    await this.whole(() => connection.run(`CREATE OR REPLACE TEMP TABLE ${LISTED} AS ${sql}`));
    return `FROM ${LISTED}`;
  }

  async makeRoom(connection: EngineConnection, rowBytes: number): Promise<void> {
    if (rowBytes > INLINED_ROW_BYTES_MAX) await this.#inline(connection, false);
    await this.#memory.makeRoom(connection, rowBytes);
  }

  async makeMoreRoom(connection: EngineConnection): Promise<void> {
    await this.#memory.makeMoreRoom(connection);
  }

  /** Committed rows are in files. */
  async freeMemory(): Promise<boolean> {
    return true;
  }

  /** Called after a batch. */
  async giveBack(connection: EngineConnection): Promise<void> {
    if (this.broken) return;
    await this.#inline(connection, true);
    await this.#memory.giveBack(connection, async () => undefined);
  }

  async #inline(connection: EngineConnection, isOn: boolean): Promise<void> {
    if (this.#isInlining === isOn) return;
    await setInlining(connection, isOn);
    this.#isInlining = isOn;
  }

  verifyPlace(): void {
    if (this.#place?.isKept() !== false) return;
    this.broken = true;
    throw duckdbError(
      "MR3110",
      "reopen",
      `the lake's catalogue ${shownCatalog(this.settings.place)} was removed, replaced or emptied while it was open`,
      { hint: "put it back, or fill a new one: millrace snapshot start --sink NAME" },
    );
  }

  async release(): Promise<void> {
    invariant(this.#users > 0, "a lake is not released twice");
    if (--this.#users > 0) return;
    const key = keyOf(this.settings.place);
    if ((await opened.get(key)) === this) opened.delete(key);
    (await this.#looking)?.disconnectSync();
    await this.#engine.close();
    for (const stage of this.stages) stage.close();
    this.#shared?.[Symbol.dispose]();
  }

  #join(settings: LakeSettings): void {
    expectJoinable(this, settings, shownCatalog(this.settings.place));
    this.#users++;
  }
}

const LISTED = "temp.main.listed";

const NEVER = new AbortController().signal;

/** The lakes that this process has open, by catalogue. */
const opened = new Map<string, Promise<Lake>>();

/** By catalogue, for all engines of this process that have it open: who moves rows, or lists them. */
const moves = new Map<string, Turn>();

function keyOf({ kind, catalog }: LakePlace): string {
  return `${kind}:${catalog}`;
}
