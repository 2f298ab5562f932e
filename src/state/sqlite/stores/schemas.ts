import type { StatementSync } from "node:sqlite";
import { comparePositions, parsePosition, serializePosition, type Position } from "../../../core/model/position.ts";
import { isLater, keyMarks, type TableVersion } from "../../../core/model/schema.ts";
import type { TableShape } from "../../../core/contracts/catalog.ts";
import type { Rename } from "../../../core/contracts/change-log.ts";
import type { SchemaStore, StoredError, StoredRenames } from "../../../core/contracts/state-store.ts";
import { ObligationCount } from "./obligations.ts";
import type { Connection } from "../connection.ts";
import { voidSnapshots } from "./snapshots.ts";
import { isRecord } from "../../../core/checkpoint/stored-json.ts";
import { integer, isStoredError, stored, text, type Row } from "../row.ts";

export class SqliteSchemas implements SchemaStore {
  readonly #connection: Connection;
  /** Versions are compared by identity: one object per table and version in this process. */
  readonly #objects = new Map<string, readonly TableVersion[]>();
  readonly #everything: StatementSync;
  readonly #ofTable: StatementSync;
  readonly #register: StatementSync;
  readonly #rename: StatementSync;
  readonly #renames: StatementSync;
  readonly #suspended: StatementSync;
  readonly #suspend: StatementSync;
  readonly #voidSnapshots: StatementSync;
  readonly #reinstate: StatementSync;
  readonly #obligations: ObligationCount;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#obligations = new ObligationCount(connection);
    this.#everything = connection.prepare(
      "SELECT table_id, version, since, shape FROM table_version ORDER BY table_id",
    );
    this.#ofTable = connection.prepare(
      "SELECT table_id, version, since, shape FROM table_version WHERE table_id = :table",
    );
    this.#register = connection.prepare(
      `INSERT INTO table_version (table_id, version, since, fingerprint, shape)
       VALUES (:table, :version, :since, :fingerprint, :shape)`,
    );
    this.#rename = connection.prepare(
      "INSERT INTO table_rename (since, renames) VALUES (:since, :renames) ON CONFLICT DO NOTHING",
    );
    this.#renames = connection.prepare("SELECT since, renames FROM table_rename");
    this.#suspended = connection.prepare("SELECT table_id, error FROM suspended_table ORDER BY table_id");
    this.#suspend = connection.prepare(
      "INSERT INTO suspended_table (table_id, error) VALUES (:table, :error) ON CONFLICT DO UPDATE SET error = :error",
    );
    this.#voidSnapshots = connection.prepare(voidSnapshots("table_id = :table"));
    this.#reinstate = connection.prepare("DELETE FROM suspended_table WHERE table_id = :table");
  }

  async resolve(shape: TableShape, position: Position): Promise<TableVersion> {
    const inForce = this.#connection.read(() => lastNotAfter(this.#registered(shape.id), position));
    if (inForce?.fingerprint === shape.fingerprint) return inForce;
    return this.#connection.write(() => {
      const version = this.#registered(shape.id).reduce((highest, known) => Math.max(highest, known.version), 0) + 1;
      const created = shapeOnly(shape);
      this.#register.run({
        table: shape.id,
        version,
        since: serializePosition(position),
        fingerprint: shape.fingerprint,
        shape: JSON.stringify(created),
      });
      return this.#object(created, version, position);
    });
  }

  async list(): Promise<readonly TableVersion[]> {
    const newest = new Map<string, TableVersion>();
    for (const table of this.#connection.read(() => this.#everything.all().map((row) => this.#fromRow(row)))) {
      const known = newest.get(table.id);
      if (known === undefined || isLater(table, known)) newest.set(table.id, table);
    }
    return [...newest.values()];
  }

  async versions(tableId: string): Promise<readonly TableVersion[]> {
    return this.#connection.read(() => this.#registered(tableId));
  }

  async rename(renames: readonly Rename[], position: Position): Promise<void> {
    const since = serializePosition(position);
    this.#connection.write(() => this.#rename.run({ since, renames: JSON.stringify(renames) }));
  }

  async renames(): Promise<readonly StoredRenames[]> {
    const rows = this.#connection.read(() => this.#renames.all());
    return rows.map((row) => ({
      position: parsePosition(text(row, "since")),
      renames: stored(row, "renames", isRenames),
    }));
  }

  async suspend(tableId: string, error: StoredError): Promise<void> {
    this.#connection.write(() => {
      this.#suspend.run({ table: tableId, error: JSON.stringify(error) });
      this.#obligations.addedToAll();
      // Invariant: changes that are skipped from now on do not lie behind the cursor of an incremental snapshot that continues later.
      this.#voidSnapshots.run({ table: tableId });
    });
  }

  async suspended(): Promise<ReadonlyMap<string, StoredError>> {
    const rows = this.#connection.read(() => this.#suspended.all());
    return new Map(rows.map((row) => [text(row, "table_id"), stored(row, "error", isStoredError)]));
  }

  async reinstate(tableId: string): Promise<void> {
    this.#connection.write(() => this.#reinstate.run({ table: tableId }));
  }

  /** In the order of the log. */
  #registered(tableId: string): TableVersion[] {
    return this.#ofTable
      .all({ table: tableId })
      .map((row) => this.#fromRow(row))
      .toSorted((a, b) => (isLater(a, b) ? 1 : -1));
  }

  #fromRow(row: Row): TableVersion {
    const version = integer(row, "version");
    return (
      this.#known(text(row, "table_id"), version) ??
      this.#object(stored(row, "shape", isShape), version, parsePosition(text(row, "since")))
    );
  }

  #known(tableId: string, version: number): TableVersion | undefined {
    return this.#objects.get(tableId)?.find((one) => one.version === version);
  }

  #object(shape: TableShape, version: number, since: Position): TableVersion {
    const known = this.#known(shape.id, version);
    if (known !== undefined) return known;
    const ofTable = this.#objects.get(shape.id);
    const object: TableVersion = Object.freeze({ ...shape, version, since });
    this.#objects.set(shape.id, ofTable === undefined ? [object] : [...ofTable, object]);
    return object;
  }
}

function lastNotAfter(registered: readonly TableVersion[], position: Position): TableVersion | undefined {
  return registered.findLast(({ since }) => comparePositions(since, position) <= 0);
}

/** Drops other fields of the caller's object, such as the version that it had elsewhere. */
function shapeOnly(shape: TableShape): TableShape {
  const { id, schema, table, dialect, relation, columns, key, deferrableKey, fingerprint, ruled } = shape;
  const own = { id, schema, table, dialect, relation, columns, key, deferrableKey, fingerprint };
  const plain = { ...own, ...keyMarks(shape) };
  return ruled === undefined ? plain : { ...plain, ruled };
}

function isRenames(value: unknown): value is readonly Rename[] {
  return Array.isArray(value) && value.every((one) => isRecord(one) && typeof one["from"] === "string");
}

function isShape(value: unknown): value is TableShape {
  return (
    isRecord(value) &&
    typeof value["id"] === "string" &&
    typeof value["fingerprint"] === "string" &&
    Array.isArray(value["columns"]) &&
    Array.isArray(value["key"])
  );
}
