/** The log's identity as it is stored, and the comparison at a later start. */
import type { LogIdentity } from "../../../src/core/source.ts";
import { BEGIN_ANEW, sourceError } from "../errors.ts";
import { quoteIdentifier } from "../quote.ts";
import type { SourceContext } from "./context.ts";
import type { Publication } from "./publication.ts";
import type { Selected } from "./selection.ts";
import type { ServerFacts, SystemIdentity } from "./server.ts";

export function identityOf(
  context: SourceContext,
  facts: ServerFacts,
  system: SystemIdentity,
  history: string,
  publication: Publication,
  slotMade: boolean,
): LogIdentity {
  return {
    systemIdentifier: system.systemIdentifier,
    timeline: String(system.timeline),
    history,
    database: facts.database,
    databaseOid: facts.databaseOid,
    slot: context.slot,
    // A slot carries no word of who made it.
    slotMade: slotMade ? "yes" : "no",
    publication: context.publication,
    ...publicationIdentity(publication),
  };
}

/** What of an identity a running source compares the publication with. */
export function publicationIdentity(publication: Publication): LogIdentity {
  return {
    publicationOid: String(publication.oid),
    // Which tables it names, and by which entries: one that was taken out and put in again has another.
    entries: JSON.stringify(Object.fromEntries(publication.entries)),
  };
}

/** The same before these tables are taken out of the publication: a place that they are missed in no longer. */
export function withoutEntries(identity: LogIdentity, oids: readonly number[]): LogIdentity {
  const entries = storedEntries(identity["entries"]);
  for (const oid of oids) entries.delete(oid);
  return { ...identity, entries: JSON.stringify(Object.fromEntries(entries)) };
}

/** Throws where the publication is another one or has carried less than it did at the time of `identity`. */
export function checkPublicationHistory(
  context: SourceContext,
  identity: LogIdentity,
  selected: Selected,
): Publication {
  const { publication, captured } = selected;
  const name = context.publication;
  const again = `Changes may have passed unseen. ${BEGIN_ANEW}`;
  if (publication === undefined) throw sourceError("MR2017", "fatal", `the publication ${name} does not exist`, again);
  if (identity["publicationOid"] !== String(publication.oid)) {
    throw sourceError("MR2017", "fatal", `the publication ${name} was dropped and made again`, again);
  }
  if (publication.allTables) return publication;
  const entries = storedEntries(identity["entries"]);
  for (const { table } of captured) {
    const before = entries.get(table.oid);
    if (before === undefined || publication.entries.get(table.oid) === before) continue;
    const left = publication.entries.has(table.oid) ? "was taken out of" : "is no longer in";
    throw sourceError(
      "MR2017",
      "fatal",
      `the table ${table.schema}.${table.table} ${left} the publication ${name}${publication.entries.has(table.oid) ? " for a while" : ""}`,
      `${again} By hand: ALTER PUBLICATION ${quoteIdentifier(name)} ADD TABLE …`,
    );
  }
  return publication;
}

function storedEntries(text: string | undefined): Map<number, number> {
  const parsed: unknown = JSON.parse(text ?? "{}");
  // Parse boundary: our own JSON, an object of oids; anything else in it is passed over.
  const pairs = typeof parsed === "object" && parsed !== null ? Object.entries(parsed) : [];
  return new Map(pairs.flatMap(([oid, entry]) => (typeof entry === "number" ? [[Number(oid), entry] as const] : [])));
}
