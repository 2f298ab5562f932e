import { comparePositions, parsePosition, serializePosition, type Position } from "../../../core/model/position.ts";
import { isLater, keyMarks, type TableVersion } from "../../../core/model/schema.ts";
import type { TableShape } from "../../../core/contracts/catalog.ts";
import { type SchemaStore, type StoredRenames, UNREAD } from "../../../core/contracts/state-store.ts";
import type { Connection } from "../connection.ts";
import { voidProofs } from "./proofs.ts";
import { isRecord } from "../../../core/stored-json.ts";
import { integer, stored, text, type Row } from "../row.ts";

const COLUMNS = "table_id, version, since, shape";
const REGISTER = `INSERT INTO table_version (table_id, version, since, fingerprint, shape)
  VALUES (:table, :version, :since, :fingerprint, :shape)`;

export class SqliteSchemas implements SchemaStore {
  readonly #connection: Connection;
  /** Versions are compared by identity: one object per table and version in this process. */
  readonly #objects = new Map<string, readonly TableVersion[]>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  async resolve(shapes: readonly TableShape[], position: Position): Promise<readonly TableVersion[]> {
    const inForce = shapes.map((shape) => this.#inForce(shape, position));
    if (inForce.every((version) => version !== null)) return inForce;
    return this.#connection.write(() => shapes.map((shape, i) => inForce[i] ?? this.#register(shape, position)));
  }

  #inForce(shape: TableShape, position: Position): TableVersion | null {
    const registered = this.#registered(shape.id).filter((one) => isElsewhere(one) === isElsewhere(shape));
    const inForce = lastNotAfter(registered, position);
    return inForce?.fingerprint === shape.fingerprint ? inForce : null;
  }

  /** The caller has opened a transaction. */
  #register(shape: TableShape, position: Position): TableVersion {
    const version = this.#registered(shape.id).reduce((highest, known) => Math.max(highest, known.version), 0) + 1;
    const created = shapeOnly(shape);
    this.#connection.run(REGISTER, {
      table: shape.id,
      version,
      since: serializePosition(position),
      fingerprint: shape.fingerprint,
      shape: JSON.stringify(created),
    });
    voidProofs(this.#connection, "table_id = :table", { table: shape.id });
    return this.#object(created, version, position);
  }

  async list(): Promise<readonly TableVersion[]> {
    const newest = new Map<string, TableVersion>();
    for (const table of this.#all()) {
      const known = newest.get(table.id);
      if (!isElsewhere(table) && (known === undefined || isLater(table, known))) newest.set(table.id, table);
    }
    return [...newest.values()];
  }

  async elsewhere(): Promise<readonly TableVersion[]> {
    return this.#all().filter(isElsewhere);
  }

  #all(): readonly TableVersion[] {
    const sql = `SELECT ${COLUMNS} FROM table_version ORDER BY table_id`;
    return this.#connection.all(sql).map((row) => this.#fromRow(row));
  }

  async versions(tableId: string): Promise<readonly TableVersion[]> {
    return this.#registered(tableId).filter((version) => !isElsewhere(version));
  }

  async rename(renames: StoredRenames["renames"], position: Position): Promise<void> {
    const since = serializePosition(position);
    const sql = "INSERT OR REPLACE INTO table_rename (since, renames) VALUES (:since, :renames)";
    this.#connection.write(() => {
      const there = this.#connection.get("SELECT renames FROM table_rename WHERE since = :since", { since });
      const known = there === undefined ? [] : stored(there, "renames", isRenames);
      const isKnown = new Set(known.map((rename) => JSON.stringify(rename)));
      const more = renames.filter((rename) => !isKnown.has(JSON.stringify(rename)));
      if (more.length > 0) this.#connection.run(sql, { since, renames: JSON.stringify([...known, ...more]) });
    });
  }

  async renames(): Promise<readonly StoredRenames[]> {
    const rows = this.#connection.all("SELECT since, renames FROM table_rename");
    return rows.map((row) => ({
      position: parsePosition(text(row, "since")),
      renames: stored(row, "renames", isRenames),
    }));
  }

  /** In the order of the log. */
  #registered(tableId: string): TableVersion[] {
    const sql = `SELECT ${COLUMNS} FROM table_version WHERE table_id = :table`;
    return this.#connection
      .all(sql, { table: tableId })
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

function isElsewhere({ ruled }: TableShape): boolean {
  return ruled?.isElsewhere === true;
}

function lastNotAfter(registered: readonly TableVersion[], position: Position): TableVersion | undefined {
  return registered.findLast(({ since }) => comparePositions(since, position) <= 0);
}

/** Drops other fields of the caller's object, such as the version that it had elsewhere. */
function shapeOnly(shape: TableShape): TableShape {
  const { id, schema, table, dialect, relation, columns, key, deferrableKey, fingerprint } = shape;
  const own = { id, schema, table, dialect, relation, columns, key, deferrableKey, fingerprint };
  const { ruled, hides, released } = shape;
  return {
    ...own,
    ...keyMarks(shape),
    ...(hides === undefined ? {} : { hides }),
    ...(released === undefined ? {} : { released }),
    ...(ruled === undefined ? {} : { ruled }),
  };
}

function isRenames(value: unknown): value is StoredRenames["renames"] {
  const isRename = (one: unknown): boolean => one === UNREAD || (isRecord(one) && typeof one["from"] === "string");
  return Array.isArray(value) && value.every(isRename);
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
