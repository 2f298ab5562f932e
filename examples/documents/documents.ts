import type { Document } from "millrace/rules";

interface Item extends Document {
  readonly quantity: number;
  /** A decimal comes with all its digits, as a text. */
  readonly price: string;
}

interface Order extends Document {
  readonly status: string;
  readonly items: readonly Item[];
}

/** Drafts are nobody's business; others get their total, in whole cents on the way. */
export function order(order: Order): Document | null {
  if (order.status === "draft") return null;
  const cents = order.items.reduce(
    (sum, { quantity, price }) => sum + BigInt(quantity) * BigInt(price.replace(".", "")),
    0n,
  );
  const digits = String(cents).padStart(3, "0");
  return { ...order, total: `${digits.slice(0, -2)}.${digits.slice(-2)}` };
}
