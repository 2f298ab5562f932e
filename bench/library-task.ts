/** What the benchmark `library` tells its programs, and what they tell it. */
export type Who = "millrace" | "pg-logical-replication, pgoutput" | "pg-logical-replication, wal2json" | "zongji";

export interface Task {
  readonly who: Who;
  readonly source: string;
  /** Of the peers: the slot, which is the publication too; or where MySQL's log begins, as `file:position`. */
  readonly from: string;
  /** Of `follow`: its state. */
  readonly state: string;
  /** Rows before it do not count. */
  readonly first: number;
  /** The row that ends the program. */
  readonly last: number;
  readonly journal?: string;
}

export interface Figures {
  readonly count: number;
  readonly sum: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly memoryMiB: number;
}

export interface Entry {
  readonly position: string;
  readonly ids: readonly number[];
}

/** Without a line that a crash cut off. */
export function entriesOf(text: string): readonly Entry[] {
  const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n");
  return lines.filter((line) => line !== "").map((line): Entry => JSON.parse(line));
}
