/** Names of tables as the catalogue spells them, for statements that spell them in another case (lower_case_table_names). */
import type { TableName } from "../../../../src/core/contracts/connector.ts";

export class Spelling {
  #isFolded = false;
  /** The catalogue's names by their folded form. */
  #known = new Map<string, TableName>();

  /** `setting`: the server's lower_case_table_names; 0: names that differ in case are different names. */
  use(setting: string | undefined): void {
    this.#isFolded = setting !== undefined && setting !== "" && setting !== "0";
  }

  learn(tables: readonly TableName[]): void {
    if (!this.#isFolded) return;
    this.#known = new Map(tables.map(({ schema, table }) => [folded({ schema, table }).join("\0"), { schema, table }]));
  }

  of(name: TableName): TableName {
    if (!this.#isFolded) return name;
    const [schema, table] = folded(name);
    return this.#known.get(`${schema}\0${table}`) ?? { schema, table };
  }
}

function folded({ schema, table }: TableName): [schema: string, table: string] {
  return [lower(schema), lower(table)];
}

/** As the server does it: character by character, each becomes one character. */
function lower(name: string): string {
  return Array.from(name, (character) => Array.from(character.toLowerCase())[0] ?? "").join("");
}
