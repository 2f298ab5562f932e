import { dirname, join, resolve } from "node:path";
import { lackOf } from "../../config/extras.ts";
import type { CapturedTables, Catalog } from "../../core/contracts/catalog.ts";
import type { UrlKeys } from "../../core/contracts/connector.ts";
import { findMillraceError } from "../../core/errors.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { expectNoFile, notWritten, writeNamedFile } from "../files.ts";
import { whileOpen } from "../opened.ts";
import type { Options } from "../options.ts";
import { configText, countsOf, nameFrom, type PlannedSink, refusedLines } from "./init-file.ts";
import { type Secret, sinkByUrl, sourceByUrl, writeSecrets, type WrittenUrl, writtenUrl } from "./init-urls.ts";
import type { Session } from "../session.ts";

const LOOK_TIMEOUT_MS = 30_000;

/** Not the database's name: in DuckDB a file and a schema of one name make `schema.table` ambiguous. */
const DEFAULT_SINK = "./warehouse.duckdb";
/** Node itself has the engine. */
const SMALL_SINK = "./replica.sqlite";

export const SINK_HELP =
  "a target: postgres://, clickhouse://, redis://, kafka://, s3://, ducklake:, http:// (search), a .duckdb or .sqlite file, or a folder";

export function addInit({ program, action }: CommandLine): void {
  program
    .command("init")
    .description("look at the source and write a commented config file")
    .option("--source <url>", "the database to follow, such as postgres://user@host/db or mysql://user@host/db")
    .option("--sink <url...>", SINK_HELP)
    .option("--tables <globs...>", "schema.table globs; default: every user table with a usable key")
    .option("--name <name>", "the daemon's name; default: from the database's name")
    .action(
      action("none", async (session, options) => {
        const wanted = await wantedConfig(session, options, options.text("--source"));
        expectNoFile(resolve(session.configFile));
        const found = await lookAt(session, wanted);
        report(session, writeConfig(session, wanted, found, null));
        return EXIT.done;
      }),
    );
}

/** What a new configuration is made of. */
export interface WantedConfig {
  readonly name: string;
  readonly source: string | null;
  readonly kind: string;
  readonly tables: readonly string[];
  readonly sinks: readonly PlannedSink[];
}

/** From `--sink`, `--tables` and `--name`; without a sink it is a DuckDB file, or a SQLite file where DuckDB is not installed. */
export async function wantedConfig(session: Session, options: Options, source: string | null): Promise<WantedConfig> {
  if (source !== null) session.secrets.addFromUrl(source);
  const kind = source === null ? "postgres" : (await sourceByUrl("--source", source)).kind;
  const name = (await readName(options.text("--name"))) ?? nameFrom(source);
  const given = options.texts("--sink");
  const sinks = await plannedSinks(session, given.length === 0 ? [defaultSink(session)] : given);
  return { name, source, kind, tables: options.tableGlobs(), sinks };
}

function defaultSink({ log }: Session): string {
  const lack = lackOf(["duckdb"]);
  if (lack === undefined) return DEFAULT_SINK;
  log.warn({ fix: lack.hint }, `${lack.message}; the target is ${SMALL_SINK}`);
  return SMALL_SINK;
}

async function plannedSinks(session: Session, urls: readonly string[]): Promise<readonly PlannedSink[]> {
  const sinks: PlannedSink[] = [];
  for (const url of urls) {
    session.secrets.addFromUrl(url);
    const { kind, connector, keys } = await sinkByUrl("--sink", url);
    const { name = kind, choices = () => [] } = connector.byUrl ?? {};
    const count = sinks.filter((other) => other.kind === kind).length;
    sinks.push({ kind, keys, name: count === 0 ? name : `${name}${count + 1}`, choices });
  }
  return sinks;
}

/** What the source has; null: none is given. */
export async function lookAt(session: Session, { name, source, tables }: WantedConfig): Promise<CapturedTables | null> {
  if (source === null) return null;
  return await lookInto(session, { name, url: source, tables }, (catalog, signal) => catalog.tables(signal));
}

/** Asks the source of a URL for what it has: tables that can be followed, and those that can't, with the reason. */
export async function lookInto<T>(
  session: Session,
  { name, url, tables = [] }: { readonly name: string; readonly url: string; readonly tables?: readonly string[] },
  ask: (catalog: Catalog, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const bound = await boundSource(session, { name, url, tables });
  const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
  return await whileOpen(bound.create(session.log), ({ catalog }) => ask(catalog, signal));
}

/** The source of a URL, without a configuration. `option`: the one that names it. */
export async function boundSource(
  session: Session,
  { name, url, tables }: { readonly name: string; readonly url: string; readonly tables: readonly string[] },
  option = "--source",
) {
  const { connector, keys } = await sourceByUrl(option, url);
  const parsed = connector.parse(keys);
  if (parsed.kind === "invalid") throw cliError("MR1110", `${option} is not a URL that this kind of source takes`);
  return parsed.bind({ daemon: name, folder: dirname(resolve(session.configFile)), tables });
}

interface WrittenUrls {
  readonly source: string;
  readonly sinks: readonly PlannedSink[];
  readonly secrets: readonly Secret[];
  readonly variables: readonly string[];
}

/** The URLs as the file has them, without passwords. */
function writtenUrls({ name, source, sinks }: WantedConfig): WrittenUrls {
  const written: WrittenUrl[] = [];
  const write = (part: string, text: string): string => {
    const one = writtenUrl(text, `.millrace/secrets/${name}.${part}`, process.env);
    written.push(one);
    return one.text;
  };
  const keysOf = (part: string, keys: UrlKeys): UrlKeys =>
    Object.fromEntries(
      Object.entries(keys).map(([key, value]) => [key, typeof value === "string" ? write(part, value) : value]),
    );
  return {
    source: source === null ? "${DATABASE_URL}" : write("source", source),
    sinks: sinks.map((sink) => ({ ...sink, keys: keysOf(sink.name, sink.keys) })),
    secrets: written.flatMap(({ secret }) => (secret === null ? [] : [secret])),
    variables: [...new Set(written.flatMap(({ variable }) => (variable === null ? [] : [variable])))],
  };
}

/** `listen`: where the daemon listens, if not at the default address. An earlier file stays. */
export function writeConfig(
  session: Session,
  wanted: WantedConfig,
  found: CapturedTables | null,
  listen: string | null,
): WrittenConfig {
  const file = resolve(session.configFile);
  const folder = dirname(file);
  const urls = writtenUrls(wanted);
  const { source, sinks } = urls;
  const text = configText({ ...wanted, folder, source, sinks, listen, found });
  try {
    writeSecrets(folder, urls.secrets);
  } catch (error) {
    throw findMillraceError(error) ?? notWritten(file, error);
  }
  writeNamedFile(file, text, false);
  return { file, name: wanted.name, found, ...urls };
}

interface WrittenConfig extends WrittenUrls {
  readonly file: string;
  readonly name: string;
  readonly found: CapturedTables | null;
}

function report(session: Session, written: WrittenConfig): void {
  const { file, name, found, secrets, variables } = written;
  const tables = found?.tables.map(({ id }) => id) ?? [];
  const refused = found?.refused ?? [];
  const lines = [
    ...writtenLines(written),
    `next: millrace check${refused.length === 0 ? "" : ", which has the statement that fixes each"}`,
  ];
  session.print(
    {
      file,
      name,
      tables,
      refused: refused.map((one) => ({ ...one, readable: undefined })),
      secrets: secrets.map((secret) => secret.file),
      variables,
    },
    lines.join("\n"),
  );
}

/** For people. */
export function writtenLines({ file, found, secrets, variables }: WrittenConfig): readonly string[] {
  return [
    `wrote ${file}`,
    ...secrets.map((secret) => `wrote ${join(dirname(file), secret.file)}: a password, for your eyes only`),
    ...variables.map((variable) => `it names \${${variable}}, which the daemon needs in its environment too`),
    ...(found === null ? [] : [countsOf(found), ...refusedLines(found).map((line) => `  ${line}`)]),
  ];
}

async function readName(given: string | null): Promise<string | null> {
  if (given === null) return null;
  const { topDefinition } = await import("../../config/daemon-definition.ts");
  const parsed = topDefinition.shape.name.safeParse(given);
  if (!parsed.success) throw cliError("MR1110", `--name: ${parsed.error.issues[0]?.message ?? "not a name"}`);
  return parsed.data;
}
