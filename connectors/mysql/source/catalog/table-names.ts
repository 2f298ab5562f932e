/** Names of tables: which of them are captured, and how the catalogue spells them. */
import type { TableName } from "../../../../src/core/contracts/connector.ts";
import type { TableSelection } from "../../../../src/core/table-selection.ts";
import type { Server } from "../wire/server.ts";

const SYSTEM: ReadonlySet<string> = new Set(["mysql", "sys", "information_schema", "performance_schema"]);

export class TableNames {
  readonly #server: Pick<Server, "foldsNames">;
  readonly #selection: TableSelection;
  /** The only database of which tables are captured; empty: of any. */
  readonly #database: string;
  /** The catalogue's names by their folded form. */
  #known = new Map<string, TableName>();

  constructor(server: Pick<Server, "foldsNames">, selection: TableSelection, database: string) {
    this.#server = server;
    this.#selection = selection;
    this.#database = database;
  }

  captures({ schema, table }: TableName): boolean {
    return this.#isOwn(schema) && this.#selection.matches(schema, table);
  }

  isLiteral({ schema, table }: TableName): boolean {
    return this.#selection.isLiteral(schema, table);
  }

  /** Tables that `tables` names without wildcards. */
  get literals(): readonly string[] {
    return this.#selection.literals;
  }

  /** The patterns of the selection that fit none of these tables. */
  idle(tables: readonly TableName[]): readonly string[] {
    return this.#selection.idle(tables.filter(({ schema }) => this.#isOwn(schema)));
  }

  learn(tables: readonly TableName[]): void {
    if (!this.#server.foldsNames) return;
    this.#known = new Map(tables.map(({ schema, table }) => [folded({ schema, table }).join("\0"), { schema, table }]));
  }

  /** The catalogue's spelling of a name that a statement may spell in another case (lower_case_table_names). */
  spelled(name: TableName): TableName {
    if (!this.#server.foldsNames) return name;
    const [schema, table] = folded(name);
    return this.#known.get(`${schema}\0${table}`) ?? { schema, table };
  }

  #isOwn(schema: string): boolean {
    return !SYSTEM.has(schema) && (this.#database === "" || schema === this.#database);
  }
}

function folded({ schema, table }: TableName): [schema: string, table: string] {
  return [lower(schema), lower(table)];
}

/** As the server does it: character by character, each becomes one character. */
function lower(name: string): string {
  return Array.from(name, (character) => Array.from(character.toLowerCase())[0] ?? "").join("");
}
