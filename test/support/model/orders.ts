/** The table and the context that the envelope's examples are of, as in docs/envelope.md and the contract. */
import { formatLsn } from "../../../connectors/postgres/source/wire/lsn.ts";
import type { EnvelopeContext } from "../../../src/core/model/envelope.ts";
import { tableVersion } from "./blocks.ts";

const shape = {
  table: "orders",
  columns: { id: "int8", status: "text", amount: "numeric(12,2)", body: "text" },
  key: ["id"],
  version: 3,
} as const;

export const orders = tableVersion(shape);
/** The same in a schema of its own, as MySQL has it. */
export const shopOrders = tableVersion({ schema: "shop", ...shape });

export const shop: EnvelopeContext = {
  name: "shop",
  sourceKind: "postgres",
  database: "shop",
  producer: "millrace/0.1.0",
  formatPosition: formatLsn,
};
