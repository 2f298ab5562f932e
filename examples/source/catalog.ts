/** The captured tables, in the shape that their triggers write, and the triggers. */
import { createHash } from "node:crypto";
import * as z from "zod";
import type { CapturedTables, RefusedTable, TableShape } from "../../src/core/contracts/catalog.ts";
import { tableId } from "../../src/core/model/schema.ts";
import type { TableSelection } from "../../src/core/table-selection.ts";
import { columnType, listOf } from "./cells.ts";
import { bigint, type Database, NOW_US, quoteName, quoteText } from "./database.ts";

const SCHEMA = "main";
const OWN = "millrace_";

const DEFINITION = z.object({
  columns: z.array(z.object({ name: z.string(), native: z.string(), nullable: z.boolean() })),
  /** Ordinals, in key order. */
  key: z.array(z.number()),
});
type Definition = z.output<typeof DEFINITION>;

/** One of the stored shapes of a table. */
interface StoredShape {
  readonly id: bigint;
  readonly name: string;
  readonly definition: string;
}

/** Makes every captured table write its changes in its present shape. Inside `write`. */
export function publish(database: Database, selection: TableSelection): void {
  const { captured } = survey(database, selection);
  const stored = newestShapes(database);
  const wanted = new Set<string>();
  const missing: [name: string, definition: Definition][] = [];
  const there = triggers(database);
  for (const [name, definition] of captured) {
    const shape = stored.get(name);
    const names = shape === undefined ? [] : triggersOf({ name, definition }, shape.id).map(([trigger]) => trigger);
    const isComplete = names.length > 0 && names.every((trigger) => there.get(trigger) === name);
    if (isComplete && shape?.definition === JSON.stringify(definition)) for (const one of names) wanted.add(one);
    else missing.push([name, definition]);
  }
  // Those of a table that was renamed went with it.
  for (const trigger of there.keys()) if (!wanted.has(trigger)) database.execute(`DROP TRIGGER ${quoteName(trigger)}`);
  for (const [name, definition] of missing) {
    const sql = "INSERT INTO millrace_shape (name, definition) VALUES (?, ?) RETURNING id";
    const [row] = database.rows(sql, name, JSON.stringify(definition));
    for (const [, create] of triggersOf({ name, definition }, bigint(row?.["id"]))) database.execute(create);
  }
}

/** Takes away what `publish` has made. Inside `write`. */
export function withdraw(database: Database): void {
  for (const trigger of triggers(database).keys()) database.execute(`DROP TRIGGER ${quoteName(trigger)}`);
}

/** As the log shows the tables, which is as they were at the last `publish`. */
export function capturedTables(database: Database, selection: TableSelection): CapturedTables {
  const { captured, refused } = survey(database, selection);
  const stored = newestShapes(database);
  const followed = new Set(triggers(database).values());
  const shapes = [...captured.keys()]
    .flatMap((name) => stored.get(name) ?? [])
    .filter(({ name }) => followed.has(name));
  return {
    tables: shapes.map(shapeOf),
    refused,
    // Triggers that were made again may have missed changes: then the table counts as another one.
    generations: new Map(shapes.map(({ id, name }) => [tableId(SCHEMA, name), String(id)])),
  };
}

/** The shape that a change names. */
export function storedShape(database: Database, id: bigint): TableShape {
  const [row] = database.rows("SELECT id, name, definition FROM millrace_shape WHERE id = ?", id);
  return shapeOf({ id, name: String(row?.["name"]), definition: String(row?.["definition"]) });
}

/** Whether the table has the shape at this moment. */
export function isAsNow(
  database: Database,
  { table, fingerprint }: Pick<TableShape, "table" | "fingerprint">,
): boolean {
  const found = definitionOf(database, table);
  if ("reason" in found) return false;
  return shapeOf({ id: 0n, name: table, definition: JSON.stringify(found) }).fingerprint === fingerprint;
}

function survey(
  database: Database,
  selection: TableSelection,
): { readonly captured: ReadonlyMap<string, Definition>; readonly refused: readonly RefusedTable[] } {
  const captured = new Map<string, Definition>();
  const refused: RefusedTable[] = [];
  for (const row of database.rows(`SELECT name, type, strict FROM pragma_table_list WHERE schema = '${SCHEMA}'`)) {
    const name = String(row["name"]);
    if (row["type"] !== "table" || name.startsWith("sqlite_") || name.startsWith(OWN)) continue;
    if (!selection.matches(SCHEMA, name)) continue;
    const id = tableId(SCHEMA, name);
    const found = definitionOf(database, name);
    if (row["strict"] === 0n) {
      const reason = "it is not STRICT, so a column may hold values of any type";
      refused.push({ id, reason, fix: "make it again as CREATE TABLE … STRICT and copy its rows" });
    } else if ("reason" in found) refused.push({ id, ...found });
    else captured.set(name, found);
  }
  return { captured, refused };
}

function definitionOf(database: Database, name: string): Definition | Pick<RefusedTable, "reason" | "fix"> {
  const rows = database.rows('SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) WHERE hidden = 0', name);
  const columns = rows.map((row) => ({
    name: String(row["name"]),
    native: String(row["type"]),
    nullable: row["notnull"] === 0n && row["pk"] === 0n,
  }));
  const odd = columns.find(({ native }) => columnType(native) === undefined);
  if (odd !== undefined)
    return { reason: `its column ${odd.name} is of type ${odd.native}`, fix: "give it another type" };
  const parts = rows.flatMap((row, i) => (row["pk"] === 0n ? [] : [{ at: Number(row["pk"]), i }]));
  const key = parts.toSorted((a, b) => a.at - b.at).map(({ i }) => i);
  if (key.length === 0) return { reason: "it has no primary key", fix: "give it one" };
  return { columns, key };
}

function shapeOf({ name, definition }: StoredShape): TableShape {
  const { columns, key } = DEFINITION.parse(JSON.parse(definition));
  return {
    id: tableId(SCHEMA, name),
    schema: SCHEMA,
    table: name,
    // A connector of the product adds its own line to core/model/dialects. This one also allows NUL in texts.
    dialect: "mysql",
    relation: 1,
    columns: columns.map((column) => ({ ...column, type: columnType(column.native)!, identity: 0 })),
    key,
    deferrableKey: false,
    fingerprint: createHash("sha256")
      .update(JSON.stringify([name, definition]))
      .digest("hex"),
  };
}

function newestShapes(database: Database): ReadonlyMap<string, StoredShape> {
  const rows = database.rows("SELECT id, name, definition FROM millrace_shape ORDER BY id");
  return new Map(
    rows.map((row) => {
      const name = String(row["name"]);
      return [name, { id: bigint(row["id"]), name, definition: String(row["definition"]) }];
    }),
  );
}

/** By name, the table of each of our triggers. */
function triggers(database: Database): ReadonlyMap<string, string> {
  const rows = database.rows("SELECT name, tbl_name FROM sqlite_schema WHERE type = 'trigger'");
  const own = rows.map((row): [string, string] => [String(row["name"]), String(row["tbl_name"])]);
  return new Map(own.filter(([name]) => name.startsWith(OWN)));
}

const EVENTS = [
  ["c", "INSERT", false, true],
  ["u", "UPDATE", true, true],
  ["d", "DELETE", true, false],
] as const;

function triggersOf(
  { name, definition: { columns } }: { readonly name: string; readonly definition: Definition },
  shape: bigint,
): readonly (readonly [name: string, create: string])[] {
  return EVENTS.map(([op, event, hasOld, hasNew]) => {
    const trigger = `${OWN}${shape}_${op}`;
    const values = [
      NOW_US,
      quoteText(op),
      String(shape),
      hasOld ? listOf(columns, "OLD") : "NULL",
      hasNew ? listOf(columns, "NEW") : "NULL",
    ];
    const insert = `INSERT INTO millrace_log (at_us, op, shape, old, new) VALUES (${values.join(", ")})`;
    return [trigger, `CREATE TRIGGER ${trigger} AFTER ${event} ON ${quoteName(name)} BEGIN ${insert}; END`];
  });
}
