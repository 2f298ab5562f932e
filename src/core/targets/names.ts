/**
 * Names of targets: maps a name at the source to a name that the sink allows. Every rule here keeps different names
 * different, except letter case in index names, and the dot between schema and table (MR1305).
 */
import type { TableName } from "../contracts/connector.ts";
import type { Scope } from "../model/schema.ts";
import { createHash } from "node:crypto";

const HASH_DIGITS = 8;
/** `_` and the digits. */
const SUFFIX_BYTES = 1 + HASH_DIGITS;

/** A name of more than `byteCountMax` bytes is cut between two characters and ends in `_` and a hash of the whole. */
export function shortened(name: string, byteCountMax: number): string {
  if (Buffer.byteLength(name) <= byteCountMax) return name;
  const hash = createHash("sha256").update(name).digest("hex").slice(0, HASH_DIGITS);
  const bytes = Buffer.from(name);
  let end = byteCountMax - SUFFIX_BYTES;
  // A byte 10xxxxxx continues a character: go back to the character's start.
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--;
  return `${bytes.toString("utf8", 0, end)}_${hash}`;
}

/** 255 minus the `-000001` of the index behind the alias. */
export const INDEX_NAME_BYTES_MAX = 248;

export interface IndexNaming {
  readonly prefix: string;
  /** Whether the tables are documents, which have no schema there. Default: false. */
  readonly isOfDocuments?: boolean | undefined;
}

export function indexOf({ prefix, isOfDocuments = false }: IndexNaming, { schema, table }: TableName): string {
  return indexName(prefix, isOfDocuments ? null : schema, table);
}

/** The index (alias) of a table: lower case; characters that an index name can't contain are percent-encoded. */
export function indexName(prefix: string, schema: string | null, table: string): string {
  const name = `${prefix}${schema === null ? "" : `${schema}.`}${table}`.toLowerCase();
  // Apart from percent and control characters, Elasticsearch and OpenSearch list these characters in their error.
  const encoded = name.replaceAll(/[%\\/*?"<>| ,#:\p{Cc}]/gu, percentEncoded);
  return shortened(encoded.replace(/^[-_+.]/, percentEncoded), INDEX_NAME_BYTES_MAX);
}

/**
 * The alias of one table's documents. Tables that share a name by routes have an index each: `indexOf` leads to all of them. In
 * names a percent sign begins two hex digits, so these are apart from others.
 */
export function ownIndexOf(naming: IndexNaming, table: TableName & { readonly scope?: Scope | undefined }): string {
  const shared = indexOf(naming, table);
  const values = Object.values(table.scope ?? {});
  if (values.length === 0) return shared;
  const own = values.map((value) => `%t-${indexName("", null, `t${value}`).slice(1)}`).join("");
  // Letter case and cut names would make two values one.
  const hash = createHash("sha256").update(JSON.stringify(values)).digest("hex").slice(0, HASH_DIGITS);
  const isPlain = values.every((value) => value === value.toLowerCase());
  return shortened(`${shared}${own}${isPlain ? "" : `%h${hash}`}`, INDEX_NAME_BYTES_MAX);
}

/** Whether an index with these aliases is of one of the tables that share the name. */
export function sharesAlias(aliases: Readonly<Record<string, unknown>>, shared: string): boolean {
  return Object.keys(aliases).some((alias) => alias.startsWith(`${shared}%t-`));
}

/** A part of a cache key, whose parts are joined by colons. */
export function cacheKeyPart(name: string): string {
  return name.replaceAll("%", "%25").replaceAll(":", "%3A");
}

/** Names that the search engines reserve at the top of a document, in all supported versions. */
const ENGINE_FIELDS: ReadonlySet<string> = new Set([
  "_all",
  "_data_stream_timestamp",
  "_doc_count",
  "_feature",
  "_field_names",
  "_id",
  "_ignored",
  "_ignored_source",
  "_index",
  "_index_mode",
  "_inference_fields",
  "_meta",
  "_nested_path",
  "_parent",
  "_primary_term",
  "_recovery_source",
  "_routing",
  "_routing_hash",
  "_score",
  "_seq_no",
  "_size",
  "_source",
  "_tier",
  "_timestamp",
  "_tombstone",
  "_ts_routing_hash",
  "_tsid",
  "_ttl",
  "_type",
  "_uid",
  "_version",
]);

/**
 * The document field of a column. Dots would create objects, and the engine refuses its own names: both are
 * percent-encoded, and so is a percent sign that could look like the start of an encoding.
 */
export function documentField(column: string): string {
  if (column.trim() === "") return column === "" ? "%" : column.replaceAll(/\s/gu, percentEncoded);
  const encoded = column.replaceAll(/%(?=[0-9A-Fa-f]{2})|\./g, (character) => percentEncoded(character).toUpperCase());
  return ENGINE_FIELDS.has(encoded) ? `%5F${encoded.slice(1)}` : encoded;
}

/** Each byte of the character's UTF-8 as `%` and two digits in lower case (index names have no other). */
function percentEncoded(character: string): string {
  return Array.from(Buffer.from(character), (byte) => `%${byte.toString(16).padStart(2, "0")}`).join("");
}
