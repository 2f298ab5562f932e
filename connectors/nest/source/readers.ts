import type { DatabaseSync } from "node:sqlite";
import { openExisting } from "../../sqlite/file.ts";
import { classify, notOpen } from "../errors.ts";
import type { Nest } from "../nest.ts";
import type { PlannedDocument } from "../plan.ts";
import { type NestPlan, type Reading, readingOf, shapesCount, storedPlans } from "../stored.ts";
import { defineFunctions } from "../values.ts";
import { DocumentRows } from "./rows.ts";

/** A connection that only reads, with the statements of the documents as the file has them. */
export class Reader implements Disposable {
  readonly database: DatabaseSync;
  readonly reading: Reading;
  readonly plan: NestPlan;
  readonly #nest: Nest;
  readonly #opening: number;
  readonly #shapes: bigint;
  readonly #rows = new Map<PlannedDocument, DocumentRows>();

  private constructor(nest: Nest, database: DatabaseSync) {
    this.#nest = nest;
    this.#opening = nest.openings;
    this.database = database;
    // Node 24.0 has no limits: the driver makes no text of what is larger.
    if ("limits" in database) database.limits.length = nest.documentBytesMax;
    this.reading = readingOf(database);
    database.exec("BEGIN");
    this.#shapes = shapesCount(this.reading);
    this.plan = storedPlans(this.reading);
    database.exec("COMMIT");
    defineFunctions(database);
    for (const { places } of this.plan.documents) for (const { condition } of places) condition?.define(database);
  }

  static open(nest: Nest): Reader {
    const { path, plan } = nest;
    // Until the sink has opened it, it may be another one, or of other documents.
    if (plan === null) throw notOpen(path);
    let database: DatabaseSync | null = null;
    try {
      database = openExisting(path);
      if (database === null) throw notOpen(path);
      return new Reader(nest, database);
    } catch (error) {
      database?.close();
      throw classify(error, "opening the nest", path);
    }
  }

  /** False if the file may be another one by now. */
  get isOfThisOpening(): boolean {
    return this.#nest.openings === this.#opening;
  }

  /** False if, in the snapshot that is open, its tables have other shapes. */
  get isInShape(): boolean {
    return shapesCount(this.reading) === this.#shapes;
  }

  rows(planned: PlannedDocument): DocumentRows {
    let rows = this.#rows.get(planned);
    if (rows === undefined)
      this.#rows.set(planned, (rows = new DocumentRows(this.database, planned, this.#nest.transforms)));
    return rows;
  }

  [Symbol.dispose](): void {
    if (this.database.isOpen) this.database.close();
  }
}
