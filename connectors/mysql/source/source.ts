/** MySQL and MariaDB as a source: its capabilities, each put together from the parts that do the work. */
import type { Catalog } from "../../../src/core/contracts/catalog.ts";
import type { ChangeLog } from "../../../src/core/contracts/change-log.ts";
import type { LogAdmin } from "../../../src/core/contracts/log-admin.ts";
import type { Positions } from "../../../src/core/contracts/positions.ts";
import type { Source } from "../../../src/core/contracts/source.ts";
import type { Watermarks } from "../../../src/core/contracts/watermarks.ts";
import { rowEstimates } from "./catalog/estimates.ts";
import { selectTables } from "./catalog/selection.ts";
import { changed, lookUp, named } from "./catalog/stream-tables.ts";
import { expectUnclaimed } from "./claim.ts";
import type { SourceContext } from "./context.ts";
import { LOSSES } from "./errors.ts";
import { readHealth } from "./health.ts";
import { namingHolders } from "./lock-waits.ts";
import { otherServerId } from "./log/dump.ts";
import { bytesBetween, readFiles, readTip } from "./log/log-state.ts";
import { AnsweringServer } from "./server.ts";
import { readKeys, readRange } from "./snapshot/chunks.ts";
import { startOf } from "./start.ts";
import { BinlogStream } from "./stream.ts";
import { KnownLog } from "./transactions/known-log.ts";

export function mysqlSource(context: SourceContext): Source {
  const server = new AnsweringServer(context);
  const known = new KnownLog(context, server);
  return {
    kind: "mysql",
    database: context.address.database,
    positions: positions(context),
    log: changeLog(context, server, known),
    admin: logAdmin(context, known),
    catalog: catalog(context, server, known),
    rows: {
      readRange: async (table, range, signal) => {
        const at = { context, facts: await server.facts(signal) };
        return await namingHolders(context, table, readRange(at, table, range, signal), signal);
      },
      readKeys: async (table, keys, signal) => {
        const at = { context, facts: await server.facts(signal) };
        return await namingHolders(context, table, readKeys(at, table, keys, signal), signal);
      },
    },
    watermarks: watermarks(context),
    close: () => context.database.close(),
  };
}

/** As far as the log was looked at, or recalled. */
export function positions(context: Pick<SourceContext, "names" | "read" | "files">): Positions {
  const { names, read } = context;
  return {
    format: (commit) => names.format(commit),
    parse: (text) => names.parse(text),
    fields: (commit) => names.fields(commit),
    distance: (a, b) => (a < b ? bytesBetween(context.files, a, b) : bytesBetween(context.files, b, a)),
    recall: (identity) => {
      const base = identity["base"];
      if (base !== undefined) names.use(base);
      read.load(identity["read"]);
    },
    namesBefore: (commit) => read.at(commit)?.set.spelled,
  };
}

function changeLog(context: SourceContext, server: AnsweringServer, known: KnownLog): ChangeLog {
  return {
    stream: async (from, options, signal) => {
      const facts = await server.facts(signal);
      if (!options.temporary) await known.knowBefore(from.commit, facts, signal);
      return await BinlogStream.open(
        {
          context,
          from,
          options,
          serverId: options.temporary ? otherServerId(context) : context.serverId,
          resolve: (map, position) => lookUp(context, map, options, position),
          named: (target, position) => named(context, target, options, position),
          changed: (by) => changed(context, by, options),
        },
        signal,
      );
    },
    tip: (signal) => readTip(context, signal),
    earliest: async (signal) => {
      const [first] = await readFiles(context, signal);
      return first === undefined ? null : startOf(first.file);
    },
  };
}

/** Nothing is created at the source. */
function logAdmin(context: SourceContext, known: KnownLog): LogAdmin {
  return {
    losses: LOSSES,
    expectFree: async (identity, signal) => {
      if (identity !== null) known.knowReader(identity);
      await expectUnclaimed(context, signal);
    },
    create: (request, signal) => known.create(request, signal),
    resume: (identity, held, signal) => known.resume(identity, held, signal),
    cross: (identity, places, signal) => known.cross(identity, places, signal),
    remember: (places) => known.remember(places),
    health: (signal) => readHealth(context, signal),
  };
}

function catalog(context: SourceContext, server: AnsweringServer, known: KnownLog): Catalog {
  return {
    tables: async (signal, before) => {
      const tip = await readTip(context, signal);
      const captured = await selectTables(context, false, signal, before);
      const after = await readTip(context, signal);
      const tables = new Map(
        Array.from(captured.generations, ([id, generation]) => [
          id,
          { generation, altered: captured.altered.get(id)! },
        ]),
      );
      const generations = context.alterations.looked({ before: tip, tables }, after, context.marks.reached);
      context.read.looked(generations, tip);
      context.shapes.looked(tip, after, captured.described);
      return { ...captured, generations };
    },
    /** The log always has everything; only the file that the stream has reached has to be stored again. */
    publish: async (onChange) => {
      const identity = known.come();
      if (identity !== null) await onChange(identity);
    },
    estimates: async (tables, signal) => await rowEstimates(context, await server.facts(signal), tables, signal),
  };
}

/** All tables are in the log, and each read waits until everything in the log is visible. */
function watermarks(context: SourceContext): Watermarks {
  const { marks, markPrefix } = context;
  return {
    markPrefix,
    mark: async (content, signal) => {
      marks.add(await marks.compared(() => readTip(context, signal)), content);
    },
    renew: async (signal) => {
      const tip = await readTip(context, signal);
      marks.add(tip, null);
      // A position that the stream of an idle log also passes.
      return tip - 1n;
    },
  };
}
