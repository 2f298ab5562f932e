/**
 * If the catalogue and the log describe the same table differently, its shape is the log's, because the rows come from the
 * log. Otherwise each look at the catalogue, and each row after it, would give the table a new version and a new read.
 */
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { Logger } from "../../../../src/core/contracts/telemetry.ts";
import { pages } from "../errors.ts";

const CODE = "MR2133";

/** A look at the catalogue, and the end of the log before and after it. */
interface Look {
  readonly before: bigint;
  readonly after: bigint;
  /** Of the catalogue's shapes, by table id. */
  readonly fingerprints: ReadonlyMap<string, string>;
}

interface LoggedShape {
  /** Of the catalogue's shape. */
  readonly fingerprint: string;
  /** The log's. */
  readonly shape: TableShape;
}

export class LoggedShapes {
  readonly #logger: Logger;
  readonly #byTable = new Map<string, LoggedShape>();
  #look: Look | undefined;
  /** The position of the last statement that may have changed a table. */
  #definedAt = -1n;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Loads what is stored with the log's identity. */
  load(text: string | undefined): void {
    if (text === undefined || this.#byTable.size > 0) return;
    // Our own text.
    const stored: LoggedShape[] = JSON.parse(text);
    for (const logged of stored) this.#byTable.set(logged.shape.id, logged);
  }

  get text(): string {
    return JSON.stringify([...this.#byTable.values()]);
  }

  /** Another log begins, with other positions. */
  begin(): void {
    this.#look = undefined;
    this.#definedAt = -1n;
  }

  looked(before: bigint, after: bigint, fingerprints: ReadonlyMap<string, string>): void {
    this.#look = { before, after, fingerprints };
  }

  defined(place: bigint): void {
    if (place > this.#definedAt) this.#definedAt = place;
  }

  /**
   * The log shows the table's rows with this shape, in a transaction that begins there. Invariant: only a transaction that
   * was written after the look counts. A session that alters a table lets no other session write to it until the change is
   * in the log. So no change that the catalogue already showed can come after such a row. `now`: of the catalogue's shape
   * after the row; if it is another one than at the look, the log has left out a change.
   */
  shown(shape: TableShape, place: bigint, now: string | undefined): void {
    const logged = this.#byTable.get(shape.id);
    if (logged !== undefined && logged.shape.fingerprint !== shape.fingerprint) this.#byTable.delete(shape.id);
    const look = this.#look;
    const fingerprint = look?.fingerprints.get(shape.id);
    if (look === undefined || fingerprint === undefined || fingerprint === shape.fingerprint) return;
    if (now !== fingerprint) return;
    if (place < look.after || this.#definedAt >= look.before) return;
    if (this.#byTable.get(shape.id)?.fingerprint === fingerprint) return;
    this.#byTable.set(shape.id, { fingerprint, shape });
    const { title, remedy } = pages[CODE]!;
    this.#logger.warn({ table: shape.id, code: CODE, hint: remedy }, title);
  }

  /** The table's shape, given its shape in the catalogue. */
  of(catalogue: TableShape): TableShape {
    const logged = this.#byTable.get(catalogue.id);
    return logged?.fingerprint === catalogue.fingerprint ? logged.shape : catalogue;
  }
}
