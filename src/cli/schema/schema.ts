import { describeChange, isCompatible, schemaChanges } from "../../core/model/schema-change.ts";
import type { TableName } from "../../core/contracts/connector.ts";
import { isLater, type TableVersion } from "../../core/model/schema.ts";
import type { Rules } from "../../rules/definition.ts";
import { policyOf } from "../../rules/merged-rule.ts";
import type { StateStore } from "../../core/contracts/state-store.ts";
import type { Place } from "../../config/load.ts";
import type { Position } from "../../core/model/position.ts";
import { countOf } from "../options.ts";
import type { CommandLine } from "../command-line.ts";
import { cliError } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { readState, storedPositions } from "../state.ts";
import { tableText } from "../table.ts";
import { readAgain } from "../commands/snapshot.ts";
import { addOutlooks } from "./plan.ts";

export function addSchema({ program, action }: CommandLine): void {
  const schema = program.command("schema").description("versions of the tables' shapes, in the order of the log");
  schema
    .command("list")
    .description("every table with its newest version, and whether it waits for approval")
    .action(
      action("each", async (session) => {
        const place = await session.place();
        const tables = await readSpelled(place, (state, spell) => listed(state, place.rules, spell));
        session.print({ tables }, describeTables(tables));
        return EXIT.done;
      }),
    );
  schema
    .command("show <table> [version]")
    .description("one version of a table, or the newest: its columns, its key, and the columns that it had before")
    .action(
      action("each", async (session, _options, [id, version]) => {
        const number = version === undefined ? null : countOf("[version]", version);
        const place = await session.place();
        const shown = await readSpelled(place, async ({ schemas }, spell) => {
          const versions = await versionsOf(schemas, String(id));
          const picked = pick(versions, String(id), number ?? versions.at(-1)!.version);
          return { ...shape(picked, versions, spell), ignored: isIgnored(place.rules, picked) };
        });
        session.print(shown, describeShape(shown));
        return EXIT.done;
      }),
    );
  schema
    .command("diff <table> <a> <b>")
    .description("what changed from one version to another")
    .action(
      action("each", async (session, _options, [id, a, b]) => {
        const [from, to] = [countOf("<a>", a), countOf("<b>", b)];
        const changes = await readState(await session.place(), async ({ schemas }) => {
          const versions = await versionsOf(schemas, String(id));
          return schemaChanges(pick(versions, String(id), from), pick(versions, String(id), to));
        });
        const compatibility = (["full", "backward", "forward"] as const).find((kind) =>
          changes.every((change) => isCompatible(change, kind)),
        );
        const answer = { table: id, from, to, compatibility: compatibility ?? "none", changes };
        const lines = changes.length === 0 ? ["no change of columns or key"] : changes.map(describeChange);
        session.print(answer, [...lines, `compatibility: ${answer.compatibility}`].join("\n"));
        return EXIT.done;
      }),
    );
  schema
    .command("approve <table>")
    .description("let a table that waits for approval go on: the sinks follow its shape and read it again")
    .action(
      action("each", async (session, _options, [id]) => {
        const place = await session.place();
        const table = String(id);
        const suspended = await readState(place, ({ suspensions }) => suspensions.list());
        if (!suspended.some(({ tableId }) => tableId === table))
          throw cliError("MR1114", `table ${JSON.stringify(table)} is not suspended`);
        await readAgain(place, table);
        session.print({ approved: table }, `approved: ${table}`);
        return EXIT.done;
      }),
    );
  addOutlooks(schema, action);
}

type Versions = readonly TableVersion[];

async function versionsOf(schemas: StateStore["schemas"], id: string): Promise<Versions> {
  const versions = await schemas.versions(id);
  if (versions.length > 0) return versions;
  const known = (await schemas.list()).map((table) => table.id);
  throw cliError("MR1110", `no table ${JSON.stringify(id)} was captured; the tables are: ${known.join(", ")}`);
}

function pick(versions: Versions, id: string, number: number): TableVersion {
  const found = versions.find(({ version }) => version === number);
  if (found !== undefined) return found;
  const numbers = versions.map(({ version }) => version).join(", ");
  throw cliError("MR1110", `table ${id} has no version ${number}; its versions are: ${numbers}`);
}

interface ListedTable {
  readonly table: string;
  readonly version: number;
  readonly columns: number;
  readonly since: string;
  /** Why every sink skips its changes. */
  readonly suspended: string | null;
  /** True if the sinks keep this shape, whatever happens to the table. */
  readonly ignored: boolean;
}

function isIgnored(rules: Rules, table: TableName): boolean {
  return policyOf(rules, table).schemaChange === "ignore";
}

/** Formats a position as the source and all other commands do. */
type Spell = (position: Position) => string;

async function readSpelled<T>(place: Place, ask: (state: StateStore, spell: Spell) => Promise<T>): Promise<T> {
  return await readState(place, async (state) => {
    const { format } = await storedPositions(place, state);
    return await ask(state, ({ commit }) => format(commit));
  });
}

async function listed(
  { schemas, suspensions }: StateStore,
  rules: Rules,
  spell: Spell,
): Promise<readonly ListedTable[]> {
  const suspended = (await suspensions.list()).filter(({ sink }) => sink === null);
  const tables: ListedTable[] = [];
  for (const { id } of await schemas.list()) {
    const newest = (await schemas.versions(id)).at(-1)!;
    tables.push({
      table: id,
      version: newest.version,
      columns: newest.columns.length,
      since: spell(newest.since),
      suspended: suspended.find(({ tableId }) => tableId === id)?.error.message ?? null,
      ignored: isIgnored(rules, newest),
    });
  }
  return tables;
}

function shape(table: TableVersion, versions: Versions, spell: Spell) {
  const names = new Set(table.columns.map(({ name }) => name));
  const earlier = versions.filter((other) => isLater(table, other));
  const retired = new Set(earlier.flatMap(({ columns }) => columns.map(({ name }) => name)));
  return {
    table: table.id,
    version: table.version,
    versions: versions.map(({ version }) => version),
    since: spell(table.since),
    fingerprint: table.fingerprint,
    key: keyOf(table),
    columns: table.columns.map(({ name, native, nullable }) => ({ name, type: native, nullable })),
    retired: [...retired].filter((name) => !names.has(name)),
  };
}

function keyOf({ key, columns }: TableVersion): readonly string[] {
  return key.map((ordinal) => columns[ordinal]!.name);
}

function describeTables(tables: readonly ListedTable[]): string {
  const rows = tables.map(({ table, version, columns, since, suspended, ignored }) => {
    return [table, version, columns, since, suspended ?? (ignored ? IGNORED : "")];
  });
  return tableText(["table", "version", "columns", "since", "waits"], rows, "no table was captured yet");
}

const IGNORED = "changes are ignored";

function describeShape(shown: ReturnType<typeof shape> & { readonly ignored: boolean }): string {
  const rows = shown.columns.map(({ name, type, nullable }) => {
    return [name, type, nullable ? "yes" : "no", shown.key.includes(name) ? "yes" : ""];
  });
  const retired = shown.retired.length === 0 ? [] : [`retired: ${shown.retired.join(", ")}`];
  return [
    `${shown.table} version ${shown.version} of ${shown.versions.join(", ")}, since ${shown.since}`,
    tableText(["column", "type", "null", "key"], rows),
    ...retired,
    ...(shown.ignored ? [IGNORED] : []),
  ].join("\n");
}
