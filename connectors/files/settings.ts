import type { Store } from "./store/store.ts";

/** When changes that wait in the log become files: as soon as one of these is reached. */
export interface RollLimits {
  readonly rows: number;
  readonly bytes: number;
  readonly ageMs: number;
}

export interface FilesSettings {
  readonly daemon: string;
  readonly name: string;
  readonly format: "parquet" | "ndjson";
  readonly roll: RollLimits;
  /** How long files stay; null: for ever. */
  readonly keepMs: number | null;
  readonly memoryLimit: string;
  readonly store: () => Promise<Store>;
}
