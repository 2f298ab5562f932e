import { existsSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { CapturedTables } from "../../core/contracts/catalog.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import type { PlannedSink } from "./init-file.ts";
import { type Secret, writeSecrets, writtenUrl } from "./init-secrets.ts";
import { countsOf, refusedLines } from "./init-tables.ts";
import { sinkFromUrl, sourceKindOf } from "./init-urls.ts";
import type { Session } from "../session.ts";

const LOOK_TIMEOUT_MS = 30_000;

export function addInit({ program, actionFor }: CommandLine): void {
  program
    .command("init")
    .description("look at the source and write a commented config file")
    .option("--source <url>", "the database to follow, such as postgres://user@host/db or mysql://user@host/db")
    .option(
      "--sink <url...>",
      "a target: postgres://…, redis://…, http://… (search), or a path ending in .duckdb, .sqlite or .db3",
    )
    .option("--name <name>", "the daemon's name; default: from the database's name")
    .action(
      actionFor("none", async (session, options) => {
        const { configText, nameFrom } = await import("./init-file.ts");
        const source = textOrNull(options["source"]);
        const sinks = plannedSinks(session, options["sink"]);
        const name = (await readName(options["name"])) ?? nameFrom(source);
        if (source !== null) session.secrets.addFromUrl(source);
        const file = resolve(session.configFile);
        refuseExisting(file);
        const found = source === null ? null : await look(session, name, source);
        const urls = writtenUrls(name, source, sinks);
        const kind = source === null ? "postgres" : sourceKindOf(source);
        const folder = dirname(file);
        const text = configText({ name, folder, kind, source: urls.source, sinks: urls.sinks, found });
        write(file, text, urls.secrets);
        report(session, { file, name, found, ...urls });
        return EXIT.done;
      }),
    );
}

function plannedSinks(session: Session, urls: unknown): readonly PlannedSink[] {
  const given = Array.isArray(urls) ? urls.filter((url) => typeof url === "string") : [];
  const sinks: PlannedSink[] = [];
  for (const url of given) {
    session.secrets.addFromUrl(url);
    const sink = sinkFromUrl(url);
    const count = sinks.filter((other) => other.kind === sink.kind).length;
    sinks.push(count === 0 ? sink : { ...sink, name: `${sink.name}${count + 1}` });
  }
  return sinks;
}

/** The source's tables: those that can be followed, and those that can't, with the reason. */
async function look(session: Session, name: string, url: string): Promise<CapturedTables> {
  const { connectors } = await import("../../../connectors/registry.ts");
  const connector = await connectors.source(sourceKindOf(url));
  const parsed = connector.parse({ url });
  if (parsed.kind === "invalid") throw cliError("MR1110", "--source is not a URL that this kind of source takes");
  const source = await parsed
    .bind({ daemon: name, folder: dirname(resolve(session.configFile)), tables: [] })
    .create(session.log);
  try {
    return await source.catalog.tables(AbortSignal.timeout(LOOK_TIMEOUT_MS));
  } finally {
    await source.close();
  }
}

interface WrittenUrls {
  readonly source: string;
  readonly sinks: readonly PlannedSink[];
  readonly secrets: readonly Secret[];
  readonly variables: readonly string[];
}

/** The URLs as the file has them, without passwords. */
function writtenUrls(name: string, source: string | null, sinks: readonly PlannedSink[]): WrittenUrls {
  const write = (part: string, url: string) => writtenUrl(url, `.millrace/secrets/${name}.${part}`, process.env);
  const written = [
    ...(source === null ? [] : [write("source", source)]),
    ...sinks.map((sink) => write(sink.name, sink.place.value)),
  ];
  const texts = written.map(({ text }) => text);
  return {
    source: source === null ? "${DATABASE_URL}" : (texts.shift() ?? ""),
    sinks: sinks.map((sink, i) => ({ ...sink, place: { ...sink.place, value: texts[i] ?? "" } })),
    secrets: written.flatMap(({ secret }) => (secret === null ? [] : [secret])),
    variables: [...new Set(written.flatMap(({ variable }) => (variable === null ? [] : [variable])))],
  };
}

function refuseExisting(file: string, cause?: unknown): void {
  if (cause === undefined && !existsSync(file)) return;
  throw cliError("MR1112", `${file} exists already; nothing was written`, { cause });
}

function write(file: string, text: string, secrets: readonly Secret[]): void {
  try {
    writeSecrets(dirname(file), secrets);
    writeFileSync(file, text, { flag: "wx", mode: 0o600 });
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    if (reason === "EEXIST") refuseExisting(file, error);
    throw cliError("MR1113", `${file} can't be written (${reason})`, { cause: error });
  }
}

interface Made extends WrittenUrls {
  readonly file: string;
  readonly name: string;
  readonly found: CapturedTables | null;
}

function report(session: Session, { file, name, found, secrets, variables }: Made): void {
  const tables = found?.tables.map(({ id }) => id) ?? [];
  const refused = found?.refused ?? [];
  const lines = [
    `wrote ${file}`,
    ...secrets.map((secret) => `wrote ${join(dirname(file), secret.file)}: a password, for your eyes only`),
    ...variables.map((variable) => `it names \${${variable}}, which the daemon needs in its environment too`),
    ...(found === null ? [] : [countsOf(found), ...refusedLines(found).map((line) => `  ${line}`)]),
    `next: millrace check${refused.length === 0 ? "" : ", which has the statement that fixes each"}`,
  ];
  session.print(
    { file, name, tables, refused, secrets: secrets.map((secret) => secret.file), variables },
    lines.join("\n"),
  );
}

async function readName(given: unknown): Promise<string | null> {
  if (given === undefined) return null;
  const { topDefinition } = await import("../../config/definition.ts");
  const parsed = topDefinition.shape.name.safeParse(given);
  if (!parsed.success) throw cliError("MR1110", `--name: ${parsed.error.issues[0]?.message ?? "not a name"}`);
  return parsed.data;
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
