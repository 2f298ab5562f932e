/** Targets, which outlive every process. */
import type { Checkpoint } from "../../src/core/checkpoint.ts";
import type { Position } from "../../src/core/model/position.ts";
import type { TableVersion } from "../../src/core/model/schema.ts";
import type { OnLost } from "../../src/core/contracts/sink.ts";
import type { Row } from "./database.ts";
import type { Weather } from "./network.ts";

export interface StoredVersion {
  readonly row: Row;
  readonly version: bigint;
}

export interface TargetTable {
  shape: TableVersion;
  readonly rows: Map<string, StoredVersion>;
  /** Versions of rows that were removed, where the target remembers them. */
  readonly gone: Map<string, bigint>;
  /** The run that has entered it: see core/targets/write-runs. */
  run: string;
}

export interface TargetTraits {
  readonly name: string;
  /** Rows and checkpoint are one transaction; else rows come first, one after the other. */
  readonly isTransactional: boolean;
  /** It gets every change in commit order, and finds no row by its key. */
  readonly isStream: boolean;
  readonly onLost: OnLost;
  /** It takes rows of no more in one batch. */
  readonly tablesMax: number;
}

/** Told of what becomes visible in a target, as it does. */
export interface TargetWatch {
  /** The same batch is tried again and again, and no time passes. */
  triedForEver(target: Target): void;
  /** An inspection is asked for rows while it reads others. */
  askedMeanwhile(target: Target): void;
  /** A row was refused, or thrown away with its version: under its key the target may show what it would show if nothing had come. */
  forgotten(target: Target, table: string, key: string): void;
  /** `version`: of the row, or of what has removed it. */
  shown(target: Target, table: string, key: string, row: Row | null, version: bigint): void;
  progressed(target: Target, checkpoint: Checkpoint): void;
  /** A change of the log is applied, the target standing at `checkpoint`. */
  applied(target: Target, change: Position, checkpoint: Checkpoint | null): void;
}

export const refusesNone = (): boolean => false;

export class Target {
  readonly traits: TargetTraits;
  readonly weather: Weather;
  readonly watch: TargetWatch;
  tables = new Map<string, TargetTable>();
  checkpoint: Checkpoint | null = null;
  lease = 0;
  /** Of its sinks' requests. */
  runCount = 0;
  /** Requests that were given up and are still on their way. */
  readonly late = new Set<() => void>();
  /** Rows that it has thrown away by itself, by table and key. */
  evicted = new Set<string>();
  /** Ids of tables that somebody has emptied: it can tell until its checkpoint leaves them out. */
  emptied = new Set<string>();
  /** Rows that it refuses for their content. */
  refuses: (row: Row) => boolean = refusesNone;
  /** False: it takes one table at a time, and does not say so. */
  takesTogether = true;

  constructor(traits: TargetTraits, weather: Weather, watch: TargetWatch) {
    this.traits = traits;
    this.weather = weather;
    this.watch = watch;
  }

  /** Nothing is on its way any more. */
  arrive(): void {
    for (const effect of this.late) effect();
    this.late.clear();
  }

  copy(): TargetCopy {
    const tables = new Map(
      [...this.tables].map(([id, { shape, rows, gone, run }]) => [
        id,
        { shape, rows: new Map(rows), gone: new Map(gone), run },
      ]),
    );
    return { tables, checkpoint: this.checkpoint, evicted: new Set(this.evicted), emptied: new Set(this.emptied) };
  }

  /** Somebody puts another content in its place. */
  put({ tables, checkpoint, evicted, emptied }: TargetCopy): void {
    this.tables = tables;
    this.checkpoint = checkpoint;
    this.lease = 0;
    this.evicted = evicted;
    this.emptied = emptied;
  }

  /** Somebody takes a table away, or its rows. */
  lose(tableId: string, how: "dropped" | "emptied"): void {
    if (how === "dropped") {
      this.tables.delete(tableId);
      return;
    }
    this.tables.get(tableId)?.rows.clear();
    this.emptied.add(tableId);
  }

  /**
   * Its checkpoint, and who wrote it, are gone; the rows stay. A stream's topics are deleted as well, as its documentation
   * demands: nobody could tell later which of their rows are gone.
   */
  forget(): void {
    if (this.traits.isStream) this.tables = new Map();
    this.checkpoint = null;
    this.lease = 0;
  }

  /** Its checkpoint calls a table complete that somebody took away, or emptied. */
  get isShort(): boolean {
    return Object.keys(this.checkpoint?.tables ?? {}).some((id) => !this.tables.has(id) || this.emptied.has(id));
  }

  evict(key: string): void {
    for (const [id, { rows, gone }] of this.tables) {
      gone.delete(key);
      this.watch.forgotten(this, id, key);
      if (rows.delete(key)) this.evicted.add(`${id}/${key}`);
    }
  }
}

export type TargetCopy = Pick<Target, "tables" | "checkpoint" | "evicted" | "emptied">;
