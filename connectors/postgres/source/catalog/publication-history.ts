/** The log's identity as it is stored, and its comparison at a later start. */
import { createHash } from "node:crypto";
import type { LogIdentity } from "../../../../src/core/contracts/positions.ts";
import { BEGIN_ANEW, sourceError } from "../errors.ts";
import { quoteIdentifier, quoteTable } from "../../../../src/postgres/quote.ts";
import type { SourceContext } from "../wire/context.ts";
import type { Publication } from "./publication.ts";
import type { Selected } from "./selection.ts";

/** The part of an identity with which a running source compares the publication. */
export const PUBLICATION_PARTS = ["publicationOid", "entries", "publicationWritten", "schemaEntries", "columnLists"];

export function publicationPart(identity: LogIdentity): LogIdentity {
  return Object.fromEntries(
    PUBLICATION_PARTS.flatMap((what) => (identity[what] === undefined ? [] : [[what, identity[what]] as const])),
  );
}

export function publicationIdentity(publication: Publication): LogIdentity {
  return {
    publicationOid: String(publication.oid),
    // The tables that it names, with their entries: removing a table and adding it again changes its entry.
    entries: JSON.stringify(Object.fromEntries(publication.entries)),
    publicationWritten: publication.written,
    schemaEntries: JSON.stringify([...new Set(publication.schemaEntries.values())].toSorted((a, b) => a - b)),
    columnLists: JSON.stringify(
      Object.fromEntries([...publication.columns.keys()].map((oid) => [oid, listOf(publication, oid)])),
    ),
  };
}

/** The identity before these tables are removed from the publication: it does not miss them any more. */
export function withoutEntries(identity: LogIdentity, oids: readonly number[]): LogIdentity {
  const entries = storedNumbers(identity["entries"]);
  for (const oid of oids) entries.delete(oid);
  return { ...identity, entries: JSON.stringify(Object.fromEntries(entries)) };
}

/**
 * Throws if the publication is another one, or carries less than at the time of `identity`. An altered publication may have
 * left changes out for a while: its tables get another generation and are read again. If nothing is read again, it is a
 * gap.
 */
export function checkPublicationHistory(
  context: SourceContext,
  identity: LogIdentity,
  selected: Selected,
): Publication {
  const { publication } = selected;
  const name = context.publication;
  if (publication === undefined) throw narrowed(`the publication ${name} does not exist`);
  if (identity["publicationOid"] !== String(publication.oid)) {
    throw narrowed(`the publication ${name} was dropped and made again`);
  }
  const altered = isAltered(identity, publication) ? [`the publication ${name} was altered`] : [];
  if (!publication.allTables) altered.push(...alteredTables(context, identity, selected.captured, publication));
  for (const what of altered) {
    if (!context.readsRows) throw narrowed(what);
    context.logger.warn({ publication: name }, `${what}: what it may have left out meanwhile is read again`);
  }
  return publication;
}

/** Whether a table that was published lacks its entry: it was removed, or has been dropped since the entry was read. */
export function lacksEntries(identity: LogIdentity, { captured }: Selected, { entries }: Publication): boolean {
  const before = storedNumbers(identity["entries"]);
  return captured.some(({ table }) => before.has(table.oid) && !entries.has(table.oid));
}

function narrowed(what: string, byHand = ""): Error {
  return sourceError("MR2017", "fatal", what, { hint: `Changes may have passed unseen. ${BEGIN_ANEW}${byHand}` });
}

/** Whether its own entry was written since, or a schema was removed from it. */
function isAltered(identity: LogIdentity, { written, schemaEntries }: Publication): boolean {
  const entries = new Set(schemaEntries.values());
  const isLess = [...storedNumbers(identity["schemaEntries"]).values()].some((entry) => !entries.has(entry));
  return identity["publicationWritten"] !== written || isLess;
}

/** Tables whose column list has changed; throws if one is missing, or was for a while. */
function alteredTables(
  { publication: name }: SourceContext,
  identity: LogIdentity,
  captured: Selected["captured"],
  publication: Publication,
): readonly string[] {
  const entries = storedNumbers(identity["entries"]);
  const lists = storedTexts(identity["columnLists"]);
  const altered: string[] = [];
  for (const { table } of captured) {
    const before = entries.get(table.oid);
    const now = publication.entries.get(table.oid);
    if (before === undefined || now === before) continue;
    const { schema, table: tableName } = table;
    if (now === undefined) {
      const byHand = ` By hand: ALTER PUBLICATION ${quoteIdentifier(name)} ADD TABLE ${quoteTable(schema, tableName)};`;
      throw narrowed(`the table ${schema}.${tableName} is no longer in the publication ${name}`, byHand);
    }
    if (lists.get(table.oid) === listOf(publication, table.oid)) {
      throw narrowed(`the table ${schema}.${tableName} was taken out of the publication ${name} for a while`);
    }
    altered.push(`the columns that the publication ${name} has of ${schema}.${tableName} were altered`);
  }
  return altered;
}

/** For a table that is published with a column list: identifies the list. */
function listOf({ columns }: Publication, oid: number): string | undefined {
  const list = columns.get(oid);
  if (list === undefined) return undefined;
  return createHash("sha256").update(JSON.stringify(list.toSorted())).digest("hex").slice(0, 16);
}

function storedNumbers(text: string | undefined): Map<number, number> {
  return new Map(
    storedPairs(text).flatMap(([oid, entry]) => (typeof entry === "number" ? [[oid, entry] as const] : [])),
  );
}

function storedTexts(text: string | undefined): Map<number, string> {
  return new Map(
    storedPairs(text).flatMap(([oid, entry]) => (typeof entry === "string" ? [[oid, entry] as const] : [])),
  );
}

/** Parse boundary: our own JSON, an object by numbers. Anything else in it is ignored. */
function storedPairs(text: string | undefined): readonly (readonly [number, unknown])[] {
  const parsed: unknown = JSON.parse(text ?? "{}");
  const pairs = typeof parsed === "object" && parsed !== null ? Object.entries(parsed) : [];
  return pairs.map(([number, value]: [string, unknown]) => [Number(number), value]);
}
