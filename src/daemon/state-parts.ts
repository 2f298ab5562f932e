import type { Config } from "../config/config.ts";
import type { SourceStore, StateStore } from "../core/contracts/state-store.ts";
import { namesOfTable } from "../core/model/schema.ts";
import { isDocument, NEST_SINK } from "../documents/document.ts";
import { replacing } from "../core/replacing.ts";

/** What one pipeline of a daemon sees of the state: the record of its source, its tables, its sinks. */
interface StateParts {
  readonly tables: StateStore;
  readonly documents: StateStore;
}

/** `isOfDocuments`: whether a sink takes documents. */
export function partsOf(state: StateStore, isOfDocuments: (sink: string) => boolean): StateParts {
  return {
    tables: partOf(state, state.source, {
      sink: (name) => !isOfDocuments(name),
      table: (tableId) => !isDocument(namesOfTable(tableId)),
    }),
    documents: partOf(state, state.nest, {
      sink: isOfDocuments,
      table: (tableId) => isDocument(namesOfTable(tableId)),
    }),
  };
}

interface Own {
  readonly sink: (name: string) => boolean;
  readonly table: (tableId: string) => boolean;
}

/** Lists alone are cut: all else is asked for by the name of a sink or the id of a table. */
function partOf(state: StateStore, source: SourceStore, own: Own): StateStore {
  const { sinks, schemas, suspensions, snapshots, deadLetters } = state;
  const ofTable = <T extends { readonly tableId: string }>(list: readonly T[]): readonly T[] =>
    list.filter(({ tableId }) => own.table(tableId));
  return {
    ...state,
    source,
    sinks: replacing(sinks, { all: async () => (await sinks.all()).filter(({ name }) => own.sink(name)) }),
    schemas: replacing(schemas, { list: async () => (await schemas.list()).filter(({ id }) => own.table(id)) }),
    suspensions: replacing(suspensions, { list: async () => ofTable(await suspensions.list()) }),
    snapshots: replacing(snapshots, {
      list: async (all) => ofTable(await snapshots.list(all)),
      differences: async () => ofTable(await snapshots.differences()),
    }),
    deadLetters: replacing(deadLetters, { list: async (filter) => ofTable(await deadLetters.list(filter)) }),
  };
}

/** What is in the log of the source: the sinks of tables, and their part of the state. Documents follow. */
export function ofTables<C extends Pick<Config, "sinks">>(
  config: C,
  state: StateStore,
): { readonly config: C; readonly state: StateStore } {
  const sinks = config.sinks.filter(({ documents }) => documents === null);
  return { config: { ...config, sinks }, state: tablesPart(state, sinks) };
}

/** The part of these sinks, and of the nest, which takes tables too. One that has left the file is none, as at a start. */
export function tablesPart(state: StateStore, sinks: readonly { readonly name: string }[]): StateStore {
  const names = new Set([NEST_SINK, ...sinks.map(({ name }) => name)]);
  return partsOf(state, (name) => !names.has(name)).tables;
}
