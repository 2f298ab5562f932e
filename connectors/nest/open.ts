import type { Source } from "../../src/core/contracts/source.ts";
import type { Document } from "../../src/documents/document.ts";
import { openExisting } from "../sqlite/file.ts";
import { SqliteSink } from "../sqlite/sink.ts";
import { nestSource, waitingDocuments } from "./source/source.ts";
import { Nest, type NestOptions } from "./nest.ts";
import { readingOf, storedDocuments, type Waiting } from "./stored.ts";

export interface OpenedNest {
  readonly nest: Nest;
  /** Takes the tables `Nest.tableIds`. */
  readonly sink: SqliteSink;
  readonly source: Source;
  readonly waiting: () => ReadonlyMap<string, Waiting>;
}

/** The sink's name is what status and records call it. `owner`: see TargetNote. */
export function openNest(options: NestOptions & { readonly name: string; readonly owner: string }): OpenedNest {
  const { name, owner, path } = options;
  const nest = new Nest(options);
  // A column that documents do not take any more goes: what it would hold from now on is old.
  const dropsColumns = (): boolean => true;
  const sink = new SqliteSink({ name, kind: "nest", owner, path, schema: undefined, dropsColumns, companion: nest });
  return { nest, sink, source: nestSource(nest), waiting: () => waitingDocuments(nest) };
}

/** What the file at this path was made for; none: there is no nest. */
export function documentsIn(path: string): readonly Document[] {
  const database = openExisting(path);
  try {
    return database === null ? [] : storedDocuments(readingOf(database));
  } finally {
    database?.close();
  }
}
