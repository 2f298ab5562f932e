/** A configuration as a whole, and the parts of it that commands need. */
import { join, resolve } from "node:path";
import type * as z from "zod";
import type { StateAddress } from "../core/contracts/connector.ts";
import { placeOfFile } from "../core/targets/places.ts";
import { type Division, SHARE_COUNT_MAX, shareName } from "../core/sharing/share.ts";
import { NEST_SINK, type WantedDocument } from "../documents/document.ts";
import { NO_RULES, type Rules, type Selection } from "../rules/definition.ts";
import { suggestion } from "../rules/nearest.ts";
import type { AdminConfig, Config, SharesConfig, SinkConfig, SourceConfig } from "./config.ts";
import { ConfigFile, isMap, only, sectionOf, type Surroundings } from "./config-file.ts";
import type { Connectors } from "./connectors.ts";
import { partDefinition, placeDefinition } from "./definition.ts";
import type { documentsOf } from "./documents.ts";
import { adminOf, fileOfState, nestOf, notifyOf, otlpOf, reconcileOf, retentionOf, stateOf } from "./sections.ts";
import { SourceAndSinks } from "./source-and-sinks.ts";
import { rulesOf } from "./tables.ts";
import { Routes } from "../routes/routes.ts";
import type { Address, topDefinition } from "./daemon-definition.ts";

interface LoadOptions extends Surroundings {
  readonly connectors: Connectors;
  /** Of a source with shares, the one to load, from 1 on. Default: none in particular. */
  readonly share?: number | null;
}

/** Reads, interpolates and checks a config file. Throws one ConfigError that lists all problems. */
export async function loadConfig(file: string, options: LoadOptions): Promise<Config> {
  return await new Loading(ConfigFile.read(file, options), options).config(resolve(file));
}

/** The same of a value that a program has made: see `ConfigFile.of`. */
export async function configOf(value: object, what: string, options: LoadOptions): Promise<Config> {
  const file = ConfigFile.of(value, what, options);
  return await new Loading(file, options).config(join(file.folder, what));
}

/** Where the daemon of a config file is found, and what the file names. */
export interface Place {
  /** Of the daemon, or of that of the chosen share. */
  readonly name: string;
  /** The `name` in the file. */
  readonly owner: string;
  readonly state: StateAddress;
  /** Null: the tables are not divided. */
  readonly shareCount: number | null;
  readonly source: { readonly kind: string };
  readonly sinks: readonly PlacedSink[];
  /** Where there are documents: the sink that holds the rows which they are made of. */
  readonly nestSink: PlacedSink | null;
  readonly rules: Rules;
}

interface Shared {
  readonly admin: AdminConfig | undefined;
  readonly sinks: readonly SinkConfig[];
  readonly rules: Rules;
}

interface PlacedSink {
  readonly name: string;
  readonly kind: string;
  readonly isOfDocuments: boolean;
}

export function placedNest(hasDocuments: boolean): PlacedSink | null {
  return hasDocuments ? { name: NEST_SINK, kind: "nest", isOfDocuments: false } : null;
}

/** The same for what needs the daemon or its state alone: no variable of source, sinks or rules has to be there. */
export function loadPlace(file: string, options: LoadOptions): Place {
  return new Loading(ConfigFile.read(file, options), options).place();
}

/** What a command uses that works on the source, and on some sinks. */
export type ConfigPart = Pick<Config, "name" | "state" | "source" | "sinks" | "rules">;

/** `others`: also every other sink that lacks nothing; without it these alone. */
export interface WantedSinks {
  readonly sinks: readonly string[];
  readonly others?: boolean;
}

/** No variable of another sink, of the notifications or of the admin interface has to be there. Of a source without shares. */
export async function loadPart(file: string, options: LoadOptions, wanted: WantedSinks): Promise<ConfigPart> {
  return await new Loading(ConfigFile.read(file, options), options).part(wanted);
}

/** The same for sinks alone. */
export async function loadSinks(
  file: string,
  options: LoadOptions,
  names: readonly string[],
): Promise<readonly SinkConfig[]> {
  return await new Loading(ConfigFile.read(file, options), options).sinks(names);
}

class Loading {
  readonly #file: ConfigFile;
  readonly #connected: SourceAndSinks;
  readonly #share: number | null;

  constructor(file: ConfigFile, { connectors, share = null }: LoadOptions) {
    this.#file = file;
    this.#connected = new SourceAndSinks(file, connectors);
    this.#share = share;
  }

  async config(path: string): Promise<Config> {
    const file = this.#file;
    // Commands beside a daemon use the other ways in, and start without these.
    const [whole, { documentsOf }] = await Promise.all([import("./daemon-definition.ts"), import("./documents.ts")]);
    file.interpolate(() => true);
    const input = file.value();
    const top = file.parse([], input ?? {}, whole.topDefinition);
    const rules = top === undefined ? undefined : this.#rules(top);
    const documents = top === undefined ? [] : documentsOf(top.documents, this.#places());
    const part = await this.#connected.source(sectionOf(input, "source"));
    const number = part?.shareCount == null ? null : this.#share;
    const name = number === null ? (top?.name ?? "") : shareName(top?.name ?? "", number);
    const daemon = { daemon: name, owner: top?.name ?? "" };
    const sinks = await this.#connected.sinks(daemon, sectionOf(input, "sinks"), rules ?? NO_RULES);
    const admin = top === undefined ? undefined : adminOf(file, top.admin);
    this.#matchDocuments(documents, sinks);
    if (part?.shareCount != null && documents.length > 0)
      file.problem(
        "MR1005",
        ["documents"],
        "one daemon has all tables of a document: take it out, or `source.shares`",
        "key",
      );
    const shares =
      part?.shareCount == null
        ? null
        : this.#shares(part.shareCount, top?.name ?? "", { admin, sinks, rules: rules ?? NO_RULES });
    const source = part?.made(daemon, rules ?? NO_RULES, shares);
    if (top !== undefined)
      this.#refuseIdle(top, { documents, sinks, rules: rules ?? NO_RULES, kind: source?.kind ?? "" });
    file.stopIfWrong();
    if (top === undefined || source === undefined || admin === undefined || rules === undefined)
      throw new Error("invariant broken: a part of the config is missing without a problem");
    const state = stateOf(file, top.name, top.state, number);
    const nest = nestOf(file, top.name, top.nest, state);
    const [stateFile, held] = [fileOfState(state), documents.length > 0];
    this.#connected.refuseSharedPlaces(sinks, [
      ...(stateFile === null ? [] : [{ by: "state", place: placeOfFile("the file of the state", stateFile) }]),
      ...(held ? [{ by: "nest", place: placeOfFile("the file of documents", nest) }] : []),
    ]);
    file.stopIfWrong();
    return {
      name,
      file: path,
      digest: file.digest,
      folder: file.folder,
      source,
      state,
      sinks,
      rules: { ...rules, selections: this.#selections(sinks) },
      documents,
      nest,
      reconcile: reconcileOf(file, top.reconcile),
      retention: retentionOf(top.retention),
      notify: notifyOf(file, top.notify),
      otlp: otlpOf(file, top.telemetry),
      admin: { ...admin, listen: addressOfShare(admin.listen, shares) },
      shares,
      exposure: file.exposure(path),
    };
  }

  async part(wanted: WantedSinks): Promise<ConfigPart> {
    const { source, ...part } = await this.#partly(wanted, true);
    if (source === null) throw new Error("invariant broken: the source is missing without a problem");
    return { ...part, source };
  }

  async sinks(names: readonly string[]): Promise<readonly SinkConfig[]> {
    return (await this.#partly({ sinks: names }, false)).sinks;
  }

  async #partly(
    { sinks: needed, others = false }: WantedSinks,
    needsSource: boolean,
  ): Promise<Omit<ConfigPart, "source"> & { readonly source: SourceConfig | null }> {
    const file = this.#file;
    const lacking = file.interpolate(([key = "", sink = ""]) => {
      if (key === "sinks") return needed.includes(sink);
      return key === "source" ? needsSource : Object.hasOwn(partDefinition.shape, key);
    });
    const incomplete = new Set(lacking.flatMap(([key, sink]) => (key === "sinks" ? [sink] : [])));
    const input = file.value();
    const top = file.parse([], only(input, partDefinition), partDefinition);
    const rules = top === undefined ? undefined : this.#rules(top);
    const names = { daemon: top?.name ?? "", owner: top?.name ?? "" };
    const source = needsSource ? await this.#connected.source(sectionOf(input, "source")) : undefined;
    const chosen = Object.entries(sectionOf(input, "sinks") ?? {}).filter(
      ([sink]) => needed.includes(sink) || (others && !incomplete.has(sink)),
    );
    const sinks = await this.#connected.sinks(names, Object.fromEntries(chosen), rules ?? NO_RULES);
    file.stopIfWrong();
    if (top === undefined || rules === undefined)
      throw new Error("invariant broken: a part of the config is missing without a problem");
    return {
      name: top.name,
      state: stateOf(file, top.name, top.state, null),
      source: source?.made(names, rules, null) ?? null,
      sinks,
      rules: { ...rules, selections: this.#selections(sinks) },
    };
  }

  /** Throws where the file does not say it. */
  place(): Place {
    const file = this.#file;
    file.interpolate(([key]) => key === "name" || key === "state");
    const input = file.value();
    const top = file.parse([], only(input, placeDefinition), placeDefinition);
    const source = sectionOf(input, "source");
    const kind = source && this.#connected.sourceKind(source);
    const sinks = Object.entries(sectionOf(input, "sinks") ?? {}).map(([sink, part]: [string, unknown]) => {
      const kindOf = isMap(part) ? this.#connected.sinkKind(sink, part) : undefined;
      const isOfDocuments = isMap(part) && Object.hasOwn(part, "documents");
      return { name: sink, kind: kindOf ?? "", isOfDocuments };
    });
    file.stopIfWrong();
    if (top === undefined || kind === undefined || sinks.length === 0 || sinks.some((sink) => sink.kind === ""))
      throw new Error("the file lacks a name, a source or sinks, or their kinds");
    // The key of masks may be a variable.
    const rules = rulesOf(top.tables, { ...this.#places(), maskKey: undefined, problem: () => {} });
    const count: unknown = Object.getOwnPropertyDescriptor(source ?? {}, "shares")?.value;
    const shareCount = typeof count === "number" && count >= 1 && count <= SHARE_COUNT_MAX ? Math.floor(count) : null;
    const number = shareCount === null ? null : this.#share;
    const name = number === null ? top.name : shareName(top.name, number);
    const state = stateOf(file, top.name, top.state, number);
    const nestSink = placedNest(Object.keys(sectionOf(input, "documents") ?? {}).length > 0);
    return { name, owner: top.name, state, shareCount, source: { kind }, sinks, nestSink, rules };
  }

  #shares(count: number, name: string, { admin, sinks, rules }: Shared): SharesConfig {
    for (const { path, message } of misfits(count, { name, listen: admin?.listen ?? null, sinks }))
      this.#file.problem("MR1005", path, message, "key");
    return { division: divisionOf(count, sinks, rules), name, number: this.#share };
  }

  #rules({ tables, maskKey }: z.output<typeof partDefinition>): Rules {
    return rulesOf(tables, { ...this.#places(), maskKey });
  }

  #places(): Parameters<typeof documentsOf>[1] {
    const file = this.#file;
    return {
      folder: file.folder,
      place: (path) => file.place(path),
      problem: (code, path, message) => file.problem(code, path, message),
    };
  }

  /** Keys that would do nothing beside what other sections say. */
  #refuseIdle(
    { nest, retention }: z.output<typeof topDefinition>,
    { documents, sinks, rules, kind }: Pick<Config, "documents" | "sinks" | "rules"> & { readonly kind: string },
  ): void {
    const refuse = (path: readonly string[], why: string) => this.#file.problem("MR1005", path, why, "key");
    if (nest !== undefined && documents.length === 0) refuse(["nest"], "has no use without `documents`");
    if (retention !== undefined && kind === "kafka")
      refuse(["retention"], "has no use with a source of kind kafka: the topic's settings say how long the log stays");
    const forms = sinks.map(({ connector }) => connector.form);
    if (retention?.policy === "dropSink" && !forms.some((form) => form === undefined || form === "mirror"))
      refuse(["retention", "policy"], "dropSink gives up no history, stream or log: here are no other sinks");
    for (const { pattern, policy } of rules.tables)
      if (policy.droppedColumns === "drop" && !forms.includes("mirror"))
        refuse(["tables", pattern, "droppedColumns"], "has no use: no sink is a warehouse with `mode: mirror`");
  }

  #matchDocuments(documents: readonly WantedDocument[], sinks: readonly SinkConfig[]): void {
    const file = this.#file;
    const names = documents.map(({ name }) => name);
    if (names.length > 0 && sinks.some(({ name }) => name === NEST_SINK)) {
      const message = "the nest of documents has this name: name the sink otherwise";
      file.problem("MR1005", ["sinks", NEST_SINK], message, "key");
    }
    for (const sink of sinks) {
      for (const [i, name] of (sink.documents ?? []).entries()) {
        const path = ["sinks", sink.name, "documents", String(i)];
        if (!names.includes(name)) file.problem("MR1005", path, `no such document; ${suggestion(name, names)}`);
      }
    }
    for (const name of names) {
      const isTaken = sinks.some((sink) => sink.documents?.includes(name));
      const message = `no sink takes it: add \`documents: [${name}]\` to one`;
      if (!isTaken) file.problem("MR1005", ["documents", name], message, "key");
    }
  }

  /** Of documents the configuration itself says what there is. */
  #selections(sinks: readonly SinkConfig[]): readonly Selection[] {
    return sinks.filter(({ documents }) => documents === null).map((sink) => this.#selection(sink));
  }

  #selection({ name, tables, connector }: SinkConfig): Selection {
    const path = ["sinks", name, "tables"];
    const patterns = tables.map((pattern, i) => ({ pattern, place: this.#file.place(path, String(i)) }));
    return { sink: name, form: connector.form ?? "mirror", patterns };
  }
}

/** What the daemon of one share has of its own, although all shares have one configuration. */
const NAME_LENGTH_MAX = 40;
const PORT_MAX = 65_535;

/** What does not go together with shares, and where. */
interface Misfit {
  readonly path: readonly string[];
  readonly message: string;
}

interface SharesRequest {
  readonly name: string;
  readonly listen: Address | null;
  readonly sinks: readonly SinkConfig[];
}

/** Where a sink puts the tables of several schemas into one, they are kept apart by their names alone. */
export function divisionOf(count: number, sinks: readonly SinkConfig[], { tables }: Pick<Rules, "tables">): Division {
  const routes = new Routes(tables.filter(({ into }) => into !== null));
  const by = sinks.some(({ connector }) => connector.divides === "name") ? "name" : "id";
  return routes.text === "" ? { count, by } : { count, by, routes };
}

export function misfits(count: number, { name, listen, sinks }: SharesRequest): readonly Misfit[] {
  const path = ["source", "shares"];
  const length = NAME_LENGTH_MAX - shareName("", count).length;
  const alone = sinks.filter(({ connector }) => connector.divides === undefined);
  return [
    ...(name.length <= length
      ? []
      : [{ path: ["name"], message: `with ${count} shares expected at most ${length} characters` }]),
    ...(listen === null || listen.port + count - 1 <= PORT_MAX
      ? []
      : [{ path: ["admin", "listen"], message: `with ${count} shares expected a port up to ${PORT_MAX - count + 1}` }]),
    ...alone.map((sink) => ({
      path: ["sinks", sink.name],
      message: `a ${sink.kind} sink is written by one daemon; take it out of this file, or \`${path.join(".")}\``,
    })),
  ];
}

/** Each share's daemon has the next port. */
export function addressOfShare(listen: Address | null, shares: SharesConfig | null): Address | null {
  if (listen === null || shares === null || shares.number === null) return listen;
  return { ...listen, port: listen.port + shares.number - 1 };
}
