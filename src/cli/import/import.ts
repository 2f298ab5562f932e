import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { stringify } from "yaml";
import { readSmallFile } from "../../core/small-file.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { importedFrom, type Imported } from "./debezium.ts";
import { parseDebezium, UNDECIDED } from "./debezium-config.ts";

const FILE_BYTES_MAX = 1024 * 1024;

export function addImport({ program, actionFor }: CommandLine): void {
  const command = program.command("import").description("write millrace.yaml from another tool's configuration");
  command
    .command("debezium <file>")
    .description(
      "from a Debezium connector's configuration (Postgres, MySQL, MariaDB); names every key without a counterpart, and exits with 3 if something is left to decide",
    )
    .option("--connector <name>", "the one to import, if the file has several")
    .option("--out <file>", "write the config there, instead of to stdout")
    .option("--force", "replace the file of --out if it exists")
    .action(
      actionFor("none", (session, options, [file = ""]) => {
        const chosen = typeof options["connector"] === "string" ? options["connector"] : null;
        const { kind, config } = parseDebezium(file, read(file), chosen);
        const imported = importedFrom(kind, config);
        const yaml = textOf(imported);
        const out = typeof options["out"] === "string" ? options["out"] : null;
        if (out !== null) write(out, yaml, options["force"] === true);
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
        return Promise.resolve(open === 0 ? EXIT.done : EXIT.drift);
      }),
    );
}

function read(file: string): string {
  try {
    return readSmallFile(resolve(file), FILE_BYTES_MAX);
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    throw cliError("MR1140", `${file} can't be read (${reason})`);
  }
}

function write(file: string, text: string, mayReplace: boolean): void {
  try {
    writeFileSync(file, text, { flag: mayReplace ? "w" : "wx", mode: 0o600 });
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    if (reason === "EEXIST") throw cliError("MR1112", `${file} exists already; nothing was written`);
    throw cliError("MR1113", `${file} can't be written (${reason})`, { cause: error });
  }
}

function textOf({ config, left, variables }: Imported): string {
  const blocking = left.filter(({ isBlocking }) => isBlocking);
  const open = left.filter(({ isNeedless, isBlocking }) => !isNeedless && !isBlocking);
  const needless = left.filter(({ isNeedless }) => isNeedless);
  const parts = [
    "# Written by `millrace import debezium`. `millrace check` says what would fail.",
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
    stringify(config, { lineWidth: 0 }).replaceAll(/^(?=(?:source|sinks|tables|maskKey):)/gm, "\n"),
  ];
  return parts.join("\n");
}

function section(title: string, lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? [] : ["#", `# ${title}`, ...lines.map((line) => `#   ${oneLine(line)}`)];
}

/** Keys and lists are data: a line break in one must not end the comment. */
function oneLine(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ");
}
