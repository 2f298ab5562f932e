/** Source and sinks of a configuration: the keys that all have by the common definition, the others by their connector's. */
import type * as z from "zod";
import type { Neighbour, TableName } from "../core/contracts/connector.ts";
import { namesOfTable, tableId, type TableVersion } from "../core/model/schema.ts";
import { isSharedPlace, type Place, shownPlace } from "../core/targets/places.ts";
import { selectedName } from "../core/table-selection.ts";
import { documentTable } from "../documents/document.ts";
import { Routes } from "../routes/routes.ts";
import type { Rules } from "../rules/definition.ts";
import { chosenKeyOf, policyOf, zeroDatesOf } from "../rules/merged-rule.ts";
import { suggestion } from "../rules/nearest.ts";
import type { SharesConfig, SinkConfig, SourceConfig } from "./config.ts";
import { type ConfigFile, isMap } from "./config-file.ts";
import type { Bound, Connector, Connectors } from "./connectors.ts";
import { SINK_NAME, sinkDefinition, sourceDefinition } from "./definition.ts";
import type { Sink } from "../core/contracts/sink.ts";
import type { EnvelopeContext } from "../core/model/envelope.ts";
import { originOf } from "../routes/routed-tables.ts";
import { routedSink } from "../routes/routed-sink.ts";

/** Keys of all sinks that are about rows which a target refuses. */
const OF_ROWS = ["onPoison", "deadLettersMax"];

interface DaemonNames {
  readonly daemon: string;
  /** The `name` in the file. */
  readonly owner: string;
}

/** The source's part of the file, before it is known how the sinks divide its tables. */
interface SourcePart {
  readonly shareCount: number | null;
  readonly made: (daemon: DaemonNames, rules: Rules, shares: SharesConfig | null) => SourceConfig;
}

interface ConnectorPart<Common, Context, Made> {
  readonly common: Common;
  readonly bind: (context: Context) => Bound<Made>;
  readonly shareCount: number | null;
}

/** A past that Millrace did not write can't be compared; and without a read nothing is. */
const NOT_COMPARED = "has no use with `mode: history` or `snapshot: none`: what is there is never compared";

function notAdopted(kind: string): string {
  return `${kind} can't adopt what another program has filled: it lacks what Millrace keeps with each row. Let the sink fill a target of its own, compare the other one by \`millrace verify\`, and then switch its readers`;
}

/** A place, and the part of the file that it belongs to. */
interface Taken {
  readonly by: string;
  readonly place: Place;
}

export class SourceAndSinks {
  readonly #file: ConfigFile;
  readonly #connectors: Connectors;
  #readsNothing = false;

  constructor(file: ConfigFile, connectors: Connectors) {
    this.#file = file;
    this.#connectors = connectors;
  }

  async source(input: object | undefined): Promise<SourcePart | undefined> {
    if (input === undefined) return undefined;
    const kind = this.sourceKind(input);
    const part = this.#part(["source"], input, sourceDefinition, kind && (await this.#connectors.source(kind)));
    if (part === undefined) return undefined;
    const { common, bind, shareCount } = part;
    const { snapshot, tables = [] } = common;
    const { folder } = this.#file;
    this.#readsNothing = snapshot === "none";
    if (snapshot === "none")
      this.#file.refuseGiven(
        ["source"],
        input,
        ["copySessions"],
        "has no use with `snapshot: none`, which copies no table",
      );
    const made = (names: DaemonNames, rules: Rules, shares: SharesConfig | null): SourceConfig => {
      if (kind === "postgres") this.#refuseZeroDates(rules);
      const chosenKey = (table: TableName) => chosenKeyOf(rules, table);
      const zeroDates = (table: TableName) => zeroDatesOf(rules, table);
      const share =
        shares === null || shares.number === null ? {} : { share: { number: shares.number, of: shares.division } };
      const connector = bind({ ...names, folder, tables, snapshot, chosenKey, zeroDates, ...share });
      return {
        kind: common.kind,
        login: this.#file.loginOf(["source"]),
        tables,
        snapshot,
        heartbeatMs: common.heartbeat,
        connector,
      };
    };
    return { shareCount, made };
  }

  #refuseZeroDates({ tables }: Rules): void {
    for (const { pattern, zeroDates } of tables)
      if (zeroDates !== null)
        this.#file.problem(
          "MR1005",
          ["tables", pattern, "zeroDates"],
          "has no use with a source of kind postgres, which has no such dates",
          "key",
        );
  }

  async sinks(daemon: DaemonNames, input: object | undefined, rules: Rules): Promise<readonly SinkConfig[]> {
    const sinks: SinkConfig[] = [];
    for (const [name, value] of Object.entries(input ?? {})) {
      const sink = await this.#sink(daemon, name, value, rules);
      if (sink !== undefined) sinks.push(sink);
    }
    if (this.#file.hasProblems) return sinks;
    this.refuseSharedPlaces(sinks);
    return sinks.map((sink) => ({ ...sink, neighbours: neighboursOf(sink, sinks) }));
  }

  /** The kind, if it exists. */
  sourceKind(input: object): string | undefined {
    return this.#kind(["source"], input, this.#connectors.sourceKinds);
  }

  sinkKind(name: string, input: object): string | undefined {
    return this.#kind(["sinks", name], input, this.#connectors.sinkKinds);
  }

  /** Sinks with the same target would overwrite each other's rows and progress; `own`: what the daemon writes for itself. */
  refuseSharedPlaces(sinks: readonly SinkConfig[], own: readonly Taken[] = []): void {
    const taken: Taken[] = [...own];
    for (const { name, connector } of sinks) {
      const places = connector.places();
      const shared = taken.find((other) => places.some((place) => isSharedPlace(place, other.place)));
      if (shared !== undefined) {
        const message = `writes into the same place as ${shared.by}: ${shownPlace(shared.place)}`;
        this.#file.problem("MR1010", ["sinks", name], message, "key");
      }
      if (own.length === 0) taken.push(...places.map((place) => ({ by: `sinks.${name}`, place })));
    }
  }

  async #sink(daemon: DaemonNames, name: string, input: unknown, rules: Rules): Promise<SinkConfig | undefined> {
    const file = this.#file;
    const path = ["sinks", name];
    if (!SINK_NAME.test(name)) {
      file.problem("MR1005", path, "a sink's name is a letter, then at most 39 letters, digits, _ and -", "key");
    }
    if (!isMap(input)) {
      file.problem(input === null ? "MR1006" : "MR1005", path, "expected a map of keys, kind among them");
      return undefined;
    }
    const kindOf = this.sinkKind(name, input);
    const part = this.#part(path, input, sinkDefinition, kindOf && (await this.#connectors.sink(kindOf)));
    if (part === undefined) return undefined;
    const { common, bind } = part;
    const { kind, documents = null, onPoison, deadLettersMax, onLost, onForeign } = common;
    const adopts = onForeign === "adopt";
    if (onLost === "resync" && Object.getOwnPropertyDescriptor(input, "mode")?.value === "history")
      file.problem("MR1005", [...path, "onLost"], "what a history held can't be read again: leave it out, or fail");
    if (onPoison === "pause") file.refuseGiven(path, input, ["deadLettersMax"], "has no use with `onPoison: pause`");
    const { rows, bytes, delay, timeout } = common.batch;
    const batch = {
      rowCountMax: rows ?? null,
      byteCountMax: bytes ?? null,
      delayMs: delay ?? null,
      answerMsMax: timeout ?? null,
    };
    const dropsColumns = ({ id }: Pick<TableVersion, "id">): boolean =>
      policyOf(rules, namesOfTable(id)).droppedColumns === "drop";
    const tables = documents?.map((one) => selectedName(documentTable(one))) ?? common.tables ?? [];
    this.#expectOneList(path, common);
    const naming = documents === null ? {} : { isOfDocuments: true };
    const bound = bind({
      name,
      ...daemon,
      folder: file.folder,
      tables,
      ...naming,
      dropsColumns,
      ...(adopts ? { adopts } : {}),
    });
    // Documents have names of their own.
    const connector = documents === null ? routedConnector(bound, new Routes(rules.tables)) : bound;
    if (connector.form === "log")
      file.refuseGiven(path, input, OF_ROWS, "has no use with `format: log`: the log has no rows to refuse");
    const isHistory = connector.form === "history" || connector.form === "log";
    const isUnable = bound.adopts !== true || isHistory || this.#readsNothing;
    if (adopts && isUnable)
      file.problem("MR1005", [...path, "onForeign"], bound.adopts === true ? NOT_COMPARED : notAdopted(kind));
    if (documents !== null && isHistory)
      file.problem(
        "MR1005",
        [...path, "documents"],
        `a ${connector.form} takes tables only: of a document it would not get every change`,
      );
    const login = file.loginOf(path);
    const [place] = bound.places();
    return {
      name,
      kind,
      place: place === undefined ? undefined : shownPlace(place),
      login,
      tables,
      documents,
      onPoison,
      deadLettersMax,
      onLost,
      batch,
      neighbours: [],
      connector,
    };
  }

  /** A sink takes tables or documents. */
  #expectOneList(path: readonly string[], { tables, documents }: z.output<typeof sinkDefinition>): void {
    const at = [...path, "tables"];
    if (tables?.length === 0 && documents === undefined)
      this.#file.problem("MR1005", at, "expected at least one table; leave the key out to take all");
    if (tables !== undefined && tables.length > 0 && documents !== undefined)
      this.#file.problem("MR1005", at, "a sink takes tables or documents: make two sinks of it", "key");
  }

  #kind(path: readonly string[], input: object, known: readonly string[]): string | undefined {
    const kind: unknown = Object.getOwnPropertyDescriptor(input, "kind")?.value;
    if (typeof kind !== "string") return undefined;
    if (known.includes(kind)) return kind;
    this.#file.problem("MR1005", [...path, "kind"], `unknown kind ${JSON.stringify(kind)}; ${suggestion(kind, known)}`);
    return undefined;
  }

  #part<Common extends z.ZodObject, Context, Made>(
    path: readonly string[],
    input: object,
    definition: Common,
    connector: Connector<Context, Made> | undefined | "",
  ): ConnectorPart<z.output<Common>, Context, Made> | undefined {
    const entries = Object.entries(input);
    const isCommon = ([key]: readonly [string, unknown]) => Object.hasOwn(definition.shape, key);
    const common = this.#file.parse(path, Object.fromEntries(entries.filter(isCommon)), definition);
    if (connector === undefined || connector === "") return undefined;
    const own = Object.fromEntries(entries.filter((entry) => !isCommon(entry)));
    const parsed = connector.parse(own);
    if (parsed.kind === "invalid") {
      this.#file.addIssues(path, own, connector.definition, parsed.issues, Object.keys(definition.shape));
      return undefined;
    }
    return common === undefined ? undefined : { common, bind: parsed.bind, shareCount: parsed.shareCount };
  }
}

/** The sinks that have a part of what this one writes into. */
function neighboursOf({ connector }: SinkConfig, sinks: readonly SinkConfig[]): readonly Neighbour[] {
  const places = connector.places().filter((place) => typeof place !== "string" && "start" in place);
  return sinks.flatMap(({ name: sink, connector: other }) => {
    if (other === connector) return [];
    // A cluster has a place for each of its addresses.
    const starts = other.places().flatMap((place) => {
      if (typeof place === "string" || !("start" in place)) return [];
      const { at, start } = place;
      const isWithin = places.some((own) => own.at === at && own.start !== start && start.startsWith(own.start));
      return isWithin ? [start] : [];
    });
    return [...new Set(starts)].map((start) => ({ sink, start }));
  });
}

/** A sink of the configuration behind its routes: what it makes, checks and grants has the names that its tables have there. */
function routedConnector(bound: Bound<Sink>, routes: Routes): Bound<Sink> {
  if (routes.text === "" || bound.form === "log") return bound;
  const { reading, firstRows } = bound;
  return {
    ...bound,
    create: async (log, origin) => routedSink(await bound.create(log, routedContext(origin)), routes),
    check: (signal, tables) =>
      bound.check(
        signal,
        tables?.map((table) => ({
          ...routes.named(table),
          id: tableId(table.schema, table.table),
          scope: routes.scopeOf(table) ?? undefined,
        })),
      ),
    grants: (signal, tables) =>
      bound.grants(
        signal,
        tables?.map((table) => routes.named(table)),
      ),
    ...(reading === undefined ? {} : { reading: (table) => reading(routes.named(table)) }),
    ...(firstRows === undefined
      ? {}
      : {
          firstRows: (tables, request, signal) =>
            firstRows(
              tables.map((table) => routes.named(table)),
              request,
              signal,
            ),
        }),
    at: (url) => routedConnector(bound.at(url), routes),
  };
}

/** Records of the log are found by the source's own blocks. */
function routedContext(context: EnvelopeContext | undefined): EnvelopeContext | undefined {
  const recordPosition = context?.recordPosition;
  if (context === undefined || recordPosition === undefined) return context;
  return {
    ...context,
    recordPosition: (block, row) => {
      const from = originOf(block, row);
      return from === null ? recordPosition(block, row) : recordPosition(from.block, from.row);
    },
  };
}
