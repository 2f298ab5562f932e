/** Sinks that a program brings with it, beside those that the registry knows. */
import type { Bound, Connectors, SinkConnector } from "../config/connectors.ts";
import type { Sink } from "../core/contracts/sink.ts";
import type { EnvelopeContext } from "../core/model/envelope.ts";
import * as z from "zod";
import type { OwnSink } from "./api.ts";
import { libraryError } from "./errors.ts";

/** In the configuration, as `kind`. */
export const OWN = "own";
const definition = z.object({});

type OwnSinks = Readonly<Record<string, OwnSink>>;

interface Divided {
  /** By name, as the configuration has them. */
  readonly sinks: Readonly<Record<string, unknown>>;
  readonly own: OwnSinks;
}

/** Takes the program's own out of `sinks`. */
export function dividedSinks(sinks: Readonly<Record<string, unknown>>): Divided {
  const kept: Record<string, unknown> = {};
  const own: Record<string, OwnSink> = {};
  for (const [name, given] of Object.entries(sinks)) {
    const made = isOwn(given) ? given : isRecord(given) && isOwn(given["sink"]) ? given["sink"] : null;
    if (made === null) kept[name] = given;
    else {
      own[name] = made;
      const keys = isOwn(given) || !isRecord(given) ? {} : given;
      kept[name] = { ...keys, sink: undefined, kind: OWN };
    }
  }
  return { sinks: kept, own };
}

function isOwn(given: unknown): given is OwnSink {
  return typeof given === "function" || (isRecord(given) && typeof given["apply"] === "function");
}

function isRecord(given: unknown): given is Record<string, unknown> {
  return typeof given === "object" && given !== null;
}

interface WithOwnSinks extends AsyncDisposable {
  readonly connectors: Connectors;
}

/** The daemon may make a sink of the configuration several times; the program's own is one, and is closed once, at the end. */
export function withOwnSinks(connectors: Connectors, own: OwnSinks): WithOwnSinks {
  const made = new Map<string, Sink>();
  const connector: SinkConnector = {
    definition,
    isQueryable: false,
    byUrl: null,
    parse: (input) => {
      const keys = Object.keys(isRecord(input) ? input : {});
      if (keys.length > 0)
        return { kind: "invalid", issues: [{ code: "unrecognized_keys", keys, input: {}, path: [], message: "" }] };
      return { kind: "valid", bind: ({ name }) => bound(name, own[name], made), shareCount: null };
    },
  };
  return {
    connectors: {
      ...connectors,
      sinkKinds: [...connectors.sinkKinds, OWN],
      sink: async (kind) => (kind === OWN ? connector : await connectors.sink(kind)),
    },
    [Symbol.asyncDispose]: async () => {
      for (const sink of made.values()) await sink.close();
    },
  };
}

function bound(name: string, given: OwnSink | undefined, made: Map<string, Sink>): Bound<Sink> {
  if (given === undefined)
    throw libraryError("MR1171", `sinks.${name}: \`kind: ${OWN}\` is for sinks that a program gives`);
  const one: Bound<Sink> = {
    create: async (_log, origin) => unclosed(made.get(name) ?? make(name, given, origin, made)),
    check: async () => [],
    grants: async () => [],
    at: () => one,
    places: () => [],
    fit: () => "other",
    ...(typeof given === "function" ? {} : { form: given.form }),
  };
  return one;
}

function make(name: string, given: OwnSink, origin: EnvelopeContext | undefined, made: Map<string, Sink>): Sink {
  if (origin === undefined) throw new Error("invariant broken: a sink is made with the origin of its changes");
  const sink = typeof given === "function" ? given(origin) : given;
  if (sink.name !== name)
    throw libraryError("MR1171", `sinks.${name}: the sink's own name is ${JSON.stringify(sink.name)}`);
  made.set(name, sink);
  return sink;
}

/** A sink that is opened again goes on: its own `close` follows when nothing opens it any more. */
function unclosed(sink: Sink): Sink {
  return new Proxy(sink, {
    get: (target, property) => {
      if (property === "close") return async () => {};
      const member: unknown = Reflect.get(target, property, target);
      if (typeof member !== "function") return member;
      return (...given: readonly unknown[]): unknown => Reflect.apply(member, target, given);
    },
  });
}
