import type {
  ComparePort,
  EqualRows,
  Inspection,
  KeyPage,
  ListedKey,
  RowsInOrder,
  StoredRow,
} from "../core/contracts/comparing.ts";
import type { KeyText } from "../core/contracts/row-reads.ts";
import type { TableVersion } from "../core/model/schema.ts";
import { Turn } from "../core/waiting.ts";

/** One inspection per sink, opened at its first use. */
export class Inspections implements AsyncDisposable {
  readonly #port: ComparePort;
  readonly #held = new Map<string, Promise<HeldInspection>>();
  readonly #listing = new Map<string, Turn>();

  constructor(port: ComparePort) {
    this.#port = port;
  }

  async of(sink: string, signal: AbortSignal): Promise<HeldInspection> {
    const known = this.#held.get(sink);
    if (known !== undefined) return await known;
    const held = HeldInspection.open((until) => this.#port.inspect(sink, until), signal);
    this.#held.set(sink, held);
    // The next caller tries again.
    held.catch(() => this.#held.delete(sink));
    return await held;
  }

  /** Waits for a turn to list keys: each listing takes its own session and reads a whole table. */
  async toList(sink: string, signal: AbortSignal): Promise<Disposable> {
    const turn = this.#listing.get(sink) ?? new Turn();
    this.#listing.set(sink, turn);
    return await turn.take(signal);
  }

  /** Of these sinks nothing stays open. */
  async letGo(sinks: Iterable<string>): Promise<void> {
    const held = [...sinks].flatMap((sink) => this.#held.get(sink) ?? []);
    // One that was never opened has nothing to close.
    await Promise.all(held.map((one) => one.then((inspection) => inspection.letGo()).catch(() => undefined)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.letGo(this.#held.keys());
  }
}

/**
 * A sink's inspection for comparisons that last for days. What is open in the sink's place may have to be closed before the
 * sink opens it again, so nothing stays open of a sink that is not followed. After a failure the next call opens another
 * one: the connection, or the login that it was opened with, may have ended.
 */
export class HeldInspection implements Inspection {
  readonly equal?: NonNullable<Inspection["equal"]>;
  readonly page?: NonNullable<Inspection["page"]>;
  readonly #inspect: (signal: AbortSignal) => Promise<Inspection>;
  /** Also closed, it spells what must be there. */
  #newest: Inspection;
  #open: Promise<InUse> | null;

  static async open(
    inspect: (signal: AbortSignal) => Promise<Inspection>,
    signal: AbortSignal,
  ): Promise<HeldInspection> {
    return new HeldInspection(inspect, await inspect(signal));
  }

  private constructor(inspect: (signal: AbortSignal) => Promise<Inspection>, first: Inspection) {
    this.#inspect = inspect;
    this.#newest = first;
    this.#open = Promise.resolve(new InUse(first));
    if (first.equal !== undefined)
      this.equal = (table: TableVersion, asked: RowsInOrder, signal: AbortSignal): Promise<EqualRows | null> =>
        this.#call(signal, (inspection) => inspection.equal!(table, asked, signal));
    if (first.page !== undefined)
      this.page = (table: TableVersion, after: string | null, signal: AbortSignal): Promise<KeyPage> =>
        this.#call(signal, (inspection) => inspection.page!(table, after, signal));
  }

  expected(table: TableVersion, ordinal: number, text: string): string | null {
    return this.#newest.expected(table, ordinal, text);
  }

  id(table: TableVersion, key: KeyText): string {
    return this.#newest.id(table, key);
  }

  async rows(table: TableVersion, keys: readonly KeyText[], signal: AbortSignal): Promise<readonly StoredRow[]> {
    return await this.#call(signal, (inspection) => inspection.rows(table, keys, signal));
  }

  async *keys(table: TableVersion, signal: AbortSignal): AsyncGenerator<readonly ListedKey[]> {
    const used = await this.#used(signal);
    try {
      yield* used.inspection.keys(table, signal);
    } catch (error) {
      await this.#leave(used);
      throw error;
    } finally {
      await used.end();
    }
  }

  /** Closes what is open once the calls that use it have ended; the next call opens it again. */
  async letGo(): Promise<void> {
    const open = this.#open;
    this.#open = null;
    await open?.then(
      (used) => used.leave(),
      () => undefined,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.letGo();
  }

  async #call<T>(signal: AbortSignal, read: (inspection: Inspection) => Promise<T>): Promise<T> {
    const used = await this.#used(signal);
    try {
      return await read(used.inspection);
    } catch (error) {
      await this.#leave(used);
      throw error;
    } finally {
      await used.end();
    }
  }

  async #used(signal: AbortSignal): Promise<InUse> {
    const opening = (this.#open ??= this.#inspect(signal).then((inspection) => new InUse((this.#newest = inspection))));
    try {
      const used = await opening;
      // It was let go of meanwhile.
      if (!used.begin()) return await this.#used(signal);
      return used;
    } catch (error) {
      if (this.#open === opening) this.#open = null;
      throw error;
    }
  }

  async #leave(used: InUse): Promise<void> {
    const open = this.#open;
    // Another one may be open by the time that this is known.
    if ((await open?.catch(() => null)) === used && this.#open === open) this.#open = null;
    await used.leave();
  }
}

/** An open inspection; it closes when it is left and the last call has ended. */
class InUse {
  readonly inspection: Inspection;
  #callCount = 0;
  #isLeft = false;

  constructor(inspection: Inspection) {
    this.inspection = inspection;
  }

  /** False: it is closed, or about to be. */
  begin(): boolean {
    if (!this.#isLeft) this.#callCount++;
    return !this.#isLeft;
  }

  async end(): Promise<void> {
    this.#callCount--;
    await this.#close();
  }

  async leave(): Promise<void> {
    if (this.#isLeft) return;
    this.#isLeft = true;
    await this.#close();
  }

  async #close(): Promise<void> {
    if (!this.#isLeft || this.#callCount > 0) return;
    try {
      await this.inspection[Symbol.asyncDispose]();
    } catch {
      // What has failed may fail once more.
    }
  }
}
