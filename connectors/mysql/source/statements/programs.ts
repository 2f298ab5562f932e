/**
 * Which tables a statement may write to: those that it names, and those that views, triggers, functions and foreign keys
 * reach from there. Their texts are only searched for names, so the answer may have a table too many. It has one too few only
 * if the user may not see a trigger, a function or a foreign key, or if it was dropped since.
 */
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import type { Queryable } from "../wire/server-facts.ts";
import { namesIn, type RowStatement } from "./statements.ts";

/** A statement of which the log has no rows. */
export interface Uncertain {
  readonly statement: RowStatement;
  /** False: only the beginning of its text is known. */
  readonly isWhole: boolean;
  /** False: it may name a table whose name has other characters than ASCII's. */
  readonly isLegible: boolean;
  /** Tables that have rows in the same transaction. */
  readonly withRows: readonly TableName[];
}

/** A text that writes to tables, and the database whose names it uses. */
interface Program {
  readonly schema: string;
  /** Empty: the user may not see it. */
  readonly text: string;
  /** Which statements fire a trigger: INSERT, UPDATE or DELETE. */
  readonly event?: string;
}

/** A table whose rows a foreign key changes with those of another one. */
interface Child {
  readonly table: TableName;
  /** With what is done to a row of the other: DELETE, UPDATE. */
  readonly events: string;
}

/** By their names without regard to case. */
interface Objects {
  readonly tables: ReadonlyMap<string, readonly TableName[]>;
  /** Tables with transaction-precise history: the log has statements of them even where it has rows of all others. */
  readonly precise: ReadonlySet<string>;
  readonly views: ReadonlyMap<string, readonly Program[]>;
  /** By their tables. */
  readonly triggers: ReadonlyMap<string, readonly Program[]>;
  readonly routines: ReadonlyMap<string, readonly Program[]>;
  /** By the table that they refer to. */
  readonly children: ReadonlyMap<string, readonly Child[]>;
}

export class Programs {
  readonly #server: Queryable;
  #objects: Promise<Objects> | undefined;

  constructor(server: Queryable) {
    this.#server = server;
  }

  /** They may be others from here on. */
  forget(): void {
    this.#objects = undefined;
  }

  async written(by: Uncertain, signal: AbortSignal): Promise<readonly TableName[]> {
    const objects = await this.#read(signal);
    const { isQuery, isTemporary, schema, several, target, text } = by.statement;
    const named = isTemporary ? [] : target === null ? null : [target];
    const targets = named ?? (by.isWhole && by.isLegible ? several : null);
    const search = new Search(objects, EVENTS[/^\w+/.exec(text)?.[0].toUpperCase() ?? ""]);
    for (const one of targets ?? []) search.written(one);
    if (!by.isLegible) search.illegible();
    search.text({ schema, text }, targets === null && !isQuery, search.events);
    if (search.isEndless || (named === null && !by.isWhole)) return [...objects.tables.values()].flat();
    const key = target === null || isTemporary ? "" : keyOf(target);
    // The statement is there for this table alone; what its triggers and functions wrote are rows.
    const logged = objects.precise.has(key) ? new Set(by.withRows.map(keyOf)) : new Set();
    return [...search.found].filter((table) => keyOf(table) === key || !logged.has(keyOf(table)));
  }

  async #read(signal: AbortSignal): Promise<Objects> {
    this.#objects ??= readObjects(this.#server, signal);
    try {
      return await this.#objects;
    } catch (error) {
      this.forget();
      throw error;
    }
  }
}

/** What a statement that begins with this word can do to rows, and fire. */
const EVENTS: Readonly<Record<string, string>> = {
  DELETE: "DELETE",
  INSERT: "INSERT UPDATE",
  UPDATE: "UPDATE",
  ALTER: "",
  CREATE: "",
  RENAME: "",
  REPAIR: "",
};

class Search {
  readonly #objects: Objects;
  /** Undefined: all. */
  readonly events: string | undefined;
  readonly found = new Set<TableName>();
  /** What it met may write to any table. */
  isEndless = false;
  readonly #read = new Set<Program>();
  readonly #written = new Set<Program>();
  readonly #reached = new Set<string>();

  constructor(objects: Objects, events: string | undefined) {
    this.#objects = objects;
    this.events = events;
  }

  /** A table or view that is written to; one that is gone was a table. */
  written(name: TableName): void {
    const { tables, views } = this.#objects;
    if (!tables.has(keyOf(name)) && !views.has(keyOf(name))) this.found.add(name);
    this.#reach(keyOf(name), this.events);
  }

  illegible(): void {
    const { tables, views } = this.#objects;
    for (const key of [...tables.keys(), ...views.keys()]) if (/[^\0-\x7f]/.test(key)) this.#reach(key, this.events);
  }

  /** `writes`: to each table that it names, by any `events`. */
  text(program: Program, writes: boolean, events?: string): void {
    const met = writes ? this.#written : this.#read;
    if (met.has(program)) return;
    met.add(program);
    if (program.text === "") this.isEndless ||= writes;
    for (const name of namesIn(program.text, program.schema)) {
      const key = keyOf(name);
      for (const routine of this.#objects.routines.get(key) ?? []) this.text(routine, true);
      if (writes) this.#reach(key, events);
      else for (const view of this.#objects.views.get(key) ?? []) this.text(view, false);
    }
  }

  #reach(key: string, events?: string): void {
    const met = `${key} ${events}`;
    if (this.#reached.has(met)) return;
    this.#reached.add(met);
    const { children, tables, triggers, views } = this.#objects;
    const fired = (triggers.get(key) ?? []).filter(({ event }) => events?.includes(event!) !== false);
    for (const child of children.get(key) ?? [])
      if (ACTIONS.some((action) => child.events.includes(action) && events?.includes(action) !== false))
        this.#reach(keyOf(child.table), ACTIONS.join(" "));
    for (const table of tables.get(key) ?? []) this.found.add(table);
    for (const trigger of fired) this.text(trigger, true);
    for (const view of views.get(key) ?? []) this.text(view, true, events);
  }
}

/** What foreign keys answer. */
const ACTIONS = ["DELETE", "UPDATE"] as const;

function keyOf({ schema, table }: TableName): string {
  return `${schema}\0${table}`.toLowerCase();
}

const SYSTEM = "('mysql','sys','information_schema','performance_schema')";

async function readObjects(server: Queryable, signal: AbortSignal): Promise<Objects> {
  const rows = async (columns: string, view: string, schema: string, more = ""): Promise<(string | null)[][]> =>
    await server.rows(
      "looking for what a statement may change",
      `SELECT ${columns} FROM information_schema.${view} WHERE ${schema} NOT IN ${SYSTEM}${more}`,
      signal,
    );
  const tables = await rows("table_schema, table_name", "tables", "table_schema", " AND table_type <> 'VIEW'");
  const precise = " AND generation_expression = 'ROW START' AND data_type = 'bigint'";
  const numbered = await rows("table_schema, table_name", "columns", "table_schema", precise);
  const views = await rows("table_schema, table_name, table_schema, view_definition", "views", "table_schema");
  const triggers = await rows(
    "event_object_schema, event_object_table, trigger_schema, action_statement, event_manipulation",
    "triggers",
    "trigger_schema",
  );
  const routines = await rows(
    "routine_schema, routine_name, routine_schema, routine_definition",
    "routines",
    "routine_schema",
  );
  const references = await rows(
    "unique_constraint_schema, referenced_table_name, constraint_schema, table_name, IF(delete_rule IN ('CASCADE', 'SET NULL'), 'DELETE', ''), IF(update_rule IN ('CASCADE', 'SET NULL'), 'UPDATE', '')",
    "referential_constraints",
    "constraint_schema",
  );
  return {
    tables: Map.groupBy(tables.map(nameIn), keyOf),
    precise: new Set(numbered.map((row) => keyOf(nameIn(row)))),
    views: programsIn(views),
    triggers: programsIn(triggers),
    routines: programsIn(routines),
    children: byName(references, ([, , ...rest]) => ({ table: nameIn(rest), events: rest.slice(2).join(" ") })),
  };
}

function nameIn([schema, table]: Row): TableName {
  return { schema: schema ?? "", table: table ?? "" };
}

function programsIn(rows: readonly Row[]): ReadonlyMap<string, readonly Program[]> {
  return byName(rows, ([, , schema, text, event]) => ({ schema: schema ?? "", text: text ?? "", event: event ?? "" }));
}

type Row = readonly (string | null)[];

/** By the name in their first two columns. */
function byName<T>(rows: readonly Row[], read: (row: Row) => T): ReadonlyMap<string, readonly T[]> {
  const groups = Map.groupBy(rows, (row) => keyOf(nameIn(row)));
  return new Map(Array.from(groups, ([key, of]) => [key, of.map(read)]));
}
