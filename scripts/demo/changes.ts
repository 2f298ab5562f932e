/** Transactions of a shop: a random mix, and in turn some that change many rows. */
import type { ShopSize } from "./shop.ts";

export interface Changes {
  readonly size: ShopSize;
  /** From 0 up to 1. */
  readonly random: () => number;
  readonly query: (
    sql: string,
    values?: readonly unknown[],
  ) => Promise<{ readonly rowCount: number; readonly rows: readonly Record<string, unknown>[] }>;
}

/** Runs one transaction; returns the number of changed rows, or ROLLED_BACK. */
export type Change = (changes: Changes) => Promise<number>;

export const ROLLED_BACK = -1;

/** The kinds of transactions, each with its weight. */
const KINDS = [
  ["placeOrder", 30],
  ["shipOrder", 20],
  ["changePrice", 12],
  ["changeCustomer", 8],
  ["signUp", 6],
  ["countStock", 6],
  ["cancelOrder", 5],
  ["renameCoupon", 4],
  ["replaceCoupon", 3],
  ["rewriteDescription", 3],
  ["giveUpHalfWay", 3],
  ["giveUp", 2],
  ["swapCoupons", 2],
  ["changeCart", 2],
] as const;

/** The transactions of a shop on one kind of server. */
export interface ChangeMix extends Readonly<Record<(typeof KINDS)[number][0], Change>> {
  /** Empties the small table and fills it again. */
  readonly snapshotCarts: Change;
  /** Changes prices of many products at once. */
  readonly sale: Change;
}

const REFILL_EVERY = 300;
const SALE_EVERY = 250;

export async function randomChange(mix: ChangeMix, changes: Changes, transactionCount: number): Promise<number> {
  if (transactionCount % REFILL_EVERY === REFILL_EVERY - 1) return inTransaction(changes, mix.snapshotCarts);
  if (transactionCount % SALE_EVERY === SALE_EVERY - 1) return inTransaction(changes, mix.sale);
  const total = KINDS.reduce((sum, [, weight]) => sum + weight, 0);
  let chosen = changes.random() * total;
  for (const [kind, weight] of KINDS) {
    chosen -= weight;
    if (chosen < 0) return inTransaction(changes, mix[kind]);
  }
  return 0;
}

async function inTransaction(changes: Changes, change: Change): Promise<number> {
  await changes.query("begin");
  const rowCount = await change(changes);
  await changes.query(rowCount === ROLLED_BACK ? "rollback" : "commit");
  return Math.max(0, rowCount);
}

export function upTo({ random }: Changes, most: number): number {
  return 1 + Math.floor(random() * most);
}
