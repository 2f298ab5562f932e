import { stringify } from "yaml";
import type { Command } from "commander";
import { decoded } from "../../config/secrets/secrets.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT, type ExitCode } from "../exit-codes.ts";
import { nameFrom, oneLine } from "../init/init-file.ts";
import { lookInto } from "../init/init.ts";
import { sourceByUrl } from "../init/init-urls.ts";
import type { Options } from "../options.ts";
import type { Session } from "../session.ts";
import { readNamedFile, writeNamedFile } from "../files.ts";
import { importedFrom } from "./debezium.ts";
import { parseDebezium } from "./debezium-config.ts";
import { type Imported, UNDECIDED } from "./findings.ts";

const FILE_BYTES_MAX = 1024 * 1024;

export function addImport(line: CommandLine): void {
  const command = line.program.command("import").description("write millrace.yaml from another tool's configuration");
  addDebezium(command, line);
  addPgsync(command, line);
  addOther(command, line, {
    tool: "sequin",
    description: "from a sequin.yaml",
    from: "the database to import, if the file has several",
    read: async (file, text, from) => (await import("./sequin.ts")).importedFromSequin(file, text, from),
  });
  addOther(command, line, {
    tool: "peerdb",
    description: "from the SQL that made PeerDB's peers and mirrors",
    from: "the peer whose mirrors are imported, if they read several",
    read: async (file, text, from) => (await import("./peerdb.ts")).importedFromPeerdb(file, text, from),
  });
  addOther(command, line, {
    tool: "flink-cdc",
    description: "from a pipeline of Flink CDC (YAML)",
    from: null,
    read: async (file, text) => (await import("./flink-cdc.ts")).importedFromFlinkCdc(file, text),
  });
}

interface OtherTool {
  readonly tool: string;
  readonly description: string;
  /** What `--from` chooses; null: a file has one. */
  readonly from: string | null;
  readonly read: (file: string, text: string, from: string | null) => Promise<Imported<object>>;
}

const NAMES = "names every key without a counterpart, and exits with 3 if something is left to decide";

function addDebezium(command: Command, { action }: CommandLine): void {
  command
    .command("debezium <file>")
    .description(`from a Debezium connector's configuration (Postgres, MySQL, MariaDB); ${NAMES}`)
    .option("--connector <name>", "the one to import, if the file has several")
    .option("--out <file>", "write the config there, instead of to stdout")
    .option("--force", "replace the file of --out if it exists")
    .action(
      action("none", (session, options, [file = ""]) => {
        const chosen = options.text("--connector");
        const { kind, config } = parseDebezium(file, readNamedFile(file, FILE_BYTES_MAX, "MR1140"), chosen);
        return Promise.resolve(written(session, options, "debezium", importedFrom(kind, config)));
      }),
    );
}

function addPgsync(command: Command, { action }: CommandLine): void {
  command
    .command("pgsync <file>")
    .description(`from a schema file of pgsync, and the source's tables and foreign keys; ${NAMES}`)
    .requiredOption("--source <url>", "the database, such as postgres://user@host/db")
    .option("--schema <name>", "of tables for which the file names none; default: public, or MySQL's database")
    .option("--from <name>", "the database to import, if the file has several")
    .option("--out <file>", "write the config there, instead of to stdout")
    .option("--force", "replace the file of --out if it exists")
    .action(
      action("none", async (session, options, [file = ""]) => {
        const { importedFromPgsync, parsePgsync } = await import("./pgsync.ts");
        const { joinsKnown } = await import("../../documents/resolve.ts");
        const url = options.text("--source") ?? "";
        session.secrets.addFromUrl(url);
        const text = readNamedFile(file, FILE_BYTES_MAX, "MR1140");
        const indexes = parsePgsync(file, text, options.text("--from"));
        const { kind } = await sourceByUrl("--source", url);
        const name = nameFrom(url);
        const database = decoded(URL.parse(url)?.pathname.slice(1) ?? "");
        const ofMysql = database === "" ? (indexes[0]?.database ?? "") : database;
        const schema = options.text("--schema") ?? (kind === "postgres" ? "public" : ofMysql);
        const known = await lookInto(session, { name, url }, async (catalog, signal) => {
          const { tables, refused } = await catalog.tables(signal);
          return { tables, refused, ...(await joinsKnown(catalog, tables, signal)) };
        });
        const imported = importedFromPgsync(indexes, { name, kind, url: "${DATABASE_URL}", database, schema, known });
        return written(session, options, "pgsync", imported);
      }),
    );
}

function addOther(parent: Command, { action }: CommandLine, { tool, description, from, read }: OtherTool): void {
  const command = parent.command(`${tool} <file>`).description(`${description}; ${NAMES}`);
  if (from !== null) command.option("--from <name>", from);
  command
    .option("--out <file>", "write the config there, instead of to stdout")
    .option("--force", "replace the file of --out if it exists")
    .action(
      action("none", async (session, options, [file = ""]) => {
        const text = readNamedFile(file, FILE_BYTES_MAX, "MR1140");
        return written(session, options, tool, await read(file, text, from === null ? null : options.text("--from")));
      }),
    );
}

function written(session: Session, options: Options, tool: string, imported: Imported<object>): ExitCode {
  const yaml = textOf(imported, tool);
  const out = options.text("--out");
  if (out !== null) writeNamedFile(out, yaml, options.has("--force"));
  const { left, variables } = imported;
  const open = left.filter(({ isNeedless }) => !isNeedless).length;
  const blocking = left.filter(({ isBlocking }) => isBlocking).length;
  const summary = [
    `wrote ${out}`,
    ...variables.map(({ name, from }) => `set \${${name}} to the value of ${from}`),
    `keys without a counterpart: ${left.length}, of which ${open} are to be decided; the file names each`,
    blocking === 0
      ? "next: millrace check"
      : `the file does not load before ${blocking} of them are decided: look for \`${UNDECIDED}\``,
  ];
  session.print(
    { config: imported.config, left, variables, file: out, yaml },
    out === null ? yaml : summary.join("\n"),
  );
  return open === 0 ? EXIT.done : EXIT.drift;
}

function textOf({ config, left, variables }: Imported<object>, tool: string): string {
  const blocking = left.filter(({ isBlocking }) => isBlocking);
  const open = left.filter(({ isNeedless, isBlocking }) => !isNeedless && !isBlocking);
  const needless = left.filter(({ isNeedless }) => isNeedless);
  const parts = [
    `# Written by \`millrace import ${tool}\`. \`millrace check\` says what would fail.`,
    ...section(
      "Set these variables; a password in a url is percent-encoded:",
      variables.map(({ name, from }) => `${name}: the value of ${from}`),
    ),
    ...section(
      `Decide these first: \`${UNDECIDED}\` stands in their place, and does not load:`,
      blocking.map(({ key, why }) => `${key}: ${why}`),
    ),
    ...section(
      "These keys have no counterpart, or another one. Decide:",
      open.map(({ key, why }) => `${key}: ${why}`),
    ),
    ...section(
      "These keys are not needed:",
      needless.map(({ key, why }) => `${key}: ${why}`),
    ),
    "",
    stringify(config, { lineWidth: 0 }).replaceAll(/^(?=(?:source|documents|sinks|tables|maskKey):)/gm, "\n"),
  ];
  return parts.join("\n");
}

function section(title: string, lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? [] : ["#", `# ${title}`, ...lines.map((line) => `#   ${oneLine(line)}`)];
}
