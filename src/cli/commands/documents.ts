import { SILENT } from "../../core/contracts/telemetry.ts";
import type { NestTable } from "../../../connectors/nest/disk.ts";
import type { ShownDocument, ShownRow } from "../../../connectors/nest/shown.ts";
import { bytes, digits } from "../../core/figures.ts";
import type { Config } from "../../config/config.ts";
import { namesOfTable } from "../../core/model/schema.ts";
import { commitOf } from "../../core/model/position.ts";
import { Transforms } from "../../documents/transforms.ts";
import { readState, storedPositions } from "../state.ts";
import { nestTablesOf, resolvedDocuments } from "../../daemon/documents.ts";
import { openSource } from "../../daemon/ruled-source.ts";
import { definitionOf, type Document, documentTable } from "../../documents/document.ts";
import { documentsError } from "../../documents/errors.ts";
import { columnsTaken } from "../../documents/places.ts";
import { suggestion } from "../../rules/nearest.ts";
import { rulesMemory } from "../check/check.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { exactJson } from "../../core/values/exact-json.ts";
import { EXIT } from "../exit-codes.ts";
import { whileOpen } from "../opened.ts";
import type { Session } from "../session.ts";
import { tableText } from "../table.ts";

const TIMEOUT_MS = 60_000;

export function addDocuments({ program, action }: CommandLine): void {
  const documents = program.command("documents").description("objects made of rows of several tables");
  documents
    .command("show <name> <key...>")
    .description("one document and the rows it is made of, by its key; exits with 1 if there is none, and says why")
    .action(
      action("none", async (session, _options, [name = "", ...key]) => {
        const config = await session.config();
        const names = config.documents.map((one) => one.name);
        if (!names.includes(name))
          throw cliError("MR1110", `there is no document ${JSON.stringify(name)}; ${suggestion(name, names)}`);
        const shown = await shownOf(config, name, key);
        session.print(jsonOfShown(shown), textOfShown(shown, `${name} ${key.join(" ")}`));
        return shown.json === null ? EXIT.failed : EXIT.done;
      }),
    );
  documents
    .command("plan")
    .description(
      "what the next start reads and sends again, and how much disk that takes, as the configuration and the source's tables are now",
    )
    .action(
      action("none", async (session) => {
        const plan = await planOf(session);
        session.print(plan, textOf(plan));
        return EXIT.done;
      }),
    );
}

interface PlacedRow extends Omit<ShownRow, "version"> {
  /** In the source's log; null: of a first copy. */
  readonly position: string | null;
}

interface Shown extends Omit<ShownDocument, "rows"> {
  readonly rows: readonly PlacedRow[];
}

async function shownOf(config: Config, name: string, key: readonly string[]): Promise<Shown> {
  const { shownDocument } = await import("../../../connectors/nest/shown.ts");
  const shown = shownDocument(config.nest, name, key, new Transforms(config.documents));
  const positions = await readState(config, (state) => storedPositions(config, state));
  const rows = shown.rows.map(({ version, ...row }): PlacedRow => {
    const commit = commitOf(version);
    return { ...row, position: commit === 0n ? null : positions.format(commit) };
  });
  return { ...shown, rows };
}

function jsonOfShown({ json, reason, isWaiting, rows }: Shown): object {
  const document = json === null ? null : exactJson(json);
  return { document, reason, waiting: isWaiting, rows };
}

function textOfShown({ json, reason, isWaiting, rows }: Shown, name: string): string {
  const parts = [json === null ? `document ${name} is not there: ${reason}` : JSON.stringify(exactJson(json), null, 2)];
  if (rows.length > 0) {
    const made = rows.map(({ path, table, key, position }) => {
      const { schema, table: own } = namesOfTable(table);
      return [path.join(".") || "-", `${schema}.${own}`, key.join(" "), position ?? "first copy"];
    });
    parts.push(tableText(["field", "table", "key", "position"], made, "none"));
  }
  if (isWaiting) parts.push("it has changed, and is on its way to the sinks");
  return parts.join("\n");
}

interface PlannedDocument {
  readonly name: string;
  readonly change: "new" | "changed" | "same" | "gone";
  /** `table.column`, of those that the nest does not have yet. */
  readonly reads: readonly string[];
}

interface Plan {
  readonly documents: readonly PlannedDocument[];
  /** Those that take most disk first; null: the source has no statistics, or nothing is planned. */
  readonly tables: readonly NestTable[] | null;
}

async function planOf(session: Session): Promise<Plan> {
  const config = await session.config();
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const { documentsIn } = await import("../../../connectors/nest/open.ts");
  const memory = await rulesMemory(config);
  const { documents, problems, tables } = await whileOpen(openSource(config, memory, SILENT), async (source) => {
    const resolved = await resolvedDocuments(config, source, signal);
    return { ...resolved, tables: await nestTablesOf(resolved, source, signal) };
  });
  const [first, ...rest] = problems;
  if (first !== undefined) throw documentsError([first, ...rest]);
  const there = new Map(documentsIn(config.nest).map((one) => [one.name, one]));
  const held = new Set(columnsOf([...there.values()]));
  const planned = documents.map((one): PlannedDocument => {
    const before = there.get(one.name);
    const change = before === undefined ? "new" : definitionOf(before) === definitionOf(one) ? "same" : "changed";
    const reads = columnsOf([one]).filter((column) => !held.has(column));
    return { name: one.name, change, reads: reads.toSorted() };
  });
  const gone = [...there.keys()].filter((name) => documents.every((one) => one.name !== name));
  const left = gone.map((name): PlannedDocument => ({ name, change: "gone", reads: [] }));
  return { documents: [...planned, ...left], tables };
}

/** `schema.table.column` of each that the documents take. */
function columnsOf(documents: readonly Document[]): readonly string[] {
  return [...columnsTaken(documents)].flatMap(([id, columns]) => {
    const { schema, table } = namesOfTable(id);
    return [...columns].map((column) => `${schema}.${table}.${column}`);
  });
}

const CHANGES = {
  new: "it is built and sent",
  changed: "each document is built and sent again",
  same: "nothing",
  gone: "sinks keep the documents that they have",
} as const;

function textOf({ documents, tables }: Plan): string {
  if (documents.length === 0) return "there are no documents";
  const rows = documents.map(({ name, change, reads }) => {
    const { schema, table } = documentTable(name);
    return [`${schema}.${table}`, change, CHANGES[change], reads.length === 0 ? "-" : reads.join("\n")];
  });
  const planned = tableText(["document", "is", "what happens", "columns that are read"], rows, "none");
  if (tables === null) return planned;
  const held = tables.map(({ table, columns, rowCount, bytes: own }) => {
    return [table, columns.join(", "), rowCount === null ? "?" : digits(rowCount), own === null ? "?" : bytes(own)];
  });
  return `${planned}\n\n${tableText(["table", "columns in the nest", "rows", "disk, about"], held, "none")}`;
}
