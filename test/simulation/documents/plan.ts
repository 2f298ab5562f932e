/** Plans of documents, made from seeds: what becomes of the rows, of the nest's process, and of the sink that follows it. */
import { Random } from "../../support/run/random.ts";

export const TABLE_NAMES = ["customers", "orders", "items", "tags"] as const;
export type DocumentTable = (typeof TABLE_NAMES)[number];

/** Tables whose `name` documents take, beside `spare`, which none does. */
export type SpareTable = "customers" | "tags";

/** Values by column; undefined: the row is removed. */
export interface RowChange {
  readonly table: DocumentTable;
  readonly key: readonly string[];
  readonly values: readonly (string | null)[] | undefined;
}

export type DocumentHappening =
  | { readonly what: "batch"; readonly changes: readonly RowChange[] }
  | { readonly what: "truncate"; readonly table: DocumentTable }
  /** A batch, and the process ends so many turns after it was begun. */
  | { readonly what: "kill"; readonly changes: readonly RowChange[]; readonly turns: number }
  /** Rows of a table change with nothing in the log: it is not whole until it was read again. */
  | { readonly what: "lose"; readonly table: DocumentTable; readonly changes: readonly RowChange[] }
  /**
   * `name` is dropped, `spare` gets its name, and another `spare` comes: no row is in the log for it. Between the first and the
   * second, while documents can't be built, rows change.
   */
  | { readonly what: "swap"; readonly table: SpareTable; readonly changes: readonly RowChange[] }
  /** The table is read again; its process may end before it is whole. */
  | { readonly what: "read"; readonly table: DocumentTable; readonly killedAfter: "rows" | "sweep" | null }
  /** The sink gets so many blocks; `isLost`: it ends, and begins again behind what was acknowledged. */
  | { readonly what: "follow"; readonly blocks: number; readonly isLost: boolean }
  /** Full batches come one after another, of these changes again and again, until the sink gets a block. */
  | { readonly what: "busy"; readonly rounds: readonly (readonly RowChange[])[] }
  /** The sink gets so many blocks, what it has is acknowledged, and the list is trimmed. */
  | { readonly what: "acknowledge"; readonly blocks: number };

export interface DocumentPlan {
  readonly seed: number;
  readonly ofDocuments: true;
  readonly sinks: readonly "documents"[];
  readonly tables: number;
  readonly rows: number;
  readonly happenings: readonly DocumentHappening[];
}

/** How many keys a table has: with few of them most changes meet, and with many one that is forgotten stays forgotten. */
const KEYS = [4, 10, 30] as const;
const LINES = 5;

export function documentPlanOf(seed: number): DocumentPlan {
  const random = new Random(seed ^ 0xd0c5);
  const keys = random.pick(KEYS);
  const rows = keys * (1 + random.below(5));
  const count = 6 + random.below(30);
  const happenings: DocumentHappening[] = [
    { what: "batch", changes: Array.from({ length: rows }, () => changeOf(random, keys, null, 0)) },
  ];
  while (happenings.length < count) happenings.push(happeningOf(random, keys));
  return { seed, ofDocuments: true, sinks: ["documents"], tables: TABLE_NAMES.length, rows, happenings };
}

function happeningOf(random: Random, keys: number): DocumentHappening {
  const changes = (table: DocumentTable | null = null): readonly RowChange[] =>
    Array.from({ length: 1 + random.below(random.chance(0.1) ? 20 : 4) }, () => changeOf(random, keys, table, 0.3));
  const chance = random.next();
  if (chance < 0.42) return { what: "batch", changes: changes() };
  if (chance < 0.46) return { what: "truncate", table: random.pick(TABLE_NAMES) };
  if (chance < 0.54) return { what: "kill", changes: changes(), turns: random.below(6) };
  const table = random.pick(TABLE_NAMES);
  if (chance < 0.6) return { what: "lose", table, changes: changes(table) };
  const killedAfter = random.chance(0.3) ? random.pick(["rows", "sweep"] as const) : null;
  if (chance < 0.7) return { what: "read", table, killedAfter };
  const blocks = random.below(3);
  if (chance < 0.75) {
    const swapped = random.pick(["customers", "tags"] as const);
    const between = random.chance(0.5) ? changes() : [];
    // Of the table itself rows only go: it lacks `name`.
    return {
      what: "swap",
      table: swapped,
      changes: between.filter((change) => change.table !== swapped || change.values === undefined),
    };
  }
  if (chance < 0.78) {
    const full = (): readonly RowChange[] => Array.from({ length: 8 }, () => changeOf(random, keys, null, 0.3));
    return { what: "busy", rounds: [full(), full(), full()] };
  }
  if (chance < 0.84) return { what: "follow", blocks: blocks + 1, isLost: random.chance(0.3) };
  return { what: "acknowledge", blocks };
}

function changeOf(random: Random, keys: number, only: DocumentTable | null, removed: number): RowChange {
  const id = (): string => String(1 + random.below(keys));
  const table = only ?? random.pick(["customers", "orders", "items", "items", "tags"] as const);
  const key = table === "items" ? [id(), String(1 + random.below(LINES))] : [id()];
  if (random.chance(removed)) return { table, key, values: undefined };
  const text = `v${random.below(100)}`;
  const spare = random.chance(0.2) ? null : `s${random.below(100)}`;
  const reference = random.chance(0.1) ? null : id();
  const values = { customers: [text, spare], tags: [text, spare], orders: [reference, text], items: [text, reference] }[
    table
  ];
  return { table, key, values };
}
