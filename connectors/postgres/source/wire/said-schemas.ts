/** What marks say of the schemas of tables: see log/schema-names.ts. */
import type { TableName } from "../../../../src/core/contracts/connector.ts";

export interface NumberedTable extends TableName {
  readonly oid: number;
}

export class SaidSchemas {
  /** By oid, what the last mark about the table says, and where that is. */
  readonly #said = new Map<number, { readonly schema: string; readonly at: bigint }>();

  add(tables: readonly NumberedTable[], at: bigint): void {
    for (const { oid, schema } of tables) this.#said.set(oid, { schema, at });
  }

  /** Whether a stream at `commit` will meet a mark that says the schema that the table has now. */
  isAhead({ oid, schema }: NumberedTable, commit: bigint): boolean {
    const said = this.#said.get(oid);
    return said?.schema === schema && said.at >= commit;
  }
}
