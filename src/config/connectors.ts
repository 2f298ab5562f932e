import type * as z from "zod";
import type {
  Finding,
  SinkContext,
  SinkFactory,
  SourceContext,
  SourceFactory,
  TableName,
} from "../core/contracts/connector.ts";
import type { QueryRequest, QueryResult, Sink } from "../core/contracts/sink.ts";
import type { Source } from "../core/contracts/source.ts";
import type { Logger } from "../core/contracts/telemetry.ts";
import { parse } from "./parse.ts";

/**
 * The connectors as the configuration uses them; implemented by connectors/registry.ts. Modules are loaded on demand.
 */
export interface Connectors {
  readonly sourceKinds: readonly string[];
  readonly sinkKinds: readonly string[];
  source(kind: string): Promise<SourceConnector>;
  sink(kind: string): Promise<SinkConnector>;
}

export type SourceConnector = Connector<SourcePlace, Source>;
export type SinkConnector = Connector<SinkPlace, Sink>;

export interface Connector<Place, Made> {
  readonly definition: z.ZodObject;
  /** Reads the keys that only this kind has; unknown keys are issues. */
  parse(options: unknown): Parsed<Place, Made>;
}

export type Parsed<Place, Made> =
  | { readonly kind: "valid"; readonly bind: (place: Place) => Bound<Made> }
  | { readonly kind: "invalid"; readonly issues: readonly z.core.$ZodIssue[] };

/** A connector with its options, ready to be created or checked. */
export interface Bound<Made> {
  create(log: Logger): Promise<Made>;
  /** `tables`: the tables that a sink would mirror; see SinkFactory. */
  check(signal: AbortSignal, tables?: readonly TableName[]): Promise<readonly Finding[]>;
  /** The places that a sink writes into; see SinkFactory. Empty for a source. */
  places(): readonly string[];
  /** Only for a sink that can be queried; see SinkFactory. */
  readonly query?: (request: QueryRequest, copy: string | null, signal: AbortSignal) => Promise<QueryResult>;
}

export type SourcePlace = Omit<SourceContext<unknown>, "options">;
export type SinkPlace = Omit<SinkContext<unknown>, "options">;

type Definition<Options> = z.ZodObject & z.ZodType<Options>;

/** What a sink's config.ts exports. */
export interface SinkModule<Options> {
  readonly definition: Definition<Options>;
  readonly factory: SinkFactory<Options>;
}

/** What a source's config.ts exports. */
export interface SourceModule<Options> {
  readonly sourceDefinition: Definition<Options>;
  readonly sourceFactory: SourceFactory<Options>;
}

export function sinkConnector<Options>({ definition, factory }: SinkModule<Options>): SinkConnector {
  return {
    definition,
    parse: (input) =>
      parseStrictly(definition, input, (options, place: SinkPlace) => ({
        create: (log) => factory.create({ ...place, options }, log),
        check: (signal, tables) => factory.check({ ...place, options }, signal, tables),
        places: () => factory.places?.({ ...place, options }) ?? [],
        ...(factory.query === undefined
          ? {}
          : { query: (request, copy, signal) => factory.query!({ ...place, options }, request, copy, signal) }),
      })),
  };
}

export function sourceConnector<Options>({
  sourceDefinition: definition,
  sourceFactory: factory,
}: SourceModule<Options>): SourceConnector {
  return {
    definition,
    parse: (input) =>
      parseStrictly(definition, input, (options, place: SourcePlace) => ({
        create: (log) => factory.create({ ...place, options }, log),
        check: (signal) => factory.check({ ...place, options }, signal),
        places: () => [],
      })),
  };
}

function parseStrictly<Options, Place, Made>(
  definition: Definition<Options>,
  input: unknown,
  bind: (options: Options, place: Place) => Bound<Made>,
): Parsed<Place, Made> {
  const known = parse(definition, input);
  const unknown = unknownKeys(definition, input);
  if (known.success && unknown.length === 0) return { kind: "valid", bind: (place) => bind(known.data, place) };
  return { kind: "invalid", issues: [...(known.error?.issues ?? []), ...unknown] };
}

/** Finds unknown keys at the top of a definition that is not strict there. */
function unknownKeys(definition: z.ZodObject, input: unknown): z.core.$ZodIssue[] {
  if (typeof input !== "object" || input === null) return [];
  const keys = Object.keys(input).filter((key) => !Object.hasOwn(definition.shape, key));
  return keys.length === 0 ? [] : [{ code: "unrecognized_keys", keys, input: {}, path: [], message: "" }];
}
