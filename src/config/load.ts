import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { tlsSettings } from "../tls/keys.ts";
import type * as z from "zod";
import type {
  AdminConfig,
  Config,
  NotifyConfig,
  OtlpConfig,
  RetentionConfig,
  ReconcileConfig,
  SharesConfig,
  SinkConfig,
  SourceConfig,
} from "./config.ts";
import type { Bound, Connector, Connectors } from "./connectors.ts";
import {
  partDefinition,
  placeDefinition,
  SINK_NAME,
  sinkDefinition,
  sourceDefinition,
  topDefinition,
  type Address,
} from "./definition.ts";
import { YamlFile } from "./document.ts";
import { ConfigError, type Problem } from "./errors.ts";
import { Logins } from "./secrets/logins.ts";
import { exposureOf } from "./secrets/exposure.ts";
import { interpolate } from "./secrets/interpolate.ts";
import { problemsOf } from "./issues.ts";
import { suggestion } from "../rules/nearest.ts";
import { parse } from "./parse.ts";
import { holdsSecret, registerSecrets } from "./secrets/secret-values.ts";
import type { Neighbour, Place as SinkPlace, StateAddress, TableName } from "../core/contracts/connector.ts";
import { pathOfShare, SHARE_COUNT_MAX, shareName } from "../core/sharing/share.ts";
import { freshPassword } from "../passwords/password.ts";
import { readSmallFile } from "../core/small-file.ts";
import { selectedName } from "../core/table-selection.ts";
import { NO_RULES, type Rules, type Selection } from "../rules/definition.ts";
import { chosenKeyOf, policyOf, zeroDatesOf } from "../rules/merged-rule.ts";
import type { Secrets } from "./secrets/secrets.ts";
import { addressOfShare, divisionOf, misfits } from "./shares.ts";
import { documentsOf } from "./documents.ts";
import { documentTable, NEST_SINK } from "../documents/document.ts";
import type { WantedDocument } from "../documents/wanted.ts";
import { rulesOf } from "./tables.ts";

/** Keys of all sinks that are about rows which a target refuses. */
const OF_ROWS = ["onPoison", "deadLettersMax"];

const FILE_BYTES_MAX = 16 * 1024 * 1024;

export interface LoadOptions {
  readonly connectors: Connectors;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Receives every secret of the file, even when loading fails. */
  readonly secrets: Secrets;
  /** Of a source with shares, the one to load, from 1 on. Default: none in particular. */
  readonly share?: number | null;
}

/** Reads, interpolates and checks a config file. Throws one ConfigError that lists all problems. */
export async function loadConfig(file: string, options: LoadOptions): Promise<Config> {
  return await loadingOf(file, options).config(resolve(file));
}

/** The same of a value that a program has made, whose texts count as they are: `${…}` in them refers to nothing. */
export async function configOf(value: object, what: string, options: LoadOptions): Promise<Config> {
  const literal = (_key: string, part: unknown): unknown =>
    typeof part === "string" ? part.replaceAll("${", "$${") : part;
  const folder = process.cwd();
  const loading = new Loading(what, folder, new YamlFile(JSON.stringify(value, literal)), options, false);
  return await loading.config(join(folder, what));
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

export interface PlacedSink {
  readonly name: string;
  readonly kind: string;
  readonly isOfDocuments: boolean;
}

/** The nest, if there are documents. */
export function placedNest(hasDocuments: boolean): PlacedSink | null {
  return hasDocuments ? { name: NEST_SINK, kind: "nest", isOfDocuments: false } : null;
}

/** The same for what needs the daemon or its state alone: no variable of source, sinks or rules has to be there. */
export function loadPlace(file: string, options: LoadOptions): Place {
  return loadingOf(file, options).place();
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
  return await loadingOf(file, options).part(wanted);
}

/** The same for sinks alone. */
export async function loadSinks(
  file: string,
  options: LoadOptions,
  names: readonly string[],
): Promise<readonly SinkConfig[]> {
  return await loadingOf(file, options).sinks(names);
}

/** Since when the file says something else than the config that was read from it; null: it says the same, or can't be read. */
export function configChangedAt({ file, digest }: Pick<Config, "file" | "digest">): string | null {
  try {
    return configDigest(readSmallFile(file, FILE_BYTES_MAX)) === digest ? null : statSync(file).mtime.toISOString();
  } catch {
    return null;
  }
}

function configDigest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function loadingOf(file: string, options: LoadOptions): Loading {
  const path = resolve(file);
  return new Loading(file, dirname(path), readYaml(file, path), options);
}

function readYaml(file: string, path: string): YamlFile {
  try {
    return new YamlFile(readSmallFile(path, FILE_BYTES_MAX));
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    const message = reason === "ENOENT" ? "there is no such config file" : `the config file can't be read (${reason})`;
    throw new ConfigError(file, [{ code: "MR1001", path: [], message, line: null, column: null }], error);
  }
}

interface DaemonNames {
  readonly daemon: string;
  /** The `name` in the file. */
  readonly owner: string;
}

interface Part<Common, Context, Made> {
  readonly common: Common;
  readonly bind: (context: Context) => Bound<Made>;
  readonly shareCount: number | null;
}

/** The source's part of the file, before it is known how the sinks divide its tables. */
interface SourcePart {
  readonly shareCount: number | null;
  readonly made: (daemon: DaemonNames, rules: Rules, shares: SharesConfig | null) => SourceConfig;
}

class Loading {
  readonly #file: string;
  readonly #folder: string;
  readonly #yaml: YamlFile;
  readonly #options: LoadOptions;
  readonly #problems: Problem[] = [];
  readonly #logins = new Logins();
  /** Of a value there are no lines that somebody could look at, and nobody else can read it. */
  readonly #isFile: boolean;
  #holdsSecret = false;

  constructor(file: string, folder: string, yaml: YamlFile, options: LoadOptions, isFile = true) {
    this.#isFile = isFile;
    this.#file = file;
    this.#folder = folder;
    this.#yaml = yaml;
    this.#options = options;
  }

  async config(path: string): Promise<Config> {
    this.#begin(() => true);
    const input = this.#value();
    const top = this.#read([], input ?? {}, topDefinition);
    const rules = top === undefined ? undefined : this.#rules(top);
    const documents = top === undefined ? [] : this.#documents(top);
    const part = await this.#source(partOf(input, "source"));
    const number = part?.shareCount == null ? null : (this.#options.share ?? null);
    const name = number === null ? (top?.name ?? "") : shareName(top?.name ?? "", number);
    const daemon = { daemon: name, owner: top?.name ?? "" };
    const sinks = await this.#sinks(daemon, partOf(input, "sinks"), rules ?? NO_RULES);
    const admin = top === undefined ? undefined : this.#admin(top.admin);
    this.#matchDocuments(documents, sinks);
    if (part?.shareCount != null && documents.length > 0)
      this.#problem(
        "MR1005",
        ["documents"],
        "one daemon has all tables of a document: take it out, or `source.shares`",
        "key",
      );
    const shares = part?.shareCount == null ? null : this.#shares(part.shareCount, top?.name ?? "", admin, sinks);
    const source = part?.made(daemon, rules ?? NO_RULES, shares);
    this.#stopIfWrong();
    if (top === undefined || source === undefined || admin === undefined || rules === undefined)
      throw new Error("invariant broken: a part of the config is missing without a problem");
    const state = this.#state(top.name, top.state, number);
    return {
      name,
      file: path,
      digest: configDigest(this.#yaml.text),
      folder: this.#folder,
      source,
      state,
      sinks,
      rules: { ...rules, selections: this.#selections(sinks) },
      documents,
      nest: this.#nest(top.name, top.nest, state),
      reconcile: this.#reconcile(top.reconcile),
      retention: retentionOf(top.retention),
      notify: notifyOf(top.notify, this.#folder),
      otlp: otlpOf(top.telemetry, this.#folder),
      admin: { ...admin, listen: addressOfShare(admin.listen, shares) },
      shares,
      exposure: this.#isFile ? exposureOf(path, this.#holdsSecret) : null,
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
    const lacking = this.#begin(([key = "", sink = ""]) => {
      if (key === "sinks") return needed.includes(sink);
      return key === "source" ? needsSource : Object.hasOwn(partDefinition.shape, key);
    });
    const incomplete = new Set(lacking.flatMap(([key, sink]) => (key === "sinks" ? [sink] : [])));
    const input = this.#value();
    const top = this.#read([], only(input, partDefinition), partDefinition);
    const rules = top === undefined ? undefined : this.#rules(top);
    const names = { daemon: top?.name ?? "", owner: top?.name ?? "" };
    const source = needsSource ? await this.#source(partOf(input, "source")) : undefined;
    const chosen = Object.entries(partOf(input, "sinks") ?? {}).filter(
      ([sink]) => needed.includes(sink) || (others && !incomplete.has(sink)),
    );
    const sinks = await this.#sinks(names, Object.fromEntries(chosen), rules ?? NO_RULES);
    this.#stopIfWrong();
    if (top === undefined || rules === undefined)
      throw new Error("invariant broken: a part of the config is missing without a problem");
    return {
      name: top.name,
      state: this.#state(top.name, top.state, null),
      source: source?.made(names, rules, null) ?? null,
      sinks,
      rules: { ...rules, selections: this.#selections(sinks) },
    };
  }

  /** Throws where the file does not say it. */
  place(): Place {
    const { connectors, share } = this.#options;
    this.#begin(([key]) => key === "name" || key === "state");
    const input = this.#value();
    const top = this.#read([], only(input, placeDefinition), placeDefinition);
    const source = partOf(input, "source");
    const kind = source && this.#kind(["source"], source, connectors.sourceKinds);
    const sinks = Object.entries(partOf(input, "sinks") ?? {}).map(([sink, part]: [string, unknown]) => {
      const kindOf = isMap(part) ? this.#kind(["sinks", sink], part, connectors.sinkKinds) : undefined;
      const isOfDocuments = isMap(part) && Object.hasOwn(part, "documents");
      return { name: sink, kind: kindOf ?? "", isOfDocuments };
    });
    this.#stopIfWrong();
    if (top === undefined || kind === undefined || sinks.length === 0 || sinks.some((sink) => sink.kind === ""))
      throw new Error("the file lacks a name, a source or sinks, or their kinds");
    // The key of masks may be a variable.
    const rules = rulesOf(top.tables, {
      maskKey: undefined,
      folder: this.#folder,
      place: (path) => this.#place(path),
      problem: () => {},
    });
    const count: unknown = Object.getOwnPropertyDescriptor(source ?? {}, "shares")?.value;
    const shareCount = typeof count === "number" && count >= 1 && count <= SHARE_COUNT_MAX ? Math.floor(count) : null;
    const number = shareCount === null ? null : (share ?? null);
    const name = number === null ? top.name : shareName(top.name, number);
    const state = this.#state(top.name, top.state, number);
    const nestSink = placedNest(Object.keys(partOf(input, "documents") ?? {}).length > 0);
    return { name, owner: top.name, state, shareCount, source: { kind }, sinks, nestSink, rules };
  }

  #value(): unknown {
    try {
      return this.#yaml.value();
    } catch (error) {
      // A few lines of YAML can expand to terabytes.
      const message = "not valid YAML: its aliases unfold to too much";
      throw new ConfigError(this.#file, [{ code: "MR1002", path: [], message, line: 1, column: 1 }], error);
    }
  }

  /** A state on a server carries the local path of the control socket after `#`. */
  #state(name: string, given: z.output<typeof topDefinition>["state"], share: number | null): StateAddress {
    const { url, ...password } = typeof given === "object" ? given : { url: given };
    if (url?.startsWith("postgres") === true) {
      return {
        url: pathOfShare(`${url}#${this.#localState(name)}`, share),
        freshPassword: freshPassword(password, this.#folder),
        login: this.#logins.noteOf(["state"]),
      };
    }
    const path = url === undefined ? this.#localState(name) : resolve(this.#folder, url.slice("sqlite:".length));
    return { url: pathOfShare(`sqlite:${path}`, share) };
  }

  #localState(name: string): string {
    return join(this.#folder, ".millrace", `${name}.db`);
  }

  /** Reports all problems at once, so that the user need not start the daemon once per typo. */
  #stopIfWrong(): void {
    const [first, ...rest] = this.#problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0));
    if (first === undefined) return;
    const shown = (problem: Problem): Problem => (this.#isFile ? problem : { ...problem, line: null, column: null });
    throw new ConfigError(this.#file, [shown(first), ...rest.map(shown)]);
  }

  /** `isNeeded`: where nothing may be missing. Returns the paths of other texts that lack something: they stay as they are. */
  #begin(isNeeded: (path: readonly string[]) => boolean): readonly (readonly string[])[] {
    this.#problems.push(...this.#yaml.problems());
    this.#stopIfWrong();
    const lacking: (readonly string[])[] = [];
    const surroundings = { environment: this.#options.environment, folder: this.#folder };
    this.#yaml.mapText((text, path) => {
      this.#holdsSecret ||= holdsSecret(path, text);
      const result = interpolate(text, surroundings);
      if (result.problems.length > 0 && !isNeeded(path)) {
        lacking.push(path);
        return text;
      }
      for (const message of result.problems) this.#problem("MR1007", path, message);
      registerSecrets(this.#options.secrets, path, result.text, result.inserted);
      this.#logins.add(path, result.references);
      return result.text;
    });
    this.#stopIfWrong();
    return lacking;
  }

  #shares(count: number, name: string, admin: AdminConfig | undefined, sinks: readonly SinkConfig[]): SharesConfig {
    for (const { path, message } of misfits(count, { name, listen: admin?.listen ?? null, sinks }))
      this.#problem("MR1005", path, message, "key");
    return { division: divisionOf(count, sinks), name, number: this.#options.share ?? null };
  }

  async #source(input: object | undefined): Promise<SourcePart | undefined> {
    if (input === undefined) return undefined;
    const { connectors } = this.#options;
    const kind = this.#kind(["source"], input, connectors.sourceKinds);
    const part = this.#part(["source"], input, sourceDefinition, kind && (await connectors.source(kind)));
    if (part === undefined) return undefined;
    const { common, bind, shareCount } = part;
    const { snapshot, tables = [] } = common;
    if (snapshot === "none")
      this.#refuseGiven(["source"], input, ["copySessions"], "has no use with `snapshot: none`, which copies no table");
    const made = (names: DaemonNames, rules: Rules, shares: SharesConfig | null): SourceConfig => {
      const chosenKey = (table: TableName) => chosenKeyOf(rules, table);
      const zeroDates = (table: TableName) => zeroDatesOf(rules, table);
      const share =
        shares === null || shares.number === null ? {} : { share: { number: shares.number, of: shares.division } };
      const connector = bind({ ...names, folder: this.#folder, tables, snapshot, chosenKey, zeroDates, ...share });
      return {
        kind: common.kind,
        login: this.#logins.noteOf(["source"]),
        tables,
        snapshot,
        heartbeatMs: common.heartbeat,
        connector,
      };
    };
    return { shareCount, made };
  }

  async #sinks(daemon: DaemonNames, input: object | undefined, rules: Rules): Promise<readonly SinkConfig[]> {
    const sinks: SinkConfig[] = [];
    for (const [name, value] of Object.entries(input ?? {})) {
      const sink = await this.#sink(daemon, name, value, rules);
      if (sink !== undefined) sinks.push(sink);
    }
    if (this.#problems.length > 0) return sinks;
    this.#refuseSharedPlaces(sinks);
    return sinks.map((sink) => ({ ...sink, neighbours: neighboursOf(sink, sinks) }));
  }

  /** Sinks with the same target would overwrite each other's rows and progress. */
  #refuseSharedPlaces(sinks: readonly SinkConfig[]): void {
    const takenBy = new Map<string, string>();
    for (const { name, connector } of sinks) {
      const places = connector.places().map(shownPlace);
      const shared = places.find((place) => takenBy.has(place));
      const path = ["sinks", name];
      if (shared !== undefined)
        this.#problem("MR1010", path, `writes into the same place as sinks.${takenBy.get(shared)}: ${shared}`, "key");
      for (const place of places) takenBy.set(place, name);
    }
  }

  async #sink(daemon: DaemonNames, name: string, input: unknown, rules: Rules): Promise<SinkConfig | undefined> {
    const path = ["sinks", name];
    if (!SINK_NAME.test(name)) {
      this.#problem("MR1005", path, "a sink's name is a letter, then at most 39 letters, digits, _ and -", "key");
    }
    if (!isMap(input)) {
      this.#problem(input === null ? "MR1006" : "MR1005", path, "expected a map of keys, kind among them");
      return undefined;
    }
    const { connectors } = this.#options;
    const kind = this.#kind(path, input, connectors.sinkKinds);
    const part = this.#part(path, input, sinkDefinition, kind && (await connectors.sink(kind)));
    if (part === undefined) return undefined;
    const { common, bind } = part;
    if (common.onLost === "resync" && Object.getOwnPropertyDescriptor(input, "mode")?.value === "history")
      this.#problem("MR1005", [...path, "onLost"], "what a history held can't be read again: leave it out, or fail");
    if (common.onPoison === "pause")
      this.#refuseGiven(path, input, ["deadLettersMax"], "has no use with `onPoison: pause`");
    const { rows, bytes, delay, timeout } = common.batch;
    const batch = {
      rowCountMax: rows ?? null,
      byteCountMax: bytes ?? null,
      delayMs: delay ?? null,
      answerMsMax: timeout ?? null,
    };
    const dropsColumns = (table: TableName): boolean => policyOf(rules, table).droppedColumns === "drop";
    const { kind: sinkKind, documents = null, onPoison, deadLettersMax, onLost } = common;
    const tables = documents?.map((one) => selectedName(documentTable(one))) ?? common.tables ?? [];
    this.#expectOneList(path, common);
    const naming = documents === null ? {} : { isOfDocuments: true };
    const connector = bind({ name, ...daemon, folder: this.#folder, tables, ...naming, dropsColumns });
    if (connector.form === "log")
      this.#refuseGiven(path, input, OF_ROWS, "has no use with `format: log`: the log has no rows to refuse");
    const isHistory = connector.form === "history" || connector.form === "log";
    if (documents !== null && isHistory)
      this.#problem(
        "MR1005",
        [...path, "documents"],
        `a ${connector.form} takes tables only: of a document it would not get every change`,
      );
    const login = this.#logins.noteOf(path);
    return {
      name,
      kind: sinkKind,
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

  /** Keys that would do nothing beside the others. */
  #refuseGiven(path: readonly string[], input: object, keys: readonly string[], why: string): void {
    for (const key of keys) if (Object.hasOwn(input, key)) this.#problem("MR1005", [...path, key], why, "key");
  }

  /** The kind, if it exists. */
  #kind(path: readonly string[], input: object, known: readonly string[]): string | undefined {
    const kind: unknown = Object.getOwnPropertyDescriptor(input, "kind")?.value;
    if (typeof kind !== "string") return undefined;
    if (known.includes(kind)) return kind;
    this.#problem("MR1005", [...path, "kind"], `unknown kind ${JSON.stringify(kind)}; ${suggestion(kind, known)}`);
    return undefined;
  }

  /** Parses a source or sink: the common keys by the common definition, the others by the connector's. */
  #part<Common extends z.ZodObject, Context, Made>(
    path: readonly string[],
    input: object,
    definition: Common,
    connector: Connector<Context, Made> | undefined | "",
  ): Part<z.output<Common>, Context, Made> | undefined {
    const entries = Object.entries(input);
    const isCommon = ([key]: readonly [string, unknown]) => Object.hasOwn(definition.shape, key);
    const common = this.#read(path, Object.fromEntries(entries.filter(isCommon)), definition);
    if (connector === undefined || connector === "") return undefined;
    const own = Object.fromEntries(entries.filter((entry) => !isCommon(entry)));
    const parsed = connector.parse(own);
    if (parsed.kind === "invalid") {
      this.#addIssues(path, own, connector.definition, parsed.issues, Object.keys(definition.shape));
      return undefined;
    }
    return common === undefined ? undefined : { common, bind: parsed.bind, shareCount: parsed.shareCount };
  }

  #admin(admin: z.output<typeof topDefinition>["admin"]): AdminConfig {
    const listen = admin.listen === false ? null : admin.listen;
    if (listen !== null && !isLoopback(listen) && admin.tokens.length === 0)
      this.#problem("MR1005", ["admin", "listen"], "listening beyond loopback needs admin.tokens");
    const hosts = [...(listen === null ? [] : [listen.host]), ...admin.hosts].map((host) => host.toLowerCase());
    return { listen, tokens: admin.tokens, hosts };
  }

  #reconcile(given: z.output<typeof topDefinition>["reconcile"]): ReconcileConfig {
    const { schedule, timeZone, mode, repair, patience, continuous, reports, sign } = given;
    const place = this.#yaml.locate(["reconcile", "reports"], "value");
    return {
      schedule:
        schedule === undefined
          ? null
          : { cron: schedule, timeZone: timeZone ?? null, mode, repairs: repair, patienceMs: patience },
      continuous:
        continuous === undefined ? null : { maxAgeMs: continuous.maxAge, share: continuous.share, repairs: repair },
      reports: reports === undefined ? null : { path: resolve(this.#folder, reports), ...place },
      sign: sign ?? null,
    };
  }

  #rules({ tables, maskKey }: z.output<typeof partDefinition>): Rules {
    return rulesOf(tables, {
      maskKey,
      folder: this.#folder,
      place: (path) => this.#place(path),
      problem: (code, path, message) => this.#problem(code, path, message),
    });
  }

  #documents({ documents }: z.output<typeof topDefinition>): readonly WantedDocument[] {
    return documentsOf(documents, {
      folder: this.#folder,
      place: (path) => this.#place(path),
      problem: (code, path, message) => this.#problem(code, path, message),
    });
  }

  /** A sink takes tables or documents. */
  #expectOneList(path: readonly string[], { tables, documents }: z.output<typeof sinkDefinition>): void {
    if (tables?.length === 0 && documents === undefined)
      this.#problem("MR1005", [...path, "tables"], "expected at least one table; leave the key out to take all");
    if (tables !== undefined && tables.length > 0 && documents !== undefined)
      this.#problem("MR1005", [...path, "tables"], "a sink takes tables or documents: make two sinks of it", "key");
  }

  /** Each document has a sink, and each sink its documents. */
  #matchDocuments(documents: readonly WantedDocument[], sinks: readonly SinkConfig[]): void {
    const names = documents.map(({ name }) => name);
    if (names.length > 0 && sinks.some(({ name }) => name === NEST_SINK))
      this.#problem(
        "MR1005",
        ["sinks", NEST_SINK],
        "the nest of documents has this name: name the sink otherwise",
        "key",
      );
    for (const sink of sinks) {
      for (const [i, name] of (sink.documents ?? []).entries())
        if (!names.includes(name))
          this.#problem(
            "MR1005",
            ["sinks", sink.name, "documents", String(i)],
            `no such document; ${suggestion(name, names)}`,
          );
    }
    for (const name of names)
      if (!sinks.some((sink) => sink.documents?.includes(name)))
        this.#problem("MR1005", ["documents", name], `no sink takes it: add \`documents: [${name}]\` to one`, "key");
  }

  /** Beside the state, if that is a file. */
  #nest(name: string, given: string | undefined, { url }: StateAddress): string {
    if (given !== undefined) return resolve(this.#folder, given);
    const state = url.startsWith("sqlite:") ? url.slice("sqlite:".length) : this.#localState(name);
    return join(dirname(state), `${basename(state, ".db")}-documents.db`);
  }

  /** Of documents the configuration itself says what there is. */
  #selections(sinks: readonly SinkConfig[]): readonly Selection[] {
    return sinks.filter(({ documents }) => documents === null).map((sink) => this.#selection(sink));
  }

  #selection({ name, tables, connector }: SinkConfig): Selection {
    const path = ["sinks", name, "tables"];
    const patterns = tables.map((pattern, i) => ({ pattern, place: this.#place(path, String(i)) }));
    return { sink: name, isStream: connector.form === "stream", patterns };
  }

  /** `item`: the position of an item of the list, which has no name. */
  #place(path: readonly string[], item?: string): string {
    const { line, column } =
      item === undefined ? this.#yaml.locate(path, "key") : this.#yaml.locate([...path, item], "value");
    return `${this.#file}:${line}:${column}: ${path.join(".")}`;
  }

  #read<D extends z.ZodType>(path: readonly string[], input: unknown, definition: D): z.output<D> | undefined {
    const result = parse(definition, input);
    if (result.success) return result.data;
    this.#addIssues(path, input, definition, result.error.issues);
    return undefined;
  }

  #addIssues(
    base: readonly string[],
    input: unknown,
    definition: z.ZodType,
    issues: readonly z.core.$ZodIssue[],
    alsoKnown: readonly string[] = [],
  ): void {
    const locate = (path: readonly string[], part: "key" | "value") => this.#yaml.locate(path, part);
    this.#problems.push(...problemsOf(issues, { base, input, definition, alsoKnown, locate }));
  }

  #problem(code: Problem["code"], path: readonly string[], message: string, part: "key" | "value" = "value"): void {
    this.#problems.push({ code, path, message, ...this.#yaml.locate(path, part) });
  }
}

function shownPlace(place: SinkPlace): string {
  return typeof place === "string" ? place : `${JSON.stringify(place.start)}… in ${place.at}`;
}

/** The sinks that have a part of what this one writes into. */
function neighboursOf({ connector }: SinkConfig, sinks: readonly SinkConfig[]): readonly Neighbour[] {
  const places = connector.places().filter((place) => typeof place !== "string");
  return sinks.flatMap(({ name: sink, connector: other }) =>
    other.places().flatMap((place) => {
      if (typeof place === "string" || other === connector) return [];
      const { at, start } = place;
      const isWithin = places.some((own) => own.at === at && own.start !== start && start.startsWith(own.start));
      return isWithin ? [{ sink, start }] : [];
    }),
  );
}

function retentionOf(given: z.output<typeof topDefinition>["retention"]): RetentionConfig | null {
  return given === undefined ? null : { byteCountMax: given.bytes, policy: given.policy };
}

function otlpOf(given: z.output<typeof topDefinition>["telemetry"], folder: string): OtlpConfig | null {
  if (given === undefined) return null;
  const { endpoint, headers, interval, traces } = given.otlp;
  return {
    endpoint,
    headers,
    tls: tlsSettings(given.otlp, folder),
    intervalMs: interval,
    traces: traces === undefined ? null : { share: traces.share, slowMs: traces.slowerThan },
  };
}

function notifyOf(given: z.output<typeof topDefinition>["notify"], folder: string): NotifyConfig | null {
  if (given === undefined) return null;
  const { webhook, secret, level, after } = given;
  const key = secret === undefined ? null : Buffer.from(secret.slice("whsec_".length), "base64");
  return { webhook, tls: tlsSettings(given, folder), key, level, afterMs: after };
}

/** The keys of the file that the definition has. */
function only(input: unknown, { shape }: z.ZodObject): object {
  return Object.fromEntries(isMap(input) ? Object.entries(input).filter(([key]) => Object.hasOwn(shape, key)) : []);
}

function partOf(input: unknown, key: string): object | undefined {
  const part: unknown = isMap(input) ? Object.getOwnPropertyDescriptor(input, key)?.value : undefined;
  return isMap(part) ? part : undefined;
}

function isMap(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isLoopback({ host }: Address): boolean {
  return host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}
