/**
 * MySQL and MariaDB as a source: its capabilities, each put together from the parts that do the work.
 *
 * The folders lie on each other, and imports point down:
 *
 *   transactions   what begins and ends where; prepared transactions; other hosts of the replication set
 *   snapshot       rows that are read beside the stream
 *   catalog        which tables there are, with what shapes
 *   rows           table maps and images become blocks
 *   events         checksums, compressed transactions, what an event says
 *   statements     what the text of a statement changes
 *   values         cells
 *   wire           connections, packets, files and positions of the log
 */
import type { Catalog, NamedTable } from "../../../src/core/contracts/catalog.ts";
import type { ChangeLog } from "../../../src/core/contracts/change-log.ts";
import type { LogAdmin } from "../../../src/core/contracts/log-admin.ts";
import type { RowReads } from "../../../src/core/contracts/row-reads.ts";
import type { ReadSource, Source } from "../../../src/core/contracts/source.ts";
import type { Watermarks } from "../../../src/core/contracts/watermarks.ts";
import { BinlogStream } from "./binlog-stream.ts";
import { LOSSES } from "./errors.ts";
import { readHealth } from "./health.ts";
import { KnownLog } from "./known-log.ts";
import { positions } from "./positions.ts";
import { joinedRows } from "../../kit/joined-rows.ts";
import { matchingRows, readRange } from "./snapshot/chunks.ts";
import { namingHolders } from "./snapshot/lock-waits.ts";
import { TableReadings } from "./snapshot/reading.ts";
import { walkRenames } from "./transactions/log-reader.ts";
import { startOf } from "./wire/position.ts";
import type { RowParts, SourceParts } from "./source-parts.ts";

export function mysqlSource(parts: SourceParts): Source {
  const { copySessions, files, server, state, tables } = parts;
  const readings = new TableReadings(server, files, tables, copySessions);
  const known = new KnownLog(parts, readings);
  return {
    kind: "mysql",
    database: server.address.database,
    positions: positions(server.names, state.read, files),
    log: changeLog(parts, known),
    admin: logAdmin(parts, known),
    catalog: catalog(parts, known),
    rows: rowReads(readings),
    watermarks: watermarks(parts),
    close: () => server.close(),
  };
}

/** The tables as the catalogue has them, whatever the log has of them. */
export function mysqlRows({ copySessions, server, tables }: RowParts): ReadSource {
  return {
    catalog: { tables: (signal, before) => tables.select(false, signal, before) },
    rows: rowReads(new TableReadings(server, null, tables, copySessions)),
    close: () => server.close(),
  };
}

function rowReads(readings: TableReadings): RowReads {
  const { server } = readings;
  const matching: Parameters<typeof joinedRows>[1] = (table, by, values, signal) =>
    namingHolders(server, table, matchingRows(readings, table, by, values, signal), signal);
  const readKeys: RowReads["readKeys"] = (table, keys, signal) => matching(table, table.key, keys, signal);
  return {
    readRange: (table, range, signal) =>
      namingHolders(server, table, readRange(readings, table, range, signal), signal),
    readKeys,
    readJoined: joinedRows(readKeys, matching),
  };
}

function changeLog(parts: SourceParts, known: KnownLog): ChangeLog {
  const { files, server, tables } = parts;
  return {
    stream: async (from, options, signal) => {
      await server.facts(signal);
      if (!options.temporary) await known.knowBefore(from.commit, signal);
      return await BinlogStream.open(parts, from, options, signal);
    },
    tip: (signal) => files.tip(signal),
    earliest: async (signal) => {
      const [first] = await files.read(signal);
      return first === undefined ? null : startOf(first.file);
    },
    renames: async (from, to, onRenamed, signal) => {
      await server.facts(signal);
      const tip = await files.tip(signal);
      const until = to === null || to.commit > tip ? tip : to.commit;
      await walkRenames(server, tables.names, { from, until }, onRenamed, signal);
      return until;
    },
  };
}

/** Nothing is created at the source. */
function logAdmin(parts: SourceParts, known: KnownLog): LogAdmin {
  const { claim } = parts;
  return {
    losses: LOSSES,
    expectFree: async (identity, signal) => {
      if (identity !== null) claim.load(identity["reader"]);
      await claim.expectFree(signal);
    },
    create: (request, signal) => known.create(request, signal),
    resume: (identity, held, signal) => known.resume(identity, held, signal),
    cross: (identity, positions, signal) => known.cross(identity, positions, signal),
    remember: (positions) => known.remember(positions),
    health: (signal) => readHealth(parts, signal),
  };
}

function catalog(parts: SourceParts, known: KnownLog): Catalog {
  const { files, server, state, tables } = parts;
  return {
    tables: async (signal, before) => {
      const tip = await files.tip(signal);
      const captured = await tables.select(false, signal, before);
      const after = await files.tip(signal);
      const states = new Map(
        Array.from(captured.generations, ([id, generation]) => [
          id,
          { generation, altered: captured.altered.get(id)! },
        ]),
      );
      const { alterations } = tables;
      const filled = await filledTables(parts, captured.tables, signal);
      const generations = alterations.looked({ before: tip, tables: states, filled }, after, state.reached);
      state.read.looked(generations, tip);
      tables.shapes.looked(tip, after, captured.described);
      return { ...captured, generations };
    },
    /** The log always has everything; only what the stream and the catalogue came to has to be stored again. */
    publish: async (onChange) => {
      const identity = known.come();
      if (identity !== null) await onChange(identity);
    },
    estimates: async (wanted, signal) => {
      const { flavour } = await server.facts(signal);
      return await tables.catalog.rowEstimates(flavour, wanted, signal);
    },
    sizes: async (wanted, signal) => {
      const { flavour } = await server.facts(signal);
      return await tables.catalog.sizes(flavour, wanted, signal);
    },
    foreignKeys: (wanted, signal) => tables.catalog.foreignKeys(wanted, signal),
    equalities: (wanted, signal) => tables.catalog.equalities(wanted, signal),
  };
}

/** Of the tables that sessions without a log were filling, those that nobody writes to any more. */
async function filledTables(
  { server, tables }: SourceParts,
  captured: readonly NamedTable[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const filling = captured.filter(({ id }) => tables.alterations.filling.has(id));
  if (filling.length === 0) return [];
  const { flavour } = await server.facts(signal);
  return await tables.catalog.quietTables(flavour, filling, signal);
}

/** All tables are in the log, and each read waits until everything in the log is visible. */
function watermarks({ files, markPrefix, state }: SourceParts): Watermarks {
  return {
    markPrefix,
    mark: async (content, signal) => {
      state.mark(await state.compared(() => files.tip(signal)), content);
    },
    renew: async (signal) => {
      const tip = await files.tip(signal);
      state.mark(tip, null);
      // A position that the stream of an idle log also passes.
      return tip - 1n;
    },
  };
}
