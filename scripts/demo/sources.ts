/** The servers that the demo can use as a source. */
import { mysqlShop } from "./mysql-shop.ts";
import { postgresShop } from "./postgres-shop.ts";
import type { Shop } from "./shop.ts";

/** Names of servers; MySQL and MariaDB are one kind of source. */
export const SOURCES = ["postgres", "mysql", "mariadb"] as const;
export type SourceName = (typeof SOURCES)[number];

export interface DemoSource {
  readonly kind: "postgres" | "mysql";
  readonly url: string;
  /** The qualifier of the shop's tables, at the source and in the sinks. */
  readonly schema: string;
}

export function demoSource(name: SourceName, url: string): DemoSource {
  if (name === "postgres") return { kind: "postgres", url, schema: "public" };
  return { kind: "mysql", url, schema: new URL(url).pathname.slice(1) };
}

export function shopOn(name: SourceName): Shop {
  return name === "postgres" ? postgresShop : mysqlShop;
}
