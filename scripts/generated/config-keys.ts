/** Lists of configuration keys in Markdown pages, from the definitions that validate them. */
import * as z from "zod";
import { connectors } from "../../connectors/registry.ts";
import { topDefinition } from "../../src/config/daemon-definition.ts";
import { sinkDefinition, sourceDefinition } from "../../src/config/definition.ts";
import { rangeOf } from "../../src/core/values/quantity-keys.ts";

/**
 * Fills each `<!-- keys: PATTERN … -->` of a page up to its `<!-- /keys -->` with a line per key. A pattern is a key
 * (`reconcile`: it and all below it), `sinks.KIND` and `source.KIND` (the keys that are that kind's own), or `!` and a key as
 * the line would name it (it and all below it left out).
 */
export function withConfigKeys(page: string, keys: readonly ConfigKey[]): string {
  return page.replaceAll(/(<!-- keys: (.+?) -->\n)[^]*?(<!-- \/keys -->)/g, (_all, begin, patterns, end) => {
    const lines = linesFor(String(patterns).split(" "), keys);
    if (lines.length === 0) throw new Error(`no configuration key fits ${patterns}`);
    return `${begin}\n${lines.join("\n")}\n\n${end}`;
  });
}

export interface ConfigKey {
  /** `<table>` is a name that users choose. */
  readonly path: string;
  /** The kind of source or sink whose own key it is; null: all have it. */
  readonly kind: string | null;
  readonly definition: z.ZodType;
}

export async function configKeys(): Promise<readonly ConfigKey[]> {
  const keys: ConfigKey[] = [];
  const add = (shape: z.ZodRawShape, prefix: string, kind: string | null = null): void => {
    for (const [path, definition] of below(shape, prefix)) keys.push({ path, kind, definition });
  };
  const { source: _source, sinks: _sinks, ...top } = topDefinition.shape;
  add(top, "");
  add(sourceDefinition.shape, "source.");
  for (const kind of connectors.sourceKinds) add((await connectors.source(kind)).definition.shape, "source.", kind);
  add(sinkDefinition.shape, SINK);
  for (const kind of connectors.sinkKinds) add((await connectors.sink(kind)).definition.shape, SINK, kind);
  return keys;
}

const SINK = "sinks.<sink>.";
/** The name of what a map's keys name. */
const MAPS: Readonly<Record<string, string>> = {
  tables: "<table>",
  columns: "<column>",
  documents: "<document>",
  with: "<field>",
};

function* below(shape: z.ZodRawShape, path: string): Generator<readonly [string, z.ZodType]> {
  for (const [name, definition] of Object.entries(shape)) {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a shape's members are types of zod
    const type = definition as z.ZodType;
    yield [`${path}${name}`, type];
    yield* inner(type, `${path}${name}.`, name);
  }
}

function* inner(type: z.ZodType, path: string, name: string): Generator<readonly [string, z.ZodType]> {
  const { bare } = unwrapped(type);
  if (bare instanceof z.ZodObject) yield* below(bare.shape, path);
  if (bare instanceof z.ZodObject && bare.def.catchall instanceof z.ZodObject && name in MAPS)
    yield* below(bare.def.catchall.shape, `${path}${MAPS[name]}.`);
  if (bare instanceof z.ZodArray) yield* inner(asType(bare.element), path.replace(/\.$/, "[]."), name);
  if (bare instanceof z.ZodUnion) for (const one of bare.options) yield* inner(asType(one), path, name);
  if (bare instanceof z.ZodLazy) yield* inner(asType(bare.unwrap()), path, name);
  // A map may hold maps of its own kind: these have the same keys.
  const isOfItself = path.includes(`.${name}.`) && path.split(`.${name}.`).length > 2;
  if (bare instanceof z.ZodRecord && name in MAPS && !isOfItself)
    yield* inner(asType(bare.valueType), `${path}${MAPS[name]}.`, "");
}

interface Unwrapped {
  readonly bare: z.ZodType;
  readonly isOptional: boolean;
  readonly byDefault: unknown;
  readonly description: string | undefined;
}

/** Without what makes it optional, gives it a default or transforms it. */
function unwrapped(type: z.ZodType): Unwrapped {
  let bare = type;
  let description = type.description;
  let [isOptional, byDefault]: [boolean, unknown] = [false, undefined];
  for (;;) {
    description ??= bare.description;
    if (bare instanceof z.ZodOptional) [isOptional, bare] = [true, asType(bare.unwrap())];
    else if (bare instanceof z.ZodDefault || bare instanceof z.ZodPrefault)
      [isOptional, byDefault, bare] = [true, bare.def.defaultValue, asType(bare.unwrap())];
    else if (bare instanceof z.ZodPipe && rangeOf(bare) === undefined) bare = asType(bare.in);
    else return { bare, isOptional, byDefault, description };
  }
}

function asType(type: z.core.$ZodType): z.ZodType {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- zod's own classes are these
  return type as z.ZodType;
}

function linesFor(patterns: readonly string[], keys: readonly ConfigKey[]): readonly string[] {
  const excluded = patterns.filter((one) => one.startsWith("!")).map((one) => one.slice(1));
  const isUnder = (path: string, root: string) => path === root || path.startsWith(`${root}.`);
  const isWanted = (name: string) => !excluded.some((one) => isUnder(name, one));
  return patterns
    .filter((one) => !one.startsWith("!"))
    .flatMap((root) => {
      const [, part, kind] = /^(source|sinks)\.(\w+)$/.exec(root) ?? [];
      const own = keys
        .filter((key) => kind !== undefined && key.kind === kind && key.path.startsWith(`${part}.`))
        .map((key) => ({ key, name: key.path.replace(/^source\.|^sinks\.<sink>\./, "") }));
      const named =
        own.length > 0
          ? own
          : keys
              .filter(({ path, kind: of }) => of === null && isUnder(path, root))
              .map((key) => ({ key, name: key.path }));
      return named.filter(({ name }) => isWanted(name)).flatMap(({ key, name }) => lineOf(key, name));
    });
}

/** None for a group that is nothing by itself. */
function lineOf({ path, definition }: ConfigKey, name: string): readonly string[] {
  const { bare, isOptional, byDefault, description } = unwrapped(definition);
  const isMap = bare instanceof z.ZodObject && bare.def.catchall instanceof z.ZodObject;
  if (bare instanceof z.ZodObject && typeof byDefault === "object" && !isMap) return [];
  if (description === undefined) {
    if (bare instanceof z.ZodObject) return [];
    throw new Error(`the configuration key ${path} has no description`);
  }
  const facts = [
    ...(isOptional ? [] : ["required"]),
    ...(byDefault === undefined || typeof byDefault === "object" ? [] : [`default ${valueText(byDefault, bare)}`]),
    ...formOf(bare, description),
  ];
  return [`- \`${name}\`${facts.length === 0 ? "" : ` (${facts.join("; ")})`}: ${description}`];
}

function valueText(value: unknown, bare: z.ZodType): string {
  // A default that is given as people write it is text.
  const text = typeof value === "string" ? value : (rangeOf(bare)?.text(Number(value)) ?? JSON.stringify(value));
  return text === "" ? "empty" : `\`${text}\``;
}

/** What may be given, if the description does not say so. */
function formOf(bare: z.ZodType, description: string): readonly string[] {
  const range = rangeOf(bare);
  if (range !== undefined) return [`${range.text(range.atLeast)} to ${range.text(range.atMost)}`];
  if (bare instanceof z.ZodNumber && bare.minValue !== null && bare.maxValue !== null && bare.maxValue < 1e15)
    return [`${bare.minValue.toLocaleString("en")} to ${bare.maxValue.toLocaleString("en")}`];
  if (!(bare instanceof z.ZodEnum)) return [];
  const options = bare.options.map(String);
  return options.every((one) => description.includes(`${one}:`)) ? [] : [options.map((one) => `\`${one}\``).join(", ")];
}
