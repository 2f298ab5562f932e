/**
 * If the catalogue and the log describe the same table differently, its shape is the log's, because the rows come from the
 * log. Otherwise each look at the catalogue, and each row after it, would give the table a new version and a new read. What the
 * log said holds as long as the table is the one that the catalogue had then, and was not altered since.
 */
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { Logger } from "../../../../src/core/contracts/telemetry.ts";
import { pages } from "../errors.ts";

const CODE = "MR2133";

/** See `CatalogTable`. Its generation would not do: a table that is read alone has another one than among all. */
interface Made {
  readonly altered: string;
}

/** A table as the catalogue describes it. */
export interface Described {
  /** Of its shape. */
  readonly fingerprint: string;
  /** The second in which it was made or last altered. */
  readonly made: string;
  /** It may have been altered again since, in the same second. */
  readonly isFresh: boolean;
  readonly columns: readonly string[];
}

/** `shape`: the catalogue's. */
export function described({ altered }: Made, { columns, fingerprint }: TableShape): Described {
  return {
    fingerprint,
    made: altered.replace("~", ""),
    isFresh: altered.endsWith("~"),
    columns: columns.map(({ name }) => name),
  };
}

/** A look at the catalogue, and the end of the log before and after it. */
interface Look {
  readonly before: bigint;
  readonly after: bigint;
  /** By table id. */
  readonly tables: ReadonlyMap<string, Described>;
}

interface LoggedShape {
  /** What the catalogue said. */
  readonly fingerprint: string;
  readonly made: string;
  /** The log's. */
  readonly shape: TableShape;
}

export class LoggedShapes {
  readonly #logger: Logger;
  readonly #byTable = new Map<string, LoggedShape>();
  /** Tables whose next change the catalogue may not show, so that any statement that changes a table counts. */
  readonly #fresh = new Set<string>();
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

  looked(before: bigint, after: bigint, tables: ReadonlyMap<string, Described>): void {
    this.#look = { before, after, tables };
  }

  defined(position: bigint): void {
    if (position > this.#definedAt) this.#definedAt = position;
    for (const id of this.#fresh) this.#byTable.delete(id);
    this.#fresh.clear();
  }

  /**
   * The log shows the table's rows with this shape, in a transaction that begins there. Invariant: only a transaction that
   * was written after the look counts. A session that alters a table lets no other session write to it until the change is
   * in the log. So no change that the catalogue already showed can come after such a row. `now`: the table after the row; if
   * it was altered since the look, the log has left out a change. Columns that the catalogue does not have can't be read.
   */
  shown(shape: TableShape, position: bigint, now: Described | undefined): void {
    const logged = this.#byTable.get(shape.id);
    if (logged !== undefined && logged.shape.fingerprint !== shape.fingerprint) this.#byTable.delete(shape.id);
    const look = this.#look;
    const said = look?.tables.get(shape.id);
    if (look === undefined || said === undefined || said.fingerprint === shape.fingerprint) return;
    if (now === undefined || !isSame(said, now)) return;
    if (position < look.after || this.#definedAt >= look.before) return;
    if (said.columns.length !== shape.columns.length) return;
    if (shape.columns.some(({ name }, i) => name !== said.columns[i])) return;
    const known = this.#byTable.get(shape.id);
    if (known !== undefined && isSame(known, said)) return;
    const { fingerprint, made } = said;
    this.#byTable.set(shape.id, { fingerprint, made, shape });
    if (now.isFresh) this.#fresh.add(shape.id);
    else this.#fresh.delete(shape.id);
    const { title, remedy } = pages[CODE];
    this.#logger.warn({ table: shape.id, code: CODE, hint: remedy }, title);
  }

  /** The table's shape, given its shape in the catalogue. */
  of(table: Made, catalogue: TableShape): TableShape {
    const logged = this.#byTable.get(catalogue.id);
    return logged !== undefined && isSame(logged, described(table, catalogue)) ? logged.shape : catalogue;
  }
}

function isSame(a: Pick<Described, "fingerprint" | "made">, b: Pick<Described, "fingerprint" | "made">): boolean {
  return a.fingerprint === b.fingerprint && a.made === b.made;
}
