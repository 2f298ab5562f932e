import { resolve } from "node:path";
import type * as z from "zod";
import type {
  ByUrl,
  CheckedTable,
  Finding,
  FirstRowsRequest,
  GrantScript,
  Reading,
  SinkByUrl,
  SinkContext,
  SinkFactory,
  SourceContext,
  SourceFactory,
  TableName,
  TargetRow,
  Trial,
  TriedTables,
  UrlKeys,
} from "../core/contracts/connector.ts";
import type { Place } from "../core/targets/places.ts";
import type { Group } from "../core/sharing/group.ts";
import type { Division } from "../core/sharing/share.ts";
import type { EnvelopeContext } from "../core/model/envelope.ts";
import type { QueryRequest, QueryResult, Sink, SinkForm } from "../core/contracts/sink.ts";
import type { Readable } from "../core/contracts/readable.ts";
import type { Positions } from "../core/contracts/positions.ts";
import type { ReadSource, Source } from "../core/contracts/source.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { lackOf } from "./extras.ts";
import { parse } from "./parse.ts";
import { urlSecrets } from "./secrets/secrets.ts";

/**
 * The connectors as the configuration uses them; implemented by connectors/registry.ts. Modules are loaded on demand.
 */
export interface Connectors {
  readonly sourceKinds: readonly string[];
  readonly sinkKinds: readonly string[];
  source(kind: string): Promise<SourceConnector>;
  sink(kind: string): Promise<SinkConnector>;
}

export interface SourceConnector extends Connector<SourceContextBase, Source> {
  /** See SourceFactory. */
  positions(): Promise<Positions>;
  readonly byUrl: ByUrl | null;
}
export interface SinkConnector extends Connector<SinkContextBase, Sink> {
  /** Whether its sinks can be asked by SQL; see SinkFactory. */
  readonly isQueryable: boolean;
  readonly byUrl: SinkByUrl | null;
}

export interface Connector<Context, Made> {
  readonly definition: z.ZodObject;
  /** Reads the keys that only this kind has; unknown keys are issues. */
  parse(options: unknown): Parsed<Context, Made>;
}

/** `shareCount`: of a source, into how many shares its tables are divided; null: they are not. */
export type Parsed<Context, Made> =
  | { readonly kind: "valid"; readonly bind: (context: Context) => Bound<Made>; readonly shareCount: number | null }
  | { readonly kind: "invalid"; readonly issues: readonly z.core.$ZodIssue[] };

/** A connector with its options, ready to be created or checked. */
export interface Bound<Made> {
  /** `origin`: for a sink; see SinkContext. */
  create(log: Logger, origin?: EnvelopeContext): Promise<Made>;
  /** `tables`: the tables that a sink would mirror; see SinkFactory. */
  check(signal: AbortSignal, tables?: readonly CheckedTable[]): Promise<readonly Finding[]>;
  /** Scripts for administrators; see SourceFactory and SinkFactory. */
  grants(signal: AbortSignal, tables?: readonly TableName[]): Promise<readonly GrantScript[]>;
  /** Only for a source whose logins need grants; see SourceFactory. */
  readonly grantBy?: (url: string, signal: AbortSignal) => Promise<readonly GrantScript[]>;
  /** Only for a sink; see SinkFactory. */
  readonly reading?: (table: TableName) => Promise<Reading>;
  /** Only for a sink; see SinkFactory. */
  readonly firstRows?: (
    tables: readonly TableName[],
    request: FirstRowsRequest,
    signal: AbortSignal,
  ) => Promise<readonly (readonly TargetRow[] | null)[]>;
  /** Whether these keys lead to the same place as the options, with the same login. */
  fit(keys: UrlKeys): Fit;
  /** Only for a source whose database can take a migration back; see SourceFactory. */
  readonly trial?: (trial: Trial, signal: AbortSignal) => Promise<TriedTables>;
  /** The same options with another url. */
  at(url: string): Bound<Made>;
  /** The places that a sink writes into; see SinkFactory. Empty for a source. */
  places(): readonly Place[];
  /** Only for a sink that several daemons can write to; see SinkFactory. */
  readonly divides?: Division["by"];
  /** Only for a source whose tables are shared; see SourceFactory. */
  readonly group?: (division: Division) => Promise<Group>;
  /** Only for a sink that can be queried; see SinkFactory. */
  readonly query?: (request: QueryRequest, copy: string | null, signal: AbortSignal) => Promise<QueryResult>;
  /** Only for a sink; see SinkFactory. */
  readonly readable?: (signal: AbortSignal) => Promise<Readable>;
  /** Only for a source; see SourceFactory. */
  readonly rows?: (log: Logger) => Promise<ReadSource>;
  /** See SinkFactory. */
  readonly form?: SinkForm;
  readonly adopts?: true;
  /** See SinkFactory. */
  readonly isQueriedInPlace?: boolean;
}

/** `password`: all is the same but a password. */
type Fit = "same" | "password" | "other";

function fitOf(options: unknown, keys: UrlKeys, folder: string): Fit {
  const fits = Object.entries(keys).map(([key, given]): Fit => {
    const own: unknown = Object.getOwnPropertyDescriptor(Object(options), key)?.value;
    if (Array.isArray(given)) return JSON.stringify(own) === JSON.stringify(given) ? "same" : "other";
    if (typeof given !== "string") {
      const parts = Object.entries(Object(own));
      const isSame = Object.entries(given).every(([name, value]) => parts.some(([n, v]) => n === name && v === value));
      return isSame ? "same" : "other";
    }
    const places = (Array.isArray(own) ? own : [own]).map(String);
    const found = places.find((text) => placeOf(text, folder) === placeOf(given, folder));
    if (found === undefined) return "other";
    const [ours, theirs] = [found, given].map((text) => urlSecrets(text).join());
    return theirs === "" || ours === "" || ours === theirs ? "same" : "password";
  });
  return fits.find((fit) => fit === "other") ?? fits.find((fit) => fit === "password") ?? "same";
}

/** Of a URL without password and parameters, or of a path. */
function placeOf(text: string, folder: string): string {
  const [, scheme = "", login = "", rest = ""] = /^([a-z][a-z0-9+.-]*):\/\/(?:([^/?#]*)@)?([^?#]*)/is.exec(text) ?? [];
  if (scheme === "") return resolve(folder, text);
  const [user = ""] = login.split(":");
  return `${scheme.toLowerCase().replace("postgresql", "postgres").replace("mariadb", "mysql")}://${user}@${rest.replace(/\/+$/, "")}`;
}

type SourceContextBase = Omit<SourceContext<unknown>, "options">;
type SinkContextBase = Omit<SinkContext<unknown>, "options">;

type Definition<Options> = z.ZodObject & z.ZodType<Options>;

/** What a sink's config.ts exports. */
interface SinkModule<Options> {
  readonly definition: Definition<Options>;
  readonly factory: SinkFactory<Options>;
}

/** What a source's config.ts exports. */
interface SourceModule<Options> {
  readonly sourceDefinition: Definition<Options>;
  readonly sourceFactory: SourceFactory<Options>;
}

export function sinkConnector<Options>({ definition, factory }: SinkModule<Options>): SinkConnector {
  const bind = (options: Options, base: SinkContextBase): Bound<Sink> => {
    const context = { ...base, options };
    const expectExtras = (): void => {
      const lack = lackOf(factory.extras?.(options) ?? []);
      if (lack !== undefined) throw lack;
    };
    return {
      create: async (log, origin) => {
        expectExtras();
        return await factory.create({ ...context, ...(origin === undefined ? {} : { origin }) }, log);
      },
      check: async (signal, tables) => {
        expectExtras();
        return await factory.check(context, signal, tables);
      },
      grants: async (_signal, tables) => (await factory.grants?.(context, tables)) ?? [],
      at: (url) => bind({ ...options, url }, base),
      places: () => factory.places?.(context) ?? [],
      ...(factory.divides === undefined ? {} : { divides: factory.divides(options) }),
      fit: (keys) => fitOf(options, keys, base.folder),
      ...(factory.reading === undefined ? {} : { reading: (table) => factory.reading!(context, table) }),
      ...(factory.firstRows === undefined
        ? {}
        : {
            firstRows: async (tables, request, signal) => {
              expectExtras();
              return await factory.firstRows!(context, tables, request, signal);
            },
          }),
      ...(factory.readable === undefined
        ? {}
        : {
            readable: async (signal: AbortSignal) => {
              expectExtras();
              return await factory.readable!(context, signal);
            },
          }),
      ...(factory.form === undefined ? {} : { form: factory.form(options) }),
      ...(factory.adopts === undefined ? {} : { adopts: factory.adopts }),
      ...(factory.isQueriedInPlace === undefined ? {} : { isQueriedInPlace: factory.isQueriedInPlace }),
      ...(factory.query === undefined
        ? {}
        : {
            query: async (request: QueryRequest, copy: string | null, signal: AbortSignal) => {
              expectExtras();
              return await factory.query!(context, request, copy, signal);
            },
          }),
    };
  };
  const isQueryable = factory.query !== undefined;
  const byUrl = factory.byUrl ?? null;
  return { definition, isQueryable, byUrl, parse: (input) => parseStrictly(definition, input, bind) };
}

export function sourceConnector<Options>({
  sourceDefinition: definition,
  sourceFactory: factory,
}: SourceModule<Options>): SourceConnector {
  const bind = (options: Options, base: SourceContextBase): Bound<Source> => {
    const context = { ...base, options };
    return {
      create: (log) => factory.create(context, log),
      check: (signal) => factory.check(context, signal),
      grants: async (signal) => (await factory.grants?.(context, signal)) ?? [],
      at: (url) => bind({ ...options, url }, base),
      places: () => [],
      fit: (keys) => fitOf(options, keys, base.folder),
      ...(factory.rows === undefined ? {} : { rows: (log: Logger) => factory.rows!(context, log) }),
      ...(factory.grantBy === undefined
        ? {}
        : { grantBy: (url: string, signal: AbortSignal) => factory.grantBy!(context, url, signal) }),
      ...(factory.group === undefined ? {} : { group: (division) => factory.group!(context, division) }),
      ...(factory.trial === undefined ? {} : { trial: (tried, signal) => factory.trial!(context, tried, signal) }),
    };
  };
  return {
    definition,
    positions: () => factory.positions(),
    byUrl: factory.byUrl ?? null,
    parse: (input) => parseStrictly(definition, input, bind, (options) => factory.shareCount?.(options)),
  };
}

function parseStrictly<Options, Context, Made>(
  definition: Definition<Options>,
  input: unknown,
  bind: (options: Options, context: Context) => Bound<Made>,
  shareCountOf: (options: Options) => number | undefined = () => undefined,
): Parsed<Context, Made> {
  const known = parse(definition, input);
  const unknown = unknownKeys(definition, input);
  if (!known.success || unknown.length > 0)
    return { kind: "invalid", issues: [...(known.error?.issues ?? []), ...unknown] };
  const { data } = known;
  return { kind: "valid", bind: (context) => bind(data, context), shareCount: shareCountOf(data) ?? null };
}

/** Finds unknown keys at the top of a definition that is not strict there. */
function unknownKeys(definition: z.ZodObject, input: unknown): z.core.$ZodIssue[] {
  if (typeof input !== "object" || input === null) return [];
  const keys = Object.keys(input).filter((key) => !Object.hasOwn(definition.shape, key));
  return keys.length === 0 ? [] : [{ code: "unrecognized_keys", keys, input: {}, path: [], message: "" }];
}
