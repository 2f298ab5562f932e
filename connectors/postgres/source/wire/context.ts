import type { ChosenKey, TableName } from "../../../../src/core/contracts/connector.ts";
import type { Logger } from "../../../../src/core/contracts/telemetry.ts";
import type { PostgresAddress } from "../../../../src/postgres/url.ts";
import type { TableSelection } from "../../../../src/core/table-selection.ts";
import type { Database } from "./database.ts";
import type { PlacedMarks } from "./placed-marks.ts";
import type { SaidSchemas } from "./said-schemas.ts";
import type { Writer } from "./writer.ts";

/** What the parts of one source share. */
export interface SourceContext {
  readonly address: PostgresAddress;
  readonly database: Database;
  readonly writer: Writer;
  readonly marks: PlacedMarks;
  readonly schemas: SaidSchemas;
  readonly leaves: KnownLeaves;
  readonly slot: string;
  readonly publication: string;
  readonly selection: TableSelection;
  /** False with `snapshot: none`: rows that the log did not bring are in no sink, and are never read. */
  readonly readsRows: boolean;
  /** How many sessions copy one large table at once. */
  readonly copySessions: number;
  readonly chosenKey: (table: TableName) => ChosenKey | null;
  readonly logger: Logger;
}

export async function closeAll({ database, writer }: Pick<SourceContext, "database" | "writer">): Promise<void> {
  await Promise.all([database.close(), writer.close()]);
}

/** The leaves of each partitioned table, as the last look at the catalogue had them. */
export class KnownLeaves {
  #ofRoots: ReadonlyMap<number, readonly number[]> = new Map();

  /** By oid of the partitioned table. Called last in a look: rules get what it has found before a read can end that relies on it. */
  take(ofRoots: ReadonlyMap<number, readonly number[]>): void {
    this.#ofRoots = ofRoots;
  }

  /** Undefined: no look has shown the table. */
  of(root: number): readonly number[] | undefined {
    return this.#ofRoots.get(root);
  }
}
