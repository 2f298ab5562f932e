/**
 * Where the catalogue and the log say different things of one and the same table: its shape is what the log says, which its rows
 * are of. Otherwise the table would get a version, and be read again, for each look at the catalogue and for each row behind it.
 */
import type { TableShape } from "../../../../src/core/contracts/catalog.ts";
import type { Logger } from "../../../../src/core/contracts/telemetry.ts";
import { pages } from "../errors.ts";

const CODE = "MR2133";

/** A look at the catalogue, and where the log ended before and after it. */
interface Look {
  readonly before: bigint;
  readonly after: bigint;
  /** Of the catalogue's shapes, by table id. */
  readonly fingerprints: ReadonlyMap<string, string>;
}

interface Settled {
  /** Of the catalogue's shape. */
  readonly fingerprint: string;
  /** The log's. */
  readonly shape: TableShape;
}

export class SettledShapes {
  readonly #logger: Logger;
  readonly #settled = new Map<string, Settled>();
  #look: Look | undefined;
  /** Where the last statement lies that may have changed a table. */
  #definedAt = -1n;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Takes in what is stored with the log's identity. */
  load(text: string | undefined): void {
    if (text === undefined || this.#settled.size > 0) return;
    // Our own text.
    const stored: Settled[] = JSON.parse(text);
    for (const settled of stored) this.#settled.set(settled.shape.id, settled);
  }

  get text(): string {
    return JSON.stringify([...this.#settled.values()]);
  }

  /** Another log begins: its places are others. */
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
   * The log shows the table's rows under this shape, in a transaction that begins there. Invariant: only what was written after the
   * look settles anything. Who changes a table keeps everybody from writing to it until the change is in the log, so that no
   * change of which the catalogue knew already can come behind such a row.
   */
  shown(shape: TableShape, place: bigint): void {
    const settled = this.#settled.get(shape.id);
    if (settled !== undefined && settled.shape.fingerprint !== shape.fingerprint) this.#settled.delete(shape.id);
    const look = this.#look;
    const fingerprint = look?.fingerprints.get(shape.id);
    if (look === undefined || fingerprint === undefined || fingerprint === shape.fingerprint) return;
    if (place < look.after || this.#definedAt >= look.before) return;
    if (this.#settled.get(shape.id)?.fingerprint === fingerprint) return;
    this.#settled.set(shape.id, { fingerprint, shape });
    const { title, remedy } = pages[CODE]!;
    this.#logger.warn({ table: shape.id, code: CODE, hint: remedy }, title);
  }

  /** The shape that the table has, by what the catalogue says. */
  of(catalogue: TableShape): TableShape {
    const settled = this.#settled.get(catalogue.id);
    return settled?.fingerprint === catalogue.fingerprint ? settled.shape : catalogue;
  }
}
