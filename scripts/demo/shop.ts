/** The shop: a schema with the kinds of columns that real ones have, filled by the server itself. */
import type { ChangeMix, Changes } from "./changes.ts";

export const TABLES = [
  "customers",
  "products",
  "stock",
  "orders",
  "order_items",
  "payments",
  "coupons",
  "carts",
] as const;

export const WAREHOUSES = ["Berlin", "São Paulo: 2", "横浜"] as const;

/** Shares of the rows; the rest of N are items of orders. */
export interface ShopSize {
  readonly customers: number;
  readonly products: number;
  readonly orders: number;
  readonly coupons: number;
  readonly carts: number;
}

/** The shop on one kind of server. */
export interface Shop {
  readonly mix: ChangeMix;
  connect(url: string): Promise<ShopSession>;
  /** Statements that make the tables. */
  readonly schema: readonly string[];
  /** Values depend only on the row's number, so that each run begins with the same rows. */
  fillings(size: ShopSize): readonly string[];
}

export interface ShopSession {
  readonly query: Changes["query"];
  end(): Promise<void>;
}

export interface FilledShop {
  readonly size: ShopSize;
  readonly rowCount: number;
}

export async function createShop(shop: Shop, url: string, rows: number): Promise<FilledShop> {
  const size = sizeOf(rows);
  const session = await shop.connect(url);
  try {
    for (const sql of [...shop.schema, ...shop.fillings(size)]) await session.query(sql);
    const counts = TABLES.map((table) => `(select count(*) from ${table})`).join(" + ");
    const total = await session.query(`select ${counts} as count`);
    return { size, rowCount: Number(total.rows[0]?.["count"]) };
  } finally {
    await session.end();
  }
}

function sizeOf(rows: number): ShopSize {
  const share = (part: number): number => Math.max(20, Math.round(rows * part));
  return {
    customers: share(0.1),
    products: share(0.025),
    orders: share(0.22),
    coupons: share(0.005),
    carts: share(0.005),
  };
}
